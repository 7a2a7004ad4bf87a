"""Exact values beside the errors of what is computed instead of them, through one layer and through a stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.methods.direct import direct
from linear_lasagna.metrics import relative_l2
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.accumulation import accumulation, assumed
from linear_lasagna.rounding.summation_tree import Order, bias_first
from linear_lasagna.rounding.variance import layer_error, storage_error


class KernelErrors(NamedTuple):
    """Mean and variance of the errors of a kernel's numbers, each shaped as the kernel is."""

    bias: Kernel
    variance: Kernel


class Spread(NamedTuple):
    """Exact values up to float64; mean and variance of the errors of what is computed instead; all of one shape."""

    values: torch.Tensor
    bias: torch.Tensor
    variance: torch.Tensor

    def relative_l2(self) -> float:
        """Root of the expected square of the relative L2 error; 0 where nothing is lost, inf where all values are 0."""
        return relative_l2(torch.stack([self.bias, self.variance.sqrt()]), self.values)


def exactly(values: torch.Tensor) -> Spread:
    """Values without error."""
    return Spread(values, torch.zeros_like(values), torch.zeros_like(values))


@dataclass(frozen=True)
class Setting:
    """Where a stack is computed: storage dtype, device, method; the order that is assumed where none can be found."""

    dtype: torch.dtype
    device: str
    method: str
    unknown: Order = bias_first


def stack_spread(x: Spread, kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], setting: Setting) -> Spread:
    """What the layers, applied in turn, make of x and of its errors. kernels: float64."""
    for kernel, layer in zip(kernels, layers, strict=True):
        x = layer_spread(x, kernel, layer, setting)
    return x


def layer_spread(
    x: Spread, kernel: Kernel, layer: ExpandedLayer, setting: Setting, errors: KernelErrors | None = None
) -> Spread:
    """What a layer makes of x and its errors. kernel: float64; errors: of the numbers that are used instead of it."""
    shape = x.values.shape
    how = accumulation(setting.method, layer, shape, setting.dtype, setting.device)
    if how.order is None:
        how = assumed(setting.method, layer, shape, setting.dtype, setting.unknown)
    y, bias = direct(x.values, kernel, layer), direct(x.bias, Kernel(kernel.weight), layer)
    variance = direct(x.variance, Kernel(kernel.weight.square()), layer)
    used = kernel
    if errors is not None:
        weight, shift = errors.bias
        used = Kernel(kernel.weight + weight, None if kernel.bias is None or shift is None else kernel.bias + shift)
        bias = bias + direct(x.values + x.bias, errors.bias, layer)
        variance = variance + direct(x.values.square(), errors.variance, layer)
    # What is rounded is not the exact result but what is left of it.
    own = layer_error(x.values + x.bias, used, layer, setting.dtype, how)
    bias, variance = bias + own.bias, variance + own.variance
    if how.bits > SIGNIFICAND_BITS[setting.dtype]:
        last = storage_error(y + bias, setting.dtype, variance)
        bias, variance = bias + last.bias, variance + last.variance
    return Spread(y, bias, variance)
