"""Unit roundoff and bounds on the rounding error of sums, layers and chains of layers.

Notation: p is the significand's bits with the hidden one, u = 2**-p the unit roundoff of rounding to nearest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from linear_lasagna.problems import ExpandedLayer

SIGNIFICAND_BITS: dict[torch.dtype, int] = {
    torch.float16: 11,
    torch.bfloat16: 8,
    torch.float32: 24,
    torch.float64: 53,
}


def unit_roundoff(dtype: torch.dtype) -> float:
    """u = 2**-p: float16 2**-11, bfloat16 2**-8, float32 2**-24, float64 2**-53."""
    return 2.0 ** -SIGNIFICAND_BITS[dtype]


def smallest_subnormal(dtype: torch.dtype) -> float:
    """The least positive number: float16 2**-24, bfloat16 2**-133, float32 2**-149, float64 2**-1074."""
    return torch.finfo(dtype).smallest_normal * 2.0 ** (1 - SIGNIFICAND_BITS[dtype])


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which libraries sum products of `dtype`: float32 for 16 bits, else the dtype itself."""
    return torch.float32 if dtype.itemsize == 2 else dtype


def sum_bound(n: int, dtype: torch.dtype) -> float:
    """n u: a bound on the relative error of a sum of n products of one sign, in any order.

    Source: Jeannerod and Rump, SIAM J. Matrix Anal. Appl. 34 (2013): gamma_n may be replaced by n u for any n.
    """
    return n * unit_roundoff(dtype)


def layer_bound(fan_in: int, roundings: int, dtype: torch.dtype) -> float:
    """A bound on one layer's relative error where all products have one sign.

    fan_in products are summed in the accumulator's dtype, and the sum is rounded to `dtype` `roundings` times.
    """
    wide = accumulator(dtype)
    if wide is dtype:
        return sum_bound(fan_in + roundings, dtype)
    return math.expm1(roundings * math.log1p(unit_roundoff(dtype)) + math.log1p(sum_bound(fan_in, wide)))


def chain_bound(
    layers: Sequence[ExpandedLayer], fan_ins: Sequence[int], roundings: Sequence[int], dtype: torch.dtype
) -> float:
    """prod(1 + layer bound) - 1: a bound on a stack's relative error where all numbers have one sign.

    For other signs it bounds |computed - exact| / (|W_L| * ... * |W_1| * |x|) in the same way.
    """
    logs = (
        math.log1p(layer_bound(fan_in + layer.bias, times, dtype))
        for layer, fan_in, times in zip(layers, fan_ins, roundings, strict=True)
    )
    return math.expm1(sum(logs))


def merging_bound(layers: Sequence[ExpandedLayer], in_channels: int, merge_dtype: torch.dtype) -> float:
    """A bound on the relative error of a kernel merged in `merge_dtype` from kernels of one sign.

    Merging layer l into those before it sums at most in_channels_l * taps products for each number.
    """
    logs, channels = 0.0, in_channels
    for index, layer in enumerate(layers):
        if index:
            products = (layer.fan_in(channels) + layer.bias) * layer.groups
            logs += math.log1p(layer_bound(products, 1, merge_dtype))
        channels = layer.out_channels
    return math.expm1(logs)
