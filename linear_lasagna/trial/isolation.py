"""Runs a trial in a child process, so that a crash, a kill or a hang costs one trial alone."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from linear_lasagna.devices import dtype_name, dtype_named
from linear_lasagna.environment import environment
from linear_lasagna.problems import Problem
from linear_lasagna.trial.forward import FORWARD
from linear_lasagna.trial.merge_cost import MERGE
from linear_lasagna.trial.record import Cell, Trial
from linear_lasagna.trial.training import TRAINING_STEP
from linear_lasagna.trial.workload import Workload, run

TIMEOUT_S = 30.0
JOIN_S = 5.0  # what has sent its trial gets this long to end
SHARED_STEPS = 6.0  # times as long may a step take that is about no single way: starting, exact results, timing


WORKS: dict[str, Workload] = {"forward": FORWARD, "merge": MERGE, "training_step": TRAINING_STEP}


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
    work: str = "forward",
) -> Trial:
    """`run` in a child process; work: what a trial does, one of `WORKS`.

    A way with which the child dies, or spends over timeout_s on one step (checking it on integers, one visit while
    timed), fails with the reason, and the others are tried again without it. Steps for all ways together may take 6
    timeout_s; where one of them ends badly, all fail. start_method is multiprocessing's; "fork" starts at once, but is
    right only where this process has not computed with torch yet. Raises ValueError for unknown names, before anything
    starts.
    """
    if work not in WORKS:
        raise ValueError(f"unknown work {work!r}; known: {', '.join(WORKS)}")
    for name in ways:
        WORKS[work].way(name)
    settings = {"dtype": dtype_name(dtype_named(dtype)), "device": device, "budget_s": budget_s, "seed": seed}
    context: Any = multiprocessing.get_context(start_method)
    start = time.perf_counter()
    trial, failed = None, dict[str, Cell]()
    while trial is None and (left := [name for name in ways if name not in failed]):
        end = _attempt(context, timeout_s, work, problem, tuple(left), settings)
        trial = end if isinstance(end, Trial) else None
        if isinstance(end, _Lost):
            failed |= {name: Cell("failed", end.reason) for name in ([end.way] if end.way else left)}
    trial = trial or Trial(problem, cells={}, environment=environment(device, start=False), **settings)
    trial.cells = {name: (trial.cells | failed)[name] for name in ways}
    trial.elapsed_s = time.perf_counter() - start
    return trial


class _Lost(NamedTuple):
    """A child that gave no trial. way: with which it was busy, "" where with none alone."""

    reason: str
    way: str


class _Watch:
    """Whose turn it is to be timed: two numbers in memory that the child shares, cheap to write."""

    def __init__(self, context: Any, names: Sequence[str]) -> None:
        self._names, self._shared, self._seen = ("", *names), context.RawArray("q", 2), 0
        self._places = {name: place for place, name in enumerate(self._names)}

    def turn(self, name: str) -> None:
        """In the child, before every visit."""
        self._shared[0] = self._places[name]
        self._shared[1] += 1

    def way(self) -> str:
        """In the parent: which way the child is timing, "" where none."""
        return self._names[self._shared[0]]

    def moved(self) -> bool:
        """In the parent: whether another turn has begun since this was last asked."""
        seen, self._seen = self._seen, self._shared[1]
        return seen != self._seen


def _attempt(context: Any, timeout_s: float, *task: Any) -> Trial | _Lost:
    """One child that does the task: what `_work` takes after the pipe and the watch."""
    receiver, sender = context.Pipe(duplex=False)
    watch = _Watch(context, task[2])
    child = context.Process(target=_work, args=(sender, watch, *task), daemon=True)
    child.start()
    sender.close()
    end = _outcome(child, receiver, watch, timeout_s)
    if isinstance(end, _Lost) and child.is_alive():
        child.kill()
    child.join(JOIN_S)  # a thread that never ends, or a driver that hangs at exit, would keep it for ever
    if child.is_alive():
        child.kill()
        child.join()
    return end


def _work(
    sender: Connection, watch: _Watch, work: str, problem: Problem, ways: Sequence[str], settings: dict[str, Any]
) -> None:
    """The child: tells what it does, then sends its trial, or why there is none."""
    try:
        told = {"stage": lambda *what: sender.send(("stage", what)), "turn": watch.turn}
        trial = run(WORKS[work], problem, ways, **settings, **told)
        sender.send(("trial", trial.to_json()))
    except Exception as error:
        sender.send(("error", f"{type(error).__name__}: {error}"))


def _outcome(child: Any, receiver: Connection, watch: _Watch, timeout_s: float) -> Trial | _Lost:
    """The child's trial, or why there is none."""
    doing, way, waited = "starting", "", 0.0
    try:
        while True:
            if receiver.poll(timeout_s):
                kind, content = receiver.recv()
                if kind != "stage":
                    return Trial.from_json(content) if kind == "trial" else _Lost(f"{content} (while {doing})", "")
                (doing, way), waited = content, 0.0
                continue
            timed = watch.way()
            waited = 0.0 if watch.moved() else waited + timeout_s
            limit = timeout_s if way or timed else SHARED_STEPS * timeout_s
            if waited >= limit:
                busy = f"timing {timed}" if timed else doing
                return _Lost(f"stopped after {limit:g} s while {busy}", timed or way)
    except (EOFError, OSError):
        child.join(JOIN_S)
        timed = watch.way()
        busy = f"timing {timed}" if timed else doing
        return _Lost(f"the child process {_ending(child.exitcode)} while {busy}", timed or way)


def _ending(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"was killed by {name}" + (", perhaps for want of memory," if name == "SIGKILL" else "")
