"""The library's convolution with the channels of one position beside each other in memory (NHWC).

The equation is `direct`'s. The weight is laid out once; an input that is not in channels_last order is laid out
anew inside the call, so in a stack only the first layer pays. The output keeps the order. One channel lies the same in
both orders; strides alone tell the library, which then adds up in another order, so they are always this one's.

Source: PyTorch, "Channels Last Memory Format"; oneDNN, "Understanding Memory Formats".
"""

from __future__ import annotations

import torch

from linear_lasagna.methods.direct import CONVOLUTIONS
from linear_lasagna.methods.method import Call, Method
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def unsupported(layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    return "channels_last needs 2 or 3 spatial axes" if layer.rank == 1 else None


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    rank = kernel.weight.ndim - 2
    convolution, memory_format = CONVOLUTIONS[rank], FORMATS[rank]
    weight = laid_out(kernel.weight, memory_format)

    def call(x: torch.Tensor) -> torch.Tensor:
        return convolution(
            laid_out(x, memory_format), weight, kernel.bias, layer.stride, layer.padding, layer.dilation, layer.groups
        )

    return call


def laid_out(numbers: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """In this order, strides of axes that are 1 long included."""
    numbers = numbers.contiguous(memory_format=memory_format)
    if 1 not in numbers.shape[1:]:
        return numbers
    strides = torch.empty_like(numbers, device="meta", memory_format=memory_format).stride()
    return numbers.as_strided(numbers.shape, strides)


direct_channels_last = Method("direct_channels_last", prepare, unsupported)
