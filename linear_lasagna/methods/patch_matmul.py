"""Patches by reshape and transpose alone, where the windows tile the input.

    patches = x.view(n, c, oh, kh, ow, kw).permute(n, oh, ow, c, kh, kw)
    y = patches @ weight.view(out, c * kh * kw).T

Source: "The unfold function" (the split needs no unfold); Dosovitskiy et al., "An Image is Worth 16x16 Words",
arXiv 2010.11929, the Vision Transformer's patch embedding. Positions past the last whole patch are cut off.
"""

from __future__ import annotations

import torch

from linear_lasagna.methods.method import Call, Method, columns
from linear_lasagna.methods.views import add_bias, grouped_rows
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer, spread


def unsupported(layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    rank = layer.rank or 1
    kernel_size, stride, padding, dilation = (
        spread(extent, rank) for extent in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    if kernel_size != stride or any(padding) or set(dilation) != {1}:
        return "patches need kernel size = stride, no padding and no dilation"
    return None


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    rank, groups = len(layer.kernel_size), layer.groups
    columns = grouped_rows(kernel.weight, groups).transpose(1, 2).contiguous()
    # (batch, group, channel, out_1, tap_1, ...) -> (group, batch, out_1, ..., channel, tap_1, ...)
    order = (1, 0, *range(3, 3 + 2 * rank, 2), 2, *range(4, 4 + 2 * rank, 2))

    def call(x: torch.Tensor) -> torch.Tensor:
        size = layer.output_size(tuple(x.shape[2:]))
        x = x[(slice(None), slice(None), *(slice(n * k) for n, k in zip(size, layer.kernel_size, strict=True)))]
        split = [extent for pair in zip(size, layer.kernel_size, strict=True) for extent in pair]
        patches = x.reshape(x.shape[0], groups, -1, *split).permute(order)
        y = torch.bmm(patches.reshape(groups, -1, columns.shape[1]), columns)
        y = y.reshape(groups, x.shape[0], -1, columns.shape[2]).permute(1, 0, 3, 2)
        return add_bias(y.reshape(x.shape[0], layer.out_channels, *size), kernel.bias)

    return call


patch_matmul = Method("patch_matmul", prepare, unsupported, buffer=columns)
