"""Computes what `border_plan.plan` says: one convolution for all outputs, then each face over it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from linear_lasagna.exact.regions import Crop
from linear_lasagna.merging.border_plan import Plan
from linear_lasagna.merging.regions import Shape
from linear_lasagna.methods import Call


def compute(x: torch.Tensor, found: Plan, inner: Call, outer: Sequence[Call]) -> torch.Tensor:
    """All outputs for x ([batch,] channels, *size).

    inner: the convolution of `found.inner`; outer: those of `found.layers`.
    """
    if x.ndim == len(found.inner.padding) + 1:
        return compute(x[None], found, inner, outer)[0]
    y = inner(take(x, found.need, found.inner.padding))
    for face, call in zip(found.faces, outer, strict=True):
        place = y
        for axis, (start, stop) in enumerate(face.box, start=2):
            place = place.narrow(axis, start, stop - start)
        place.copy_(unfolded(call(take(x, face.need)), face.shape))
    return y


def unfolded(y: torch.Tensor, shape: Shape) -> torch.Tensor:
    """(batch, out * counts, *size), 1 on the counted axes -> (batch, out, *size), the counts there."""
    counts = [count or 1 for count in shape.counts]
    if max(counts) == 1:
        return y
    rank = len(counts)
    apart = y.unflatten(1, (-1, *counts))
    order = [axis for pair in zip(range(2, 2 + rank), range(2 + rank, 2 + 2 * rank), strict=True) for axis in pair]
    sizes = [count * length for count, length in zip(counts, y.shape[2:], strict=True)]
    return apart.permute(0, 1, *order).reshape(y.shape[0], apart.shape[1], *sizes)


def take(x: torch.Tensor, need: Crop, padding: Sequence[int] | None = None) -> torch.Tensor:
    """The part of x (…, *size) that is needed, with its zeros around it but for `padding` of them on both sides."""
    for axis, (start, stop) in enumerate(need.box, start=x.ndim - len(need.box)):
        x = x.narrow(axis, start, stop - start)
    return zeros_around(x, need, padding)


def zeros_around(x: torch.Tensor, need: Crop, padding: Sequence[int] | None = None) -> torch.Tensor:
    """x with the crop's zeros, but for `padding` of them on both sides.

    Where only zeros are needed, a negative number of them says how much is too much: it is cut off once they are there.
    """
    padding = padding or (0,) * len(need.box)
    pads = [(b - p, a - p) for b, a, p in zip(need.before, need.after, padding, strict=True)]
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
