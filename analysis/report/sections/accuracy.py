"""Accuracy against speed: the error of every way beside its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, framed, ways_in_order
from analysis.data.study_data import Scope, StudyData
from analysis.report import formatting as show
from analysis.report.drawing import decimal_ticks, facets, legend, log_range, log_ticks, styled
from analysis.report.section import Content, Frames, Plot, Section, per_scope, plot
from analysis.report.style import INK, look
from analysis.report.tables import Table, Text, slug, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def part(scope: Scope, data: StudyData, frames: Frames) -> Content:
    plots, tables = [], []
    for group in data.groups:
        rows = data.costs[data.costs["group"] == group]
        if len(measured := rows[rows["error_u"] > 0]):
            plots.append(_accuracy_plot(group, scope, measured))
            tables.append(cost_table(group, scope, rows))
    return Content(tuple(plots), tuple(tables), notes=given_numbers(data))


def given_numbers(data: StudyData) -> tuple[str, ...]:
    """Of which problems the numbers are not drawn, in one sentence, where there are any."""
    rows = data.problems[
        data.problems["problem"].isin(set(data.costs["problem"])) & (data.problems["numbers"] != "drawn")
    ]
    names = ", ".join(rows["problem"])
    return (f"With given numbers instead of drawn ones, as the dtype holds them: {names}.",) if names else ()


def _accuracy_plot(group: str, scope: Scope, rows: Frame) -> Plot:
    caption = f"Error against time, {group}, {scope.label}; one mark per problem and way, n = "
    caption += f"{show.plural(len(rows), 'cell')}. Filled: no other way of the same trial has both a smaller "
    caption += "time and a smaller error, by estimates. Down and left is better. One seed each: no interval."
    spread = rows.groupby("dtype")["error_u"].agg(["min", "max"])
    parts = [f"{d} {show.significant(v['min'], 2)} to {show.significant(v['max'], 2)} u" for d, v in spread.iterrows()]
    alt = f"Scatter plots of relative error against relative time, one panel per dtype. Errors: {', '.join(parts)}."
    name = slug("fig-accuracy", group, scope.machine, scope.device)
    return plot(name, caption, alt, "costs", figure(rows))


@styled
def figure(frame: Frame) -> Figure:
    """Error against time, one mark per cell; filled where no other way of the trial is better in both.

    frame: `statistics.costs` of one group.
    """
    dtypes, ways = dtypes_in_order(frame["dtype"]), ways_in_order(frame["way"])
    figure, panels = facets(dtypes, 3.2, sharex=True)
    for panel, dtype in zip(panels, dtypes, strict=True):
        of_dtype = frame[(frame["dtype"] == dtype) & (frame["error_u"] > 0)]
        for way in ways:
            colour, marker = look(way)
            for optimal in (False, True):
                rows = of_dtype[(of_dtype["way"] == way) & (of_dtype["pareto_optimal"] == optimal)]
                face = colour if optimal else "none"
                panel.plot(
                    rows["ratio"], rows["error_u"], marker, mfc=face, mec=colour, mew=0.9, markersize=5, alpha=0.9
                )
        _error_against_time_axes(panel, log_range(frame["ratio"]))
    legend(figure, ways)
    return figure


def _error_against_time_axes(panel: Axes, limits: tuple[float, float]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlim(limits)
    log_ticks(panel.xaxis, *limits)
    decimal_ticks(panel.yaxis)
    panel.axvline(1, color=INK, linewidth=0.7)
    panel.grid(axis="both")
    panel.tick_params(axis="x", labelbottom=True)
    panel.set_xlabel("time / baseline's time")
    panel.set_ylabel("relative L2 error (u)")


def cost_table(group: str, scope: Scope, rows: Frame) -> Table:
    """Error per dtype, and memory, of every way of a group."""
    ways = framed([(way,) for way in ways_in_order(rows["way"])], ["way"])
    columns: dict[str, Any] = {"way": lambda row: row.way}
    for dtype in dtypes_in_order(rows["dtype"]):
        errors = rows[rows["dtype"] == dtype].groupby("way")["error_u"].agg(["median", "max"])
        columns[f"error, {dtype} (u)"] = lambda row, errors=errors: _median_and_most(errors, row.way)
    memory = rows.groupby("way")["peak_ratio"].agg(["median", "max"])
    front = rows.groupby("way")["pareto_optimal"].agg(["sum", "size"])
    columns["memory / baseline's"] = lambda row: _median_and_most(memory, row.way)
    columns["Pareto-optimal"] = lambda row: Text(str(front["sum"][row.way]), f"of {front['size'][row.way]}")
    caption = f"Error and memory, {group}, {scope.label}: the median over problems, and in brackets the largest. "
    caption += "Pareto-optimal: trials in which no other way has both a smaller time and a smaller error, by estimates."
    return table(slug("costs", group, scope.machine, scope.device), caption, ways, columns, "costs")


def _median_and_most(frame: Frame, way: str) -> Text:
    if way not in frame.index:
        return Text("")
    median, most = (float(frame[name][way]) for name in ("median", "max"))
    return Text(show.significant(median), f"[{show.significant(most)}]" if median == median else "")


SECTION = Section(
    "accuracy",
    "Accuracy against speed",
    per_scope(part),
    intro="The error is the relative L2 error on a tile of at most 64 output positions against the exact result, for "
    "inputs and kernels of both signs drawn from a seed, in units of the dtype's u.",
    empty="No error was measured.",
)
