"""Accuracy against speed: the error of every way beside its time."""

from __future__ import annotations

from typing import Any

from analysis.data.frames import Frame, dtypes_in_order, framed, ways_in_order
from analysis.data.study_data import Scope, StudyData
from analysis.report import choosing
from analysis.report import formatting as show
from analysis.report.drawing import (
    Drawing,
    decimal_ticks,
    facets,
    key,
    legend,
    log_range,
    marks,
    speedup_axis,
    styled,
)
from analysis.report.section import Content, Frames, Plot, Section, per_scope, plot
from analysis.report.tables import Table, Text, slug, table

WITHOUT_FIGURE = (
    "sources",
    "borders",
    "transforms",
    "mobilenet",
    "breakeven",
    "sweeps",
    "memory",
)  # variations of others


def part(scope: Scope, data: StudyData, frames: Frames) -> Content:
    plots, tables = [], []
    for group in data.groups:
        rows = data.costs[data.costs["group"] == group]
        if len(measured := rows[rows["error_u"] > 0]):
            plots += [] if group in WITHOUT_FIGURE else [_accuracy_plot(group, scope, measured)]
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
    drawn = choosing.shown(rows)
    caption = f"Error against speed, {group}, {scope.label}; one mark per problem and way, n = "
    caption += f"{show.plural(len(drawn), 'cell')}. Filled: no other way of the same trial has both a smaller "
    caption += "time and a smaller error, by estimates. Right and down is better; both axes are "
    caption += "logarithmic. One seed each: no interval."
    caption += choosing.others(rows)
    spread = drawn.groupby("dtype")["error_u"].agg(["min", "max"])
    parts = [f"{d} {show.significant(v['min'], 2)} to {show.significant(v['max'], 2)} u" for d, v in spread.iterrows()]
    alt = f"Scatter plots of relative error against speedup, one panel per dtype. Errors: {', '.join(parts)}."
    name = slug("fig-accuracy", group, scope.machine, scope.device)
    return plot(name, caption, alt, "costs", figure(rows))


@styled
def figure(frame: Frame) -> Drawing:
    """Error against speedup, one mark per cell; filled where it is Pareto-optimal.

    frame: `speedups.costs` of one group.
    """
    frame = choosing.shown(frame[frame["error_u"] > 0])
    dtypes, ways = dtypes_in_order(frame["dtype"]), ways_in_order(frame["way"])
    drawing, panels = facets(dtypes, 165.0)
    for panel, dtype in zip(panels, dtypes, strict=True):
        of_dtype = frame[frame["dtype"] == dtype]
        for way in ways:
            for optimal in (False, True):
                rows = of_dtype[(of_dtype["way"] == way) & (of_dtype["pareto_optimal"] == optimal)]
                marks(panel, 1 / rows["ratio"], rows["error_u"], map(_said, rows.to_dict("records")), way, optimal)
        panel.set_yscale("log")
        decimal_ticks(panel.yaxis)
        speedup_axis(panel, log_range(1 / frame["ratio"]))
        panel.grid(axis="y")
        panel.set_ylabel("relative L2 error (u)")
    legend(drawing, ways, [key("dominated", marker="o", filled=False)])
    return drawing


def _said(row: Any) -> str:
    place = f"{row['problem']}, {row['dtype']}, {row['way']}"
    return f"{place}: speedup {show.times(1 / row['ratio'])}, error {show.significant(row['error_u'])} u"


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
