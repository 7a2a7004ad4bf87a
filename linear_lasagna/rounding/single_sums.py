"""Sums of products in float32, added in given orders: `replay` for the usual case, in a sixth to a third of its time.

Blocks of one length, and halves, are added up side by side, because they do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from linear_lasagna.rounding.replay import Array
from linear_lasagna.rounding.summation_tree import SummationTree

LARGEST = 2.0**127  # no partial sum of terms that are smaller in all overflows


def fits(products: Array) -> bool:
    """Whether no sum of these terms, (n, …), in any order leaves float32's range."""
    return float(numpy.abs(products).sum(0).max(initial=0.0)) < LARGEST


def sum_errors(products: Array, order: SummationTree) -> Array:
    """Computed - exact: (n, …) exact terms in float64, added up in float32, each product fused with its addition."""
    return _sums(products, [order], {})[0].astype(numpy.float64) - products.sum(0)


def _sums(products: Array, trees: Sequence[SummationTree], shapes: dict[int, Any]) -> Any:
    """The sums of trees of one shape, side by side: float32, (trees, …)."""
    below = _below(products, trees, shapes)
    total = numpy.zeros((len(trees), *products.shape[1:]), numpy.float32)
    for place, term in enumerate(trees[0].terms):
        if isinstance(term, SummationTree):
            added = below[place]
        else:
            numbers: Any = [tree.terms[place] for tree in trees]
            added = products[term][None] if len(trees) == 1 else products[numbers]
        # In float64, then rounded to float32.
        numpy.add(total, added, out=total, dtype=numpy.float64, casting="unsafe")
    return total


def _below(products: Array, trees: Sequence[SummationTree], shapes: dict[int, Any]) -> dict[int, Any]:
    """The sums that are terms of the trees, by their place; all of one shape are added up at once."""
    alike: dict[Any, list[int]] = {}
    for place, term in enumerate(trees[0].terms):
        if isinstance(term, SummationTree):
            alike.setdefault(_shape(term, shapes), []).append(place)
    found = {}
    for places in alike.values():
        inner = [tree.terms[place] for place in places for tree in trees]
        sums = _sums(products, [term for term in inner if isinstance(term, SummationTree)], shapes)
        found |= {place: sums[n * len(trees) : (n + 1) * len(trees)] for n, place in enumerate(places)}
    return found


def _shape(tree: SummationTree, shapes: dict[int, Any]) -> Any:
    """The tree without the numbers of its terms. shapes: of trees, by their identity."""
    if id(tree) not in shapes:
        inner = (_shape(term, shapes) if isinstance(term, SummationTree) else None for term in tree.terms)
        shapes[id(tree)] = tuple(inner)
    return shapes[id(tree)]
