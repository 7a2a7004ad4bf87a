"""The figures of error against depth: a tidy frame in, a matplotlib Figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis import growth
from analysis.drawing import decimal_ticks, facets, legend, log_range, log_ticks, styled
from analysis.frames import Frame, Series
from analysis.style import INK, dtypes_in_order, look, ways_in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def error_by_depth(rows: Frame) -> Figure:
    """Median error against depth with its interval over seeds, one panel per dtype. rows: precision rows."""
    rows = growth.observed(rows)
    dtypes, ways = dtypes_in_order(rows["dtype"]), ways_in_order(rows["way"])
    figure, panels = facets(dtypes, 3.0, sharex=True)
    for panel, dtype in zip(panels, dtypes, strict=True):
        _lines(panel, rows[rows["dtype"] == dtype], "error_u", ways)
        _square_root(panel)
        panel.set_ylabel("relative L2 error (u)")
    legend(figure, ways, _sign_handles(rows["signs"]))
    return figure


@styled
def merge_ratio_by_depth(ratios: Frame) -> Figure:
    """Error merged / error unmerged against depth, one panel per dtype. ratios: `growth.merge_ratios`."""
    dtypes, ways = dtypes_in_order(ratios["dtype"]), ways_in_order(ratios["way"])
    figure, panels = facets(dtypes, 2.7, sharex=True)
    for panel, dtype in zip(panels, dtypes, strict=True):
        here = ratios[ratios["dtype"] == dtype]
        for (way, signs), line in here.groupby(["way", "signs"], sort=True):
            colour, marker = look(str(way))
            dash = _dash(str(signs))
            line = line.sort_values("depth")
            panel.plot(line["depth"], line["median"], dash, color=colour, marker=marker, markersize=4, linewidth=1.2)
            panel.fill_between(line["depth"], line["lower"], line["upper"], color=colour, alpha=0.18, linewidth=0)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.axhline(1, color=INK, linewidth=0.9)
        limits = log_range(ratios["median"])
        log_ticks(panel.yaxis, *limits)
        panel.set_ylim(limits)
        _depth_axis(panel, here["depth"])
        panel.set_ylabel("error merged / stacked")
    legend(figure, ways, _sign_handles(ratios["signs"]))
    return figure


def _dash(signs: str) -> Any:
    return "-" if signs == "random" else "--"


def _lines(panel: Axes, rows: Frame, value: str, ways: Sequence[str]) -> None:
    """One line per way and signs through the medians over seeds, with a band for the interval."""
    import seaborn

    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    present = [way for way in ways if way in set(rows["way"])]
    for signs, some in rows.groupby("signs", sort=True):
        seaborn.lineplot(
            some,
            x="depth",
            y=value,
            hue="way",
            hue_order=present,
            palette={way: look(way)[0] for way in present},
            estimator="median",
            errorbar=growth.interval,
            err_kws={"linewidth": 0, "alpha": 0.18},
            linestyle=_dash(str(signs)),
            linewidth=1.2,
            legend=False,
            ax=panel,
        )
    for (way, _), line in rows.groupby(["way", "signs"], sort=True):
        medians = line.groupby("depth")[value].median()
        colour, marker = look(str(way))
        panel.plot(medians.index, medians.to_numpy(), marker, color=colour, markersize=4)
    _depth_axis(panel, rows["depth"])
    decimal_ticks(panel.yaxis)


def _depth_axis(panel: Axes, depths: Series) -> None:
    from matplotlib.ticker import NullLocator

    shown = sorted(set(depths))
    if len(shown) > 9:
        shown = [depth for depth in shown if math.log2(depth).is_integer()] or shown
    panel.set_xticks(shown, [f"{depth:g}" for depth in shown])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.tick_params(axis="x", labelbottom=True)
    panel.grid(axis="both")
    panel.set_xlabel("depth (layers)")


def _square_root(panel: Axes) -> None:
    """A guide in proportion to the square root of the depth, through the lower left of the panel."""
    left, right = panel.get_xlim()
    bottom, top = panel.get_ylim()
    start = bottom * (top / bottom) ** 0.04
    panel.plot([left, right], [start, start * math.sqrt(right / left)], ":", color=INK, linewidth=0.9)
    panel.annotate("∝ √depth", (right, start * math.sqrt(right / left)), ha="right", va="top", fontsize=7.5)
    panel.set_xlim(left, right)
    panel.set_ylim(bottom, top)


def _sign_handles(signs: Series) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=INK, linestyle=_dash(s), linewidth=1.2, label=f"{s} signs") for s in sorted(set(signs))
    ]
