"""Times the ways of a trial together, checks them afterwards, and goes on without those that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from linear_lasagna.devices import device_named
from linear_lasagna.imposing import flush_of
from linear_lasagna.intervals import LEAST_BLOCKS
from linear_lasagna.timing import Plan, Timing, measure
from linear_lasagna.trial.gate import Sitting, Thunk
from linear_lasagna.trial.record import Cell, Trial

Stage: TypeAlias = Callable[[str, str], None]
Turn: TypeAlias = Callable[[str], object]
Build: TypeAlias = Callable[[int, str], Sitting]
After: TypeAlias = Callable[[str, Sitting], None]


def time_together(trial: Trial, blocks: int, build: Build, after: After, stage: Stage, turn: Turn) -> None:
    """Time what build(step, name) prepares for every way that is left, and put it into the trial's cells.

    step: another for every way and block. after(name, sitting) checks the call that was timed last. Where a way raises
    or fails, the others are timed again, because it may have disturbed them. turn is told whose turn it is.
    """
    while names := trial.named("ok"):
        stage("timing all ways together", "")
        ways = _Ways(names, build, turn)
        try:
            # Fewer blocks than one process's interval needs are for one of several, and may be fewer yet.
            least = LEAST_BLOCKS if blocks >= LEAST_BLOCKS else 1
            timing = ways.time(trial, blocks=blocks, least_blocks=least, observe=ways.observe)
        except Exception as error:
            if not ways.now:
                raise
            trial.cells[ways.now].fail(f"{reason_of(error)} (while timed)")
            continue
        _keep(trial, timing)
        for name, sitting in ways.timed_last(timing).items():
            with failing(trial.cells[name]):
                after(name, sitting)
            if trial.cells[name].status == "ok":
                _graph(trial, name, sitting.call, stage)
        if trial.named("ok") == names:
            break


def time_again(trial: Trial, names: Sequence[str], plan: Plan, build: Build, stage: Stage, turn: Turn) -> Timing:
    """The same for these ways by a plan, in another process than the one that checked them. Raises what they raise."""
    stage("timing all ways together", "")
    return _Ways(names, build, turn).time(trial, plan=plan.of(names))


class _Ways:
    """The ways' calls, for `measure`. last: the sittings of the last block; observed: those of calls that are too long
    to be made again only to be looked at; now: whose turn it is, "" for nobody's.
    """

    def __init__(self, names: Sequence[str], build: Build, turn: Turn) -> None:
        self.names, self.build, self._turn = names, build, turn
        self.last: dict[str, Sitting] = {}
        self.observed: dict[str, Sitting] = {}
        self.now = ""

    def turn(self, name: str) -> None:
        self.now = name
        self._turn(name)

    def calls(self, block: int) -> dict[str, Thunk]:
        for index, name in enumerate(self.names):
            self.turn(name)
            self.last[name] = self.build(block * len(self.names) + index, name)
        self.turn("")
        return {name: sitting.call for name, sitting in self.last.items()}

    def observe(self, name: str, timed: Callable[[Thunk], float]) -> float:
        self.observed[name] = self.last[name]
        return self.last[name].observe(timed)

    def timed_last(self, timing: Timing) -> dict[str, Sitting]:
        """The sittings of the calls that were timed last."""
        once = {name for name, blocks in timing.samples.items() if sum(map(len, blocks)) == 1}
        return self.last | {name: sitting for name, sitting in self.observed.items() if name in once}

    def time(self, trial: Trial, **settings: Any) -> Timing:
        try:
            flush, interleaved = flush_of(trial.under, trial.device), trial.under.get("turns") != "isolated"
            settings |= {"turn": self.turn, "flush": flush, "interleaved": interleaved}
            return measure(self.calls, trial.device, trial.budget_s, trial.seed, **settings)
        finally:
            self._turn("")


def _keep(trial: Trial, timing: Timing) -> None:
    trial.timed_s += timing.timed_s
    for name, samples in timing.samples.items():
        cell = trial.cells[name]
        cell.samples, cell.first_call_s = samples, timing.first_call_s[name]
        cell.calls_per_sample, cell.every = timing.calls_per_sample[name], timing.every[name]
        cell.faults = timing.faults.get(name)


def _graph(trial: Trial, name: str, call: Thunk, stage: Stage) -> None:
    """Time the call without the host, where the device can: it tells which of the two its time is bound by."""
    cell, device = trial.cells[name], device_named(trial.device)
    if trial.under.get("cache") == "cold":
        cell.ungraphed = "nothing can be done between the calls of a graph, which would find their caches warm"
    elif device.has_graphs:
        stage(f"timing a graph of {name}", name)
        cell.graphed_s, cell.ungraphed = device.graphed_seconds(call, cell.calls_per_sample or 1)


@contextmanager
def failing(*cells: Cell) -> Iterator[None]:
    """Whatever a way raises is its own cells' result, with the reason in one line, never the trial's end."""
    try:
        yield
    except Exception as error:
        for cell in cells:
            cell.fail(reason_of(error))


def reason_of(error: Exception) -> str:
    """One line: what the gate found wrong, or the error's type and message."""
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else "no message"
    return reason if isinstance(error, ArithmeticError) else f"{type(error).__name__}: {reason}"
