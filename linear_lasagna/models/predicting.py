"""The rounding error to expect of what was merged, from a few outputs of every convolution, without timing or probing.

`rounding.predict_error` asks the library how it adds up, which takes seconds for a large layer. Here the order of
summation is left open: one running sum, from the bias on or up to it, blocks and pairs give a range, of the terms
channel by channel and tap by tap. The kernel's own rounding is known, and so is what the terms that are looked at lose
in each of these orders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy
import torch

from linear_lasagna.devices import wide
from linear_lasagna.formats import LEAST_EXPONENT, SIGNIFICAND_BITS, accumulator
from linear_lasagna.merging import merge_stack, not_mergeable
from linear_lasagna.merging.certifying import Part, used_numbers
from linear_lasagna.methods.views import windows
from linear_lasagna.metrics import relative_l2
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.batched_sums import Plan, plans, products, sum_errors
from linear_lasagna.rounding.replay import Array, replay
from linear_lasagna.rounding.summation_tree import ORDERS, Accumulation
from linear_lasagna.rounding.variance import Error, product_terms, storage_error, stored
from linear_lasagna.switches import operands_rounded

OUTPUTS, TERMS = (256, 1024), 2**20  # that are looked at: of the first at least and at most so many


class Range(NamedTuple):
    """Relative L2 error for the best and for the worst order of summation, dimensionless."""

    least: float
    most: float


def predicted_error(x: torch.Tensor, parts: Sequence[Part]) -> Range | None:
    """The error that the rounding of the parts' own numbers, sums and outputs makes of x, (1, channels, *size).

    parts: computed in turn, each by its module, in x's dtype. Each one's error is taken to be carried on at its
    relative size. None where operands may be rounded first (TF32).
    """
    if rounded_first(x) is not None:
        return None
    errors = []
    for place, part in enumerate(parts, start=1):
        errors.append(predicted(x, *_computed(part)))
        x = part.module(x) if place < len(parts) else x
    return Range(*(math.hypot(*ends) for ends in zip(*errors, strict=True)))


def rounded_first(x: torch.Tensor) -> str | None:
    """Why a convolution of x may round its operands first, None where it does not."""
    return operands_rounded(x.device.type) if x.dtype is torch.float32 else None


def _computed(part: Part) -> tuple[Kernel, ExpandedLayer, torch.Tensor | None, Sequence[Kernel] | None]:
    """The part as one convolution, as it was before its numbers were rounded; with a border, right inside of it.

    And the powers of two, (out,), by which the module multiplies its outputs afterwards, or None; and what its numbers
    became, as `predicted` takes them.
    """
    module: Any = part.module
    layers, none = [link.layer for link in part.chain], (0,) * len(part.chain[0].layer.kernel_size)
    if not_mergeable(layers) is not None:
        layers = [layers[0], *(replace(layer, padding=none) for layer in layers[1:])]
    kernel, layer = merge_stack(part.kernels, layers, torch.float64)
    used = used_numbers(module)
    if getattr(module, "scale", None) is None:
        return kernel, layer, None, used
    scale = wide(module.scale).flatten()
    weight = kernel.weight / scale.view(-1, *(1,) * (kernel.weight.ndim - 1))
    return Kernel(weight, None if kernel.bias is None else kernel.bias / scale), layer, scale, used


def predicted(
    x: torch.Tensor,
    kernel: Kernel,
    layer: ExpandedLayer,
    scale: torch.Tensor | None = None,
    used: Sequence[Kernel] | None = None,
) -> Range:
    """The error of one convolution of x whose kernel, of any numbers, was rounded to x's dtype.

    x: (batch, in, *size), of which some outputs' terms are looked at, evenly spread over positions and channels.
    scale: (out,), by what powers of two the outputs are multiplied afterwards. used: the kernels whose sum the kernel
    became; None where it was rounded to nearest.
    """
    outputs = min(max(OUTPUTS[0], TERMS // kernel.weight[0].numel()), OUTPUTS[1])
    # More channels than positions, as a channel's errors are much alike where inputs have one sign.
    channels = _spread(layer.out_channels, 2 * math.isqrt(outputs))
    # A few numbers, and NumPy adds them up: on the CPU.
    weight = wide(kernel.weight[channels]).cpu().flatten(1)
    bias = None if kernel.bias is None else wide(kernel.bias[channels]).cpu()
    own = _rounded(weight, x.dtype, [part.weight[channels].flatten(1) for part in used or ()])
    n = own.weight.shape[1]
    seen = _seen(x, layer, channels, outputs // len(channels)).cpu()
    y = _weighted(seen, weight) + (0.0 if bias is None else bias)
    numbers = carried(seen, own.error, None if bias is None else storage_error(bias, x.dtype))
    shift = None if bias is None else stored(bias, x.dtype)
    terms = seen.tile(n // seen.shape[-1])
    loops = _loops(n, math.prod(layer.kernel_size))
    errors = [summed(lost, y, numbers, x.dtype) for lost in _lost(terms, own.weight, shift, x.dtype, loops)]
    if scale is not None:
        errors = [rescaled(error, y, scale[channels].cpu(), x.dtype) for error in errors]
        y = y * scale[channels].cpu()
    sizes = [relative_l2(torch.stack([error.mean, error.variance.sqrt()]), y) for error in errors]
    return Range(min(sizes), max(sizes))


class _Rounded(NamedTuple):
    """weight: in use, (channels, terms); error: of the sum of an input's terms, (channels, fan-in)."""

    weight: torch.Tensor
    error: Error


def _rounded(weight: torch.Tensor, dtype: torch.dtype, parts: Sequence[torch.Tensor]) -> _Rounded:
    """What became of the weight: the parts, or, if there are none, and in float64, the nearest numbers."""
    if not parts or dtype is torch.float64:
        return _Rounded(stored(weight, dtype), storage_error(weight, dtype))
    numbers = [wide(part).cpu() for part in parts]
    change = torch.stack(numbers).sum(0) - weight
    return _Rounded(torch.cat(numbers, 1), Error(change, torch.zeros_like(change)))


def _loops(terms: int, taps: int) -> list[list[int]]:
    """An output's terms in the orders in which they are looped over: all taps of a channel before the next channel's,
    as they are stored, and all channels at a tap before the next tap, as libraries do with blocks of channels.
    """
    places = torch.arange(terms)
    by_tap = places.view(-1, taps).T.flatten()
    return [each.tolist() for each in ([places] if torch.equal(places, by_tap) else [places, by_tap])]


def _lost(
    seen: torch.Tensor, weight: torch.Tensor, shift: torch.Tensor | None, dtype: torch.dtype, loops: list[list[int]]
) -> list[Array]:
    """What outputs, (positions, channels), lose whose terms are added in each order, and looped over in each way."""
    running, n, biased = accumulator(dtype), weight.shape[1], shift is not None
    factors = seen.movedim(-1, 0).numpy(), weight.T.unsqueeze(1).numpy()
    last = None if shift is None else shift.numpy()
    terms = products(*factors, running is torch.float32, numpy.array(loops), last)
    if terms.fit:
        found = (sum_errors(terms, order) for order in _plans(n, biased))
        return [lost for trees in found for tree in trees for lost in tree]
    exact, bits = product_terms(seen, weight, shift), SIGNIFICAND_BITS[running]
    orders = [order(n + biased, biased).renumbered([*loop, n]) for loop in loops for order in ORDERS.values()]
    return [replay(exact, Accumulation(order, bits), dtype).errors for order in orders]


@lru_cache(maxsize=32)
def _plans(terms: int, biased: bool) -> list[Plan]:
    """How so many terms, and a bias behind them, are added up in all orders."""
    return plans(order(terms + biased, biased) for order in ORDERS.values())


def _weighted(seen: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sums of what is seen, weighted: (positions, channels)."""
    return seen[:, 0] @ weight.T if seen.shape[1] == 1 else (seen * weight).sum(-1)


def carried(seen: torch.Tensor, weight: Error, bias: Error | None) -> Error:
    """What errors of the weight and the bias make of what is seen: (positions, channels)."""
    mean, variance = _weighted(seen, weight.mean), _weighted(seen.square(), weight.variance)
    return Error(mean, variance) if bias is None else Error(mean + bias.mean, variance + bias.variance)


def summed(errors: Array, y: torch.Tensor, numbers: Error, dtype: torch.dtype) -> Error:
    """The errors of outputs whose sums have these. numbers: what the terms' own errors make of y."""
    mean = numbers.mean + torch.from_numpy(errors)
    if accumulator(dtype) is dtype:
        return Error(mean, numbers.variance)
    last = storage_error(y + mean, dtype, numbers.variance)
    return Error(mean + last.mean, numbers.variance + last.variance)


def rescaled(error: Error, y: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> Error:
    """The errors of y, (positions, channels), multiplied by powers of two afterwards: only what underflows is lost."""
    mean, variance = error.mean * scale, error.variance * scale.square()
    last = storage_error(y * scale + mean, dtype, variance)
    small = (y * scale).abs() < 2.0 ** LEAST_EXPONENT[dtype]
    return Error(mean + last.mean * small, variance + last.variance * small)


def _spread(number: int, most: int) -> list[int]:
    """At most `most` of the numbers below `number`, evenly spread."""
    return torch.linspace(0, number - 1, min(most, number), dtype=torch.float64).round().long().tolist()


def _seen(x: torch.Tensor, layer: ExpandedLayer, channels: Sequence[int], positions: int) -> torch.Tensor:
    """The inputs of some outputs: float64, (positions, channels, fan-in), or, if all channels see the same, one."""
    view, rank = windows(x, layer), len(layer.kernel_size)
    sizes = tuple(view.shape[2 : 2 + rank])
    places = [numpy.unravel_index(place, sizes) for place in _spread(math.prod(sizes), positions)]
    patches = wide(torch.stack([view[(0, slice(None), *map(int, place))] for place in places]))
    if layer.groups == 1:
        return patches.flatten(1).unsqueeze(1)
    per_group = x.shape[1] // layer.groups
    starts = [channel * layer.groups // layer.out_channels * per_group for channel in channels]
    return torch.stack([patches[:, start : start + per_group].flatten(1) for start in starts], 1)
