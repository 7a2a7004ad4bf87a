"""What stands beside a convolution, as one with it: BatchNorm, identities, and convolutions of the same input.

A convolution reads its input at offsets -padding + dilation * tap from stride * output. A sum of convolutions of one
stride is the convolution on the union of their offsets; an identity is a tap of ones at offset 0. Sources: Ding et al.,
"RepVGG", arXiv 2101.03697; Vasu et al., "MobileOne", arXiv 2206.04040.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from linear_lasagna.merging import regroup
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer


def fuse_batch_norm(kernel: Kernel, scale: torch.Tensor, shift: torch.Tensor, in_place: bool = False) -> Kernel:
    """The kernel of scale * y + shift, where y is the kernel's output; scale, shift: (out,).

    in_place: its weight may be overwritten, which takes a fourth of the time of new memory.
    """
    multiply = kernel.weight.mul_ if in_place else kernel.weight.mul
    weight = multiply(scale.view(-1, *(1,) * (kernel.weight.ndim - 1)))
    return Kernel(weight, shift if kernel.bias is None else kernel.bias * scale + shift)


def diagonal(scale: torch.Tensor, shift: torch.Tensor | None, rank: int) -> Kernel:
    """The 1-tap depthwise kernel of scale * x + shift, with `rank` spatial axes; scale, shift: (channels,)."""
    return Kernel(scale.view(-1, *(1,) * (rank + 1)), shift)


def pointwise(channels: int, rank: int, bias: bool) -> ExpandedLayer:
    """The layer of a `diagonal` kernel."""
    return Layer(channels, 1, groups=channels, bias=bias).expand(rank)


def joined_layer(layers: Sequence[ExpandedLayer]) -> ExpandedLayer | str:
    """The layer of a sum of layers on one input, or why there is none.

    It has the most groups that all have in common, and reaches over all their offsets. Where it pads more than one of
    them, that one's weight there is zero. Its outputs are as many as theirs wherever these are equally many.
    """
    if len({layer.out_channels for layer in layers}) > 1:
        return "its branches differ in their number of channels"
    if len({layer.stride for layer in layers}) > 1:
        return "its branches differ in their stride"
    axes = [_union(axis) for axis in zip(*(_offsets(layer) for layer in layers), strict=True)]
    padding, dilation, taps = zip(*axes, strict=True)
    return replace(
        layers[0],
        kernel_size=taps,
        padding=padding,
        dilation=dilation,
        groups=math.gcd(*(layer.groups for layer in layers)),
        bias=any(layer.bias for layer in layers),
    )


def joined_kernel(kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], joined: ExpandedLayer) -> Kernel:
    """The kernel of the sum; joined: as `joined_layer` gives it."""
    total, bias = None, None
    for kernel, layer in zip(kernels, layers, strict=True):
        weight = regroup(kernel.weight, layer.groups, joined.groups)
        if total is None:
            total = weight.new_zeros(*weight.shape[:2], *joined.kernel_size)
        total[(..., *_places(layer, joined))] += weight
        if kernel.bias is not None:
            bias = kernel.bias if bias is None else bias + kernel.bias
    assert total is not None
    return Kernel(total, bias)


def _offsets(layer: ExpandedLayer) -> list[range]:
    """Where each axis is read, relative to stride * output."""
    axes = zip(layer.kernel_size, layer.padding, layer.dilation, strict=True)
    return [range(-p, -p + d * (k - 1) + 1, d) for k, p, d in axes]


def _union(axis: Sequence[range]) -> tuple[int, int, int]:
    """(padding, dilation, kernel size) of the fewest equidistant offsets that hold all of these."""
    offsets = sorted({offset for each in axis for offset in each})
    gap = math.gcd(*(offset - offsets[0] for offset in offsets)) or 1
    return -offsets[0], gap, (offsets[-1] - offsets[0]) // gap + 1


def _places(layer: ExpandedLayer, joined: ExpandedLayer) -> tuple[slice, ...]:
    """Where the layer's taps lie among the joined layer's, axis by axis."""
    return tuple(
        slice((own[0] - all_[0]) // all_.step, (own[-1] - all_[0]) // all_.step + 1, max(1, own.step // all_.step))
        for own, all_ in zip(_offsets(layer), _offsets(joined), strict=True)
    )
