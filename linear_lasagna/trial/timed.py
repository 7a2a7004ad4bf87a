"""Times the ways of a trial together, checks them afterwards, and goes on without those that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from linear_lasagna.timing import measure
from linear_lasagna.trial.gate import Sitting, Thunk
from linear_lasagna.trial.record import Cell, Trial

Stage: TypeAlias = Callable[[str, str], None]
Turn: TypeAlias = Callable[[str], object]
Build: TypeAlias = Callable[[int, str], Sitting]
After: TypeAlias = Callable[[str, Sitting], None]


def time_together(trial: Trial, build: Build, after: After, stage: Stage, turn: Turn) -> None:
    """Time what build(step, name) prepares for every way that is left, and put it into the trial's cells.

    step: another for every way and block. after(name, sitting) checks the call that was timed last. Where a way raises
    or fails, the others are timed again, because it may have disturbed them. turn is told whose turn it is.
    """
    while names := trial.named("ok"):
        stage("timing all ways together", "")
        sittings = _timed(trial, names, build, turn)
        for name, sitting in sittings.items():
            with failing(trial.cells[name]):
                after(name, sitting)
        if trial.named("ok") == names:
            break


def _timed(trial: Trial, names: list[str], build: Build, turn: Turn) -> Mapping[str, Sitting]:
    """The sittings of the last block; none where a way has raised, which then has failed."""
    last: dict[str, Sitting] = {}
    now = ""

    def told(name: str) -> None:
        nonlocal now
        now = name
        turn(name)

    def calls(block: int) -> dict[str, Thunk]:
        for index, name in enumerate(names):
            told(name)
            last[name] = build(block * len(names) + index, name)
        told("")
        return {name: sitting.call for name, sitting in last.items()}

    try:
        timing = measure(calls, trial.device, trial.budget_s, trial.seed, turn=told)
    except Exception as error:
        if not now:
            raise
        trial.cells[now].fail(f"{reason_of(error)} (while timed)")
        return {}
    finally:
        turn("")
    trial.timed_s += timing.timed_s
    for name, samples in timing.samples.items():
        cell = trial.cells[name]
        cell.samples, cell.first_call_s = samples, timing.first_call_s[name]
        cell.calls_per_sample, cell.every = timing.calls_per_sample[name], timing.every[name]
    return last


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
