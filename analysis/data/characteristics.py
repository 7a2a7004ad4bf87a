"""What simulated trials say of the method itself: the committed numbers, and how they are summed up.

`python -m analysis noise --simulated` makes them anew; `analysis.measure.characteristics` says how.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.data.frames import Frame, framed

COMMITTED = Path(__file__).with_suffix(".csv")
METHODS = ("several processes", "one process")
COVERAGE = 0.93  # of intervals of 95 %: less is a failure of the method,
FALSE = 0.05  # as are more false verdicts
SUMMARY = ["noise", "covered", "covered_one", "false", "false_one", "found_2", "found_2_one", "found_5", "found_5_one"]
SUMMARY += ["processes_0", "processes_5", "fails"]


def committed() -> Frame:
    """The committed rows, as `measure.characteristics.rows` makes them."""
    import pandas

    return pandas.read_csv(COMMITTED)


def shares(frame: Frame) -> Frame:
    """The rows with counts as shares: covered of the intervals (NaN for none), everything else of the cells."""
    counts = ["wrong_verdicts", "found", "ties", "undecided_cells", "by_verdict", "by_precise", "by_most"]
    shared = frame[counts].div(frame["cells"], axis="index")
    covered = frame["covered"] / frame["intervals"].where(frame["intervals"] > 0)
    return frame.assign(**shared, covered=covered)


def summary(frame: Frame) -> Frame:
    """One row per noise model: over all true differences the least share of intervals that hold the true ratio, and the
    largest of false verdicts; the share of differences of 2 and 5 % that were found; the mean number of processes where
    calls are equal, and where they differ by 5 %. `_one`: of one process alone. fails: whether coverage is too low or
    false verdicts are too many with several processes.
    """
    return framed([_row(noise, part) for noise, part in shares(frame).groupby("noise", sort=False)], SUMMARY)


def _row(noise: Any, rows: Frame) -> tuple[Any, ...]:
    parts = [rows[rows["method"] == method].set_index("difference") for method in METHODS]
    covered, false = ([end(part) for part in parts] for end in (_least_covered, _most_false))
    found = [part["found"][difference] for difference in (0.02, 0.05) for part in parts]
    processes = parts[0]["processes"]
    fails = bool(covered[0] < COVERAGE or false[0] > FALSE)
    return (noise, *covered, *false, *found, processes[0.0], processes[0.05], fails)


def _least_covered(rows: Frame) -> float:
    return rows["covered"].min()


def _most_false(rows: Frame) -> float:
    return rows["wrong_verdicts"].max()
