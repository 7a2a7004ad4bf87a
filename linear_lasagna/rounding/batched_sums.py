"""Errors of sums of products, added in given orders in float32 or float64: `replay` for the usual case, faster.

Sums of one shape, as running sums, blocks of one length and halves are, are added up side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy

from linear_lasagna.error_free import halves, product_error, two_sum
from linear_lasagna.rounding.replay import Array
from linear_lasagna.rounding.summation_tree import SummationTree

LARGEST = 2.0**127, 2.0**970  # no partial sum of terms that are smaller in all overflows, in float32 and in float64


@dataclass(frozen=True)
class Products:
    """Terms (n, …). low: what float64 loses of them; None for products of float32 numbers, which it holds."""

    high: Array
    low: Array | None = None

    @property
    def fit(self) -> bool:
        """Whether no sum of these terms, in any order, leaves the range of float32, or of float64."""
        return float(numpy.abs(self.high).sum(0).max(initial=0.0)) < LARGEST[self.low is not None]

    @cached_property
    def total(self) -> tuple[Array, Array | float]:
        """The sum in two parts, as exact as products of float32, or float64, numbers need; in pairs, by TwoSum."""
        if self.low is None:
            return self.high.sum(0), 0.0
        high, low = self.high, self.low
        while len(high) > 1:
            even = len(high) // 2 * 2
            total, lost = two_sum(high[:even:2], high[1:even:2])
            low = numpy.concatenate([low[:even:2] + low[1:even:2] + lost, low[even:]])
            high = numpy.concatenate([total, high[even:]])
        return high[0], low[0]

    def reordered(self, orders: Any, last: Array | None = None) -> Products:
        """(n, orders, …): the terms in several orders, (orders, n), side by side. last: a number, which broadcasts with
        the terms, that is one more at the end of each: (n + 1, orders, …).
        """
        high = _taken(self.high, orders.T, last)
        return Products(high, None if self.low is None else _taken(self.low, orders.T, None if last is None else 0.0))


def _taken(terms: Array, places: Any, last: Array | float | None) -> Array:
    n = len(places)
    taken = numpy.empty((n + (last is not None), places.shape[1], *terms.shape[1:]))
    numpy.take(terms, places, axis=0, out=taken[:n], mode="clip")  # the other modes copy once more
    taken[n:] = 0.0 if last is None else last
    return taken


def products(first: Array, second: Array, single: bool) -> Products:
    """first * second, which broadcast: (n, …). single: both are float32 numbers."""
    high = numpy.multiply(first, second, order="C")
    if single:
        return Products(high)
    return Products(high, product_error(high, halves(first), halves(second)))


class Plan(NamedTuple):
    """How trees of one shape are added up. trees: how many. numbers: the terms' numbers, at every place at which there
    is no sum; None where there is one. sums: of the sums of one shape, how they are added up, and at which places.
    """

    trees: int
    numbers: tuple[Any, ...]
    sums: tuple[tuple[Plan, tuple[int, ...]], ...]


def plan(order: SummationTree) -> Plan:
    """How a sum is added up."""
    return _plan([order], {})


def _plan(trees: Sequence[Any], shapes: dict[int, Any]) -> Plan:
    alike: dict[Any, list[int]] = {}
    for place, term in enumerate(trees[0].terms):
        if isinstance(term, SummationTree):
            alike.setdefault(_shape(term, shapes), []).append(place)
    inner = [(_plan([tree.terms[p] for p in places for tree in trees], shapes), places) for places in alike.values()]
    numbers = (
        None if isinstance(term, SummationTree) else _index([tree.terms[place] for tree in trees])
        for place, term in enumerate(trees[0].terms)
    )
    return Plan(len(trees), tuple(numbers), tuple((each, tuple(places)) for each, places in inner))


def _shape(tree: SummationTree, shapes: dict[int, Any]) -> Any:
    """The tree without the numbers of its terms. shapes: of trees, by their identity."""
    if id(tree) not in shapes:
        inner = (_shape(term, shapes) if isinstance(term, SummationTree) else None for term in tree.terms)
        shapes[id(tree)] = tuple(inner)
    return shapes[id(tree)]


def _index(numbers: list[int]) -> Any:
    """A slice where there is one, of which NumPy copies nothing."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    evenly = step > 0 and numbers == list(range(numbers[0], numbers[-1] + 1, step))
    return slice(numbers[0], numbers[-1] + 1, step) if evenly else numpy.array(numbers)


def sum_errors(terms: Products, order: Plan) -> Array:
    """Computed - exact: (…). In float32 where `terms.low` is None; each product is fused with its addition."""
    exact, rest = terms.total
    return (_sums(terms, order)[0] - exact) - rest


def _sums(terms: Products, order: Plan) -> Any:
    """The sums of its trees, side by side: (trees, …)."""
    below: dict[int, Any] = {}
    for inner, places in order.sums:
        found = _sums(terms, inner)
        below |= {place: found[n * order.trees : (n + 1) * order.trees] for n, place in enumerate(places)}
    dtype, add = (numpy.float32, _add_single) if terms.low is None else (numpy.float64, _add_double)
    total = numpy.zeros((order.trees, *terms.high.shape[1:]), dtype)
    for place, numbers in enumerate(order.numbers):
        if numbers is None:
            add(total, below[place], 0.0)
        else:
            add(total, terms.high[numbers], None if terms.low is None else terms.low[numbers])
    return total


def _add_single(total: Any, high: Any, low: Any) -> None:
    """In float64, then rounded to float32."""
    numpy.add(total, high, out=total, dtype=numpy.float64, casting="unsafe")


def _add_double(total: Any, high: Any, low: Any) -> None:
    """All three rounded once."""
    rounded, lost = two_sum(total, high)
    numpy.add(rounded, lost + low, out=total)
