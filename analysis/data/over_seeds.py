"""Statistics over seeds. The seed is the unit: what is compared is paired by it, and intervals are over it.

Intervals are distribution-free 95 % intervals for the median from order statistics (`timing.median_interval`); NaN
where there are fewer than 6 seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from analysis.data.frames import Frame, Series
from linear_lasagna.intervals import median_interval

PLACE = ["machine", "device"]
SERIES = [*PLACE, "dtype", "signs"]
DRAWN = ["inputs", "weights", "truth"]  # columns that rows of earlier versions lack
LEAST = 3  # values of x; fewer give no slope worth its name


def interval(values: Series) -> tuple[float, float]:
    """A 95 % interval for the median from order statistics; NaN, NaN for fewer than 6 values."""
    return median_interval([float(value) for value in values]) or (float("nan"), float("nan"))


def over_seeds(frame: Frame, by: Sequence[str], value: str) -> Frame:
    """Median of `value` with its interval (lower, upper), number of seeds and of cells, per combination of `by`.

    Every seed should occur once in a combination: the interval counts rows.
    """
    end: Callable[[int], Callable[[Series], float]] = lambda which: lambda v: interval(v)[which]  # noqa: E731
    grouped = frame.groupby(list(by), sort=True)
    summary = grouped[value].agg(median="median", lower=end(0), upper=end(1))
    counts = grouped["seed"].agg(seeds="nunique", cells="size")
    return summary.join(counts).reset_index()


def paired(frame: Frame, column: str, baseline: str, value: str = "error_u") -> Frame:
    """The rows of which `column` is not the baseline, with ratio: value / the baseline's.

    The partner has the same machine, device, dtype, signs, families, truth, problem and seed; a row without one is left
    out, as is one whose partner is zero.
    """
    keys = [*SERIES, *(name for name in DRAWN if name in frame), "problem", "seed"]
    partners = frame[(frame[column] == baseline) & (frame[value] > 0)]
    partners = partners.drop_duplicates(keys)[[*keys, value]].rename(columns={value: "partner"})
    others = frame[frame[column] != baseline].merge(partners, on=keys)
    return others.assign(ratio=others[value] / others["partner"]).drop(columns="partner")


def slopes(frame: Frame, x: str, by: Sequence[str], value: str = "error_u") -> Frame:
    """Per combination of `by` and seed the least-squares slope of log value against log x; least_, most_: the range
    of x; points: the cells that it rests on. Only positive values, and at least 3 values of x.
    """
    import numpy

    positive = frame[frame[value] > 0]
    log_x, log_y = (numpy.log(positive[name].astype(float)) for name in (x, value))
    terms = positive.assign(_x=log_x, _y=log_y, _xy=log_x * log_y, _xx=log_x**2, _value=positive[x])
    grouped = terms.groupby([*by, "seed"], sort=True)
    fits = grouped["_value"].agg(**{f"least_{x}": "min", f"most_{x}": "max", "points": "size"})
    means = grouped[["_x", "_y", "_xy", "_xx"]].mean()
    enough = grouped["_value"].nunique() >= LEAST
    fits["slope"] = (means["_xy"] - means["_x"] * means["_y"]) / (means["_xx"] - means["_x"] ** 2)
    return fits[enough].reset_index()


def exponents(frame: Frame, x: str, by: Sequence[str]) -> Frame:
    """The median slope over seeds with its interval and the interval's `trend`; the range of x, the number of cells."""
    each = slopes(frame, x, by)
    summary = over_seeds(each, by, "slope").drop(columns="cells")
    grouped = each.groupby(list(by), sort=True)
    ends = {f"{end}_{x}": (f"{end}_{x}", least_or_most) for end, least_or_most in (("least", "min"), ("most", "max"))}
    reach = grouped.agg(**ends, cells=("points", "sum"))
    summary = summary.merge(reach.reset_index(), on=list(by))
    return summary.assign(trend=[trend(*ends) for ends in zip(summary["lower"], summary["upper"], strict=True)])


def trend(lower: float, upper: float) -> str:
    """grows: the whole interval lies above 0; falls: below; none: it holds 0; undecided: there is no interval."""
    if lower != lower or upper != upper:
        return "undecided"
    return "grows" if lower > 0 else "falls" if upper < 0 else "none"


def halves(values: Series) -> tuple[list[float], list[float]]:
    """The distinct values up to the middle one, and from it on; the middle one is in both."""
    distinct = sorted(set(values))
    middle = (len(distinct) - 1) // 2
    return distinct[: middle + 1], distinct[middle:]


def largest(frame: Frame, sizes: Series) -> Any:
    """The row, as a namedtuple, of which the size is largest, the first of several; sizes: aligned with the frame."""
    return next(frame.loc[[sizes.idxmax()]].itertuples(index=False))
