"""Interleaved measurement of several calls, and the comparison of what was measured.

All calls are timed together: in blocks, each on freshly allocated inputs, because memory addresses bias whatever is
timed at them; in a block, rounds; in a round every call once, in a fresh random order, for long enough to outweigh the
clock. How far two timings of the same call then lie apart is the machine's own: `python -m analysis noise` measures it,
beside timing one call after the other. Every sample is kept. Rounds are correlated, so the block is the unit of what is
said of one process; what is said of a machine needs several processes, each a unit: `intervals`. Comparing needs no
torch, and timing imports it only for a device that is no CPU.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import truediv
from statistics import fmean, median
from typing import Any, TypeAlias

from linear_lasagna.conditions import page_faults
from linear_lasagna.devices import device_named
from linear_lasagna.intervals import (
    LEAST_BLOCKS,
    MARGIN,
    Verdict,
    autocorrelation,
    median_interval,
    process_interval,
    verdict,
)

Thunk: TypeAlias = Callable[[], Any]
Build: TypeAlias = Callable[[int], Mapping[str, Thunk]]
Clock: TypeAlias = Callable[[Thunk, int], float]
Observe: TypeAlias = Callable[[str, Callable[[Thunk], float]], float]

BLOCKS = 12
OVER_BUDGET = 8.0  # times the budget may be spent, at most, to give every call that many blocks
VISIT_S = 5e-4  # one call's turn in a round: long against the clock, short against the machine's drift
ROUNDS = 3  # rounds per block worth having, for which slow calls are thinned
SLOW_RATIO = 20.0  # a call this much slower than the fastest joins only some of the rounds
SETUP_RATIO = 5.0  # a first call this much longer than the budget is not tried again, unless it is observed
FLUSHING = 4.0  # times the budget may be spent where caches are emptied, with what that takes
WARM_S = 0.01  # a call this long gains nothing from a first, untimed one,
LASTING_S = 0.05  # and this long, nothing worth its time from one before it in the same process,
SETTING_UP = 1.5  # unless its first call took so many times as long: it sets up whenever it is made for new kernels
CHANCE = 1.64  # standard errors up to which an autocorrelation is taken for none


@dataclass(frozen=True)
class Timing:
    """Raw times of calls that were measured together, in one process.

    samples: name -> list per block of lists per round, seconds per call. A call that joins every k-th round has
    fewer samples than the others; `every` says which k. first_call_s: name -> seconds of the very first call.
    calls_per_sample: name -> calls that one sample averages. elapsed_s: wall time of the measurement;
    timed_s: the part of it that was spent inside timed calls. faults: name -> pages per call that the system had to
    provide anew; empty where it does not tell.
    """

    samples: dict[str, list[list[float]]]
    first_call_s: dict[str, float]
    calls_per_sample: dict[str, int]
    every: dict[str, int]
    elapsed_s: float
    timed_s: float
    faults: dict[str, float] = field(default_factory=dict)

    def medians(self, name: str) -> list[float]:
        """The median seconds per call of every block in which the call was timed."""
        return [median(block) for block in self.samples[name] if block]

    def seconds(self, name: str) -> float:
        """The median over the blocks' medians, seconds per call."""
        if name not in self._seconds:
            self._seconds[name] = median(self.medians(name))
        return self._seconds[name]

    def log_ratios(self, name: str, baseline: str) -> list[float]:
        """log(time / baseline's time) per block: the median over the rounds that both took part in.

        Where the two joined different rounds, the difference of the block's median logs. A call that was timed only
        once has one block.
        """
        if (name, baseline) not in self._log_ratios:
            blocks = zip(self.samples[name], self.samples[baseline], strict=False)
            self._log_ratios[name, baseline] = [_log_ratio(mine, theirs) for mine, theirs in blocks if mine and theirs]
        return self._log_ratios[name, baseline]

    # What was asked for before: an analysis asks for the same many times.
    @cached_property
    def _seconds(self) -> dict[str, float]:
        return {}

    @cached_property
    def _log_ratios(self) -> dict[tuple[str, str], list[float]]:
        return {}

    @property
    def plan(self) -> Plan:
        """What a further process needs to time the same calls as long."""
        rounds = max(len(block) for blocks in self.samples.values() for block in blocks)
        blocks = max(map(len, self.samples.values()))
        seconds = {n: self.seconds(n) for n in self.samples}
        return Plan(self.calls_per_sample, self.every, seconds, self.first_call_s, rounds, blocks)


@dataclass(frozen=True)
class Plan:
    """Calls per visit; in which rounds a call takes part; seconds per call, and of the very first; rounds per block;
    blocks.
    """

    number: Mapping[str, int]
    every: Mapping[str, int]
    seconds: Mapping[str, float]
    first_s: Mapping[str, float]
    rounds: int
    blocks: int

    def of(self, names: Sequence[str]) -> Plan:
        """The plan for these calls alone."""
        number, every = {n: self.number[n] for n in names}, {n: self.every[n] for n in names}
        seconds, first_s = {n: self.seconds[n] for n in names}, {n: self.first_s[n] for n in names}
        return Plan(number, every, seconds, first_s, self.rounds, self.blocks)

    def gaining(self, limit_s: float) -> list[str]:
        """The calls that gain from an untimed one before them: short ones, whose visits take less than limit_s, and
        those that set up when they are first made.
        """
        short = {name for name, number in self.number.items() if number * self.seconds[name] < limit_s}
        return [name for name in self.number if name in short or self._sets_up(name)]

    def _sets_up(self, name: str) -> bool:
        return self.first_s[name] > SETTING_UP * self.seconds[name]


@dataclass(frozen=True)
class Comparison:
    """time / baseline's time: the median over processes, an interval for it, and what it amounts to.

    lower and upper: between processes; of one process alone, over its blocks, and then they say nothing of the next.
    NaN where there are too few for an interval; the verdict is then "undecided". margin is the |log ratio| that a
    difference had to exceed to be called faster or slower. blocks: of all processes. between, within: standard
    deviations of log ratios, of processes and of the blocks of one; NaN where there are fewer than two.
    """

    ratio: float
    lower: float
    upper: float
    verdict: Verdict
    margin: float
    blocks: int
    processes: int = 1
    between: float = math.nan
    within: float = math.nan


def measure(
    build: Build,
    device: str = "cpu",
    budget_s: float = 1.0,
    seed: int = 0,
    blocks: int = BLOCKS,
    visit_s: float = VISIT_S,
    interleaved: bool = True,
    least_blocks: int = LEAST_BLOCKS,
    turn: Callable[[str], object] = lambda name: None,
    plan: Plan | None = None,
    clock: Clock | None = None,
    observe: Observe | None = None,
    flush: Callable[[], object] | None = None,
) -> Timing:
    """Time the calls that build(block) returns by name, on inputs that it allocates anew for every block.

    budget_s: seconds to spend in timed calls: a target, exceeded up to OVER_BUDGET times where fewer than least_blocks
    blocks of one round would fit, so that all calls get those blocks wherever one round fits the budget. A call over 20
    times slower than the fastest joins every k-th round, and some of every block; one that outlasts the budget alone is
    timed once: its second call, where the first took at most SETUP_RATIO times the budget. observe(name, timed): makes
    that second call, whatever the first took, to learn more from it than the seconds that timed(call) gives.
    interleaved=False gives each call its rounds in one go, so that it finds the caches as itself left them. seed fixes
    the order of the visits.
    turn(name) is told, outside the timed part, whose turn it is, so that a call that never returns can be named.
    plan: of an earlier process's timing, to be timed in the same way: only calls shorter than LASTING_S, and those that
    set up, run once before they are timed, and no block begins after OVER_BUDGET times the budget.
    clock(call, number): the seconds per call of so many calls; the device's, where none is given.
    flush() empties the caches: it is called before every visit, outside of the timed part, and a visit is one call.
    What it takes counts, so that there are fewer rounds.
    Raises ValueError for a budget that is not positive, or where build returns no calls.
    """
    if not budget_s > 0:
        raise ValueError(f"budget_s must be positive, not {budget_s}")
    started = time.perf_counter()
    calls = build(0)
    if not calls:
        raise ValueError("build(0) returned no calls to time")
    there = device_named(device)
    visit = _Visits(clock or there.seconds, turn, flush, there.synchronise)
    if plan is None:
        first_call_s = {name: visit(name, call, 1) for name, call in calls.items()}
        outlasting = _outlasting(calls, first_call_s, visit, budget_s, observe)
        plan = _planned(
            {name: call for name, call in calls.items() if name not in outlasting},
            *(first_call_s, visit, budget_s, blocks, visit_s, least_blocks),
        )
    else:
        outlasting, first_call_s = {}, {name: visit(name, calls[name], 1) for name in plan.gaining(LASTING_S)}
    samples: dict[str, list[list[float]]] = {n: [[outlasting[n]]] if n in outlasting else [] for n in calls}
    blockwise = (calls if block == 0 else build(block) for block in range(plan.blocks))
    for times_of in _blocks(blockwise, plan, visit, random.Random(seed), OVER_BUDGET * budget_s, interleaved):
        for name, times in times_of.items():
            samples[name].append(times)
    elapsed_s = time.perf_counter() - started
    once = dict.fromkeys(outlasting, 1)
    number, every = {**plan.number, **once}, {**plan.every, **once}
    return Timing(samples, first_call_s, number, every, elapsed_s, visit.timed_s, visit.faults)


class _Visits:
    """The clock, which tells whose turn it is before it starts, and sums what it has timed."""

    def __init__(
        self,
        clock: Clock,
        turn: Callable[[str], object],
        flush: Callable[[], object] | None = None,
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        self.clock, self.turn, self.flush, self._wait = clock, turn, flush, wait
        self.timed_s = 0.0
        self._flushes_s: list[float] = []
        self.forget_faults()

    def forget_faults(self) -> None:
        self._calls, self._faults = dict[str, int](), dict[str, int]()

    @property
    def flush_s(self) -> float:
        """Seconds that emptying the caches takes before a visit."""
        return median(self._flushes_s) if self._flushes_s else 0.0

    def __call__(self, name: str, call: Thunk, number: int) -> float:
        if self.flush is not None:
            start = time.perf_counter()
            self.flush()
            self._wait()
            self._flushes_s.append(time.perf_counter() - start)
        self.turn(name)
        before = page_faults()
        seconds = self.clock(call, number)
        after = page_faults()
        self.timed_s += number * seconds
        if before is not None and after is not None:
            self._calls[name] = self._calls.get(name, 0) + number
            self._faults[name] = self._faults.get(name, 0) + after - before
        return seconds

    @property
    def faults(self) -> dict[str, float]:
        """Per call."""
        return {name: faults / self._calls[name] for name, faults in self._faults.items()}


def _outlasting(
    calls: Mapping[str, Thunk],
    first_call_s: Mapping[str, float],
    visit: _Visits,
    budget_s: float,
    observe: Observe | None,
) -> dict[str, float]:
    """The seconds of calls that take longer than the budget; a first call that does may only have been setting up."""
    seconds: dict[str, float] = {}
    for name, first_s in first_call_s.items():
        if first_s > SETUP_RATIO * budget_s and observe is None:
            seconds[name] = first_s
        elif first_s > budget_s:
            timed = partial(visit, name, number=1)
            seconds[name] = timed(calls[name]) if observe is None else observe(name, timed)
    return {name: each for name, each in seconds.items() if each > budget_s}


def _planned(
    calls: Mapping[str, Thunk],
    first_s: Mapping[str, float],
    visit: _Visits,
    budget_s: float,
    blocks: int,
    visit_s: float,
    least_blocks: int,
) -> Plan:
    """Spread the budget over blocks and rounds, after a second look at how long a call takes."""
    if not calls:
        return Plan({}, {}, {}, {}, rounds=0, blocks=0)
    number, each, visits = {}, {}, {}
    for name, call in calls.items():
        seconds, number[name] = visit(name, call, 1), 1
        if seconds < visit_s and visit.flush is None:  # too short for one clock reading: estimate from a full visit
            seconds = visit(name, call, math.ceil(visit_s / max(seconds, 1e-9)))
            number[name] = math.ceil(visit_s / max(seconds, 1e-9))
        each[name], visits[name] = seconds, number[name] * seconds
    if visit.flush is not None:
        budget_s, visits = FLUSHING * budget_s, {name: spent + visit.flush_s for name, spent in visits.items()}
    every = _thinned(visits, budget_s, blocks)
    rounds = _rounds(budget_s, visits, every)
    least = min(least_blocks, blocks, _rounds(OVER_BUDGET * budget_s, visits, every))
    return Plan(number, every, each, first_s, max(1, rounds // blocks), max(min(blocks, rounds), least))


def _thinned(visits: Mapping[str, float], budget_s: float, blocks: int) -> dict[str, int]:
    """name -> k: the call joins every k-th round, so that slow calls leave time for enough rounds of the others.

    Calls over SLOW_RATIO times the fastest are thinned to that ratio; where the budget is short, to a smaller one.
    A call still joins at least one round of every block.
    """
    every = dict.fromkeys(visits, 1)
    for ratio in (SLOW_RATIO, SLOW_RATIO / 2, SLOW_RATIO / 4, SLOW_RATIO / 8):
        fastest = min(visits.values())
        wanted = {name: max(1, round(t / (ratio * fastest))) for name, t in visits.items()}
        every = _in_every_block(wanted, visits, budget_s, blocks)
        if _rounds(budget_s, visits, every) >= ROUNDS * blocks:
            break
    return every


def _in_every_block(every: dict[str, int], visits: Mapping[str, float], budget_s: float, blocks: int) -> dict[str, int]:
    """No k above the rounds of a block. Lowering one makes rounds longer, and so fewer: repeated until it holds."""
    while max(every.values()) > (most := max(1, _rounds(budget_s, visits, every) // blocks)):
        every = {name: min(k, most) for name, k in every.items()}
    return every


def _rounds(budget_s: float, visits: Mapping[str, float], every: Mapping[str, int]) -> int:
    return max(1, int(budget_s / sum(t / every[name] for name, t in visits.items())))


def _blocks(
    blockwise: Iterable[Mapping[str, Thunk]],
    plan: Plan,
    visit: _Visits,
    order: random.Random,
    limit_s: float,
    interleaved: bool,
) -> Iterator[dict[str, list[float]]]:
    """The samples of each block's calls; none begins after limit_s in timed calls."""
    if gc.isenabled():  # inside of a longer measurement a collection would take longer than what is timed
        gc.collect()
    visit.forget_faults()
    before_s = visit.timed_s
    with no_garbage_collection():
        for block, calls in enumerate(blockwise):
            yield _block(calls, plan, visit, order, block, interleaved)
            if visit.timed_s - before_s > limit_s:
                return


def _block(
    calls: Mapping[str, Thunk],
    plan: Plan,
    visit: _Visits,
    order: random.Random,
    block: int,
    interleaved: bool,
) -> dict[str, list[float]]:
    """One block's samples. What gains from it runs once untimed first, because it is the first on this memory."""
    names = list(plan.number)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in plan.gaining(WARM_S):
        visit.turn(name)
        calls[name]()
    turns = [(r, name) for r in range(plan.rounds) for name in order.sample(names, len(names))]
    if not interleaved:
        position = {name: i for i, name in enumerate(order.sample(names, len(names)))}
        turns.sort(key=lambda turn: position[turn[1]])
    for r, name in turns:
        if (block * plan.rounds + r) % plan.every[name] == 0:
            times[name].append(visit(name, calls[name], plan.number[name]))
    return times


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Nothing is collected inside."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def compare(
    timing: Timing | Sequence[Timing],
    baseline: str = "direct",
    control: str | None = "control",
    margin: float = MARGIN,
    noise: float = 0.0,
    only: Collection[str] | None = None,
) -> dict[str, Comparison]:
    """Every other call against the baseline, by `verdict`. timing: of one process, or of several in their order.

    noise: the |log ratio| that a control shows; the control's own, if that is more. only: the calls to compare, None
    for all that were timed. Raises KeyError for a baseline that was not timed.
    """
    timings = [timing] if isinstance(timing, Timing) else list(timing)
    names = dict.fromkeys(name for each in timings for name in each.samples)
    if baseline not in names:
        raise KeyError(f"baseline {baseline!r} was not timed; timed: {', '.join(names)}")
    series = {name: log_ratios(timings, name, baseline) for name in names if name != baseline}
    alone = any(len(each) == 1 for each in series.values())  # else no interval is over blocks
    correlation = dependence([logs for each in series.values() for logs in each]) if alone else 0.0
    if control is not None and series.get(control):
        noise = max(noise, abs(median(map(median, series[control]))))
    wanted = [name for name in series if only is None or name in only]
    return {name: _comparison(series[name], correlation, margin, noise) for name in wanted}


def log_ratios(timings: Sequence[Timing], name: str, baseline: str) -> list[list[float]]:
    """The log ratios of the blocks of every process in which both calls were timed."""
    both = [timing for timing in timings if timing.samples.get(name) and timing.samples.get(baseline)]
    return [logs for timing in both if (logs := timing.log_ratios(name, baseline))]


def log_ratio(timings: Sequence[Timing], name: str, baseline: str) -> float:
    """The median over processes of the median over blocks; NaN where the two were never timed together."""
    each = [median(logs) for logs in log_ratios(timings, name, baseline)]
    return median(each) if each else math.nan


def dependence(series: Sequence[Sequence[float]]) -> float:
    """Of each block on the one before it in its process, all calls together: their autocorrelation, 0 where chance
    alone could make it as large.
    """
    correlation, values = autocorrelation(series), sum(map(len, series))
    return correlation if values and correlation > CHANCE / math.sqrt(values) else 0.0


def _log_ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    if len(mine) == len(theirs):
        return median(map(math.log, map(truediv, mine, theirs)))
    return math.log(median(mine) / median(theirs))


def _comparison(series: list[list[float]], correlation: float, margin: float, noise: float) -> Comparison:
    raised, blocks = max(margin, noise), sum(map(len, series))
    if not series:
        return Comparison(math.nan, math.nan, math.nan, "undecided", raised, 0, 0)
    each = [median(logs) for logs in series]
    estimate = median(each)
    lower, upper = _interval(series, correlation) or (math.nan, math.nan)
    judged = verdict(estimate, lower, upper, margin, noise)
    spreads = (_deviation([each]), _deviation(series))
    ends = (math.exp(lower), math.exp(upper))
    return Comparison(math.exp(estimate), *ends, judged, raised, blocks, len(series), *spreads)


def _interval(series: list[list[float]], correlation: float) -> tuple[float, float] | None:
    """Between processes; of one process alone, over its blocks."""
    if len(series) > 1:
        return process_interval([median(logs) for logs in series])
    [logs] = series
    return median_interval(logs, correlation=correlation) if len(logs) >= LEAST_BLOCKS else None


def _deviation(series: list[list[float]]) -> float:
    """The standard deviation of values within their series: the root of the mean of the variances; NaN for none."""
    variances = [_variance(values) for values in series if len(values) > 1]
    return math.sqrt(fmean(variances)) if variances else math.nan


def _variance(values: Sequence[float]) -> float:
    """What `statistics.variance` gives, but for rounding, in a tenth of its time."""
    mean = fmean(values)
    return sum([(value - mean) ** 2 for value in values]) / (len(values) - 1)
