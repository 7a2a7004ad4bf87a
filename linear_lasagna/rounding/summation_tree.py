"""The order in which terms are added, as a tree, and the usual orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Term: TypeAlias = "int | SummationTree"


@dataclass(frozen=True)
class SummationTree:
    """Terms added from the left: ints are numbers of terms, sums are formed first. fused: all added at once.

    Terms that are fused are rounded once, together.
    """

    terms: tuple[Term, ...]
    fused: bool = False

    def sums(self) -> Iterator[SummationTree]:
        """This sum and all sums in it."""
        yield self
        for term in self.terms:
            if isinstance(term, SummationTree):
                yield from term.sums()

    def numbers(self) -> Iterator[int]:
        """The terms' numbers, in the order in which they are added."""
        for term in self.terms:
            if isinstance(term, SummationTree):
                yield from term.numbers()
            else:
                yield term

    def renumbered(self, numbers: Sequence[int]) -> SummationTree:
        """The same order of terms with other numbers: numbers[i] for i."""
        terms = (term.renumbered(numbers) if isinstance(term, SummationTree) else numbers[term] for term in self.terms)
        return SummationTree(tuple(terms), self.fused)

    def started(self, swapped: Callable[[Term, Term], bool]) -> SummationTree:
        """The same tree, in which a running sum's first number and what is added to it are swapped where asked for."""
        terms = tuple(term.started(swapped) if isinstance(term, SummationTree) else term for term in self.terms)
        if len(terms) > 1 and isinstance(terms[0], int) and swapped(*terms[:2]):
            terms = (terms[1], terms[0], *terms[2:])
        return SummationTree(terms, self.fused)

    @property
    def length(self) -> int:
        """Terms in all."""
        return sum(len(each.single) for each in self.sums())

    @property
    def single(self) -> list[int]:
        """The terms that are numbers, not sums."""
        return [term for term in self.terms if isinstance(term, int)]

    @property
    def longest(self) -> SummationTree:
        """The running sum that takes up the most single terms: a block, a lane."""
        return max(self.sums(), key=lambda each: len(each.single))

    @property
    def chains(self) -> int:
        """Running sums that start from a term of their own: blocks, lanes."""
        return sum(isinstance(each.terms[0], int) for each in self.sums())

    def subtree_size(self, i: int, j: int) -> int:
        """Terms added up in the least running sum that has taken up both i and j."""
        size, met = 0, 0
        for term in self.terms:
            numbers = list(term.numbers()) if isinstance(term, SummationTree) else [term]
            here = (i in numbers) + (j in numbers)
            if here == 2 and isinstance(term, SummationTree):
                return term.subtree_size(i, j)
            size, met = size + len(numbers), met + here
            if met == 2 and not self.fused:
                return size
        return self.length


@dataclass(frozen=True)
class Accumulation:
    """How one output is added up.

    order: of the products, numbered as weight[o].flatten() is, and of the bias; None where it could not be found.
    bits: of the running sum's significand. fused: whether a product is added without being rounded first.
    stored: after which terms of the outermost sum the running sum is rounded to the storage dtype.
    truncated: whether the running sum is rounded toward zero, instead of to nearest.
    aligned: terms that are added at once are first cut to so many bits, counted from the largest exponent among them, a
    product's being the sum of its factors', and their sum is cut to `bits`: so do tensor cores (Fasi, Higham, Mikaitis,
    Pranesh, PeerJ Computer Science 7 (2021), e330). None where they are added exactly.
    """

    order: SummationTree | None
    bits: int
    fused: bool = True
    stored: tuple[int, ...] = ()
    truncated: bool = False
    aligned: int | None = None


def sequential(n: int) -> SummationTree:
    """n terms, one after another."""
    return SummationTree(tuple(range(n)))


def blocked(n: int, length: int) -> SummationTree:
    """Blocks of `length` terms, each summed one after another and then added to the blocks before it."""
    later = (range(start, min(start + length, n)) for start in range(length, n, length))
    return SummationTree((*range(min(length, n)), *(SummationTree(tuple(b)) if len(b) > 1 else b[0] for b in later)))


def pairwise(n: int, start: int = 0) -> SummationTree:
    """Halves, each summed likewise. Source: Higham, Accuracy and Stability of Numerical Algorithms, section 4.1."""
    if n <= 2:
        return SummationTree(tuple(range(start, start + n)))
    half = (n + 1) // 2
    right = pairwise(n - half, start + half) if n > 3 else start + half
    return SummationTree((pairwise(half, start), right))


def bias_first(n: int, bias: bool) -> SummationTree:
    """One after another, from the bias on: it is the last of the n numbers."""
    return SummationTree((n - 1, *range(n - 1))) if bias else sequential(n)


Order: TypeAlias = Callable[[int, bool], SummationTree]  # of n terms, of which the last may be a bias

# What libraries do lies between these: one running sum, and many short ones.
ORDERS: dict[str, Order] = {
    "bias first": bias_first,
    "bias last": lambda n, bias: sequential(n),
    "blocked": lambda n, bias: blocked(n, max(2, math.isqrt(n))),
    "pairwise": lambda n, bias: pairwise(n),
}
