"""Measures of error against the exact result."""

from __future__ import annotations

import math

import torch


def relative_l2(error: torch.Tensor, exact: torch.Tensor) -> float:
    """||error||_2 / ||exact||_2, dimensionless; both float64 and of one shape.

    0 where both are zero, inf where only the exact result is zero. Source: Higham, Accuracy and Stability of
    Numerical Algorithms, section 1.4 (normwise relative error).
    """
    numerator = float(torch.linalg.vector_norm(error))
    denominator = float(torch.linalg.vector_norm(exact))
    if denominator == 0:
        return 0.0 if numerator == 0 else math.inf
    return numerator / denominator
