"""Probe how a routine sums: order, accumulator width, fused products, intermediate roundings.

Each question is a row of terms, of which most are zero or units. Masks: FPRev (Xie, Gao, Wang, Xue, arXiv 2411.00442).
"""

from __future__ import annotations

import random

import torch

from linear_lasagna.formats import SIGNIFICAND_BITS, accumulator
from linear_lasagna.rounding.adder_probe import HUGE, UNITS, AdderProbe
from linear_lasagna.rounding.random_sums import fitting
from linear_lasagna.rounding.reveal import reveal
from linear_lasagna.rounding.summation_tree import Accumulation, SummationTree

WIDEST = 64  # significands of this many bits and more are not told apart

PAIRS = 32  # on which a revealed order is checked


def probe_summation(probe: AdderProbe) -> Accumulation | None:
    """How the adder adds; None where no sums in the order of a tree have its bits, or where it loses units as such."""
    n, precision = probe.n, SIGNIFICAND_BITS[probe.dtype]
    if probe.lost([{}]) != [0]:
        return None
    order = reveal(n, probe.subtree_sizes) if n > 1 else SummationTree((0,))
    if order is None or not confirmed(probe, order):
        return None
    usual = SIGNIFICAND_BITS[accumulator(probe.dtype)]
    aligned = aligned_bits(probe, order)
    bits = running_bits(probe, order, usual if aligned else WIDEST) if n > 2 else usual
    stored = stored_after(probe, order) if bits > precision else ()
    fused = bits >= 2 * precision or n - probe.bias < 2 or multiplies_fused(probe, order)
    return fitting(probe, Accumulation(order, bits, fused, stored, aligned=aligned))


def confirmed(probe: AdderProbe, order: SummationTree) -> bool:
    """Whether the order answers for pairs of terms that it was not made from."""
    draw = random.Random(0)
    pairs = [draw.sample(range(probe.n), 2) for _ in range(PAIRS if probe.n > 1 else 0)]
    huge = HUGE[probe.dtype]
    return probe.lost([{i: huge, j: -huge} for i, j in pairs]) == [order.subtree_size(i, j) for i, j in pairs]


def running_bits(probe: AdderProbe, order: SummationTree, otherwise: int = WIDEST) -> int:
    """The significand's bits of a running sum: the least b for which 2**b + 1 - 2**b gives 0; 64 where none does.

    Two of the three terms are the first ones of the longest running sum, so that nothing comes between them; where that
    adds them at once, the third comes later. otherwise: where there is none.
    """
    inner = order.longest
    later = [number for number in _handy(order) if not inner.fused or number not in inner.numbers()]
    a, b = _handy(order)[:2]
    rest = [number for number in later if number not in (a, b)]
    return _width(probe, a, b, rest[0]) if rest else otherwise


def aligned_bits(probe: AdderProbe, order: SummationTree) -> int | None:
    """The least b for which 2**b + 1 - 2**b, added at once, gives 0; None where none does, or nothing is so added."""
    inner = next((each.single for each in order.sums() if each.fused and len(each.single) > 2), None)
    bits = WIDEST if inner is None else _width(probe, *inner[:3])
    return None if bits == WIDEST else bits


def _width(probe: AdderProbe, a: int, b: int, c: int) -> int:
    """The least b for which 2**b + 1 - 2**b gives 0, the terms in this order; 64 where none does."""
    unit = UNITS[probe.dtype]
    widths = [w for w in range(2, WIDEST) if 2.0**w * unit <= HUGE[probe.dtype]]
    sums = probe.measure([{a: 2.0**w * unit, b: unit, c: -(2.0**w) * unit} for w in widths])
    return next((w for w, kept in zip(widths, sums, strict=True) if kept != 1), WIDEST)


def _handy(order: SummationTree) -> list[int]:
    """The single terms of the longest running sum, then all others."""
    first = order.longest.single
    return first + sorted(set(order.numbers()) - set(first))


def stored_after(probe: AdderProbe, order: SummationTree) -> tuple[int, ...]:
    """After which terms of the outermost sum, the last apart, the running sum is rounded to the storage dtype.

    2**p + 1 is held by a wider running sum and not by the storage dtype: 1 is left of it if it was not rounded.
    """
    unit = UNITS[probe.dtype]
    high = 2.0 ** SIGNIFICAND_BITS[probe.dtype] * unit
    numbers = [next(term.numbers()) if isinstance(term, SummationTree) else term for term in order.terms]
    places = range(1, len(numbers) - 1)
    sums = probe.measure([{numbers[0]: high, numbers[r]: unit, numbers[r + 1]: -high} for r in places])
    return tuple(r for r, kept in zip(places, sums, strict=True) if kept != 1)


def multiplies_fused(probe: AdderProbe, order: SummationTree) -> bool:
    """Whether a product is added without being rounded: a a - a a then leaves the rounding error of the first a a."""
    value = 1 + 2.0 ** -(SIGNIFICAND_BITS[probe.dtype] // 2 + 1)
    a, b = [term for term in _handy(order) if not (probe.bias and term == probe.n - 1)][:2]
    terms = torch.zeros(1, probe.n, dtype=torch.float64)
    terms[0, a], terms[0, b] = value, -value
    return bool(probe.adder(terms, value) != 0)
