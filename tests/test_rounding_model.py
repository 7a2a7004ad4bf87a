"""Bounds, orders of summation found by asking, and the predicted error, on seeds that nothing was chosen by."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import pairwise as pairs
from statistics import median

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, integer_numbers, mergeable_problems

from linear_lasagna import METHODS, SCHEDULES, Kernel, Layer, Problem
from linear_lasagna.exact import convolve
from linear_lasagna.formats import SIGNIFICAND_BITS, unit_roundoff
from linear_lasagna.merging import merge_stack
from linear_lasagna.metrics import relative_l2
from linear_lasagna.rounding import (
    accumulation,
    chain_bound,
    failure,
    gamma,
    layer_bound,
    predict_error,
    predict_error_range,
    probable_bound,
    spread,
    sum_bound,
)
from linear_lasagna.rounding.merged import merged_kernel
from linear_lasagna.rounding.order import Sum, blocked, pairwise, sequential
from linear_lasagna.rounding.questions import Accumulation, Questions, examine
from linear_lasagna.rounding.reveal import reveal
from linear_lasagna.rounding.roundings import outer_sums, roundings
from linear_lasagna.rounding.spread import Setting
from linear_lasagna.rounding.variance import layer_error, sampled_windows, summing_error

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
    assert probable_bound(10**6, torch.float32) == pytest.approx(1000 * 2.0**-24, rel=1e-3)
    assert probable_bound(10**6, torch.float32, lam=8) < sum_bound(10**6, torch.float32) / 100
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


@dtypes
def test_chain_bound_is_a_product(dtype):
    layers = [Layer(4, 3, bias=bias).expand(2) for bias in (False, True)]
    for sums in (None, dtype):
        factors = [1 + layer_bound(fan_in, times, dtype, sums) for fan_in, times in ((9, 1), (37, 2))]
        expected = math.prod(map(Fraction, factors)) - 1
        assert chain_bound(layers, (9, 36), (1, 2), dtype, sums) == pytest.approx(float(expected), rel=1e-9)


# Orders


@st.composite
def orders(draw, least=3, most=24):
    """Any order of summation in which a running sum takes up numbers and other sums."""
    numbers = draw(st.permutations(range(draw(st.integers(least, most)))))

    def tree(part):
        if len(part) == 1:
            return part[0]
        ends = sorted({0, len(part), *draw(st.lists(st.integers(1, len(part) - 1), min_size=1, max_size=6))})
        return Sum(tuple(tree(part[a:b]) for a, b in pairs(ends)))

    return tree(numbers)


def running_sums(order):
    """The terms in every running sum, at every moment: what makes two orders the same."""
    found = set()
    for each in order.sums():
        taken = frozenset()
        for term in each.terms:
            taken |= frozenset(term.numbers() if isinstance(term, Sum) else [term])
            if not each.fused or taken == frozenset(each.numbers()):
                found.add(taken)
    return {taken for taken in found if len(taken) > 1}


@given(order=orders())
def test_every_order_is_revealed(order):
    found = reveal(order.length, lambda i, others: [order.subtree_size(i, j) for j in others])
    assert found is not None
    assert running_sums(found) == running_sums(order)


def test_sums_of_several_at_once_are_revealed():
    fours = [Sum(tuple(range(start, start + 4)), fused=True) for start in (0, 4, 8)]
    order = Sum((Sum((fours[0], 12)), fours[1], fours[2]))
    found = reveal(13, lambda i, others: [order.subtree_size(i, j) for j in others])
    assert found is not None
    assert running_sums(found) == running_sums(order)
    assert sum(each.fused for each in found.sums()) == 3


def test_sum_from_the_far_end_is_revealed():
    order = Sum(tuple(reversed(range(700))))
    assert reveal(700, lambda i, others: [order.subtree_size(i, j) for j in others]) == order


def test_what_fits_no_tree():
    draw = random.Random(0)
    assert reveal(9, lambda i, others: [draw.randint(2, 9) for _ in others]) is None
    assert reveal(9, lambda i, others: [-1 for _ in others]) is None


def test_usual_orders():
    assert blocked(10, 4) == Sum((0, 1, 2, 3, Sum((4, 5, 6, 7)), Sum((8, 9))))
    assert blocked(9, 4).terms[-1] == 8
    assert pairwise(5) == Sum((Sum((Sum((0, 1)), 2)), Sum((3, 4))))
    assert [sequential(6).chains, blocked(10, 4).chains, len(blocked(10, 4).longest.single)] == [1, 3, 4]
    assert [blocked(10, 4).subtree_size(*pair) for pair in ((0, 1), (0, 5), (4, 6), (5, 9), (8, 9))] == [2, 8, 3, 10, 2]


def adder_of(order, running=WIDE, storage=None, fused=True, stored=(), bias=False):
    """Adds by hand in a given order; `running` is the running sum's type, `storage` the result's.

    bias: whether the last term is one, which nothing is multiplied by.
    """

    def total(order, products):
        result = None
        for place, term in enumerate(order.terms):
            if isinstance(term, Sum):
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
    found = examine(Questions(adder_of(order, running), order.length, 16, dtype))
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
    found = examine(Questions(adder_of(order, running, NUMPY[dtype]), 40, 8, dtype))
    assert found is not None
    assert (found.bits, found.stored) == (bits, ())


def test_width_that_the_storage_cannot_ask_for():
    """float16 holds no number that a float64 accumulator would absorb."""
    assert examine(Questions(adder_of(sequential(40), numpy.float64, NARROW), 40, 8, torch.float16)) is None


def test_more_terms_than_the_storage_can_count():
    """bfloat16 counts to 256 only."""
    order = blocked(600, 100)

    def adder(terms, value):
        return adder_of(order)(terms, value).to(torch.bfloat16).double()

    found = examine(Questions(adder, 600, 100, torch.bfloat16))
    assert found is not None
    assert found.order == order


@pytest.mark.parametrize("stored", [(), (4,), (3, 7, 11)])
def test_roundings_to_storage_are_found(stored):
    found = examine(Questions(adder_of(sequential(16), WIDE, NARROW, stored=stored), 16, 8, torch.float16))
    assert found is not None
    assert found.stored == stored


BIAS_FIRST = Sum((19, *range(19)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("order", [blocked(20, 6), BIAS_FIRST], ids=["blocked", "last first"])
@pytest.mark.parametrize("fused", [True, False])
def test_fused_multiply_add_is_found(fused, order, bias):
    """Asked with products: a bias is none."""
    found = examine(Questions(adder_of(order, fused=fused, bias=bias), 20, 8, torch.float32, bias))
    assert found is not None
    assert running_sums(found.order) == running_sums(order)
    assert found.fused is fused


def test_what_does_not_add_in_an_order_is_refused():
    draw = random.Random(0)

    def fickle(terms, value):
        return adder_of(Sum(tuple(draw.sample(range(12), 12))))(terms, value)

    def partial(terms, value):
        usual, other = (adder_of(order)(terms, value) for order in (sequential(12), pairwise(12)))
        return torch.where(terms[:, 0].abs() > 1, usual, other)

    def exact(terms, value):
        return torch.tensor([math.fsum(row) for row in (terms * value).tolist()], dtype=torch.float64)

    def flushing(terms, value):
        return torch.where(terms.abs() < 2, 0.0, terms).sum(1)

    for adder in (fickle, partial, exact, flushing):
        assert examine(Questions(adder, 12, 4, torch.float32)) is None


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


# Roundings


def test_roundings_by_hand():
    products = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    found = roundings(products, sequential(4))
    assert (found.sums.tolist(), found.added.tolist()) == ([1, 3, 7, 15], [1, 2, 4, 8])
    order = Sum((0, 1, Sum((2, 3))))
    assert sorted(roundings(products, order).sums.tolist()) == [1, 3, 4, 12, 15]
    assert sorted(roundings(products, order, fused=False).sums.tolist()) == [1, 2, 3, 4, 8, 12, 15]
    assert outer_sums(products, order).tolist() == [1, 3, 15]
    assert roundings(products, Sum((0, 1, 2, 3), fused=True)).sums.tolist() == [15]


@pytest.mark.parametrize("signs", ["random", "positive"])
@pytest.mark.parametrize("running", [numpy.float16, numpy.float32])
@pytest.mark.parametrize("order", [sequential(300), blocked(300, 40), pairwise(300)], ids=["row", "blocks", "pairs"])
def test_error_of_a_sum_by_hand(order, running, signs):
    """Sums formed by hand, even in float16, where long positive sums stagnate, err as much as is said."""
    generator = torch.Generator().manual_seed(7)
    x, w = torch.rand(2, 400, 300, generator=generator, dtype=torch.float64).sub(0.5 * (signs == "random")).half()
    products = (x.double() * w.double()).unsqueeze(1)
    dtype = torch.float16 if running is numpy.float16 else torch.float32
    said = summing_error(products, dtype, Accumulation(order, SIGNIFICAND_BITS[dtype]))
    error = adder_of(order, running)(products[:, 0], 1.0) - products[:, 0].sum(1)
    expected = math.sqrt(float((said.bias.square() + said.variance).mean()))
    assert math.sqrt(float(error.square().mean())) == pytest.approx(expected, rel=0.1)


def test_stagnation_is_a_bias():
    """Long positive sums in float16 all err to the same side, in every output of a layer."""
    problem = Problem("long", 1, 2000, (20, 20), (Layer(2, 1),))
    x, (kernel,) = problem.draw(torch.float16, seed=11, signs="positive")
    wide, layer = Kernel(kernel.weight.double() * 2000), problem.expanded[0]
    y = METHODS["direct"](x.double(), wide, layer)
    said = layer_error(x.double(), y, wide, layer, torch.float16, Accumulation(sequential(2000), 11))
    products = x.double().flatten(2)[0].T * wide.weight[0].flatten()
    error = adder_of(sequential(2000), NARROW)(products, 1.0) - products.sum(1)
    assert float(said.bias[0, 0, 0, 0]) == pytest.approx(float(error.mean()), rel=0.1)
    assert float(error.mean()) ** 2 > 3 * float(error.var())


def test_sampled_outputs_are_not_all_on_the_border():
    """Every 240th of 16 images of 15 x 15 outputs is in the first column or the last."""
    layer = Layer(1, 1).expand(2)
    places = torch.arange(15.0, dtype=torch.float64).expand(16, 1, 15, 15)
    columns = sampled_windows(places, layer, 16).flatten().tolist()
    assert len(columns) == 16
    assert len(set(columns)) > 6
    assert sampled_windows(places, layer, 10**6).flatten().tolist() == places.flatten().tolist()


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


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("direct", "patch_matmul")])
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


@pytest.mark.parametrize("schedule", ["merged", "merged_working"])
@pytest.mark.parametrize("signs", ["random", "positive"])
@dtypes
def test_merged(dtype, signs, schedule):
    assert near_one(ratio(plain(3, channels=8, bias=True), dtype, signs, schedule=schedule), dtype)


@given(problem=mergeable_problems(), seed=SEEDS)
def test_merged_kernel_is_the_merged_kernel(problem, seed):
    """The recursion over layers merges, by its own way, what `merge_stack` merges."""
    _, kernels = integer_numbers(problem, seed)
    expected, _ = merge_stack(kernels, problem.expanded)
    found, errors = merged_kernel(kernels, problem.expanded, Setting(torch.float32, "cpu", "direct"), torch.float64)
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
    monkeypatch.setattr(spread, "accumulation", lambda *_: Accumulation(None, 24))
    least, most = predict_error_range(x, kernels, problem.layers)
    assert least < 0.6 * most
    assert most == predict_error(x, kernels, problem.layers) == pytest.approx(known, rel=1e-3)


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
