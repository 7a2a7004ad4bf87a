"""Sums side by side equal the replay of each alone, bit for bit."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.rounding.batched_sums import Products, plans, products, sum_errors
from linear_lasagna.rounding.replay import Factors, replay
from linear_lasagna.rounding.summation_tree import ORDERS, Accumulation


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(st.integers(1, 130), st.integers(0, 2**32 - 1), st.booleans())
def test_equals_replay(dtype, n, seed, bias):
    draw = numpy.random.default_rng(seed)
    single = dtype is torch.float32
    factors = [draw.standard_normal((n, 3, 2)) for _ in range(2)]
    factors = [each.astype(numpy.float32).astype(numpy.float64) if single else each for each in factors]
    loops = [draw.permutation(n) for _ in range(2)]
    shift = draw.standard_normal(2).astype(numpy.float32).astype(numpy.float64)
    terms = products(*factors, single, numpy.array(loops), shift if bias else None)
    numbers = [Factors(*pair) for pair in zip(*factors, strict=True)] + [Factors(numpy.broadcast_to(shift, (3, 2)))]
    most = n**2 * (2.0**-52 if single else 2.0**-100) * numpy.abs(terms.high).sum(0).max()
    orders = list(dict.fromkeys(order(n + bias, bias) for order in ORDERS.values()))
    alone = [tree for order in orders for plan in plans([order]) for tree in sum_errors(terms, plan)]
    for order, found in zip(orders, alone, strict=True):
        for errors, loop in zip(found, loops, strict=True):
            how = Accumulation(order.renumbered([*loop, n]), SIGNIFICAND_BITS[dtype])
            expected = replay(numbers.__getitem__, how, dtype).errors
            assert numpy.abs(errors - expected).max() <= most + 2.0**-52 * numpy.abs(expected).max()
    together = [tree for plan in plans(orders * 2) for tree in sum_errors(terms, plan)]
    assert sorted(each.tobytes() for each in together) == sorted(each.tobytes() for each in alone)


@pytest.mark.parametrize("single", [True, False])
def test_sums_that_may_overflow_are_told(single):
    largest = 2.0 ** (127 if single else 970)
    for size, fit in ((largest / 2**10, True), (largest / 2, False)):
        terms = numpy.array([[size], [-size], [size]])
        assert Products(terms, None if single else numpy.zeros_like(terms)).fit is fit
