"""What a result has to be, independently of the package: exactly, from the definition, or within a limit.

The exact part is pure Python over `fractions.Fraction`: nested loops over numbers in row-major lists. It
takes some microseconds per multiplication, so it is for small problems.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch.nn import functional

from linear_lasagna.rounding import accumulator, layer_bound, smallest_subnormal

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


class Grid(NamedTuple):
    """Numbers of a tensor's shape, in row-major order."""

    shape: tuple[int, ...]
    values: list[Fraction]

    def at(self, *index):
        """The number at an index; zero outside, as in zero padding."""
        position = 0
        for i, n in zip(index, self.shape, strict=True):
            if not 0 <= i < n:
                return Fraction(0)
            position = position * n + i
        return self.values[position]


def grid(tensor):
    """The tensor's numbers without loss."""
    return Grid(tuple(tensor.shape), [Fraction(value) for value in tensor.flatten().tolist()])


def positions(shape):
    """Every index of a shape, in row-major order."""
    return itertools.product(*map(range, shape))


def spread(extent, rank):
    """One int per spatial axis."""
    return extent if isinstance(extent, tuple) else (extent,) * rank


def outputs(n, k, s, p, d):
    """How many windows lie inside an axis of n positions: kernel size k, stride s, padding p, dilation d."""
    return sum(1 for start in range(-p, n + p, s) if start + d * (k - 1) < n + p)


def convolution(x, weight, bias, layer):
    """One layer, from the definition.

    y[n, o, p] = bias[o] + sum over c, t of weight[o, c, t] * x[n, c in o's group, s p + d t - padding]
    """
    batch, channels, *size = x.shape
    out_channels, per_group, *taps = weight.shape
    rank = len(size)
    strides, pads, dilations = (spread(e, rank) for e in (layer.stride, layer.padding, layer.dilation))
    ends = [outputs(*axis) for axis in zip(size, taps, strides, pads, dilations, strict=True)]
    shape, values = (batch, out_channels, *ends), []
    assert channels == per_group * layer.groups
    for n, o, *p in positions(shape):
        first = o * layer.groups // out_channels * per_group
        total = Fraction(0) if bias is None else bias.at(o)
        for c, *t in positions((per_group, *taps)):
            axes = zip(p, t, strides, pads, dilations, strict=True)
            where = [i * s + j * d - pad for i, j, s, pad, d in axes]
            total += weight.at(o, c, *t) * x.at(n, first + c, *where)
        values.append(total)
    return Grid(shape, values)


def stack(x, kernels, layers):
    """The layers applied in turn to the tensor x."""
    result = grid(x)
    for kernel, layer in zip(kernels, layers, strict=True):
        bias = None if kernel.bias is None else grid(kernel.bias)
        result = convolution(result, grid(kernel.weight), bias, layer)
    return result


def full_convolution(first, second, groups=1):
    """The kernel of `second` after `first`.

    c[o, i, u] = sum over m and s + t = u of second[o, m, s] * first[m, i, t]

    first: (mid, in / groups, *k1); second: (out, mid / groups, *k2); with groups, m runs over o's group.
    """
    first, second = grid(first), grid(second)
    out_channels, per_group, *late = second.shape
    taps = [a + b - 1 for a, b in zip(first.shape[2:], late, strict=True)]
    shape, values = (out_channels, first.shape[1], *taps), []
    for o, i, *u in positions(shape):
        start = o * groups // out_channels * per_group
        total = Fraction(0)
        for m, *s in positions((per_group, *late)):
            early = (a - b for a, b in zip(u, s, strict=True))
            total += second.at(o, m, *s) * first.at(start + m, i, *early)
        values.append(total)
    return Grid(shape, values)


def moved(device, x, kernels):
    """The numbers on the device."""
    return x.to(device), tuple(kernel.map(lambda numbers: numbers.to(device)) for kernel in kernels)


def assert_equals(y, expected, reproducer=""):
    """Shape and every number of the tensor y are the grid's. reproducer: what gave y."""
    assert tuple(y.shape) == expected.shape, f"{reproducer}: shape {tuple(y.shape)}, exactly {expected.shape}"
    found = grid(y) if bool(y.isfinite().all()) else Grid(tuple(y.shape), y.flatten().tolist())
    wrong = [i for i, (a, b) in enumerate(zip(found.values, expected.values, strict=True)) if a != b]
    if wrong:
        index = next(itertools.islice(positions(expected.shape), wrong[0], None))
        raise AssertionError(
            f"{reproducer}: {len(wrong)} of {len(expected.values)} numbers are wrong, "
            f"the first at {index}: {found.values[wrong[0]]}, exactly {expected.values[wrong[0]]}"
        )


def magnitudes(x, kernels, layers):
    """|W_L| * ... * |W_1| * |x| with biases, float64: what the rounding errors are relative to."""
    return error_limit(x, kernels, layers, [0] * len(layers), torch.float64)[1]


def error_limit(x, kernels, layers, roundings, dtype):
    """(limit, magnitude) per output of a stack, float64; |computed - exact| <= limit.

    Per layer |computed - W computed_before| <= bound * |W| |computed_before| + what underflows, and
    |computed_before| <= magnitude_before + limit_before.
    """
    magnitude = x.to(torch.float64).abs()
    limit = torch.zeros_like(magnitude)
    for kernel, layer, times in zip(kernels, layers, roundings, strict=True):
        weight = kernel.weight.to(torch.float64).abs()
        convolve = CONVOLUTIONS[weight.ndim - 2]
        arguments = (weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        fan_in = math.prod(weight.shape[1:])
        relative = layer_bound(fan_in + layer.bias, times, dtype)
        carried, magnitude = convolve(limit, *arguments), convolve(magnitude, *arguments)
        if kernel.bias is not None:
            magnitude = magnitude + kernel.bias.to(torch.float64).abs().view(-1, *(1,) * (weight.ndim - 2))
        lost = times * smallest_subnormal(dtype) + (fan_in + layer.bias) * smallest_subnormal(accumulator(dtype))
        limit = carried + relative * (magnitude + carried) + lost
    slack = 1 + 2.0**-30  # this function's own rounding: some thousand additions in float64
    return limit * slack, magnitude * slack


def assert_within(error, limit, reproducer):
    """|error| <= limit for every output; float64 tensors of one shape. reproducer: what gave the error."""
    finite = bool(error.isfinite().all())
    worst = float((error.abs() / limit).nan_to_num(nan=0.0).max()) if finite else math.inf
    assert worst <= 1, f"{reproducer}: the largest error is {worst:.3g} times its limit"
