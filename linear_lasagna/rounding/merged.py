"""Rounding errors of a merged kernel. Merging is convolving, so what holds for layers applies to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from linear_lasagna.devices import wide
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
    kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], setting: Setting, merge_dtype: torch.dtype, draws: int
) -> tuple[Kernel, KernelErrors]:
    """The merged kernel, exact up to float64, and its errors when PyTorch merges it in `merge_dtype`.

    kernels: float64; draws: of the errors that are not known. The result is rounded to the setting's dtype at the end.
    Whether the merged convolution is right at the border is not asked.
    """
    if merge_dtype is not setting.dtype:  # the suite merges in float64 else, next to which its errors are none
        merged = summed_kernel(kernels, layers, merge_dtype)
        bias = None if merged.bias is None else _rounded(exactly(merged.bias), setting.dtype)
        numbers = Numbers(_rounded(exactly(merged.weight), setting.dtype), bias)
    else:
        order = merge_order(tuple(layers), kernels[0].weight.shape[1] * layers[0].groups)
        numbers = _merge(order, kernels, layers, replace(setting, method="direct"), draws)
    weight, bias = numbers
    values, mean, variance = map(Kernel, weight[:3], (None,) * 3 if bias is None else bias[:3])
    ground = weight.ground if bias is None else weight.ground.worst(bias.ground)
    return values, KernelErrors(mean, variance, ground, weight.drawn)


def _rounded(numbers: ErrorMoments, dtype: torch.dtype) -> ErrorMoments:
    """The numbers and what rounding them once more adds to their errors."""
    values, mean, variance = numbers[:3]
    last = storage_error(values + mean, dtype, variance)
    return numbers._replace(mean=mean + last.mean, variance=variance + last.variance)


def _merge(
    order: Order, kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], merging: Setting, draws: int
) -> Numbers:
    """The layers of the order, merged pair by pair as `merge_stack` merges them."""
    if isinstance(order, int):
        weight, bias = kernels[order]
        return Numbers(exactly(weight, draws), None if bias is None else exactly(bias))
    early, late = order
    both = pair(composed_layer(_of(early, layers)), composed_layer(_of(late, layers)))
    first, second = (_merge(part, kernels, layers, merging, draws) for part in order)
    return Numbers(merged_weight(both, first, second, merging), merged_bias(both, first, second, merging.dtype))


def _of(order: Order, layers: Sequence[ExpandedLayer]) -> list[ExpandedLayer]:
    return [layers[order]] if isinstance(order, int) else [*_of(order[0], layers), *_of(order[1], layers)]


def merged_weight(both: Pair, first: Numbers, second: Numbers, merging: Setting) -> ErrorMoments:
    """The merged weight and its errors. The first weight is an image, the second the kernel that convolves it."""
    values, mean, variance = (Kernel(both.kernel(part)) for part in second.weight[:3])
    drawn = None if second.weight.drawn is None else torch.stack([both.kernel(each) for each in second.weight.drawn])
    known = KernelErrors(mean, variance, second.weight.ground, drawn)
    inexact = any(bool(error.weight.any()) for error in (mean, variance))
    moments = propagate_layer(first.weight.map(both.image), values, both.layer, merging, known if inexact else None)
    return moments.map(both.weight)


def merged_bias(both: Pair, first: Numbers, second: Numbers, merge_dtype: torch.dtype) -> ErrorMoments | None:
    """The merged bias and its errors, (out,).

    So few sums are not probed but formed: what the numbers in use come to is known. In float64, next to which that is
    not known better, every summed weight, product and sum counts as rounded once.
    """
    if first.bias is None:
        return second.bias

    def seen(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        return through(matrix, vector, both.second.groups)

    matrix = second.weight.map(lambda part: part.flatten(2).sum(2))
    values, _, variance = first.bias[:3]
    exact = seen(matrix.value, values)
    unknown = seen(matrix.value.square(), variance) + seen(matrix.variance, values.square())
    ground = matrix.ground.worst(first.bias.ground)
    if merge_dtype is torch.float64:
        unknown = unknown + seen(matrix.value.square(), first.bias.mean.square())
        rounded = _rounded(ErrorMoments(exact, torch.zeros_like(exact), unknown, None, ground), merge_dtype)
    else:
        y = seen(_used(second.weight, merge_dtype).flatten(2).sum(2), _used(first.bias, merge_dtype))
        rounded = ErrorMoments(exact, wide(y) - exact, unknown, None, ground)
    return rounded if second.bias is None else _sum(rounded, second.bias, merge_dtype)


def _sum(first: ErrorMoments, second: ErrorMoments, dtype: torch.dtype) -> ErrorMoments:
    """Of two that were rounded to the dtype, rounded to it."""
    value, mean, variance = (a + b for a, b in zip(first[:3], second[:3], strict=True))
    return _rounded(ErrorMoments(value, mean, variance, None, first.ground.worst(second.ground)), dtype)


def _used(numbers: ErrorMoments, dtype: torch.dtype) -> torch.Tensor:
    """What is computed with, of the dtype, as far as it is known."""
    return (numbers.value + numbers.mean).to(dtype)
