"""Three bounds on the error of a whole way: deterministic, of a wide accumulator, and probabilistic.

`deterministic_bound`, `wide_accumulator_bound` and `probabilistic_bound` are relative to |W_L| * ... * |W_1| * |x|
(`metrics.magnitudes`) and leave out overflow and underflow; for merged kernels the bound of merging and of the kernel's
own rounding is multiplied in. `error_bound` is what they allow each output, and what underflow adds to it; only
overflow is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch

from linear_lasagna.formats import accumulator, unit_roundoff
from linear_lasagna.methods import METHODS
from linear_lasagna.metrics import magnitudes
from linear_lasagna.problems import Kernel, Problem
from linear_lasagna.rounding.bounds import chained, gamma, layer_bound, merging_bound, probabilistic_sum_bound
from linear_lasagna.rounding.underflow import Step, absolute
from linear_lasagna.ways import Computed, Way

PerLayer: TypeAlias = Callable[[int, int], float]  # (products, roundings of the sum to storage) -> relative bound

DOUBT = 0.01  # the probability, at most, that some sum of the way exceeds its probabilistic bound
SLACK = 1 + 2.0**-30  # for `error_bound`'s own roundings: some thousand additions in float64


class Sums(NamedTuple):
    """What is believed of a layer's sums: the dtype that they run in, and their relative bound."""

    dtype: torch.dtype
    bound: PerLayer


def deterministic_sums(problem: Problem, way: Way, dtype: torch.dtype) -> Sums:
    return Sums(dtype, lambda n, stored: gamma(n + stored - 1, dtype))


def wide_accumulator_sums(problem: Problem, way: Way, dtype: torch.dtype) -> Sums:
    return Sums(accumulator(dtype), lambda n, stored: layer_bound(n, stored, dtype))


def probabilistic_sums(problem: Problem, way: Way, dtype: torch.dtype) -> Sums:
    sums, lam = accumulator(dtype), confidence(problem, way, dtype)

    def per_layer(n: int, stored: int) -> float:
        storage = 0.0 if sums is dtype else stored * math.log1p(unit_roundoff(dtype))
        return math.expm1(storage + math.log1p(probabilistic_sum_bound(n, sums, lam)))

    return Sums(sums, per_layer)


def deterministic_bound(problem: Problem, way: Way, dtype: torch.dtype) -> float:
    """gamma_n of the storage dtype for every layer: what holds whatever the accumulator is; inf where some n u >= 1."""
    return _bound(problem, way, dtype, deterministic_sums)


def wide_accumulator_bound(problem: Problem, way: Way, dtype: torch.dtype, device: str = "cpu") -> float:
    """The chain bound: n u of the usual accumulator, times the roundings to storage. device: plans may depend on it."""
    return _bound(problem, way, dtype, wide_accumulator_sums, device)


def probabilistic_bound(problem: Problem, way: Way, dtype: torch.dtype) -> float:
    """The chain bound with lam sqrt(n) u instead of n u, lam such that no sum exceeds it but with probability `DOUBT`.

    A model where numbers are rounded to nearest: it needs errors that are independent, or at least of mean zero given
    all errors before them. Sources: Higham and Mary, SIAM J. Sci. Comput. 41 (2019), A2815, with their failure
    probabilities added up over all sums; Connolly, Higham and Mary, SIAM J. Sci. Comput. 43 (2021), A566.
    """
    return _bound(problem, way, dtype, probabilistic_sums)


@torch.no_grad()
def error_bound(
    name: str, problem: Problem, way: Way, x: torch.Tensor, kernels: Sequence[Kernel], flushed: bool = True
) -> torch.Tensor:
    """The most that |computed - exact| can be, or, by the probabilistic bound, hardly ever is: float64, its shape.

    name: one of BOUNDS. x: (batch, channels, *size) of the problem's size, any batch; of x's dtype the kernels too.
    flushed: subnormal numbers may be taken for zero, as processors do when told so (`torch.set_flush_denormal`) and
    some matrix units always (Intel's for bfloat16); those of float16 never are. False: they are known to be kept,
    `probes` tells. Infinite where the relative bound is. Raises KeyError for another
    name, ValueError for a transform, which has a bound of its own (`own_bounds`).
    """
    if not METHODS[way.method].exact_on_integers:
        raise ValueError(f"{way.method} is no sum of an output's own products: `own_bounds.own_bound` has its bound")
    sums, device = SUMS[name](problem, way, x.dtype), str(x.device)
    relative = _bound(problem, way, x.dtype, SUMS[name], device)
    size = magnitudes(x, kernels, problem.expanded)
    if math.isinf(relative):
        return torch.full_like(size, math.inf)
    return (relative * size + _lost(sums, problem, way, x, kernels, device, flushed)) * SLACK


@torch.no_grad()
def underflow_bound(problem: Problem, way: Way, x: torch.Tensor, kernels: Sequence[Kernel], device: str) -> float:
    """The most that underflow adds to the error of any output, of these numbers; of the chain bound.

    device: the way's, on which its plan may depend.
    """
    sums = wide_accumulator_sums(problem, way, x.dtype)
    return float(_lost(sums, problem, way, x, kernels, device, flushed=True).max()) * SLACK


def _lost(
    sums: Sums, problem: Problem, way: Way, x: torch.Tensor, kernels: Sequence[Kernel], device: str, flushed: bool
) -> torch.Tensor:
    """What underflow adds to each output, whichever stack of convolutions it comes from."""
    merging = _merge_dtype(way, x.dtype)
    lost = [
        absolute(x, kernels, _steps(stack, merging, x.dtype, sums.bound), sums.dtype, merging, flushed)
        for stack in way.computed(problem, x.dtype, device)
    ]
    return torch.stack(lost).amax(0)


def confidence(problem: Problem, way: Way, dtype: torch.dtype) -> float:
    """The least lam at which the failure probabilities of all outputs of all layers add up to `DOUBT`."""
    products = max(_products(problem, stack) for stack in way.computed(problem, dtype))
    return math.sqrt(2 * math.log(2 * products / DOUBT)) / (1 - unit_roundoff(accumulator(dtype)))


def _products(problem: Problem, stack: Sequence[Computed]) -> int:
    """Products, biases included, of all sums."""
    size, products = tuple(problem.size), 0
    for each in stack:
        size = each.layer.output_size(size)
        products += problem.batch * each.layer.out_channels * math.prod(size) * (each.fan_in + each.layer.bias)
    return products


def _bound(
    problem: Problem,
    way: Way,
    dtype: torch.dtype,
    believed: Callable[[Problem, Way, torch.dtype], Sums],
    device: str = "cpu",
) -> float:
    """The largest bound of the stacks that the way's outputs come from."""
    stacks, per_layer = way.computed(problem, dtype, device), believed(problem, way, dtype).bound
    steps = (_steps(stack, _merge_dtype(way, dtype), dtype, per_layer) for stack in stacks)
    return max(chained(part for step in stack for part in (step.sums, step.kernel)) for stack in steps)


def _merge_dtype(way: Way, dtype: torch.dtype) -> torch.dtype:
    return dtype if way.schedule.merges == "working" else torch.float64


def _steps(stack: Sequence[Computed], merging: torch.dtype, dtype: torch.dtype, per_layer: PerLayer) -> list[Step]:
    return [
        Step(each, per_layer(each.fan_in + each.layer.bias, each.roundings), _kernel_bound(each, merging, dtype))
        for each in stack
    ]


def _kernel_bound(each: Computed, merging: torch.dtype, dtype: torch.dtype) -> float:
    """Of the merged kernel's numbers; 0 where nothing is merged."""
    if len(each.layers) == 1:
        return 0.0
    parts = [merging_bound(each.layers, each.in_channels, merging), unit_roundoff(dtype)]
    # torch rounds float64 to 16 bits by way of float32.
    return chained([*parts, unit_roundoff(torch.float32)] if merging.itemsize > 4 > dtype.itemsize else parts)


SUMS: dict[str, Callable[[Problem, Way, torch.dtype], Sums]] = {
    "certain": deterministic_sums,
    "chain": wide_accumulator_sums,
    "likely": probabilistic_sums,
}
BOUNDS: dict[str, Callable[[Problem, Way, torch.dtype], float]] = {
    "certain": deterministic_bound,
    "chain": wide_accumulator_bound,
    "likely": probabilistic_bound,
}
