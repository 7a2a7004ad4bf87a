"""The tables of validity, noise, problems and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import formatting as show
from analysis import statistics
from analysis.findings import Findings
from analysis.frames import Frame, framed, ordered
from analysis.style import problems_in_order
from analysis.tables import Table, Text, count_of, table
from linear_lasagna.trial.fields import STATUSES

SHOWN_NAMES = 4


def validity(findings: Findings) -> Table:
    """How many cells passed, were skipped or failed."""
    counts = findings.cells.groupby(["machine", "group", "dtype", "device", "status"], sort=True).size()
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
    return table("findings", caption, rows, columns, "oddities", _wide(columns, "cells"))


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


def noise_floor(findings: Findings) -> Table:
    """What the controls show, per machine, device and dtype."""
    rows = statistics.noise_floor(findings.noise, ["machine", "device", "dtype"])
    rows["way"] = ""
    columns = {
        "machine": lambda row: row.machine,
        "device": lambda row: row.device,
        "dtype": lambda row: row.dtype,
        "controls": lambda row: str(row.controls),
        "median": lambda row: show.percent(row.median),
        "90th percentile": lambda row: show.percent(row.p90),
        "largest": lambda row: show.percent(row.largest),
        "false verdicts": count_of("false_verdicts"),
    }
    caption = "How far two timings of the same call lie apart: |log ratio| of the control to the baseline. A false "
    caption += (
        "verdict is a control that its interval and the fixed margin of 1 % alone would call faster or slower. The "
    )
    caption += "published rule calls no control so, because the control sets its margin."
    return table("noise-floor", caption, ordered(rows), columns, "noise", (0, 1, 2))


def problems(findings: Findings) -> Table:
    """What was computed."""
    order = {name: place for place, name in enumerate(problems_in_order(findings.problems["problem"]))}
    rows = findings.problems.assign(_order=findings.problems["problem"].map(order)).sort_values("_order")
    columns = {
        "problem": lambda row: row.problem,
        "layers": lambda row: str(row.depth),
        "input": lambda row: row.input,
        "output": lambda row: row.output,
        "parameters": lambda row: show.count(row.parameters),
        "multiply-accumulates": lambda row: show.count(row.macs),
        "occurrences": lambda row: Text(str(row.occurrences), kind="" if row.occurrences > 1 else "zero"),
    }
    caption = "The problems: shapes are batch × channels × size; multiply-accumulates are those of the unmerged layers."
    return table("problems", caption, rows, columns, "problems", (0, 2, 3))


def sources(findings: Findings) -> list[str]:
    """Where the problems' numbers come from, each source once."""
    names: dict[str, list[str]] = {}
    for problem in problems_in_order(findings.problems["problem"]):
        source = findings.problems.set_index("problem")["source"][problem]
        names.setdefault(source, []).append(problem)
    lines = []
    for source, listed in names.items():
        more = f" and {len(listed) - 2} more" if len(listed) > 2 else ""
        lines.append(f"{', '.join(listed[:2])}{more}: {source}." if source else "")
    return [line for line in lines if line]


def missing(rows: Frame) -> Table:
    """The trials that should have been run."""
    columns: dict[str, Any] = {
        name: (lambda row, name=name: getattr(row, name)) for name in ("group", "problem", "dtype", "device")
    }
    caption = "Trials that belong to the selection and left no record."
    return table("missing", caption, rows, columns, "missing", (0, 1, 2, 3))
