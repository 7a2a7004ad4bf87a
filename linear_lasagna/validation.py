"""Validate, then time: integers that must come out exactly, and the tile on which error is measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch

from linear_lasagna.exact import convolve
from linear_lasagna.exact.regions import Box
from linear_lasagna.methods import METHODS
from linear_lasagna.problems import Kernel, Problem
from linear_lasagna.rounding import SIGNIFICAND_BITS, accumulator, smallest_subnormal
from linear_lasagna.rounding.underflow import losses
from linear_lasagna.rounding.way_bounds import usual_bound
from linear_lasagna.ways import Computed, Way

LEAST_INPUT = 3  # integer inputs lie in [-3, 3] at least
TILE_POSITIONS = 64


@dataclass(frozen=True)
class IntegerCase:
    """Integer input and kernels in the working dtype, and the exact result in float64."""

    x: torch.Tensor
    kernels: tuple[Kernel, ...]
    expected: torch.Tensor


def integer_case(problem: Problem, dtype: torch.dtype, device: str = "cpu", seed: int = 0) -> IntegerCase:
    """What `draw_integers` draws, on the device, with the exact result."""
    x, kernels = draw_integers(problem, dtype, device, seed)
    at_home = _reference_place(device)
    expected = convolve(x.to(at_home), [_moved(k, at_home) for k in kernels], problem.expanded)
    return IntegerCase(x, kernels, expected.to(torch.float64))


def _reference_place(device: str) -> str:
    """Where the exact reference is computed: the device itself, if it has float64."""
    return "cpu" if device.partition(":")[0] == "mps" else device


def _moved(kernel: Kernel, device: str) -> Kernel:
    return Kernel(kernel.weight.to(device), None if kernel.bias is None else kernel.bias.to(device))


def check_integers(problem: Problem, way: Way, case: IntegerCase) -> None:
    """Raise ArithmeticError where a way that only adds and multiplies is not exact on small integers."""
    if not METHODS[way.method].exact_on_integers:
        return
    y = way.prepare(problem, case.kernels)(case.x)
    if y.shape != case.expected.shape:
        raise ArithmeticError(f"gives shape {tuple(y.shape)} instead of {tuple(case.expected.shape)}")
    differs = y.to(case.expected.device).double() != case.expected
    differs = differs[(..., *(slice(*ends) for ends in _claimed(problem, way)))]
    wrong = int(differs.sum())
    if wrong:
        raise ArithmeticError(
            f"{wrong} of {differs.numel()} outputs are wrong on integers that any order of summation gets right"
        )


def _claimed(problem: Problem, way: Way) -> Box:
    """The outputs that the way claims to compute: all of them, for every way but one."""
    box = way.schedule.right(problem)
    if box is None:
        raise ArithmeticError("it claims to be right nowhere")
    return box


@dataclass(frozen=True)
class TileReference:
    """The exact result on the tiles of the first image of a batch. kept: which of these values count, None for all."""

    tiles: tuple[tuple[slice, ...], ...]
    exact: tuple[Any, ...]
    values: torch.Tensor
    kept: torch.Tensor | None = None

    @classmethod
    def of(cls, problem: Problem, x: torch.Tensor, kernels: Sequence[Kernel]) -> TileReference:
        """Exact values for one draw; full fan-in, at most 64 output positions, all output channels."""
        place, patches = _reference_place(str(x.device)), tiles(problem)
        first, moved = x[:1].to(place), [_moved(k, place) for k in kernels]
        exact = tuple(convolve(first, moved, problem.expanded, tile=tile) for tile in patches)
        return cls(patches, exact, torch.cat([e.to(torch.float64).flatten() for e in exact]))

    def errors(self, y: torch.Tensor) -> torch.Tensor:
        """y - exact on the tiles, float64, in the order of `values`."""
        first = y[:1].to(self.values.device)
        parts = zip(self.exact, self.tiles, strict=True)
        found = torch.cat([e.error(first[(slice(None), slice(None), *tile)]).flatten() for e, tile in parts])
        return found if self.kept is None else found[self.kept]

    def claimed(self, problem: Problem, way: Way) -> TileReference:
        """The reference of what the way claims to compute. Raises ArithmeticError where no tile shows any of it."""
        box = _claimed(problem, way)
        if all(ends == (0, length) for ends, length in zip(box, problem.sizes[-1], strict=True)):
            return self
        right = torch.zeros((1, *problem.shapes[-1][1:]), dtype=torch.bool, device=self.values.device)
        right[(..., *(slice(*ends) for ends in box))] = True
        kept = torch.cat([right[(slice(None), slice(None), *tile)].flatten() for tile in self.tiles])
        if not bool(kept.any()):
            raise ArithmeticError("no output that it claims to compute lies on the tiles that are compared")
        return replace(self, values=self.values[kept], kept=kept)


def check_bound(
    problem: Problem,
    way: Way,
    dtype: torch.dtype,
    draw: tuple[torch.Tensor, Sequence[Kernel]],
    reference: TileReference,
) -> None:
    """Raise ArithmeticError where the way misses its bound on a positive draw."""
    x, kernels = draw
    relative, absolute = way_bound(problem, way, dtype, str(x.device))
    reference = reference.claimed(problem, way)
    errors = reference.errors(way.prepare(problem, kernels)(x)).abs()
    worst = float((errors / (relative * reference.values.abs() + absolute)).max())
    if not worst <= 1:
        raise ArithmeticError(
            f"its error on positive numbers is {worst:.3g} times the bound, which is {relative:.2g} of the result"
        )


def draw_integers(
    problem: Problem, dtype: torch.dtype, device: str = "cpu", seed: int = 0
) -> tuple[torch.Tensor, tuple[Kernel, ...]]:
    """An input and kernels of integers for which every sum of products, in any order and any merging, is exact.

    Weights are -1, 0 and 1 with so few ones that sum |a||b| stays below 2**p of `dtype` through the whole stack;
    what then is left of the 2**p goes into the size of the inputs, so that all of the significand is used.
    """
    rng = numpy.random.default_rng(seed)
    ones, largest = _integer_budget(problem, 2 ** SIGNIFICAND_BITS[dtype])

    def tensor(values: numpy.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(numpy.float64)).to(dtype).to(device)

    x = tensor(rng.integers(-largest, largest, problem.shapes[0], endpoint=True))
    kernels = []
    for layer, count, fan_in, channels in zip(problem.expanded, ones, problem.fan_ins, problem.channels, strict=False):
        weight = numpy.zeros((layer.out_channels, fan_in))
        places = rng.integers(0, fan_in, (layer.out_channels, count))
        numpy.put_along_axis(weight, places, rng.choice([-1.0, 1.0], places.shape), axis=1)
        bias = tensor(rng.integers(-1, 1, layer.out_channels, endpoint=True)) if layer.bias else None
        kernels.append(Kernel(tensor(weight.reshape(layer.weight_shape(channels))), bias))
    return x, tuple(kernels)


def _integer_budget(problem: Problem, limit: int) -> tuple[list[int], int]:
    """Non-zero weights per output of each layer, and the largest input, so that no sum exceeds the limit."""

    def bound(ones: list[int], largest: int) -> int:
        for count, layer in zip(ones, problem.expanded, strict=True):
            largest = count * largest + layer.bias
        return largest

    ones = [1] * problem.depth
    for doubling in itertools.count():
        index = doubling % problem.depth
        wider = ones.copy()
        wider[index] = min(2 * ones[index], problem.fan_ins[index])
        if bound(wider, LEAST_INPUT) > limit:
            break
        ones = wider
        if ones == list(problem.fan_ins):
            break
    largest = LEAST_INPUT
    while bound(ones, 2 * largest) <= limit:
        largest *= 2
    return ones, largest


def tiles(problem: Problem) -> tuple[tuple[slice, ...], ...]:
    """A corner patch and an interior patch of the output, at most 64 positions together, one slice per axis.

    One patch, the whole output, where that is no larger.
    """
    size = problem.sizes[-1]
    if math.prod(size) <= TILE_POSITIONS:
        return (tuple(slice(0, n) for n in size),)
    extents = [1] * len(size)
    while True:
        axis = min((a for a in range(len(size)) if extents[a] < size[a]), key=lambda a: extents[a], default=None)
        if axis is None or math.prod(extents) // extents[axis] * (extents[axis] + 1) > TILE_POSITIONS // 2:
            break
        extents[axis] += 1
    corner = tuple(slice(0, e) for e in extents)
    interior = tuple(slice((n - e) // 2, (n - e) // 2 + e) for n, e in zip(size, extents, strict=True))
    return corner, interior


def way_bound(problem: Problem, way: Way, dtype: torch.dtype, device: str = "cpu") -> tuple[float, float]:
    """(relative, absolute) bound on a way's error where all numbers are positive and the input is below 1.

    |computed - exact| <= relative * exact + absolute. The relative part is the chain bound of the layers that are
    computed, times the rounding of merged kernels; the absolute part is what underflow adds. Where a way computes some
    outputs otherwise than others, it is the larger bound. device: a plan may depend on it.
    """
    relative = usual_bound(problem, way, dtype, device)
    underflow = max(_underflow(problem, found, dtype) for found in way.computed(problem, dtype, device))
    return relative, (1 + relative) * underflow


def _underflow(problem: Problem, found: Sequence[Computed], dtype: torch.dtype) -> float:
    """What underflow adds to sums, and to the numbers of merged kernels. `rounding.underflow` has it for any numbers.

    A positive draw's weights add up to 1 on average and to 2 at most, and to 1 + 4 / sqrt(n) but once in 3000 times
    (Hoeffding's inequality); a bias is an eighth at most.
    """
    loss, lost, size = losses(dtype, accumulator(dtype), flushed=True), 0.0, 1.0
    growths = iter(min(2.0, 1 + 4 / math.sqrt(fan_in)) for fan_in in problem.fan_ins)
    for each in found:
        products, grown = each.fan_in + each.layer.bias, math.prod(itertools.islice(growths, len(each.layers)))
        wrong = loss.read + (len(each.layers) * smallest_subnormal(dtype) if len(each.layers) > 1 else 0.0)
        lost = grown * (lost + loss.read) + products * (wrong * size + loss.term) + each.roundings * loss.stored
        size = grown * size + len(each.layers) / 8
    return lost
