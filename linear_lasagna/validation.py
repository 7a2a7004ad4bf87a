"""Validate, then time: the numbers on which a way is tried, their exact results, and the bounds it must meet.

Integers must come out exactly, or nearly so by a transform; an error on positive numbers, and on kernels with one
non-zero tap, must lie within a bound; error is measured on a tile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy
import torch

from linear_lasagna.devices import device_named
from linear_lasagna.exact import convolve, convolve_tiles
from linear_lasagna.geometry import Box
from linear_lasagna.methods import METHODS
from linear_lasagna.methods.direct import direct
from linear_lasagna.metrics import magnitudes
from linear_lasagna.problems import Kernel, Problem
from linear_lasagna.rounding import SIGNIFICAND_BITS, accumulator, layer_bound, smallest_subnormal, unit_roundoff
from linear_lasagna.rounding.bounds import chained
from linear_lasagna.rounding.own_bounds import OWN_BOUNDS, own_bound
from linear_lasagna.rounding.underflow import losses
from linear_lasagna.rounding.way_bounds import underflow_bound, wide_accumulator_bound
from linear_lasagna.ways import Computed, Way, way_named

Draw: TypeAlias = tuple[torch.Tensor, tuple[Kernel, ...]]

LEAST_INPUT = 3  # integer inputs lie in [-3, 3] at least
TILE_POSITIONS = 64
# Units u of the accumulator, in the largest output, that a transform may lose on a kernel with one non-zero tap.
# Measured: FFT 13, Winograd F(4, 3) 285, F(6, 3) 634 (NNPACK's); TF32 loses 9000, bfloat16 products 73000.
TRANSFORM_U = 2048


@dataclass(frozen=True)
class IntegerCase:
    """Integer input and kernels in the working dtype, and the exact result in float64."""

    problem: Problem
    x: torch.Tensor
    kernels: tuple[Kernel, ...]
    expected: torch.Tensor

    @cached_property
    def magnitude(self) -> float:
        """The largest sum of |a||b|."""
        return float(magnitudes(*at_home((self.x, self.kernels)), self.problem.expanded).max())


def integer_case(
    problem: Problem, dtype: torch.dtype, device: str = "cpu", seed: int = 0, bits: int | None = None
) -> IntegerCase:
    """What `draw_integers` draws, on the device, with the exact result."""
    x, kernels = draw_integers(problem, dtype, device, seed, bits)
    home, moved = at_home((x, kernels))
    expected = convolve(home, moved, problem.expanded).to(torch.float64)
    return IntegerCase(problem, x, kernels, expected)


def at_home(draw: Draw) -> Draw:
    """The draw where its reference is computed."""
    x, kernels = draw
    place = device_named(x.device).home()
    return x.to(place), tuple(kernel.map(lambda numbers: numbers.to(place)) for kernel in kernels)


def check_integers(case: IntegerCase, way: Way, y: torch.Tensor) -> str:
    """What is to be said of integers that do not come out exactly, "" where they do.

    y: what the way gives for the case. Raises ArithmeticError where it is off by more than a transform (Winograd, FFT)
    would be. Methods marked as transforms need not be exact.
    """
    if not METHODS[way.method].exact_on_integers:
        return ""
    error = (y.to(case.expected.device).double() - case.expected)[claims(case.problem, way)].abs()
    wrong = int((error != 0).sum())
    if not wrong:
        return ""
    worst = float(error.max()) / case.magnitude
    count = f"{wrong} of {error.numel()} outputs"
    if not worst <= transform_slack(case.problem, way, y.dtype, str(y.device)):
        raise ArithmeticError(f"{count} are wrong on integers that any order of summation gets right")
    return f"inexact on integers as a transform (Winograd, FFT) is: {count}, by {worst:.1g} of the largest sum at most"


def _claimed(problem: Problem, way: Way) -> Box:
    """The outputs that the way claims to compute: all of them, for every way but one."""
    box = way.schedule.valid_region(problem)
    if box is None:
        raise ArithmeticError("it claims to be right nowhere")
    return box


def claims(problem: Problem, way: Way) -> tuple[Any, ...]:
    """The index of the outputs that the way claims to compute."""
    return (..., *(slice(*ends) for ends in _claimed(problem, way)))


@dataclass(frozen=True)
class TileReference:
    """The exact result on the tiles of the first image of a batch, and its magnitudes: the sums of |a||b|, float64.

    kept: which of these values count, None for all.
    """

    tiles: tuple[tuple[slice, ...], ...]
    exact: tuple[Any, ...]
    values: torch.Tensor
    magnitudes: torch.Tensor
    kept: torch.Tensor | None = None

    @classmethod
    def of(cls, problem: Problem, x: torch.Tensor, kernels: Sequence[Kernel]) -> TileReference:
        """Exact values for one draw; full fan-in, at most 64 output positions, all output channels."""
        patches, (first, moved) = tiles(problem), at_home((x[:1], tuple(kernels)))

        def cut(draw: Draw) -> tuple[Any, ...]:
            return convolve_tiles(*draw, problem.expanded, patches)

        exact, sizes = cut((first, moved)), cut(_absolute((first, moved)))
        values, sums = (torch.cat([e.to(torch.float64).flatten() for e in each]) for each in (exact, sizes))
        return cls(patches, exact, values, sums)

    def errors(self, y: torch.Tensor) -> torch.Tensor:
        """y - exact on the tiles, float64, in the order of `values`."""
        first = y[:1].to(self.values.device)
        parts = zip(self.exact, self.tiles, strict=True)
        flat = torch.cat([e.error(first[(slice(None), slice(None), *tile)]).flatten() for e, tile in parts])
        return flat if self.kept is None else flat[self.kept]

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
        return replace(self, values=self.values[kept], magnitudes=self.magnitudes[kept], kept=kept)


def _absolute(draw: Draw) -> Draw:
    x, kernels = draw
    return x.abs(), tuple(kernel.map(torch.abs) for kernel in kernels)


@dataclass(frozen=True)
class WideReference:
    """The whole result and its magnitudes, computed in float64 by the library; relative: the bound on their error."""

    values: torch.Tensor
    magnitudes: torch.Tensor
    relative: float

    @classmethod
    def of(cls, problem: Problem, x: torch.Tensor, kernels: Sequence[Kernel]) -> WideReference:
        home, moved = at_home((x, tuple(kernels)))
        values = home.double()
        for kernel, layer in zip(moved, problem.expanded, strict=True):
            values = direct(values, kernel.map(torch.Tensor.double), layer)
        relative = wide_accumulator_bound(problem, way_named("direct"), torch.float64)
        return cls(values, magnitudes(home, moved, problem.expanded), relative)

    def agrees(self, tile: TileReference) -> bool:
        """Whether it is right itself, where the exact result is known: libraries have been wrong."""
        errors = tile.errors(self.values).abs()
        return bool((errors <= self.relative * tile.magnitudes).all())


@dataclass(frozen=True)
class Known:
    """What is known of a result: exactly on the tile, and everywhere as far as float64 tells, where it can be had."""

    problem: Problem
    tile: TileReference
    wide: WideReference | None

    @classmethod
    def of(cls, problem: Problem, x: torch.Tensor, kernels: Sequence[Kernel]) -> Known:
        tile = TileReference.of(problem, x, kernels)
        try:
            wide = WideReference.of(problem, x, kernels)
        except RuntimeError:  # no memory for it
            return cls(problem, tile, None)
        return cls(problem, tile, wide if wide.agrees(tile) else None)

    def check(self, way: Way, y: torch.Tensor, bound: Bound, where: str) -> None:
        """Raise ArithmeticError where what the way gave misses its bound."""
        tile = self.tile.claimed(self.problem, way)
        bound.check(tile.errors(y), tile.magnitudes, where)
        if self.wide is not None:
            inside, wide = claims(self.problem, way), self.wide
            errors = y.to(wide.values.device).double() - wide.values
            bound._replace(relative=bound.relative + wide.relative).check(
                errors[inside], wide.magnitudes[inside], where
            )


class Bound(NamedTuple):
    """|computed - exact| <= relative * magnitude + absolute + slack * the largest magnitude."""

    relative: float
    absolute: float = 0.0
    slack: float = 0.0

    def check(self, errors: torch.Tensor, magnitudes: torch.Tensor, where: str) -> None:
        """Raise ArithmeticError where an error exceeds the bound. where: on which numbers, in words."""
        allowed = self.relative * magnitudes + self.absolute + self.slack * magnitudes.max()
        ratio = torch.where(errors == 0, 0.0, errors.abs() / allowed)
        worst = float(ratio.max())
        if not worst <= 1:
            size = max(self.relative, self.slack)
            raise ArithmeticError(
                f"its error on {where} is {worst:.3g} times the bound, which is {size:.2g} of the result"
            )


def check_own_bound(problem: Problem, way: Way, draw: Draw, tile: TileReference, y: torch.Tensor, where: str) -> None:
    """Raise ArithmeticError where a method with a bound of its own misses that; layer after layer, not merged."""
    if way.method not in OWN_BOUNDS or way.schedule.name != "stacked":
        return
    x, kernels = at_home(draw)
    limit = own_bound(way.method, x[:1], kernels, problem.layers)
    allowed = torch.cat([limit[(slice(None), slice(None), *part)].flatten() for part in tile.tiles])
    worst = float((tile.errors(y).abs() / allowed).max())
    if not worst <= 1:
        raise ArithmeticError(f"its error on {where} is {worst:.3g} times {way.method}'s own bound")


def dense_bound(problem: Problem, way: Way, dtype: torch.dtype, device: str = "cpu", transform: bool = False) -> Bound:
    """`way_bound`, relative to the magnitudes, and what a transform may lose besides."""
    slack = transform_slack(problem, way, dtype, device) if transform else 0.0
    return Bound(*way_bound(problem, way, dtype, device), slack)


def with_underflow(bound: Bound, problem: Problem, way: Way, draw: Draw, device: str) -> Bound:
    """The bound on a way's error on these very numbers, of any size and sign: what underflow adds is theirs.

    Underflow in a transform grows on its way to the output as roundings do.
    """
    lost = underflow_bound(problem, way, *at_home(draw), device)
    return bound._replace(absolute=lost * (TRANSFORM_U if bound.slack else 1))


def single_bound(problem: Problem, way: Way, dtype: torch.dtype, device: str = "cpu", transform: bool = False) -> Bound:
    """The bound where kernels have one non-zero tap per output: the roundings alone, and what a transform may lose."""
    merge_dtype = dtype if way.schedule.merges == "working" else torch.float64

    def factors(computed: Sequence[Computed]) -> Iterator[float]:
        for each in computed:
            yield layer_bound(2, each.roundings, dtype)
            # Every merge of two kernels multiplies once, adds two biases, and rounds; then all is rounded to storage.
            yield from [layer_bound(3, 3, merge_dtype)] * (len(each.layers) - 1)
            yield unit_roundoff(dtype) if len(each.layers) > 1 else 0.0

    slack = transform_slack(problem, way, dtype, device, dense=False) if transform else 0.0
    return Bound(max(chained(factors(computed)) for computed in way.computed(problem, dtype, device)), 0.0, slack)


def transform_slack(problem: Problem, way: Way, dtype: torch.dtype, device: str = "cpu", dense: bool = True) -> float:
    """What a transform may lose, as a share of the largest magnitude: `TRANSFORM_U` on one tap.

    The errors of channels and of layers are taken for independent: over the channels of a dense kernel they average
    out, over the layers their squares add up.
    """
    one = TRANSFORM_U * unit_roundoff(accumulator(dtype))
    stacks = way.computed(problem, dtype, device)
    return (
        one * max(sum(1 / (e.in_channels // e.layer.groups if dense else 1) for e in stack) for stack in stacks) ** 0.5
    )


def draw_single_taps(
    problem: Problem, dtype: torch.dtype, device: str = "cpu", seed: int = 0
) -> tuple[torch.Tensor, tuple[Kernel, ...]]:
    """An input and kernels with one non-zero weight per output channel, of full significands and any sign.

    An output is a product of one input and one weight per layer: nothing can average out, and arithmetic inside that
    is narrower than the dtype shows. Inputs lie in [1, 2), weights in [2**-1/2, 2**1/2), so that no depth overflows.
    """
    rng = numpy.random.default_rng(seed)

    def signed(values: numpy.ndarray) -> torch.Tensor:
        return torch.from_numpy(values * rng.choice([-1.0, 1.0], values.shape)).to(dtype).to(device)

    x, kernels = signed(1 + rng.random(problem.shapes[0])), []
    for layer, fan_in, channels in zip(problem.expanded, problem.fan_ins, problem.channels, strict=False):
        weight = numpy.zeros((layer.out_channels, fan_in))
        places = rng.integers(0, fan_in, (layer.out_channels, 1))
        numpy.put_along_axis(weight, places, 2 ** (rng.random(places.shape) - 0.5), axis=1)
        bias = signed(rng.random(layer.out_channels)) if layer.bias else None
        kernels.append(Kernel(signed(weight.reshape(layer.weight_shape(channels))), bias))
    return x, tuple(kernels)


def draw_integers(
    problem: Problem, dtype: torch.dtype, device: str = "cpu", seed: int = 0, bits: int | None = None
) -> tuple[torch.Tensor, tuple[Kernel, ...]]:
    """An input and kernels of integers for which every sum of products, in any order and any merging, is exact.

    Weights are -1, 0 and 1 with so few ones that sum |a||b| stays below 2**p of `dtype` through the whole stack;
    what then is left of the 2**p goes into the size of the inputs, so that all of the significand is used. Those of a
    single layer have p / 2 bits at least: a dtype of fewer inside cannot hold them. bits: in place of p.
    """
    rng = numpy.random.default_rng(seed)
    ones, largest = _integer_budget(problem, bits or SIGNIFICAND_BITS[dtype])

    def tensor(values: numpy.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(numpy.float64)).to(dtype).to(device)

    x = tensor(rng.integers(-largest, largest, problem.shapes[0], endpoint=True))
    kernels = []
    for layer, count, fan_in, channels in zip(problem.expanded, ones, problem.fan_ins, problem.channels, strict=False):
        weight = numpy.zeros((layer.out_channels, fan_in))
        shape = (layer.out_channels, count)
        places = numpy.tile(numpy.arange(fan_in), (shape[0], 1)) if count == fan_in else rng.integers(0, fan_in, shape)
        numpy.put_along_axis(weight, places, rng.choice([-1.0, 1.0], places.shape), axis=1)
        bias = tensor(rng.integers(-1, 1, layer.out_channels, endpoint=True)) if layer.bias else None
        kernels.append(Kernel(tensor(weight.reshape(layer.weight_shape(channels))), bias))
    return x, tuple(kernels)


def _integer_budget(problem: Problem, bits: int) -> tuple[list[int], int]:
    """Non-zero weights per output of each layer, and the largest input, so that no sum exceeds 2**bits."""
    limit, least = 2**bits, LEAST_INPUT * (1 if problem.depth > 1 else 2 ** (bits // 2 - 2))

    def bound(ones: list[int], largest: int) -> int:
        for count, layer in zip(ones, problem.expanded, strict=True):
            largest = count * largest + layer.bias
        return largest

    ones = [1] * problem.depth
    for doubling in itertools.count():
        index = doubling % problem.depth
        wider = ones.copy()
        wider[index] = min(2 * ones[index], problem.fan_ins[index])
        if bound(wider, least) > limit:
            break
        ones = wider
        if ones == list(problem.fan_ins):
            break
    largest = least
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

    |computed - exact| <= relative * exact + absolute; where signs differ, magnitudes (sums of |a||b|) take the place of
    the exact result. The relative part is the chain bound of the layers that are computed, times the rounding of merged
    kernels; the absolute part is what underflow adds. Where a way computes some outputs otherwise than others, it is
    the larger bound. device: a plan may depend on it.
    """
    relative = wide_accumulator_bound(problem, way, dtype, device)
    underflow = max(_underflow(problem, computed, dtype) for computed in way.computed(problem, dtype, device))
    return relative, (1 + relative) * underflow


def _underflow(problem: Problem, computed: Sequence[Computed], dtype: torch.dtype) -> float:
    """What underflow adds to sums, and to the numbers of merged kernels. `rounding.underflow` has it for any numbers.

    A positive draw's weights add up to 1 on average and to 2 at most, and to 1 + 4 / sqrt(n) but once in 3000 times
    (Hoeffding's inequality); a bias is an eighth at most.
    """
    loss, lost, size = losses(dtype, accumulator(dtype), flushed=True), 0.0, 1.0
    growths = iter(min(2.0, 1 + 4 / math.sqrt(fan_in)) for fan_in in problem.fan_ins)
    for each in computed:
        products, grown = each.fan_in + each.layer.bias, math.prod(itertools.islice(growths, len(each.layers)))
        wrong = loss.read + (len(each.layers) * smallest_subnormal(dtype) if len(each.layers) > 1 else 0.0)
        lost = grown * (lost + loss.read) + products * (wrong * size + loss.term) + each.roundings * loss.stored
        size = grown * size + len(each.layers) / 8
    return lost
