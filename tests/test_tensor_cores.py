"""Sums as tensor cores form them: against what an H100 gave, and against sums formed by hand of rationals."""

import math
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
import torch

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.rounding.adder_probe import AdderProbe
from linear_lasagna.rounding.random_sums import factor
from linear_lasagna.rounding.replay import Factors, replay, storage_format
from linear_lasagna.rounding.summation_probe import probe_summation
from linear_lasagna.rounding.summation_tree import Accumulation, SummationTree

# Of a 3x3 layer with 16 channels on a constant image, (32, 144) weights and (32,) outputs, as 16-bit patterns: NVIDIA
# H100, torch 2.11, cuDNN 9.19, cuBLAS 13.1.
H100 = numpy.load(Path(__file__).parent / "h100" / "sums.npz")
BLOCK = 16
# cuDNN adds the channels of one tap at once, cuBLAS the columns of the unfolded image as they lie.
ORDERS = {"direct": lambda block, i: 9 * i + block, "unfold_matmul": lambda block, i: BLOCK * block + i}


def at_once(blocks, head=None):
    """One block after another, each added at once with the sum of those before it."""
    for block in blocks:
        head = SummationTree(tuple(block) if head is None else (head, *block), fused=True)
    return head


def numbers(name, dtype):
    return torch.from_numpy(H100[name]).view(getattr(torch, dtype)).double()


@pytest.mark.parametrize("method", ORDERS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_formed_again_are_an_h100_s(dtype, method):
    """To the last bit; other widths and roundings are told apart from it, and so are other orders."""
    terms, sums = (numbers(f"{dtype} {method} {what}", dtype) for what in ("terms", "sums"))
    dtype, columns = getattr(torch, dtype), terms.T.contiguous().numpy()
    value = numpy.array(factor(dtype))

    def right(how):
        found = replay(lambda i: Factors(columns[i], value), how, dtype)
        return int((storage_format(dtype).round(found.values) == sums.numpy()).sum())

    def order(of):
        return at_once([[ORDERS[of](block, i) for i in range(BLOCK)] for block in range(9)])

    assert right(Accumulation(order(method), 24, aligned=26)) == len(sums)
    other = next(name for name in ORDERS if name != method)
    plain = SummationTree(tuple(order(method).numbers()))
    wrong = [
        *(Accumulation(order(method), 24, aligned=bits) for bits in (24, 25, 27, None)),
        *(Accumulation(order(method), 23, aligned=26), Accumulation(order(other), 24, aligned=26)),
        *(Accumulation(plain, 24), Accumulation(plain, 24, truncated=True)),
    ]
    if dtype is torch.float16:  # products of bfloat16 have 16 bits, of which cutting to 26 takes little
        assert max(map(right, wrong)) <= len(sums) - 4


def exponent(number):
    """Of the leading bit of a rational that is not 0."""
    return math.frexp(number)[1] - 1


def cut(number, unit):
    return int(number / unit) * unit


def by_hand(order, aligned, bits):
    """Adds rationals as tensor cores add; products of float16 are exact in float64."""

    def total(order, row, value):
        parts = []
        for term in order.terms:
            if isinstance(term, SummationTree):
                part = total(term, row, value)
                parts.append((part, exponent(part) if part else None))
            else:
                number = Fraction(float(row[term])) * Fraction(value)
                parts.append((number, exponent(row[term]) + exponent(value) if number else None))
        known = [found for _, found in parts if found is not None]
        if not known:
            return Fraction(0)
        summed = sum(cut(part, Fraction(2) ** (max(known) - aligned + 1)) for part, _ in parts)
        return cut(summed, Fraction(2) ** (exponent(summed) - bits + 1)) if summed else Fraction(0)

    def adder(terms, value):
        sums = [float(total(order, row, value)) for row in terms.tolist()]
        return torch.tensor(sums, dtype=torch.float64).half().double()

    return adder


@pytest.mark.parametrize("aligned", [24, 25, 26])
@pytest.mark.parametrize("block", [4, 8, 16])
def test_blocks_and_widths_are_found(block, aligned):
    order = at_once([range(start, min(start + block, 36)) for start in range(0, 36, block)])
    found = probe_summation(AdderProbe(by_hand(order, aligned, 24), 36, 16, torch.float16))
    assert found is not None
    assert found.order is not None
    assert [set(each.single) for each in found.order.sums()] == [set(each.single) for each in order.sums()]
    assert (found.bits, found.aligned, found.fused) == (24, aligned, True)


def test_one_block_is_found():
    """Whose sum is rounded once, to the usual accumulator for all that can be seen."""
    found = probe_summation(AdderProbe(by_hand(at_once([range(12)]), 26, 24), 12, 16, torch.float16))
    assert found is not None
    assert (found.bits, found.aligned) == (SIGNIFICAND_BITS[torch.float32], 26)


def test_errors_are_what_is_lost():
    draw = torch.Generator().manual_seed(3)
    terms = torch.rand(20, 36, generator=draw, dtype=torch.float64).sub(0.5).half().double()
    order = at_once([range(start, start + 12) for start in range(0, 36, 12)])
    found = replay(lambda i: Factors(terms[:, i].numpy()), Accumulation(order, 11, aligned=12), torch.float16)
    pairs = zip(found.values.tolist(), terms.tolist(), strict=True)
    lost = [float(Fraction(value) - sum(map(Fraction, row))) for value, row in pairs]
    assert numpy.allclose(found.errors, lost, rtol=1e-9, atol=0)
    assert all(map(abs, lost))


def test_zeros_have_no_exponent():
    """However small the numbers beside them are."""
    draw = torch.Generator().manual_seed(4)
    small, kept = torch.rand(2, 40, 12, generator=draw, dtype=torch.float64)
    terms = (small * 2**-9 * (kept < 0.6)).half().double()
    order, how = at_once([range(4), range(4, 8), range(8, 12)]), {"bits": 11, "aligned": 12}
    found = replay(lambda i: Factors(terms[:, i].numpy(), numpy.array(1.5)), Accumulation(order, **how), torch.float16)
    assert by_hand(order, **how)(terms, 1.5).equal(torch.from_numpy(found.values).half().double())
