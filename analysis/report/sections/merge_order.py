"""The experiment `order`: what the order of merging a stack's kernels costs, and what rounding loses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, problems_in_order, usable
from analysis.data.over_seeds import PLACE, SERIES, largest, over_seeds, paired
from analysis.data.study_data import Scope
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import ends, facets, log_range, ratio_ticks, styled
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import INK, OLIVE, PINK, SKY
from analysis.report.tables import Table, Text, slug, wide_table, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE = "left_to_right"
ORDERS = {BASELINE: (PINK, "p"), "right_to_left": (SKY, "<"), "balanced": (OLIVE, "d")}
VALUES = {"error": "error_u", "kernel": "kernel_error_u"}
TITLES = {"error": "error of the result", "kernel": "error of the merged kernel"}
KEYS = [*SERIES, "problem", "order"]


def frames(rows: Frame) -> Frames:
    """order_ratios: errors against the baseline's order; order_costs: multiply-accumulates of the merge."""
    return {"order_ratios": ratios(rows), "order_costs": costs(rows)}


def ratios(rows: Frame) -> Frame:
    """Per series, problem and other order: its error / left_to_right's on the same seed, over seeds.

    quantity: error, of the result; kernel, of the merged kernel itself.
    """
    import pandas

    summaries = [
        over_seeds(paired(usable(rows), "order", BASELINE, column), KEYS, "ratio").assign(quantity=value)
        for value, column in VALUES.items()
    ]
    return pandas.concat(summaries, ignore_index=True)


def costs(rows: Frame) -> Frame:
    """Per problem and order: merge_macs, and cost_ratio, the same / left_to_right's. They depend on shapes alone."""
    macs = usable(rows).groupby([*PLACE, "problem", "order"], sort=True)["merge_macs"].max().reset_index()
    keys = [*PLACE, "problem"]
    baseline = macs[macs["order"] == BASELINE].set_index(keys)["merge_macs"].rename("baseline")
    macs = macs.join(baseline, on=keys)
    return macs.assign(cost_ratio=macs["merge_macs"] / macs["baseline"]).drop(columns="baseline")


@styled
def figure(compared: Frame) -> Figure:
    """Error / left_to_right's per problem and order, of the result and of the merged kernel, a row of panels per dtype.

    compared: `ratios` of one place. Random signs are filled, positive numbers hollow.
    """
    dtypes, names = dtypes_in_order(compared["dtype"]), problems_in_order(compared["problem"])
    titles = [f"{dtype}: {what}" for dtype in dtypes for what in TITLES.values()]
    drawing, panels = facets(titles, 0.32 * len(names) + 0.75, columns=2)
    for index, panel in enumerate(panels):
        value, dtype = list(TITLES)[index % 2], dtypes[index // 2]
        column = compared[compared["quantity"] == value]
        _dots(panel, column[column["dtype"] == dtype], names)
        _axes(panel, names if index % 2 == 0 else [""] * len(names), log_range(ends(column)))
        panel.set_xlabel("error / error of left_to_right" if index // 2 == len(dtypes) - 1 else "")
    drawing.legend(handles=_handles(compared), loc="outside upper left", ncols=4, borderaxespad=0.2)
    return drawing


def _dots(panel: Axes, rows: Frame, names: list[str]) -> None:
    """One mark and interval per row, slightly apart by order and signs."""
    heights = {name: place for place, name in enumerate(names)}
    for row in rows.itertuples(index=False):
        colour, marker = ORDERS[row.order]
        random = row.signs == "random"
        y = heights[row.problem] + (-0.18 if row.order == "right_to_left" else 0.18) + (-0.09 if random else 0.09)
        panel.hlines(y, row.lower, row.upper, colors=colour, linewidth=1.2)
        face = colour if random else "none"
        panel.plot(row.median, y, marker, mfc=face, mec=colour, mew=0.9, markersize=4.6, linestyle="none")


def _axes(panel: Axes, names: list[str], limits: tuple[float, float]) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.set_xscale("log", base=2)
    panel.set_xlim(limits)
    ratio_ticks(panel.xaxis, *limits)
    panel.grid(axis="x")
    panel.axvline(1, color=INK, linewidth=0.9)


def _handles(compared: Frame) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for order in (order for order in ORDERS if order in set(compared["order"])):
        colour, marker = ORDERS[order]
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=5, label=order))
    for label, face in (("random signs", INK), ("positive numbers", "none")):
        handles.append(Line2D([], [], color=INK, marker="o", mfc=face, linestyle="none", markersize=4.5, label=label))
    return handles


def cost_table(name: str, cost: Frame) -> Table:
    """What each order costs, one column per order. cost: `costs` of one place."""
    caption = "Multiply-accumulates of merging a stack's kernels, by order; in brackets: as a multiple of "
    caption += "left_to_right's. Every product of the full convolutions is counted. They follow from the shapes: no "
    caption += "interval."
    return wide_table(name, caption, cost, {"problem": "problem"}, "order", _cost, "order_costs")


def _cost(row: Any) -> Text:
    ratio = "" if row.order == BASELINE else f"[{show.significant(row.cost_ratio)}]"
    return Text(show.count(row.merge_macs), ratio)


def ratio_table(name: str, compared: Frame) -> Table:
    """The result's errors against left_to_right's. compared: `ratios` of one place."""
    labels = {"problem": "problem", "order": "order", "signs": "signs"}
    caption = "Error of the result / error of left_to_right on the same seed, all merged in the dtype itself: below "
    caption += f"1 the order is more accurate. Median over {wording.seeds(compared)}. {wording.TABLE} Grey: the "
    caption += "interval holds 1. The merged kernel's own errors are in the CSV."
    errors = compared[compared["quantity"] == "error"]
    return wide_table(name, caption, errors, labels, "dtype", _ratio, "order_ratios")


def _ratio(row: Any) -> Text:
    text = with_interval(row)
    return Text(text.main, text.detail, "zero" if row.lower <= 1 <= row.upper else "")


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    compared, cost = frames["order_ratios"], frames["order_costs"]
    if not len(compared):
        return None
    caption = "Error of a stack merged in another order / merged from left to right, on the same seed "
    caption += f"({scope.label}), logarithmic: of the result, and of the merged kernel itself. Left of 1 the order "
    caption += "is more accurate. All merge in the dtype itself; of three layers, balanced is right to left. "
    caption += f"{wording.band(compared, 'Line')} Filled: random signs; hollow: positive numbers."
    errors = compared[compared["quantity"] == "error"]
    least, most = (show.significant(errors["median"].agg(end)) for end in ("min", "max"))
    alt = "Dots with intervals on a logarithmic axis, one row per problem, two panels per dtype. Medians lie from "
    alt += f"{least} to {most} for the result."
    name = slug("order", scope.machine, scope.device)
    drawn = plot(f"fig-{name}", caption, alt, "order_ratios", figure(compared))
    tables = (cost_table(f"{name}-costs", cost), ratio_table(name, compared))
    return Content((drawn,), tables, answer(compared, cost), tuple(details(compared)))


def answer(compared: Frame, cost: Frame) -> str:
    """The largest saving, and in how many comparisons the order changes the error."""
    errors = compared[compared["quantity"] == "error"]
    ends = (largest(cost, -cost["cost_ratio"]), largest(cost, cost["cost_ratio"]))
    parts = [f"{show.times(row.cost_ratio)} on {row.problem} ({row.order})" for row in ends]
    text = f"Against left to right, a merge costs from {parts[0]} to {parts[1]} the multiply-accumulates. "
    if errors["lower"].isna().all():
        return f"{text}There are too few seeds to tell errors apart ({wording.counts(errors)})."
    lower, higher = int((errors["upper"] < 1).sum()), int((errors["lower"] > 1).sum())
    text += f"The interval for the ratio of errors lies below 1 in {lower} and above it in {higher} of "
    text += f"{show.plural(len(errors), 'comparison')}; chance alone accounts for up to {round(0.05 * len(errors))} "
    return text + f"({wording.counts(errors)})."


def details(compared: Frame) -> Iterator[str]:
    """The strongest effects on the result and on the kernel."""
    for value, what in (("error", "the result's error"), ("kernel", "the merged kernel's own error")):
        rows = compared[compared["quantity"] == value]
        decided = rows[(rows["upper"] < 1) | (rows["lower"] > 1)]
        if len(decided):
            row = largest(decided, decided["median"].map(lambda ratio: max(ratio, 1 / ratio)))
            yield (
                f"The strongest effect of the order on {what}, of {show.plural(len(rows), 'comparison')}: {row.order}, "
                f"{row.problem}, {row.dtype}, {wording.signs(row.signs)}: {wording.median(row)} times left_to_right's, "
                f"that one's own interval over {wording.seeds_of(row)}."
            )
        elif rows["lower"].notna().any():
            yield f"Of {what} every interval holds 1."


SECTION = experiment_section(
    "order",
    "order",
    "The order of merging",
    frames,
    part,
    files={
        "order_ratios": "Errors of other orders of merging / those of left_to_right on the same seed, over seeds.",
        "order_costs": "What each order of merging costs.",
    },
    columns={
        "order": "the order of merging",
        "merge_macs": "multiply-accumulates of the merge",
        "cost_ratio": "merge_macs / those of left_to_right",
        "kernel_relative_l2": "relative L2 error of the merged kernel",
        "kernel_error_u": "the same in units of u",
    },
)
