"""Which convolution modules of a model can be merged, and modules as the model's own were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.merging.fitting import PLAIN, Storage, fitted
from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.tracer import Value
from linear_lasagna.modules import CONVOLUTIONS, link_of
from linear_lasagna.problems import ExpandedLayer


def layer_of(module: Any, ndim: int) -> ExpandedLayer | str:
    """The layer of a convolution module, or why it cannot be merged; ndim: its input's number of axes."""
    rank = len(module.kernel_size)
    if module.padding_mode != "zeros":
        return f"padding_mode {module.padding_mode!r}; only 'zeros' can be merged"
    if module.weight.dtype not in SIGNIFICAND_BITS:
        return f"its numbers are {module.weight.dtype}; only real ones can be merged"
    reason = not_plain(module, CONVOLUTIONS.values())
    if reason is not None:
        return reason
    if ndim != rank + 2:
        return "its input has no batch axis"
    link = link_of(module)
    return link.layer if link.after == link.layer.padding else "'same' pads one more on one side of it"


def is_pointwise(layer: ExpandedLayer) -> bool:
    """Whether the layer is a 1 x 1 convolution at every position."""
    return layer.taps == 1 and set(layer.stride) == {1} and not any(layer.padding)


def as_given(module: nn.Module, given: Sequence[nn.Module], value: Value, storage: Storage = PLAIN) -> nn.Module:
    """The module in the dtype, on the device and in the memory format of those that it was merged from.

    value: what it reads, whose dtype and device it gets where those have no numbers. storage: may say another dtype,
    and how numbers are rounded to it. Raises ValueError where the dtype cannot hold its numbers.
    """
    tensors = [t for each in given for t in (*each.parameters(), *each.buffers()) if t.is_floating_point()]
    like = max(tensors, key=lambda tensor: tensor.ndim, default=torch.empty((), dtype=value.dtype, device=value.device))
    module = fitted(module, storage.dtype or like.dtype, like.device, storage)
    module.requires_grad_(any(t.requires_grad for t in tensors))
    if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous():
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module.eval()
