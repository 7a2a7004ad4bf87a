"""Plans, the break-even map and training steps: records in, tidy frames out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from analysis.frames import Frame, framed
from analysis.records import PLACE, Record, Records
from linear_lasagna.problems import Problem
from linear_lasagna.timing import Timing, block_log_ratios, compare

BREAK_EVEN, TRAINING = "breakeven", "training"  # groups whose trials have sections of their own
MEASURED, COUNTED = "planned/direct", "planned_operations/direct"
MERGED = ("merged/direct", "border_exact/direct")

PLANS = [
    *PLACE,
    "way",
    "runs",
    "depth",
    "seconds",
    "stacked_seconds",
    "merged_seconds",
    "against",
    "ratio",
    "ratio_lower",
    "ratio_upper",
    "verdict",
]
PAIRS = [
    *PLACE,
    "kernel",
    "outer",
    "middle",
    "break_even_middle",
    "saves",
    "seconds",
    "baseline_seconds",
    "ratio",
    "ratio_lower",
    "ratio_upper",
    "verdict",
]


def plans(records: Records) -> Frame:
    """One row per planned way of a trial. runs: "0–1, 2": the layers from 0, merged ones joined by a dash.

    ratio: time / that of the faster of the stack and the stack merged, which `against` names; merged_seconds is NaN
    where the whole stack was not merged.
    """
    return framed([row for record in records for row in _plans(record)], PLANS)


def _plans(record: Record) -> Iterator[tuple[Any, ...]]:
    trial, timing = record.trial, record.trial.timing()
    merged = next((way for way in MERGED if way in timing.samples), None)
    if trial.baseline not in timing.samples:
        return
    against = merged if merged and _log_ratio(timing, merged, trial.baseline) < 0 else trial.baseline
    noise = abs(_log_ratio(timing, trial.control, trial.baseline)) if trial.control in timing.samples else 0.0
    for way in (MEASURED, COUNTED):
        runs = trial.cells[way].runs if way in timing.samples else None
        if runs is not None:
            found = compare(timing, against, control=None, noise=noise)[way]
            seconds = [timing.seconds(w) if w else math.nan for w in (way, trial.baseline, merged)]
            result = (found.ratio, found.lower, found.upper, found.verdict)
            yield (*record.place.values(), way, _text(runs), trial.problem.depth, *seconds, against, *result)


def _log_ratio(timing: Timing, way: str, baseline: str) -> float:
    return median(block_log_ratios(timing, way, baseline) or [0.0])


def _text(runs: list[list[int]]) -> str:
    return ", ".join(str(start) if stop == start + 1 else f"{start}–{stop - 1}" for start, stop in runs)


def pairs(records: Records, speedups: Frame) -> Frame:
    """One row per pair of the break-even map and dtype. kernel: its width; outer, middle: C and C_mid.

    ratio: time merged / time stacked; break_even_middle: the C_mid from which on merging saves multiply-accumulates;
    saves: whether it does so here.
    """
    problems = {r.trial.problem.name: r.trial.problem for r in records if r.group == BREAK_EVEN}
    rows = speedups[(speedups["group"] == BREAK_EVEN) & (speedups["way"] == MERGED[0])]
    found = []
    for row in rows.to_dict("records"):
        problem = problems[row["problem"]]
        outer, middle, _ = problem.channels
        threshold = break_even_middle(problem)
        shape = {"kernel": problem.expanded[0].kernel_size[0], "outer": outer, "middle": middle}
        shape |= {"break_even_middle": threshold, "saves": middle > threshold}
        found.append(tuple((row | shape)[name] for name in PAIRS))
    return framed(found, PAIRS)


def break_even_middle(problem: Problem) -> float:
    """The channels between a pair's layers at which merged and stacked take equally many multiply-accumulates.

    For equal kernels and sizes it is (2k - 1)² Cin Cout / (k² (Cin + Cout)).
    """
    first, second = problem.expanded
    inputs, _, outputs = problem.channels
    between, out = (math.prod(size) for size in problem.sizes[1:])
    merged_taps = math.prod(a + b - 1 for a, b in zip(first.kernel_size, second.kernel_size, strict=True))
    return merged_taps * inputs * outputs * out / (first.taps * inputs * between + second.taps * outputs * out)
