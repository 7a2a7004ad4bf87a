"""Points of the plane in two classes that no straight line separates, and three 1×1 convolutions that do, by rounding.

A point is an image of one pixel with two channels. Exclusive or is solved by numbers that were chosen by hand.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from analysis.precision.digits.construction import OFFSETS

STEP = 64  # coordinates are multiples of 1 / STEP, so numbers of every dtype
MARGIN = 0.05  # from the border between the classes
RADIUS = 0.6


class Points(NamedTuple):
    """x: (n, 2, 1, 1) float32; y: classes (n,) int64."""

    x: torch.Tensor
    y: torch.Tensor


def exclusive_or(count: int, seed: int) -> Points:
    """Of so many points of the unit square, those that are not near a border: class 1 where one coordinate, and one
    alone, is above ½.
    """
    points = torch.randint(0, STEP + 1, (count, 2), generator=torch.Generator().manual_seed(seed)) / STEP
    kept = points[(points - 0.5).abs().amin(1) > MARGIN / 2]
    return Points(kept.view(-1, 2, 1, 1), ((kept > 0.5).sum(1) == 1).long())


def disk(count: int, seed: int) -> Points:
    """Of so many points of a square from −1 to 1, those not near a border in a disk of radius 1: class 1 where they are
    nearer to its centre than 0.6.
    """
    points = torch.randint(-STEP, STEP + 1, (count, 2), generator=torch.Generator().manual_seed(seed)) / STEP
    radius = points.norm(dim=1)
    kept = ((radius - RADIUS).abs() > MARGIN) & (radius < 1)
    return Points(points[kept].view(-1, 2, 1, 1), (radius[kept] < RADIUS).long())


def by_hand(dtype: torch.dtype) -> nn.Sequential:
    """Three 1×1 convolutions that give 1 and ½ where exclusive or is true, 0 and ½ where it is false, in reverse order.

    With a = round(x₁) and b = round(x₂): the second layer has round(¾ (a + b) / 2), which is a and b, and a + b; the
    last a + b − 2 (a and b). All numbers are the dtype's, offsets included.
    """
    offset = OFFSETS[dtype]
    layers = (
        ([[1.0, 0.0], [0.0, 1.0]], [offset, offset]),
        ([[0.375, 0.375], [1.0, 1.0]], [offset - 0.75 * offset, offset - 2 * offset]),
        ([[0.0, 0.0], [-2.0, 1.0]], [0.5, offset]),
    )
    stack = nn.Sequential()
    for weight, bias in layers:
        layer = nn.Conv2d(2, 2, 1)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight).view(2, 2, 1, 1))
            layer.bias.copy_(torch.tensor(bias))  # type: ignore[union-attr]
        stack.append(layer)
    return stack.to(dtype).requires_grad_(False)
