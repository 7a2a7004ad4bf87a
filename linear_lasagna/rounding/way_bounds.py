"""Three bounds on the error of a whole way, by what is believed of the sums in it.

Each is relative to |W_L| * ... * |W_1| * |x| (`metrics.magnitudes`), holds output by output and so in the L2 norm too,
and leaves out overflow and underflow. For merged kernels the bound of merging and of the kernel's own rounding is
multiplied in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch

from linear_lasagna.formats import accumulator, unit_roundoff
from linear_lasagna.problems import Problem
from linear_lasagna.rounding.bounds import chained, gamma, layer_bound, merging_bound, probable_bound
from linear_lasagna.ways import Computed, Way

PerLayer: TypeAlias = Callable[[int, int], float]  # (products, roundings of the sum to storage) -> relative bound

DOUBT = 0.01  # the probability, at most, that some sum of the way exceeds its probable bound


def certain_bound(problem: Problem, way: Way, dtype: torch.dtype) -> float:
    """gamma_n of the storage dtype for every layer: what holds whatever the accumulator is; inf where some n u >= 1."""
    return _bound(problem, way, dtype, lambda n, stored: gamma(n + stored - 1, dtype))


def usual_bound(problem: Problem, way: Way, dtype: torch.dtype, device: str = "cpu") -> float:
    """The chain bound: n u of the usual accumulator, times the roundings to storage. device: plans may depend on it."""
    return _bound(problem, way, dtype, lambda n, stored: layer_bound(n, stored, dtype), device)


def likely_bound(problem: Problem, way: Way, dtype: torch.dtype) -> float:
    """The chain bound with lam sqrt(n) u instead of n u, lam such that no sum exceeds it but with probability `DOUBT`.

    Only for errors that are independent and of mean zero. Source: Higham and Mary, SIAM J. Sci. Comput. 41 (2019),
    A2815, with their failure probabilities added up over all sums.
    """
    sums = accumulator(dtype)
    lam = confidence(problem, way, dtype)

    def per_layer(n: int, stored: int) -> float:
        storage = 0.0 if sums is dtype else stored * math.log1p(unit_roundoff(dtype))
        return math.expm1(storage + math.log1p(probable_bound(n, sums, lam)))

    return _bound(problem, way, dtype, per_layer)


def confidence(problem: Problem, way: Way, dtype: torch.dtype) -> float:
    """The least lam at which the failure probabilities of all outputs of all layers add up to `DOUBT`."""
    products = max(_products(problem, found) for found in way.computed(problem, dtype))
    return math.sqrt(2 * math.log(2 * products / DOUBT)) / (1 - unit_roundoff(accumulator(dtype)))


def _products(problem: Problem, found: Sequence[Computed]) -> int:
    """Products, biases included, of all sums."""
    size, products = tuple(problem.size), 0
    for each in found:
        size = each.layer.output_size(size)
        products += problem.batch * each.layer.out_channels * math.prod(size) * (each.fan_in + each.layer.bias)
    return products


def _bound(problem: Problem, way: Way, dtype: torch.dtype, per_layer: PerLayer, device: str = "cpu") -> float:
    """The largest bound of the stacks that the way's outputs come from."""
    merge_dtype = dtype if way.schedule.merges == "working" else torch.float64
    stacks = way.computed(problem, dtype, device)
    return max(chained(_factors(found, merge_dtype, dtype, per_layer)) for found in stacks)


def _factors(
    found: Sequence[Computed], merge_dtype: torch.dtype, dtype: torch.dtype, per_layer: PerLayer
) -> Iterator[float]:
    for each in found:
        yield per_layer(each.fan_in + each.layer.bias, each.roundings)
        if len(each.layers) > 1:
            yield from (merging_bound(each.layers, each.in_channels, merge_dtype), unit_roundoff(dtype))


BOUNDS: dict[str, Callable[[Problem, Way, torch.dtype], float]] = {
    "certain": certain_bound,
    "chain": usual_bound,
    "likely": likely_bound,
}
