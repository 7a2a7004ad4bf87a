"""A routine that sums, and how it is probed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from linear_lasagna.formats import SIGNIFICAND_BITS

# adder(terms, value): (questions, n) -> (questions,), both float64: sums of value * term, the bias's not multiplied.
Adder: TypeAlias = Callable[[torch.Tensor, float], torch.Tensor]

# Unit terms, and terms that absorb any number of them in every accumulator and overflow in none.
UNITS = {torch.float16: 2.0**-24, torch.bfloat16: 1.0, torch.float32: 1.0, torch.float64: 1.0}
HUGE = {torch.float16: 2.0**15, torch.bfloat16: 2.0**100, torch.float32: 2.0**100, torch.float64: 2.0**300}


@dataclass(frozen=True)
class AdderProbe:
    """An adder of n terms of `dtype` that answers `rows` questions a call. bias: whether the last term is one."""

    adder: Adder
    n: int
    rows: int
    dtype: torch.dtype
    bias: bool = False

    def measure(self, questions: Sequence[dict[int, float]], units: range = range(0)) -> list[float]:
        """The sums, in units, of terms given by number; of the others those in `units` are units, the rest zero."""
        unit, sums = UNITS[self.dtype], []
        for start in range(0, len(questions), self.rows):
            part = questions[start : start + self.rows]
            table = torch.zeros(len(part), self.n, dtype=torch.float64)
            table[:, units.start : units.stop] = unit
            given = [(row, number, value) for row, each in enumerate(part) for number, value in each.items()]
            if given:
                rows, numbers, values = (list(column) for column in zip(*given, strict=True))
                table[rows, numbers] = torch.tensor(values, dtype=torch.float64)
            sums += (self.adder(table, 1.0) / unit).tolist()
        return sums

    def lost(self, questions: Sequence[dict[int, float]]) -> list[int]:
        """How many of n units do not survive, for each question; -1 where a sum is not finite.

        No more units are given at a time than the storage dtype can count.
        """
        kept, step = [0.0] * len(questions), 2 ** SIGNIFICAND_BITS[self.dtype]
        for start in range(0, self.n, step):
            sums = self.measure(questions, range(start, min(start + step, self.n)))
            kept = [a + b for a, b in zip(kept, sums, strict=True)]
        return [self.n - round(count) if math.isfinite(count) else -1 for count in kept]

    def subtree_sizes(self, i: int, others: Sequence[int]) -> list[int]:
        """For each j of others the number of terms in the least subtree with i and j; -1 where there is no telling."""
        huge = HUGE[self.dtype]
        return self.lost([{i: huge, j: -huge} for j in others])
