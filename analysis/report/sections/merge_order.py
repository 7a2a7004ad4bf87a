"""The experiment `order`: what the order of merging a stack's kernels costs, and what rounding loses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, problems_in_order, usable
from analysis.data.over_seeds import PLACE, SERIES, largest, over_seeds, paired
from analysis.data.study_data import Scope
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import (
    ROW,
    Drawing,
    between,
    ends,
    facets,
    key,
    log_range,
    marks,
    ratio_ticks,
    rows_named,
    styled,
    told,
)
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import BLUE, INK, PLUM, VERMILION
from analysis.report.tables import Table, Text, slug, wide_table, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE = "left_to_right"
ORDERS = {BASELINE: (PLUM, "o"), "right_to_left": (VERMILION, "<"), "balanced": (BLUE, "d")}
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
def figure(compared: Frame) -> Drawing:
    """Error of left_to_right / error per problem and order, of the result and of the merged kernel, a panel each per
    dtype. compared: `ratios` of one place. Random signs are filled, positive numbers hollow.
    """
    dtypes, names = dtypes_in_order(compared["dtype"]), problems_in_order(compared["problem"])
    places = [(dtype, value) for dtype in dtypes for value in TITLES]
    drawing, panels = facets([f"{dtype}: {TITLES[value]}" for dtype, value in places], 1.8 * ROW * len(names))
    for panel, (dtype, value) in zip(panels, places, strict=True):
        column = compared[compared["quantity"] == value]
        _dots(panel, column[column["dtype"] == dtype], names)
        _axes(panel, names, log_range([1 / end for end in ends(column)]))
    drawing.handles += [key(order, *ORDERS[order]) for order in ORDERS if order in set(compared["order"])]
    drawing.handles += [key("random signs", marker="o"), key("positive numbers", marker="o", filled=False)]
    return drawing


def _dots(panel: Axes, rows: Frame, names: list[str]) -> None:
    """One mark and interval per row, slightly apart by order and signs."""
    for row in rows.to_dict("records"):
        random = row["signs"] == "random"
        y = names.index(row["problem"]) + (-0.18 if row["order"] == "right_to_left" else 0.18)
        y += -0.09 if random else 0.09
        row |= {"median": 1 / row["median"], "lower": 1 / row["upper"], "upper": 1 / row["lower"]}
        between(panel, [y], [row["lower"]], [row["upper"]], ORDERS[row["order"]][0])
        place = f"{row['problem']}, {row['dtype']}, {row['order']}"
        title = told(place, wording.signs(row["signs"]), row, "times as accurate")
        marks(panel, [row["median"]], [y], [title], ORDERS[row["order"]], random, 4.6)


def _axes(panel: Axes, names: list[str], limits: tuple[float, float]) -> None:
    rows_named(panel, names)
    panel.set_xscale("log", base=2)
    panel.set_xlim(limits)
    ratio_ticks(panel.xaxis, *limits)
    panel.grid(axis="x")
    panel.axvline(1, color=INK, linewidth=0.9, zorder=1)
    panel.set_xlabel("error, left to right / other order")


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
    caption = "Error of a stack merged from left to right / merged in another order, on the same seed "
    caption += f"({scope.label}), logarithmic: of the result, and of the merged kernel itself. Right of 1 the order "
    caption += "is more accurate. All merge in the dtype itself; of three layers, balanced is right to left. "
    caption += f"{wording.band(compared, 'Line')} Filled: random signs; hollow: positive numbers."
    caption += choosing.other_dtypes(compared)
    errors = choosing.main(compared[compared["quantity"] == "error"])
    least, most = (show.significant(1 / errors["median"].agg(end)) for end in ("max", "min"))
    alt = "Dots with intervals on a logarithmic axis, one row per problem, two panels per dtype. Medians lie from "
    alt += f"{least} to {most} for the result."
    name = slug("order", scope.machine, scope.device)
    drawn = plot(f"fig-{name}", caption, alt, "order_ratios", figure(choosing.main(compared)))
    tables = (cost_table(f"{name}-costs", cost), ratio_table(name, compared))
    return Content((drawn,), tables, answer(compared, cost), tuple(details(compared)))


def answer(compared: Frame, cost: Frame) -> str:
    """The largest saving, and in how many comparisons the order changes the error."""
    errors = distinct(compared[compared["quantity"] == "error"])
    ends = (largest(cost, -cost["cost_ratio"]), largest(cost, cost["cost_ratio"]))
    parts = [f"{show.times(row.cost_ratio)} on {row.problem} ({row.order})" for row in ends]
    text = f"Against left to right, a merge costs from {parts[0]} to {parts[1]} the multiply-accumulates. "
    if errors["lower"].isna().all():
        return f"{text}There are too few seeds to tell errors apart ({wording.counts(errors)})."
    lower, higher = int((errors["upper"] < 1).sum()), int((errors["lower"] > 1).sum())
    text += f"The interval for the ratio of errors lies below 1 in {lower} and above it in {higher} of "
    text += f"{show.plural(len(errors), 'comparison')}; chance alone accounts for up to {round(0.05 * len(errors))} "
    return text + f"({wording.counts(errors)})."


def distinct(rows: Frame) -> Frame:
    """Without balanced orders that are right_to_left's, as of three layers: equal in every digit, they are no second
    comparison.
    """
    return rows.sort_values("order", ascending=False, kind="stable").drop_duplicates(
        [*SERIES, "problem", "median", "lower", "upper"]
    )


def details(compared: Frame) -> Iterator[str]:
    """The strongest effects on the result and on the kernel."""
    for value, what in (("error", "the result's error"), ("kernel", "the merged kernel's own error")):
        rows = distinct(compared[compared["quantity"] == value])
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
