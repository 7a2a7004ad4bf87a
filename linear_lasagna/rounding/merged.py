"""Rounding errors of a merged kernel. Merging is convolving, so what holds for layers applies to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from linear_lasagna.merging.order import Order, composed_layer, merge_order
from linear_lasagna.merging.pairs import Pair, pair, through
from linear_lasagna.merging.stack import summed_kernel
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.propagation import ErrorMoments, KernelErrors, Setting, exactly, propagate_layer
from linear_lasagna.rounding.variance import storage_error


class Numbers(NamedTuple):
    """A kernel, exact up to float64, and its errors."""

    weight: ErrorMoments
    bias: ErrorMoments | None


def merged_kernel(
    kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], setting: Setting, merge_dtype: torch.dtype
) -> tuple[Kernel, KernelErrors]:
    """The merged kernel, exact up to float64, and its errors when PyTorch merges it in `merge_dtype`.

    kernels: float64. The result is rounded to the setting's dtype at the end. Whether the merged convolution is right
    at the border is not asked.
    """
    if merge_dtype is not setting.dtype:  # the suite merges in float64 else, next to which its errors are none
        merged = summed_kernel(kernels, layers, merge_dtype)
        bias = None if merged.bias is None else _rounded(exactly(merged.bias), setting.dtype)
        numbers = Numbers(_rounded(exactly(merged.weight), setting.dtype), bias)
    else:
        order = merge_order(tuple(layers), kernels[0].weight.shape[1] * layers[0].groups)
        numbers = _merge(order, kernels, layers, replace(setting, method="direct"))
    values, mean, variance = (Kernel(*part) for part in zip(numbers.weight, numbers.bias or (None,) * 3, strict=True))
    return values, KernelErrors(mean, variance)


def _rounded(numbers: ErrorMoments, dtype: torch.dtype) -> ErrorMoments:
    """The numbers and what rounding them once more adds to their errors."""
    values, mean, variance = numbers
    last = storage_error(values + mean, dtype, variance)
    return ErrorMoments(values, mean + last.mean, variance + last.variance)


def _merge(order: Order, kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], merging: Setting) -> Numbers:
    """The layers of the order, merged pair by pair as `merge_stack` merges them."""
    if isinstance(order, int):
        weight, bias = kernels[order]
        return Numbers(exactly(weight), None if bias is None else exactly(bias))
    early, late = order
    both = pair(composed_layer(_of(early, layers)), composed_layer(_of(late, layers)))
    first, second = (_merge(part, kernels, layers, merging) for part in order)
    return Numbers(merged_weight(both, first, second, merging), merged_bias(both, first, second, merging.dtype))


def _of(order: Order, layers: Sequence[ExpandedLayer]) -> list[ExpandedLayer]:
    return [layers[order]] if isinstance(order, int) else [*_of(order[0], layers), *_of(order[1], layers)]


def merged_weight(both: Pair, first: Numbers, second: Numbers, merging: Setting) -> ErrorMoments:
    """The merged weight and its errors. The first weight is an image, the second the kernel that convolves it."""
    image = ErrorMoments(*(both.image(part) for part in first.weight))
    values, *errors = (Kernel(both.kernel(part)) for part in second.weight)
    inexact = any(bool(error.weight.any()) for error in errors)
    moments = propagate_layer(image, values, both.layer, merging, KernelErrors(*errors) if inexact else None)
    return ErrorMoments(*(both.weight(part) for part in moments))


def merged_bias(both: Pair, first: Numbers, second: Numbers, merge_dtype: torch.dtype) -> ErrorMoments | None:
    """The merged bias and its errors, (out,): every summed weight, product and sum is counted as rounded once."""
    if first.bias is None:
        return second.bias

    def seen(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        return through(matrix, vector, both.second.groups)

    matrix = _rounded(ErrorMoments(*(part.flatten(2).sum(2) for part in second.weight)), merge_dtype)
    values, mean, variance = first.bias
    mean_seen = seen(matrix.value, mean) + seen(matrix.mean, values + mean)
    variance_seen = seen(matrix.value.square(), variance) + seen(matrix.variance, values.square())
    product = _rounded(ErrorMoments(seen(matrix.value, values), mean_seen, variance_seen), merge_dtype)
    added = second.bias or exactly(torch.zeros_like(product.value))
    return _rounded(ErrorMoments(*(a + b for a, b in zip(product, added, strict=True))), merge_dtype)
