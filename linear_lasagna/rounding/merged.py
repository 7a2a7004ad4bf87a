"""The errors of a merged kernel's numbers. Merging is a stack itself, so the recursion over layers applies to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from linear_lasagna.merging import merge_stack, regroup
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer
from linear_lasagna.rounding.spread import KernelErrors, Setting, exactly, stack_spread
from linear_lasagna.rounding.variance import Error, storage_error


def merged_kernel(
    kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], setting: Setting, merge_dtype: torch.dtype
) -> tuple[Kernel, KernelErrors]:
    """The merged kernel, exact up to float64, and its errors when PyTorch merges it in `merge_dtype`.

    kernels: float64. The result is rounded to the setting's dtype at the end. Raises ValueError where the stack cannot
    be merged.
    """
    exact, layer = merge_stack(kernels, layers, torch.float64)
    weights = [regroup(k.weight, each.groups, layer.groups) for k, each in zip(kernels, layers, strict=True)]
    merging = replace(setting, dtype=merge_dtype, method="direct")
    weight = _merged_weight(weights, layer.groups, merging)
    bias = None if exact.bias is None else _merged_bias(kernels, weights, layer.groups, merge_dtype)
    if merge_dtype is not setting.dtype:
        weight = _rounded(weight, exact.weight, setting.dtype)
        bias = None if bias is None or exact.bias is None else _rounded(bias, exact.bias, setting.dtype)
    if bias is None:
        return exact, KernelErrors(Kernel(weight.bias), Kernel(weight.variance))
    return exact, KernelErrors(Kernel(weight.bias, bias.bias), Kernel(weight.variance, bias.variance))


def _rounded(error: Error, exact: torch.Tensor, dtype: torch.dtype) -> Error:
    last = storage_error(exact, dtype)
    return Error(error.bias + last.bias, error.variance + last.variance)


def _merged_weight(weights: Sequence[torch.Tensor], groups: int, merging: Setting) -> Error:
    """The errors of the merged weight: (out, in / groups, *k) each.

    The first weight is the image, its input channels are the batch; every further weight, flipped, is a layer.
    """
    axes = tuple(range(2, weights[0].ndim))
    kernels = [Kernel(weight.flip(axes)) for weight in weights[1:]]
    layers = [_merging_layer(weight, groups) for weight in weights[1:]]
    merged = stack_spread(exactly(weights[0].transpose(0, 1)), kernels, layers, merging)
    return Error(merged.bias.transpose(0, 1), merged.variance.transpose(0, 1))


def _merging_layer(weight: torch.Tensor, groups: int) -> ExpandedLayer:
    """The layer that correlates an image with all of the flipped weight, at full padding."""
    size = tuple(weight.shape[2:])
    return Layer(weight.shape[0], size, padding=tuple(k - 1 for k in size), groups=groups).expand(len(size))


def _merged_bias(
    kernels: Sequence[Kernel], weights: Sequence[torch.Tensor], groups: int, merge_dtype: torch.dtype
) -> Error:
    """The errors of the merged bias, (out,) each: every summed weight, product and sum is counted as rounded once."""

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
    return Error(torch.zeros_like(variance), variance)


def _bias(kernel: Kernel) -> torch.Tensor:
    return kernel.weight.new_zeros(kernel.weight.shape[0]) if kernel.bias is None else kernel.bias
