"""What all figures share: panels, legends, logarithmic axes with plain numbers on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from analysis.data.frames import Frame, Series, ways_in_order
from analysis.report import wording
from analysis.report.formatting import shortened
from analysis.report.style import INK, RC, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
WIDTH = 10.0  # inches; 960 CSS pixels
MOST_TICKS = 5
SHORT_RANGE = 4.0
FINE_RATIOS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw with the suite's settings, without changing anybody else's."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib

        settings: Any = RC
        with matplotlib.rc_context(settings):
            return draw(*args, **kwargs)

    return styled


def facets(names: Sequence[str], height: float, columns: int = 2, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure with one titled panel per name, at most `columns` beside each other."""
    from matplotlib.figure import Figure

    columns = min(columns, max(1, len(names)))
    rows = math.ceil(len(names) / columns) or 1
    figure = Figure(figsize=(WIDTH, rows * height + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **shared)
    panels = list(grid.flat)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, names, strict=False):
        panel.set_title(shortened(name))
    return figure, panels[: len(names)]


def legend(figure: Figure, ways: Iterable[str], extra: Sequence[Any] = ()) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for way in ways:
        colour, marker = look(way)
        handles.append(Line2D([], [], color=colour, marker=marker, linewidth=1.2, markersize=5, label=way))
    handles += list(extra)
    figure.legend(handles=handles, loc="outside upper left", ncols=min(5, max(1, len(handles))), borderaxespad=0.2)


def log_ticks(axis: Any, lower: float, upper: float) -> None:
    """Powers of two as plain numbers, at most eight; 1 is always among them."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    first, last = math.floor(math.log2(lower)), math.ceil(math.log2(upper))
    step = max(1, math.ceil((last - first) / 7))
    exponents = [e for e in range(first, last + 1) if e % step == 0]
    axis.set_major_locator(FixedLocator([2.0**e for e in exponents]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power_of_two(value)))


def _power_of_two(value: float) -> str:
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"


def log_range(values: Series, least: float = 1.15) -> tuple[float, float]:
    """A range around finite positive values that holds 1 and `least` on both sides of it, with some room."""
    finite = [float(v) for v in values if math.isfinite(v) and v > 0]
    lower, upper = min([*finite, 1 / least]), max([*finite, least])
    room = (upper / lower) ** 0.03
    return lower / room, upper * room


def decimal_ticks(axis: Any) -> None:
    """1, 2, 5 of every decade as plain numbers where the range is short, else the decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    lower, upper = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if upper / lower < 2000 else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


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
