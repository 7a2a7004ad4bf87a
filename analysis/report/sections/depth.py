"""The experiment `depth`: how the error of a stack grows with its depth, and what merging does to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, ordered, ways_in_order
from analysis.data.over_seeds import SERIES, exponents, over_seeds, paired, slopes
from analysis.data.study_data import Scope, StudyData
from analysis.precision.unit import PLAIN_CHANNELS
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import (
    Drawing,
    decimal_ticks,
    facets,
    key,
    legend,
    lines,
    log_range,
    measured_ticks,
    ratio_ticks,
    sign_handles,
    styled,
)
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import INK, looks
from analysis.report.tables import Table, count_of, slug, table, wide_table, with_interval
from linear_lasagna.vocabulary import BASELINE, MERGED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEYS = [*SERIES, "way"]
DEPTH = 8  # the depth that is spoken of, where it was measured; else the largest
STATUSES = ("ok", "overflow", "failed")
FAMILY = f"Plain 3×3 stacks of {PLAIN_CHANNELS} channels, weights drawn uniformly: other weights have other exponents."
REFERENCE = (
    "relative L2 error over single outputs, against the exact result of the weights as the dtype has rounded them"
)


def observed(rows: Frame) -> Frame:
    """The rows that have a positive error."""
    return rows[(rows["experiment"] == "depth") & (rows["status"] == "ok") & (rows["relative_l2"] > 0)]


def by_depth(rows: Frame) -> Frame:
    """The median error per series and depth, in units of u, with its interval over seeds."""
    return over_seeds(observed(rows), [*KEYS, "depth"], "error_u")


def growths(rows: Frame) -> Frame:
    """The exponent e in error ∝ depth^e per series: the median slope over seeds with its interval."""
    return exponents(observed(rows), "depth", KEYS)


def each_slope(rows: Frame) -> Frame:
    """Per series and seed, the least-squares slope of log error against log depth, over at least 3 depths."""
    fits = slopes(observed(rows), "depth", KEYS).rename(columns={"points": "depths"})
    return fits[[*KEYS, "seed", "slope", "depths", "least_depth", "most_depth"]]


def merge_ratios(rows: Frame) -> Frame:
    """Per series of a merged way and depth: its error / that of the unmerged stack on the same seed."""
    return over_seeds(paired(observed(rows), "way", BASELINE), [*KEYS, "depth"], "ratio")


def statuses(rows: Frame) -> Frame:
    """How many rows of each series are ok, overflowed or failed."""
    counts = rows.groupby([*KEYS, "status"], sort=True).size().unstack("status", fill_value=0)
    return counts.reindex(columns=list(STATUSES), fill_value=0).reset_index().rename_axis(columns=None)


def frames(rows: Frame) -> Frames:
    """depth: errors; slopes, exponents: their growth; merge_ratios: error merged / stacked."""
    return {
        "depth": by_depth(rows),
        "slopes": each_slope(rows),
        "exponents": growths(rows),
        "merge_ratios": merge_ratios(rows),
    }


@styled
def error_figure(summary: Frame) -> Drawing:
    """Median error against depth with its interval over seeds, one panel per dtype. summary: `by_depth`."""
    summary = choosing.shown(summary)
    dtypes, known = dtypes_in_order(summary["dtype"]), looks(summary["way"])
    drawing, panels = facets(dtypes)
    for panel, dtype in zip(panels, dtypes, strict=True):
        of_dtype = summary[summary["dtype"] == dtype]
        lines(panel, of_dtype, "depth", known, "u")
        measured_ticks(panel, of_dtype["depth"])
        panel.set_yscale("log")
        decimal_ticks(panel.yaxis)
        _square_root(panel)
        panel.set(xlabel="depth (layers)", ylabel="relative L2 error (u)")
    extra = [*sign_handles(summary["signs"]), key("in proportion to √depth", line=":")]
    legend(drawing, ways_in_order(summary["way"]), extra, known)
    return drawing


@styled
def ratio_figure(ratios: Frame) -> Drawing:
    """Error merged / error unmerged against depth, one panel per dtype. ratios: `merge_ratios`."""
    ratios = choosing.shown(ratios)
    dtypes, limits = dtypes_in_order(ratios["dtype"]), log_range(ratios["median"])
    drawing, panels = facets(dtypes)
    known = looks(ratios["way"])
    for panel, dtype in zip(panels, dtypes, strict=True):
        of_dtype = ratios[ratios["dtype"] == dtype]
        lines(panel, of_dtype, "depth", known)
        measured_ticks(panel, of_dtype["depth"])
        panel.set_yscale("log", base=2)
        panel.set_ylim(limits)
        ratio_ticks(panel.yaxis, *limits)
        panel.axhline(1, color=INK, linewidth=0.9, zorder=1)
        panel.set(xlabel="depth (layers)", ylabel="error merged / stacked")
    legend(drawing, ways_in_order(ratios["way"]), sign_handles(ratios["signs"]), known)
    return drawing


def _square_root(panel: Axes) -> None:
    """A guide in proportion to the square root of the depth, through the lower left of the panel."""
    left, right = panel.get_xlim()
    bottom, top = panel.get_ylim()
    start = bottom * (top / bottom) ** 0.04
    panel.plot([left, right], [start, start * math.sqrt(right / left)], ":", color=INK, linewidth=0.9, zorder=1)
    panel.set_xlim(left, right)
    panel.set_ylim(bottom, top)


def exponent_table(fits: Frame) -> Table:
    """How fast the error grows with depth, one column per dtype. fits: `growths` of one scope."""
    caption = "The exponent e in error ∝ depth^e: least-squares slope of log error against log depth, one per seed; "
    caption += f"their median over {_reach(fits)}. {wording.TABLE} {FAMILY}"
    return wide_table("exponents", caption, fits, {"signs": "signs", "way": "way"}, "dtype", with_interval, "exponents")


def _reach(fits: Frame) -> str:
    """As in "8 seeds, depths 1 to 16"; ranges where series differ."""
    return f"{wording.seeds(fits)}, {wording.depths(fits)}"


def ratio_table(ratios: Frame) -> Table:
    """Error merged / error stacked, one column per depth. ratios: `merge_ratios` of one scope."""
    caption = "Error merged / error stacked on the same seed, median over seeds, by depth: below 1 merging is more "
    caption += f"accurate, in the {REFERENCE}. {wording.TABLE}"
    labels = {"dtype": "dtype", "signs": "signs", "way": "way"}
    return wide_table(
        "merge-ratios", caption, ratios, labels, "depth", with_interval, "merge_ratios", "depth {}".format
    )


def status_table(counts: Frame) -> Table:
    """How many observations of a series are ok, overflowed or failed. counts: `statuses` of one scope."""
    columns: dict[str, Any] = {name: (lambda row, name=name: getattr(row, name)) for name in ("dtype", "signs", "way")}
    columns |= {status: count_of(status) for status in STATUSES}
    caption = "Series of the depth experiment with observations that are not ok. An overflow: an output is not finite."
    return table("precision-statuses", caption, ordered(counts), columns, "precision", range(3))


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    summary, fits, ratios = frames["depth"], frames["exponents"], frames["merge_ratios"]
    if not len(summary):
        return None
    plots = [_error_plot(scope, summary)] + ([_ratio_plot(scope, ratios)] if len(ratios) else [])
    tables = ([exponent_table(fits)] if len(fits) else []) + ([ratio_table(ratios)] if len(ratios) else [])
    counts = statuses(rows)
    lost = counts[counts["overflow"] + counts["failed"] > 0]
    tables += [status_table(lost)] if len(lost) else []
    return Content(tuple(plots), tuple(tables))


def _error_plot(scope: Scope, summary: Frame) -> Any:
    drawn = choosing.shown(summary)
    worst = drawn.loc[drawn["median"].idxmax()]
    caption = f"Relative L2 error in units of u against depth ({scope.label}), both axes logarithmic. "
    caption += f"{wording.band(summary)}{choosing.others(summary)}"
    alt = "Lines on two logarithmic axes, one panel per dtype. The largest median error is "
    alt += f"{show.significant(worst['median'])} u, {worst['way']}, {worst['dtype']}, {worst['signs']} signs, "
    alt += f"at depth {worst['depth']}."
    name = slug("fig-depth", scope.machine, scope.device)
    return plot(name, caption, alt, "depth", error_figure(summary))


def _ratio_plot(scope: Scope, ratios: Frame) -> Any:
    drawn = choosing.shown(ratios)["median"]
    least, most = (show.significant(drawn.agg(end)) for end in ("min", "max"))
    caption = f"Error merged / error stacked on the same seed, against depth ({scope.label}). Below 1 the merged stack "
    caption += f"is more accurate. {wording.band(ratios)}{choosing.others(ratios)}"
    alt = f"Lines on two logarithmic axes, one panel per dtype. The median ratios lie between {least} and {most}."
    name = slug("fig-merge-ratio", scope.machine, scope.device)
    return plot(name, caption, alt, "merge_ratios", ratio_figure(ratios))


def growth_headline(data: StudyData, frames: Frames) -> str:
    """How fast the error of the unmerged stack grows with depth."""
    fits = frames["exponents"]
    fits = fits[fits["way"] == BASELINE]
    random, positive = (fits[fits["signs"] == signs] for signs in ("random", "positive"))
    parts = []
    if len(random):
        parts.append(f"for numbers of random sign e is {wording.by_dtype(random, wording.median)}")
    if len(positive):
        ends = [show.signed(f"{positive['median'].agg(end):.2f}") for end in ("min", "max")]
        parts.append(f"for positive numbers it lies between {' and '.join(ends)}")
    if not parts:
        return ""
    reach = f"depths {fits['least_depth'].min()} to {fits['most_depth'].max()}, {wording.seeds(fits)}"
    text = f"The error of a plain stack of 3×3 layers with {PLAIN_CHANNELS} channels and weights drawn uniformly, "
    text += f"computed layer by layer (`{BASELINE}`), grows as depth^e: {'; '.join(parts)} ({reach}, "
    intervals = "over which the intervals are" if fits["lower"].notna().any() else "too few for an interval"
    return f"{text}{intervals}). Other weights have other exponents."


def merging_headline(data: StudyData, frames: Frames) -> str:
    """What merging does to the error, at depth 8 where it was measured."""
    ratios = frames["merge_ratios"]
    ratios = ratios[(ratios["way"] == MERGED) & (ratios["signs"] == "random") & (ratios["depth"] > 1)]
    if not len(ratios):
        return ""
    depth = DEPTH if DEPTH in set(ratios["depth"]) else int(ratios["depth"].max())
    at_depth = ratios[ratios["depth"] == depth]
    text = f"At depth {depth}, merging in float64 (`{MERGED}`) multiplies the error by "
    text += f"{wording.by_dtype(at_depth, wording.median)}. That is the {REFERENCE} ({PLAIN_CHANNELS} channels, random "
    return f"{text}signs, {wording.seeds(at_depth)}); averages over outputs, or another reference, compare otherwise."


SECTION = experiment_section(
    "depth",
    "depth",
    "Error by depth",
    frames,
    part,
    observations="precision",
    headlines={"Error by depth": growth_headline, "Error of merging": merging_headline},
    files={
        "depth": "The error by depth, over seeds.",
        "slopes": "The growth exponent of each seed.",
        "exponents": "The growth exponents, over seeds.",
        "merge_ratios": "Error merged / error stacked by depth, over seeds.",
    },
    columns={
        "depths": "distinct depths that the slope rests on",
        "least_depth": "the least of them",
        "most_depth": "the largest of them",
    },
)
