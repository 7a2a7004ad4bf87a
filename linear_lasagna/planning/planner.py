"""Which contiguous runs of a stack to merge, by operation count or by measured time."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import torch

from linear_lasagna import calibration, remembered
from linear_lasagna.devices import device_named, dtype_name, dtype_named, unavailable
from linear_lasagna.environment import code_digest, fingerprint
from linear_lasagna.methods import method_named
from linear_lasagna.planning.compute import unsupported_run
from linear_lasagna.planning.fresh import fresh_timing
from linear_lasagna.planning.measure import Bench, Measured, plan_by_time
from linear_lasagna.planning.operations import operations, run_operations
from linear_lasagna.planning.runs import Runs, cheapest, separate
from linear_lasagna.problems import Problem
from linear_lasagna.switches import conditions

Cost: TypeAlias = Literal["operations", "measured"]

Switched: TypeAlias = tuple[tuple[str, Any], ...]

COSTS: tuple[Cost, ...] = ("operations", "measured")
BUDGET = "LASAGNA_PLANNING_S"
BUDGET_S = 0.6


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


def plan(
    problem: Problem,
    device: str = "cpu",
    dtype: str | torch.dtype = "float32",
    cost: Cost = "operations",
    method: str = "direct",
    budget_s: float | None = None,
) -> Plan:
    """The cheapest runs of the problem's stack.

    cost: "operations" counts multiply-accumulates; of equally cheap cuts the one that merges least, and no run whose
    border, computed apart, takes longer than merging saves (`calibration`, which times it once). "measured" times
    on the device, with the method, runs and then whole cuts, and chooses stacked or merged unless another cut is
    faster by over 2 %, in a fresh process too where it is close; the result is remembered on this machine. budget_s:
    seconds in timed calls, by default LASAGNA_PLANNING_S or 0.6. A kernel of the library that never ends (there are
    some in 16 bits) ends no measuring either; trials put a limit to it. Raises ValueError for unknown names, a device
    that is not there, a budget that is not positive, and a layer that the method cannot compute.
    """
    if cost not in COSTS:
        raise ValueError(f"unknown cost {cost!r}; known: {', '.join(COSTS)}")
    computing = method_named(method)
    absent = unavailable(device, dtype_named(dtype))
    if absent:
        raise ValueError(f"cannot plan for {device}: {absent}")
    bench = Bench(problem, device_named(device).numbered, dtype_named(dtype), method)
    for run in separate(problem.depth):
        reason = unsupported_run(problem, run, computing, bench.dtype, bench.device)
        if reason is not None:
            raise ValueError(f"cannot plan {problem.name} with {method}: layer {run[0]}: {reason}")
    switched = tuple(conditions(device_named(device).kind).items())
    if cost == "measured":
        return Plan(problem, cost, *_measured(bench, _budget(budget_s), torch.get_num_threads(), switched))
    return _counted(bench, calibration.state(), switched)


@lru_cache(maxsize=1024)
def _counted(bench: Bench, calibrated: tuple[int, bool], switched: Switched) -> Plan:
    """Once per process, unless more is calibrated since: a trial asks for its plan in every block."""
    problem = bench.problem
    runs = cheapest(problem.depth, bench.price)
    merged = run_operations(problem, (0, problem.depth)) if problem.depth > 1 else None
    return Plan(problem, "operations", runs, operations(problem, runs), problem.macs, merged)


def _budget(seconds: float | None) -> float:
    text = os.environ.get(BUDGET, str(BUDGET_S)) if seconds is None else str(seconds)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(
            f"{BUDGET if seconds is None else 'budget_s'} must be a positive number of seconds, not {text}"
        )
    return value


@lru_cache(maxsize=1024)
def _measured(bench: Bench, budget_s: float, threads: int, switched: Switched) -> Measured:
    """Once per process, so that all that one process does with a problem follows one plan; else as remembered."""
    key = _key(bench, budget_s, threads) | {"switches": dict(switched)}
    known = remembered.load("plans", key)
    if known is not None:
        try:
            return _checked(known, bench)
        except (ValueError, TypeError, KeyError) as error:
            remembered.warn("plans", key, f"not a plan: {error}")
    chosen = plan_by_time(bench, budget_s, fresh_timing)
    remembered.save("plans", key, chosen._asdict())
    return chosen


def _key(bench: Bench, budget_s: float, threads: int) -> dict[str, Any]:
    """All that a measured plan depends on, as plain data."""
    problem = bench.problem
    key = {
        "input": problem.shapes[0],
        "layers": [dataclasses.asdict(layer) for layer in problem.expanded],
        "dtype": dtype_name(bench.dtype),
        "device": bench.device,
        "method": bench.method,
        "budget_s": budget_s,
        "threads": threads,
        "machine": fingerprint(bench.device),
        "code": code_digest(),
    }
    return json.loads(json.dumps(key))


def _checked(stored: dict[str, Any], bench: Bench) -> Measured:
    """What was remembered, if it is a plan of this problem. Raises ValueError, TypeError or KeyError where not."""
    runs = tuple((int(start), int(stop)) for start, stop in stored["runs"])
    covered = [index for start, stop in runs for index in range(start, stop)]
    if covered != list(range(bench.problem.depth)) or any(start >= stop for start, stop in runs):
        raise ValueError(f"its runs {runs} do not cover {bench.problem.depth} layers")
    if not all(bench.possible(run) for run in runs):
        raise ValueError(f"its runs {runs} cannot be computed")
    merged = stored["merged"]
    costs = [float(stored["planned"]), float(stored["stacked"]), *([] if merged is None else [float(merged)])]
    if not all(0 < seconds < math.inf for seconds in costs):
        raise ValueError(f"its times {costs} are not positive")
    return Measured(runs, costs[0], costs[1], None if merged is None else costs[2])
