"""The most of several comparisons, said as what it is: picked for its size, with an interval that is its own alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, problems_in_order
from analysis.report import formatting as show
from linear_lasagna.intervals import VERDICTS


def short(problem: str) -> str:
    """The problem's name without its group."""
    return problem.rpartition("/")[2]


def by_verdict(rows: Frame) -> Iterator[str]:
    """As in "faster on 2 (plain_x2, sesr_x1)", for every verdict that fell."""
    for verdict in VERDICTS:
        names = [short(name) for name in problems_in_order(rows.loc[rows["verdict"] == verdict, "problem"])]
        if names:
            yield f"{'a tie' if verdict == 'tie' else verdict} on {len(names)} ({', '.join(names)})"


def speedup(row: Any) -> str:
    """A row's speedup with its interval, from its ratio."""
    return factor(row, "faster")


def factor(row: Any, verdict: str) -> str:
    """How many times as fast, or as slow, with its interval."""
    values = [row[name] for name in ("ratio", "ratio_lower", "ratio_upper")]
    if verdict == "faster":
        values = [1 / values[0], 1 / values[2], 1 / values[1]]
    return f"{show.number(*values)}× {show.interval(*values)}".strip()


def most(rows: Frame, verdict: str) -> str:
    """The largest difference with the verdict "faster" or "slower", and of how many; "" where none has it."""
    of_verdict = rows[rows["verdict"] == verdict]
    if not len(of_verdict):
        return ""
    row = of_verdict.loc[of_verdict["ratio"].idxmin() if verdict == "faster" else of_verdict["ratio"].idxmax()]
    size, interval = factor(row, verdict).split(" ", 1)
    text = f"{short(row['problem'])} {size} {verdict}"
    return f"{text} {interval}" if len(rows) == 1 else f"{text}, the most of {len(rows)}, its own interval {interval}"
