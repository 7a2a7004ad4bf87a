"""Bias and variance of the errors that a layer's own roundings add to its outputs.

A number s that is rounded to nearest gets an error that is taken as uniform over one ulp: variance ulp(s)**2 / 12.
Where s was made by adding a term of few ulps, the error is known instead: a term below half an ulp is lost, one above
becomes a whole ulp. For terms of one sign such errors do not average out (stagnation: Higham, SIAM J. Sci. Comput. 14
(1993), 783), so they are a bias. Adding zero costs nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy
import torch

from linear_lasagna.formats import LEAST_EXPONENT, SIGNIFICAND_BITS, accumulator, spacing
from linear_lasagna.methods.views import windows
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.order import sequential
from linear_lasagna.rounding.questions import Accumulation
from linear_lasagna.rounding.roundings import Roundings, outer_sums, roundings

SMALL = 16  # ulps; how larger terms are rounded depends on digits that no prediction knows
SAMPLED_PRODUCTS = 2**21
SAMPLED_OUTPUTS = 256
SAMPLED_POSITIONS = (8, 256)  # at least and at most, whatever the number of channels


class Error(NamedTuple):
    """Mean and variance of errors: float64, of one shape."""

    bias: torch.Tensor
    variance: torch.Tensor


def rounding_error(found: Roundings, bits: int, least: int) -> Error:
    """The errors of rounding to a significand of `bits` bits and least exponent `least`: the shape of found.sums."""
    unit = spacing(found.sums, bits, least)
    known = found.added.abs() < SMALL * unit
    bias, few, units = torch.zeros_like(unit), found.added[known], unit[known]
    bias[known] = (few / units).round() * units - few
    return Error(bias, unit.square().div_(12).masked_fill_(known, 0.0))


def storage_error(y: torch.Tensor, dtype: torch.dtype) -> Error:
    """The errors of rounding float64 y to `dtype` once: y's shape."""
    return rounding_error(Roundings(y, y), SIGNIFICAND_BITS[dtype], LEAST_EXPONENT[dtype])


def layer_error(
    x: torch.Tensor, y: torch.Tensor, kernel: Kernel, layer: ExpandedLayer, dtype: torch.dtype, how: Accumulation
) -> Error:
    """What computing y = layer(x) in `dtype` adds to y's errors: y's shape.

    x, y, kernel: float64. Running sums are those of some 256 outputs; their errors are averaged per
    channel, and what their biases scatter around the average is variance.
    """
    errors = summing_error(sampled_products(x, kernel, layer), dtype, how)
    bias = errors.bias.mean(0)
    variance = errors.variance.mean(0) + errors.bias.var(0, correction=0)
    bias, variance = (part.view(-1, *(1,) * (y.ndim - 2)).expand_as(y) for part in (bias, variance))
    if how.bits <= SIGNIFICAND_BITS[dtype]:
        return Error(bias, variance)
    last = storage_error(y, dtype)
    return Error(bias + last.bias, variance + last.variance)


def summing_error(products: torch.Tensor, dtype: torch.dtype, how: Accumulation) -> Error:
    """The errors of sums of `products` before the last rounding to storage: (positions, out, n) -> (positions, out)."""
    order = how.order or sequential(products.shape[-1])
    narrow = how.bits <= SIGNIFICAND_BITS[dtype]
    least = LEAST_EXPONENT[dtype if narrow else accumulator(dtype)]
    bias, variance = (part.sum(-1) for part in rounding_error(roundings(products, order, how.fused), how.bits, least))
    if how.stored:
        stored = storage_error(outer_sums(products, order)[..., how.stored], dtype)
        bias, variance = bias + stored.bias.sum(-1), variance + stored.variance.sum(-1)
    return Error(bias, variance)


def sampled_products(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> torch.Tensor:
    """The terms of some outputs: (positions, out, fan-in), and the bias as one more where there is one.

    x: (batch, in, *size), kernel: both float64. Terms are numbered as weight[o].flatten() is.
    """
    weight = kernel.weight.reshape(layer.groups, -1, math.prod(kernel.weight.shape[1:]))
    least, most = SAMPLED_POSITIONS
    wanted = min(max(least, SAMPLED_OUTPUTS // len(kernel.weight)), most)
    most = max(1, min(wanted, SAMPLED_PRODUCTS // weight.numel()))
    patches = sampled_windows(x, layer, most).reshape(-1, layer.groups, 1, weight.shape[2])
    products = (patches * weight).flatten(1, 2)
    if kernel.bias is None:
        return products
    return torch.cat([products, kernel.bias.view(1, -1, 1).expand(len(products), -1, 1)], -1)


def sampled_windows(x: torch.Tensor, layer: ExpandedLayer, most: int) -> torch.Tensor:
    """What some outputs see, at most `most`, drawn from batch and positions: (positions, in, *kernel_size).

    The same draw every time. Evenly spread ones would all lie on the border of some shapes.
    """
    view = windows(x, layer)
    rank = len(layer.kernel_size)
    view = view.permute(0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
    outputs = view.shape[: 1 + rank]
    total = math.prod(outputs)
    drawn = torch.randint(total, (most,), generator=torch.Generator().manual_seed(0))
    chosen = torch.arange(total) if total <= most else drawn
    # torch.unravel_index would import sympy, for seconds.
    places = numpy.unravel_index(chosen.numpy(), outputs)
    return view[tuple(torch.from_numpy(place).to(x.device) for place in places)]
