"""Speedups, verdicts and costs of ways: records in, tidy frames out.

A ratio is time / baseline's time, a speedup its inverse. Intervals are `timing.median_interval`'s over blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from analysis.data.frames import Frame, framed
from analysis.data.records import PLACE, Record, Records, cells
from linear_lasagna.timing import LEAST_BLOCKS, VERDICTS, Timing, block_log_ratios, compare

PARTIAL = ("merged_summed",)  # schedules that are wrong at the border: timed to compare with, but no way to win
SPEEDUPS = [
    *PLACE,
    "way",
    "control",
    "seconds",
    "baseline_seconds",
    "ratio",
    "ratio_lower",
    "ratio_upper",
    "speedup",
    "speedup_lower",
    "speedup_upper",
    "verdict",
    "margin",
    "blocks",
    "autocorrelation",
]


def speedups(records: Records) -> Frame:
    """One row per timed cell other than the baseline. seconds: per call, the median over the blocks' medians."""
    return framed([row for record in records for row in _speedups(record)], SPEEDUPS)


def _speedups(record: Record) -> Iterator[tuple[Any, ...]]:
    trial = record.trial
    timing = trial.timing()
    if trial.baseline not in timing.samples:
        return
    baseline_seconds = timing.seconds(trial.baseline)
    for way, comparison in compare(timing, trial.baseline, trial.control).items():
        times = (timing.seconds(way), baseline_seconds)
        interval = (comparison.ratio, comparison.lower, comparison.upper)
        inverse = (1 / comparison.ratio, 1 / comparison.upper, 1 / comparison.lower)
        verdict = (comparison.verdict, comparison.margin, comparison.blocks)
        serial = autocorrelation(block_log_ratios(timing, way, trial.baseline))
        yield (*record.place.values(), way, way == trial.control, *times, *interval, *inverse, *verdict, serial)


def autocorrelation(values: list[float]) -> float:
    """Of lag 1, about -1/n for n independent values; NaN for fewer than 8 values, or where all are equal.

    Source: Box, Jenkins, Reinsel and Ljung, Time Series Analysis, section 2.1.
    """
    centre = sum(values) / len(values) if values else 0.0
    off = [value - centre for value in values]
    size = sum(d * d for d in off)
    if len(values) < LEAST_BLOCKS or not size:
        return math.nan
    return sum(a * b for a, b in itertools.pairwise(off)) / size


def verdict_counts(frame: Frame, by: list[str]) -> Frame:
    """How often each verdict fell, per combination of the columns `by`; controls are left out."""
    ways = frame[~frame["control"].astype(bool)]
    counts = ways.groupby([*by, "verdict"], sort=True).size().unstack("verdict", fill_value=0)
    return counts.reindex(columns=list(VERDICTS), fill_value=0).reset_index().rename_axis(columns=None)


def over_problems(frame: Frame, by: list[str]) -> Frame:
    """Speedups over problems: their number, geometric mean and median, and the verdicts; least and most, of those that
    have an interval.
    """
    import numpy

    ways = frame[~frame["control"].astype(bool)]
    ways = ways.assign(known=ways["speedup"].where(ways["speedup_lower"].notna()))
    summary = ways.groupby(by, sort=True).agg(
        problems=("speedup", "size"),
        geometric_mean=("speedup", lambda values: float(numpy.exp(numpy.log(values).mean()))),
        median=("speedup", "median"),
        least=("known", "min"),
        most=("known", "max"),
    )
    return summary.reset_index().merge(verdict_counts(frame, by), on=by)


def control_log_ratio(timing: Timing, baseline: str, control: str) -> float:
    """The control's median log ratio, 0 where there is no control."""
    if control not in timing.samples:
        return 0.0
    return median(block_log_ratios(timing, control, baseline) or [0.0])


def is_partial(way: str) -> bool:
    """Whether the way is of a schedule that is wrong at the border, so that it cannot win."""
    return way.partition("/")[0] in PARTIAL


def costs(records: Records) -> Frame:
    """Time, memory and error of every timed cell but the controls, each beside its trial's baseline.

    ratio: time / baseline's time; peak_ratio: peak_bytes / the baseline's; pareto_optimal: no other way of the
    trial has both a smaller time and a smaller error, one of them strictly, by estimates; never a partial way.
    """
    times = _times(records)
    timed = cells(records)
    timed = timed[(timed["status"] == "ok") & ~timed["control"]].drop(
        columns=["control", "status", "reason", "finding"]
    )
    merged = timed.merge(times, on=[*PLACE, "way"], how="left")
    baselines = merged[merged["baseline"]].set_index(PLACE)["peak_bytes"].rename("baseline_peak_bytes")
    merged = merged.join(baselines, on=PLACE)
    merged["peak_ratio"] = merged["peak_bytes"] / merged.pop("baseline_peak_bytes")
    merged = merged[merged["ratio"].notna()].reset_index(drop=True)
    merged["pareto_optimal"] = _pareto_optimal(merged)
    return merged


def _times(records: Records) -> Frame:
    """Seconds, ratio and verdict of every timed cell; the baseline's ratio is 1, without a verdict."""
    rows = []
    for record in records:
        timing, baseline = record.trial.timing(), record.trial.baseline
        if baseline in timing.samples:
            rows.append((*record.place.values(), baseline, timing.seconds(baseline), 1.0, ""))
    columns = [*PLACE, "way", "seconds", "ratio", "verdict"]
    frames = [framed(rows, columns), speedups(records)[columns]]
    return framed([row for frame in frames for row in frame.itertuples(index=False)], columns)


def _pareto_optimal(frame: Frame) -> list[bool]:
    optimal = [False] * len(frame)
    whole = frame[~frame["way"].map(is_partial).astype(bool)]
    for _, trial in whole.groupby(PLACE, sort=False):
        points = list(zip(trial.index, trial["ratio"], trial["error_u"], strict=True))
        for index, time, error in points:
            dominated = any(t <= time and e <= error and (t < time or e < error) for _, t, e in points)
            optimal[index] = not dominated and error == error
    return optimal
