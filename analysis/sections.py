"""The report's sections of evidence: which figures and tables each holds, with captions computed from the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis import depth_figures, figures, growth, other_tables, speed_tables, statistics, svg
from analysis import formatting as show
from analysis.findings import GROUPS, Findings, Scope
from analysis.frames import Frame
from analysis.speed_tables import slug
from analysis.tables import Table
from linear_lasagna.timing import MARGIN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "sources": "Speed: the problems of the two articles",
    "networks": "Speed: layers of published networks",
    "stacks": "Speed: stacks, merged and not",
}


@dataclass(frozen=True)
class Plot:
    """One figure. caption: readable without the text around it; alt: for those who cannot see it; data: its CSV."""

    name: str
    caption: str
    alt: str
    data: str
    inline: str
    standalone: str
    number: int = 0


@dataclass(frozen=True)
class Section:
    """empty: what to say where there is nothing to show."""

    anchor: str
    title: str
    intro: str
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    empty: str = ""


def plot(name: str, caption: str, alt: str, data: str, figure: Figure) -> Plot:
    text = svg.raw(figure, name)
    return Plot(name, caption, alt, data, svg.inline(text, name, alt), svg.standalone(text))


def sections(findings: Findings) -> list[Section]:
    """All sections in the order of the page, their figures and tables numbered."""
    extra = [group for group in findings.groups if group not in GROUPS]
    found = [_speed(findings, group) for group in (*GROUPS, *extra)]
    writers: tuple[Callable[[Findings], Section], ...] = (
        _merging,
        _wins,
        _accuracy,
        _memory,
        _depth,
        _validity,
        _noise,
        _machine,
        _problems,
    )
    return list(_numbered([*found, *(write(findings) for write in writers)]))


def _numbered(found: list[Section]) -> Iterator[Section]:
    figure, table = 0, 0
    for section in found:
        plots = tuple(replace(p, number=figure + i) for i, p in enumerate(section.plots, 1))
        tables = tuple(t.numbered(table + i) for i, t in enumerate(section.tables, 1))
        figure, table = figure + len(plots), table + len(tables)
        yield replace(section, plots=plots, tables=tables)


def _span(values: Frame) -> str:
    least, most = int(values.min()), int(values.max())
    return str(least) if least == most else f"{least} to {most}"


def _with_rows(findings: Findings, frame: Frame) -> list[Scope]:
    return [scope for scope in findings.scopes if len(scope.of(frame))]


def _speed(findings: Findings, group: str) -> Section:
    title, empty = TITLES.get(group, f"Speed: {group}"), f"No trial of the group {group} was timed."
    rows = findings.speedups[findings.speedups["group"] == group]
    plots, tables = [], []
    for scope in findings.scopes:
        here = scope.of(rows)
        if len(here[~here["control"].astype(bool)]):
            plots.append(_speedup_plot(findings, group, scope, here))
            tables.append(speed_tables.summary(findings, group, scope))
        if group == "networks" and len(scope.of(findings.totals)):
            tables.append(speed_tables.totals(findings, scope))
        tables += speed_tables.speedups(findings, group, scope)
    intro = "A speedup is the baseline's time / the way's time: above 1 the way is faster."
    return Section(group, title, intro if tables else "", tuple(plots), tuple(tables), empty)


def _speedup_plot(findings: Findings, group: str, scope: Scope, rows: Frame) -> Plot:
    ways = rows[~rows["control"].astype(bool)]
    best, worst = ways.loc[ways["speedup"].idxmax()], ways.loc[ways["speedup"].idxmin()]
    n = show.plural(ways["problem"].nunique(), "problem")
    caption = f"Speedup over the baseline, {group}, {findings.label(scope)}; n = {n}. Mark: median over blocks "
    caption += f"(n = {_span(ways['blocks'])}). Line: 95 % interval for that median; no line: too few blocks for one. "
    caption += "Hollow: tie or undecided. Right of 1: faster than the baseline."
    alt = f"Dots with intervals on a logarithmic axis, one row per problem of {group}, one panel per dtype. "
    alt += f"The largest speedup is {show.significant(best['speedup'])}, of {best['way']} on {best['problem']} in "
    alt += (
        f"{best['dtype']}; the least {show.significant(worst['speedup'])}, of {worst['way']} on {worst['problem']} in "
    )
    alt += f"{worst['dtype']}."
    name = slug("fig-speedups", group, scope.machine, scope.device)
    return plot(name, caption, alt, "speedups", figures.speedups(ways))


def _merging(findings: Findings) -> Section:
    scopes = _with_rows(findings, findings.merging)
    tables = tuple(speed_tables.merging(findings, scope) for scope in scopes)
    intro = "A stack is merged once and then used often, or merged anew for every call, as in training. "
    intro += "This is the time of the merge alone."
    return Section("merging", "What merging costs", intro, (), tables, "No merge was timed.")


def _wins(findings: Findings) -> Section:
    plots, tables = [], []
    for scope in _with_rows(findings, findings.winners):
        rows = statistics.wins(scope.of(findings.winners), ["group", "dtype"])
        caption = (
            f"The share of problems on which each way is fastest, by verdict, {findings.label(scope)}. Numbers in "
        )
        caption += "bars: problems; n: all problems of the group that were timed in at least two ways. "
        caption += "Hatched: the fastest way is not faster, by verdict, than all others."
        settled = int(rows.loc[rows["way"] != "", "alone"].sum())
        alt = f"Stacked bars, one per group and dtype. On {settled} of {len(scope.of(findings.winners))} trials one way is "
        alt += "faster than every other; the other trials have no single fastest way."
        name = slug("fig-wins", scope.machine, scope.device)
        plots.append(plot(name, caption, alt, "wins", figures.wins(rows)))
        tables.append(speed_tables.wins(findings, scope))
    intro = (
        "A way is fastest alone where it is faster, by verdict, than every other way of the trial. Ways that differ "
    )
    intro += "only in the dtype of the merge make the same call; one of them is compared."
    return Section("wins", "Where each way wins", intro, tuple(plots), tuple(tables), "No trial timed two ways.")


def _accuracy(findings: Findings) -> Section:
    plots, tables = [], []
    for scope in _with_rows(findings, findings.costs):
        for group in findings.groups:
            rows = scope.of(findings.costs)
            rows = rows[(rows["group"] == group) & (rows["error_u"] > 0)]
            if len(rows):
                plots.append(_accuracy_plot(findings, group, scope, rows))
        tables.append(speed_tables.costs(findings, scope))
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


def _memory(findings: Findings) -> Section:
    plots = []
    rows = findings.costs[~findings.costs["baseline"] & (findings.costs["peak_ratio"] > 0)]
    for scope in _with_rows(findings, rows):
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
    intro = "The numbers per way stand in the table of the section before."
    return Section("memory", "Memory", intro if plots else "", tuple(plots), (), "No memory was measured.")


def _depth(findings: Findings) -> Section:
    title, intro = "Error by depth", "Stacks of growing depth against the exact result, several seeds each."
    rows = findings.precision
    if rows is None or not len(growth.observed(rows)):
        return Section("depth", title, "", empty="The precision experiment has not been run.")
    exponents, ratios = growth.exponents(rows), growth.merge_ratios(rows)
    tables = [other_tables.exponents(exponents)] if len(exponents) else []
    tables += [other_tables.merge_ratios(ratios)] if len(ratios) else []
    plots = [
        plot for scope in _with_rows(findings, rows) or _scopes(rows) for plot in _depth_plots(scope, rows, ratios)
    ]
    return Section("depth", title, intro, tuple(plots), (*tables, other_tables.precision_statuses(rows)))


def _scopes(rows: Frame) -> list[Scope]:
    places = rows[["machine", "device"]].drop_duplicates().itertuples(index=False)
    return sorted(Scope(place.machine, place.device) for place in places)


def _depth_plots(scope: Scope, rows: Frame, ratios: Frame) -> Iterator[Plot]:
    here, ratios = scope.of(rows), scope.of(ratios)
    if not len(growth.observed(here)):
        return
    seeds = here["seed"].nunique()
    interval = f"Band: 95 % interval for that median; n = {seeds} seeds"
    interval += "." if seeds >= 6 else ", too few for an interval."
    summary = growth.by_depth(here)
    worst = summary.loc[summary["median"].idxmax()]
    caption = (
        f"Relative L2 error in units of u against depth ({scope.device}), both axes logarithmic. Mark: median over "
    )
    caption += f"seeds. {interval} Solid: random signs; dashed: positive numbers; dotted: a guide ∝ √depth."
    alt = "Lines on two logarithmic axes, one panel per dtype. The largest median error is "
    alt += f"{show.significant(worst['median'])} u, {worst['way']}, {worst['dtype']}, {worst['signs']} signs, at depth {worst['depth']}."
    name = slug("fig-depth", scope.machine, scope.device)
    yield plot(name, caption, alt, "depth", depth_figures.error_by_depth(here))
    if len(ratios):
        least, most = ratios["median"].min(), ratios["median"].max()
        caption = f"Error merged / error stacked on the same seed, against depth ({scope.device}). Below 1 the merged "
        caption += f"stack is more accurate. Mark: median over seeds. {interval} Solid: random signs; dashed: positive numbers."
        alt = "Lines on two logarithmic axes, one panel per dtype. The median ratios lie between "
        alt += f"{show.significant(least)} and {show.significant(most)}."
        name = slug("fig-merge-ratio", scope.machine, scope.device)
        yield plot(name, caption, alt, "merge_ratios", depth_figures.merge_ratio_by_depth(ratios))


def _validity(findings: Findings) -> Section:
    title = "Validity: what passed, what was skipped, what failed"
    intro = (
        "Before its time counts, a way that only adds and multiplies must be exact on small integers, and every way "
    )
    intro += "must stay within a bound on positive numbers, where the bound is tight. A wrong way is a failed cell."
    tables = [other_tables.validity(findings)] if len(findings.cells) else []
    lost = other_tables.reasons(findings.cells)
    tables += [other_tables.reasons_table(lost)] if len(lost) else []
    tables += [other_tables.missing(findings.missing)] if len(findings.missing) else []
    return Section("validity", title, intro if tables else "", (), tuple(tables), "There is no cell yet.")


def _noise(findings: Findings) -> Section:
    title, intro = "Noise floor", "The control is the baseline a second time, timed like any other way."
    if not len(findings.noise):
        return Section("noise", title, "", empty="No control was timed.")
    rows = findings.noise
    false = int(rows["verdict"].isin(figures.DECIDED).sum())
    caption = f"The control's time against the baseline's, n = {len(rows)} trials. Mark: median over blocks; line: "
    caption += (
        f"95 % interval for it. Band: the margin of {100 * MARGIN:g} %, within which no difference counts. Diamonds: "
    )
    caption += f"controls that the interval and the margin alone would call different ({false}). Linear up to 1 %."
    largest = show.significant(100 * abs(rows["ratio"] - 1).max(), 2)
    alt = f"Dots with intervals around zero, in order of size. The largest difference is {largest} %."
    figure = plot("fig-noise", caption, alt, "noise", figures.noise(rows, MARGIN))
    return Section("noise", title, intro, (figure,), (other_tables.noise_floor(findings),))


def _machine(findings: Findings) -> Section:
    rows = other_tables.environment(findings)
    tables = (other_tables.environment_table(findings, rows),) if len(rows) else ()
    return Section("machine", "The machine", "", (), tables, "No trial recorded a machine.")


def _problems(findings: Findings) -> Section:
    tables = (other_tables.problems(findings),) if len(findings.problems) else ()
    return Section("problems", "What was computed", "", (), tables, "No problem was run.")
