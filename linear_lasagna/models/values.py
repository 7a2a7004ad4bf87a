"""What is known of a node's value."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Value(NamedTuple):
    """What is known of a node's value, a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def ndim(self) -> int:
        return len(self.shape)
