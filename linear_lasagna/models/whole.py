"""The whole model, given and merged: both timed together, in this process and in fresh ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch import nn

from linear_lasagna.intervals import LEAST_PROCESSES
from linear_lasagna.models import fresh
from linear_lasagna.models.measuring import timed
from linear_lasagna.models.report import Measured
from linear_lasagna.timing import Comparison, Timing, compare

BUDGET_S = 1.0  # for the model and its control in one process
LIMIT_S = 25.0  # for all fresh processes: where they would take longer, there are none
VISITS = 5  # of each of three calls in a process, at least


@dataclass(frozen=True)
class Whole:
    """Seconds per call of the model on the example, given and merged.

    comparison: time merged / given, as in `timing.compare`: between fresh processes, or within this one where `alone`
    says why there were no others. runs_before, runs_after: seconds of the runs that were merged, each timed by itself
    in this process; share_before, share_after: as a part of the model's time, given and merged, in this process.
    """

    seconds_before: float
    seconds_after: float
    comparison: Comparison
    runs_before: float
    runs_after: float
    share_before: float
    share_after: float
    alone: str | None = None

    @property
    def kind(self) -> str:
        """What the comparison is."""
        processes = self.comparison.processes
        return f"between {processes} processes" if self.alone is None else f"within one process: {self.alone}"


def whole(
    given: nn.Module, merged: nn.Module, inputs: Sequence[Any], after: Sequence[Any], runs: Iterable[Measured]
) -> Whole:
    """The given model on the inputs, and the merged one on `after`, the same in its dtype. runs: of what was merged."""
    here = timed(given, merged, inputs, after, BUDGET_S)
    others = _others(given, merged, inputs, after, here)
    timings = [here] if isinstance(others, str) else others
    before, merged_s = (median(each.seconds(name) for each in timings) for name in ("before", "after"))
    spent = list(runs)
    runs_before, runs_after = sum(m.seconds_before for m in spent), sum(m.seconds_after for m in spent)
    return Whole(
        before,
        merged_s,
        compare(timings, baseline="before")["after"],
        runs_before,
        runs_after,
        share_before=runs_before / here.seconds("before"),
        share_after=runs_after / here.seconds("after"),
        alone=others if isinstance(others, str) else None,
    )


def _others(
    given: nn.Module, merged: nn.Module, inputs: Sequence[Any], after: Sequence[Any], here: Timing
) -> list[Timing] | str:
    """What fresh processes time, as many as an interval needs; or why there are none."""
    a_round = 2 * here.seconds("before") + here.seconds("after")
    if LEAST_PROCESSES * VISITS * a_round > LIMIT_S:
        return f"{LEAST_PROCESSES} others would take over {LIMIT_S:.0f} s"
    found = fresh.fresh_timings(given, merged, inputs, after, BUDGET_S / 2, LEAST_PROCESSES)
    return found if isinstance(found, str) or len(found) == LEAST_PROCESSES else "other processes gave too few times"
