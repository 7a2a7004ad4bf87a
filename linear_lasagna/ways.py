"""A way: what is compared. "merged/direct"; a bare method means `stacked`; `control` is the baseline once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from linear_lasagna.merging.order import composed_layer
from linear_lasagna.methods import METHODS, Call, method_named
from linear_lasagna.partitions import Partition
from linear_lasagna.problems import ExpandedLayer, Kernel, Problem
from linear_lasagna.schedules import SCHEDULES, Schedule
from linear_lasagna.vocabulary import BASELINE, CONTROL


class Computed(NamedTuple):
    """A convolution that is computed: `layer`, merged from the run `layers`. roundings: of one output, to storage."""

    layers: tuple[ExpandedLayer, ...]
    layer: ExpandedLayer
    in_channels: int
    roundings: int

    @property
    def fan_in(self) -> int:
        """Products summed for one output."""
        return self.layer.fan_in(self.in_channels)


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

    def computed(self, problem: Problem, dtype: torch.dtype, device: str = "cpu") -> tuple[tuple[Computed, ...], ...]:
        """Every output comes from one of these stacks of convolutions. dtype, device: a plan may depend on them."""
        partitions = self.schedule.partitions_on(problem, self.method, dtype, device)
        return tuple(self._computed(problem, partition) for partition in partitions)

    def _computed(self, problem: Problem, partition: Partition) -> tuple[Computed, ...]:
        layers = [composed_layer(run) for run in partition]
        channels = [problem.in_channels, *(layer.out_channels for layer in layers)]
        roundings = [METHODS[self.method].roundings(layer) for layer in layers]
        return tuple(Computed(*each) for each in zip(partition, layers, channels, roundings, strict=False))


def way_named(name: str) -> Way:
    """The way for "method", "schedule/method" or "control". Raises ValueError for an unknown part."""
    schedule, _, method = (BASELINE if name == CONTROL else name).rpartition("/")
    schedule = schedule or "stacked"
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r} in way {name!r}; known: {', '.join(SCHEDULES)}")
    method_named(method, f" in way {name!r}")
    return Way(SCHEDULES[schedule], method)
