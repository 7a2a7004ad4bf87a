"""Interleaved measurement of several calls, and the comparison of what was measured.

All calls are timed together: about 12 blocks, each on freshly allocated inputs, because memory addresses bias
whatever is timed at them; in a block, rounds; in a round every call once, in a fresh random order, for long enough to
outweigh the clock. How far two timings of the same call then lie apart is the machine's own: `python -m analysis noise`
measures it, beside timing one call after the other. Every sample is kept. The block is the unit of the statistics,
because rounds are correlated; an interval over blocks speaks of one process, and does not contain what differs from one
process to the next. Comparing needs no torch, and timing imports it only for a device that is no CPU.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, TypeAlias

from linear_lasagna.devices import device_named

Thunk: TypeAlias = Callable[[], Any]
Build: TypeAlias = Callable[[int], Mapping[str, Thunk]]
_Clock: TypeAlias = Callable[[Thunk, int], float]
_Visit: TypeAlias = Callable[[str, Thunk, int], float]
Verdict: TypeAlias = Literal["faster", "slower", "tie", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("faster", "slower", "tie", "undecided")

BLOCKS = 12
LEAST_BLOCKS = 8  # fewer give no interval worth a verdict
OVER_BUDGET = 8.0  # times the budget may be spent, at most, to give every call that many blocks
VISIT_S = 5e-4  # one call's turn in a round: long against the clock, short against the machine's drift
ROUNDS = 3  # rounds per block worth having, for which slow calls are thinned
SLOW_RATIO = 20.0  # a call this much slower than the fastest joins only some of the rounds
SETUP_RATIO = 5.0  # a first call this much longer than the budget is not tried again
WARM_S = 0.01  # a call this long gains nothing from a first, untimed one
MARGIN = 0.01  # smaller differences are never a verdict
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Timing:
    """Raw times of calls that were measured together.

    samples: name -> list per block of lists per round, seconds per call. A call that joins every k-th round has
    fewer samples than the others; `every` says which k. first_call_s: name -> seconds of the very first call.
    calls_per_sample: name -> calls that one sample averages. elapsed_s: wall time of the measurement;
    timed_s: the part of it that was spent inside timed calls.
    """

    samples: dict[str, list[list[float]]]
    first_call_s: dict[str, float]
    calls_per_sample: dict[str, int]
    every: dict[str, int]
    elapsed_s: float
    timed_s: float

    def medians(self, name: str) -> list[float]:
        """The median seconds per call of every block in which the call was timed."""
        return [median(block) for block in self.samples[name] if block]

    def seconds(self, name: str) -> float:
        """The median over the blocks' medians, seconds per call."""
        return median(self.medians(name))


@dataclass(frozen=True)
class Comparison:
    """time / baseline's time: the median over blocks, an interval over blocks, and what it amounts to.

    lower and upper are NaN where there are too few blocks for an interval; the verdict is then "undecided".
    margin is the |log ratio| that a difference had to exceed to be called faster or slower.
    """

    ratio: float
    lower: float
    upper: float
    verdict: Verdict
    margin: float
    blocks: int


@dataclass(frozen=True)
class _Plan:
    """Calls per visit, in which rounds a call takes part, which calls are short; rounds per block, blocks."""

    number: dict[str, int]
    every: dict[str, int]
    short: frozenset[str]
    rounds: int
    blocks: int


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
) -> Timing:
    """Time the calls that build(block) returns by name, on inputs that it allocates anew for every block.

    budget_s: seconds to spend in timed calls: a target, exceeded up to OVER_BUDGET times where fewer than least_blocks
    blocks of one round would fit, so that all calls get those blocks wherever one round fits the budget. A call over 20
    times slower than the fastest joins every k-th round, and some of every block; one that outlasts the budget alone is
    timed once: its second call, where the first took at most SETUP_RATIO times the budget. interleaved=False gives each
    call its rounds in one go, so that it finds the caches as itself left them. seed fixes the order of the visits.
    turn(name) is told, outside the timed part, whose turn it is, so that a call that never returns can be named.
    Raises ValueError for a budget that is not positive, or where build returns no calls.
    """
    if not budget_s > 0:
        raise ValueError(f"budget_s must be positive, not {budget_s}")
    started = time.perf_counter()
    calls = build(0)
    if not calls:
        raise ValueError("build(0) returned no calls to time")
    visit = _announced(device_named(device).seconds, turn)
    first_call_s = {name: visit(name, call, 1) for name, call in calls.items()}
    outlasting = {}
    for name, call in calls.items():
        seconds = _outlasts(name, call, first_call_s[name], visit, budget_s)
        if seconds is not None:
            outlasting[name] = seconds
    rest = {name: call for name, call in calls.items() if name not in outlasting}
    plan = _plan(rest, visit, budget_s, blocks, visit_s, least_blocks)
    samples: dict[str, list[list[float]]] = {n: [[outlasting[n]]] if n in outlasting else [] for n in calls}
    order = random.Random(seed)
    if gc.isenabled():  # inside of a longer measurement a collection would take longer than what is timed
        gc.collect()
    with no_garbage_collection():
        for block in range(plan.blocks):
            calls = calls if block == 0 else build(block)
            for name, times in _block(calls, plan, visit, turn, order, block, interleaved).items():
                samples[name].append(times)
    timed_s = sum(first_call_s.values())
    timed_s += sum(sum(map(sum, samples[name])) * number for name, number in plan.number.items())
    elapsed_s = time.perf_counter() - started
    once = dict.fromkeys(outlasting, 1)
    return Timing(samples, first_call_s, plan.number | once, plan.every | once, elapsed_s, timed_s)


def _announced(clock: _Clock, turn: Callable[[str], object]) -> _Visit:
    """The clock, which tells whose turn it is before it starts."""

    def visit(name: str, call: Thunk, number: int) -> float:
        turn(name)
        return clock(call, number)

    return visit


def _outlasts(name: str, call: Thunk, first_s: float, visit: _Visit, budget_s: float) -> float | None:
    """The seconds of a call that takes longer than the budget; a first call that does may only have been setting up."""
    if first_s <= budget_s or first_s > SETUP_RATIO * budget_s:
        return None if first_s <= budget_s else first_s
    seconds = visit(name, call, 1)
    return seconds if seconds > budget_s else None


def _plan(
    calls: Mapping[str, Thunk], visit: _Visit, budget_s: float, blocks: int, visit_s: float, least_blocks: int
) -> _Plan:
    """Spread the budget over blocks and rounds, after a second look at how long a call takes."""
    if not calls:
        return _Plan({}, {}, frozenset(), rounds=0, blocks=0)
    number, visits = {}, {}
    for name, call in calls.items():
        seconds, number[name] = visit(name, call, 1), 1
        if seconds < visit_s:  # too short for one clock reading: estimate from a full visit
            seconds = visit(name, call, math.ceil(visit_s / max(seconds, 1e-9)))
            number[name] = math.ceil(visit_s / max(seconds, 1e-9))
        visits[name] = number[name] * seconds
    every = _thinned(visits, budget_s, blocks)
    rounds = _rounds(budget_s, visits, every)
    least = min(least_blocks, blocks, _rounds(OVER_BUDGET * budget_s, visits, every))
    short = frozenset(name for name, t in visits.items() if t < WARM_S)
    return _Plan(number, every, short, max(1, rounds // blocks), max(min(blocks, rounds), least))


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


def _block(
    calls: Mapping[str, Thunk],
    plan: _Plan,
    visit: _Visit,
    turn: Callable[[str], object],
    order: random.Random,
    block: int,
    interleaved: bool,
) -> dict[str, list[float]]:
    """One block's samples. A short call runs once untimed first, because it is the first on this memory."""
    names = list(plan.number)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in plan.short:
        turn(name)
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
    timing: Timing,
    baseline: str = "direct",
    control: str | None = "control",
    margin: float = MARGIN,
    noise: float = 0.0,
) -> dict[str, Comparison]:
    """Every other call against the baseline, by `verdict`. noise: the |log ratio| that a control shows; the control's
    own, if that is more. Raises KeyError for a baseline that was not timed.
    """
    if baseline not in timing.samples:
        raise KeyError(f"baseline {baseline!r} was not timed; timed: {', '.join(timing.samples)}")
    logs = {name: block_log_ratios(timing, name, baseline) for name in timing.samples if name != baseline}
    if control is not None and logs.get(control):
        noise = max(noise, abs(median(logs[control])))
    return {name: _comparison(values, margin, noise) for name, values in logs.items()}


def block_log_ratios(timing: Timing, name: str, baseline: str) -> list[float]:
    """log(time / baseline's time) per block: the median over the rounds that both took part in.

    Where the two joined different rounds, the difference of the block's median logs. A call that was timed only
    once has one block.
    """
    ratios = []
    for mine, theirs in zip(timing.samples[name], timing.samples[baseline], strict=False):
        if len(mine) == len(theirs) and mine:
            ratios.append(median(math.log(a / b) for a, b in zip(mine, theirs, strict=True)))
        elif mine and theirs:
            ratios.append(math.log(median(mine) / median(theirs)))
    return ratios


def _comparison(logs: list[float], margin: float, noise: float) -> Comparison:
    raised = max(margin, noise)
    if not logs:
        return Comparison(math.nan, math.nan, math.nan, "undecided", raised, 0)
    estimate = median(logs)
    lower, upper = (median_interval(logs) if len(logs) >= LEAST_BLOCKS else None) or (math.nan, math.nan)
    judged = verdict(estimate, lower, upper, margin, noise)
    return Comparison(math.exp(estimate), math.exp(lower), math.exp(upper), judged, raised, len(logs))


def verdict(estimate: float, lower: float, upper: float, margin: float = MARGIN, noise: float = 0.0) -> Verdict:
    """What a log ratio with its interval amounts to: the one rule of all verdicts.

    "faster", "slower": the interval excludes zero and the estimate exceeds the margin, and the noise that a control
    shows. "tie": the whole interval lies within the margin; noise never widens it. Else, and where the ends are NaN,
    "undecided".
    """
    if -margin <= lower and upper <= margin:
        return "tie"
    if abs(estimate) > max(margin, noise) and (lower > 0 or upper < 0):
        return "faster" if estimate < 0 else "slower"
    return "undecided"


def median_interval(values: list[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """A distribution-free interval for the median from order statistics, of at least the given confidence.

    None where there are too few values. Source: David and Nagaraja, Order Statistics, section 7.1: the interval
    between the k-th smallest and the k-th largest covers 1 - 2 P(Binomial(n, 1/2) < k).
    """
    n = len(values)
    tail, k = 0.0, 0
    while True:
        tail += math.comb(n, k) / 2**n
        if 2 * tail > 1 - confidence:
            break
        k += 1
    if k == 0:
        return None
    ordered = sorted(values)
    return ordered[k - 1], ordered[n - k]
