"""Types for annotations. pandas' own make a union of every selection, so a frame is Any to the type checker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

Frame: TypeAlias = Any  # pandas.DataFrame
Series: TypeAlias = Any  # pandas.Series


def framed(rows: Iterable[Any], columns: list[str]) -> Frame:
    """A DataFrame with these columns, also where there are no rows."""
    import pandas

    return pandas.DataFrame(list(rows), columns=columns)
