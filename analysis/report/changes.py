"""Changes between two measurements, as a table for the terminal."""

from __future__ import annotations

import math
import sys
from typing import Any

from analysis.data.comparison import SIDES, UNTIMED, kind_of, regressions
from analysis.data.frames import Frame
from analysis.report import formatting as show

MOST = 20  # rows
WIDTH = 150  # characters, where no terminal says
INTERVAL = ("ratio", "ratio_lower", "ratio_upper")


def changed(frame: Frame) -> Frame:
    """The rows in which something changed by verdict, or in accuracy, the largest change first. frame: `compared`."""
    told = frame["verdict"].isin(["faster", "slower", "lost", UNTIMED])
    rows = frame[told | frame["accuracy"].isin(["more accurate", "less accurate"])]
    sizes = rows["change"].map(lambda change: abs(math.log(change)) if change > 0 else math.inf)
    return rows.loc[sizes.sort_values(ascending=False, kind="stable").index]


def print_changes(frame: Frame) -> None:
    """The largest changes as a table on stdout, what became worse in bold; nothing where nothing changed."""
    from rich.console import Console
    from rich.table import Table

    rows, worse = changed(frame), set(regressions(frame).index)
    if not len(rows):
        return
    several = ["machine"] if frame["machine"].nunique() > 1 else []
    kinds = [f"{side} {kind_of(frame, side)}" for side in SIDES]
    table = Table(title=f"Time against the baseline's: {kinds[0]}; {kinds[1]}; and the change")
    for heading in (*several, "problem", "dtype", "way", "before", "after", "change", ""):
        table.add_column(heading, justify="right" if heading in ("before", "after", "change") else "left")
    for index, row in list(rows.iterrows())[:MOST]:
        cells = [*(row[name] for name in (*several, "problem", "dtype", "way")), *_times(row), _said(row)]
        table.add_row(*cells, style="bold" if index in worse else "")
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    if len(rows) > MOST:
        print(f"and {show.plural(len(rows) - MOST, 'more change')}")


def _times(row: Any) -> list[str]:
    times = [show.with_interval(*(row[f"{name}_{side}"] for name in INTERVAL)) for side in SIDES]
    return [*times, show.with_interval(row["change"], row["change_lower"], row["change_upper"])]


def _said(row: Any) -> str:
    """The verdict, and the errors where they are others."""
    parts = ["baseline" if row["baseline"] else "", row["verdict"]]
    if row["accuracy"] not in ("", "same"):
        errors = " → ".join(show.significant(row[f"error_u_{side}"]) for side in SIDES)
        parts.append(f"{row['accuracy']}: {errors} u")
    return ", ".join(part for part in parts if part)
