"""How the error of a stack grows with its depth: precision rows in, tidy frames out.

A row is one observation: a dtype, signs, depth, way and seed with its relative L2 error. The seed is the unit of the
statistics; intervals are distribution-free ones for the median over seeds.
"""

from __future__ import annotations

from collections.abc import Callable

from analysis.frames import Frame, Series, framed
from linear_lasagna.timing import median_interval

STATUSES = ("ok", "overflow", "failed")
SERIES = ["machine", "device", "dtype", "signs", "way"]
NEEDED = ["experiment", *SERIES, "depth", "seed", "status", "relative_l2", "error_u"]
LEAST_DEPTHS = 3  # fewer give no slope worth its name
BASELINE = "direct"


def missing_columns(rows: Frame) -> list[str]:
    """The columns without which nothing can be said."""
    return [name for name in NEEDED if name not in rows.columns]


def observed(rows: Frame) -> Frame:
    """The rows of the depth experiment that have a positive error, in a fixed order."""
    usable = (rows["experiment"] == "depth") & (rows["status"] == "ok") & (rows["relative_l2"] > 0)
    return rows[usable].sort_values([*SERIES, "depth", "seed"]).reset_index(drop=True)


def by_depth(rows: Frame) -> Frame:
    """The median error per series and depth, in units of u, with its interval over seeds."""
    return _summarise(observed(rows), [*SERIES, "depth"], "error_u")


def slopes(rows: Frame) -> Frame:
    """Per series and seed, the least-squares slope of log error against log depth, over at least 3 depths."""
    found = []
    for key, group in observed(rows).groupby([*SERIES, "seed"], sort=True):
        depths = group["depth"].nunique()
        if depths >= LEAST_DEPTHS:
            reach = (int(group["depth"].min()), int(group["depth"].max()))
            found.append((*key, _slope(group), depths, *reach))
    columns = [*SERIES, "seed", "slope", "depths", "least_depth", "most_depth"]
    return framed(found, columns)


def _slope(group: Frame) -> float:
    import numpy

    x = numpy.log(group["depth"].to_numpy(dtype=float))
    y = numpy.log(group["relative_l2"].to_numpy(dtype=float))
    centred = x - x.mean()
    return float((centred * y).sum() / (centred * centred).sum())


def exponents(rows: Frame) -> Frame:
    """The median slope per series with its interval over seeds, and the depths that it rests on."""
    found = slopes(rows)
    summary = _summarise(found, SERIES, "slope")
    reach = found.groupby(SERIES, sort=True).agg(least_depth=("least_depth", "min"), most_depth=("most_depth", "max"))
    return summary.merge(reach.reset_index(), on=SERIES)


def merge_ratios(rows: Frame) -> Frame:
    """Per series of a merged way and depth: its error / that of the unmerged stack on the same seed."""
    keys = ["machine", "device", "dtype", "signs", "depth", "seed"]
    usable = observed(rows)
    stacked = usable[usable["way"] == BASELINE].drop_duplicates(keys)[[*keys, "relative_l2"]]
    stacked = stacked.rename(columns={"relative_l2": "stacked"})
    merged = usable[usable["way"] != BASELINE].merge(stacked, on=keys)
    merged = merged.assign(ratio=merged["relative_l2"] / merged["stacked"])
    return _summarise(merged, [*SERIES, "depth"], "ratio")


def statuses(rows: Frame) -> Frame:
    """How many rows of each series are ok, overflowed or failed."""
    depth = rows[rows["experiment"] == "depth"]
    counts = depth.groupby([*SERIES, "status"], sort=True).size().unstack("status", fill_value=0)
    return counts.reindex(columns=list(STATUSES), fill_value=0).reset_index().rename_axis(columns=None)


def _summarise(frame: Frame, by: list[str], value: str) -> Frame:
    """Median, interval and number of seeds of `value`, one row per combination of the columns `by`."""
    end: Callable[[int], Callable[[Series], float]] = lambda which: lambda v: interval(v)[which]  # noqa: E731
    grouped = frame.groupby(by, sort=True)
    summary = grouped[value].agg(median="median", lower=end(0), upper=end(1))
    return summary.join(grouped["seed"].nunique().rename("seeds")).reset_index()


def interval(values: Series) -> tuple[float, float]:
    """A 95 % interval for the median from order statistics; NaN, NaN for fewer than 6 values."""
    return median_interval([float(value) for value in values]) or (float("nan"), float("nan"))
