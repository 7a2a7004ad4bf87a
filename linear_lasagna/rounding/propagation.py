"""Propagation of exact values and rounding errors through a layer and through a stack."""

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

    mean: Kernel
    variance: Kernel


class ErrorMoments(NamedTuple):
    """Exact values up to float64; mean and variance of the errors of what is computed instead; all of one shape."""

    value: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor

    def relative_l2(self) -> float:
        """Root of the expected square of the relative L2 error; 0 where nothing is lost, inf where all values are 0."""
        return relative_l2(torch.stack([self.mean, self.variance.sqrt()]), self.value)


def exactly(values: torch.Tensor) -> ErrorMoments:
    """Values without error."""
    return ErrorMoments(values, torch.zeros_like(values), torch.zeros_like(values))


@dataclass(frozen=True)
class Setting:
    """Where a stack is computed: storage dtype, device, method; the order that is assumed where none can be found."""

    dtype: torch.dtype
    device: str
    method: str
    unknown: Order = bias_first


def propagate(
    x: ErrorMoments, kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], setting: Setting
) -> ErrorMoments:
    """Propagate values and rounding errors through the layers in turn. kernels: exact, float64."""
    for kernel, layer in zip(kernels, layers, strict=True):
        x = propagate_layer(x, kernel, layer, setting)
    return x


def propagate_layer(
    x: ErrorMoments, kernel: Kernel, layer: ExpandedLayer, setting: Setting, errors: KernelErrors | None = None
) -> ErrorMoments:
    """Propagate values and rounding errors through one layer.

    x: exact values with mean and variance of their errors
    kernel: exact, float64
    errors: mean and variance of the errors of the kernel in use; None if it is exact
    """
    shape = x.value.shape
    how = accumulation(setting.method, layer, shape, setting.dtype, setting.device)
    if how.order is None:
        how = assumed(setting.method, layer, shape, setting.dtype, setting.unknown)
    y, mean = direct(x.value, kernel, layer), direct(x.mean, Kernel(kernel.weight), layer)
    variance = direct(x.variance, Kernel(kernel.weight.square()), layer)
    used = kernel
    if errors is not None:
        weight, shift = errors.mean
        used = Kernel(kernel.weight + weight, None if kernel.bias is None or shift is None else kernel.bias + shift)
        mean = mean + direct(x.value + x.mean, errors.mean, layer)
        variance = variance + direct(x.value.square(), errors.variance, layer)
    # What is rounded is not the exact result but what is left of it.
    own = layer_error(x.value + x.mean, used, layer, setting.dtype, how)
    mean, variance = mean + own.mean, variance + own.variance
    if how.bits > SIGNIFICAND_BITS[setting.dtype]:
        last = storage_error(y + mean, setting.dtype, variance)
        mean, variance = mean + last.mean, variance + last.variance
    return ErrorMoments(y, mean, variance)
