"""Bounds of the methods that are no plain sums in the working precision: transforms, and compensated sums.

The bounds of `rounding.bounds` are relative to an output's own products; a transform mixes them with others', so that
small outputs beside large ones may be lost. Here a bound is a number for every output, computed from the input and the
kernel. Overflow is left out, and underflow but of the result.

They are of the worst case: for 3 x 3 layers of 8 to 64 channels, on 16 x 16 to 56 x 56 inputs of either sign or one, in
float32, the largest bound is 570 to 10,000 times the largest error for fft, 40 to 600 for winograd_f2, 220 to 1,700 for
winograd_f4, and 1.1 to 1.9 for compensated. A transform's roundings are many, of either sign, and spread over all
outputs; a bound that holds for every input takes them to be of one sign and in one output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from linear_lasagna.formats import accumulator, smallest_subnormal, unit_roundoff
from linear_lasagna.methods import METHODS
from linear_lasagna.methods.direct import direct
from linear_lasagna.methods.fft import transform_size
from linear_lasagna.methods.winograd import F2, F4, Transforms, filtered, transformed_taps
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer
from linear_lasagna.rounding.bounds import chained, gamma

OwnBound: TypeAlias = Callable[[torch.Tensor, Kernel, ExpandedLayer, torch.dtype], torch.Tensor]

SLACK = 1 + 2.0**-20  # for the bounds' own roundings, in float64


def _stored(relative: float, layer: ExpandedLayer, dtype: torch.dtype) -> float:
    """With the roundings that follow: of the sum with the bias, and to storage."""
    wide = accumulator(dtype)
    after = [unit_roundoff(wide)] * layer.bias + [unit_roundoff(dtype)] * (wide is not dtype)
    return chained([relative, *after])


def _with_bias(size: torch.Tensor, kernel: Kernel) -> torch.Tensor:
    return size if kernel.bias is None else size + kernel.bias.abs().view(-1, *(1,) * (size.ndim - 2))


def winograd_bound(
    by: Transforms, x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer, dtype: torch.dtype
) -> torch.Tensor:
    """gamma_n |A^T| [sum_c (|G| |g| |G^T|) * (|B^T| |d| |B|)] |A|: every number rounded at most n times on its way.

    n: the most terms in a row of each transform, twice each, the products over the channels, and the numbers of G.
    Source: Higham, Accuracy and Stability, (3.13) for each product; Barabasz et al., "Error analysis and improving the
    accuracy of Winograd convolution for deep neural networks", arXiv 1803.10986, which has it normwise.
    """
    terms = [int((table != 0).sum(1).max()) for table in by]
    n = 2 * sum(terms) + 2 + x.shape[1] // layer.groups
    size = filtered(x.abs(), transformed_taps(kernel.weight.abs(), layer.groups, by.abs()), layer, by.abs())
    return _stored(gamma(n, accumulator(dtype)), layer, dtype) * _with_bias(size, kernel)


def fft_bound(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer, dtype: torch.dtype) -> torch.Tensor:
    """The same for all outputs of a channel: sum_c |x_c|_2 (a |w_c|_2 + e |w_c|_1).

    Either transform is off by e in the 2-norm, e = log2(N) eta / (1 - log2(N) eta), eta = mu + gamma_4 (sqrt(2) + mu),
    mu: the twiddle factors' error, taken for 2 u (Higham, Accuracy and Stability, theorem 24.2). One more step is
    granted for reals. By Cauchy and Schwarz what the spectra are off by reaches an output as a |x_c|_2 |w_c|_2, a being
    the two transforms', the products' and their sum's; the way back adds e of the result, in the 2-norm again.
    """
    wide, points = accumulator(dtype), math.prod(transform_size(tuple(x.shape[2:]), layer))
    mu = 2 * unit_roundoff(wide)
    steps = (math.log2(points) + 1) * (mu + gamma(4, wide) * (math.sqrt(2) + mu))
    e = steps / (1 - steps)
    a = chained([e, e, math.sqrt(2) * gamma(2 * (x.shape[1] // layer.groups) + 2, wide)])
    image = x.flatten(2).norm(dim=2).unflatten(1, (layer.groups, -1))
    taps = kernel.weight.flatten(2).unflatten(0, (layer.groups, -1))
    two, one = (torch.einsum("ngc,goc->ngo", image, taps.norm(p, dim=3)).flatten(1) for p in (2, 1))
    outputs = layer.output_size(tuple(x.shape[2:]))
    shape = (*two.shape, *(1,) * len(outputs))
    size, lost = _with_bias(two.view(shape), kernel), (a * (1 + e * math.sqrt(points)) * two + e * one).view(shape)
    bound = lost + _stored(0.0, layer, dtype) * (size + lost)
    return bound.expand(*two.shape, *outputs)


def compensated_bound(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer, dtype: torch.dtype) -> torch.Tensor:
    """u |exact| + gamma_n**2 sum |a||b| for float64, and with n u of float64 in the place of gamma_n**2 for others.

    Source: Ogita, Rump, Oishi, SIAM J. Sci. Comput. 26 (2005), proposition 5.5.
    """
    n = layer.fan_in(x.shape[1]) + layer.bias
    gamma_n = gamma(n, torch.float64)
    size = direct(x.abs(), kernel.map(torch.abs), layer) * (1 + gamma_n)
    exact = direct(x, kernel, layer).abs() + gamma_n * size
    if dtype is torch.float64:
        return unit_roundoff(dtype) * exact + gamma_n**2 * size
    # torch rounds float64 to 16 bits by way of float32.
    u = chained(unit_roundoff(each) for each in dict.fromkeys((dtype, torch.float32)))
    return u * exact + (1 + u) * gamma_n * size


def _winograd(by: Transforms) -> OwnBound:
    return lambda *given: winograd_bound(by, *given)


OWN_BOUNDS: dict[str, OwnBound] = {
    "fft": fft_bound,
    "winograd_f2": _winograd(F2),
    "winograd_f4": _winograd(F4),
    "compensated": compensated_bound,
}


@torch.no_grad()
def own_bound(method: str, x: torch.Tensor, kernels: Sequence[Kernel], layers: Sequence[Layer]) -> torch.Tensor:
    """The most that |computed - exact| of the layers, applied one by one, can be: float64, of the result's shape.

    method: one of OWN_BOUNDS; x: (batch, in, *size). A layer's own error is that of its method for numbers as large as
    those before may be, |W_l| * ... * |x| and their error; and |W_l| carries the error before on. Raises KeyError for a
    method without a bound of its own, NotImplementedError where it cannot compute a layer.
    """
    dtype, rank = x.dtype, x.ndim - 2
    size, limit = x.double(), torch.zeros_like(x, dtype=torch.float64)
    for index, (kernel, layer) in enumerate(zip(kernels, (each.expand(rank) for each in layers), strict=True)):
        reason = METHODS[method].unsupported(layer, dtype, x.device.type)
        if reason is not None:
            raise NotImplementedError(f"{method}: {reason}")
        wide = kernel.map(torch.Tensor.double)
        given, part = (size, wide) if index == 0 else (size.abs() + limit, wide.map(torch.abs))
        own = OWN_BOUNDS[method](given, part, layer, dtype) + smallest_subnormal(dtype)
        absolute = wide.map(torch.abs)
        limit = SLACK * (own + direct(limit, Kernel(absolute.weight), layer))
        size = direct(size.abs(), absolute, layer)
    return limit
