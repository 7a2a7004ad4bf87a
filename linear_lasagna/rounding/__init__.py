"""Rounding error before it happens: formats, bounds, orders of summation, and the error to expect.

Bounds say what cannot happen, `predict_error` says what will. Notation: p is the significand's bits with the hidden
one, u = 2**-p the unit roundoff of rounding to nearest.
"""

from linear_lasagna.formats import (
    LEAST_EXPONENT,
    SIGNIFICAND_BITS,
    accumulator,
    smallest_subnormal,
    ulp,
    unit_roundoff,
)
from linear_lasagna.rounding.accumulation import accumulation
from linear_lasagna.rounding.bounds import (
    failure,
    gamma,
    layer_bound,
    merging_bound,
    probabilistic_sum_bound,
    sum_bound,
)
from linear_lasagna.rounding.prediction import predict_error, predict_error_range
from linear_lasagna.rounding.summation_tree import Accumulation, SummationTree

__all__ = [
    "SIGNIFICAND_BITS",
    "LEAST_EXPONENT",
    "unit_roundoff",
    "smallest_subnormal",
    "accumulator",
    "ulp",
    "gamma",
    "sum_bound",
    "probabilistic_sum_bound",
    "failure",
    "layer_bound",
    "merging_bound",
    "predict_error",
    "predict_error_range",
    "Accumulation",
    "accumulation",
    "SummationTree",
]
