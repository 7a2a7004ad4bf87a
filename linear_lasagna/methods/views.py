"""Views that the matmul methods share: padded inputs, groups as an axis, windows without a copy."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from linear_lasagna.problems import ExpandedLayer


def pad(x: torch.Tensor, padding: tuple[int, ...]) -> torch.Tensor:
    """x with zeros on both sides of every spatial axis; x itself where there is nothing to add."""
    if not any(padding):
        return x
    return functional.pad(x, [p for p in reversed(padding) for _ in range(2)])


def grouped_rows(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Weight (out, in / groups, *k) as matrices (groups, out / groups, in / groups * taps)."""
    return weight.reshape(groups, weight.shape[0] // groups, -1).contiguous()


def add_bias(y: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """y (batch, out, *size) plus bias (out,), in place: y is the caller's own result."""
    return y if bias is None else y.add_(bias.view(-1, *(1,) * (y.ndim - 2)))


def windows(x: torch.Tensor, layer: ExpandedLayer) -> torch.Tensor:
    """Every window of the padded x, without a copy: (batch, in, *output_size, *kernel_size)."""
    x = pad(x, layer.padding).contiguous()
    rank = len(layer.kernel_size)
    size = tuple(x.shape[2:])
    # Fields alone: torch's compiler cannot follow a dataclass to its properties.
    axes = zip(size, layer.kernel_size, layer.dilation, layer.stride, strict=True)
    outputs = tuple((n - d * (k - 1) - 1) // s + 1 for n, k, d, s in axes)
    steps = [math.prod(size[axis + 1 :]) for axis in range(rank)]
    return x.as_strided(
        (*x.shape[:2], *outputs, *layer.kernel_size),
        (
            *x.stride()[:2],
            *(step * s for step, s in zip(steps, layer.stride, strict=True)),
            *(step * d for step, d in zip(steps, layer.dilation, strict=True)),
        ),
    )
