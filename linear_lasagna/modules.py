"""PyTorch's convolution modules as links and kernels, and the other way round: the only place where either is made."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from linear_lasagna.merging.chain import Link
from linear_lasagna.problems import Convolution, ExpandedLayer, Kernel, layer_of_module

CONVOLUTIONS: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}  # by spatial axes


def kernel_of(module: Convolution) -> Kernel:
    """The module's own numbers, not copied."""
    return Kernel(module.weight, module.bias)


def link_of(module: Convolution) -> Link:
    """The module's layer, its padding the zeros before every axis, and the zeros after."""
    layer, after = layer_of_module(module)
    return Link(layer.expand(len(after)), after)


def convolution(
    kernel: Kernel, layer: ExpandedLayer, in_channels: int, padding: Sequence[int] | str | None = None
) -> Convolution:
    """The module that computes the layer, its parameters the kernel's own numbers. padding: None for the layer's."""
    module = CONVOLUTIONS[len(layer.kernel_size)](
        in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding if padding is None else padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        groups=layer.groups,
        bias=kernel.bias is not None,
        dtype=kernel.weight.dtype,
        device="meta",
    )
    module.weight, module.bias = kernel.map(nn.Parameter)
    return module
