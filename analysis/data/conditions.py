"""Times of the same trials under several conditions, each beside those under the usual ones.

The interval of a ratio of two medians over processes is that of independent ones. A process may time a problem
under both conditions, one after the other: what it does to both alike makes the ratio vary less than the interval says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from analysis.data.frames import Frame, framed
from analysis.data.records import PLACE, Record, Records
from analysis.data.speedups import control_log_ratio, speedups
from linear_lasagna.intervals import MARGIN, difference, log_median, verdict
from linear_lasagna.trial import Trial

DECIDED = ("faster", "slower", "tie")
CHANGE = ["change", "change_lower", "change_upper", "change_verdict"]
SPEEDUP = ["speedup", "speedup_lower", "speedup_upper", "verdict"]
COLUMNS = [*PLACE, "way", "conditions", "status", "reason", "seconds", "usual_seconds", *CHANGE]
COLUMNS += ["processes", "usual_processes", *SPEEDUP, *(f"usual_{name}" for name in SPEEDUP), "differs"]


class Spoken(NamedTuple):
    """What a trial says of a way against its baseline."""

    speedup: float = math.nan
    speedup_lower: float = math.nan
    speedup_upper: float = math.nan
    verdict: str = ""


def conditions(records: Records) -> Frame:
    """One row per way, but the controls, and condition other than the usual, of trials that were timed under both.

    status, reason: under the condition. change: time / time under the usual conditions, with an interval between
    processes; change_verdict: the rule of all verdicts on it, its noise the larger of both controls'. differs: whether
    both verdicts against the baseline are decided, and not the same.
    """
    usual = {record.key[:-1]: record for record in records if not record.under}
    pairs = ((usual[record.key[:-1]], record) for record in records if record.under and record.key[:-1] in usual)
    return framed((row for pair in pairs for row in _rows(*pair)), COLUMNS)


def _rows(usual: Record, other: Record) -> Iterator[tuple[Any, ...]]:
    sides = [(record.trial, _spoken(record)) for record in (usual, other)]
    noise = max(abs(control_log_ratio(trial)) for trial, _ in sides)
    for way, cell in other.trial.cells.items():
        if way == other.trial.control or usual.trial.cells.get(way, cell).status != "ok":
            continue
        times = [processes_s(trial, way) for trial, _ in sides]
        if not times[0] or (cell.status == "ok" and not times[1]):
            continue
        before, after = (spoken.get(way, Spoken()) for _, spoken in sides)
        seconds = [trial.seconds(way) if each else math.nan for (trial, _), each in zip(sides, times, strict=True)]
        differs = {before.verdict, after.verdict} <= set(DECIDED) and before.verdict != after.verdict
        place = (*other.place.values(), way, other.under, cell.status, cell.reason)
        times_told = (*seconds[::-1], *_change(times[0], times[1], noise), len(times[1]), len(times[0]))
        yield (*place, *times_told, *after, *before, differs)


def processes_s(trial: Trial, way: str) -> list[float]:
    """The way's seconds per call in every process that timed it."""
    return [timing.seconds(way) for timing in trial.timings() if way in timing.samples]


def _change(usual: list[float], other: list[float], noise: float) -> tuple[float, float, float, str]:
    if not other:
        return math.nan, math.nan, math.nan, ""
    change = difference(log_median(usual), log_median(other))
    estimate, lower, upper = change
    return math.exp(estimate), math.exp(lower), math.exp(upper), verdict(*change, MARGIN, noise)


def _spoken(record: Record) -> Mapping[str, Spoken]:
    """By way; the baseline's verdict against itself is none."""
    rows = speedups(Records((record,)))
    return {row.way: Spoken(*(getattr(row, name) for name in SPEEDUP)) for row in rows.itertuples(index=False)}


def summary(rows: Frame) -> Frame:
    """One row per machine, device and condition: how often times changed, and verdicts; geometric mean of the change,
    over the cells that were timed.
    """
    by = ["machine", "device", "conditions"]
    logs = rows.assign(log=rows["change"].map(lambda value: math.log(value) if value > 0 else math.nan))
    groups = logs.groupby(by, sort=False)
    counted = groups.agg(
        cells=("way", "size"),
        lost=("status", lambda values: int((values != "ok").sum())),
        mean_change=("log", lambda values: math.exp(values.mean())),
        changed_slower=("change_verdict", lambda values: int((values == "slower").sum())),
        changed_faster=("change_verdict", lambda values: int((values == "faster").sum())),
        compared=("verdict", lambda values: int((values != "").sum())),
        differing=("differs", "sum"),
    )
    return counted.reset_index()
