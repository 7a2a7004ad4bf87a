"""Reveal the summation order of a routine by numerical testing.

The idea is FPRev's (Xie, Gao, Wang, Xue, arXiv 2411.00442): two terms are +M and -M, all others are units so small that
M absorbs them. From the moment when M enters to the moment when -M cancels it, every unit is lost. So the lost units
are the other terms of the least subtree that contains both, and from the sizes of subtrees the tree is put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from linear_lasagna.rounding.summation_tree import SummationTree, Term

Sizes: TypeAlias = Callable[[int, Sequence[int]], list[int]]

SHORT = 3  # steps


def reveal(n: int, sizes: Sizes) -> SummationTree | None:
    """The order in which n terms are added, or None where the sizes fit no tree of sums.

    sizes(i, others): for each j of others, how many terms the least subtree with i and j has. About 2 n pairs are
    asked for where terms are added in a row or in blocks, at most n**2 / 2. Where the first term's path to the root is
    short, as in a sum from the far end, the last term's is tried.
    """
    first, others = 0, list(range(1, n))
    measured = sizes(first, others)
    if len(set(measured)) < SHORT:
        first, others = n - 1, list(range(n - 2, -1, -1))
        measured = sizes(first, others)
    try:
        order = _path(first, others, measured, sizes)
    except (_NoTreeError, RecursionError):
        return None
    return order if isinstance(order, SummationTree) else SummationTree((order,))


class _NoTreeError(Exception):
    """The sizes fit no tree."""


def _path(first: int, others: Sequence[int], measured: Sequence[int], sizes: Sizes) -> Term:
    """The subtree of all these terms, put together along the path from the first one to its root.

    The least subtrees with the first term and each of the others lie inside each other; where one is larger than
    the one before, the terms that it has more are what is added there.
    """
    groups: dict[int, list[int]] = {}
    for other, size in zip(others, measured, strict=True):
        groups.setdefault(size, []).append(other)
    length = 1
    terms: list[Term] = [first]
    for size in sorted(groups):
        length += len(groups[size])
        if size != length:
            raise _NoTreeError
        added = _subtrees(groups[size], size, sizes)
        if len(added) > 1:
            head: Term = SummationTree(tuple(terms)) if len(terms) > 1 else terms[0]
            terms = [SummationTree((head, *added), fused=True)]
        else:
            terms += added
    if len(terms) > 1:
        return SummationTree(tuple(terms))
    return terms[0]


def _subtrees(group: list[int], size: int, sizes: Sizes) -> list[Term]:
    """What is added where a subtree reaches this size: one term or sum; several where they are added at once."""
    terms: list[Term] = []
    while group:
        first, *others = group
        inner = sizes(first, others) if others else []
        mine = [(other, s) for other, s in zip(others, inner, strict=True) if s != size]
        terms.append(_path(first, [m for m, _ in mine], [s for _, s in mine], sizes))
        group = [other for other, s in zip(others, inner, strict=True) if s == size]
    return terms
