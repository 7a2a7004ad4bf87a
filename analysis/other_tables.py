"""The tables of depth, validity, noise, machine and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import formatting as show
from analysis import growth, statistics
from analysis.findings import Findings
from analysis.frames import Frame, framed
from analysis.records import STATUSES
from analysis.speed_tables import ordered
from analysis.tables import Table, Text, table

SEEDS = "In brackets: 95 % interval for the median over seeds; none for fewer than 6 seeds."
SHOWN_NAMES = 4


def _series(several: bool) -> dict[str, Any]:
    """The columns that name a series of the depth experiment; the machine only where there are several."""
    where = {"machine": lambda row: row.machine, "device": lambda row: row.device} if several else {}
    return where | {"dtype": lambda row: row.dtype, "signs": lambda row: row.signs, "way": lambda row: row.way}


def _several(rows: Frame) -> bool:
    return len(rows[["machine", "device"]].drop_duplicates()) > 1


def _with_interval(row: Any) -> Text:
    ends = (row.lower, row.upper)
    return Text(show.number(row.median, *ends), show.interval(row.median, *ends))


def exponents(rows: Frame) -> Table:
    """How fast the error grows with depth. rows: `growth.exponents`."""
    series = _series(_several(rows))
    columns = {
        **series,
        "exponent": _with_interval,
        "depths": lambda row: f"{row.least_depth} to {row.most_depth}",
        "seeds": lambda row: str(row.seeds),
    }
    caption = "The exponent e in error ∝ depth^e: least-squares slope of log error against log depth, one per seed; "
    caption += f"their median. {SEEDS}"
    return table("exponents", caption, ordered(rows), columns, "exponents", range(len(series)))


def merge_ratios(rows: Frame) -> Table:
    """Error merged / error stacked, one column per depth. rows: `growth.merge_ratios`."""
    several = _several(rows)
    series = _series(several)
    depths = sorted(set(rows["depth"]))
    keys = ["machine", "device", "dtype", "signs", "way"]
    shown = {(*_key(row, keys), row.depth): _with_interval(row) for row in rows.itertuples(index=False)}
    distinct = ordered(rows[keys].drop_duplicates())
    columns: Mapping[str, Any] = {
        **series,
        **{f"depth {d}": (lambda row, d=d: shown.get((*_key(row, keys), d), Text(show.DASH))) for d in depths},
    }
    caption = "Error merged / error stacked on the same seed, median over seeds: below 1 merging is more accurate. "
    return table("merge-ratios", caption + SEEDS, distinct, columns, "merge_ratios", range(len(series)))


def _key(row: Any, names: list[str]) -> tuple[str, ...]:
    return tuple(getattr(row, name) for name in names)


def precision_statuses(rows: Frame) -> Table:
    """How many observations of the depth experiment are ok, overflowed or failed."""
    counts = ordered(growth.statuses(rows))
    series = _series(_several(counts))
    columns = {**series, **{status: _count(status) for status in growth.STATUSES}}
    caption = "Observations of the depth experiment. An overflow is an output that is not finite."
    return table("precision-statuses", caption, counts, columns, "precision", range(len(series)))


def _count(column: str) -> Any:
    return lambda row: Text(str(getattr(row, column)), kind="" if getattr(row, column) else "zero")


def validity(findings: Findings) -> Table:
    """How many cells passed, were skipped or failed."""
    counts = findings.cells.groupby(["group", "dtype", "device", "status"], sort=True).size()
    counts = counts.unstack("status", fill_value=0).reindex(columns=list(STATUSES), fill_value=0).reset_index()
    counts["way"] = ""
    columns = {
        "group": lambda row: row.group,
        "dtype": lambda row: row.dtype,
        "device": lambda row: row.device,
        **{status: _count(status) for status in STATUSES},
    }
    caption = "Cells that passed, were skipped, and failed. Only cells that passed were timed."
    return table("validity", caption, ordered(counts), columns, "cells", (0, 1, 2))


def reasons(cells: Frame) -> Frame:
    """Skipped and failed cells by reason: their number, and which ways, dtypes and problems they belong to."""
    lost = cells[cells["status"] != "ok"]
    rows = []
    for (status, reason), group in lost.groupby(["status", "reason"], sort=True):
        names = [", ".join(sorted(set(group[column]))) for column in ("way", "dtype", "device", "problem")]
        rows.append((status, reason, len(group), *names))
    frame = framed(rows, ["status", "reason", "cells", "ways", "dtypes", "devices", "problems"])
    return frame.sort_values(["status", "cells", "reason"], ascending=[True, False, True], kind="stable")


def reasons_table(rows: Frame) -> Table:
    columns = {
        "status": lambda row: Text(row.status, kind=row.status),
        "reason": lambda row: row.reason,
        "cells": lambda row: str(row.cells),
        "ways": lambda row: _few(row.ways),
        "dtypes": lambda row: _few(row.dtypes),
        "problems": lambda row: _few(row.problems),
    }
    caption = "Cells that were not timed, by reason. Skipped: the way cannot compute the problem there. Failed: it "
    caption += "raised an error, or its result was wrong. All names are in the CSV."
    return table("reasons", caption, rows, columns, "reasons", (0, 1, 3, 4, 5))


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
        "false verdicts": _count("false_verdicts"),
    }
    caption = (
        "How far two timings of the same call lie apart: |log ratio| of the control to the baseline. A false verdict "
    )
    caption += "is a control called faster or slower by its interval and the fixed margin of 1 %."
    return table("noise-floor", caption, ordered(rows), columns, "noise", (0, 1, 2))


def problems(findings: Findings) -> Table:
    """What was computed."""
    from analysis.style import problems_in_order

    order = {name: place for place, name in enumerate(problems_in_order(findings.problems["problem"]))}
    rows = findings.problems.assign(_order=findings.problems["problem"].map(order)).sort_values("_order")
    columns = {
        "problem": lambda row: row.problem,
        "layers": lambda row: str(row.depth),
        "input": lambda row: row.input,
        "output": lambda row: row.output,
        "parameters": lambda row: f"{row.parameters:,}",
        "multiply-accumulates": lambda row: f"{row.macs:,}",
        "occurrences": lambda row: str(row.occurrences),
        "source": lambda row: Text(row.source, kind="prose"),
    }
    caption = "The problems: shapes are batch × channels × size; multiply-accumulates are those of the unmerged layers."
    return table("problems", caption, rows, columns, "problems", (0, 2, 3, 7))


def missing(rows: Frame) -> Table:
    """The trials that should have been run."""
    columns: dict[str, Any] = {
        name: (lambda row, name=name: getattr(row, name)) for name in ("group", "problem", "dtype", "device")
    }
    caption = "Trials that belong to the selection and left no record."
    return table("missing", caption, rows, columns, "missing", (0, 1, 2, 3))


def environment(findings: Findings) -> Frame:
    """One row per machine, device and property; what differs between trials is given as a range or a list."""
    seen: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in findings.records:
        for name, value in record.trial.environment.items():
            key = (record.machine, record.trial.device, name)
            seen.setdefault(key, {})[_plain(value)] = value
    rows = [(*key, _together(list(values), list(values.values()))) for key, values in seen.items()]
    return framed(rows, ["machine", "device", "property", "value"])


def _together(texts: list[str], values: list[Any]) -> str:
    numbers = [value for value in values if isinstance(value, float)]
    if len(values) > 1 and len(numbers) == len(values):
        return f"{min(numbers):g} to {max(numbers):g}"
    return "; ".join(sorted(texts))


def _plain(value: Any) -> str:
    """A value for readers: libraries as "openblas 0.3 (2 threads)", switches as yes and no."""
    if isinstance(value, list):
        return "; ".join(_plain(item) for item in value) or "none"
    if isinstance(value, dict):
        name = str(value.get("internal_api") or value.get("user_api") or value)
        version, architecture = value.get("version") or "", value.get("architecture") or ""
        threads = f"({show.plural(value['num_threads'], 'thread')})" if "num_threads" in value else ""
        return " ".join(part for part in (name, version, architecture, threads) if part)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not known" if value is None else str(value)


def environment_table(findings: Findings, rows: Frame) -> Table:
    """One column per machine and device."""
    names = list(dict.fromkeys(rows["property"]))
    shown = {(r.machine, r.device, r.property): r.value for r in rows.itertuples(index=False)}
    columns: dict[str, Any] = {"": lambda row: row.property.replace("_", " ")}
    for scope in findings.scopes:
        columns[f"{scope.machine}, {scope.device}"] = lambda row, scope=scope: Text(
            shown.get((scope.machine, scope.device, row.property), show.DASH), kind="prose"
        )
    caption = "What the trials recorded of the machine. Several values, or a range: it differed between trials."
    wide = range(len(columns))
    return table("environment", caption, framed([(n,) for n in names], ["property"]), columns, "environment", wide)
