"""What figures over seeds share: lines with bands per way and signs, axes with plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame
from analysis.report import wording
from analysis.report.drawing import log_ticks
from analysis.report.style import INK, look, ways_in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TICKS = 5
SHORT_RANGE = 4.0
FINE_RATIOS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5)


def dash(signs: str) -> Any:
    """Solid for random signs, dashed for positive numbers."""
    return "-" if signs == "random" else "--"


def sign_handles(signs: Iterable[str]) -> list[Any]:
    """Entries of a legend."""
    from matplotlib.lines import Line2D

    shown = sorted(set(signs), reverse=True)
    return [Line2D([], [], color=INK, linestyle=dash(s), linewidth=1.2, label=wording.signs(s)) for s in shown]


def lines(panel: Axes, summary: Frame, x: str) -> None:
    """One line per way and signs through the medians, with a band for the interval.

    Ways that are drawn first have larger marks, so that one that another one covers is still seen.
    """
    for place, way in enumerate(ways_in_order(summary["way"])):
        colour, marker = look(way)
        for signs, line in summary[summary["way"] == way].groupby("signs", sort=True):
            line = line.sort_values(x)
            style = {"color": colour, "marker": marker, "markersize": max(2.8, 6 - 1.6 * place), "linewidth": 1.2}
            panel.plot(line[x], line["median"], dash(str(signs)), **style)
            if line["lower"].notna().any():
                panel.fill_between(line[x], line["lower"], line["upper"], color=colour, alpha=0.18, linewidth=0)


def measured_ticks(panel: Axes, values: Iterable[float], labels: dict[float, str] | None = None) -> None:
    """A tick at every measured value of a base-2 logarithmic x axis, or at every second or third of many."""
    from matplotlib.ticker import NullLocator

    panel.set_xscale("log", base=2)
    shown = thinned(sorted(set(values)))
    panel.set_xticks(shown, [(labels or {}).get(value, f"{value:g}") for value in shown])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.tick_params(axis="x", labelbottom=True)
    panel.grid(axis="both")


def thinned(values: Sequence[float]) -> list[float]:
    """Those of the sorted positive values that leave room for a label: the last, and what is far enough below."""
    shown: list[float] = []
    reach = math.log2(values[-1] / values[0])
    for value in reversed(values):
        if not shown or math.log2(shown[-1] / value) >= reach / MOST_TICKS:
            shown.append(value)
    return shown[::-1]


def ends(summary: Frame) -> list[float]:
    """All medians and ends of intervals, for the limits of an axis."""
    return [float(v) for name in ("median", "lower", "upper") for v in summary[name]]


def ratio_ticks(axis: Any, lower: float, upper: float) -> None:
    """Ticks of a logarithmic axis of ratios: plain numbers around 1 where the range is short, else powers of two."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if upper / lower > SHORT_RANGE:
        log_ticks(axis, lower, upper)
        return
    fine = [value for value in FINE_RATIOS if lower <= value <= upper]
    axis.set_major_locator(FixedLocator(fine))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
