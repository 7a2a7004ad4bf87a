"""Exact values beside the errors of what is computed instead of them, through one layer and through a stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import torch

from linear_lasagna.methods.direct import direct
from linear_lasagna.metrics import relative_l2
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.accumulation import accumulation
from linear_lasagna.rounding.order import Sum, sequential
from linear_lasagna.rounding.variance import layer_error

Order: TypeAlias = Callable[[int], Sum]


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
    unknown: Order = sequential


def stack_spread(x: Spread, kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], setting: Setting) -> Spread:
    """What the layers, applied in turn, make of x and of its errors. kernels: float64."""
    for kernel, layer in zip(kernels, layers, strict=True):
        x = layer_spread(x, kernel, layer, setting)
    return x


def layer_spread(
    x: Spread, kernel: Kernel, layer: ExpandedLayer, setting: Setting, errors: KernelErrors | None = None
) -> Spread:
    """What a layer makes of x and its errors. kernel: float64; errors: of the numbers that are used instead of it."""
    how = accumulation(setting.method, layer, x.values.shape, setting.dtype, setting.device)
    if how.order is None:
        how = replace(how, order=setting.unknown(layer.fan_in(x.values.shape[1]) + layer.bias))
    y, bias = direct(x.values, kernel, layer), direct(x.bias, Kernel(kernel.weight), layer)
    variance = direct(x.variance, Kernel(kernel.weight.square()), layer)
    if errors is not None:
        bias = bias + direct(x.values + x.bias, errors.bias, layer)
        variance = variance + direct(x.values.square(), errors.variance, layer)
    # What is rounded is not the exact result but what is left of it.
    own = layer_error(x.values + x.bias, y + bias, kernel, layer, setting.dtype, how)
    return Spread(y, bias + own.bias, variance + own.variance)
