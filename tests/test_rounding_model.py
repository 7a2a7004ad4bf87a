"""Bounds, orders of summation found by asking, and the predicted error, on seeds that nothing was chosen by."""

from __future__ import annotations

import importlib
import math
import pickle
import random
from fractions import Fraction
from functools import partial
from itertools import pairwise as pairs
from statistics import median

import numpy
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_predictions import SETS, some, told
from strategies import DTYPES, SEEDS, SUMMED, integer_numbers, mergeable_problems

from linear_lasagna import METHODS, SCHEDULES, Kernel, Layer, Problem
from linear_lasagna.exact import convolve
from linear_lasagna.formats import SIGNIFICAND_BITS, unit_roundoff
from linear_lasagna.merging import merge_stack
from linear_lasagna.methods import Method
from linear_lasagna.metrics import relative_l2
from linear_lasagna.rounding import (
    accumulation,
    failure,
    gamma,
    layer_bound,
    predict_error,
    predict_error_range,
    probabilistic_sum_bound,
    propagation,
    sum_bound,
)
from linear_lasagna.rounding.accumulation import assumed, followed
from linear_lasagna.rounding.merged import merged_kernel
from linear_lasagna.rounding.propagation import ErrorMoments, Ground, Setting, noise
from linear_lasagna.rounding.replay import Factors, replay
from linear_lasagna.rounding.reveal import reveal
from linear_lasagna.rounding.scatter import parts_of, ratio_interval, scatter
from linear_lasagna.rounding.summation_probe import Accumulation, AdderProbe, probe_summation
from linear_lasagna.rounding.summation_tree import ORDERS, SummationTree, blocked, pairwise, sequential
from linear_lasagna.rounding.variance import drawn_positions, layer_error
from tests.planted import added

WIDE, NARROW = numpy.float32, numpy.float16
NUMPY = {torch.float16: NARROW, torch.float32: WIDE}
TOLERANCE = {torch.float16: 0.1, torch.bfloat16: 0.1, torch.float32: 0.25, torch.float64: 0.25}
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


# Bounds


@given(n=st.integers(1, 10**6), dtype=st.sampled_from(DTYPES))
def test_gamma_and_nu(n, dtype):
    u = Fraction(unit_roundoff(dtype))
    assert Fraction(sum_bound(n, dtype)) == n * u
    if n * u >= 1:
        assert gamma(n, dtype) == math.inf
    else:
        assert gamma(n, dtype) == pytest.approx(float(n * u / (1 - n * u)), rel=1e-12)
        assert gamma(n, dtype) >= sum_bound(n, dtype)


def test_probable_bound():
    assert probabilistic_sum_bound(10**6, torch.float32) == pytest.approx(1000 * 2.0**-24, rel=1e-3)
    assert probabilistic_sum_bound(10**6, torch.float32, lam=8) < sum_bound(10**6, torch.float32) / 100
    assert failure(100, torch.float32, lam=8) < 1e-10
    assert failure(100, torch.float32, lam=1) == 1


@dtypes
def test_narrow_and_wide_sums(dtype):
    u, n = unit_roundoff(dtype), 100
    narrow = layer_bound(n, 1, dtype, sums=dtype)
    assert narrow == (n + 1) * u
    if dtype.itemsize == 2:
        wide = (1 + Fraction(u)) * (1 + n * Fraction(1, 2**24)) - 1
        assert layer_bound(n, 1, dtype) == pytest.approx(float(wide), rel=1e-12)
        assert layer_bound(n, 1, dtype) < narrow / 50
    else:
        assert layer_bound(n, 1, dtype) == narrow


# Orders

accumulation_module = importlib.import_module("linear_lasagna.rounding.accumulation")


@st.composite
def orders(draw, least=3, most=24):
    """Any order of summation in which a running sum takes up numbers and other sums."""
    numbers = draw(st.permutations(range(draw(st.integers(least, most)))))

    def tree(part):
        if len(part) == 1:
            return part[0]
        ends = sorted({0, len(part), *draw(st.lists(st.integers(1, len(part) - 1), min_size=1, max_size=6))})
        return SummationTree(tuple(tree(part[a:b]) for a, b in pairs(ends)))

    return tree(numbers)


def running_sums(order):
    """The terms in every running sum, at every moment: what makes two orders the same."""
    found = set()
    for each in order.sums():
        taken = frozenset()
        for term in each.terms:
            taken |= frozenset(term.numbers() if isinstance(term, SummationTree) else [term])
            if not each.fused or taken == frozenset(each.numbers()):
                found.add(taken)
    return {taken for taken in found if len(taken) > 1}


@given(order=orders())
def test_every_order_is_revealed(order):
    found = reveal(order.length, lambda i, others: [order.subtree_size(i, j) for j in others])
    assert found is not None
    assert running_sums(found) == running_sums(order)


def test_sums_of_several_at_once_are_revealed():
    fours = [SummationTree(tuple(range(start, start + 4)), fused=True) for start in (0, 4, 8)]
    order = SummationTree((SummationTree((fours[0], 12)), fours[1], fours[2]))
    found = reveal(13, lambda i, others: [order.subtree_size(i, j) for j in others])
    assert found is not None
    assert running_sums(found) == running_sums(order)
    assert sum(each.fused for each in found.sums()) == 3


def test_sum_from_the_far_end_is_revealed():
    order = SummationTree(tuple(reversed(range(700))))
    assert reveal(700, lambda i, others: [order.subtree_size(i, j) for j in others]) == order


def test_what_fits_no_tree():
    draw = random.Random(0)
    assert reveal(9, lambda i, others: [draw.randint(2, 9) for _ in others]) is None
    assert reveal(9, lambda i, others: [-1 for _ in others]) is None


def test_usual_orders():
    assert blocked(10, 4) == SummationTree((0, 1, 2, 3, SummationTree((4, 5, 6, 7)), SummationTree((8, 9))))
    assert blocked(9, 4).terms[-1] == 8
    assert pairwise(5) == SummationTree((SummationTree((SummationTree((0, 1)), 2)), SummationTree((3, 4))))
    assert [sequential(6).chains, blocked(10, 4).chains, len(blocked(10, 4).longest.single)] == [1, 3, 4]
    assert [blocked(10, 4).subtree_size(*pair) for pair in ((0, 1), (0, 5), (4, 6), (5, 9), (8, 9))] == [2, 8, 3, 10, 2]


def adder_of(order, running=WIDE, storage=None, fused=True, stored=(), bias=False):
    """Adds by hand in a given order; `running` is the running sum's type, `storage` the result's.

    bias: whether the last term is one, which nothing is multiplied by.
    """

    def total(order, products):
        result = None
        for place, term in enumerate(order.terms):
            if isinstance(term, SummationTree):
                value = total(term, products)
            else:
                value = products[:, term] if fused else products[:, term].astype(running)
            value = value if result is None else result.astype(numpy.float64) + value
            result = value.astype(running)
            if order is outer and place in stored:
                result = result.astype(storage).astype(running)
        return result

    outer = order

    def adder(terms, value):
        products = terms.numpy() * value
        if bias:
            products[:, -1] = terms[:, -1]
        with numpy.errstate(over="ignore", invalid="ignore"):
            y = total(order, products)
        return torch.from_numpy(y.astype(storage or running).astype(numpy.float64))

    return adder


@pytest.mark.parametrize(
    ("order", "longest"), [(sequential(50), 50), (blocked(60, 16), 16), (pairwise(32), 2), (blocked(50, 7), 8)]
)
@pytest.mark.parametrize("running", [numpy.float32, numpy.float64])
def test_known_order_is_found(order, longest, running):
    dtype = torch.float32 if running is numpy.float32 else torch.float64
    found = probe_summation(AdderProbe(adder_of(order, running), order.length, 16, dtype))
    assert found is not None
    assert found.order is not None
    assert running_sums(found.order) == running_sums(order)
    assert len(found.order.longest.single) == longest
    assert found.bits == SIGNIFICAND_BITS[dtype]


@pytest.mark.parametrize(
    "order", [sequential(40), blocked(40, 8), pairwise(40)], ids=["sequential", "blocked", "pairwise"]
)
@pytest.mark.parametrize(
    ("dtype", "running", "bits"),
    [
        (torch.float16, numpy.float16, 11),
        (torch.float16, numpy.float32, 24),
        (torch.float32, numpy.float32, 24),
        (torch.float32, numpy.float64, 53),
    ],
)
def test_width_of_the_accumulator_is_found(order, dtype, running, bits):
    """No order hides a narrow accumulator."""
    found = probe_summation(AdderProbe(adder_of(order, running, NUMPY[dtype]), 40, 8, dtype))
    assert found is not None
    assert (found.bits, found.stored) == (bits, ())


def test_width_that_the_storage_cannot_ask_for():
    """float16 holds no number that a float64 accumulator would absorb."""
    assert probe_summation(AdderProbe(adder_of(sequential(40), numpy.float64, NARROW), 40, 8, torch.float16)) is None


def test_more_terms_than_the_storage_can_count():
    """bfloat16 counts to 256 only."""
    order = blocked(600, 100)

    def adder(terms, value):
        return adder_of(order)(terms, value).to(torch.bfloat16).double()

    found = probe_summation(AdderProbe(adder, 600, 100, torch.bfloat16))
    assert found is not None
    assert found.order == order


@pytest.mark.parametrize("stored", [(), (4,), (3, 7, 11)])
def test_roundings_to_storage_are_found(stored):
    found = probe_summation(AdderProbe(adder_of(sequential(16), WIDE, NARROW, stored=stored), 16, 8, torch.float16))
    assert found is not None
    assert found.stored == stored


BIAS_FIRST = SummationTree((19, *range(19)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("order", [blocked(20, 6), BIAS_FIRST], ids=["blocked", "last first"])
@pytest.mark.parametrize("fused", [True, False])
def test_fused_multiply_add_is_found(fused, order, bias):
    """Asked with products: a bias is none."""
    found = probe_summation(AdderProbe(adder_of(order, fused=fused, bias=bias), 20, 8, torch.float32, bias))
    assert found is not None
    assert running_sums(found.order) == running_sums(order)
    assert found.fused is fused


@pytest.mark.parametrize("first", [(599, 0), (0, 599)], ids=["bias first", "product first"])
def test_which_term_begins_a_long_sum_is_found(first):
    """The first product is rounded by itself, or with the bias: of 600 terms few sums show it."""
    order = SummationTree((*first, *range(1, 599)))
    found = probe_summation(AdderProbe(adder_of(order, bias=True), 600, 100, torch.float32, bias=True))
    assert found is not None
    assert found.order == order


def test_what_does_not_add_in_an_order_is_refused():
    draw = random.Random(0)

    def fickle(terms, value):
        return adder_of(SummationTree(tuple(draw.sample(range(12), 12))))(terms, value)

    def partial(terms, value):
        usual, other = (adder_of(order)(terms, value) for order in (sequential(12), pairwise(12)))
        return torch.where(terms[:, 0].abs() > 1, usual, other)

    def exact(terms, value):
        return torch.tensor([math.fsum(row) for row in (terms * value).tolist()], dtype=torch.float64)

    def flushing(terms, value):
        return torch.where(terms.abs() < 2, 0.0, terms).sum(1)

    for adder in (fickle, partial, exact, flushing):
        assert probe_summation(AdderProbe(adder, 12, 4, torch.float32)) is None


def truncated(y):
    """Float64 y to float32, toward zero."""
    nearest = y.astype(WIDE)
    return numpy.where(numpy.abs(nearest) > numpy.abs(y), numpy.nextafter(nearest, WIDE(0)), nearest).astype(WIDE)


def running_adder(step):
    """One after another; step(sum, product, row's number) -> the next sum, in float64."""

    def adder(terms, value):
        products, total = terms.numpy() * value, numpy.zeros(len(terms))
        for column in products.T:
            total = step(total, column)
        return torch.from_numpy(numpy.asarray(total, numpy.float64))

    return adder


def kahan(terms, value):
    """Compensated summation in float32. Source: Higham, Accuracy and Stability of Numerical Algorithms, (4.8)."""
    products = (terms.numpy() * value).astype(WIDE)
    total, lost = numpy.zeros((2, len(products)), WIDE)
    for column in products.T:
        y = column - lost
        new = total + y
        total, lost = new, (new - total) - y
    return torch.from_numpy(total.astype(numpy.float64))


def stochastic(draw):
    def step(total, product):
        exact = total + product
        nearest = exact.astype(WIDE)
        other = numpy.nextafter(nearest, numpy.where(exact > nearest, WIDE(numpy.inf), WIDE(-numpy.inf)))
        share = numpy.abs(exact - nearest) / numpy.abs(other - nearest.astype(numpy.float64))
        return numpy.where(draw.random(len(exact)) < share, other, nearest).astype(numpy.float64)

    return running_adder(step)


def fickle(draw, n):
    """One after another, from the first term or from the middle."""
    orders = sequential(n), SummationTree((*range(n // 2, n), *range(n // 2)))

    def adder(terms, value):
        first, second = (adder_of(order)(terms, value) for order in orders)
        return torch.where(torch.from_numpy(draw.random(len(terms)) < 0.2), first, second)

    return adder


@pytest.mark.parametrize("n", [4, 5, 30, 200])
@pytest.mark.parametrize("name", ["kahan", "stochastic", "fickle"])
def test_other_adders_are_not_taken_for_plain_ones(name, n):
    """They lose the same units as plain ones, or one bit fewer."""
    for seed in range(3):
        draw = numpy.random.default_rng(seed)
        adder = {"kahan": kahan, "stochastic": stochastic(draw), "fickle": fickle(draw, n)}[name]
        assert probe_summation(AdderProbe(adder, n, 16, torch.float32)) is None


@pytest.mark.parametrize("n", [3, 4, 30, 200])
def test_truncating_adder_is_found(n):
    adder = running_adder(lambda total, product: truncated(total + product).astype(numpy.float64))
    found = probe_summation(AdderProbe(adder, n, 16, torch.float32))
    assert found is not None
    assert running_sums(found.order) == running_sums(sequential(n))
    assert (found.bits, found.truncated) == (24, True)
    plain = probe_summation(AdderProbe(adder_of(sequential(n)), n, 16, torch.float32))
    assert plain is not None
    assert not plain.truncated


@pytest.mark.parametrize("signs", ["random", "positive"])
def test_error_of_a_truncating_adder_is_predicted(monkeypatch, signs):
    """Of positive numbers all errors are of one sign: to nearest they would be 15 times smaller."""
    problem = Problem("wide", 1, 512, (6, 6), (Layer(3, 1),))
    x, kernels = problem.draw(torch.float32, seed=4, signs=signs)
    how = Accumulation(sequential(512), 24, truncated=True)
    monkeypatch.setattr(propagation, "followed", lambda *_: torch.ones(1, 3, 6, 6, dtype=torch.bool))
    monkeypatch.setattr(propagation, "accumulation", lambda *_: how)
    products = (kernels[0].weight.double().flatten(1)[:, None] * x.double().flatten(2)[0].T).flatten(0, 1)
    step = running_adder(lambda total, product: truncated(total + product).astype(numpy.float64))
    measured = relative_l2(step(products, 1.0) - products.sum(1), products.sum(1))
    assert predict_error(x, kernels, problem.layers) == pytest.approx(measured, rel=1e-6)
    monkeypatch.setattr(propagation, "accumulation", lambda *_: Accumulation(sequential(512), 24))
    assert predict_error(x, kernels, problem.layers) < measured / (1.5 if signs == "random" else 5)


def test_channels_that_add_in_another_order_are_left_out(monkeypatch):
    """As the rows that a matrix product's tiles leave over; where half of them differ, nothing is known."""

    def parted(first):
        def call(x, kernel, layer):
            rows = torch.cat([kernel.weight.flatten(1), kernel.bias.view(-1, 1)], 1).double()
            value = float(x.flatten()[0])
            parts = [adder_of(order, bias=True)(rows, value) for order in (sequential(37), pairwise(37))]
            y = torch.where(torch.arange(len(rows)) < first, *parts)
            return y.float().view(1, -1, 1, 1).expand(1, -1, *layer.output_size(tuple(x.shape[2:])))

        call.summed = True
        return call

    layer = Layer(16, 3, bias=True).expand(2)
    for first, order in ((12, sequential(37)), (4, pairwise(37)), (8, None)):
        monkeypatch.setitem(METHODS, "direct", parted(first))
        accumulation_module._accumulation.cache_clear()
        accumulation_module._asked.cache_clear()
        found = accumulation("direct", layer, (1, 4, 5, 5), torch.float32).order
        assert (found and running_sums(found)) == (order and running_sums(order))
    accumulation_module._accumulation.cache_clear()
    accumulation_module._asked.cache_clear()


def assumption(dtype):
    return assumed("shifted_matmul", Layer(2, 3, bias=True).expand(2), (1, 4, 5, 5), dtype, ORDERS["pairwise"])


def test_roundings_that_a_method_declares():
    """Tap by tap from the bias on, rounded to 16 bits after each; in float32 there is nothing between."""
    how = assumption(torch.float16)
    assert how.stored == tuple(range(1, 9))
    assert how.order == SummationTree((36, *(pairwise(4).renumbered(range(tap, 36, 9)) for tap in range(9))))
    assert assumption(torch.float32) == Accumulation(pairwise(37), 24)


@dtypes
def test_order_of_a_method_is_found(dtype):
    """Tap by tap, from the bias on, is what shifted_matmul promises; each tap may be a sum of its own, or be no sum."""
    layer = Layer(16, 3, bias=True).expand(2)
    found = accumulation("shifted_matmul", layer, (1, 16, 12, 12), dtype)
    assert found.order is not None
    sums = running_sums(found.order)
    for tap in range(9):
        assert frozenset({144, *(channel * 9 + seen for channel in range(16) for seen in range(tap + 1))}) in sums
    if dtype.itemsize == 2:
        assert len(found.stored) == 8  # after every tap, the last apart


def test_order_is_found_where_most_outputs_see_padding():
    """As when kernels are merged: one output in 25 sees all of the weight."""
    found = accumulation("direct", Layer(4, 3, padding=2).expand(2), (4, 4, 3, 3), torch.float32)
    assert found.order is not None
    assert found.order.length == 36
    nowhere = accumulation("direct", Layer(4, 3, padding=2).expand(2), (4, 4, 2, 2), torch.float32)
    assert nowhere == Accumulation(None, 24)


@pytest.mark.parametrize("bias", [True, False])
def test_methods_are_asked_with_weights_as_they_are_in_use(monkeypatch, bias):
    """Contiguous: libraries choose by strides in what order they add."""
    strides = set()

    def call(x, kernel, layer):
        strides.add((kernel.weight.stride(), x.stride()))
        return METHODS["direct"](x, kernel, layer)

    layer, shape = Layer(3, 3, bias=bias).expand(2), (2, 1, 6, 7)
    monkeypatch.setattr(accumulation_module, "METHODS", {"asked": call})
    probe = accumulation_module.probe_of("asked", layer, shape, torch.float32, "cpu")
    assert probe is not None
    found = probe_summation(probe)
    assert found is not None
    followed(found, "asked", layer, shape, torch.float32)
    assert strides == {(torch.empty(3, 1, 3, 3).stride(), torch.empty(shape).stride())}


# Roundings


def replayed(products, how, dtype):
    """Sums of products (rows, n), formed again."""
    columns = products.T.contiguous().numpy()
    return replay(lambda number: Factors(columns[number]), how, dtype)


def numbers(rows, n, dtype, positive=False):
    """Random factors, numbers of the dtype: float64, (2, rows, n)."""
    generator = torch.Generator().manual_seed(7)
    drawn = torch.rand(2, rows, n, generator=generator, dtype=torch.float64).sub(0.0 if positive else 0.5)
    return drawn.to(dtype).double()


ROW, PAIRS = sequential(300), pairwise(300)
BLOCKS = SummationTree(
    (0, SummationTree((1, 2, 3, 4), fused=True), SummationTree(tuple(range(5, 60))), *range(60, 300))
)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("running", [numpy.float16, numpy.float32])
@pytest.mark.parametrize("order", [ROW, blocked(300, 40), PAIRS], ids=["row", "blocks", "pairs"])
def test_sums_formed_again_have_the_bits_of_those_formed_by_hand(order, running, positive):
    """Even in float16, where long positive sums stagnate."""
    dtype = torch.float16 if running is numpy.float16 else torch.float32
    x, w = numbers(400, 300, torch.float16, positive)
    found = replayed(x * w, Accumulation(order, SIGNIFICAND_BITS[dtype]), dtype)
    by_hand = adder_of(order, running)(x * w, 1.0)
    assert by_hand.equal(torch.from_numpy(found.values))
    assert torch.from_numpy(found.errors).allclose(by_hand - (x * w).sum(1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("fused", "stored"), [(False, ()), (True, (4, 80)), (False, (4, 80))])
def test_products_rounded_first_and_sums_rounded_to_storage(fused, stored):
    x, w = numbers(400, 300, torch.float16)
    found = replayed(x * w, Accumulation(ROW, 24, fused, stored), torch.float16)
    assert adder_of(ROW, WIDE, NARROW, fused, stored)(x * w, 1.0).equal(torch.from_numpy(found.values).half().double())


@pytest.mark.parametrize("order", [BLOCKS, PAIRS], ids=["several at once", "pairs"])
@pytest.mark.parametrize("fused", [True, False])
def test_float64_sums_against_exact_rationals(order, fused):
    """Fused multiply-add in float64, which nothing here computes by itself: every step rounds an exact rational."""
    x, w = numbers(5, 300, torch.float64)
    found = replay(lambda i: Factors(x[:, i].numpy(), w[:, i].numpy()), Accumulation(order, 53, fused), torch.float64)

    def term(number, row):
        exact = Fraction(float(x[row, number])) * Fraction(float(w[row, number]))
        return exact if fused else Fraction(float(exact))

    def total(order, row):
        sums = Fraction(0)
        for each in order.terms:
            sums += total(each, row) if isinstance(each, SummationTree) else term(each, row)
            sums = sums if order.fused else Fraction(float(sums))
        return Fraction(float(sums))

    for row in range(5):
        exact = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x[row], w[row], strict=True)), Fraction(0))
        computed = total(order, row)
        assert found.values[row] == computed
        assert found.errors[row] == pytest.approx(float(computed - exact), rel=1e-9, abs=1e-24)


@given(st.lists(st.integers(-(2**49), 2**49), min_size=2, max_size=12), st.integers(2, 30))
def test_truncation_is_toward_zero(values, bits):
    """Against integers whose sums float64 holds: the running sum's lower bits are cut off."""
    how = Accumulation(sequential(len(values)), bits, truncated=True)
    found = replay([Factors(numpy.array(float(value))) for value in values].__getitem__, how, torch.float32)
    total = 0
    for value in values:
        total += int(float(value))
        cut = max(0, abs(total).bit_length() - bits)
        total = (abs(total) >> cut << cut) * (1 if total > 0 else -1)
    assert found.values == total


def test_order_that_is_unknown_cannot_be_replayed():
    with pytest.raises(ValueError, match="known order"):
        replay([].__getitem__, Accumulation(None, 24), torch.float32)


def test_stagnation_is_a_bias():
    """Long positive sums in float16 all err to the same side, in every output of a layer; looked at by samples."""
    problem = Problem("long", 1, 2000, (70, 70), (Layer(4, 1),))
    x, (kernel,) = problem.draw(torch.float16, seed=11, signs="positive")
    wide, layer = Kernel(kernel.weight.double() * 2048), problem.expanded[0]
    how = Accumulation(sequential(2000), 11)
    said = layer_error(x.double(), wide, layer, torch.float16, how, torch.ones(1, 4, 70, 70, dtype=torch.bool))
    products = x.double().flatten(2)[0].T * wide.weight[0].flatten()
    error = adder_of(sequential(2000), NARROW)(products, 1.0) - products.sum(1)
    assert float(said.mean[0, 0].mean()) == pytest.approx(float(error.mean()), rel=0.1)
    assert float(said.variance[0, 0].mean()) == pytest.approx(float(error.var()), rel=0.2)
    assert float(error.mean()) ** 2 > 3 * float(error.var())


def test_sampled_outputs_are_not_all_on_the_border():
    """Every 240th of 16 images of 15 x 15 outputs is in the first column or the last."""
    sizes = torch.ones(16 * 15 * 15, dtype=torch.float64)
    columns = drawn_positions(sizes, 16).places % 15
    assert len(columns) == 16
    assert len(set(columns.tolist())) > 6
    assert drawn_positions(sizes, 10**6).places.tolist() == list(range(len(sizes)))


def test_sampling_in_proportion_meets_a_bright_spot():
    """Evenly drawn positions miss it: of 8 in 10,000, which hold nearly all, one draw of 64 has none in 95 %."""
    square = torch.ones(10_000, dtype=torch.float64)
    square[5000:5008] = 1e6
    places, weights = drawn_positions(square, 64)
    assert float((weights * square[places]).sum()) == pytest.approx(float(square.sum()), rel=0.3)


# Prediction


def plain(depth, channels=16, size=10, **options):
    layer = Layer(channels, 3, **options)
    return Problem("plain", 1, channels, (size + 2 * depth,) * 2, (layer,) * depth)


def ratio(problem, dtype, signs="random", method="direct", schedule="stacked", seeds=(901, 902, 903)):
    """Measured error over predicted error, the median of some draws."""
    found = []
    for seed in seeds:
        x, kernels = problem.draw(dtype, seed=seed, signs=signs)
        exact = convolve(x, kernels, problem.layers)
        y = SCHEDULES[schedule](problem, kernels, method)(x)
        measured = relative_l2(exact.error(y), exact.to(torch.float64))
        found.append(measured / predict_error(x, kernels, problem.layers, method, schedule))
    return median(found)


def near_one(ratio, dtype):
    return 1 - TOLERANCE[dtype] < ratio < 1 + TOLERANCE[dtype]


@pytest.mark.parametrize("signs", ["random", "positive"])
@dtypes
def test_stack(dtype, signs):
    assert near_one(ratio(plain(3), dtype, signs), dtype)


@pytest.mark.parametrize("method", [name for name in SUMMED if name not in ("direct", "patch_matmul")])
@dtypes
def test_methods(dtype, method):
    problem = plain(2, bias=True)
    reason = METHODS[method].unsupported(problem.expanded[0], dtype, "cpu")
    if reason is not None:
        pytest.skip(reason)
    assert near_one(ratio(problem, dtype, method=method), dtype)


@pytest.mark.parametrize("method", ["direct", "unfold_matmul"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_fan_in_of_576(dtype, method):
    assert near_one(ratio(plain(1, channels=64), dtype, "positive", method), dtype)


def _last_row_term_by_term(kernel, layer):
    """As libraries add up what is left of a product beside its blocks; all other outputs channel by channel."""

    def call(x):
        channels = zip(kernel.weight.split(1, 1), x.split(1, 1), strict=True)
        blocks = sum(added(Kernel(weight), layer, image) for weight, image in channels)
        return torch.cat([blocks[:, :, :-1], added(kernel, layer, x)[:, :, -1:]], 2)

    return call


@pytest.mark.parametrize("depth", [1, 2])
def test_outputs_that_are_added_up_otherwise(monkeypatch, depth):
    """Their errors are several times those of the others here, which were taken for theirs."""
    name = "last row term by term"
    monkeypatch.setitem(METHODS, name, Method(name, _last_row_term_by_term))
    problem = Problem("plain", 1, 24, (6 + 2 * depth,) * 2, (Layer(24, 3),) * depth)
    x, kernels = problem.draw(torch.float32, seed=1, signs="positive")
    exact = convolve(x, kernels, problem.layers)
    predicted = predict_error(x, kernels, problem.layers, name)
    measured = relative_l2(exact.error(SCHEDULES["stacked"](problem, kernels, name)(x)), exact.to(torch.float64))
    assert measured == pytest.approx(predicted, rel=0.02)
    assert predicted.interval[0] <= measured <= predicted.interval[1]


def test_outputs_are_asked_again_under_other_conditions(monkeypatch):
    """With another number of threads, say, a library may leave over other outputs of a product."""
    turned = []
    name = "by conditions"
    call = lambda x, kernel, layer: added(kernel, layer, x, backwards=bool(turned))  # noqa: E731
    monkeypatch.setitem(METHODS, name, Method(name, lambda kernel, layer: partial(call, kernel=kernel, layer=layer)))
    monkeypatch.setattr(accumulation_module, "process_conditions", lambda device: tuple(turned))
    asked = Accumulation(sequential(18), 24, fused=False), name, Layer(2, 3).expand(2), (1, 2, 5, 5), torch.float32
    assert bool(followed(*asked).all())
    turned.append("backwards")
    assert not bool(followed(*asked).all())


@pytest.mark.parametrize("schedule", ["merged", "merged_working"])
@pytest.mark.parametrize("signs", ["random", "positive"])
@dtypes
def test_merged(dtype, signs, schedule):
    assert near_one(ratio(plain(3, channels=8, bias=True), dtype, signs, schedule=schedule), dtype)


def pink(shape, seed):
    """Images with the power spectrum 1/f**2 of photographs, from 0 to 1."""
    spectrum = torch.fft.rfft2(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))
    fy, fx = torch.fft.fftfreq(shape[-2]), torch.fft.rfftfreq(shape[-1])
    size = (fy[:, None] ** 2 + fx**2).sqrt().clamp(min=1 / shape[-1])
    x = torch.fft.irfft2(spectrum / size, s=shape[-2:])
    x = x - x.amin((-2, -1), keepdim=True)
    return x / x.amax((-2, -1), keepdim=True)


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_merged_kernel_s_rounding_is_known(dtype, depth):
    """On smooth images it errs the same everywhere: by chance, if it were drawn, twice as much or half."""
    for seed in range(3):
        problem = Problem("pink", 1, 4, (24, 24), (Layer(8, 3),) * (depth - 1) + (Layer(2, 3),))
        kernels = problem.draw(dtype, seed=seed)[1]
        x = pink((1, 4, 24, 24), seed).to(dtype)
        exact = convolve(x, kernels, problem.layers)
        measured = relative_l2(exact.error(SCHEDULES["merged"](problem, kernels)(x)), exact.to(torch.float64))
        assert predict_error(x, kernels, problem.layers, schedule="merged") == pytest.approx(measured, rel=0.05)


@given(problem=mergeable_problems(), seed=SEEDS)
def test_merged_kernel_is_the_merged_kernel(problem, seed):
    """The recursion over layers merges, by its own way, what `merge_stack` merges."""
    _, kernels = integer_numbers(problem, seed)
    expected, _ = merge_stack(kernels, problem.expanded)
    found, errors = merged_kernel(kernels, problem.expanded, Setting(torch.float64, "cpu", "direct"), torch.float64, 4)
    for mine, theirs, variance in zip(found, expected, errors.variance, strict=True):
        assert (mine is None) == (theirs is None) == (variance is None)
        assert mine is None or (mine.equal(theirs) and variance.shape == theirs.shape)


@pytest.mark.parametrize(
    "problem",
    [
        Problem("row", 2, 6, (200,), (Layer(12, 5, stride=2, padding=2, groups=3), Layer(8, 3, dilation=2))),
        Problem("space", 1, 4, (9, 10, 11), (Layer(8, (3, 2, 1), padding=1, bias=True),)),
        Problem("separable", 3, 16, (14, 14), (Layer(16, 3, groups=16), Layer(24, 1))),
    ],
    ids=lambda problem: problem.name,
)
@dtypes
def test_any_layer(problem, dtype):
    assert near_one(ratio(problem, dtype), dtype)


def test_underflow_is_an_error_of_known_size():
    """What becomes zero is lost as a whole."""
    problem = plain(1, channels=4)
    x, kernels = problem.draw(torch.float16, seed=5)
    faint = [Kernel(kernels[0].weight * 2.0**-9)]
    x = x * 2.0**-18
    exact = convolve(x, faint, problem.layers)
    measured = relative_l2(exact.error(METHODS["direct"](x, faint[0], problem.layers[0])), exact.to(torch.float64))
    assert measured > 0.9
    assert measured == pytest.approx(predict_error(x, faint, problem.layers), rel=0.05)


@pytest.mark.parametrize("schedule", ["stacked", "merged"])
def test_what_was_lost_stays_lost(schedule):
    """A first layer's outputs, or a merged kernel's numbers, become zero; what follows makes nothing of them."""
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, 6, 6, generator=draw).half()
    first, second = torch.rand(2, 3, 3, 1, 1, generator=draw)
    scales = (2.0**-13, 2.0**-14) if schedule == "merged" else (2.0**-12, 2.0**10)
    x = x if schedule == "merged" else x * 2.0**-14
    kernels = [Kernel((weight * scale).half()) for weight, scale in zip((first, second), scales, strict=True)]
    layers = (Layer(3, 1), Layer(3, 1))
    assert predict_error(x, kernels, layers, schedule=schedule) == pytest.approx(1, rel=0.01)


@given(seed=SEEDS, power=st.integers(-3, 3))
def test_scaling_by_a_power_of_two_changes_nothing(seed, power):
    problem = plain(2, channels=2, size=3)
    x, kernels = problem.draw(torch.float32, seed=seed)
    scaled = predict_error(x * 2.0**power, kernels, problem.layers)
    assert scaled == pytest.approx(predict_error(x, kernels, problem.layers), rel=1e-9)


def test_range_where_the_order_is_unknown(monkeypatch):
    problem = plain(2)
    x, kernels = problem.draw(torch.float32, seed=3)
    known = predict_error(x, kernels, problem.layers)
    assert predict_error_range(x, kernels, problem.layers) == (known, known)
    monkeypatch.setattr(propagation, "accumulation", lambda *_: Accumulation(None, 24))
    least, most = predict_error_range(x, kernels, problem.layers)
    assert least < 0.6 * most
    assert least <= known <= most * 1.05
    said = predict_error(x, kernels, problem.layers)
    assert least <= said <= most
    assert said.independent < known.independent  # an order that is not known is a doubt, too


IMAGES = {
    "constant": lambda draw, shape: torch.full(shape, 0.1),
    "ramp": lambda draw, shape: torch.linspace(0, 1, math.prod(shape[-2:])).view(shape[-2:]).expand(shape),
    "8 bits": lambda draw, shape: torch.randint(0, 256, shape, generator=draw) / 255,
}


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
def test_terms_that_repeat(dtype, image):
    """A box kernel on images that are smooth: errors are not independent, neither in a sum nor between outputs."""
    x = IMAGES[image](torch.Generator().manual_seed(0), (1, 8, 20, 20)).to(dtype).contiguous()
    kernels = [Kernel(torch.full((4, fan, 5, 5), 1 / 200, dtype=dtype)) for fan in (8, 4)]
    for depth in (1, 2):
        layers = [Layer(4, 5)] * depth
        y = SCHEDULES["stacked"](Problem("box", 1, 8, (20, 20), tuple(layers)), kernels[:depth])(x)
        exact = convolve(x, kernels[:depth], layers)
        measured = relative_l2(exact.error(y), exact.to(torch.float64))
        least, most = predict_error_range(x, kernels[:depth], layers)
        if least == most:  # the order is known
            assert least == pytest.approx(measured, rel=0.05)


def test_one_long_sum():
    """62 x 62 ones: whatever the order, its very error is predicted, or lies in the range of orders (24172)."""
    x = (torch.ones(1, 1, 62, 62) * 242 / 62 / 62).pow(2)
    kernels, layers = [Kernel(torch.ones(1, 1, 62, 62))], (Layer(1, 62),)
    exact = convolve(x, kernels, layers)
    measured = relative_l2(exact.error(METHODS["direct"](x, kernels[0], layers[0])), exact.to(torch.float64))
    least, most = predict_error_range(x, kernels, layers)
    assert least * (1 - 1e-6) <= measured <= most * (1 + 1e-6)


# Scatter


def moments_of(drawn, mean=0.0, seen=math.inf):
    """Errors with these draws and this known part; 1 everywhere."""
    values, variance = torch.ones(drawn.shape[1], dtype=torch.float64), drawn.square().mean(0)
    return ErrorMoments(values, mean * values, variance, drawn, Ground(seen))


def test_independent_parts_are_those_of_the_covariance():
    """(tr C)**2 / tr C**2: as many as outputs that err apart, one where all err as one; more beside what is known."""
    random = torch.Generator().manual_seed(0)
    apart = torch.randn(24, 1000, generator=random, dtype=torch.float64)
    assert scatter(moments_of(apart)).independent == pytest.approx(1000, rel=0.3)
    one = torch.randn(24, 1, generator=random, dtype=torch.float64).expand(24, 1000)
    assert scatter(moments_of(one)).independent == pytest.approx(1, rel=0.6)
    assert scatter(moments_of(apart, seen=10)).independent == pytest.approx(10, rel=0.1)
    known = scatter(moments_of(apart / 1000, mean=1.0))
    assert known.independent > 10**8
    assert scatter(moments_of(0 * apart, mean=1.0)).independent == math.inf
    assert scatter(moments_of(0 * apart)) == (math.inf, 1, 1)


@pytest.mark.parametrize("parts", [1, 4.5, 300])
@pytest.mark.parametrize("seen", [3, 100, math.inf])
def test_the_interval_is_the_root_of_f_s_quantiles(parts, seen):
    law = scipy.stats.chi2(parts, scale=1 / parts) if seen == math.inf else scipy.stats.f(parts, seen)
    expected = numpy.sqrt(law.ppf([0.025, 0.975]))
    assert ratio_interval(parts, seen) == pytest.approx(expected.tolist(), rel=0.08)


@pytest.mark.parametrize("taps", [1, 2])
def test_errors_that_are_not_independent_add_up_as_such(taps):
    """Two channels that err alike: their sum errs by twice as much, their difference not at all, whatever the rest."""
    random = torch.Generator().manual_seed(0)
    layer, settings = Layer(1, taps).expand(1), Setting(torch.float64, "cpu", "direct")
    drawn = torch.randn(24, 1, 1, 50, generator=random, dtype=torch.float64).expand(-1, -1, 2, -1)
    drawn = drawn / drawn.square().mean().sqrt()
    values = torch.ones(1, 2, 50, dtype=torch.float64)
    x = ErrorMoments(values, 0 * values, values, drawn)
    alike, opposite = (
        propagation.propagate_layer(
            x,
            Kernel(torch.tensor([[[1.0] + [0.0] * (taps - 1), [sign] + [0.0] * (taps - 1)]]).double()),
            layer,
            settings,
        )
        for sign in (1.0, -1.0)
    )
    assert float(alike.variance.mean()) == pytest.approx(4, rel=0.05)
    assert float(opposite.variance.mean()) < 1e-20


@pytest.mark.parametrize("schedule", ["stacked", "merged_working"])
def test_deep_narrow_stacks_in_float64(schedule):
    """Errors that later layers share are no independent ones: taken for such they were 2 to 10 times too large."""
    problem = Problem("narrow", 1, 3, (40,), (Layer(3, 1),) * 20)
    inside = []
    for seed in range(40, 56):
        x, kernels = problem.draw(torch.float64, seed=seed)
        y = SCHEDULES[schedule](problem, kernels)(x)
        exact = convolve(x, kernels, problem.layers)
        measured = relative_l2(exact.error(y), exact.to(torch.float64))
        lower, upper = predict_error(x, kernels, problem.layers, schedule=schedule).interval
        inside.append(lower <= measured <= upper)
    assert sum(inside) >= 13


def test_parts_of_an_interval_are_those_that_make_it():
    for parts in (50, 300, 5000):
        assert parts_of(*ratio_interval(parts, math.inf)) == pytest.approx(parts, rel=0.1)
    assert parts_of(0.1, math.inf) == 0
    assert parts_of(1, 1) == math.inf


def test_what_sees_the_same_errs_the_same():
    """Of a constant image all outputs of a channel are one error."""
    y = torch.tensor([[1.0, 1, 1], [2, 2, 3]], dtype=torch.float64)
    drawn = noise(y, 5, torch.Generator().manual_seed(0))
    assert drawn[:, 0].unique(dim=1).shape == (5, 1)
    assert drawn[:, 1].unique(dim=1).shape == (5, 2)


def test_a_prediction_is_a_number_with_an_interval():
    problem = plain(2, channels=2)
    x, kernels = problem.draw(torch.float64, seed=3)
    said = predict_error(x, kernels, problem.layers)
    assert 1e-17 < said < 1e-15
    assert said.interval[0] < said < said.interval[1]
    assert 0 < said.independent < 2 * 100
    again = pickle.loads(pickle.dumps(said))
    assert (again, again.interval, again.independent) == (said, said.interval, said.independent)


def test_outputs_that_are_added_in_another_order_are_not_known(monkeypatch):
    """As what a matrix product's tiles leave over: its error is like the one formed again, not the same."""
    problem = plain(1, channels=24)
    how, shape = Accumulation(sequential(216), 24), problem.shapes[0]

    def call(x, kernel, layer):
        """Output channel 3 adds from the end."""
        y = convolved(x, kernel, layer)
        y[:, 3] = convolved(x.flip(1), kernel.map(lambda weight: weight.flip(1)), layer)[:, 3]
        return y

    def convolved(x, kernel, layer):
        patches = torch.nn.functional.unfold(x, layer.kernel_size).double().numpy()
        weight, total = kernel.weight.flatten(1).double().numpy(), 0.0
        for i in range(patches.shape[1]):
            total = numpy.float32(total + weight[None, :, i, None] * patches[:, None, i]).astype(numpy.float64)
        return torch.from_numpy(total).float().unflatten(2, layer.output_size(tuple(x.shape[2:])))

    adding = importlib.import_module("linear_lasagna.rounding.accumulation")
    monkeypatch.setattr(adding, "METHODS", {"unfold_matmul": call})
    same = followed(how, "unfold_matmul", problem.expanded[0], shape, torch.float32)
    assert not same[:, 3].any()
    assert same[:, :3].all()
    assert same[:, 4:].all()


def test_random_problems_are_predicted():
    """Some of those that `random_predictions` tries: nearly all within the interval, and close where one may ask it."""
    found = told(some(24, SETS["development"]))
    assert found.inside >= 20
    assert found.close >= 0.85 * found.asked


def test_nothing_to_lose():
    layers = (Layer(1, 2),)
    zero, kernels = torch.zeros(1, 1, 5), (Kernel(torch.ones(1, 1, 2)),)
    assert predict_error(zero, kernels, layers) == 0


def test_refusals():
    problem = plain(2, channels=2)
    x, kernels = problem.draw(seed=0)
    with pytest.raises(ValueError, match="unknown schedule 'melted'"):
        predict_error(x, kernels, problem.layers, schedule="melted")
    with pytest.raises(ValueError, match="padding between layers"):
        predict_error(x, kernels, [Layer(2, 3, padding=1)] * 2, schedule="merged")
    with pytest.raises(NotImplementedError, match="kernel size = stride"):
        predict_error(x, kernels, problem.layers, method="patch_matmul")
