"""The order in which terms are added, as a tree, and the usual orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Term: TypeAlias = "int | Sum"


@dataclass(frozen=True)
class Sum:
    """Terms added from the left: ints are numbers of terms, sums are formed first. fused: all added at once.

    Terms that are fused are rounded once, together.
    """

    terms: tuple[Term, ...]
    fused: bool = False

    def sums(self) -> Iterator[Sum]:
        """This sum and all sums in it."""
        yield self
        for term in self.terms:
            if isinstance(term, Sum):
                yield from term.sums()

    def numbers(self) -> Iterator[int]:
        """The terms' numbers, in the order in which they are added."""
        for term in self.terms:
            if isinstance(term, Sum):
                yield from term.numbers()
            else:
                yield term

    @property
    def length(self) -> int:
        """Terms in all."""
        return sum(len(each.single) for each in self.sums())

    @property
    def single(self) -> list[int]:
        """The terms that are numbers, not sums."""
        return [term for term in self.terms if isinstance(term, int)]

    @property
    def longest(self) -> Sum:
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
            numbers = list(term.numbers()) if isinstance(term, Sum) else [term]
            here = (i in numbers) + (j in numbers)
            if here == 2 and isinstance(term, Sum):
                return term.subtree_size(i, j)
            size, met = size + len(numbers), met + here
            if met == 2 and not self.fused:
                return size
        return self.length


def sequential(n: int) -> Sum:
    """n terms, one after another."""
    return Sum(tuple(range(n)))


def blocked(n: int, length: int) -> Sum:
    """Blocks of `length` terms, each summed one after another and then added to the blocks before it."""
    later = (range(start, min(start + length, n)) for start in range(length, n, length))
    return Sum((*range(min(length, n)), *(Sum(tuple(b)) if len(b) > 1 else b[0] for b in later)))


def pairwise(n: int, start: int = 0) -> Sum:
    """Halves, each summed likewise. Source: Higham, Accuracy and Stability of Numerical Algorithms, section 4.1."""
    if n <= 2:
        return Sum(tuple(range(start, start + n)))
    half = (n + 1) // 2
    right = pairwise(n - half, start + half) if n > 3 else start + half
    return Sum((pairwise(half, start), right))
