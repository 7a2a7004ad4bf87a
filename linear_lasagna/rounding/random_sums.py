"""Random rows of terms, on which what was found of an adder is checked to the last bit of every sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy
import torch

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.rounding.adder_probe import Questions
from linear_lasagna.rounding.replay import Factors, replay, storage_format
from linear_lasagna.rounding.summation_tree import Accumulation, Sum, Term

ROWS = 64  # of terms of both signs, and as many of one sign
FACTOR = 1.3712345678912345  # that all terms but a bias are multiplied by, rounded: products then have 2 p bits
LARGEST = 2.0**15  # sum of the terms' sizes; float16 holds FACTOR times as much


def fitting(questions: Questions, how: Accumulation) -> Accumulation | None:
    """What is found, with the rounding that the adder does, to nearest or toward zero; None where it does neither.

    So adders are told apart that lose the same units: compensated, stochastic and truncating ones from plain ones; and,
    with fused multiply-add, which of the first two terms of a running sum is the product that is rounded by itself.
    """
    if how.order is None:
        return None
    orders = dict.fromkeys(map(how.order.started, _starts(questions.n - 1)))
    candidates = [replace(how, order=order, truncated=cut) for order in orders for cut in (False, True)]
    rows = random_rows(questions, how.bits, ROWS)
    answers = _answers(questions, rows)
    return next((each for each in candidates if answers.equal(_replayed(questions, rows, each))), None)


def _starts(last: int) -> Iterator[Callable[[Term, Term], bool]]:
    """Which first terms of running sums to swap, because a tree does not tell which came first."""
    for sums in (False, True):
        yield lambda a, b, sums=sums: sums and isinstance(b, Sum)
        yield lambda a, b, sums=sums: b == last or (sums and isinstance(b, Sum))  # the bias, if there is one
        yield lambda a, b, sums=sums: isinstance(b, int) or sums


def fits(questions: Questions, how: Accumulation) -> bool:
    """Whether sums formed again as `how` says have the adder's bits, on random rows."""
    rows = random_rows(questions, how.bits, ROWS)
    return _answers(questions, rows).equal(_replayed(questions, rows, how))


def _answers(questions: Questions, rows: torch.Tensor) -> torch.Tensor:
    value = factor(questions.dtype)
    return torch.cat([questions.adder(part, value) for part in rows.split(questions.rows)])


def _replayed(questions: Questions, rows: torch.Tensor, how: Accumulation) -> torch.Tensor:
    numbers, value = rows.T.contiguous().numpy(), numpy.array(factor(questions.dtype))
    terms = [Factors(number, value) for number in numbers]
    if questions.bias:
        terms[-1] = Factors(numbers[-1])
    values = replay(terms.__getitem__, how, questions.dtype).values
    return torch.from_numpy(storage_format(questions.dtype).round(values))


def factor(dtype: torch.dtype) -> float:
    """What the rows are to be multiplied by, a number of the dtype."""
    return float(torch.tensor(FACTOR, dtype=dtype))


def random_rows(questions: Questions, bits: int, rows: int) -> torch.Tensor:
    """rows of terms of both signs, then as many of one sign: float64, (2 * rows, n), numbers of the storage dtype.

    In a format much narrower than the running sum's `bits` the rounding to storage would hide how the sum was made. So
    some terms of the former rows cancel what the others come to, until what is left shows the running sum's last bits.
    """
    n, dtype, precision = questions.n, questions.dtype, SIGNIFICAND_BITS[questions.dtype]
    generator = torch.Generator().manual_seed(0)
    signed, positive = torch.rand(2, rows, n, generator=generator, dtype=torch.float64)
    terms = torch.cat([2 * signed - 1, positive]).mul(LARGEST / n).to(dtype).double()
    cancelling = min(math.ceil(bits / precision), n - 1) if bits > precision else 0
    places = torch.rand(rows, n, generator=generator).argsort(1)[:, :cancelling]
    terms[:rows] = terms[:rows].scatter(1, places, 0.0)
    factors = _factors(questions)
    for place in places.split(1, 1):
        left = (terms[:rows] * factors).sum(1, keepdim=True)
        terms[:rows] = terms[:rows].scatter(1, place, (-left / factors[place]).to(dtype).double())
    return terms


def _factors(questions: Questions) -> torch.Tensor:
    """What each term is multiplied by: (n,)."""
    factors = torch.full((questions.n,), factor(questions.dtype), dtype=torch.float64)
    factors[questions.n - questions.bias :] = 1.0
    return factors
