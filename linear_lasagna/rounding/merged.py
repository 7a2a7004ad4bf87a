"""The errors of a merged kernel's numbers. Merging is a stack itself, so the recursion over layers applies to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from linear_lasagna.merging import merged_layer, regroup
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer
from linear_lasagna.rounding.spread import KernelErrors, Setting, Spread, exactly, stack_spread
from linear_lasagna.rounding.variance import storage_error


def merged_kernel(
    kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], setting: Setting, merge_dtype: torch.dtype
) -> tuple[Kernel, KernelErrors]:
    """The merged kernel, exact up to float64, and its errors when PyTorch merges it in `merge_dtype`.

    kernels: float64. The result is rounded to the setting's dtype at the end. Raises ValueError where the stack cannot
    be merged.
    """
    layer = merged_layer(layers)
    weights = [regroup(k.weight, each.groups, layer.groups) for k, each in zip(kernels, layers, strict=True)]
    weight = merged_weight(weights, layer.groups, replace(setting, dtype=merge_dtype, method="direct"))
    bias = merged_bias(kernels, weights, layer.groups, merge_dtype) if layer.bias else None
    if merge_dtype is not setting.dtype:
        weight = _rounded(weight, setting.dtype)
        bias = bias and _rounded(bias, setting.dtype)
    parts = zip(weight, bias or (None, None, None), strict=True)
    values, mean, variance = (Kernel(*part) for part in parts)
    return values, KernelErrors(mean, variance)


def _rounded(numbers: Spread, dtype: torch.dtype) -> Spread:
    last = storage_error(numbers.values, dtype)
    return Spread(numbers.values, numbers.bias + last.bias, numbers.variance + last.variance)


def merged_weight(weights: Sequence[torch.Tensor], groups: int, merging: Setting) -> Spread:
    """The merged weight and its errors: (out, in / groups, *k). All weights have the same number of groups.

    The first weight is the image, its input channels are the batch; every further weight, flipped, is a layer.
    """
    axes = tuple(range(2, weights[0].ndim))
    kernels = [Kernel(weight.flip(axes)) for weight in weights[1:]]
    layers = [_merging_layer(weight, groups) for weight in weights[1:]]
    merged = stack_spread(exactly(weights[0].transpose(0, 1)), kernels, layers, merging)
    return Spread(*(part.transpose(0, 1) for part in merged))


def _merging_layer(weight: torch.Tensor, groups: int) -> ExpandedLayer:
    """The layer that correlates an image with all of the flipped weight, at full padding."""
    size = tuple(weight.shape[2:])
    return Layer(weight.shape[0], size, padding=tuple(k - 1 for k in size), groups=groups).expand(len(size))


def merged_bias(
    kernels: Sequence[Kernel], weights: Sequence[torch.Tensor], groups: int, merge_dtype: torch.dtype
) -> Spread:
    """The merged bias and its errors, (out,): every summed weight, product and sum is counted as rounded once."""

    def seen(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        return torch.bmm(matrix.unflatten(0, (groups, -1)), vector.reshape(groups, -1, 1)).flatten()

    bias = _bias(kernels[0])
    variance = torch.zeros_like(bias)
    for weight, kernel in zip(weights[1:], kernels[1:], strict=True):
        matrix = weight.flatten(2).sum(2)
        product = seen(matrix, bias)
        carried = seen(matrix.square(), variance) + seen(storage_error(matrix, merge_dtype).variance, bias.square())
        bias = product + _bias(kernel)
        variance = carried + sum(storage_error(part, merge_dtype).variance for part in (product, bias))
    return Spread(bias, torch.zeros_like(bias), variance)


def _bias(kernel: Kernel) -> torch.Tensor:
    return kernel.weight.new_zeros(kernel.weight.shape[0]) if kernel.bias is None else kernel.bias
