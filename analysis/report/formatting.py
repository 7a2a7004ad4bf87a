"""Numbers as text, with no more digits than their interval justifies."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Sequence

from linear_lasagna.plurals import plural

DASH = "–"
MOST_UNBROKEN = 30  # characters
TOO_LONG = re.compile(rf"\S{{{MOST_UNBROKEN + 10},}}")
MOST_DIGITS = 4  # significant digits, whatever the interval


def decimals(value: float, lower: float, upper: float) -> int:
    """Decimals such that half the interval has one significant digit, or two where it begins with 1.

    Three significant digits of the value where there is no interval. Never negative.
    """
    size = math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 0
    half = (upper - lower) / 2
    if not half > 0 or not math.isfinite(half):
        return max(0, 2 - size)
    exponent = math.floor(math.log10(half))
    leading = int(half / 10**exponent)
    wanted = -exponent + (1 if leading == 1 else 0)
    return max(0, min(wanted, MOST_DIGITS - 1 - size))


def signed(text: str) -> str:
    """The text with real minus signs, and without one before a zero."""
    return re.sub(r"-([\d.]+)", lambda match: match[1] if float(match[1]) == 0 else "−" + match[1], text)


def number(value: float, lower: float = math.nan, upper: float = math.nan) -> str:
    """The value alone, rounded as its interval justifies."""
    return DASH if not math.isfinite(value) else signed(f"{value:.{decimals(value, lower, upper)}f}")


def interval(value: float, lower: float, upper: float) -> str:
    """The interval alone, as in "[1.21, 1.26]"; "" where there is none."""
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return ""
    places = decimals(value, lower, upper)
    return signed(f"[{lower:.{places}f}, {upper:.{places}f}]")


def with_interval(value: float, lower: float, upper: float) -> str:
    """As in "1.23 [1.21, 1.26]"; where there is no interval, the value alone."""
    return f"{number(value, lower, upper)} {interval(value, lower, upper)}".strip()


def significant(value: float, digits: int = 3) -> str:
    """Plain decimal notation with so many significant digits; powers of ten beyond 1e-4 and 1e6."""
    if not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -4 <= size <= 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - size)}f}"


def seconds(value: float) -> str:
    """A time with the unit that fits: 12.3 µs, 1.23 ms, 1.23 s."""
    if not math.isfinite(value):
        return DASH
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{significant(value / size)} {unit}"
    return f"{significant(value / 1e-9)} ns"


def count(value: float) -> str:
    """A large number with three significant digits: 36.9 k, 116 M, 2.21 G."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{significant(value / scale)} {unit}"
    return f"{value:.0f}"


def percent(value: float) -> str:
    """A share or a small log ratio, in per cent with two significant digits."""
    return DASH if not math.isfinite(value) else f"{significant(100 * value, 2)} %"


def times(value: float) -> str:
    """A ratio inside a sentence, as in "1.8×"."""
    return f"{significant(value, 2 if value < 10 else 3)}×"


def shortened(name: str, most: int = 40) -> str:
    """The name, or its beginning and its end, where it is too long for a figure."""
    kept = (most - 1) // 2
    return name if len(name) <= most else f"{name[:kept]}…{name[-kept:]}"


def distinctly(names: Sequence[str], most: int = 40) -> list[str]:
    """The names shortened, but no further than that they stay distinct."""
    shorter = ([shortened(name, length) for name in names] for length in itertools.count(most))
    return next(found for found in shorter if len(set(found)) == len(set(names)))


def in_two_lines(names: Sequence[str], most: int) -> list[str]:
    """The names of words that are too long for a line in two, where that is enough; others shortened."""
    lines = [textwrap.wrap(name, most, break_long_words=False, break_on_hyphens=False) for name in names]
    fit = [len(each) <= 2 and max(map(len, each), default=0) <= most for each in lines]
    shorter = distinctly(names, most)
    return ["\n".join(whole) if ok else cut for ok, whole, cut in zip(fit, lines, shorter, strict=True)]


def breakable(text: str) -> str:
    """The text with a place where a line may break in every run of characters that is too long for one."""
    return TOO_LONG.sub(lambda run: "\u200b".join(re.findall(f".{{1,{MOST_UNBROKEN}}}", run[0])), text)


def of_these(count: int, one: str, article: str = "these") -> str:
    """As in "of 1 stack" and "of these 4 stacks"."""
    return f"of {plural(count, one)}" if count == 1 else f"of {article} {plural(count, one)}"
