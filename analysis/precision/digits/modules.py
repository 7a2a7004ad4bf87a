"""A layer with its numbers as torch's own module."""

from __future__ import annotations

from typing import Any

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
