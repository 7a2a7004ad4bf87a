"""Sums as a machine forms them, every rounding once and rightly.

Numbers are held in float64. A step's exact result is its rounding there and what that loses (`error_free`). Both become
one number that is rounded to odd, and that, rounded again to fewer bits, gives what rounding the exact result does:
Boldo and Melquiond, Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd, IEEE Trans.
Comput. 57 (2008), 462.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy

from linear_lasagna.error_free import halves, product_error, two_sum
from linear_lasagna.rounding.replay import Array, Factors, Terms
from linear_lasagna.rounding.summation_tree import Accumulation, SummationTree
from linear_lasagna.simulated.casting import check_rounding, rounded
from linear_lasagna.simulated.machine import Machine

EXACT_PRODUCTS = 26  # bits: float64 holds a product of two such numbers
ZERO = -600  # an exponent below all that matter, for zeros; 2.0 to it is a number

Exactly: TypeAlias = "tuple[Array, Array | None]"  # a number in two parts, or in one


def add(terms: Terms, how: Accumulation, machine: Machine, generator: numpy.random.Generator | None = None) -> Array:
    """The machine's sums of the terms in the order that `how` says, before they are rounded to storage.

    terms(i): two arrays that broadcast, of numbers of the machine's factors, whose product is the i-th term, or one;
    float64. `how` is `machine.accumulation(n, bias)`, or has another order. generator: for stochastic rounding, whose
    probabilities are exact to 2**-(53 - p) for sums of p bits. Terms that are added at once without being aligned are
    added exactly.
    Raises ValueError where there is no order, or no generator and one is needed.
    """
    if how.order is None:
        raise ValueError("only sums of known order can be formed")
    for rounding in (machine.rounding, machine.storing):
        check_rounding(rounding, generator)
    with numpy.errstate(over="ignore", invalid="ignore"):
        return _Adder(terms, machine, generator).add(how.order, how.stored)


class _Adder:
    def __init__(self, terms: Terms, machine: Machine, generator: numpy.random.Generator | None) -> None:
        self.terms, self.machine, self.generator = terms, machine, generator
        self.narrow = machine.factors.significand_bits <= EXACT_PRODUCTS
        self.native = machine.running.significand_bits == 53

    def add(self, order: SummationTree, stored: tuple[int, ...] = ()) -> Array:
        """The sum of a tree. Those that start with a sum, as tensor cores' do hundreds of times, are no recursion."""
        first = [order]
        while isinstance(first[-1].terms[0], SummationTree):
            first.append(first[-1].terms[0])
        head = None
        for tree in reversed(first):
            form = self.in_turn if not tree.fused else self.exactly if self.machine.aligned is None else self.aligned
            head = form(tree, head, stored if tree is order else ())
        assert head is not None
        return head

    def parts(self, tree: SummationTree, head: Array | None) -> Iterator[tuple[Exactly, Factors | None]]:
        """The terms, exactly, and their factors; sums have none. head: the first one's sum, if it is one."""
        for place, term in enumerate(tree.terms):
            if isinstance(term, SummationTree):
                yield (self.add(term) if place or head is None else head, None), None
            else:
                factors = self.terms(term)
                yield self.product(factors), factors

    def product(self, term: Factors) -> Exactly:
        if term.second is None:
            return term.first, None
        high = term.first * term.second
        return high, None if self.narrow else product_error(high, halves(term.first), halves(term.second))

    def in_turn(self, tree: SummationTree, head: Array | None, stored: tuple[int, ...]) -> Array:
        """One after another."""
        total: Array | None = None
        lost: Array = numpy.zeros(())
        for place, (term, factors) in enumerate(self.parts(tree, head)):
            if factors is not None and not self.machine.fused:
                term = self.plus(None, term), None
            if self.machine.compensated and total is not None:
                added = self.plus(-lost, term)
                before, total = total, self.plus(total, (added, None))
                lost = self.plus(self.plus(total, (-before, None)), (-added, None))
            else:
                total = self.plus(total, term)
            if place in stored:
                total = rounded(total, self.machine.storage, self.machine.storing, self.generator)
        assert total is not None
        return total

    def plus(self, total: Array | None, term: Exactly) -> Array:
        """The sum, rounded once."""
        high, low = term
        if total is None:
            total, high, low = (high, numpy.zeros(()), None) if low is None else (high, low, None)
        if low is None:
            high, low = two_sum(total, high)
        else:
            rest, least = two_sum(total, low)
            high, more = two_sum(high, rest)
            high, low = two_sum(high, _to_odd(*two_sum(more, least)))
        return high if self.native else self.round(_to_odd(high, low))

    def round(self, y: Array) -> Array:
        return rounded(y, self.machine.running, self.machine.rounding, self.generator)

    def exactly(self, tree: SummationTree, head: Array | None, stored: tuple[int, ...]) -> Array:
        """All at once, rounded once together: exact sums of many numbers, of which the one rounded to odd is taken.

        Source of the exact sum: Shewchuk, Discrete Comput. Geom. 18 (1997), 305, Grow-Expansion.
        """
        if self.native:
            raise ValueError("terms that are added at once are not simulated in float64")
        sums: list[Array] = []
        for term, _ in self.parts(tree, head):
            for number in term:
                if number is not None:
                    sums = _grown(sums, number)
        total = sums[0]
        for number in sums[1:]:
            total = _to_odd(*two_sum(number, total))
        return self.round(total)

    def aligned(self, tree: SummationTree, head: Array | None, stored: tuple[int, ...]) -> Array:
        """All at once, cut to some bits below the largest exponent first: as `Accumulation.aligned` says."""
        assert self.machine.aligned is not None
        values, largest = [], numpy.full((), ZERO)
        for (value, _), factors in self.parts(tree, head):
            values.append(value)
            exponents = [_exponent(each) for each in (factors or (value,)) if each is not None]
            largest = numpy.maximum(largest, sum(exponents))
        unit = numpy.ldexp(1.0, largest - (self.machine.aligned - 1))
        scale = 1 / unit
        total: Array = numpy.zeros(())
        for value in values:
            total = total + numpy.trunc(value * scale)
        return rounded(total * unit, self.machine.running, "toward zero")


def _grown(sums: Sequence[Array], number: Array) -> list[Array]:
    """Numbers that do not overlap, ascending, with one more added to their sum."""
    grown = []
    for each in sums:
        number, rest = two_sum(number, each)
        grown.append(rest)
    return [*grown, number]


def _to_odd(high: Array, low: Array) -> Array:
    """high + low as one number, which is odd where it is not exact. low: what rounding to high lost."""
    if not numpy.any(low):
        return high
    bits = high.view(numpy.int64)
    toward = (bits ^ low.view(numpy.int64)) >> 63  # -1 where the exact sum is smaller than high
    return numpy.where(numpy.abs(low) > 0, (bits + toward) | 1, bits).view(numpy.float64)  # low is NaN at infinities


def _exponent(a: Array) -> Any:
    """Of the leading bit; far below all for zeros."""
    return numpy.where(a == 0, 2 * ZERO, numpy.frexp(a)[1] - 1)
