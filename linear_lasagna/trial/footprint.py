"""How much memory the first call of each way takes in a process that has computed nothing: one fork for each.

torch must not have started its threads before the fork, so inputs are drawn by one thread. For the CPU, on Linux.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import torch

from linear_lasagna.devices import dtype_named
from linear_lasagna.installed import needed
from linear_lasagna.methods import METHODS
from linear_lasagna.planning.compute import prepare_runs
from linear_lasagna.resident import with_resident_bytes
from linear_lasagna.runtimes.runtime import compiling_only
from linear_lasagna.switches import full_precision
from linear_lasagna.trial.gate import Draw
from linear_lasagna.trial.record import Cell, Trial
from linear_lasagna.ways import way_named

FLOOR = ""  # stands for calls of which it is known what they need
KNOWN_BYTES = 2**23
LONGEST_S = 2.0  # a way whose every call took longer is left out; the first may have been compiling
ANSWER_S = 20.0

Forward: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


def measurable(trial: Trial) -> list[str]:
    """The ways whose memory can be measured so in reasonable time; under the usual conditions alone."""
    here = trial.device == "cpu" and sys.platform == "linux" and not trial.under
    return [name for name, cell in trial.cells.items() if here and name != trial.control and _is_short(cell)]


def _is_short(cell: Cell) -> bool:
    seconds = [cell.first_call_s or 0.0, *(sample for block in cell.samples for sample in block)]
    return bool(cell.counted) and min(seconds) <= LONGEST_S


def footprints(trial: Trial) -> dict[str, int]:
    """Bytes beyond input, kernels and result by way; and by `FLOOR` the most that was told wrongly of two calls, one
    that needs none and one that needs `KNOWN_BYTES`. In a process that has not computed; it goes on with one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    draw = trial.problem.draw(dtype_named(trial.dtype), trial.device, trial.seed)

    def beyond(prepared: Callable[[], Forward]) -> int | None:
        return _in_fork(lambda: _beyond(prepared, draw[0], threads))

    found = {name: beyond(partial(_call, trial, name, draw)) for name in measurable(trial)}
    none, known = beyond(lambda: torch.clone), beyond(lambda: _with_known_buffer)
    if none is not None and known is not None:
        found[FLOOR] = max(none, abs(known - KNOWN_BYTES))
    return {name: size for name, size in found.items() if size is not None}


def _beyond(prepared: Callable[[], Forward], x: torch.Tensor, threads: int) -> int | None:
    with torch.no_grad(), full_precision():
        torch.set_num_threads(threads)  # first: other runtimes take theirs as they are loaded
        call = prepared()
        y, size = with_resident_bytes(lambda: call(x))
        return None if size is None else max(0, size - y.nbytes)


def _call(trial: Trial, name: str, draw: Draw) -> Forward:
    """The way's call; one that plans computes the runs that it has chosen, one of another runtime is compiled."""
    way, runs = way_named(name), trial.cells[name].runs
    if runs is None:
        call = way.prepare(trial.problem, draw[1])
        if needed(name):
            with compiling_only():
                call(draw[0])
        return call
    chosen = tuple((start, stop) for start, stop in runs)
    return prepare_runs(trial.problem, draw[1], chosen, METHODS[way.method])


def _with_known_buffer(x: torch.Tensor) -> torch.Tensor:
    held = torch.ones(KNOWN_BYTES, dtype=torch.uint8)
    y = x.clone()
    del held
    return y


def _in_fork(answer: Callable[[], int | None]) -> int | None:
    """What answer() gives in a fork of this process; None where it raises, dies or takes too long."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(answer()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], ANSWER_S)
        text = os.read(reading, 64).decode() if ready else ""
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return int(text) if text.isdigit() else None


def keep(trial: Trial, found: Mapping[str, int]) -> None:
    """Put `footprints` into the trial's cells, and their floor among its conditions."""
    if FLOOR in found:
        trial.conditions = {**trial.conditions, "resident_floor_bytes": found[FLOOR]}
        for name, cell in trial.cells.items():
            cell.resident_bytes = found.get(name)
