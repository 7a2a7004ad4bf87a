"""Runs a trial in this process: unsupported ways are skipped, wrong ones failed, the rest timed together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from linear_lasagna.devices import device_named, dtype_name, dtype_named, unavailable
from linear_lasagna.environment import environment
from linear_lasagna.methods import METHODS
from linear_lasagna.metrics import relative_l2
from linear_lasagna.planning import plan
from linear_lasagna.problems import Problem
from linear_lasagna.rounding import unit_roundoff
from linear_lasagna.switches import full_precision
from linear_lasagna.trial.gate import Draw, Form, Sitting, Thunk, flat, refilled
from linear_lasagna.trial.record import Cell, Trial
from linear_lasagna.trial.timed import Stage, Turn, failing, time_together
from linear_lasagna.validation import (
    Bound,
    Known,
    TileReference,
    check_integers,
    dense_bound,
    draw_single_taps,
    integer_case,
    single_bound,
)
from linear_lasagna.vocabulary import Signs
from linear_lasagna.ways import Way, way_named


@dataclass(frozen=True)
class Bench:
    """What every step of one trial needs. ways: those of the trial that compute the stack forward."""

    trial: Trial
    ways: Mapping[str, Way]
    dtype: torch.dtype
    stage: Stage

    def live(self) -> list[tuple[str, Cell, Way]]:
        """The ways that are neither skipped nor failed so far."""
        return [(name, self.trial.cells[name], self.ways[name]) for name in self.trial.named("ok") if name in self.ways]

    def distinct(self) -> list[tuple[str, list[Cell], Way]]:
        """The live ways, each once with all its cells: before timing the control is the baseline itself."""
        found: dict[Way, tuple[str, list[Cell]]] = {}
        for name, cell, way in self.live():
            found.setdefault(way, (name, []))[1].append(cell)
        return [(name, cells, way) for way, (name, cells) in found.items()]

    def draw(self, offset: int = 0, signs: Signs = "random") -> Draw:
        trial = self.trial
        return trial.problem.draw(self.dtype, trial.device, trial.seed + offset, signs)

    def sitting(self, way: Way, draw: Draw, step: int = 0) -> Sitting:
        """The way, prepared for copies of these numbers."""
        return Sitting(flat(draw), lambda own: _thunk(way, self.trial.problem, refilled(own, draw[1])), step)

    @cached_property
    def form(self) -> Form:
        """What every way must give."""
        home = torch.empty(0, device=self.trial.device).device
        return Form("result", self.trial.problem.shapes[-1], self.dtype, home, channels=True)

    def bound(self, kind: Callable[..., Bound], cell: Cell, way: Way) -> Bound:
        """The bound of this kind that the cell's way must meet, as a transform where it was found to be one."""
        transform = bool(cell.finding) or not METHODS[way.method].exact_on_integers
        return kind(self.trial.problem, way, self.dtype, self.trial.device, transform)


def run(
    problem: Problem,
    ways: Sequence[str],
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    budget_s: float = 1.0,
    seed: int = 0,
    stage: Stage = lambda what, way: None,
    turn: Turn = lambda name: None,
) -> Trial:
    """Validate the ways, measure their errors and memory, time those that are right together.

    ways: "direct", "merged/unfold_matmul", "control", …; budget_s: seconds in timed calls, all ways together. A way
    that cannot compute the problem here is skipped; one that is wrong or raises is failed; either carries its
    reason. What was timed is checked once more; where a way fails then, the others are timed again. stage(what, way) is
    told what is being done, and with which way, "" where with none alone; turn(name) whose turn it is to be timed.
    Raises ValueError for unknown names and a budget that is not positive.
    """
    parsed = {name: way_named(name) for name in ways}

    def unsupported(name: str) -> str | None:
        return parsed[name].unsupported(problem, dtype_named(dtype), device)

    trial, finish = begin(problem, ways, unsupported, dtype, device, budget_s, seed)
    with torch.no_grad(), full_precision():
        bench = Bench(trial, parsed, dtype_named(dtype), stage)
        check_forward(bench)
        if bench.live():
            gate = ForwardGate(bench)
            time_together(trial, gate.build, gate.after, stage, turn)
    return finish(trial)


def check_forward(bench: Bench) -> None:
    """Let the ways plan, and fail those that are wrong before anything is timed."""
    for step in (_plan, _check_integers, _check_single_taps, _check_positive):
        if bench.live():
            step(bench)


def begin(
    problem: Problem,
    ways: Sequence[str],
    unsupported: Callable[[str], str | None],
    dtype: str | torch.dtype,
    device: str,
    budget_s: float,
    seed: int,
) -> tuple[Trial, Callable[[Trial], Trial]]:
    """A trial whose impossible cells are skipped, with the reason, and what ends it by setting its wall time."""
    if not budget_s > 0:
        raise ValueError(f"budget_s must be positive, not {budget_s}")
    start, started = time.perf_counter(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    name = dtype_name(dtype_named(dtype))
    absent = unavailable(device, dtype)
    reasons = {way: absent or unsupported(way) for way in ways}
    cells = {way: Cell("skipped", reason) if reason else Cell() for way, reason in reasons.items()}
    described = environment("cpu" if absent else device)

    def finish(trial: Trial) -> Trial:
        trial.elapsed_s = time.perf_counter() - start
        return trial

    return Trial(problem, name, device, budget_s, seed, cells, described, started=started), finish


def _plan(bench: Bench) -> None:
    """Let the ways that plan do it once, untimed: whatever else this process does with them follows these plans."""
    trial = bench.trial
    for name, cell, way in bench.live():
        if way.schedule.plans is not None:
            bench.stage(f"planning {name}", name)
            with failing(cell):
                found = plan(trial.problem, trial.device, bench.dtype, way.schedule.plans, way.method)
                cell.runs = [list(run) for run in found.runs]


def _check_integers(bench: Bench) -> None:
    """Fail every way that is wrong on small integers. A transform, which rounds them, is marked instead."""
    trial = bench.trial
    bench.stage("drawing integers", "")
    case = integer_case(trial.problem, bench.dtype, trial.device, trial.seed)
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
            found = reference.claimed(problem, way)
            bench.bound(bound, cells[0], way).check(found.errors(y), found.magnitudes, where)
            sitting.settle()


class ForwardGate:
    """Prepares the calls that are timed; checks them afterwards, on the timed numbers and on others in their place."""

    def __init__(self, bench: Bench) -> None:
        bench.stage("computing the exact results", "")
        self.bench, self.draw = bench, bench.draw()
        self.other = (bench.draw(1)[0], self.draw[1])
        self.tile = TileReference.of(bench.trial.problem, *self.draw)
        self.known = Known.of(bench.trial.problem, *self.other)

    def build(self, step: int, name: str) -> Sitting:
        return self.bench.sitting(self.bench.ways[name], self.draw, step)

    def after(self, name: str, sitting: Sitting) -> None:
        bench, cell, way = self.bench, self.bench.trial.cells[name], self.bench.ways[name]
        bench.stage(f"measuring the error and memory of {name}", name)
        sitting.check()
        self._measure(cell, way, sitting)
        bench.stage(f"checking {name} once more on other numbers", name)
        sitting.pose(flat(self.other))
        (y,) = sitting.ask([bench.form])
        self.known.check(way, y, bench.bound(dense_bound, cell, way), "other numbers in the place of the timed ones")
        sitting.settle()

    def _measure(self, cell: Cell, way: Way, sitting: Sitting) -> None:
        """The relative L2 error on the tile, random signs, in units of u, and the memory that it took to compute."""
        bench = self.bench

        def profiled(call: Thunk) -> object:
            y, cell.peak_bytes = device_named(bench.trial.device).with_peak_bytes(call)
            return y

        (y,) = sitting.ask([bench.form], profiled)
        tile = self.tile.claimed(bench.trial.problem, way)
        errors = tile.errors(y)
        bench.bound(dense_bound, cell, way).check(errors, tile.magnitudes, "the timed numbers, after timing,")
        error = relative_l2(errors, tile.values)
        if not math.isfinite(error):
            raise ArithmeticError("the exact result is zero: there is no relative error")
        cell.error_u = error / unit_roundoff(bench.dtype)


def _thunk(way: Way, problem: Problem, draw: Draw) -> Thunk:
    x, kernels = draw
    call = way.prepare(problem, kernels)
    return lambda: call(x)
