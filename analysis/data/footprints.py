"""Memory that a way takes beyond input, kernels and output: as measured, and by its algorithm's formula."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, framed
from analysis.data.limits import ITEMSIZE
from analysis.data.records import PLACE, Record, Records

FOOTPRINTS = [*PLACE, "way", "measured", "beyond_bytes", "floor_bytes", "below_floor", "buffer_bytes"]


def footprints(records: Records) -> Frame:
    """One row per cell but the controls whose memory was measured.

    measured: "resident", by how much a fresh process grew during the first call; on accelerators "allocator", the peak
    of torch's. beyond_bytes: without the result; floor_bytes: by how much what is known was told wrongly, below which
    nothing is told; buffer_bytes: by formula, empty where there is none.
    """
    return framed([row for record in records for row in _footprints(record)], FOOTPRINTS)


def _footprints(record: Record) -> Iterator[tuple[Any, ...]]:
    trial = record.trial
    output = math.prod(trial.problem.shapes[-1]) * ITEMSIZE[trial.dtype]
    floor = trial.conditions.get("resident_floor_bytes", math.nan)
    for way, cell in trial.cells.items():
        if way == trial.control:
            continue
        formula = cell.counted.get("buffer_bytes", math.nan)
        if cell.resident_bytes is not None:
            below = cell.resident_bytes <= floor
            yield (*record.place.values(), way, "resident", cell.resident_bytes, floor, below, formula)
        elif trial.device != "cpu" and cell.peak_bytes is not None:
            yield (*record.place.values(), way, "allocator", max(0, cell.peak_bytes - output), math.nan, False, formula)
