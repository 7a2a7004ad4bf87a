"""Computes what `plan.plan` says: one convolution for all outputs, then each block over it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from linear_lasagna.geometry import Box, Crop
from linear_lasagna.merging.border.plan import BorderPlan
from linear_lasagna.merging.border.window_matmul import product
from linear_lasagna.methods import Call
from linear_lasagna.problems import Kernel


def compute(x: torch.Tensor, border_plan: BorderPlan, inner: Call, border: Sequence[Kernel]) -> torch.Tensor:
    """All outputs for x ([batch,] channels, *size).

    inner: the convolution of `border_plan.inner`; border: the kernels of `border_plan.blocks`.
    """
    if x.ndim == len(border_plan.inner.padding) + 1:
        return compute(x[None], border_plan, inner, border)[0]
    y = inner(take(x, border_plan.receptive_field, border_plan.inner.padding))
    write_blocks(y, x, border_plan, border)
    return y


def write_blocks(y: torch.Tensor, x: torch.Tensor, border_plan: BorderPlan, border: Sequence[Kernel]) -> None:
    """Compute the blocks for x (batch, channels, *size) into their places in y."""
    for block, layout, kernel in zip(border_plan.blocks, border_plan.layouts, border, strict=True):
        within(y, block.box).copy_(product(take(x, block.receptive_field), kernel, layout))


def within(x: torch.Tensor, box: Box) -> torch.Tensor:
    """The view of x (…, *size) on a box of its positions."""
    return x[(..., *(slice(*ends) for ends in box))]


def take(x: torch.Tensor, receptive_field: Crop, padding: Sequence[int] | None = None) -> torch.Tensor:
    """The part of x (…, *size) that is needed, with its zeros around it but for `padding` of them on both sides."""
    return zeros_around(within(x, receptive_field.box), receptive_field, padding)


def zeros_around(x: torch.Tensor, receptive_field: Crop, padding: Sequence[int] | None = None) -> torch.Tensor:
    """x with the crop's zeros, but for `padding` of them on both sides.

    Where only zeros are needed, a negative number of them says how much is too much: it is cut off once they are there.
    """
    padding = padding or (0,) * len(receptive_field.box)
    pads = [(b - p, a - p) for b, a, p in zip(receptive_field.before, receptive_field.after, padding, strict=True)]
    if any(max(ends) > 0 for ends in pads):
        x = functional.pad(x, [max(0, zeros) for ends in reversed(pads) for zeros in ends])
    for axis, ends in enumerate(pads, start=x.ndim - len(pads)):
        if min(ends) < 0:
            before, after = (max(0, -zeros) for zeros in ends)
            x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


def in_turn(x: torch.Tensor, calls: Sequence[Call]) -> torch.Tensor:
    """All calls, one after another."""
    for call in calls:
        x = call(x)
    return x
