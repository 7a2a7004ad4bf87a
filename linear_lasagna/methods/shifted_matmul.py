"""One 1x1 product per tap on a shifted input, accumulated: no column buffer.

    y = sum_t weight[:, :, t] @ x[:, :, shifted by dilation * t]

Source: the nine shifted slices of "The unfold function"; Anderson et al., "Low-memory GEMM-based convolution
algorithms for deep neural networks", arXiv 1709.03395 (kn2row). At stride 1 a shift of the flattened image is
itself a view, so no slice is copied: rows are computed at their padded width and the excess is cut off at the end.
The running sum is kept in the storage dtype, so that an output is rounded once per tap.
"""

from __future__ import annotations

import itertools
import math

import torch

from linear_lasagna.methods.method import Call, Method
from linear_lasagna.methods.views import pad
from linear_lasagna.problems import ExpandedLayer, Kernel


def roundings(layer: ExpandedLayer) -> int:
    return layer.taps + layer.bias


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    groups, out_channels = layer.groups, layer.out_channels
    taps = kernel.weight.reshape(groups, out_channels // groups, -1, layer.taps).permute(3, 0, 1, 2).contiguous()
    offsets = list(itertools.product(*map(range, layer.kernel_size)))
    shifts = flat_shifts if set(layer.stride) == {1} else sliced_shifts

    def call(x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        x = pad(x, layer.padding).contiguous()
        size = tuple(
            (n - r) // s + 1 for n, r, s in zip(x.shape[2:], layer.effective_kernel_size, layer.stride, strict=True)
        )
        width, slices = shifts(x.reshape(batch * groups, -1, *x.shape[2:]), offsets, size, layer)
        y = x.new_zeros(batch * groups, out_channels // groups, math.prod(width))
        used = y[..., : slices[0].shape[-1]]
        if kernel.bias is not None:
            used += kernel.bias.reshape(groups, -1, 1).repeat(batch, 1, 1)
        for tap, part in zip(taps, slices, strict=True):
            used.baddbmm_(tap.expand(batch, *tap.shape).flatten(0, 1), part)
        inside = (slice(None), slice(None), *(slice(n) for n in size))
        return y.reshape(batch, out_channels, *width)[inside].contiguous()

    return call


def flat_shifts(x, offsets, size, layer):
    """Views of the flattened image, one per tap, and the padded width at which their outputs lie."""
    width = (size[0], *x.shape[3:])
    steps = [math.prod(x.shape[axis + 3 :]) for axis in range(len(size))]
    used = sum((n - 1) * step for n, step in zip(size, steps, strict=True)) + 1
    flat = x.flatten(2)
    starts = (sum(t * d * step for t, d, step in zip(offset, layer.dilation, steps, strict=True)) for offset in offsets)
    return width, [flat[..., start : start + used] for start in starts]


def sliced_shifts(x, offsets, size, layer):
    """Strided slices of the image, one per tap, copied because a matrix product needs even rows."""
    axes = list(zip(size, layer.stride, layer.dilation, strict=True))
    slices = []
    for offset in offsets:
        ranges = (slice(t * d, t * d + (n - 1) * s + 1, s) for t, (n, s, d) in zip(offset, axes, strict=True))
        slices.append(x[(slice(None), slice(None), *ranges)].flatten(2))
    return size, slices


shifted_matmul = Method("shifted_matmul", prepare, roundings=roundings)
