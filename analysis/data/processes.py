"""What each process timed of each cell, and what differed between them: the system's memory, and what else it did."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from analysis.data.frames import Frame, Series, framed
from analysis.data.records import PLACE, Record, Records
from linear_lasagna.intervals import autocorrelation
from linear_lasagna.timing import Timing
from linear_lasagna.trial.processes import Ended

CONDITIONS = ("steal", "mhz", "preempted", "allocator")
PROCESSES = [*PLACE, "process", "way", "baseline", "seconds", "ratio", "faults", *CONDITIONS, "started"]
GROUPS = [*PLACE, "way", "baseline", "processes", "least_faults", "most_faults", "fault_correlation", "gap"]
ENDS: tuple[Ended, ...] = ("verdict", "precise", "most", "time")
SPREADS = ["machine", "device", "dtype", "cells", "several", "least_processes", "median_processes", "most_processes"]
SPREADS += ["between", "within", *(f"ended_{end}" for end in ENDS)]
DIFFERENT = 1.0  # page per call from which on faults differ
WIDE, APART = 0.05, 3.0  # a gap of log ratios that makes two groups: this wide, and so many times as wide as either


def processes(records: Records) -> Frame:
    """One row per trial, process and way that was timed in it. process: from 1, the one that validated; ratio: time /
    baseline's time in that process.
    """
    return framed([row for record in records for row in _processes(record)], PROCESSES)


def _processes(record: Record) -> Iterator[tuple[Any, ...]]:
    trial, place, first = record.trial, tuple(record.place.values()), record.trial.timing().samples
    repeats = [(n, r) for n, r in enumerate(trial.repeats, 2) if any(r.samples.get(way) for way in first)]
    told = [(1, trial.conditions, trial.started)] if first else []
    told += [(number, repeat.conditions, repeat.started) for number, repeat in repeats]
    for (number, conditions, started), timing in zip(told, record.timings, strict=True):
        seen = tuple(conditions.get(name) for name in CONDITIONS)
        for way in timing.samples:
            times = (timing.seconds(way), _ratio(timing, way, trial.baseline), timing.faults.get(way, math.nan))
            yield (*place, number, way, way == trial.baseline, *times, *seen, started)


def _ratio(timing: Timing, way: str, baseline: str) -> float:
    logs = timing.log_ratios(way, baseline) if baseline in timing.samples else []
    return math.exp(median(logs)) if logs else math.nan


def spreads(speedups: Frame) -> Frame:
    """Per machine, device and dtype: in how many processes the cells were timed, of how many several; over these, the
    medians of the standard deviations between and within processes; and why they ended.
    """
    ways = speedups[~speedups["control"].astype(bool)]
    grouped = ways.groupby(["machine", "device", "dtype"], sort=True)
    return framed([(*key, *_spread(rows)) for key, rows in grouped], SPREADS)


def _spread(rows: Frame) -> tuple[Any, ...]:
    several = rows[rows["processes"] > 1]
    counts = rows["processes"]
    ends = several["ended"].value_counts()
    spread = (float(several["between"].median()), float(several["within"].median()))
    numbers = (int(counts.min()), float(counts.median()), int(counts.max()))
    return (len(rows), len(several), *numbers, *spread, *(int(ends.get(end, 0)) for end in ENDS))


def groups(frame: Frame) -> Frame:
    """One row per cell of several processes. fault_correlation: of its times' ranks with those of its faults per call,
    NaN where these differ by less than a page; gap: of log ratios, where they fall into two groups, NaN else. frame:
    `processes`.
    """
    numbers = frame.groupby([*PLACE, "way", "baseline"], sort=False).ngroup()
    logs: dict[int, list[float]] = {}
    for number, ratio in zip(numbers, frame["ratio"], strict=True):
        if ratio == ratio:
            logs.setdefault(number, []).append(math.log(ratio))
    first = ~numbers.duplicated()
    found = frame[first].set_index(numbers[first])
    faults = frame["faults"].astype(float).groupby(numbers)
    found = found.assign(processes=faults.size(), least_faults=faults.min(), most_faults=faults.max())
    differ = found["most_faults"] - found["least_faults"] >= DIFFERENT
    found["fault_correlation"] = rank_correlations(frame[["seconds", "faults"]], numbers).where(differ)
    found["gap"] = [two_groups(logs.get(number, ())) for number in found.index]
    return found.loc[found["processes"] > 1, GROUPS].reset_index(drop=True)


def rank_correlations(pairs: Frame, groups: Series) -> Series:
    """Spearman's, of two columns within each group; NaN where either is constant."""
    known = pairs.dropna()
    ranks = known.groupby(groups).rank()
    off = ranks - ranks.groupby(groups).transform("mean")
    x, y = (off[name] for name in off)
    products, x_squares, y_squares = (each.groupby(groups).sum() for each in (x * y, x * x, y * y))
    return products / (x_squares * y_squares) ** 0.5


def two_groups(values: Sequence[float]) -> float:
    """The gap between two groups of at least two values, where it is over 0.05 and three times as wide as either group;
    NaN where there are no two.
    """
    ordered = sorted(values)
    places = range(2, len(ordered) - 1)
    if not places:
        return math.nan
    place = max(places, key=lambda i: ordered[i] - ordered[i - 1])
    gap = ordered[place] - ordered[place - 1]
    widest = max(ordered[place - 1] - ordered[0], ordered[-1] - ordered[place])
    return gap if gap > max(WIDE, APART * widest) else math.nan


def dependence(frame: Frame) -> float:
    """The lag-1 autocorrelation of log ratios over the processes of a cell, in the order of their time, all cells of
    several processes together; about 0 where processes do not depend on each other. frame: `processes`.
    """
    others = frame[frame["ratio"].notna() & ~frame["baseline"].astype(bool)]
    cells = others.sort_values("process").groupby([*PLACE, "way"], sort=False)["ratio"]
    return autocorrelation([[math.log(ratio) for ratio in ratios] for _, ratios in cells])
