"""The tables of error against depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import formatting as show
from analysis import growth
from analysis.frames import Frame, ordered, ordered_by_dtype
from analysis.precision.unit import PLAIN_CHANNELS
from analysis.style import dtypes_in_order
from analysis.tables import Table, Text, count_of, table

FAMILY = f"Plain 3×3 stacks of {PLAIN_CHANNELS} channels, weights drawn uniformly: other weights have other exponents."
SEEDS = "In brackets: 95 % interval for the median over seeds; none for fewer than 6 seeds."


def _series(several: bool) -> dict[str, Any]:
    """The columns that name a series of the depth experiment; the machine only where there are several."""
    where = {"machine": lambda row: row.machine, "device": lambda row: row.device} if several else {}
    return where | {"dtype": lambda row: row.dtype, "signs": lambda row: row.signs, "way": lambda row: row.way}


def _several(rows: Frame) -> bool:
    return len(rows[["machine", "device"]].drop_duplicates()) > 1


def _with_interval(row: Any) -> Text:
    ends = (row.lower, row.upper)
    return Text(show.number(row.median, *ends), show.interval(row.median, *ends))


def exponents(rows: Frame) -> Table:
    """How fast the error grows with depth, one column per dtype. rows: `growth.exponents`."""
    keys = ["machine", "device", "signs", "way"]
    series = {name: column for name, column in _series(_several(rows)).items() if name != "dtype"}
    shown = {(*_key(row, keys), row.dtype): row for row in rows.itertuples(index=False)}
    columns: dict[str, Any] = dict(series)
    for dtype in dtypes_in_order(rows["dtype"]):
        columns[dtype] = lambda row, dtype=dtype: _exponent(shown.get((*_key(row, keys), dtype)))
    caption = "The exponent e in error ∝ depth^e: least-squares slope of log error against log depth, one per seed; "
    caption += f"their median over {_reach(rows)}. {SEEDS} {FAMILY}"
    distinct = rows[keys].drop_duplicates().assign(dtype="")
    distinct = ordered(distinct).sort_values("signs", ascending=False, kind="stable")
    return table("exponents", caption, distinct, columns, "exponents", range(len(series)))


def _exponent(row: Any) -> Text:
    return Text(show.DASH) if row is None else _with_interval(row)


def _reach(rows: Frame) -> str:
    """As in "8 seeds, depths 1 to 16"; ranges where series differ."""
    least, most = rows["seeds"].min(), rows["seeds"].max()
    seeds = show.plural(most, "seed") if least == most else f"{least} to {most} seeds"
    deepest = sorted(set(rows["most_depth"]))
    depth = str(deepest[0]) if len(deepest) == 1 else f"{deepest[0]}–{deepest[-1]}"
    return f"{seeds}, depths {rows['least_depth'].min()} to {depth}"


def merge_ratios(rows: Frame) -> Table:
    """Error merged / error stacked, one column per depth. rows: `growth.merge_ratios`."""
    several = _several(rows)
    series = _series(several)
    depths = sorted(set(rows["depth"]))
    keys = ["machine", "device", "dtype", "signs", "way"]
    shown = {(*_key(row, keys), row.depth): _with_interval(row) for row in rows.itertuples(index=False)}
    distinct = ordered(rows[keys].drop_duplicates()).sort_values(["signs"], ascending=False, kind="stable")
    distinct = ordered_by_dtype(distinct)
    columns: Mapping[str, Any] = {
        **series,
        **{f"depth {d}": (lambda row, d=d: shown.get((*_key(row, keys), d), Text(show.DASH))) for d in depths},
    }
    caption = (
        "Error merged / error stacked on the same seed, median over seeds: below 1 merging is more accurate, in the "
    )
    caption += (
        "relative L2 error over single outputs, against the exact result of the weights as the dtype has rounded them. "
    )
    return table("merge-ratios", caption + SEEDS, distinct, columns, "merge_ratios", range(len(series)))


def _key(row: Any, names: list[str]) -> tuple[str, ...]:
    return tuple(getattr(row, name) for name in names)


def lost_observations(rows: Frame) -> Frame:
    """The series of the depth experiment in which not every observation is ok."""
    counts = growth.statuses(rows)
    return counts[counts["overflow"] + counts["failed"] > 0]


def precision_statuses(counts: Frame) -> Table:
    """How many observations of a series are ok, overflowed or failed. counts: `lost_observations`."""
    counts = ordered(counts)
    series = _series(_several(counts))
    columns = {**series, **{status: count_of(status) for status in growth.STATUSES}}
    caption = "Series of the depth experiment with observations that are not ok. An overflow: an output is not finite."
    return table("precision-statuses", caption, counts, columns, "precision", range(len(series)))
