"""Speedups, verdicts and costs of ways: records in, tidy frames out.

A ratio is time / baseline's time, a speedup its inverse. Intervals are `timing.compare`'s: between processes, or where
there is one, over its blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, framed
from analysis.data.records import PLACE, Record, Records, cells
from linear_lasagna.intervals import VERDICTS, autocorrelation
from linear_lasagna.timing import Comparison, Timing, compare, log_ratio, log_ratios
from linear_lasagna.trial import Trial
from linear_lasagna.trial.processes import ended

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
    "processes",
    "blocks",
    "between",
    "within",
    "autocorrelation",
    "ended",
    "bound",
    "baseline_bound",
    "bounds_differ",
]
RATIOS = [*PLACE, "way", "control", "ratio", "ratio_lower", "ratio_upper", "processes", "verdict", "margin", "between"]


def speedups(records: Records) -> Frame:
    """One row per timed cell other than the baseline. seconds: per call, the median over processes; between, within,
    ended: as `timing.Comparison` and `processes.ended` have them.
    """
    return framed([row for record in records for row in _speedups(record)], SPEEDUPS)


def ratios(records: Records) -> Frame:
    """The same rows with the ratio, its interval and its verdict alone, which takes half the time."""
    rows = [
        (
            *record.place.values(),
            way,
            way == record.trial.control,
            c.ratio,
            c.lower,
            c.upper,
            c.processes,
            c.verdict,
            c.margin,
            c.between,
        )
        for record in records
        for way, c in _compared(record).items()
    ]
    return framed(rows, RATIOS)


def _compared(record: Record) -> dict[str, Comparison]:
    """Every timed way but the baseline; none where that was not timed."""
    trial, timings = record.trial, record.timings
    known = timings and trial.baseline in timings[0].samples
    return compare(timings, trial.baseline, trial.control) if known else {}


def _speedups(record: Record) -> Iterator[tuple[Any, ...]]:
    trial, timings, found = record.trial, record.timings, _compared(record)
    if not found:
        return
    noise = abs(control_log_ratio(trial, timings))
    place, baseline = tuple(record.place.values()), record.seconds(trial.baseline)
    baseline_bound = trial.bound(trial.baseline)
    for way, comparison in found.items():
        times = (record.seconds(way), baseline)
        interval = (comparison.ratio, comparison.lower, comparison.upper)
        inverse = (1 / comparison.ratio, 1 / comparison.upper, 1 / comparison.lower)
        verdict = (comparison.verdict, comparison.margin, comparison.processes, comparison.blocks)
        spreads = (comparison.between, comparison.within, autocorrelation(log_ratios(timings, way, trial.baseline)))
        stop = ended(comparison, noise) if comparison.processes > 1 else ""
        bounds = (trial.bound(way), baseline_bound)
        differ = "" not in bounds and bounds[0] != bounds[1]
        named = (*place, way, way == trial.control)
        yield (*named, *times, *interval, *inverse, *verdict, *spreads, stop, *bounds, differ)


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


def control_log_ratio(trial: Trial, known: list[Timing] | None = None) -> float:
    """The control's median log ratio to the baseline, 0 where there is no control. known: the trial's timings."""
    timings = trial.timings() if known is None else known
    both = timings and {trial.baseline, trial.control} <= timings[0].samples.keys()
    return log_ratio(timings, trial.control, trial.baseline) if both else 0.0


def is_partial(way: str) -> bool:
    """Whether the way is of a schedule that is wrong at the border, so that it cannot win."""
    return way.partition("/")[0] in PARTIAL


def costs(records: Records, compared: Frame) -> Frame:
    """Time, memory and error of every timed cell but the controls, each beside its trial's baseline. compared: the
    `speedups` of the records.

    ratio: time / baseline's time; peak_ratio: peak_bytes / the baseline's; pareto_optimal: no other way of the
    trial has both a smaller time and a smaller error, one of them strictly, by estimates; never a partial way.
    """
    times = _times(records, compared)
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


def _times(records: Records, compared: Frame) -> Frame:
    """Seconds, ratio and verdict of every timed cell; the baseline's ratio is 1, without a verdict."""
    rows = []
    for record in records:
        baseline = record.trial.baseline
        if record.timings and baseline in record.timings[0].samples:
            rows.append((*record.place.values(), baseline, record.seconds(baseline), 1.0, ""))
    columns = [*PLACE, "way", "seconds", "ratio", "verdict"]
    frames = [framed(rows, columns), compared[columns]]
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
