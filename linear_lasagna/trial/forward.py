"""The usual trial: each way computes the stack once per call, and is checked against the exact result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from linear_lasagna.counting import counted
from linear_lasagna.devices import dtype_name
from linear_lasagna.imposing import operand_bits
from linear_lasagna.methods import METHODS
from linear_lasagna.metrics import Outcome, measures
from linear_lasagna.planning import plan
from linear_lasagna.problems import Problem
from linear_lasagna.timing import BLOCKS
from linear_lasagna.trial import workload
from linear_lasagna.trial.gate import Draw, Sitting, flat
from linear_lasagna.trial.record import Cell, Trial
from linear_lasagna.trial.timed import Stage, Turn, failing
from linear_lasagna.trial.workload import Bench, Workload
from linear_lasagna.validation import (
    Bound,
    Known,
    TileReference,
    check_integers,
    check_own_bound,
    dense_bound,
    draw_single_taps,
    integer_case,
    single_bound,
    with_underflow,
)
from linear_lasagna.ways import Way, way_named

LONG_S = 0.2  # a call that takes longer is not made once more only to check it


def run(
    problem: Problem,
    ways: Sequence[str],
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    budget_s: float = 1.0,
    blocks: int = BLOCKS,
    seed: int = 0,
    numbers: Any = None,
    stage: Stage = lambda what, way: None,
    turn: Turn = lambda name: None,
) -> Trial:
    """Validate the ways, measure their errors and memory, time those that are right together.

    ways: "direct", "merged/unfold_matmul", "control", …; budget_s: seconds in timed calls, all ways together, in so
    many blocks; numbers: kernels and inputs to be timed and judged in the place of drawn ones, as `numbers.read` takes
    them, rounded to the dtype. A way that cannot compute the problem here is skipped, as all are where the dtype cannot
    hold the numbers; one that is wrong or raises is failed; either carries its reason. What was timed is checked once
    more; where a way fails then, the others are timed again. stage(what, way) is told what is being done, and with
    which way, "" where with none alone; turn(name) whose turn it is to be timed.
    Raises ValueError for unknown names, a budget that is not positive, and numbers that do not fit the problem.
    """
    settings: dict[str, Any] = {"dtype": dtype, "device": device, "budget_s": budget_s, "blocks": blocks, "seed": seed}
    settings["numbers"] = numbers
    return workload.run(FORWARD, problem, ways, **settings, stage=stage, turn=turn)


def _unsupported(problem: Problem, name: str, dtype: torch.dtype, device: str) -> str | None:
    return way_named(name).unsupported(problem, dtype, device)


def check(bench: Bench) -> None:
    """Let the ways plan, and fail those that are wrong before anything is timed."""
    _plan(bench)
    for part in bench.parts():
        for step in (_check_integers, _check_single_taps, _check_positive):
            if part.live():
                step(part)


def _plan(bench: Bench) -> None:
    """Let the ways that plan do it once, untimed: whatever else this process does with them follows these plans."""
    trial = bench.trial
    for name, cell, way in bench.live():
        if way.schedule.plans is not None:
            bench.stage(f"planning {name}", name)
            with failing(cell):
                chosen = plan(trial.problem, trial.device, bench.dtype, way.schedule.plans, way.method)
                cell.runs = [list(run) for run in chosen.runs]


def _check_integers(bench: Bench) -> None:
    """Fail every way that is wrong on small integers. A transform, which rounds them, is marked instead."""
    trial = bench.trial
    bench.stage("drawing integers", "")
    bits = operand_bits(trial.under)
    case = integer_case(trial.problem, bench.dtype, trial.device, trial.seed, bits)
    for name, cells, way in bench.distinct():
        bench.stage(f"checking {name} on integers", name)
        with failing(*cells):
            sitting = bench.sitting(way, (case.x, case.kernels))
            (y,) = sitting.ask([bench.form])
            finding = check_integers(case, way, y)
            for cell in cells:
                cell.finding = finding
            sitting.settle()


def _check_single_taps(bench: Bench) -> None:
    """Fail every way whose arithmetic is narrower inside than its dtype."""
    trial = bench.trial
    draw = draw_single_taps(trial.problem, bench.dtype, trial.device, trial.seed)
    _check_bounds(bench, draw, single_bound, "kernels with one non-zero tap")


def _check_positive(bench: Bench) -> None:
    """Fail every way that misses the chain bound on positive numbers, where it is tight."""
    _check_bounds(bench, bench.draw(signs="positive"), dense_bound, "positive numbers")


def _check_bounds(bench: Bench, draw: Draw, bound: Callable[..., Bound], where: str) -> None:
    bench.stage(f"computing the exact result for {where}", "")
    problem, reference = bench.trial.problem, TileReference.of(bench.trial.problem, *draw)
    for name, cells, way in bench.distinct():
        bench.stage(f"checking {name} on {where}", name)
        with failing(*cells):
            sitting = bench.sitting(way, draw)
            (y,) = sitting.ask([bench.form])
            tile = reference.claimed(problem, way)
            bench.bound(bound, cells[0], way).check(tile.errors(y), tile.magnitudes, where)
            check_own_bound(problem, way, draw, tile, y, where)
            sitting.settle()


class ForwardGate:
    """Prepares the calls that are timed; checks them afterwards, on the timed numbers and on others in their place."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.draw = bench, bench.timed()

    def learn(self) -> None:
        bench = self.bench
        self.other = bench.other(self.draw)
        self.tile = TileReference.of(bench.trial.problem, *self.draw)
        self.known = Known.of(bench.trial.problem, *self.other)

    def build(self, step: int, name: str) -> Sitting:
        return self.bench.sitting(self.bench.ways[name], self.draw, step)

    def after(self, name: str, sitting: Sitting) -> None:
        bench, cell, way = self.bench, self.bench.trial.cells[name], self.bench.ways[name]
        bench.stage(f"measuring the error and memory of {name}", name)
        sitting.check()
        self._measure(cell, way, sitting)
        if median(map(median, filter(None, cell.samples))) > LONG_S:
            return
        bench.stage(f"checking {name} once more on other numbers", name)
        sitting.pose(flat(self.other))
        (y,) = sitting.ask([bench.form])
        self.known.check(way, y, self._bound(cell, way, self.other), "other numbers in the place of the timed ones")
        sitting.settle()

    def _bound(self, cell: Cell, way: Way, draw: Draw) -> Bound:
        """The usual one knows what underflow adds to drawn numbers; given ones may be of any size."""
        bench = self.bench
        usual = bench.bound(dense_bound, cell, way)
        return with_underflow(usual, bench.trial.problem, way, draw, bench.trial.device) if bench.given else usual

    def _measure(self, cell: Cell, way: Way, sitting: Sitting) -> None:
        """The common measures of the error on the tile, and the memory that it took to compute."""
        bench = self.bench
        (y,) = sitting.ask([bench.form], sitting.profiled)
        cell.peak_bytes = sitting.peak_bytes
        tile = self.tile.claimed(bench.trial.problem, way)
        errors = tile.errors(y)
        self._bound(cell, way, self.draw).check(errors, tile.magnitudes, "the timed numbers, after timing,")
        sizes = measures(Outcome(errors, tile.values, bench.dtype))
        if not all(map(math.isfinite, sizes.values())):
            raise ArithmeticError("the exact result is zero: there is no relative error")
        cell.measures = sizes
        runs = None if cell.runs is None else tuple((start, stop) for start, stop in cell.runs)
        cell.counted = counted(bench.trial.problem, way, bench.dtype, runs)
        cell.computed_in = dtype_name(METHODS[way.method].computes_in(bench.dtype))


FORWARD = Workload(way_named, _unsupported, check, ForwardGate)
