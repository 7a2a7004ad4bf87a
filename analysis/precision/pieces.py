"""How non-linear a function is: its defects as an affine map, and how many linear pieces follow it along a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

Function: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

SAMPLES = 2048  # along a line
TOLERANCE = 0.01  # of the range of outputs


def additivity(f: Function, x: torch.Tensor, z: torch.Tensor) -> float:
    """Relative L2 size of f((x + z) / 2) + f(0) − f(x / 2) − f(z / 2), which an affine f makes zero.

    x, z: (n, …), whose halves f takes as they are; f: to (n, outputs). Relative to f((x + z) / 2) − f(0). NaN where
    that is zero.
    """
    both, origin = f((x + z) / 2).double(), f(torch.zeros_like(x)).double()
    return _relative(both + origin - f(x / 2).double() - f(z / 2).double(), both - origin)


def homogeneity(f: Function, x: torch.Tensor) -> float:
    """Relative L2 size of f(x) − f(0) − 2 (f(x / 2) − f(0)), which an affine f makes zero. Relative to f(x) − f(0)."""
    whole, origin = f(x).double(), f(torch.zeros_like(x)).double()
    return _relative(whole + origin - 2 * f(x / 2).double(), whole - origin)


def _relative(defect: torch.Tensor, size: torch.Tensor) -> float:
    whole = float(size.norm())
    return float(defect.norm()) / whole if whole else float("nan")


def pieces(f: Function, x: torch.Tensor, z: torch.Tensor, samples: int = SAMPLES) -> int:
    """Linear pieces that follow the difference of f's two outputs on the way from x to z, two inputs (1, …).

    As many samples of it, evenly spaced, within 1 % of its range: what is smaller counts as rounding.
    """
    at = torch.linspace(0, 1, samples, dtype=torch.float64).view(-1, *[1] * (x.ndim - 1))
    y = f((1 - at) * x.double() + at * z.double()).double()
    return linear_pieces((y[:, 1] - y[:, 0]).numpy(), TOLERANCE)


def linear_pieces(y: Any, tolerance: float) -> int:
    """Pieces of evenly spaced samples y (an array), each linear within tolerance × the range of y.

    From left to right, each from its first sample on and as far as it goes. A constant has one.
    """
    import numpy

    reach = tolerance * float(numpy.ptp(y))
    count, start = 0, 0
    while start < len(y):
        count += 1
        steps = numpy.arange(1, len(y) - start)
        rise = y[start + 1 :] - y[start]
        least = numpy.maximum.accumulate((rise - reach) / steps)
        most = numpy.minimum.accumulate((rise + reach) / steps)
        left = numpy.nonzero(least > most)[0]
        start = start + 1 + int(left[0]) if len(left) else len(y)
    return count
