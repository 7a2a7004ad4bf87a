"""Validity: what passed, what was skipped, what failed, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.data.frames import Frame, framed, ordered
from analysis.data.study_data import StudyData
from analysis.report.section import Content, Frames, Section
from analysis.report.tables import Table, Text, count_of, table
from linear_lasagna.factors import named
from linear_lasagna.trial.fields import STATUSES

SHOWN_NAMES = 4


def reasons(cells: Frame) -> Frame:
    """Skipped and failed cells by reason: their number, and which ways, dtypes and problems they belong to."""
    lost = cells[cells["status"] != "ok"]
    rows = []
    for (machine, status, reason), group in lost.groupby(["machine", "status", "reason"], sort=True):
        names = [", ".join(sorted(set(group[column]))) for column in ("way", "dtype", "device", "problem")]
        rows.append((machine, status, reason, len(group), *names))
    frame = framed(rows, ["machine", "status", "reason", "cells", "ways", "dtypes", "devices", "problems"])
    return frame.sort_values(["status", "cells", "reason"], ascending=[True, False, True], kind="stable")


def oddities(cells: Frame) -> Frame:
    """Cells that passed with a finding, like `reasons`: one row per way, dtype and device, with the first finding."""
    odd = cells[(cells["status"] == "ok") & (cells["finding"] != "")]
    rows = []
    for names, group in odd.groupby(["machine", "way", "dtype", "device"], sort=True):
        problems = ", ".join(sorted(set(group["problem"])))
        rows.append((*names, len(group), problems, group["finding"].iloc[0]))
    return framed(rows, ["machine", "way", "dtype", "device", "cells", "problems", "finding"])


def content(data: StudyData, frames: Frames) -> Content:
    tables = [status_table(data.cells)] if len(data.cells) else []
    tables += [reasons_table(frames["reasons"])] if len(frames["reasons"]) else []
    tables += [oddities_table(frames["oddities"])] if len(frames["oddities"]) else []
    tables += [missing_table(data.missing)] if len(data.missing) else []
    return Content(tables=tuple(tables))


def status_table(cells: Frame) -> Table:
    """How many cells passed, were skipped or failed."""
    counts = cells.groupby(["machine", "group", "dtype", "device", "status"], sort=True).size()
    counts = counts.unstack("status", fill_value=0).reindex(columns=list(STATUSES), fill_value=0).reset_index()
    counts["way"] = ""
    columns = {
        **_machine(counts),
        "group": lambda row: row.group,
        "dtype": lambda row: row.dtype,
        "device": lambda row: row.device,
        **{status: count_of(status) for status in STATUSES},
    }
    caption = "Cells that passed, were skipped, and failed. Only cells that passed were timed."
    return table("validity", caption, ordered(counts), columns, "cells", range(len(columns) - len(STATUSES)))


def _machine(rows: Frame) -> dict[str, Any]:
    """The column that names the machine, where there are several."""
    return {"machine": lambda row: row.machine} if rows["machine"].nunique() > 1 else {}


def oddities_table(rows: Frame) -> Table:
    columns = {
        **_machine(rows),
        "way": lambda row: row.way,
        "dtype": lambda row: row.dtype,
        "device": lambda row: row.device,
        "cells": lambda row: str(row.cells),
        "problems": lambda row: _few(row.problems),
        "finding": lambda row: Text(row.finding, kind="prose"),
    }
    caption = "Cells that passed with a finding, and were timed: the first finding of each. All names are in the CSV."
    return table("data", caption, rows, columns, "oddities", _wide(columns, "cells"))


def reasons_table(rows: Frame) -> Table:
    columns = {
        **_machine(rows),
        "status": lambda row: Text(row.status, kind=row.status),
        "reason": lambda row: Text(row.reason, kind="prose"),
        "cells": lambda row: str(row.cells),
        "ways": lambda row: _few(row.ways),
        "dtypes": lambda row: _few(row.dtypes),
        "problems": lambda row: _few(row.problems),
    }
    caption = "Cells that were not timed, by reason. Skipped: the way cannot compute the problem there. Failed: it "
    caption += "raised an error, or its result was wrong. All names are in the CSV."
    return table("reasons", caption, rows, columns, "reasons", _wide(columns, "cells"))


def _wide(columns: Mapping[str, Any], number: str) -> list[int]:
    """The places of all columns but one, which holds numbers."""
    return [place for place, name in enumerate(columns) if name != number]


def _few(names: str) -> Text:
    listed = names.split(", ")
    if len(listed) <= SHOWN_NAMES:
        return Text(names)
    return Text(", ".join(listed[:SHOWN_NAMES]), f"and {len(listed) - SHOWN_NAMES} more", note=names)


def missing_table(rows: Frame) -> Table:
    """The trials that should have been run."""
    columns: dict[str, Any] = {
        name: (lambda row, name=name: getattr(row, name)) for name in ("group", "problem", "dtype", "device")
    }
    columns["conditions"] = lambda row: named(row.conditions)
    caption = "Trials that belong to the selection and left no record."
    return table("missing", caption, rows, columns, "missing", (0, 1, 2, 3, 4))


SECTION = Section(
    "validity",
    "Validity: what passed, what was skipped, what failed",
    content,
    lambda data: {"reasons": reasons(data.cells), "oddities": oddities(data.cells), "missing": data.missing},
    intro="Before its time counts, a way that only adds and multiplies must be exact on small integers, and every way "
    "must stay within a bound on positive numbers and on kernels with one non-zero tap, where it is tight. A "
    "transform (FFT, Winograd) multiplies by fractions and rounds even there; it is marked. After timing the same call "
    "is checked again, on the timed numbers and on others in their place. A wrong way is a failed cell.",
    empty="There is no cell yet.",
    files={
        "reasons": "Skipped and failed cells by machine and reason.",
        "oddities": "Cells that passed with a finding, by machine, way, dtype and device.",
        "missing": "Trials of the selection without a record.",
    },
    columns={"dtypes": "their dtypes", "devices": "their devices"},
)
