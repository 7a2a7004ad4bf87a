"""What all figures share: panels, legends, logarithmic axes with plain numbers on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from analysis.data.frames import Series
from analysis.report.formatting import shortened
from analysis.report.style import RC, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
WIDTH = 10.0  # inches; 960 CSS pixels


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
