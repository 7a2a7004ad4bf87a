"""The break-even map: a tidy frame in, a matplotlib Figure out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analysis.drawing import facets, styled
from analysis.frames import Frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = {"color": "#15181c", "linewidth": 1.6}  # with its halo it is seen on every cell and on every page
LEAST_RANGE = 1.0  # of log2(ratio): colours never stand for less than a factor of two


@styled
def break_even(frame: Frame) -> Figure:
    """Time merged / time stacked over C and C_mid, one panel per kernel. frame: `planned.pairs` of one dtype.

    The line is where both take equally many multiply-accumulates: above it merging saves some.
    """
    kernels = sorted(set(frame["kernel"]))
    figure, panels = facets([f"{k}×{k}" for k in kernels], 4.4)
    most = max(LEAST_RANGE, max(abs(math.log2(ratio)) for ratio in frame["ratio"]))
    for panel, kernel in zip(panels, kernels, strict=True):
        _map(panel, frame[frame["kernel"] == kernel], most)
    _colours(figure, panels, most)
    return figure


def _doublings(values: Any) -> list[int]:
    """The least value, and its doublings up to the largest."""
    steps = round(math.log2(max(values) / min(values)))
    return [int(min(values)) * 2**step for step in range(steps + 1)]


def _map(panel: Axes, rows: Frame, most: float) -> None:
    import numpy
    import seaborn

    outer, middle = _doublings(rows["outer"]), _doublings(rows["middle"])[::-1]
    ratios = rows.pivot(index="middle", columns="outer", values="ratio").reindex(index=middle, columns=outer)
    seaborn.heatmap(
        numpy.log2(ratios),
        annot=ratios,
        fmt=".2g",
        cmap="vlag",
        vmin=-most,
        vmax=most,
        cbar=False,
        linewidths=0.5,
        annot_kws={"size": 8},
        ax=panel,
    )
    _theory(panel, rows, outer, middle)
    panel.tick_params(length=0)
    panel.tick_params(axis="y", rotation=0)
    panel.set(xlabel="C, channels of input and output", ylabel="C_mid, channels between")


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3.4, foreground="white")]


def _theory(panel: Axes, rows: Frame, outer: list[int], middle: list[int]) -> None:
    """The break-even by operation count; both axes are logarithmic, one cell a doubling."""
    thresholds = rows.drop_duplicates("outer").set_index("outer")["break_even_middle"]
    places = [0.0, *(outer.index(c) + 0.5 for c in thresholds.index), float(len(outer))]
    places = sorted(places)
    logs = [math.log2(thresholds[c]) for c in sorted(thresholds.index)]
    logs = [logs[0] - 0.5, *logs, logs[-1] + 0.5]  # in proportion to C, to the edges of the outer cells
    heights = [len(middle) - 0.5 - (log - math.log2(min(middle))) for log in logs]
    panel.plot(places, heights, path_effects=_halo(), **LINE)
    panel.set_xlim(0, len(outer))
    panel.set_ylim(len(middle), 0)


def _colours(figure: Figure, panels: list[Axes], most: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter
    from seaborn import color_palette

    colours = ScalarMappable(Normalize(-most, most), color_palette("vlag", as_cmap=True))
    bar = figure.colorbar(colours, ax=panels, fraction=0.04, pad=0.02)
    step = max(1, math.ceil(most / 3))
    whole = range(-int(most), int(most) + 1)
    bar.ax.yaxis.set_major_locator(FixedLocator([e for e in whole if e % step == 0]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{2.0**e:g}" if e >= 0 else f"1/{2.0**-e:g}"))
    bar.set_label("time merged / time stacked")
    bar.outline.set_visible(False)  # type: ignore[operator]
    line = Line2D([], [], path_effects=_halo(), label="equally many multiply-accumulates", **LINE)
    figure.legend(handles=[line], loc="outside upper left", borderaxespad=0.2)
