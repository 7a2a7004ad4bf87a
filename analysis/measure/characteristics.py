"""How good are the intervals and verdicts of the timings themselves? Simulated, where the true ratio is known.

Trials of a baseline, its control and two ways, one slower and one faster by the same difference, are timed by the code
that times all trials, on a clock of their own whose calls take as long as a noise model says; processes are added by
the rule that ends all trials. Whatever a model does, it does to all calls alike, so that the true ratio stays what it
is by symmetry; but for `order`, which is unfair on purpose.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple, TypeAlias

from analysis.data import characteristics
from analysis.data.frames import Frame
from linear_lasagna.intervals import MARGIN
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.timing import BLOCKS, Plan, Timing, compare, measure, no_garbage_collection
from linear_lasagna.trial import processes
from linear_lasagna.trial.files import BLOCKS as FEW_BLOCKS
from linear_lasagna.trial.record import Cell, Repeat, Trial

Past: TypeAlias = dict[str, float]
Slowed: TypeAlias = Callable[[str, int, float], float]
Noise: TypeAlias = Callable[[Random, int, Past], Slowed]

CALL_S = 1e-3
ROUNDS = 4  # of a block; a trial's budget holds more, of short calls far more
DIFFERENCES = (0.0, 0.01, 0.02, 0.05)
FIRST = 4  # trials of each row whose digest is kept
CALLS = ("direct", "control", "slower", "faster")
COLUMNS = ["method", "noise", "difference", "cells", "intervals", "covered", "wrong_verdicts", "found", "ties"]
COLUMNS += ["undecided_cells", "processes", "by_verdict", "by_precise", "by_most", "digest"]


# The noise models. A model(draw, process, past) gives slowed(name, block, now): the logarithm of what one call takes
# beyond its true time. process: its number in its trial; past: what one process of a trial leaves to the next.


def independent(draw: Random, process: int, past: Past) -> Slowed:
    """Every call varies by 3 %, by itself."""
    return lambda name, block, now: draw.gauss(0, 0.03)


def correlated_rounds(draw: Random, process: int, past: Past) -> Slowed:
    """Every call varies by 5 %, much as it did the last time: AR(1), 0.8."""
    last = {name: draw.gauss(0, 0.05) for name in CALLS}

    def slowed(name: str, block: int, now: float) -> float:
        last[name] = 0.8 * last[name] + draw.gauss(0, 0.03)
        return last[name]

    return slowed


def drift(draw: Random, process: int, past: Past) -> Slowed:
    """All calls become up to 30 % slower and faster again, and each up to 3 % of its own, over some 50 rounds."""
    turn = {name: draw.uniform(0, 2 * math.pi) for name in ("", *CALLS)}

    def slowed(name: str, block: int, now: float) -> float:
        angle = now / (8 * len(CALLS) * CALL_S)
        return 0.3 * math.sin(angle + turn[""]) + 0.03 * math.sin(angle + turn[name]) + draw.gauss(0, 0.02)

    return slowed


def bursts(draw: Random, process: int, past: Past) -> Slowed:
    """A fifth of the time another job has the core: what runs then takes twice as long."""
    edge, busy = draw.expovariate(1 / 0.02), False

    def slowed(name: str, block: int, now: float) -> float:
        nonlocal edge, busy
        while now >= edge:
            busy = not busy
            edge += draw.expovariate(1 / 0.005 if busy else 1 / 0.02)
        return draw.gauss(0, 0.02) + (math.log(2) if busy else 0.0)

    return slowed


def heavy_tails(draw: Random, process: int, past: Past) -> Slowed:
    """What a call takes beyond its time has no variance, and hardly a mean: Pareto, exponent 1.2, from 2 %."""
    return lambda name, block, now: math.log1p(0.02 * draw.paretovariate(1.2))


def bimodal_calls(draw: Random, process: int, past: Past) -> Slowed:
    """Every other call, by chance, takes 30 % longer."""
    return lambda name, block, now: draw.gauss(0, 0.01) + (math.log(1.3) if draw.random() < 0.5 else 0.0)


def blocks_apart(draw: Random, process: int, past: Past) -> Slowed:
    """Where its memory lies makes a call 5 % slower or faster, for a block."""
    off: dict[tuple[str, int], float] = {}

    def slowed(name: str, block: int, now: float) -> float:
        if (name, block) not in off:
            off[name, block] = draw.gauss(0, 0.05)
        return off[name, block] + draw.gauss(0, 0.02)

    return slowed


def order(draw: Random, process: int, past: Past) -> Slowed:
    """What follows the slower way finds the caches empty and takes 10 % longer: that way itself less often than others,
    because it never follows itself within a round.
    """
    before = ""

    def slowed(name: str, block: int, now: float) -> float:
        nonlocal before
        after, before = before, name
        return draw.gauss(0, 0.02) + (math.log(1.1) if after == "slower" else 0.0)

    return slowed


def _by_process(draw: Random, off: dict[str, float]) -> Slowed:
    return lambda name, block, now: off[name] + draw.gauss(0, 0.02)


def processes_apart(draw: Random, process: int, past: Past) -> Slowed:
    """Every process makes each call 5 % slower or faster, as long as it lives."""
    return _by_process(draw, {name: draw.gauss(0, 0.05) for name in CALLS})


def bimodal_processes(draw: Random, process: int, past: Past) -> Slowed:
    """In every other process, by chance, a call takes twice as long; each call by itself."""
    return _by_process(draw, {name: math.log(2) * (draw.random() < 0.5) for name in CALLS})


def rarely_bimodal(draw: Random, process: int, past: Past) -> Slowed:
    """The same in one process of ten."""
    return _by_process(draw, {name: math.log(2) * (draw.random() < 0.1) for name in CALLS})


def slow_processes(draw: Random, process: int, past: Past) -> Slowed:
    """One process of six is slow: all of it by a half, and each call by some 20 % more of its own."""
    slow = draw.random() < 1 / 6
    return _by_process(draw, {name: 0.4 + draw.expovariate(1 / 0.2) if slow else draw.gauss(0, 0.01) for name in CALLS})


def trend(draw: Random, process: int, past: Past) -> Slowed:
    """From process to process all calls become 3 % slower, and 10 % less alike."""
    off = {name: 0.03 * process + draw.gauss(0, 0.02 * 1.1**process) for name in CALLS}
    return _by_process(draw, off)


def correlated_processes(draw: Random, process: int, past: Past) -> Slowed:
    """Every process makes each call 5 % slower or faster, much as the one before did: AR(1), 0.6."""
    for name in CALLS:
        past[name] = 0.6 * past[name] + draw.gauss(0, 0.04) if name in past else draw.gauss(0, 0.05)
    return _by_process(draw, dict(past))


NOISE: dict[str, Noise] = {
    "independent": independent,
    "correlated rounds": correlated_rounds,
    "drift": drift,
    "bursts": bursts,
    "heavy tails": heavy_tails,
    "bimodal calls": bimodal_calls,
    "blocks apart": blocks_apart,
    "order": order,
    "processes apart": processes_apart,
    "bimodal processes, 50/50": bimodal_processes,
    "bimodal processes, 10/90": rarely_bimodal,
    "slow processes": slow_processes,
    "trend": trend,
    "correlated processes": correlated_processes,
}


class Outcome(NamedTuple):
    """What one cell came to. way: "slower" or "faster", which it is unless the difference is 0; covered: whether its
    interval, if it has one, holds the true ratio; reason: as `processes.ended`.
    """

    way: str
    interval: bool
    covered: bool
    verdict: str
    processes: int
    reason: str


def several(noise: str, difference: float, number: int) -> list[Outcome]:
    """The cells of a trial that is timed in as many processes as the rule of all trials asks for."""
    simulated = _Simulated(noise, difference, number)
    first = simulated.process(FEW_BLOCKS)
    trial = simulated.trial(first)
    while not processes.finished(trial) and processes.attempts(trial) < processes.MOST_PROCESSES:
        trial.repeats.append(Repeat(samples=simulated.process(FEW_BLOCKS, first.plan).samples))
    return _outcomes(trial, difference)


def single(noise: str, difference: float, number: int) -> list[Outcome]:
    """Those of a trial that is timed in one process, of more blocks."""
    simulated = _Simulated(noise, difference, number)
    return _outcomes(simulated.trial(simulated.process(BLOCKS)), difference)


METHODS: dict[str, Callable[[str, float, int], list[Outcome]]] = dict(
    zip(characteristics.METHODS, (several, single), strict=True)
)


STEPS = len(METHODS) * len(NOISE) * len(DIFFERENCES)  # ticks of `rows`


class _Simulated:
    """A machine on which the processes of one trial run one after another. Time passes in calls alone."""

    def __init__(self, noise: str, difference: float, number: int) -> None:
        self._model, self._draw = NOISE[noise], Random(f"{noise} {difference} {number}")
        self._seconds: dict[str, float] = dict.fromkeys(CALLS, CALL_S)
        self._seconds |= {"slower": CALL_S * (1 + difference), "faster": CALL_S / (1 + difference)}
        self._past: Past = {}
        self._begun = 0

    def process(self, blocks: int, plan: Plan | None = None) -> Timing:
        """One more process. blocks: of one without a plan."""
        slowed, now = self._model(self._draw, self._begun, self._past), 0.0
        self._begun += 1

        def build(block: int) -> dict[str, Callable[[], float]]:
            return {name: lambda name=name: call(name, block) for name in CALLS}

        def call(name: str, block: int) -> float:
            nonlocal now
            seconds = self._seconds[name] * math.exp(slowed(name, block, now))
            now += seconds
            return seconds

        budget_s = blocks * ROUNDS * len(CALLS) * CALL_S
        settings = {"budget_s": budget_s, "blocks": blocks, "least_blocks": 1, "seed": self._draw.getrandbits(32)}
        return measure(build, **settings, plan=plan, clock=_clock)

    def trial(self, timing: Timing) -> Trial:
        cells = {name: Cell(samples=samples) for name, samples in timing.samples.items()}
        return Trial(PROBLEM, "float32", "cpu", 1.0, 0, cells, environment={})


PROBLEM = Problem("simulated", 1, 1, (1, 1), (Layer(1, 1),))


def _clock(call: Callable[[], float], number: int) -> float:
    return sum(call() for _ in range(number)) / number


def _outcomes(trial: Trial, difference: float) -> list[Outcome]:
    compared = compare(trial.timings(), trial.baseline, trial.control)
    noise = abs(math.log(compared[trial.control].ratio))
    outcomes = []
    for way, true in (("slower", 1 + difference), ("faster", 1 / (1 + difference))):
        found = compared[way]
        held = (not math.isnan(found.lower), found.lower <= true <= found.upper)
        outcomes.append(Outcome(way, *held, found.verdict, found.processes, processes.ended(found, noise)))
    return outcomes


def rows(trials: int, tick: Callable[[], None] = lambda: None) -> Frame:
    """One row per method, noise model and true difference, from so many trials of two cells each.

    cells; how many have intervals, and how many of those hold the true ratio (covered); how many verdicts are false:
    faster or slower where that is wrong, and a tie of what differs by more than the margin; how many say rightly which
    is faster (found); ties, undecided; processes, in the mean; how many cells ended by verdict, by a narrow interval
    (precise), and without either (most). digest: of the first trials' outcomes.
    """
    import pandas

    made = []
    for method, noise, difference in itertools.product(METHODS, NOISE, DIFFERENCES):
        with no_garbage_collection():
            outcomes = [each for n in range(trials) for each in METHODS[method](noise, difference, n)]
        made.append((method, noise, difference, *_summed(outcomes, difference), digest(method, noise, difference)))
        tick()
    return pandas.DataFrame(made, columns=COLUMNS)


def digest(method: str, noise: str, difference: float) -> str:
    """Of the outcomes of the first trials: other numbers mean that the code or a model has changed."""
    with no_garbage_collection():
        outcomes = [tuple(each) for n in range(FIRST) for each in METHODS[method](noise, difference, n)]
    return hashlib.sha256(repr(outcomes).encode()).hexdigest()[:12]


def print_summary(frame: Frame) -> None:
    """Per noise model the summary as a table on stdout; in brackets, that of one process alone."""
    from rich.console import Console
    from rich.table import Table

    cells = int(frame["cells"].min())
    table = Table(title=f"Simulated trials, {cells} cells for each noise and true difference (one process alone)")
    for heading in ("noise", "covered", "false", "2 % found", "5 % found", "processes", ""):
        table.add_column(heading, justify="left" if heading == "noise" else "right")
    for row in characteristics.summary(frame).itertuples(index=False):
        pairs = ((row.covered, row.covered_one), (row.false, row.false_one))
        pairs += ((row.found_2, row.found_2_one), (row.found_5, row.found_5_one))
        shown = [f"{several:.1%} ({one:.0%})" for several, one in pairs]
        counts = f"{row.processes_0:.0f} to {row.processes_5:.0f}"
        table.add_row(row.noise, *shown, counts, "fails" if row.fails else "")
    Console(width=100).print(table)


def _summed(outcomes: list[Outcome], difference: float) -> Iterator[float]:
    yield len(outcomes)
    yield sum(each.interval for each in outcomes)
    yield sum(each.covered for each in outcomes)
    yield sum(_false(each, difference) for each in outcomes)
    yield sum(each.verdict == each.way for each in outcomes) if difference else 0
    yield sum(each.verdict == "tie" for each in outcomes)
    yield sum(each.verdict == "undecided" for each in outcomes)
    yield round(sum(each.processes for each in outcomes) / len(outcomes), 2)
    for reason in ("verdict", "precise", "most"):
        yield sum(each.reason == reason for each in outcomes)


def _false(outcome: Outcome, difference: float) -> bool:
    if outcome.verdict == "undecided":
        return False
    if outcome.verdict == "tie":
        return math.log1p(difference) > MARGIN
    return not difference or outcome.verdict != outcome.way
