"""Sums in float32 side by side equal the replay of each alone, bit for bit."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linear_lasagna.rounding.replay import Factors, replay
from linear_lasagna.rounding.single_sums import fits, sum_errors
from linear_lasagna.rounding.summation_tree import ORDERS, Accumulation


@given(st.integers(1, 130), st.integers(0, 2**32 - 1), st.sampled_from(sorted(ORDERS)), st.booleans())
def test_equals_replay(n, seed, name, bias):
    draw = numpy.random.default_rng(seed)
    factors = [draw.standard_normal((n, 3, 2)).astype(numpy.float32).astype(numpy.float64) for _ in range(2)]
    order = ORDERS[name](n, bias)
    order = order.renumbered(draw.permutation(n).tolist())
    expected = replay(lambda i: Factors(factors[0][i], factors[1][i]), Accumulation(order, 24), torch.float32)
    products = factors[0] * factors[1]
    found = sum_errors(products, order)
    assert numpy.abs(found - expected.errors).max() <= n**2 * 2.0**-52 * numpy.abs(products).sum(0).max()
    assert numpy.array_equal((found + products.sum(0)).astype(numpy.float32), expected.values)


@pytest.mark.parametrize(("size", "fit"), [(2.0**100, True), (2.0**126, False)])
def test_sums_that_may_overflow_are_told(size, fit):
    assert fits(numpy.array([[size], [-size], [size]])) is fit
