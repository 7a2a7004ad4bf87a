"""Check an adder's accumulation on random rows of terms, to the last bit of every sum."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy
import torch

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.rounding.adder_probe import AdderProbe
from linear_lasagna.rounding.replay import Factors, replay, storage_format
from linear_lasagna.rounding.summation_tree import Accumulation, SummationTree, Term

ROWS = 64  # of terms of both signs, and as many of one sign
STARTS = 32  # rows of two terms
FACTOR = 1.3712345678912345  # that all terms but a bias are multiplied by, rounded: products then have 2 p bits
LARGEST = 2.0**15  # sum of the terms' sizes; float16 holds FACTOR times as much


def fitting(probe: AdderProbe, how: Accumulation) -> Accumulation | None:
    """The accumulation with the adder's rounding, to nearest or toward zero; None where its bits are of neither.

    So adders are told apart that lose the same units: compensated, stochastic and truncating ones from plain ones; and,
    with fused multiply-add, which of the first two terms of a running sum is the product that is rounded by itself.
    """
    if how.order is None:
        return None
    orders = dict.fromkeys(map(how.order.started, _starts(probe.n - 1)))
    candidates = [replace(how, order=order, truncated=cut) for order in orders for cut in (False, True)]
    rows = random_rows(probe, how.bits, ROWS)
    answers = _answers(probe, rows)
    fit = [each for each in candidates if answers.equal(replayed(probe, rows, each))]
    if len(fit) < 2 or probe.n < 2:
        return next(iter(fit), None)
    rows = starting_rows(probe, how)
    answers = _answers(probe, rows)
    return max(fit, key=lambda each: int((replayed(probe, rows, each) == answers).sum()))


def starting_rows(probe: AdderProbe, how: Accumulation) -> torch.Tensor:
    """Rows in which one running sum's first two terms are all there is: (STARTS, n). In long sums nothing else tells
    which of them was rounded by itself.
    """
    assert how.order is not None
    pairs = [[_number(term) for term in each.terms[:2]] for each in how.order.sums() if len(each.terms) > 1]
    rows, kept = random_rows(probe, how.bits, STARTS)[:STARTS], torch.zeros(STARTS, probe.n, dtype=torch.float64)
    for row, pair in zip(kept, random.Random(0).choices(pairs, k=STARTS), strict=True):
        row[pair] = 1.0
    return rows * kept


def _number(term: Term) -> int:
    """The first of a term's."""
    return term if isinstance(term, int) else next(term.numbers())


def _starts(last: int) -> Iterator[Callable[[Term, Term], bool]]:
    """Which first terms of running sums to swap, because a tree does not tell which came first."""
    for sums in (False, True):
        yield lambda a, b, sums=sums: sums and isinstance(b, SummationTree)
        yield lambda a, b, sums=sums: b == last or (sums and isinstance(b, SummationTree))  # the bias, if there is one
        yield lambda a, b, sums=sums: isinstance(b, int) or sums


def fits(probe: AdderProbe, how: Accumulation) -> bool:
    """Whether sums formed again as `how` says have the adder's bits, on random rows."""
    rows = random_rows(probe, how.bits, ROWS)
    return _answers(probe, rows).equal(replayed(probe, rows, how))


def _answers(probe: AdderProbe, rows: torch.Tensor) -> torch.Tensor:
    value = factor(probe.dtype)
    return torch.cat([probe.adder(part, value) for part in rows.split(probe.rows)])


def replayed(probe: AdderProbe, rows: torch.Tensor, how: Accumulation) -> torch.Tensor:
    """The rows' sums, formed again as `how` says and rounded to storage: float64, (rows,)."""
    numbers, value = rows.T.contiguous().numpy(), numpy.array(factor(probe.dtype))
    terms = [Factors(number, value) for number in numbers]
    if probe.bias:
        terms[-1] = Factors(numbers[-1])
    values = replay(terms.__getitem__, how, probe.dtype).values
    return torch.from_numpy(storage_format(probe.dtype).round(values))


def factor(dtype: torch.dtype) -> float:
    """What the rows are to be multiplied by, a number of the dtype."""
    return float(torch.tensor(FACTOR, dtype=dtype))


def random_rows(probe: AdderProbe, bits: int, rows: int) -> torch.Tensor:
    """rows of terms of both signs, then as many of one sign: float64, (2 * rows, n), numbers of the storage dtype.

    In a format much narrower than the running sum's `bits` the rounding to storage would hide how the sum was made. So
    some terms of the former rows cancel what the others come to, until what is left shows the running sum's last bits.
    """
    n, dtype, precision = probe.n, probe.dtype, SIGNIFICAND_BITS[probe.dtype]
    generator = torch.Generator().manual_seed(0)
    signed, positive = torch.rand(2, rows, n, generator=generator, dtype=torch.float64)
    terms = torch.cat([2 * signed - 1, positive]).mul(LARGEST / n).to(dtype).double()
    cancelling = min(math.ceil(bits / precision), n - 1) if bits > precision else 0
    places = torch.rand(rows, n, generator=generator).argsort(1)[:, :cancelling]
    terms[:rows] = terms[:rows].scatter(1, places, 0.0)
    factors = _factors(probe)
    for place in places.split(1, 1):
        left = (terms[:rows] * factors).sum(1, keepdim=True)
        terms[:rows] = terms[:rows].scatter(1, place, (-left / factors[place]).to(dtype).double())
    return terms


def _factors(probe: AdderProbe) -> torch.Tensor:
    """What each term is multiplied by: (n,)."""
    factors = torch.full((probe.n,), factor(probe.dtype), dtype=torch.float64)
    factors[probe.n - probe.bias :] = 1.0
    return factors
