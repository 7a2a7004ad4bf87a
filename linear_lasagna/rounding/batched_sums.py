"""Errors of sums of products, added in given orders in float32 or float64: `replay` for the usual case, faster.

Sums of one shape, as running sums, blocks of one length and halves are, are added up side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        limit, most = LARGEST[self.low is not None], max(self.high.max(initial=0.0), -self.high.min(initial=0.0))
        return float(most) * len(self.high) < limit or float(numpy.abs(self.high).sum(0).max(initial=0.0)) < limit

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


def products(first: Array, second: Array, single: bool, orders: Any, last: Array | None = None) -> Products:
    """first * second, (n, …), which broadcast, in several orders, (orders, n), side by side: (n, orders, …).

    single: both are float32 numbers. last: a number, which broadcasts with the products, that is one more at the end of
    each: (n + 1, orders, …).
    """
    n, shape = len(first), numpy.broadcast_shapes(first.shape, second.shape)[1:]
    factors = [numpy.take(each, orders.T, axis=0) for each in (first, second)]
    high = numpy.empty((n + (last is not None), len(orders), *shape))
    numpy.multiply(*factors, out=high[:n])
    high[n:] = 0.0 if last is None else last
    if single:
        return Products(high)
    low = numpy.zeros_like(high)
    low[:n] = product_error(high[:n], *map(halves, factors))
    return Products(high, low)


class Plan(NamedTuple):
    """How trees of one shape are added up. trees: how many. numbers: the terms' numbers, at every place at which there
    is no sum; None where there is one. sums: of the sums of one shape, how they are added up, and at which places.
    """

    trees: int
    numbers: tuple[Any, ...]
    sums: tuple[tuple[Plan, tuple[int, ...]], ...]


def plans(orders: Iterable[SummationTree]) -> list[Plan]:
    """How sums are added up, each order once; those of one shape side by side."""
    shapes = _Shapes()
    alike: dict[int, list[SummationTree]] = {}
    for order in dict.fromkeys(orders):
        alike.setdefault(shapes.of(order), []).append(order)
    return [_plan(trees, shapes) for trees in alike.values()]


def _plan(trees: Sequence[Any], shapes: _Shapes) -> Plan:
    alike: dict[int, list[int]] = {}
    for place, term in enumerate(trees[0].terms):
        if isinstance(term, SummationTree):
            alike.setdefault(shapes.of(term), []).append(place)
    inner = [(_plan([tree.terms[p] for p in places for tree in trees], shapes), places) for places in alike.values()]
    numbers = (
        None if isinstance(term, SummationTree) else _index([tree.terms[place] for tree in trees])
        for place, term in enumerate(trees[0].terms)
    )
    return Plan(len(trees), tuple(numbers), tuple((each, tuple(places)) for each, places in inner))


class _Shapes:
    """Numbers of the shapes of trees: what these are without the numbers of their terms."""

    def __init__(self) -> None:
        self.known: dict[int, int] = {}  # of trees, by their identity
        self.numbers: dict[tuple[int | None, ...], int] = {}

    def of(self, tree: SummationTree) -> int:
        """The number of the tree's shape."""
        if id(tree) not in self.known:
            inner = tuple(self.of(term) if isinstance(term, SummationTree) else None for term in tree.terms)
            self.known[id(tree)] = self.numbers.setdefault(inner, len(self.numbers))
        return self.known[id(tree)]


def _index(numbers: list[int]) -> Any:
    """A slice where there is one, of which NumPy copies nothing."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    evenly = step > 0 and numbers == list(range(numbers[0], numbers[-1] + 1, step))
    return slice(numbers[0], numbers[-1] + 1, step) if evenly else numpy.array(numbers)


def sum_errors(terms: Products, order: Plan) -> Array:
    """Computed - exact: (trees, …). In float32 where `terms.low` is None; each product is fused with its addition."""
    exact, rest = terms.total
    return (_sums(terms, order) - exact) - rest


def _sums(terms: Products, order: Plan) -> Any:
    """The sums of its trees, side by side: (trees, …)."""
    below: dict[int, Any] = {}
    for inner, places in order.sums:
        found = _sums(terms, inner)
        below |= {place: found[n * order.trees : (n + 1) * order.trees] for n, place in enumerate(places)}
    add = _add_single if terms.low is None else _add_double
    total = None
    for place, numbers in enumerate(order.numbers):
        if numbers is None:
            total = add(total, below[place], 0.0)
        else:
            total = add(total, terms.high[numbers], None if terms.low is None else terms.low[numbers])
    return total


def _add_single(total: Any, high: Any, low: Any) -> Any:
    """The sum in float32, in place; terms in float64 are rounded with it."""
    if total is None:
        return high.astype(numpy.float32, copy=False)
    # Two numbers of float32 are added in it: in float64 first, all would be rounded to the same.
    return numpy.add(total, high, out=total, dtype=high.dtype, casting="unsafe")


def _add_double(total: Any, high: Any, low: Any) -> Any:
    """All three rounded once."""
    if total is None:
        return high + low
    rounded, lost = two_sum(total, high)
    return numpy.add(rounded, lost + low, out=total)
