"""The cheapest cut by the clock: single runs are timed together, then whole cuts against each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import fmean, median
from typing import NamedTuple, TypeAlias

import torch

from linear_lasagna.devices import device_named
from linear_lasagna.methods import METHODS, Call
from linear_lasagna.planning.compute import prepare_run, prepare_runs, unsupported_run
from linear_lasagna.planning.operations import price, run_operations
from linear_lasagna.planning.runs import Run, Runs, all_runs, cheapest, separate, whole
from linear_lasagna.problems import Problem
from linear_lasagna.timing import BLOCKS, Timing, measure

OPERATIONS_LIMIT = 4.0  # a run that needs more than this many times the operations of its best cut is not worth timing
SWITCHING_MARGIN = 0.02  # a plan replaces the faster of stacked and merged only where it is faster by more than this
HOPELESS = 2.0  # a cut whose runs take this many times the least time is not timed as a whole
FASTER = 1.5  # times as fast as the fastest shorter run, in operations per second, no run will be
SHORT_S, LONG_S = 1e-2, 1.0  # of a run's calls: shorter ones are timed together, longer ones are called once
RUN_BLOCKS = 3  # of the runs' timing: it only proposes, the cuts' timing decides
VISIT_S = 2e-4
SEED = 0

CLOSE = 1.5  # what one process times within this factor, the next may order otherwise

EXTREMES = STACKED, MERGED = "stacked", "merged"


class Measured(NamedTuple):
    """The cut that won, and the seconds per call of it, of the stack, and of the whole stack merged, if it can be."""

    runs: Runs
    planned: float
    stacked: float
    merged: float | None


class Bench(NamedTuple):
    """What is timed: a problem on a device, in a dtype, its convolutions computed by one method."""

    problem: Problem
    device: str
    dtype: torch.dtype
    method: str

    def possible(self, run: Run) -> bool:
        """Whether the run can be computed as one here."""
        return unsupported_run(self.problem, run, METHODS[self.method], self.dtype, self.device) is None

    def operations(self, run: Run) -> int | None:
        """`run_operations`, None where the run cannot be computed as one here."""
        return run_operations(self.problem, run) if self.possible(run) else None

    def price(self, run: Run) -> int | None:
        """`operations.price`, None where the run cannot be computed as one here."""
        count = price(self.problem, run, self.dtype, self.device)
        return count if count is not None and self.possible(run) else None

    def inputs(self, starts: Iterable[int]) -> dict[int, torch.Tensor]:
        """An input for every layer in `starts`, drawn as if it were the stack's own."""
        generator = torch.Generator().manual_seed(SEED)
        shapes = {start: self.problem.shapes[start] for start in sorted(set(starts))}
        return {
            s: torch.randn(shape, generator=generator).to(self.dtype).to(self.device) for s, shape in shapes.items()
        }


Again: TypeAlias = Callable[[Bench, Mapping[str, Runs], float], Timing | None]


def plan_by_time(bench: Bench, budget_s: float, again: Again) -> Measured:
    """The fastest of the stack, the stack merged, the plan by operations, and the cheapest cut by its runs' times.

    budget_s: seconds in timed calls, half for the runs, half for the cuts that they propose. A cut whose runs add up
    to twice the least is hopeless: what it costs is that sum. again: times the cuts in a fresh process, which is asked
    where the choice is close; where it gives no times, stacked or merged is chosen.
    """
    seconds = run_seconds(bench, worth_timing(bench), budget_s / 2)
    cuts = proposed(bench, seconds)
    expected = {name: sum(seconds.get(run, 0.0) for run in runs) for name, runs in cuts.items()}
    least = sum(seconds[run] for run in cheapest(bench.problem.depth, seconds.get))
    hopeful = {name: runs for name, runs in cuts.items() if expected[name] <= HOPELESS * least}
    timings = [cut_timing(bench, hopeful, budget_s / 2)]
    seconds_of = expected | {name: timings[0].seconds(name) for name in hopeful}
    chosen = decide(timings)
    if is_close(timings[0], chosen):
        timing = again(bench, hopeful, budget_s / 2)
        extremes = [name for name in hopeful if name in EXTREMES]
        if timing is not None:
            chosen = decide([*timings, timing])
        elif chosen not in EXTREMES and extremes:
            chosen = min(extremes, key=seconds_of.__getitem__)
    return Measured(cuts[chosen], seconds_of[chosen], seconds_of[STACKED], seconds_of.get(MERGED))


def proposed(bench: Bench, seconds: Mapping[Run, float]) -> dict[str, Runs]:
    """The cuts that are worth timing as a whole, by name. seconds: of runs by themselves."""
    depth = bench.problem.depth
    cuts = {STACKED: separate(depth)}
    if bench.possible((0, depth)) and depth > 1:
        cuts[MERGED] = whole(depth)
    for name, runs in (("operations", cheapest(depth, bench.price)), ("time", cheapest(depth, seconds.get))):
        if runs not in cuts.values():
            cuts[name] = runs
    return cuts


def worth_timing(bench: Bench) -> list[Run]:
    """All single layers, the whole stack, and the runs that need at most 4 times the operations of the cheapest cut of
    their layers.
    """
    counted = {run: bench.operations(run) for run in all_runs(bench.problem.depth)}
    counts = {run: count for run, count in counted.items() if count is not None}
    known = {*separate(bench.problem.depth), *whole(bench.problem.depth)}
    return [run for run in counts if run in known or counts[run] <= OPERATIONS_LIMIT * _least(run, counts)]


def run_seconds(bench: Bench, runs: Sequence[Run], budget_s: float) -> dict[Run, float]:
    """Seconds per call of every hopeful run, and of the whole stack, by themselves: of long calls one or two, of short
    ones, which are timed together, the median over many.
    """
    _, kernels = bench.problem.draw(bench.dtype, bench.device, SEED)
    calls = {run: prepare_run(bench.problem, kernels, run, METHODS[bench.method]) for run in runs}
    inputs = bench.inputs(start for start, _ in runs)
    clock = device_named(bench.device).seconds

    def look(run: Run) -> float:
        call = partial(calls[run], inputs[run[0]])
        first = clock(call, 1)
        return first if first > LONG_S else min(first, clock(call, 1))  # the first may set something up

    with torch.no_grad():
        seconds = hopeful_runs(runs, bench.operations, look)
        seconds |= {run: look(run) for run in whole(bench.problem.depth) if run in runs and run not in seconds}
    short = {f"{start}:{stop}": (start, stop) for (start, stop), each in seconds.items() if each < SHORT_S}
    if short:
        timing = _timed(bench, {name: (run[0], calls[run]) for name, run in short.items()}, budget_s, RUN_BLOCKS)
        seconds |= {run: timing.seconds(name) for name, run in short.items()}
    return seconds


def hopeful_runs(
    runs: Iterable[Run], operations: Callable[[Run], int | None], look: Callable[[Run], float]
) -> dict[Run, float]:
    """What look(run) gives, seconds of a call, for the single layers, and for the runs that would take no longer than
    the best cut of their layers if they computed 1.5 times as fast as the fastest shorter one.
    """
    seconds: dict[Run, float] = {}
    fastest = 0.0  # multiply-accumulates per second
    for run in sorted(runs, key=lambda run: run[1] - run[0]):
        count = operations(run) or 0
        if run[1] - run[0] == 1 or count <= FASTER * fastest * _least(run, seconds):
            seconds[run] = look(run)
            fastest = max(fastest, count / seconds[run])
    return seconds


def _least(layers: Run, costs: Mapping[Run, float]) -> float:
    """What the cheapest cut of these layers costs."""
    offset, stop = layers
    cut = cheapest(stop - offset, lambda run: costs.get((run[0] + offset, run[1] + offset)))
    return sum(costs[start + offset, stop + offset] for start, stop in cut)


def cut_timing(bench: Bench, cuts: Mapping[str, Runs], budget_s: float) -> Timing:
    """Whole cuts, timed together."""
    _, kernels = bench.problem.draw(bench.dtype, bench.device, SEED)
    method = METHODS[bench.method]
    calls = {name: (0, prepare_runs(bench.problem, kernels, runs, method)) for name, runs in cuts.items()}
    return _timed(bench, calls, budget_s)


def _timed(bench: Bench, calls: Mapping[str, tuple[int, Call]], budget_s: float, blocks: int = BLOCKS) -> Timing:
    """calls: name -> (the layer whose input it takes, the call). Kernels stay, inputs are new in every block."""
    inputs = bench.inputs(start for start, _ in calls.values())

    def build(block: int) -> dict[str, Callable[[], object]]:
        fresh = {start: x.clone() for start, x in inputs.items()}
        return {name: partial(call, fresh[start]) for name, (start, call) in calls.items()}

    with torch.no_grad():
        return measure(build, bench.device, budget_s, SEED, blocks, VISIT_S, least_blocks=1)  # medians, no verdicts


def decide(timings: Sequence[Timing]) -> str:
    """The faster of stacked and merged, unless another cut beats it by more than the switching margin.

    timings: of the same cuts, one per process: the mean over processes decides, and another cut must win in each.
    Where neither stacked nor merged was worth timing, the fastest cut.
    """

    def log_ratios(name: str, baseline: str) -> list[float]:
        return [median(timing.log_ratios(name, baseline)) for timing in timings]

    names = list(timings[0].samples)
    extremes = [name for name in names if name in EXTREMES]
    best = min(extremes or names, key=lambda name: fmean(log_ratios(name, names[0])))
    rivals = [name for name in names if name not in extremes]
    rival = min(rivals, key=lambda name: fmean(log_ratios(name, best)), default=best)
    return rival if max(log_ratios(rival, best)) < -SWITCHING_MARGIN else best


def is_close(timing: Timing, chosen: str) -> bool:
    """Whether another process might choose otherwise: some other cut takes less than `CLOSE` times as long."""
    others = (name for name in timing.samples if name != chosen)
    return any(median(timing.log_ratios(name, chosen)) < math.log(CLOSE) for name in others)
