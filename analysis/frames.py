"""Frames: the type for annotations, and the order of rows.

pandas' own annotations make a union of every selection, so a frame is Any to the type checker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from analysis.style import dtypes_in_order, ways_in_order

Frame: TypeAlias = Any  # pandas.DataFrame
Series: TypeAlias = Any  # pandas.Series


def framed(rows: Iterable[Any], columns: list[str]) -> Frame:
    """A DataFrame with these columns, also where there are no rows."""
    import pandas

    return pandas.DataFrame(list(rows), columns=columns)


def ordered(rows: Frame) -> Frame:
    """By dtype and way in the suite's order."""
    ways = {way: place for place, way in enumerate(ways_in_order(rows["way"]))}
    dtypes = {dtype: place for place, dtype in enumerate(dtypes_in_order(rows["dtype"]))}
    keys = rows.assign(_dtype=rows["dtype"].map(dtypes), _way=rows["way"].map(ways))
    by = [name for name in ("group", "machine", "device") if name in rows]
    return keys.sort_values([*by, "_dtype", "_way"], kind="stable").drop(columns=["_dtype", "_way"])


def ordered_by_dtype(rows: Frame) -> Frame:
    """By dtype, the rest as it was."""
    place = {dtype: i for i, dtype in enumerate(dtypes_in_order(rows["dtype"]))}
    return rows.assign(_place=rows["dtype"].map(place)).sort_values("_place", kind="stable").drop(columns="_place")
