"""A layer with its numbers as torch's own module, and what trains faster than that and is the same function."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from linear_lasagna.problems import ExpandedLayer, Kernel


def convolution(kernel: Kernel, layer: ExpandedLayer) -> nn.Conv2d:
    """With copies of the numbers, in their dtype. layer: two-dimensional, with a bias, without padding and groups."""
    size: Any = layer.kernel_size
    stride: Any = layer.stride
    out_channels, in_channels = kernel.weight.shape[:2]
    module = nn.Conv2d(in_channels, out_channels, size, stride, dtype=kernel.weight.dtype)
    numbers = kernel.map(lambda each: nn.Parameter(each.detach().clone()))
    module.weight, module.bias = numbers
    return module


def convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: Any = 1) -> torch.Tensor:
    """`torch.nn.functional.conv2d` up to the order of sums: as a product of matrices where a kernel sees a whole image
    or a single channel, which torch's convolutions are slow at, several times on small images.

    x: (n, channels, height, width), of which channels lie last in memory where the result is the next layer's; or
    (n, channels), of one pixel, as is returned where one is left.
    """
    if x.ndim == 2:
        return nn.functional.linear(x, weight.flatten(1), bias)
    if weight.shape[1:] == x.shape[1:]:
        rows, columns = (each.permute(0, 2, 3, 1).flatten(1) for each in (x, weight))
        return nn.functional.linear(rows, columns, bias)
    if x.shape[1] > 1:
        return nn.functional.conv2d(x, weight, bias, stride)
    down, right = (stride, stride) if isinstance(stride, int) else stride
    height, width = weight.shape[2:]
    patches = x[:, 0].unfold(1, height, down).unfold(2, width, right).flatten(3)
    return nn.functional.linear(patches, weight.flatten(1), bias).permute(0, 3, 1, 2)


class Trained(nn.Module):
    """nn.Conv2d by `convolved`, and other modules as they are, in a row; of the same numbers."""

    def __init__(self, stack: nn.Sequential) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) to (n, outputs)."""
        for module in self.stack:
            x = convolved(x, module.weight, module.bias, module.stride) if isinstance(module, nn.Conv2d) else module(x)
        return x.flatten(1)
