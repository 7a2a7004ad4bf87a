"""The sections of plans, the break-even map and training steps, with captions computed from the findings."""

from __future__ import annotations

from analysis import formatting as show
from analysis import planned_figures, planned_tables
from analysis.findings import Findings, Scope
from analysis.frames import Frame
from analysis.parts import Plot, Section, plot, with_rows
from analysis.planned import MEASURED
from analysis.tables import slug


def plans(findings: Findings) -> Section:
    rows = findings.plans[findings.plans["way"] == MEASURED]
    tables = tuple(planned_tables.plans(findings, scope) for scope in with_rows(findings, rows))
    intro = (
        "A stack need not be merged as a whole or not at all: the planner cuts it into runs, and merges each. It times "
    )
    intro += (
        "every run that is worth it once, adds up, and lets its plan, the plan by operation count, the stack and the "
    )
    intro += "stack merged run against each other; a plan must then be faster by over 2 % to be chosen."
    return Section("plans", "Plans: which layers to merge", intro if tables else "", (), tables, "Nothing was planned.")


def break_even(findings: Findings) -> Section:
    plots, tables = [], []
    for scope in with_rows(findings, findings.pairs):
        rows = scope.of(findings.pairs)
        for dtype in findings.dtypes(rows):
            plots.append(_map(findings, scope, dtype, rows[rows["dtype"] == dtype]))
            tables.append(planned_tables.break_even(findings, scope, dtype))
    intro = "Two k×k layers C → C_mid → C merge into one of 2k − 1. That saves multiply-accumulates only if C_mid is "
    intro += "above (2k − 1)² C / 2k²: 1.39 C for k = 3, 1.62 C for k = 5, where all images are equally large."
    return Section(
        "breakeven",
        "When merging a pair pays",
        intro if tables else "",
        tuple(plots),
        tuple(tables),
        "No pair was timed.",
    )


def _map(findings: Findings, scope: Scope, dtype: str, rows: Frame) -> Plot:
    counts = rows["verdict"].value_counts()
    caption = f"Time merged / time stacked for pairs C → C_mid → C, {dtype}, {findings.label(scope)}; n = {len(rows)} "
    caption += "pairs, median over blocks. Blue: less time merged, by estimate. Line: as many multiply-accumulates; "
    caption += "above it, merging saves some. Intervals and verdicts stand in the table."
    least, most = rows.loc[rows["ratio"].idxmin()], rows.loc[rows["ratio"].idxmax()]
    alt = "Heat maps, one per kernel, C across and C_mid upwards. By verdict merging is faster on "
    alt += f"{counts.get('faster', 0)} pairs and slower on {counts.get('slower', 0)}. The estimated ratio goes from "
    alt += f"{show.significant(least['ratio'])} ({least['problem']}) to {show.significant(most['ratio'])} "
    alt += f"({most['problem']})."
    name = slug("fig-break-even", scope.machine, scope.device, dtype)
    return plot(name, caption, alt, "pairs", planned_figures.break_even(rows))


def training(findings: Findings) -> Section:
    tables = tuple(planned_tables.training(findings, scope) for scope in with_rows(findings, findings.training))
    intro = (
        "While it is trained, a stack can be merged anew in every step, so that the gradients flow through the merge. "
    )
    intro += "Every step gives the gradients of the input and of all kernels; before it counts, they must lie within "
    intro += "a bound "
    intro += "of the stack's in float64."
    return Section("training", "Training steps", intro if tables else "", (), tables, "No training step was timed.")
