"""The unit of work of the precision study, and grids of units. Needs no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from analysis.precision.families import INPUTS, UNIFORM, WEIGHTS, family_named
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.vocabulary import DTYPES, SIGNS, Signs

Truth: TypeAlias = Literal["rounded", "float32", "float64"]

PLAIN_CHANNELS = 16
# Fields that came later: left out of a unit's key where they are as they were before.
LATER = {"inputs": UNIFORM, "weights": UNIFORM, "truth": "rounded"}


@dataclass(frozen=True)
class Unit:
    """What one exact reference serves: one draw of one problem, in one dtype, on one device.

    gain: every layer's weights are multiplied by it after they were drawn, before they are rounded to dtype. inputs,
    weights: families, by name, with a strength as in "rank_one:0.5"; signs: of the uniform ones. truth: whose result is
    the exact one: that of the weights as dtype holds them, or of those before they were rounded to it, in another
    dtype; the input is dtype's in any case. Raises ValueError for families and signs that do not fit.
    """

    problem: Problem
    dtype: str
    signs: Signs
    seed: int
    device: str = "cpu"
    gain: float = 1.0
    inputs: str = UNIFORM
    weights: str = UNIFORM
    truth: Truth = "rounded"

    def __post_init__(self) -> None:
        for name, families in ((self.inputs, INPUTS), (self.weights, WEIGHTS)):
            family_named(name, families)
        if self.signs != SIGNS[0] and UNIFORM not in (self.inputs, self.weights):
            raise ValueError(
                f"{self.signs} numbers are uniform ones; {self.inputs} and {self.weights} have signs of their own"
            )
        if self.truth not in get_args(Truth):
            raise ValueError(f"truth must be one of {', '.join(get_args(Truth))}, not {self.truth!r}")

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
        fields = dataclasses.asdict(self)
        fields = {name: value for name, value in fields.items() if name not in LATER or value != LATER[name]}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Grid:
    """Units as data: every problem with all that is named, with seeds 0 to seeds - 1."""

    problems: tuple[Problem, ...]
    seeds: int
    dtypes: tuple[str, ...] = DTYPES
    signs: tuple[Signs, ...] = SIGNS
    gains: tuple[float, ...] = (1.0,)
    inputs: tuple[str, ...] = (UNIFORM,)
    weights: tuple[str, ...] = (UNIFORM,)
    truths: tuple[Truth, ...] = ("rounded",)

    def units(self, device: str) -> list[Unit]:
        """All units of the grid, on one device."""
        axes = (self.problems, self.dtypes, self.signs, range(self.seeds), (device,), self.gains)
        chosen = itertools.product(*axes, self.inputs, self.weights, self.truths)
        return [Unit(*each) for each in chosen]


def plain(depth: int, channels: int = PLAIN_CHANNELS, kernel_size: int = 3, output: int = 8) -> Problem:
    """An unpadded stack of equal layers whose last output is output x output; named after its numbers."""
    size = output + depth * (kernel_size - 1)
    name = f"plain_x{depth}_c{channels}_k{kernel_size}_o{output}"
    return Problem(name, 1, channels, (size, size), (Layer(channels, kernel_size),) * depth)
