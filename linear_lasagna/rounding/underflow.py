"""What underflow adds to a way's error, output by output: the absolute part of its bounds.

Below the normal numbers a rounding to nearest loses up to half the smallest subnormal number, or, where the processor
flushes, all of a number below the smallest normal one: of what it reads as of what it computes. Every convolution so
adds a term for each product and each rounding to storage, and sees what was lost before through |W|:

    a_l = (1 + b_l) (|W_l| * a_(l-1) + n_l e_sums + stored_l e_storage)

b_l: the layer's relative bound; e: what one product, or one rounding, loses. A merged kernel has an absolute error of
its own, found in the same way; it adds that error times |x|.

Source: the standard model with underflow, fl(a op b) = (a op b)(1 + d) + e: Higham, Accuracy and Stability of Numerical
Algorithms, (2.8); its recursion over layers is this suite's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from linear_lasagna.formats import LEAST_EXPONENT, accumulator, smallest_subnormal
from linear_lasagna.merging.order import Order, merge_order
from linear_lasagna.merging.pairs import pair
from linear_lasagna.methods.direct import direct
from linear_lasagna.metrics import magnitudes
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.bounds import merging_sums
from linear_lasagna.ways import Computed


class Losses(NamedTuple):
    """What is lost below the normal numbers, at most: in one product and its addition to a sum in the dtype `sums`, in
    one rounding to storage, and of a number that is read.
    """

    term: float
    stored: float
    read: float


def losses(dtype: torch.dtype, sums: torch.dtype, flushed: bool) -> Losses:
    """flushed: subnormal numbers may be taken for zero; those of float16 never are, no processor that is known does so.

    A flushed term counts four times: product and addition, and as much for what the bound itself loses in float64.
    """
    normal, subnormal = 2.0 ** LEAST_EXPONENT[dtype], smallest_subnormal(dtype) / 2
    storage = flushed and dtype is not torch.float16
    term = 4 * 2.0 ** LEAST_EXPONENT[sums] if flushed and sums is not torch.float16 else smallest_subnormal(sums) / 2
    return Losses(term, normal if storage else subnormal, normal if storage else 0.0)


class Step(NamedTuple):
    """A convolution that is computed, and the relative bounds of its sums and of its kernel's numbers."""

    computed: Computed
    sums: float
    kernel: float


def absolute(
    x: torch.Tensor,
    kernels: Sequence[Kernel],
    steps: Sequence[Step],
    sums: torch.dtype,
    merge_dtype: torch.dtype,
    flushed: bool,
) -> torch.Tensor:
    """What underflow adds to the error of each output: float64, the output's shape.

    kernels: one per layer of all steps together. sums, merge_dtype: where products are summed, and kernels merged.
    """
    loss, merging = losses(x.dtype, sums, flushed), losses(merge_dtype, accumulator(merge_dtype), flushed)
    values, relative, left = x.abs().to(torch.float64), 0.0, list(kernels)
    lost = torch.zeros_like(values)
    for (layers, layer, in_channels, roundings), own, kernel in steps:
        used, left = left[: len(layers)], left[len(layers) :]
        lost += loss.read
        seen = magnitudes(lost, [Kernel(each.weight) for each in used], [replace(each, bias=False) for each in layers])
        wrong = merged_kernel(used, layers, loss, merging) if len(layers) > 1 else read_kernel(used[0], loss)
        seen += direct((1 + relative) * values + lost, wrong.lost, layer)
        products = layer.fan_in(in_channels) + layer.bias
        lost = (1 + own) * ((1 + kernel) * seen + products * loss.term + roundings * loss.stored)
        values = magnitudes(values, used, layers)
        relative = (1 + relative) * (1 + own) * (1 + kernel) - 1
    return lost


class Sized(NamedTuple):
    """A kernel's magnitudes and the absolute error of what is used instead of it: float64, of its shapes."""

    numbers: Kernel
    lost: Kernel


def read_kernel(kernel: Kernel, loss: Losses) -> Sized:
    """The kernel, some of whose numbers may be taken for zero."""
    numbers = kernel.map(lambda numbers: numbers.abs().to(torch.float64))
    return Sized(numbers, numbers.map(lambda numbers: torch.full_like(numbers, loss.read)))


def merged_kernel(kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], loss: Losses, merging: Losses) -> Sized:
    """The kernel merged from the kernels, and what it loses. merging: of the dtype that it is merged in."""
    order = merge_order(tuple(layers), kernels[0].weight.shape[1] * layers[0].groups)
    numbers, lost = _merge(order, [read_kernel(kernel, loss) for kernel in kernels], layers, merging)[0]
    return Sized(numbers, _plus(lost, loss.stored + loss.read))


def _merge(
    order: Order, kernels: Sequence[Sized], layers: Sequence[ExpandedLayer], merging: Losses
) -> tuple[Sized, ExpandedLayer]:
    if isinstance(order, int):
        return kernels[order], layers[order]
    ((first, off), early), ((second, other), late) = (_merge(part, kernels, layers, merging) for part in order)
    both = pair(early, late)
    products, roundings = merging_sums(early, late)
    seen = both.merge_biased(off, Kernel(second.weight + other.weight))
    added = both.merge_biased(first, other)
    biases = [each for each in (seen.bias, added.bias) if each is not None]
    lost = Kernel(seen.weight + added.weight, torch.stack(biases).sum(0) if biases else None)
    own = products * merging.term + roundings * merging.stored + merging.read
    return Sized(both.merge_biased(first, second), _plus(lost, own)), both.merged


def _plus(kernel: Kernel, number: float) -> Kernel:
    return kernel.map(lambda numbers: numbers + number)
