"""Mean and variance of the errors that a layer's own roundings add to its outputs.

What is rounded is known before, and so is what rounding it loses: the sums of some outputs are formed again, rounding
by rounding. Errors are not taken to be independent, so that terms which repeat, as those of constant images, and terms
of one sign, whose errors lean to one side, are predicted like any others. Where all outputs were looked at, each one's
error is known; where some were, a channel's errors have the mean and the variance of those, in proportion to what is
added up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy
import torch

from linear_lasagna.formats import ulp
from linear_lasagna.methods.direct import direct
from linear_lasagna.methods.views import windows
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.replay import Factors, Terms, replay, storage_format
from linear_lasagna.rounding.summation_tree import Accumulation

OUTPUTS = 2**13  # that are formed again, about
POSITIONS = (8, 2**11)  # at least and at most, whatever the number of channels
FEW = 8  # errors of a channel that weigh as much as those of all channels
SHARP = 1 / 8  # ulps: a number whose standard deviation is less is rounded as if it were known


class Error(NamedTuple):
    """Mean and variance of errors: float64, of one shape. seen: on how many different errors the variance rests."""

    mean: torch.Tensor
    variance: torch.Tensor
    seen: float = math.inf


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


def layer_error(
    x: torch.Tensor,
    kernel: Kernel,
    layer: ExpandedLayer,
    dtype: torch.dtype,
    how: Accumulation,
    alike: torch.Tensor | None,
) -> Error:
    """What adding up the outputs of layer(x) in `dtype` adds to their errors: (batch, out, *output_size).

    x: (batch, in, *size), kernel: both float64, rounded to `dtype` here. alike: which outputs are the sums of these
    very numbers in this order, bool of their shape; errors of others, and of all where it is None, are like those that
    are found, not the same. The last rounding to storage is left out.
    """
    x, kernel = stored(x, dtype), kernel.map(lambda numbers: stored(numbers, dtype))
    batch, size, out = x.shape[0], layer.output_size(tuple(x.shape[2:])), len(kernel.weight)
    least, most = POSITIONS
    most = min(max(least, OUTPUTS // out), most)
    total = batch * math.prod(size)
    if alike is not None and total <= most:
        known = sampled_errors(x, kernel, layer, dtype, how, torch.arange(total))
        known = known.unflatten(0, (batch, *size)).movedim(-1, 1)
        return Error(torch.where(alike, known, 0.0), torch.where(alike, 0.0, known.square()))
    magnitude = direct(x.abs(), kernel.map(torch.abs), layer).movedim(1, -1).flatten(0, -2)
    sample = drawn_positions(magnitude.square().sum(1).cpu(), most)
    errors = sampled_errors(x, kernel, layer, dtype, how, sample.places)
    found = moments(errors, magnitude, sample)
    mean, variance = (part.unflatten(0, (batch, *size)).movedim(-1, 1) for part in found[:2])
    return Error(mean, variance, found.seen)


class Sample(NamedTuple):
    """Positions, (n,) int64, and how many each stands for: float64, (n,)."""

    places: torch.Tensor
    weights: torch.Tensor


def drawn_positions(sizes: torch.Tensor, most: int) -> Sample:
    """All positions, if they are no more than `most`; else so many, half by chance and half in proportion to sizes.

    sizes: the expected squares of what is added up, float64, (positions,). Each is weighted by the inverse of its
    probability, so that sums are met on average: those of few large numbers, as of a bright spot, nearly without
    scatter. The same draw every time. Source: Owen, Monte Carlo theory, methods and examples, section 9.11 (defensive
    importance sampling).
    """
    total = len(sizes)
    if total <= most:
        return Sample(torch.arange(total), torch.ones(total, dtype=torch.float64))
    even = torch.full_like(sizes, 1 / total)
    chances = (even + sizes / sizes.sum()) / 2 if bool(sizes.any()) else even
    ends = chances.cumsum(0)
    random = torch.rand(most, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = torch.searchsorted(ends, random * ends[-1]).clamp(max=total - 1)
    return Sample(places, 1 / (most * chances[places]))


def moments(errors: torch.Tensor, magnitude: torch.Tensor, sample: Sample) -> Error:
    """Mean and variance of the errors of all outputs, (all positions, out), from those of some, (positions, out).

    magnitude: sum |a||b| of all outputs, in proportion to which a channel's errors are taken to be. Equal rows are one:
    windows that see the same. A mean of a few errors would be off zero if they were independent. What independence
    explains of the channels' means is variance. Few errors of a channel are filled up with those of all.
    """
    weights, seen = sample.weights.to(errors.device).unsqueeze(1), magnitude[sample.places.to(errors.device)]
    square, whole = (weights * errors.square()).sum(0), magnitude.square().sum(0)
    row = torch.linspace(1, 2, errors.shape[1], dtype=torch.float64, device=errors.device)
    _, alike = torch.unique((errors * row).sum(1), return_inverse=True)
    kinds = int(alike.max()) + 1
    mean = _ratio((weights * errors).sum(0), magnitude.sum(0))
    off = _together(weights * (errors - mean * seen), alike, kinds)
    chance = float((_ratio(off, magnitude.sum(0)).square()).sum()) * kinds / (kinds - 1) if kinds > 1 else math.inf
    size = float(mean.square().sum())
    mean = mean * math.sqrt(max(0.0, 1 - chance / size)) if size else mean
    own = kinds / (kinds + FEW)
    scale = own * _ratio(square, whole) + (1 - own) * _ratio(square.sum(), whole.sum())
    means = mean * magnitude
    each = _together(weights * errors.square(), alike, kinds)
    number = min(int((each > 0).sum()), 3 * float(_ratio(each.sum().square(), each.square().sum())))
    return Error(means, (scale * magnitude.square() - means.square()).clamp(min=0), number or math.inf)


def _together(values: torch.Tensor, alike: torch.Tensor, kinds: int) -> torch.Tensor:
    """Sums of the rows of each kind: (kinds, columns)."""
    return torch.zeros(kinds, values.shape[1], dtype=values.dtype, device=values.device).index_add_(0, alike, values)


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """numerator / denominator, 0 where that is 0."""
    return torch.where(denominator == 0, 0.0, numerator / denominator)


def sampled_errors(
    x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer, dtype: torch.dtype, how: Accumulation, places: torch.Tensor
) -> torch.Tensor:
    """Errors of the sums at some positions, numbered over the batch: (positions, out). x, kernel: of `dtype`."""
    groups, out = layer.groups, len(kernel.weight)
    weight = kernel.weight.reshape(1, groups, out // groups, -1)
    patches = windows_at(x, layer, places).reshape(-1, groups, 1, weight.shape[-1])
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


def windows_at(x: torch.Tensor, layer: ExpandedLayer, places: torch.Tensor) -> torch.Tensor:
    """What the outputs at some places see, numbered over batch and positions: (places, in, *kernel_size)."""
    view = windows(x, layer)
    rank = len(layer.kernel_size)
    view = view.permute(0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
    # torch.unravel_index would import sympy, for seconds.
    indices = numpy.unravel_index(places.numpy(), view.shape[: 1 + rank])
    return view[tuple(torch.from_numpy(index).to(x.device) for index in indices)]
