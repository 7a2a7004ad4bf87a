"""Floating-point numbers as what they are: a finite, ordered set."""

from __future__ import annotations

import torch

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def ulp_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How many steps from one representable number to the next lie between a and b; int64, -0.0 and 0.0 are one.

    a, b: finite, of one dtype, float64 numbers of opposite sign no further apart than 2**63 steps.
    """
    return (_rank(a) - _rank(b)).abs()


def _rank(values: torch.Tensor) -> torch.Tensor:
    """The number's place in the order of its dtype's numbers, zero's being 0: sign and magnitude, as an integer."""
    bits = values.contiguous().view(INTEGERS[values.dtype.itemsize]).to(torch.int64)
    magnitude = bits & (2 ** (8 * values.dtype.itemsize - 1) - 1)
    return torch.where(bits < 0, -magnitude, magnitude)


def range_counts(y: torch.Tensor, values: torch.Tensor) -> dict[str, int]:
    """How many numbers of y are infinite or NaN, subnormal, and zero where the exact result `values` is not."""
    subnormal = (y != 0) & (y.abs() < torch.finfo(y.dtype).smallest_normal)
    return {
        "not_finite": y.numel() - int(y.isfinite().sum()),
        "subnormal": int(subnormal.sum()),
        "flushed": int(((y == 0) & (values != 0)).sum()),
    }
