"""Three bounds on the error of a whole way, by what is believed of the sums in it.

Each is relative to |W_L| * ... * |W_1| * |x| (`metrics.magnitudes`), holds output by output and so in the L2 norm too,
and leaves out overflow and underflow. For merged kernels the bound of merging and of the kernel's own rounding is
multiplied in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

from linear_lasagna.formats import accumulator, unit_roundoff
from linear_lasagna.problems import Problem
from linear_lasagna.rounding.bounds import chained, gamma, layer_bound, merging_bound, probable_bound
from linear_lasagna.ways import Way

PerLayer: TypeAlias = Callable[[int, int], float]  # (products, roundings of the sum to storage) -> relative bound

DOUBT = 0.01  # the probability, at most, that some sum of the way exceeds its probable bound


def certain_bound(problem: Problem, way: Way, dtype: torch.dtype) -> float:
    """gamma_n of the storage dtype for every layer: what holds whatever the accumulator is; inf where some n u >= 1."""
    return _bound(problem, way, dtype, lambda n, stored: gamma(n + stored - 1, dtype))


def usual_bound(problem: Problem, way: Way, dtype: torch.dtype) -> float:
    """The chain bound: n u of the usual accumulator, times the roundings to storage."""
    return _bound(problem, way, dtype, lambda n, stored: layer_bound(n, stored, dtype))


def likely_bound(problem: Problem, way: Way, dtype: torch.dtype) -> float:
    """The chain bound with lam sqrt(n) u instead of n u, lam such that no sum exceeds it but with probability `DOUBT`.

    Only for errors that are independent and of mean zero. Source: Higham and Mary, SIAM J. Sci. Comput. 41 (2019),
    A2815, with their failure probabilities added up over all sums.
    """
    sums = accumulator(dtype)
    lam = confidence(problem, way, sums)

    def per_layer(n: int, stored: int) -> float:
        storage = 0.0 if sums is dtype else stored * math.log1p(unit_roundoff(dtype))
        return math.expm1(storage + math.log1p(probable_bound(n, sums, lam)))

    return _bound(problem, way, dtype, per_layer)


def confidence(problem: Problem, way: Way, sums: torch.dtype) -> float:
    """The least lam at which the failure probabilities of all outputs of all layers add up to `DOUBT`."""
    layers, fan_ins, _ = way.computed(problem)
    size, products = tuple(problem.size), 0
    for layer, fan_in in zip(layers, fan_ins, strict=True):
        size = layer.output_size(size)
        products += problem.batch * layer.out_channels * math.prod(size) * (fan_in + layer.bias)
    return math.sqrt(2 * math.log(2 * products / DOUBT)) / (1 - unit_roundoff(sums))


def _bound(problem: Problem, way: Way, dtype: torch.dtype, per_layer: PerLayer) -> float:
    layers, fan_ins, roundings = way.computed(problem)
    found = [per_layer(n + layer.bias, times) for layer, n, times in zip(layers, fan_ins, roundings, strict=True)]
    if way.schedule.merges is not None:
        merge_dtype = torch.float64 if way.schedule.merges == "float64" else dtype
        found += [merging_bound(problem.expanded, problem.in_channels, merge_dtype), unit_roundoff(dtype)]
    return chained(found)


BOUNDS: dict[str, Callable[[Problem, Way, torch.dtype], float]] = {
    "certain": certain_bound,
    "chain": usual_bound,
    "likely": likely_bound,
}
