"""Replay of sums, rounding by rounding, in a given accumulation: their values and their errors.

Numbers are held in float64. Where a running sum is so wide that a step in float64 is not exact enough, what the step
loses is kept beside it (`error_free`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy
import torch

from linear_lasagna.error_free import halves, product_error, two_sum
from linear_lasagna.formats import LEAST_EXPONENT, SIGNIFICAND_BITS, accumulator, spacing
from linear_lasagna.rounding.summation_tree import Accumulation, SummationTree

Array: TypeAlias = "numpy.ndarray[Any, numpy.dtype[numpy.float64]]"
Small: TypeAlias = "Array | float"  # errors and what is left over: 0 where there is none


class Factors(NamedTuple):
    """A term: the product of two arrays that broadcast, or the first alone."""

    first: Array
    second: Array | None = None


Terms: TypeAlias = Callable[[int], Factors]  # of a term's number

CLOSE = 24  # bits: float64 holds a product of two such numbers, and what adding it loses decides one rounding in 2**29


class Replayed(NamedTuple):
    """Sums before their last rounding to storage, and their errors: computed - exact. Both of the terms' shape."""

    values: Array
    errors: Array


@dataclass(frozen=True)
class Format:
    """Numbers of `bits` significand bits and least exponent `least`; truncated: rounded toward zero, not to nearest."""

    bits: int
    least: int
    truncated: bool = False

    def round(self, y: Array) -> Array:
        """y rounded once, ties to even; the exponent has no upper limit."""
        if self == SINGLE and numpy.abs(y).max(initial=0.0) < 2.0**127:
            return y.astype(numpy.float32).astype(numpy.float64)  # as below, in a third of the time
        if self.bits >= SIGNIFICAND_BITS[torch.float64] and not self.truncated:
            return y
        unit = spacing(torch.from_numpy(numpy.asarray(y)), self.bits, self.least).numpy()
        units = y / unit
        return (numpy.trunc(units) if self.truncated else numpy.rint(units)) * unit


SINGLE = Format(24, -126)


def storage_format(dtype: torch.dtype) -> Format:
    """The dtype's own."""
    return Format(SIGNIFICAND_BITS[dtype], LEAST_EXPONENT[dtype])


def running_format(how: Accumulation, dtype: torch.dtype) -> Format:
    """The running sum's, whose exponent is the usual accumulator's if it is wider than the storage dtype."""
    wide = how.bits > SIGNIFICAND_BITS[dtype]
    return Format(how.bits, LEAST_EXPONENT[accumulator(dtype) if wide else dtype], how.truncated)


def replay(terms: Terms, how: Accumulation, dtype: torch.dtype) -> Replayed:
    """The sums of terms of `dtype`, added up as `how` says. Raises ValueError where it says no order."""
    if how.order is None:
        raise ValueError("only sums of known order can be formed again")
    running = running_format(how, dtype)
    adder = (_Wide if running.bits > CLOSE else _Narrow)(terms, running, how.fused, how.aligned)
    values, errors = adder.add(how.order, how.stored, storage_format(dtype))
    return Replayed(values, numpy.asarray(errors))


class _Narrow:
    """Adds where a step in float64 is as good as exact."""

    def __init__(self, terms: Terms, running: Format, fused: bool, aligned: int | None) -> None:
        self.terms, self.running, self.fused, self.aligned = terms, running, fused, aligned

    def add(
        self, order: SummationTree, stored: tuple[int, ...] = (), storage: Format | None = None
    ) -> tuple[Array, Small]:
        """The sum, and what all its roundings add to it."""
        if order.fused and self.aligned is not None:
            return self.at_once(order, self.aligned)
        total: Array = numpy.zeros(())
        lost: Small = 0.0
        errors: Small = 0.0
        for place, term in enumerate(order.terms):
            if isinstance(term, SummationTree):
                high, own = self.add(term)
                low = 0.0
            else:
                high, low, own = self.term(term)
            errors = errors + own
            total, lost = self.plus(total, high, lost + low)
            if not order.fused:
                total, lost, errors = self.rounded(self.running, total, lost, errors)
            if storage is not None and place in stored:
                total, lost, errors = self.rounded(storage, total, lost, errors)
        total, lost, errors = self.rounded(self.running, total, lost, errors)
        return total, errors

    def at_once(self, order: SummationTree, aligned: int) -> tuple[Array, Small]:
        """The sum of terms cut to so many bits below the largest exponent, and what all roundings add to it.

        What float64 loses of the exact sum, which the error is of, is far below what the cutting does.
        """
        errors: Small = 0.0
        values, exponents = [], []
        for term in order.terms:
            if isinstance(term, SummationTree):
                value, own = self.add(term)
                errors = errors + own
                exponents.append(_exponent(value))
            else:
                factors = self.terms(term)
                value = self.exact(factors)[0]
                exponents.append(sum(_exponent(each) for each in factors if each is not None))
            values.append(value)
        present = [numpy.where(value == 0, _LEAST, found) for value, found in zip(values, exponents, strict=True)]
        unit = numpy.ldexp(1.0, numpy.stack(numpy.broadcast_arrays(*present)).max(0) - (aligned - 1))
        cut = sum(numpy.trunc(value / unit) for value in values) * unit
        total = replace(self.running, truncated=True).round(cut)
        return total, errors + (total - sum(values))

    def term(self, number: int) -> tuple[Array, Small, Small]:
        """A term as it is added, in two parts, and the error of a rounding before that."""
        high, low = self.exact(self.terms(number))
        if self.fused:
            return high, low, 0.0
        return self.rounded(self.running, high, low, 0.0)

    def exact(self, term: Factors) -> tuple[Array, Small]:
        """A term in two parts."""
        return term.first if term.second is None else term.first * term.second, 0.0

    def plus(self, total: Array, high: Array, low: Small) -> tuple[Array, Small]:
        """The sum of all three, in two parts."""
        return total + high, low

    def rounded(self, to: Format, high: Array, low: Small, errors: Small) -> tuple[Array, Small, Small]:
        """The sum of both parts rounded, nothing, and the errors with this one's."""
        values = to.round(high)
        return values, low, errors + (values - high)


class _Wide(_Narrow):
    """Adds where what float64 loses matters."""

    def exact(self, term: Factors) -> tuple[Array, Small]:
        if term.second is None:
            return term.first, 0.0
        high = term.first * term.second
        return high, product_error(high, halves(term.first), halves(term.second))

    def plus(self, total: Array, high: Array, low: Small) -> tuple[Array, Small]:
        rounded, lost = two_sum(total, high)
        return rounded, lost + low

    def rounded(self, to: Format, high: Array, low: Small, errors: Small) -> tuple[Array, Small, Small]:
        values = to.round(high + low)
        return values, 0.0, errors + ((values - high) - low)


_LEAST = -600  # below every exponent that matters here, and 2.0 to it is a number


def _exponent(a: Array) -> Any:
    """Of the leading bit."""
    return numpy.frexp(a)[1] - 1
