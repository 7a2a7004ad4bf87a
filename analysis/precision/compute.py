"""Computes one unit: an experiment's rows with the columns that all rows share. What a worker runs."""

from __future__ import annotations

import importlib.metadata
import math
import os
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from analysis.gaps import reason
from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Unit
from linear_lasagna.environment import code_digest, instruction_sets, instructions_label
from linear_lasagna.vocabulary import COMMON_METRICS


@dataclass(frozen=True)
class Stamp:
    """What the study knows and a unit does not: the machine's name, and which code computes."""

    machine: str
    code: str
    version: str
    torch: str

    @classmethod
    def of(cls, experiment: Experiment, machine: str) -> Stamp:
        return cls(machine, code_digest(), experiment.version(), importlib.metadata.version("torch"))


class UnfitError(RuntimeError):
    """A worker whose rows would not be this study's: the fault of no unit."""


class Task(NamedTuple):
    """A unit, the experiment that it belongs to, and its stamp: all that a worker needs."""

    experiment: Experiment
    unit: Unit
    stamp: Stamp


def compute(task: Task) -> list[Row]:
    """The task's rows. elapsed_s: wall seconds of the whole unit, the same in all its rows.

    Whatever the experiment raises becomes failed rows with the reason.
    """
    from analysis.precision.conditions import pinned
    from linear_lasagna.conditions import settle_allocator

    start = time.perf_counter()
    settle_allocator()
    with pinned() as threads:
        try:
            rows = task.experiment.rows(task.unit)
        except Exception as error:
            rows = [lost_row(way, reason(error)) for way in task.experiment.ways]
    elapsed_s = round(time.perf_counter() - start, 6)
    return [full_row(task, row, threads, elapsed_s, Computer.here()) for row in rows]


class Computer(NamedTuple):
    """What computed a row. instructions: in force there, as `instructions_label` names them."""

    worker: str | None = None
    instructions: str | None = None

    @classmethod
    def here(cls) -> Computer:
        return cls(worker_name(), instructions_label(instruction_sets()))


def worker_name() -> str:
    """Who computes: host/process in a worker of Dask, local/process elsewhere, where the machine's name tells where."""
    try:
        sys.modules["distributed.worker"].get_worker()
    except (KeyError, ValueError):
        return f"local/{os.getpid()}"
    return f"{socket.gethostname()}/{os.getpid()}"


def lost(task: Task, reason: str) -> list[Row]:
    """The rows of a unit that left none, because its worker died."""
    return [full_row(task, lost_row(way, reason), None, None, Computer()) for way in task.experiment.ways]


def lost_row(way: str, reason: str) -> Row:
    """The row of a way that gave no result."""
    return {"way": way, "status": "failed", "reason": reason, **dict.fromkeys(COMMON_METRICS), "outputs": 0}


def full_row(task: Task, row: Row, threads: int | None, elapsed_s: float | None, computer: Computer) -> Row:
    """The row between the columns that say what it is about and those that say where it comes from."""
    unit, stamp = task.unit, task.stamp
    first = {
        "experiment": task.experiment.name,
        "problem": unit.problem.name,
        "machine": stamp.machine,
        "device": unit.device,
        "dtype": unit.dtype,
        "signs": unit.signs,
        "depth": unit.depth,
        "fan_in": unit.fan_in,
        "gain": unit.gain,
        "inputs": unit.inputs,
        "weights": unit.weights,
        "truth": unit.truth,
        "seed": unit.seed,
    }
    last = {
        "threads": threads,
        **computer._asdict(),
        "code": stamp.code,
        "version": stamp.version,
        "torch": stamp.torch,
        "elapsed_s": elapsed_s,
    }
    between = dict.fromkeys(task.experiment.columns) | row  # a way that failed lacks some
    return {name: _plain(value) for name, value in (first | between | last).items()}


def _plain(value: Any) -> Any:
    """None for numbers that are not finite: neither JSON nor a reader has another use for them."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
