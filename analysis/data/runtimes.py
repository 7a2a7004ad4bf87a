"""Layers as other runtimes compute them: time, memory, error and order of summation of every way, side by side."""

from __future__ import annotations

import math
from typing import Any

from analysis.data.footprints import footprints
from analysis.data.frames import Frame, framed
from analysis.data.records import PLACE, Record, Records
from analysis.data.speedups import speedups
from linear_lasagna.installed import versions_of
from linear_lasagna.trial import Cell
from linear_lasagna.vocabulary import RUNTIMES

GROUP = "runtimes"
TIMES = ("seconds", "ratio", "ratio_lower", "ratio_upper", "verdict", "processes")
MEMORY = ("beyond_bytes", "floor_bytes", "below_floor")
SUMS = ("accumulator", "order", "products", "image", "note")
COLUMNS = [*PLACE, "way", "version", "status", "reason", "finding", *TIMES, *MEMORY, "error_u", *SUMS]


def runtimes(records: Records) -> Frame:
    """One row per cell but the controls of the group's trials. version: of the runtime; beyond_bytes and the like: as
    `footprints` has them; accumulator and the like: as `probes.told` has them, image: the one that was asked.
    """
    of_group = Records(tuple(record for record in records if record.group == GROUP))
    times, memory = _by_cell(speedups(of_group), TIMES), _by_cell(footprints(of_group), MEMORY)
    rows = []
    for record in of_group:
        place = tuple(record.place.values())
        for way, cell in record.trial.cells.items():
            if way != record.trial.control:
                timed = times.get((*place, way)) or _alone(record, way)
                took = memory.get((*place, way), (math.nan, math.nan, False))
                told = (version(record, way), cell.status, cell.reason, cell.finding)
                error = cell.measures.get("error_u", math.nan)
                rows.append((*place, way, *told, *timed, *took, error, *_sums(cell)))
    return framed(rows, COLUMNS)


def _by_cell(frame: Frame, columns: tuple[str, ...]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The columns by place and way."""
    keys = zip(*(frame[name] for name in (*PLACE, "way")), strict=True)
    return dict(zip(keys, zip(*(frame[name] for name in columns), strict=True), strict=True))


def _alone(record: Record, way: str) -> tuple[Any, ...]:
    """Of the baseline, and of a way that was compared with none."""
    if way not in record.trial.timing().samples:
        return (math.nan, math.nan, math.nan, math.nan, "", 0)
    ratio = 1.0 if way == record.trial.baseline else math.nan
    return (record.seconds(way), ratio, math.nan, math.nan, "", len(record.timings))


def _sums(cell: Cell) -> tuple[str, ...]:
    return tuple(cell.accumulation.get(name, "") for name in SUMS)


def version(record: Record, way: str) -> str:
    """Of all that computes a way, as in "torch 2.13.0" and "jax 0.10.2, jaxlib 0.10.2"; "" where it is unknown."""
    environment = record.trial.environment
    told = environment.get("runtimes")
    found = versions_of([way], told if isinstance(told, dict) else {})
    if way not in RUNTIMES or way.startswith("compiled"):
        found = {"torch": environment.get("torch", "")} | found
    return ", ".join(f"{name} {each}" for name, each in found.items() if each)
