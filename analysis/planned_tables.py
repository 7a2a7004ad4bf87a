"""The tables of plans, the break-even map and training steps."""

from __future__ import annotations

from typing import Any

from analysis import formatting as show
from analysis.findings import Findings, Scope
from analysis.frames import Frame, ordered
from analysis.planned import COUNTED, MEASURED
from analysis.speed_tables import INTERVALS, VERDICTS_READ, speedup_text
from analysis.style import problems_in_order
from analysis.tables import Table, Text, slug, table


def plans(findings: Findings, scope: Scope) -> Table:
    """What was merged, and what that brought, beside the stack and the stack merged as a whole."""
    rows = scope.of(findings.plans)
    counted = {_key(row): row for row in rows[rows["way"] == COUNTED].itertuples(index=False)}
    measured = _by_problem(rows[rows["way"] == MEASURED])
    columns = {
        "problem": lambda row: row.problem,
        "dtype": lambda row: row.dtype,
        "plan": lambda row: _runs(row),
        "stacked": lambda row: show.seconds(row.stacked_seconds),
        "merged": lambda row: show.seconds(row.merged_seconds),
        "planned": lambda row: show.seconds(row.seconds),
        "speedup": lambda row: _against(row),
        "by operations": lambda row: _against(counted.get(_key(row))),
    }
    caption = (
        f"Which runs of layers `{MEASURED}` merged, {findings.label(scope)}: layers are counted from 0, merged ones "
    )
    caption += (
        "joined by a dash. Speedup over the faster of the stack and the stack merged as a whole; the last column: "
    )
    caption += f"the same for `{COUNTED}`, which counts instead of timing. {INTERVALS} {VERDICTS_READ}"
    return table(slug("plans", scope.machine, scope.device), caption, measured, columns, "plans", (0, 1, 2))


def _key(row: Any) -> tuple[str, str, str]:
    return row.group, row.problem, row.dtype


def _runs(row: Any) -> Text:
    if row.runs == f"0–{row.depth - 1}":
        return Text("all merged")
    return Text(row.runs if "–" in row.runs else "nothing merged", kind="" if "–" in row.runs else "zero")


def _against(row: Any) -> Text:
    if row is None:
        return Text(show.DASH)
    ends = (1 / row.ratio_upper, 1 / row.ratio_lower)
    interval = show.interval(1 / row.ratio, *ends)
    return Text(show.number(1 / row.ratio, *ends), interval, row.verdict, row.verdict)


def _by_problem(rows: Frame) -> Frame:
    order = {name: place for place, name in enumerate(problems_in_order(rows["problem"]))}
    return ordered(rows).assign(_order=rows["problem"].map(order)).sort_values("_order", kind="stable")


def break_even(findings: Findings, scope: Scope, dtype: str) -> Table:
    """The map in numbers: one row per kernel and C, one column per C_mid / C."""
    rows = scope.of(findings.pairs)
    rows = rows[rows["dtype"] == dtype]
    shown = {(row.kernel, row.outer, row.middle / row.outer): row for row in rows.itertuples(index=False)}
    multiples = sorted({multiple for _, _, multiple in shown})
    places = rows[["kernel", "outer", "break_even_middle"]].drop_duplicates(["kernel", "outer"])
    columns: dict[str, Any] = {
        "kernel": lambda row: f"{row.kernel}×{row.kernel}",
        "channels C": lambda row: str(row.outer),
        "even by count at C_mid": lambda row: show.significant(row.break_even_middle),
    }
    for multiple in multiples:
        columns[_multiple(multiple)] = lambda row, m=multiple: _cell(shown.get((row.kernel, row.outer, m)))
    caption = f"Speedup of merging a pair C → C_mid → C beforehand, by C_mid, {dtype}, {findings.label(scope)}; n = "
    caption += f"{len(rows)} pairs. {INTERVALS} {VERDICTS_READ}"
    name = slug("break-even", scope.machine, scope.device, dtype)
    return table(name, caption, places.sort_values(["kernel", "outer"]), columns, "pairs", (0,))


def _multiple(multiple: float) -> str:
    names = {0.5: "C / 2", 1: "C"}
    return f"C_mid = {names.get(multiple, f'{multiple:g} C')}"


def _cell(row: Any) -> Text:
    return Text("") if row is None else _against(row)


def training(findings: Findings, scope: Scope) -> Table:
    """A training step of the stack, and one that merges first."""
    rows = scope.of(findings.training)
    columns = {
        "problem": lambda row: row.problem,
        "dtype": lambda row: row.dtype,
        "stack's step": lambda row: show.seconds(row.baseline_seconds),
        "merging step": lambda row: show.seconds(row.seconds),
        "speedup": speedup_text,
    }
    caption = (
        f"One training step, forward and backward, {findings.label(scope)}: of the stack, and with its kernels merged "
    )
    caption += f"anew in every step (`merged_per_call`). {INTERVALS} {VERDICTS_READ}"
    name = slug("training", scope.machine, scope.device)
    return table(name, caption, _by_problem(rows), columns, "training", (0, 1))
