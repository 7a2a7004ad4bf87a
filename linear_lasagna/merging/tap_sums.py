"""Rounding that keeps the sum over each kernel's taps.

A rounded kernel makes the same error at every position. What it makes of smooth images, and of averages over positions,
is the sum of its taps' errors: rounded to nearest, these add up as chance will have it. Here, of every kernel (one pair
of channels), those taps are rounded the other way that cost the least, until no other one brings the sum closer.
"""

from __future__ import annotations

import torch

from linear_lasagna.formats import ulp


def kept_sums(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of `dtype`, in weight's own, each one of the two next to weight's: (out, in / groups, *kernel_size).

    The sums over the taps are no further from the exact ones than those of numbers rounded to nearest.
    """
    values = weight.flatten(2).double()
    error = values.to(dtype).double() - values
    step = _other(values, error, dtype)
    total, turned = error.sum(-1, keepdim=True), torch.zeros_like(error, dtype=torch.bool)
    for _ in range(values.shape[-1]):
        better = ~turned & ((total + step).abs() < total.abs())
        if not bool(better.any()):
            break
        cost = ((error + step).square() - error.square()).masked_fill(~better, torch.inf)
        chosen = torch.zeros_like(turned).scatter_(-1, cost.argmin(-1, keepdim=True), True) & better
        turned |= chosen
        total = total + torch.where(chosen, step, 0.0).sum(-1, keepdim=True)
    return (values + error + torch.where(turned, step, 0.0)).to(weight).view_as(weight)


def _other(values: torch.Tensor, error: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """How far the neighbour on the other side of each value lies from its rounding; 0 where there is none."""
    step = -error.sign() * ulp(values, dtype)
    return torch.where((values + error + step).abs() <= torch.finfo(dtype).max, step, 0.0)
