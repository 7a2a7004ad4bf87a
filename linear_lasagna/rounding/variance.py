"""Mean and variance of the errors that a layer's own roundings add to its outputs.

What is rounded is known before, and so is what rounding it loses: the sums of some outputs are formed again, rounding
by rounding. Errors are not taken to be independent, so that terms which repeat, as those of constant images, and terms
of one sign, whose errors lean to one side, are predicted like any others. Where all outputs were looked at, each one's
error is known; where some were, a channel's errors have the mean and the variance of those.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy
import torch

from linear_lasagna.formats import ulp
from linear_lasagna.methods.views import windows
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.replay import Factors, Terms, replay, storage_format
from linear_lasagna.rounding.summation_tree import Accumulation

OUTPUTS = 2**13  # that are formed again, about
POSITIONS = (8, 2**11)  # at least and at most, whatever the number of channels
SHARP = 1 / 8  # ulps: a number whose standard deviation is less is rounded as if it were known


class Error(NamedTuple):
    """Mean and variance of errors: float64, of one shape."""

    mean: torch.Tensor
    variance: torch.Tensor


def stored(y: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Float64 y rounded to `dtype`, whose exponent is taken to have no upper limit: float64."""
    return torch.from_numpy(storage_format(dtype).round(y.cpu().numpy())).to(y.device)


def storage_error(y: torch.Tensor, dtype: torch.dtype, variance: torch.Tensor | float = 0.0) -> Error:
    """The errors of rounding float64 y, itself known with this variance, to `dtype` once: y's shape.

    The error of a number that is known is known. Else, and in float64, in which y is not known better, it is taken as
    uniform over one ulp: variance ulp**2 / 12.
    """
    unit = ulp(y, dtype)
    known = (torch.zeros_like(y) + variance < (SHARP * unit).square()) & (dtype is not torch.float64)
    return Error(torch.where(known, stored(y, dtype) - y, 0.0), (unit.square() / 12).masked_fill_(known, 0.0))


def layer_error(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer, dtype: torch.dtype, how: Accumulation) -> Error:
    """What adding up the outputs of layer(x) in `dtype` adds to their errors: (batch, out, *output_size).

    x: (batch, in, *size), kernel: both float64, rounded to `dtype` here. The last rounding to storage is left out.
    """
    batch, size = x.shape[0], layer.output_size(tuple(x.shape[2:]))
    kernel = kernel.map(lambda numbers: stored(numbers, dtype))
    errors = sampled_errors(stored(x, dtype), kernel, layer, dtype, how)
    if len(errors) == batch * math.prod(size):
        known = errors.unflatten(0, (batch, *size)).movedim(-1, 1)
        return Error(known, torch.zeros_like(known))
    shape = (-1, *(1,) * len(size))
    return Error(*(part.view(shape).expand(batch, -1, *size) for part in moments(errors)))


def moments(errors: torch.Tensor) -> Error:
    """Mean and variance of each channel's errors, (positions, out) -> (out,): together their mean square.

    A mean of a few errors would be off zero if they were independent. What independence explains of the channels' means
    is variance.
    """
    mean, square = errors.mean(0), errors.square().mean(0)
    if len(errors) == 1:
        return Error(torch.zeros_like(mean), square)
    chance = float(errors.var(0).mean()) / len(errors)
    size = float(mean.square().mean())
    mean = mean * math.sqrt(max(0.0, 1 - chance / size)) if size else mean
    return Error(mean, (square - mean.square()).clamp(min=0))


def sampled_errors(
    x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer, dtype: torch.dtype, how: Accumulation
) -> torch.Tensor:
    """Errors of the sums of some outputs, or of all in their order: (positions, out). x, kernel: numbers of `dtype`."""
    groups, out = layer.groups, len(kernel.weight)
    least, most = POSITIONS
    weight = kernel.weight.reshape(1, groups, out // groups, -1)
    patches = sampled_windows(x, layer, min(max(least, OUTPUTS // out), most)).reshape(-1, groups, 1, weight.shape[-1])
    bias = None if kernel.bias is None else kernel.bias.view(groups, -1)
    errors = replay(product_terms(patches, weight, bias), how, dtype).errors
    return torch.from_numpy(errors).expand(len(patches), groups, -1).reshape(-1, out).to(x.device)


def product_terms(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Terms:
    """The products along the last axis of two tensors that broadcast, and the bias, if there is one, as the last term.

    bias: of the shape of their sums, or one that broadcasts with it.
    """
    first, second = (part.movedim(-1, 0).contiguous().cpu().numpy() for part in (x, weight))
    last = [] if bias is None else [Factors(bias.cpu().numpy())]
    return [*map(Factors, first, second), *last].__getitem__


def sampled_windows(x: torch.Tensor, layer: ExpandedLayer, most: int) -> torch.Tensor:
    """What some outputs see, at most `most`, drawn from batch and positions: (positions, in, *kernel_size).

    The same draw every time. Evenly spread ones would all lie on the border of some shapes.
    """
    total = x.shape[0] * math.prod(layer.output_size(tuple(x.shape[2:])))
    drawn = torch.randint(total, (most,), generator=torch.Generator().manual_seed(0))
    return windows_at(x, layer, torch.arange(total) if total <= most else drawn)


def windows_at(x: torch.Tensor, layer: ExpandedLayer, places: torch.Tensor) -> torch.Tensor:
    """What the outputs at some places see, numbered over batch and positions: (places, in, *kernel_size)."""
    view = windows(x, layer)
    rank = len(layer.kernel_size)
    view = view.permute(0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
    # torch.unravel_index would import sympy, for seconds.
    indices = numpy.unravel_index(places.numpy(), view.shape[: 1 + rank])
    return view[tuple(torch.from_numpy(index).to(x.device) for index in indices)]
