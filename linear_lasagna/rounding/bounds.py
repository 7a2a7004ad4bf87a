"""Bounds on the rounding error of sums, layers, chains of layers and merged kernels, deterministic and probabilistic.

Every bound is relative: |computed - exact| <= bound * sum |a||b|, which is the result itself where all products have
one sign. They hold for any order of summation and leave out overflow and underflow; `way_bounds.error_bound` adds
what underflow does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from linear_lasagna.formats import accumulator, unit_roundoff
from linear_lasagna.merging.order import Order, merge_order
from linear_lasagna.merging.pairs import pair
from linear_lasagna.problems import ExpandedLayer


def gamma(n: int, dtype: torch.dtype) -> float:
    """gamma_n = n u / (1 - n u), the classical bound for a sum of n products; inf where n u >= 1.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1 and (3.13).
    """
    nu = n * unit_roundoff(dtype)
    return nu / (1 - nu) if nu < 1 else math.inf


def sum_bound(n: int, dtype: torch.dtype) -> float:
    """n u: a bound on the relative error of a sum of n products of one sign, in any order.

    Source: Jeannerod and Rump, SIAM J. Matrix Anal. Appl. 34 (2013): gamma_n may be replaced by n u for any n.
    """
    return n * unit_roundoff(dtype)


def probabilistic_sum_bound(n: int, dtype: torch.dtype, lam: float = 1.0) -> float:
    """exp(lam sqrt(n) u + n u**2 / (1 - u)) - 1, about lam sqrt(n) u: what a sum of n products hardly ever exceeds.

    For rounding errors that are independent and of mean zero it fails with a probability of at most `failure`; instead
    of independence it is enough that every error has mean zero *given all errors before it*. Stochastic rounding
    grants that; rounding to nearest is deterministic and does not, so there it is a model: for long sums of one sign
    the errors lean to one side, and it is no bound.
    Sources: Higham and Mary, SIAM J. Sci. Comput. 41 (2019), A2815; Connolly, Higham and Mary, SIAM J. Sci. Comput. 43
    (2021), A566.
    """
    u = unit_roundoff(dtype)
    return math.expm1(lam * math.sqrt(n) * u + n * u**2 / (1 - u))


def failure(n: int, dtype: torch.dtype, lam: float = 1.0) -> float:
    """2 n exp(-lam**2 (1 - u)**2 / 2): how likely, at most, a sum of n products exceeds `probabilistic_sum_bound`.

    1 where that is larger. Source: Higham and Mary, SIAM J. Sci. Comput. 41 (2019), A2815.
    """
    return min(1.0, 2 * n * math.exp(-((lam * (1 - unit_roundoff(dtype))) ** 2) / 2))


def layer_bound(fan_in: int, roundings: int, dtype: torch.dtype, sums: torch.dtype | None = None) -> float:
    """A bound on one layer's relative error where all products have one sign.

    fan_in products are summed in the dtype `sums`, and the sum is rounded to `dtype` `roundings` times. sums: None for
    the usual `accumulator(dtype)`; `dtype` itself for a narrow accumulator. Source of the product of the two for block
    fused multiply-add: Blanchard et al., SIAM J. Sci. Comput. 42 (2020), C124.
    """
    wide = sums or accumulator(dtype)
    if wide is dtype:
        return sum_bound(fan_in + roundings, dtype)
    return math.expm1(roundings * math.log1p(unit_roundoff(dtype)) + math.log1p(sum_bound(fan_in, wide)))


def chained(bounds: Iterable[float]) -> float:
    """prod(1 + bound) - 1: the relative bound of what is done in turn; inf where one is.

    The factors of layers multiply as those of a product of perturbed matrices do, and bound a stack's error relative to
    |W_L| * ... * |W_1| * |x| (`metrics.magnitudes`): Higham, Accuracy and Stability of Numerical Algorithms, chapter 3.
    """
    return math.expm1(sum(map(math.log1p, bounds)))


def merging_bound(layers: Sequence[ExpandedLayer], in_channels: int, merge_dtype: torch.dtype) -> float:
    """A bound on the relative error of a kernel merged in `merge_dtype` from kernels of one sign, its bias included.

    Merging two kernels sums, for each number, one product per channel between them and per tap of the smaller one at
    most; a bias is seen by all taps of the second. The order is the one in which `merging.merge_stack` merges.
    """
    return math.expm1(_merging_log(merge_order(tuple(layers), in_channels), layers, merge_dtype)[0])


def _merging_log(
    order: Order, layers: Sequence[ExpandedLayer], merge_dtype: torch.dtype
) -> tuple[float, ExpandedLayer]:
    """log(1 + bound) of the kernel merged in this order, and its layer."""
    if isinstance(order, int):
        return 0.0, layers[order]
    (early, first), (late, second) = (_merging_log(part, layers, merge_dtype) for part in order)
    own = math.log1p(layer_bound(*merging_sums(first, second), merge_dtype))
    return early + late + own, pair(first, second).merged


def merging_sums(first: ExpandedLayer, second: ExpandedLayer) -> tuple[int, int]:
    """(products, roundings to storage) of one number of the kernel that the two layers merge into, at most."""
    products = first.out_channels // pair(first, second).layer.groups * min(first.taps, second.taps)
    if not first.bias:
        return products, 1
    # The bias: rounded are the sum over the taps, the sum over the channels, and the second bias.
    return max(products, second.fan_in(first.out_channels) + 1), 3
