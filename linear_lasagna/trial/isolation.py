"""Runs a trial in a child process, so that a crash, a kill or a hang costs one trial alone."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from linear_lasagna.devices import dtype_name, dtype_named
from linear_lasagna.environment import environment
from linear_lasagna.problems import Problem
from linear_lasagna.trial.merging_cost import check_way, run_merging
from linear_lasagna.trial.record import Cell, Trial
from linear_lasagna.trial.running import run
from linear_lasagna.ways import way_named

TIMEOUT_S = 120.0


class Work(NamedTuple):
    """What a child can do, and what raises ValueError for a way that it does not know."""

    run: Callable[..., Trial]
    check: Callable[[str], object]


WORKS: dict[str, Work] = {"run": Work(run, way_named), "run_merging": Work(run_merging, check_way)}


def run_isolated(
    problem: Problem,
    ways: Sequence[str],
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    budget_s: float = 1.0,
    seed: int = 0,
    timeout_s: float = TIMEOUT_S,
    start_method: str = "spawn",
    work: str = "run",
) -> Trial:
    """`run`, or `run_merging` (named by work), in a child process.

    A child that dies, or spends over timeout_s on one step (checking one way, say), gives a trial whose cells all
    failed, with the reason and what it was doing. start_method is multiprocessing's; "fork" starts at once, but is
    right only where this process has not computed with torch yet. Raises ValueError for unknown names, before
    anything starts.
    """
    if work not in WORKS:
        raise ValueError(f"unknown work {work!r}; known: {', '.join(WORKS)}")
    for name in ways:
        WORKS[work].check(name)
    settings = {"dtype": dtype_name(dtype_named(dtype)), "device": device, "budget_s": budget_s, "seed": seed}
    context: Any = multiprocessing.get_context(start_method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(sender, work, problem, tuple(ways), settings), daemon=True)
    start = time.perf_counter()
    child.start()
    sender.close()
    text, reason = _outcome(child, receiver, timeout_s)
    if text is not None:
        return Trial.from_json(text)
    cells = {name: Cell("failed", reason) for name in ways}
    elapsed_s = time.perf_counter() - start
    return Trial(problem, cells=cells, environment=environment(), elapsed_s=elapsed_s, **settings)


def _work(sender: Connection, work: str, problem: Problem, ways: Sequence[str], settings: dict[str, Any]) -> None:
    """The child: tells what it does, then sends its trial, or why there is none."""
    try:
        trial = WORKS[work].run(problem, ways, **settings, stage=lambda what: sender.send(("stage", what)))
        sender.send(("trial", trial.to_json()))
    except Exception as error:
        sender.send(("error", f"{type(error).__name__}: {error}"))


def _outcome(child: Any, receiver: Connection, timeout_s: float) -> tuple[str | None, str]:
    """(the trial's JSON, "") or (None, the reason). The child is gone when this returns."""
    doing = "starting"
    try:
        while receiver.poll(timeout_s):
            kind, text = receiver.recv()
            if kind == "stage":
                doing = text
                continue
            child.join()
            return (text, "") if kind == "trial" else (None, f"{text} (while {doing})")
    except EOFError:
        child.join()
        return None, f"the child process {_ending(child.exitcode)} while {doing}"
    child.kill()
    child.join()
    return None, f"stopped after {timeout_s:g} s while {doing}"


def _ending(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"was killed by {name}" + (", perhaps for want of memory," if name == "SIGKILL" else "")
