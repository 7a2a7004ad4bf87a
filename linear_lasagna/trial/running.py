"""Runs a trial in this process: unsupported ways are skipped, wrong ones failed, the rest timed together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch

from linear_lasagna.devices import dtype_name, dtype_named, unavailable
from linear_lasagna.environment import environment
from linear_lasagna.memory import with_peak_bytes
from linear_lasagna.metrics import relative_l2
from linear_lasagna.planning import plan
from linear_lasagna.problems import Kernel, Problem, Signs
from linear_lasagna.rounding import unit_roundoff
from linear_lasagna.switches import full_precision
from linear_lasagna.timing import measure
from linear_lasagna.trial.record import Cell, Trial
from linear_lasagna.validation import TileReference, check_bound, check_integers, integer_case
from linear_lasagna.ways import Way, way_named

Stage: TypeAlias = Callable[[str, str], None]
Draw: TypeAlias = tuple[torch.Tensor, tuple[Kernel, ...]]


@dataclass(frozen=True)
class _Bench:
    """What every step of one trial needs."""

    trial: Trial
    ways: Mapping[str, Way]
    dtype: torch.dtype
    stage: Stage

    def live(self) -> list[tuple[str, Cell, Way]]:
        """The ways that are neither skipped nor failed so far."""
        return [(name, self.trial.cells[name], self.ways[name]) for name in self.trial.named("ok")]

    def draw(self, signs: Signs = "random") -> Draw:
        trial = self.trial
        return trial.problem.draw(self.dtype, trial.device, trial.seed, signs)


def run(
    problem: Problem,
    ways: Sequence[str],
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    budget_s: float = 1.0,
    seed: int = 0,
    stage: Stage = lambda what, way: None,
) -> Trial:
    """Validate the ways, measure their errors and memory, time those that are right together.

    ways: "direct", "merged/unfold_matmul", "control", …; budget_s: seconds in timed calls, all ways together. A way
    that cannot compute the problem here is skipped; one that is wrong or raises is failed; either carries its
    reason. stage(what, way) is told what is being done, and with which way, "" where with none alone. Raises
    ValueError for unknown names and a budget that is not positive.
    """
    parsed = {name: way_named(name) for name in ways}

    def unsupported(name: str) -> str | None:
        return parsed[name].unsupported(problem, dtype_named(dtype), device.partition(":")[0])

    trial, finish = begin(problem, ways, unsupported, dtype, device, budget_s, seed)
    with torch.no_grad(), full_precision():
        bench = _Bench(trial, parsed, dtype_named(dtype), stage)
        for step in (_plan, _check_integers, _check_bounds, _measure_errors, _time):
            if bench.live():
                step(bench)
    return finish(trial)


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


def _plan(bench: _Bench) -> None:
    """Let the ways that plan do it once, untimed: whatever else this process does with them follows these plans."""
    trial = bench.trial
    for name, cell, way in bench.live():
        if way.schedule.plans is not None:
            bench.stage(f"planning {name}", name)
            with failing(cell):
                found = plan(trial.problem, trial.device, bench.dtype, way.schedule.plans, way.method)
                cell.runs = [list(run) for run in found.runs]


def _check_integers(bench: _Bench) -> None:
    """Fail every way that only adds and multiplies, and yet is wrong on small integers."""
    trial = bench.trial
    bench.stage("drawing integers", "")
    case = integer_case(trial.problem, bench.dtype, trial.device, trial.seed)
    for name, cell, way in bench.live():
        bench.stage(f"checking {name} on integers", name)
        with failing(cell):
            check_integers(trial.problem, way, case)


def _check_bounds(bench: _Bench) -> None:
    """Fail every way that misses the chain bound on positive numbers, where it is tight."""
    bench.stage("computing the exact result of positive numbers", "")
    problem, draw = bench.trial.problem, bench.draw("positive")
    reference = TileReference.of(problem, *draw)
    for name, cell, way in bench.live():
        bench.stage(f"checking the bound of {name}", name)
        with failing(cell):
            check_bound(problem, way, bench.dtype, draw, reference)


def _measure_errors(bench: _Bench) -> None:
    """The relative L2 error on the tile, random signs, in units of u, and the memory that it took to compute.

    A way whose result is not finite fails.
    """
    bench.stage("computing the exact result", "")
    problem, device = bench.trial.problem, bench.trial.device
    x, kernels = bench.draw()
    reference = TileReference.of(problem, x, kernels)
    for name, cell, way in bench.live():
        bench.stage(f"measuring the error and memory of {name}", name)
        with failing(cell):
            claimed = reference.claimed(problem, way)
            y, cell.peak_bytes = with_peak_bytes(_thunk(way, problem, kernels, x), device)
            error = relative_l2(claimed.errors(y), claimed.values)
            if not math.isfinite(error):
                raise ArithmeticError(f"relative error {error}: the result is not finite, or the exact one is zero")
            cell.error_u = error / unit_roundoff(bench.dtype)


def _time(bench: _Bench) -> None:
    def calls(draw: Draw, block: int) -> dict[str, Callable[[], object]]:
        x, kernels = copied(draw, block)
        return {name: _thunk(way, bench.trial.problem, kernels, x) for name, _, way in bench.live()}

    bench.stage("timing all ways together", "")
    time_together(bench.trial, calls)


def time_together(trial: Trial, calls: Callable[[Draw, int], dict[str, Callable[[], object]]]) -> None:
    """Time what calls(draw, block) gives and put it into the trial's cells."""
    draw = trial.problem.draw(dtype_named(trial.dtype), trial.device, trial.seed)
    timing = measure(partial(calls, draw), trial.device, trial.budget_s, trial.seed)
    trial.timed_s = timing.timed_s
    for name, samples in timing.samples.items():
        cell = trial.cells[name]
        cell.samples, cell.first_call_s = samples, timing.first_call_s[name]
        cell.calls_per_sample, cell.every = timing.calls_per_sample[name], timing.every[name]


def copied(draw: Draw, block: int) -> Draw:
    """Fresh copies of an input and its kernels, at other addresses in every block: addresses bias what runs on them.

    A spacer of another size each time moves them.
    """
    x, kernels = draw
    spacer = torch.empty(4096 + 64 * (block * 37 % 61), dtype=torch.uint8, device=x.device)
    copies = tuple(Kernel(k.weight.clone(), None if k.bias is None else k.bias.clone()) for k in kernels)
    fresh = x.clone()
    del spacer
    return fresh, copies


def _thunk(way: Way, problem: Problem, kernels: Sequence[Kernel], x: torch.Tensor) -> Callable[[], torch.Tensor]:
    call = way.prepare(problem, kernels)
    return lambda: call(x)


@contextmanager
def failing(cell: Cell) -> Iterator[None]:
    """Whatever a way raises is its own cell's result, with the reason in one line, never the trial's end."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else "no message"
        cell.fail(reason if isinstance(error, ArithmeticError) else f"{type(error).__name__}: {reason}")
