"""A way: what is compared. "merged/direct"; a bare method means `stacked`; `control` is the baseline once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from linear_lasagna.methods import METHODS, Call
from linear_lasagna.problems import ExpandedLayer, Kernel, Problem
from linear_lasagna.schedules import SCHEDULES, Schedule
from linear_lasagna.trial.record import BASELINE, CONTROL


@dataclass(frozen=True)
class Way:
    """A schedule and the method that computes each of its convolutions."""

    schedule: Schedule
    method: str

    def unsupported(self, problem: Problem, dtype: torch.dtype, device: str) -> str | None:
        """Why the way cannot compute the problem, or None where it can."""
        return self.schedule.unsupported(problem, self.method, dtype, device)

    def prepare(self, problem: Problem, kernels: Sequence[Kernel]) -> Call:
        """call(x) -> y."""
        return self.schedule(problem, kernels, self.method)

    def computed(self, problem: Problem) -> tuple[tuple[ExpandedLayer, ...], tuple[int, ...], tuple[int, ...]]:
        """The layers that the way computes, their fan-ins, and how often each rounds an output to storage."""
        layers = self.schedule.layers(problem)
        fan_ins = problem.fan_ins
        if self.schedule.merges is not None:
            fan_ins = (layers[0].fan_in(problem.in_channels),)
        return layers, fan_ins, tuple(METHODS[self.method].roundings(layer) for layer in layers)


def way_named(name: str) -> Way:
    """The way for "method", "schedule/method" or "control". Raises ValueError for an unknown part."""
    schedule, _, method = (BASELINE if name == CONTROL else name).rpartition("/")
    schedule = schedule or "stacked"
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r} in way {name!r}; known: {', '.join(SCHEDULES)}")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r} in way {name!r}; known: {', '.join(METHODS)}")
    return Way(SCHEDULES[schedule], method)
