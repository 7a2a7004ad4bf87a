"""Charts of a line's height, as SVG text without any style of their own: the page's classes draw them."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from analysis.report import formatting as show

WIDTH, ROW, LABEL = 268, 17, 130  # of a chart of bars, in its own units
MOST_LABEL = 21  # characters
NARROW, WIDE = 88.0, 1 / 8  # a bar of the table of results: its width, and the least speedup that it shows
LEAST = 1.25  # a chart of ratios reaches at least so far on both sides of 1
Across: TypeAlias = Callable[[float], float]  # where a value lies


class Bar(NamedTuple):
    """A value with its interval, where it has one."""

    label: str
    value: float
    lower: float = math.nan
    upper: float = math.nan


def chart(bars: Sequence[Bar], title: str) -> str:
    """One row per bar: of ratios around 1 on a logarithmic axis, where they have intervals; else lengths from 0."""
    if any(bar.lower == bar.lower for bar in bars):
        return _svg(bars, title, _around_one(bars), 1.0)
    most = max(bar.value for bar in bars) or 1.0
    return _svg(bars, title, lambda value: LABEL + (WIDTH - LABEL - 40) * value / most, 0.0)


def _around_one(bars: Sequence[Bar]) -> Across:
    """Where a ratio lies across."""
    ends = [end for bar in bars for end in bar[1:] if end == end and 0 < end < math.inf]
    low, high = min([*ends, 1 / LEAST]), max([*ends, LEAST])
    scale = (WIDTH - LABEL - 44) / math.log(high / low)
    return lambda value: LABEL + 4 + scale * math.log(min(max(value, low), high) / low)


def _svg(bars: Sequence[Bar], title: str, across: Across, origin: float) -> str:
    height = ROW * len(bars)
    told = "; ".join(f"{bar.label} {_said(bar)}" for bar in bars)
    zero = across(origin)
    rows = "".join(_row(bar, ROW * place + ROW / 2, across, zero) for place, bar in enumerate(bars))
    line = f'<path class="axis" d="M{zero:.1f} 0V{height}"/>'
    label = html.escape(f"{title}: {told}", quote=True)
    return f'<svg class="mini" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {height}">{line}{rows}</svg>'


def _row(bar: Bar, middle: float, across: Across, zero: float) -> str:
    at, number = across(bar.value), _number(bar)
    known = bar.lower == bar.lower
    ends = (across(bar.lower), max(across(bar.upper), across(bar.lower) + 1)) if known else (at, at)
    shape = (
        f'<path class="range" d="M{ends[0]:.1f} {middle}H{ends[1]:.1f}"/>'
        f'<circle class="dot" cx="{at:.1f}" cy="{middle}" r="3.5"/>'
        if known
        else f'<path class="length" d="M{zero:.1f} {middle}H{at:.1f}"/>'
    )
    return (
        f"<g><title>{html.escape(bar.label)}: {_said(bar)}</title>"
        f'<text x="0" y="{middle + 4}">{html.escape(_short(bar.label))}</text>{shape}'
        f'<text class="value" x="{WIDTH}" y="{middle + 4}">{number}</text></g>'
    )


def _short(label: str) -> str:
    return label if len(label) <= MOST_LABEL else f"{label[: MOST_LABEL - 1]}…"


def _number(bar: Bar) -> str:
    known = bar.lower == bar.lower
    return show.number(bar.value, bar.lower, bar.upper) if known else show.significant(bar.value, 2)


def _said(bar: Bar) -> str:
    return f"{bar.value:.3g}" + (f" [{bar.lower:.3g}, {bar.upper:.3g}]" if bar.lower == bar.lower else "")


def interval(lower: float, value: float, upper: float) -> str:
    """The d of a path in 88 × 10: the interval, and a stroke at the value; an arrow where that is beyond an eighth or
    eight times.
    """
    if not WIDE <= value <= 1 / WIDE:
        return "M88 5H80M84 2L88 5L84 8" if value > 1 else "M0 5H8M4 2L0 5L4 8"
    x = [NARROW * (math.log(min(max(v, WIDE), 1 / WIDE)) / math.log(1 / WIDE) + 1) / 2 for v in (lower, value, upper)]
    return f"M{x[0]:.0f} 5H{max(x[2], x[0] + 1):.0f}M{x[1]:.0f} 1V9"
