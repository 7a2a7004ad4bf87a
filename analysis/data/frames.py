"""Frames: the type for annotations, the order of rows, and which rows can be used.

pandas' own annotations make a union of every selection, so a frame is Any to the type checker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from analysis.precision import EXPERIMENTS
from linear_lasagna.catalog import CATALOG
from linear_lasagna.vocabulary import DTYPES, way_order

Frame: TypeAlias = Any  # pandas.DataFrame
Series: TypeAlias = Any  # pandas.Series

ORDER = ["experiment", "machine", "device", "dtype", "signs", "problem", "depth", "fan_in", "gain", "way"]
ORDER += ["part", "order", "property", "switches", "remedy", "perturbation", "setting", "format", "seed"]
FIRST = ["experiment", "problem", "machine", "device", "dtype", "signs", "depth", "fan_in", "gain", "seed", "way"]
SAME_EVERYWHERE = ["code", "version", "torch", "worker", "elapsed_s"]  # of the computation, not of the observation


def framed(rows: Iterable[Any], columns: list[str]) -> Frame:
    """A DataFrame with these columns, also where there are no rows."""
    import pandas

    return pandas.DataFrame(list(rows), columns=columns)


def ways_in_order(ways: Iterable[str]) -> list[str]:
    """By schedule, then by method, in the vocabulary's order; others after them by name."""
    return sorted(set(ways), key=way_order)


def dtypes_in_order(dtypes: Iterable[str]) -> list[str]:
    """From the narrowest to the widest."""
    return sorted(set(dtypes), key=lambda dtype: (DTYPES.index(dtype) if dtype in DTYPES else 9, dtype))


def problems_in_order(problems: Iterable[str]) -> list[str]:
    """The catalogue's order first, other problems after them by name."""
    known = {name: place for place, name in enumerate(CATALOG)}
    return sorted(set(problems), key=lambda name: (known.get(name, len(known)), name))


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


def in_fixed_order(rows: Frame) -> Frame:
    """The rows sorted by what they are about, so that sums over them have the same bits whatever order they came in."""
    return rows.sort_values([name for name in ORDER if name in rows.columns], kind="stable", ignore_index=True)


def whole(rows: Frame) -> Frame:
    """The rows with all columns that their experiments have: those of failures alone may lack some."""
    present = set(rows["experiment"])
    wanted = [column for name in EXPERIMENTS if name in present for column in EXPERIMENTS[name].columns]
    return rows.reindex(columns=list(dict.fromkeys([*rows.columns, *wanted])))


def usable(rows: Frame) -> Frame:
    """The rows that gave a finite error, which may be zero."""
    return rows[(rows["status"] == "ok") & (rows["error_u"] >= 0)]


def raw(rows: Frame) -> Frame:
    """The observations of one experiment, fit for a CSV: without columns that are empty, in the suite's order."""
    kept = rows.dropna(axis="columns", how="all").drop(columns=SAME_EVERYWHERE, errors="ignore")
    kept = kept.rename(columns={"property": "identity"})
    first = [name for name in FIRST if name in kept]
    others = [name for name in kept.columns if name not in first]
    by = [name for name in ("problem", "signs", "gain", "inputs", "weights", "truth", "format", "seed") if name in kept]
    return ordered(kept[[*first, *others]].sort_values(by, kind="stable")).reset_index(drop=True)
