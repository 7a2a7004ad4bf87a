"""PyTorch's convolution modules as layers and kernels, and the other way round: the only place where either is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import nn

from linear_lasagna.merging.chain import Link
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d

CONVOLUTIONS: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}  # by spatial axes


def kernel_of(module: Convolution) -> Kernel:
    """The module's own numbers, not copied."""
    return Kernel(module.weight, module.bias)


def link_of(module: Convolution) -> Link:
    """The module's layer, its padding the zeros before every axis, and the zeros after."""
    before, after = _zeros_of(module)
    extents = (tuple(module.kernel_size), tuple(module.stride), before, tuple(module.dilation))
    layer = Layer(module.out_channels, *extents, groups=module.groups, bias=module.bias is not None)
    return Link(layer.expand(len(module.kernel_size)), after)


def _zeros_of(module: Convolution) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Zeros before and after every axis; of an odd number, 'same' puts one more after."""
    if module.padding == "valid":
        none = (0,) * len(module.kernel_size)
        return none, none
    if module.padding == "same":
        sums = [d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True)]
        return tuple(total // 2 for total in sums), tuple(total - total // 2 for total in sums)
    padding = tuple(int(p) for p in module.padding)
    return padding, padding


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
