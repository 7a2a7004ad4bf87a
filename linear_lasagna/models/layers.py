"""A convolution module's layer, and a layer's module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from linear_lasagna.merging.fitting import fitted
from linear_lasagna.merging.plain import not_plain
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MODULES: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def layer_of(module: Any, ndim: int) -> ExpandedLayer | str:
    """The layer of a convolution module, or why it cannot be merged; ndim: its input's number of axes."""
    rank = len(module.kernel_size)
    if module.padding_mode != "zeros":
        return f"padding_mode {module.padding_mode!r}; only 'zeros' can be merged"
    if module.weight.dtype not in DTYPES:
        return f"its numbers are {module.weight.dtype}; only real ones can be merged"
    reason = not_plain(module, MODULES.values())
    if reason is not None:
        return reason
    if ndim != rank + 2:
        return "its input has no batch axis"
    padding = _padding_of(module)
    if padding is None:
        return "'same' pads one more on one side of it"
    extents = (tuple(module.kernel_size), tuple(module.stride), padding, tuple(module.dilation))
    return Layer(module.out_channels, *extents, groups=module.groups, bias=module.bias is not None).expand(rank)


def _padding_of(module: Any) -> tuple[int, ...] | None:
    """Zeros on either side of each axis; None where the sides differ."""
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    if module.padding != "same":
        return tuple(module.padding)
    around = [d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True)]
    return None if any(zeros % 2 for zeros in around) else tuple(zeros // 2 for zeros in around)


def module_of(kernel: Kernel, layer: ExpandedLayer, in_channels: int) -> nn.Module:
    """The convolution as a module, with the kernel's own numbers."""
    module = MODULES[len(layer.kernel_size)](
        in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=kernel.bias is not None,
        dtype=kernel.weight.dtype,
        device="meta",
    )
    module.weight = nn.Parameter(kernel.weight)
    module.bias = None if kernel.bias is None else nn.Parameter(kernel.bias)
    return module


def as_given(module: nn.Module, given: Sequence[nn.Module]) -> nn.Module:
    """The module in the dtype, on the device and in the memory format of those that it was merged from.

    Raises ValueError where the dtype cannot hold its numbers.
    """
    tensors = [t for each in given for t in (*each.parameters(), *each.buffers()) if t.is_floating_point()]
    like = max(tensors, key=lambda tensor: tensor.ndim)
    module = fitted(module, like.dtype, like.device).requires_grad_(any(t.requires_grad for t in tensors))
    if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous():
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module.eval()
