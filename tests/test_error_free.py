"""What sums and products lose, against exact rationals, for arrays and tensors."""

from fractions import Fraction
from functools import partial

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linear_lasagna.error_free import halves, product_error, two_sum

NUMBERS = st.floats(-(2.0**400), 2.0**400, allow_subnormal=False).filter(lambda a: a == 0 or abs(a) > 2.0**-400)
KINDS = pytest.mark.parametrize(
    "kind", [numpy.array, partial(torch.tensor, dtype=torch.float64)], ids=["array", "tensor"]
)


def significand_bits(number):
    """Of the integer that it is a power of two of."""
    integer = abs(number.as_integer_ratio()[0])
    return (integer // ((integer & -integer) or 1)).bit_length()


@KINDS
@given(NUMBERS, NUMBERS)
def test_a_sum_and_what_it_loses(kind, a, b):
    total, lost = (each.item() for each in two_sum(kind([a]), kind([b])))
    assert total == a + b
    assert Fraction(total) + Fraction(lost) == Fraction(a) + Fraction(b)


@KINDS
@given(NUMBERS, NUMBERS)
def test_a_product_and_what_it_loses(kind, a, b):
    first, second = kind([a]), kind([b])
    product = first * second
    lost = product_error(product, halves(first), halves(second))
    assert Fraction(product.item()) + Fraction(lost.item()) == Fraction(a) * Fraction(b)


@KINDS
@given(NUMBERS)
def test_halves_have_26_bits(kind, a):
    high, low = (each.item() for each in halves(kind([a])))
    assert Fraction(high) + Fraction(low) == Fraction(a)
    assert max(map(significand_bits, (high, low))) <= 26
