"""The library's own convolution.

    y[n, o, p] = bias[o] + sum_{c, t} weight[o, c, t] * x[n, c, stride * p + dilation * t - padding]

Source: torch.nn.functional.conv1d, conv2d, conv3d. Which algorithm runs (direct, implicit GEMM, Winograd) is
the library's choice for the shape, dtype and device; the baseline of every comparison.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from linear_lasagna.methods.method import Call, Method, no_buffer
from linear_lasagna.problems import ExpandedLayer, Kernel

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    convolution = CONVOLUTIONS[kernel.weight.ndim - 2]

    def call(x: torch.Tensor) -> torch.Tensor:
        return convolution(x, kernel.weight, kernel.bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    return call


direct = Method("direct", prepare, buffer=no_buffer)
