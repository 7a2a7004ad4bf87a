"""Sums as if in twice the working precision, rounded to it at the end: the accurate end of the scale.

Products of float16, bfloat16 and float32 numbers are exact in float64, which has over twice their significands: there
it sums in float64, with no splitting. For float64, Dot2 of Ogita, Rump and Oishi, "Accurate Sum and Dot Product", SIAM
J. Sci. Comput. 26 (2005), algorithm 5.3: the error of every product and of every sum is computed, exactly, and what
they add up to is added at the end:

    |computed - exact| <= u |exact| + gamma_n**2 sum |a||b|                                  (proposition 5.5)

Its products are split by Veltkamp's and Dekker's method, so |x| and |weight| must be below 2**996. It takes 17
operations where a sum takes 2.
"""

from __future__ import annotations

import itertools

import torch

from linear_lasagna.devices import device_named
from linear_lasagna.error_free import halves, product_error, two_sum
from linear_lasagna.methods.direct import CONVOLUTIONS
from linear_lasagna.methods.method import Call, Method, products
from linear_lasagna.methods.views import windows
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer

DOT2 = 17  # operations for a product that is added, of which a sum takes 2


def unsupported(layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    return device_named(device).lacks(torch.float64)


def in_float64(kernel: Kernel, layer: ExpandedLayer) -> Call:
    """Convolve in float64, where narrower numbers' products are exact, and round."""
    convolution, wide = CONVOLUTIONS[kernel.weight.ndim - 2], kernel.map(torch.Tensor.double)

    def call(x: torch.Tensor) -> torch.Tensor:
        y = convolution(x.double(), *wide, layer.stride, layer.padding, layer.dilation, layer.groups)
        return y.to(x.dtype)

    return call


def dot2(kernel: Kernel, layer: ExpandedLayer) -> Call:
    """Every product in turn, for all outputs at once."""
    rank, groups = len(layer.kernel_size), layer.groups
    # (in / groups, tap) -> (groups, out / groups, 1, ...), beside (batch, groups, 1, *size)
    weight = kernel.weight.unflatten(0, (groups, -1)).flatten(3)[(..., *(None,) * rank)]
    high, low = halves(weight)
    offsets = list(itertools.product(*map(range, layer.kernel_size)))

    def call(x: torch.Tensor) -> torch.Tensor:
        views = [windows(part, layer).unflatten(1, (groups, 1, -1)) for part in (x, *halves(x))]
        total = x.new_zeros(x.shape[0], *weight.shape[:2], *views[0].shape[4 : 4 + rank])
        if kernel.bias is not None:
            total = total + kernel.bias.view(groups, -1, *(1,) * rank)
        lost = torch.zeros_like(total)
        for channel, (tap, offset) in itertools.product(range(weight.shape[2]), enumerate(offsets)):
            a, a_high, a_low = (view[(slice(None), slice(None), slice(None), channel, ..., *offset)] for view in views)
            b, b_high, b_low = (part[:, :, channel, tap] for part in (weight, high, low))
            product = a * b
            error = product_error(product, (a_high, a_low), (b_high, b_low))
            total, rounding = two_sum(total, product)
            lost = lost + (rounding + error)
        return (total + lost).flatten(1, 2)

    return call


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    return (dot2 if kernel.weight.dtype is torch.float64 else in_float64)(kernel, layer)


def operations(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...], dtype: torch.dtype) -> int:
    once = products(layer, in_channels, size, dtype)
    return once * DOT2 // 2 if dtype is torch.float64 else once


def computes_in(dtype: torch.dtype) -> torch.dtype:
    return torch.float64


compensated = Method("compensated", prepare, unsupported, summed=False, operations=operations, computes_in=computes_in)
