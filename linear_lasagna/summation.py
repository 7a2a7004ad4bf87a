"""The order in which terms are added, as a tree: to be revealed by numerical testing, and to count roundings with.

`reveal` is the idea of FPRev (Xie, Gao, Wang, Xue, arXiv 2411.00442): two terms are +M and -M, all others are units so
small that M absorbs them. Between the moment when +M enters and the moment when -M cancels it, every unit is lost;
so the number of lost units is the size of the least subtree that contains both terms, less two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

Term: TypeAlias = "int | Sum"
Sizes: TypeAlias = Callable[[int, Sequence[int]], list[int]]


@dataclass(frozen=True)
class Sum:
    """Terms added from the left: ints are the numbers of terms, sums are computed first. fused: rounded only once."""

    terms: tuple[Term, ...]
    fused: bool = False

    @property
    def length(self) -> int:
        """Terms in all."""
        return sum(term.length if isinstance(term, Sum) else 1 for term in self.terms)

    def sums(self) -> Iterator[Sum]:
        """This sum and all sums in it."""
        yield self
        for term in self.terms:
            if isinstance(term, Sum):
                yield from term.sums()

    @property
    def block_length(self) -> int:
        """The most single terms that one running sum takes up."""
        return max(sum(isinstance(term, int) for term in each.terms) for each in self.sums())

    @property
    def chains(self) -> int:
        """Running sums that start from a term of their own: blocks, lanes."""
        return sum(isinstance(each.terms[0], int) for each in self.sums())


def sequential(n: int) -> Sum:
    """n terms, one after another."""
    return Sum(tuple(range(n)))


def blocked(n: int, length: int) -> Sum:
    """Blocks of `length` terms, each summed one after another; then the blocks, likewise. The first is added to."""
    first, *rest = (tuple(range(start, min(start + length, n))) for start in range(0, n, length))
    return Sum((*first, *(Sum(block) if len(block) > 1 else block[0] for block in rest)))


def pairwise(n: int, start: int = 0) -> Sum:
    """Halves, each summed likewise. Source: Higham, Accuracy and Stability of Numerical Algorithms, section 4.1."""
    if n <= 2:
        return Sum(tuple(range(start, start + n)))
    half = (n + 1) // 2
    right = pairwise(n - half, start + half)
    return Sum((pairwise(half, start), right if right.length > 1 else right.terms[0]))


def partial_sums(products: torch.Tensor, order: Sum) -> torch.Tensor:
    """Every number that is rounded while the products are added: (..., n) -> (..., roundings), the whole sum last.

    With fused multiply-add a product that starts a running sum is rounded by itself, all others with the sum.
    """
    inner: list[torch.Tensor] = []
    values = products.new_empty((*products.shape[:-1], len(order.terms)))
    single = [place for place, term in enumerate(order.terms) if isinstance(term, int)]
    values[..., single] = products[..., [order.terms[place] for place in single]]
    for place, term in enumerate(order.terms):
        if isinstance(term, Sum):
            inner.append(partial_sums(products, term))
            values[..., place] = inner[-1][..., -1]
    if order.fused:
        return torch.cat([*inner, values.sum(-1, keepdim=True)], -1)
    running = values.cumsum(-1)
    return torch.cat([*inner, running if isinstance(order.terms[0], int) else running[..., 1:]], -1)


def reveal(n: int, sizes: Sizes) -> Sum | None:
    """The order in which n terms are added, or None where the sizes fit no tree of sums.

    sizes(i, others): for each j of others, how many terms the least subtree with i and j has. About 2 n pairs are
    asked for where terms are added in a row or in blocks, at most n**2 / 2.
    """
    ends = [(first, others, sizes(first, others)) for first, others in _ends(n)]
    first, others, found = max(ends, key=lambda end: len(set(end[2])))
    try:
        order = _path(first, others, found, sizes)
    except (_NoTreeError, RecursionError):
        return None
    return order if isinstance(order, Sum) else Sum((order,))


def _ends(n: int) -> list[tuple[int, list[int]]]:
    """The first and the last term, each with all others: one of them may lie right below the root."""
    return [(0, list(range(1, n))), (n - 1, list(range(n - 2, -1, -1)))]


class _NoTreeError(Exception):
    """The sizes fit no tree."""


def _path(first: int, others: Sequence[int], found: Sequence[int], sizes: Sizes) -> Term:
    """The subtree of all these terms, put together along the path from the first one to its root.

    The least subtrees with the first term and each of the others lie inside each other; where one is larger than
    the one before, the terms that it has more are what is added there.
    """
    groups: dict[int, list[int]] = {}
    for other, size in zip(others, found, strict=True):
        groups.setdefault(size, []).append(other)
    length = 1
    terms: list[Term] = [first]
    for size in sorted(groups):
        length += len(groups[size])
        if size != length:
            raise _NoTreeError
        added = _subtrees(groups[size], size, sizes)
        if len(added) > 1:
            head: Term = Sum(tuple(terms)) if len(terms) > 1 else terms[0]
            terms = [Sum((head, *added), fused=True)]
        else:
            terms += added
    if len(terms) > 1:
        return Sum(tuple(terms))
    return terms[0]


def _subtrees(group: list[int], size: int, sizes: Sizes) -> list[Term]:
    """What is added where a subtree reaches this size: one term or sum; several where they are added at once."""
    found: list[Term] = []
    while group:
        first, *others = group
        inner = sizes(first, others) if others else []
        mine = [(other, s) for other, s in zip(others, inner, strict=True) if s != size]
        found.append(_path(first, [m for m, _ in mine], [s for _, s in mine], sizes))
        group = [other for other, s in zip(others, inner, strict=True) if s == size]
    return found
