"""What was measured, from the disk: trial records, or asv's own result files, and precision rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from linear_lasagna.plurals import plural

if TYPE_CHECKING:
    import pandas

    from analysis.data.records import Records


def load_records(folder: Path) -> Records:
    """Trial records below the folder; where there is none, what asv's own result files hold."""
    from analysis.data import asv_results, records

    loaded = records.load(folder)
    if len(loaded) or not any(folder.glob("**/machine.json")):
        return loaded
    return asv_results.load(folder)


def load_rows(store: Path) -> pandas.DataFrame | None:
    """The precision rows, or None where nothing has been stored."""
    from analysis.data.store import read, spoilt

    if not store.exists():
        return None
    rows = read(store)
    if lost := spoilt(store):
        rows_of = plural(lost, "unit")
        print(f"{store}: the rows of {rows_of} cannot be read; the next study computes them again", file=sys.stderr)
    return rows if len(rows) else None
