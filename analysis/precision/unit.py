"""The unit of work of the precision study, and grids of units. Needs no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from dataclasses import dataclass

from linear_lasagna.problems import Layer, Problem
from linear_lasagna.vocabulary import DTYPES, SIGNS, Signs

PLAIN_CHANNELS = 16


@dataclass(frozen=True)
class Unit:
    """What one exact reference serves: one draw of one problem, in one dtype, on one device.

    gain: every layer's weights are multiplied by it after they were drawn, before they are rounded to dtype.
    """

    problem: Problem
    dtype: str
    signs: Signs
    seed: int
    device: str = "cpu"
    gain: float = 1.0

    @property
    def depth(self) -> int:
        """Number of layers."""
        return self.problem.depth

    @property
    def fan_in(self) -> int:
        """Products summed for one output, of the layer that sums most."""
        return max(self.problem.fan_ins)

    @property
    def key(self) -> str:
        """16 hex digits that are the same for equal units in every process, and differ for others."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Grid:
    """Units as data: every problem with every dtype, sign structure and gain, with seeds 0 to seeds - 1."""

    problems: tuple[Problem, ...]
    seeds: int
    dtypes: tuple[str, ...] = DTYPES
    signs: tuple[Signs, ...] = SIGNS
    gains: tuple[float, ...] = (1.0,)

    def units(self, device: str) -> list[Unit]:
        """All units of the grid, on one device."""
        axes = (self.problems, self.dtypes, self.signs, range(self.seeds), self.gains)
        return [
            Unit(problem, dtype, signs, seed, device, gain)
            for problem, dtype, signs, seed, gain in itertools.product(*axes)
        ]


def plain(depth: int, channels: int = PLAIN_CHANNELS, kernel_size: int = 3, output: int = 8) -> Problem:
    """An unpadded stack of equal layers whose last output is output x output; named after its numbers."""
    size = output + depth * (kernel_size - 1)
    name = f"plain_x{depth}_c{channels}_k{kernel_size}_o{output}"
    return Problem(name, 1, channels, (size, size), (Layer(channels, kernel_size),) * depth)
