"""What is known of a node's value, and numbers in float64."""

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


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers in float64, on a device that has it."""
    return tensor.detach().to(home(tensor.device)).to(torch.float64)


def home(device: torch.device) -> torch.device:
    """The device itself if it has float64, else the CPU."""
    return torch.device("cpu") if device.type == "mps" else device
