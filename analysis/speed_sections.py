"""The sections of time, memory and errors of the trials, with captions computed from the findings."""

from __future__ import annotations

from typing import Any

from analysis import figures, speed_tables, statistics
from analysis import formatting as show
from analysis.findings import GROUPS, Findings, Scope
from analysis.frames import Frame
from analysis.parts import Plot, Section, plot, with_rows
from analysis.tables import slug
from linear_lasagna import catalog

FEW = 3  # problems; so few need no summary


def title(group: str) -> str:
    return f"Speed: {catalog.GROUPS[group].title if group in GROUPS else group}"


def anchor(group: str) -> str:
    return group if group in GROUPS else slug("group", group)


def speed(findings: Findings, group: str) -> Section:
    empty = f"No trial of the group {group} was timed."
    rows = findings.speedups[findings.speedups["group"] == group]
    plots, tables = [], []
    for scope in findings.scopes:
        here = scope.of(rows)
        if len(here[~here["control"].astype(bool)]):
            plots.append(_speedup_plot(findings, group, scope, here))
        if here["problem"].nunique() > FEW:
            tables.append(speed_tables.summary(findings, group, scope))
        if group == "networks" and len(scope.of(findings.totals)):
            tables.append(speed_tables.totals(findings, scope))
        tables += speed_tables.speedups(findings, group, scope)
    intro = "A speedup is the baseline's time / the way's time: above 1 the way is faster."
    return Section(anchor(group), title(group), intro if tables else "", tuple(plots), tuple(tables), empty)


def _span(values: Frame) -> str:
    least, most = int(values.min()), int(values.max())
    return str(least) if least == most else f"{least} to {most}"


def _speedup_plot(findings: Findings, group: str, scope: Scope, rows: Frame) -> Plot:
    ways = rows[~rows["control"].astype(bool)]
    known = ways[ways["speedup_lower"].notna()] if ways["speedup_lower"].notna().any() else ways
    best, worst = known.loc[known["speedup"].idxmax()], known.loc[known["speedup"].idxmin()]
    n = show.plural(ways["problem"].nunique(), "problem")
    caption = f"Speedup over the baseline, {group}, {findings.label(scope)}; n = {n}. Mark: median over blocks "
    caption += (
        f"(n = {_span(ways['blocks'])}). Line: 95 % interval for that median within one process; no line: too few "
    )
    caption += "blocks for one. Hollow: tie or undecided. Right of 1: faster than the baseline."
    alt = (
        f"Dots with intervals on a logarithmic axis, one row per problem of {group}, one panel per dtype. The largest "
    )
    alt += f"estimated speedup{'' if len(known) == len(ways) else ' with an interval'} is {_named(best)}; the least "
    alt += f"{_named(worst)}."
    name = slug("fig-speedups", group, scope.machine, scope.device)
    return plot(name, caption, alt, "speedups", figures.speedups(ways))


def _named(row: Any) -> str:
    return f"{show.significant(row['speedup'])}, of {row['way']} on {row['problem']} in {row['dtype']}"


def merging(findings: Findings) -> Section:
    scopes = with_rows(findings, findings.merging)
    tables = tuple(speed_tables.merging(findings, scope) for scope in scopes)
    intro = "A stack is merged once and then used often, or merged anew for every call, as in training. "
    intro += "This is the time of the merge alone."
    return Section("merging", "What merging costs", intro, (), tables, "No merge was timed.")


def wins(findings: Findings) -> Section:
    plots, tables = [], []
    for scope in with_rows(findings, findings.winners):
        rows = statistics.wins(scope.of(findings.winners), ["group", "dtype"])
        caption = (
            f"The share of problems on which each way is fastest, by verdict, {findings.label(scope)}. Numbers in "
        )
        caption += "bars: problems; n: all problems of the group that were timed in at least two ways. "
        caption += "Hatched: the fastest way is not faster, by verdict, than all others."
        settled = int(rows.loc[rows["way"] != "", "alone"].sum())
        alt = (
            f"Stacked bars, one per group and dtype. On {settled} of {len(scope.of(findings.winners))} trials one way "
        )
        alt += "is faster than every other; the other trials have no single fastest way."
        name = slug("fig-wins", scope.machine, scope.device)
        plots.append(plot(name, caption, alt, "wins", figures.wins(rows)))
        tables.append(speed_tables.wins(findings, scope))
    intro = (
        "A way is fastest alone where it is faster, by verdict, than every other way of the trial. Ways that differ "
    )
    intro += "only in the dtype of the merge make the same call; one of them is compared."
    return Section("wins", "Where each way wins", intro, tuple(plots), tuple(tables), "No trial timed two ways.")


def accuracy(findings: Findings) -> Section:
    plots, tables = [], []
    for scope in with_rows(findings, findings.costs):
        for group in findings.groups:
            rows = scope.of(findings.costs)
            rows = rows[(rows["group"] == group) & (rows["error_u"] > 0)]
            if len(rows):
                plots.append(_accuracy_plot(findings, group, scope, rows))
                tables.append(speed_tables.costs(findings, group, scope))
    intro = "The error is the relative L2 error on a tile of at most 64 output positions against the exact result, for "
    intro += "inputs and kernels of both signs drawn from a seed, in units of the dtype's u."
    return Section("accuracy", "Accuracy against speed", intro, tuple(plots), tuple(tables), "No error was measured.")


def _accuracy_plot(findings: Findings, group: str, scope: Scope, rows: Frame) -> Plot:
    caption = (
        f"Error against time, {group}, {findings.label(scope)}; one mark per problem and way, n = {len(rows)} cells. "
    )
    caption += "Filled: no other way of the same trial has both a smaller time and a smaller error, by estimates. Down "
    caption += "and left is better. One seed each: no interval."
    spread = rows.groupby("dtype")["error_u"].agg(["min", "max"])
    parts = [f"{d} {show.significant(v['min'], 2)} to {show.significant(v['max'], 2)} u" for d, v in spread.iterrows()]
    alt = f"Scatter plots of relative error against relative time, one panel per dtype. Errors: {', '.join(parts)}."
    name = slug("fig-accuracy", group, scope.machine, scope.device)
    return plot(name, caption, alt, "costs", figures.accuracy_against_speed(rows))


def memory(findings: Findings) -> Section:
    plots = []
    rows = findings.costs[~findings.costs["baseline"] & (findings.costs["peak_ratio"] > 0)]
    for scope in with_rows(findings, rows):
        here = scope.of(rows)
        caption = f"Memory of one call as a multiple of the baseline's, {findings.label(scope)}; one mark per trial, "
        caption += (
            f"n = {len(here)} cells. Memory is what torch and NumPy allocated at once during the call, its result "
        )
        caption += "included; scratch space that a library takes from the operating system is not seen."
        most = here.loc[here["peak_ratio"].idxmax()]
        alt = f"Dots on a logarithmic axis, one row per way. The most memory is {show.times(most['peak_ratio'])} the "
        alt += f"baseline's, by {most['way']} on {most['problem']}."
        name = slug("fig-memory", scope.machine, scope.device)
        plots.append(plot(name, caption, alt, "costs", figures.memory(here)))
    intro = "Medians and largest values per way stand in the tables of the section before."
    return Section("memory", "Memory", intro if plots else "", tuple(plots), (), "No memory was measured.")
