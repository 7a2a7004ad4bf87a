"""The public face of the exact reference: `convolve` and its result, `Exact`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import torch

from linear_lasagna.exact.bits import format_of
from linear_lasagna.exact.plan import numbers_of, plan
from linear_lasagna.exact.reconstruct import exponents, integers, paired, rounded
from linear_lasagna.exact.scaling import LIMB
from linear_lasagna.exact.stack import digits
from linear_lasagna.exact.trusted import check_float64
from linear_lasagna.formats import power_of_two
from linear_lasagna.geometry import Box, crops
from linear_lasagna.preconditions import check_kernels
from linear_lasagna.problems import Kernel, Layer, Problem

Tile: TypeAlias = tuple[slice, ...]

BLOCK = 2**15


@dataclass(frozen=True, eq=False)
class Exact:
    """An exact result (samples, channels, *size): integers times 2**exponent, held as digits modulo primes.

    It takes 4 bytes per number and prime (there is a prime for about 23 bits of the exact integers), and
    rounds in blocks of 32,768 numbers.
    """

    digits: torch.Tensor
    primes: tuple[int, ...]
    exponent: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, channels, *size)."""
        return tuple(self.digits.shape[1:])

    def to(self, dtype: torch.dtype) -> torch.Tensor:
        """The result rounded once, to nearest, ties to even: float16, bfloat16, float32 or float64.

        Too large numbers become infinities, small ones subnormal. Raises ValueError for another dtype.
        """
        format_of(dtype)
        result = torch.empty(math.prod(self.shape), dtype=dtype, device=self.digits.device)
        for part in self._blocks():
            result[part] = rounded(*integers(self._load(part), self.primes, self.exponent), dtype)
        return result.view(self.shape)

    def error(self, y: torch.Tensor) -> torch.Tensor:
        """y - exact, rounded once to float64; infinite or NaN where y is. y: this shape, any of the dtypes.

        Raises ValueError for another shape or dtype.
        """
        format_of(y.dtype)
        if tuple(y.shape) != self.shape:
            raise ValueError(f"y has shape {tuple(y.shape)}, the exact result {self.shape}")
        y = y.detach().to(self.digits.device).reshape(-1)
        result = torch.empty(len(y), dtype=torch.float64, device=y.device)
        for part in self._blocks():
            finite = y[part].isfinite()
            plus = y[part].masked_fill(~finite, 0.0)
            limbs = integers(self._load(part).neg_(), self.primes, self.exponent, plus)
            result[part] = rounded(*limbs, torch.float64).where(finite, y[part].to(torch.float64))
        return result.view(self.shape)

    def ulp(self, dtype: torch.dtype) -> torch.Tensor:
        """`formats.ulp` of the exact numbers, which just below a power of two is half that of their rounding: float64.

        Raises ValueError for a dtype other than those of `to`.
        """
        form = format_of(dtype)
        result = torch.empty(math.prod(self.shape), dtype=torch.float64, device=self.digits.device)
        for part in self._blocks():
            exponent = exponents(*integers(self._load(part), self.primes, self.exponent))
            result[part] = power_of_two(exponent.sub_(form.precision - 1).clamp_(form.least, 1023))
        return result.view(self.shape)

    def nonzero(self) -> torch.Tensor:
        """Which of the exact numbers are not zero."""
        return self.digits.any(0)

    def fractions(self) -> list[Fraction]:
        """The exact numbers, in the order of a flattened tensor."""
        numbers = []
        for part in self._blocks():
            values, exponent = integers(self._load(part), self.primes, self.exponent)
            unit = Fraction(2) ** exponent
            for column in values.T.tolist():
                numbers.append(unit * sum(int(limb) << (LIMB * row) for row, limb in enumerate(column)))
        return numbers

    def parts(self) -> tuple[torch.Tensor, int]:
        """(parts, exponent): the numbers are sum(parts) * 2**exponent, without rounding; (count, *shape) float64.

        A part has 48 bits; parts that are all zero are left out. Raises ValueError for numbers of over 1,900 bits.
        """
        pieces = []
        for part in self._blocks():
            values, lowest = integers(self._load(part), self.primes, self.exponent)
            pieces.append(paired(values))
        values = torch.cat(pieces, 1)
        used = values.any(1).nonzero().flatten().tolist() or [0]
        first, last = used[0], used[-1]
        if last - first > 40:
            raise ValueError("the exact numbers span over 1,900 bits, more than float64's exponents do")
        middle = (first + last) // 2
        scaled = [values[row] * 2.0 ** (2 * LIMB * (row - middle)) for row in used]
        return torch.stack(scaled).view(-1, *self.shape), lowest + 2 * LIMB * middle

    def _blocks(self) -> Iterator[slice]:
        total = math.prod(self.shape)
        return (slice(start, min(start + BLOCK, total)) for start in range(0, total, BLOCK))

    def _load(self, part: slice) -> torch.Tensor:
        """The digits of a block of numbers, and a row for scratch: (k + 1, n) float64."""
        block = self.digits.new_empty((len(self.primes) + 1, part.stop - part.start), dtype=torch.float64)
        block[:-1].copy_(self.digits.flatten(1)[:, part])
        return block


@torch.no_grad()
def convolve(
    x: torch.Tensor,
    kernels: Sequence[Kernel],
    layers: Sequence[Layer],
    tile: Tile | None = None,
) -> Exact:
    """The exact result of applying the layers in turn to x (samples, channels, *size), with rank 1 to 3.

    x, weights and biases share one dtype (float16, bfloat16, float32, float64) and device (CPU or CUDA).
    tile: one slice(start, stop) per spatial axis; only these positions of the output are computed, from the
    part of x that they need. Memory: 4 bytes per output and prime; 8 bytes per weight and 24 bits of the
    weights' range (32 bytes or so for float64); and blocks of at most 2**28 bytes or so, as the batch and
    large images are cut. Raises ValueError for shapes, dtypes or devices that do not fit, a tile outside the
    output, numbers not finite; RuntimeError where the device's float64 is none (`exact.trusted`).
    """
    return convolve_tiles(x, kernels, layers, [tile])[0]


@torch.no_grad()
def convolve_tiles(
    x: torch.Tensor, kernels: Sequence[Kernel], layers: Sequence[Layer], tiles: Sequence[Tile | None]
) -> tuple[Exact, ...]:
    """`convolve` for several tiles of one result, cutting the kernels' numbers once."""
    problem = _checked(x, kernels, layers)
    check_float64(x.device)
    numbers = numbers_of(kernels)

    def exact(tile: Tile | None) -> Exact:
        box = _box(tile, problem.sizes[-1])
        used = x
        for axis, (start, stop) in enumerate(crops(problem.expanded, problem.size, box)[0].box, start=2):
            used = used.narrow(axis, start, stop - start)
        stack = plan(used, numbers, problem.expanded)
        return Exact(digits(x, stack, box), stack.steps[-1].primes, stack.exponent)

    return tuple(map(exact, tiles))


def _checked(x: torch.Tensor, kernels: Sequence[Kernel], layers: Sequence[Layer]) -> Problem:
    """The problem that the arguments pose. Raises ValueError where they do not fit together."""
    format_of(x.dtype)
    if not 3 <= x.ndim <= 5 or x.numel() == 0:
        raise ValueError(f"x must be (samples, channels, *size) with 1 to 3 sizes, not {tuple(x.shape)}")
    samples, channels, *size = x.shape
    problem = Problem("convolve", samples, channels, tuple(size), tuple(layers))
    check_kernels(problem, kernels, x)
    return problem


def _box(tile: Tile | None, size: tuple[int, ...]) -> Box:
    """The tile as (start, stop) per axis. Raises ValueError if it does not lie in an output of this size."""
    if tile is None:
        return tuple((0, length) for length in size)
    if len(tile) != len(size):
        raise ValueError(f"tile has {len(tile)} slices for {len(size)} spatial axes")
    box = []
    for part, length in zip(tile, size, strict=True):
        start = 0 if part.start is None else part.start
        stop = length if part.stop is None else part.stop
        if part.step not in (None, 1) or not 0 <= start < stop <= length:
            raise ValueError(f"tile {tile} is no block of an output of size {size}")
        box.append((start, stop))
    return tuple(box)
