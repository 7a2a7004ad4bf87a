"""Which contiguous runs of a stack to merge, by operation count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from linear_lasagna.devices import dtype_named, unavailable
from linear_lasagna.planning.operations import operations, run_operations
from linear_lasagna.planning.runs import Runs, cheapest
from linear_lasagna.problems import Problem

Cost: TypeAlias = Literal["operations", "measured"]


@dataclass(frozen=True)
class Plan:
    """How to cut a stack. runs: half-open (start, stop), all layers in order.

    planned, stacked, merged: what these runs, the layers one by one, and the whole stack as one run cost, in `unit`s;
    merged is None where the stack cannot be merged or has one layer.
    """

    problem: Problem
    cost: Cost
    runs: Runs
    planned: float
    stacked: float
    merged: float | None

    @property
    def unit(self) -> str:
        """Of the costs: "MAC", multiply-accumulates, or "s", seconds."""
        return "MAC" if self.cost == "operations" else "s"

    @property
    def merges(self) -> Runs:
        """The runs of several layers."""
        return tuple(run for run in self.runs if run[1] - run[0] > 1)

    def __str__(self) -> str:
        merged = "cannot be merged as a whole" if self.merged is None else f"merged {self.merged:.3g}"
        costs = f"{self.planned:.3g} {self.unit}; stacked {self.stacked:.3g}, {merged}"
        return f"{self.problem.name}: {runs_text(self.runs)}: {costs}"


def runs_text(runs: Runs) -> str:
    """As in "0, 1–2, 3": the layers from 0, merged ones joined by a dash."""
    return ", ".join(str(start) if stop == start + 1 else f"{start}–{stop - 1}" for start, stop in runs)


def plan(problem: Problem, device: str = "cpu", dtype: str = "float32", cost: Cost = "operations") -> Plan:
    """The cheapest runs of the problem's stack, of equally cheap ones the least merged.

    cost: "operations" counts multiply-accumulates, the same on every device and in every dtype.
    Raises ValueError for an unknown cost, device or dtype, and for a device that is not there.
    """
    if cost not in ("operations",):
        raise ValueError(f"unknown cost {cost!r}; known: operations")
    absent = unavailable(device, dtype_named(dtype))
    if absent:
        raise ValueError(f"cannot plan for {device}: {absent}")
    runs = cheapest(problem.depth, lambda run: run_operations(problem, run))
    merged = run_operations(problem, (0, problem.depth)) if problem.depth > 1 else None
    return Plan(problem, cost, runs, operations(problem, runs), problem.macs, merged)
