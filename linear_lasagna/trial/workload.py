"""What a trial does with its problem: which ways there are, what is checked of them, which calls are timed.

One `run` for all kinds of trial: skip what is impossible, check, time together, check again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import torch

from linear_lasagna.conditions import Watch, allocator, settle_allocator
from linear_lasagna.devices import dtype_name, dtype_named, unavailable
from linear_lasagna.environment import environment
from linear_lasagna.factors import Under, inapplicable, usual_left_out
from linear_lasagna.imposing import arranged, computing_with, imposed, operand_loss
from linear_lasagna.imposing import unfit as misplaced
from linear_lasagna.methods import METHODS
from linear_lasagna.planning import plan
from linear_lasagna.problems import Problem
from linear_lasagna.rounding.bounds import chained
from linear_lasagna.switches import full_precision
from linear_lasagna.timing import BLOCKS
from linear_lasagna.trial.gate import Draw, Form, Sitting, Thunk, flat, refilled
from linear_lasagna.trial.numbers import Given, digests, placed, read, unfit
from linear_lasagna.trial.record import Cell, Repeat, Trial
from linear_lasagna.trial.timed import Stage, Turn, time_again, time_together
from linear_lasagna.validation import Bound
from linear_lasagna.vocabulary import Signs
from linear_lasagna.ways import Way

MOST_CHECKED_MACS = 1e7  # of a problem on which the ways are checked before they are timed on the whole one


@dataclass(frozen=True)
class Bench:
    """What every step of one trial needs. ways: those of the trial that compute the stack forward; given: numbers that
    are timed in the place of drawn ones.
    """

    trial: Trial
    ways: Mapping[str, Way]
    dtype: torch.dtype
    stage: Stage
    given: Given = field(default_factory=dict)

    def live(self) -> list[tuple[str, Cell, Way]]:
        """The ways that are neither skipped nor failed so far."""
        return [(name, self.trial.cells[name], self.ways[name]) for name in self.trial.named("ok") if name in self.ways]

    def distinct(self) -> list[tuple[str, list[Cell], Way]]:
        """The live ways, each once with all its cells: before timing the control is the baseline itself."""
        cells_of: dict[Way, tuple[str, list[Cell]]] = {}
        for name, cell, way in self.live():
            cells_of.setdefault(way, (name, []))[1].append(cell)
        return [(name, cells, way) for way, (name, cells) in cells_of.items()]

    def parts(self) -> list[Bench]:
        """Where the ways are checked: those that plan on the problem itself, whose plan is for it; others, and where
        they can compute that, on a smaller image where the problem is large.
        """
        small = smaller(self.trial.problem, MOST_CHECKED_MACS)
        if small is self.trial.problem:
            return [self]
        there = {
            name: way
            for name, way in self.ways.items()
            if way.schedule.plans is None and way.unsupported(small, self.dtype, self.trial.device) is None
        }
        here = {name: way for name, way in self.ways.items() if name not in there}
        return [replace(self, trial=replace(self.trial, problem=small), ways=there), replace(self, ways=here)]

    def draw(self, offset: int = 0, signs: Signs = "random") -> Draw:
        trial = self.trial
        return trial.problem.draw(self.dtype, trial.device, trial.seed + offset, signs)

    def timed(self) -> Draw:
        """What is timed."""
        return placed(self.draw(), self.given)

    def other(self, draw: Draw) -> Draw:
        """Another input for the same kernels, as large: a given one negated and mirrored."""
        x, kernels = draw
        return (-x.flip(-1) if "input" in self.given else self.draw(1)[0]), kernels

    def sitting(self, way: Way, draw: Draw, step: int = 0) -> Sitting:
        """The way, prepared for copies of these numbers."""
        numbers = arranged(flat(draw), self.trial.under)
        return Sitting(numbers, lambda own: _thunk(way, self.trial.problem, refilled(own, draw[1])), step)

    @cached_property
    def form(self) -> Form:
        """What every way must give."""
        home = torch.empty(0, device=self.trial.device).device
        return Form("result", self.trial.problem.shapes[-1], self.dtype, home, channels=True)

    def bound(self, kind: Callable[..., Bound], cell: Cell, way: Way) -> Bound:
        """The bound of this kind that the cell's way must meet, as a transform where it was found to be one."""
        transform = bool(cell.finding) or not METHODS[way.method].exact_on_integers
        bound = kind(self.trial.problem, way, self.dtype, self.trial.device, transform)
        loss = operand_loss(self.trial.under, self.trial.problem.depth)
        return bound._replace(relative=chained([bound.relative, loss])) if loss else bound


class Gate(Protocol):
    """What is timed: build(step, name) prepares a call; after(name, sitting) checks the one that was timed last.

    learn(): computes what `after` needs to know, once, before anything is timed.
    """

    def learn(self) -> None: ...

    def build(self, step: int, name: str) -> Sitting: ...

    def after(self, name: str, sitting: Sitting) -> None: ...


@dataclass(frozen=True)
class Workload:
    """One kind of trial.

    way(name): the way that computes the stack forward, None for a name that does something else; it raises ValueError
    for a name that the workload does not know. unsupported(problem, name, dtype, device): why it cannot be done, or
    None. check(bench): fails the cells that are wrong, before anything is timed. gate(bench): what is timed then.
    gradients: whether they are recorded.
    """

    way: Callable[[str], Way | None]
    unsupported: Callable[[Problem, str, torch.dtype, str], str | None]
    check: Callable[[Bench], None]
    gate: Callable[[Bench], Gate]
    gradients: bool = False


def run(
    workload: Workload,
    problem: Problem,
    ways: Sequence[str],
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    budget_s: float = 1.0,
    blocks: int = BLOCKS,
    seed: int = 0,
    numbers: Any = None,
    threads: int = 0,
    under: Mapping[str, str] = MappingProxyType({}),
    stage: Stage = lambda what, way: None,
    turn: Turn = lambda name: None,
) -> Trial:
    """A trial of the workload; `trial.run` says what the arguments are, `run_isolated` what threads and under are."""
    start, storage, under = time.perf_counter(), dtype_named(dtype), usual_left_out(under)
    given = {} if numbers is None else read(numbers, problem)
    forward = {name: way for name in ways if (way := workload.way(name)) is not None}
    with _setting(workload, under):
        # In here: the environment tells the switches as they hold while the ways are timed.
        trial = _begun(workload, problem, ways, storage, device, budget_s, seed, given, under)
        trial.threads = int(under.get("threads", threads))
        with computing_with(trial.threads):
            _checked_and_timed(workload, Bench(trial, forward, storage, stage, given), blocks, turn)
    trial.elapsed_s = time.perf_counter() - start
    return trial


def _checked_and_timed(workload: Workload, bench: Bench, blocks: int, turn: Turn) -> None:
    trial = bench.trial
    if trial.named("ok"):
        workload.check(bench)
    if trial.named("ok"):
        gate = workload.gate(bench)
        bench.stage("computing the exact results", "")
        gate.learn()
        watch = _ready(trial.device)
        time_together(trial, blocks, gate.build, gate.after, bench.stage, turn)
        trial.conditions = watch.seen()


@contextmanager
def _setting(workload: Workload, under: Under) -> Iterator[None]:
    """Where a trial of the workload runs: all precision that its conditions leave."""
    with torch.set_grad_enabled(workload.gradients), full_precision(), imposed(under):
        yield


def repeat(
    workload: Workload, trial: Trial, seed: int, stage: Stage, turn: Turn, given: Given = MappingProxyType({})
) -> Repeat:
    """What another process, this one, times of a trial whose ways were validated before: neither checks nor errors.

    Inputs and the order of the visits are drawn anew, with the seed. Left out are ways whose plan differs here from the
    recorded one, and hopeless ones. given: the numbers that it was validated on. Raises what a way raises.
    """
    start, started = time.perf_counter(), _now()
    repeated = replace(trial, seed=seed)
    forward = {name: way for name in trial.cells if (way := workload.way(name)) is not None}
    with _setting(workload, trial.under), computing_with(trial.threads):
        bench = Bench(repeated, forward, dtype_named(trial.dtype), stage, given)
        timed = trial.timing()
        names = [name for name in timed.samples if _as_planned(bench, name) and not trial.hopeless(name)]
        watch = _ready(trial.device)
        timing = time_again(repeated, names, timed.plan, workload.gate(bench).build, stage, turn)
    return Repeat(
        *(timing.samples, timing.first_call_s, timing.faults, watch.seen()),
        *(seed, started, time.perf_counter() - start, timing.timed_s),
    )


def _ready(device: str) -> Watch:
    """The process as it shall be while it times."""
    if allocator() == "keep":
        settle_allocator()
    return Watch(device)


def _as_planned(bench: Bench, name: str) -> bool:
    """Whether a way makes the calls that the trial's record says."""
    recorded, way = bench.trial.cells[name].runs, bench.ways.get(name)
    if recorded is None or way is None or way.schedule.plans is None:
        return True
    chosen = plan(bench.trial.problem, bench.trial.device, bench.dtype, way.schedule.plans, way.method)
    return [list(run) for run in chosen.runs] == recorded


def _begun(
    workload: Workload,
    problem: Problem,
    ways: Sequence[str],
    dtype: torch.dtype,
    device: str,
    budget_s: float,
    seed: int,
    given: Given,
    under: Under,
) -> Trial:
    """A trial whose impossible cells are skipped, with the reason."""
    if not budget_s > 0:
        raise ValueError(f"budget_s must be positive, not {budget_s}")
    absent = unavailable(device, dtype) or unfit(given, dtype) or inapplicable(under, device, dtype_name(dtype))
    absent = absent or misplaced(under, problem, device)
    reasons = {way: absent or workload.unsupported(problem, way, dtype, device) for way in ways}
    cells = {way: Cell("skipped", reason) if reason else Cell() for way, reason in reasons.items()}
    described, numbers = environment("cpu" if absent else device), digests(given)
    kept: dict[str, Any] = {"started": _now(), "numbers": numbers, "under": under}
    return Trial(problem, dtype_name(dtype), device, budget_s, seed, cells, described, **kept)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def smaller(problem: Problem, macs: float) -> Problem:
    """The problem itself, or where it takes more multiply-accumulates: one image, so much smaller that it takes about
    as many, but not smaller than `Problem.reduced`.
    """
    if problem.macs <= macs:
        return problem
    least = problem.reduced()
    shrink = min(1.0, macs * problem.batch / problem.macs) ** (1 / len(problem.size))
    size = tuple(max(low, round(shrink * high)) for low, high in zip(least.size, problem.size, strict=True))
    return replace(problem, batch=1, size=size)


def _thunk(way: Way, problem: Problem, draw: Draw) -> Thunk:
    x, kernels = draw
    call = way.prepare(problem, kernels)
    return lambda: call(x)
