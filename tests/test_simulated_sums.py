"""Sums of simulated machines: against rationals added one by one, against `replay`, and an H100's."""

from dataclasses import replace
from fractions import Fraction

import numpy
import pytest
import torch
from flushing import flushing
from hypothesis import given
from hypothesis import strategies as st
from rounded_by_hand import Adder, by_hand
from test_tensor_cores import H100, numbers
from test_tensor_cores import ORDERS as H100_ORDERS

from linear_lasagna.rounding.random_sums import factor
from linear_lasagna.rounding.replay import Factors, replay
from linear_lasagna.rounding.summation_tree import ORDERS, Accumulation, SummationTree
from linear_lasagna.simulated import FORMATS, MACHINES, Format, Machine, cast
from linear_lasagna.simulated.casting import rounded
from linear_lasagna.simulated.machine import machine_like
from linear_lasagna.simulated.machines import at_once
from linear_lasagna.simulated.sums import add

FLOAT64 = FORMATS["float64"]


def trees(n):
    """Of n terms in any order: the usual ones, and blocks added at once."""
    order = st.one_of(st.sampled_from(sorted(ORDERS)).map(ORDERS.get), st.integers(1, 5).map(at_once))
    return st.tuples(order, st.permutations(range(n))).map(lambda both: both[0](n, False).renumbered(both[1]))


@st.composite
def machines(draw):
    storage = Format(draw(st.sampled_from([4, 8])), draw(st.integers(2, 24)))
    bits = draw(st.sampled_from([2, 3, 8, 11, 24, 51]))
    running = Format(draw(st.sampled_from([4, 8])), bits, subnormals=draw(st.booleans()))
    return Machine(
        storage,
        running,
        rounding=draw(st.sampled_from(["nearest", "toward zero"])),
        fused=draw(st.booleans()),
        compensated=draw(st.booleans()),
    )


def drawn(seed, n, form, powers, count=16):
    """Factors (n, 2, count) of the format whose exponents differ by up to so much.

    Some are zero, and in one half they have hardly any bits, so that sums are ties, or almost.
    """
    draw = numpy.random.default_rng(seed)
    shape = (n, 2, count)
    values = draw.standard_normal(shape)
    few = draw.choice([-1, 1], shape) + draw.choice([-1, 0, 1], shape) * 2.0 ** -draw.integers(1, 60, shape)
    values[..., ::2] = few[..., ::2]
    values = values * 2.0 ** draw.integers(-powers, powers + 1, shape)
    return rounded(values * (draw.random(shape) < 0.9), form)


def assert_formed_rightly(factors, order, machine, stored=()):
    how = replace(machine.accumulation(len(factors), False), order=order, stored=stored)
    found = add(lambda i: Factors(factors[i, 0], factors[i, 1]), how, machine)
    for column in range(factors.shape[2]):
        try:
            adder = Adder(factors[:, :, column].tolist(), how, machine)
            expected = adder.add(order, stored)
        except (OverflowError, ValueError):  # infinity or NaN on the way: no rational
            assert not numpy.isfinite(found[column])
        else:
            assert Fraction(found[column]) == expected


@given(st.data(), st.integers(1, 20), st.integers(0, 2**32 - 1), machines())
def test_every_rounding_is_right(data, n, seed, machine):
    order = data.draw(trees(n))
    powers = data.draw(st.sampled_from([0, 2, 12, 40]))
    stored = tuple(data.draw(st.sets(st.integers(0, len(order.terms) - 1), max_size=2))) if not order.fused else ()
    assert_formed_rightly(drawn(seed, n, machine.storage, powers), order, machine, stored)


@given(st.data(), st.integers(1, 20), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_float64_is_right(data, n, seed, fused, compensated):
    """Products of 106 bits, added without a rounding between where they are fused."""
    name = data.draw(st.sampled_from(sorted(ORDERS)))
    machine = Machine(FLOAT64, FLOAT64, fused=fused, compensated=compensated)
    order = ORDERS[name](n, False).renumbered(data.draw(st.permutations(range(n))))
    assert_formed_rightly(drawn(seed, n, FLOAT64, data.draw(st.sampled_from([0, 3, 30, 60]))), order, machine)


@given(st.data(), st.integers(1, 12), st.integers(0, 2**32 - 1), st.integers(2, 51))
def test_wide_factors_are_right(data, n, seed, bits):
    machine = Machine(Format(9, data.draw(st.integers(25, 53))), Format(9, bits))
    assert_formed_rightly(drawn(seed, n, machine.storage, 30), data.draw(trees(n)), machine)


def test_ties_that_rounding_twice_gets_wrong():
    """1 + 2**-11 + 2**-60 is above a tie of float16, and a tie in float64."""
    machine = Machine(FORMATS["float16"], FORMATS["float16"])
    terms = numpy.array([1.0, 2.0**-11, 2.0**-24])
    order = SummationTree((0, SummationTree((1, 2), fused=True)))
    wide = Machine(FORMATS["float16"], Format(8, 11))
    tiny = numpy.array([1 + 2.0**-10, 2.0**-11, 2.0**-60])
    at = SummationTree((0, 1, 2), fused=True)
    for values, tree, one in ((terms, order, machine), (tiny, at, wide)):
        how = replace(one.accumulation(3, False), order=tree)
        found = add(lambda i, values=values: Factors(values[i]), how, one)
        assert float(found) == float(Adder([[value] for value in values], how, one).add(tree))
    assert float(found) == 1 + 2.0**-9


def test_a_tie_that_only_the_product_s_last_bits_decide():
    """1 + 2**-53 + 2**-131, of which float64 loses all but 1 in two steps."""
    factors = numpy.array([[1.0, 1.0], [1 + 2.0**-26, (1 - 2.0**-26 + 2.0**-52) * 2.0**-53]])
    assert Fraction(factors[1, 0]) * Fraction(factors[1, 1]) == Fraction(2) ** -53 + Fraction(2) ** -131
    machine = MACHINES["float64"]
    found = add(lambda i: Factors(factors[i, :1], factors[i, 1:]), machine.accumulation(2, False), machine)
    assert found.tolist() == [1 + 2.0**-52]


def test_kahan_s_sum_keeps_what_is_lost():
    terms = numpy.array([2.0**25, *[1.0] * 62, -(2.0**25)])
    sums = {
        name: float(add(lambda i: Factors(terms[i]), MACHINES[name].accumulation(64, False), MACHINES[name]))
        for name in ("float32", "float32 compensated")
    }
    assert sums == {"float32": 0, "float32 compensated": 64}


@pytest.mark.parametrize("method", H100_ORDERS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_are_an_h100_s(dtype, method):
    terms, sums = (numbers(f"{dtype} {method} {what}", dtype) for what in ("terms", "sums"))
    columns, value = terms.T.contiguous().numpy(), numpy.array(factor(getattr(torch, dtype)))
    machine = MACHINES[f"{dtype} H100"]
    how = machine.accumulation(144, False)
    assert how.order is not None
    how = replace(how, order=how.order.renumbered([H100_ORDERS[method](i // 16, i % 16) for i in range(144)]))

    def right(how):
        found = add(lambda i: Factors(columns[i], value), how, machine)
        return int((rounded(found, machine.storage) == sums.numpy()).sum())

    assert right(how) == len(sums) == len(H100[f"{dtype} {method} sums"])
    assert right(machine.accumulation(144, False)) < len(sums) or method == "unfold_matmul"


@given(st.data(), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_equals_replay(data, n, seed, truncated):
    """What is replayed in float64 is as good as exact for few bits, and exact for what is aligned."""
    dtype = data.draw(st.sampled_from([torch.float16, torch.bfloat16]))
    aligned = data.draw(st.sampled_from([None, 12, 26]))
    order = data.draw(trees(n))
    how = Accumulation(order, data.draw(st.sampled_from([11, 24])), truncated=truncated, aligned=aligned)
    if aligned is None and any(tree.fused for tree in order.sums()):
        return
    factors = drawn(seed, n, machine_like(how, dtype).storage, 3)

    def terms(i):
        return Factors(factors[i, 0], factors[i, 1])

    assert numpy.array_equal(add(terms, how, machine_like(how, dtype)), replay(terms, how, dtype).values)


def test_long_chains_of_blocks_are_no_recursion():
    machine = MACHINES["float16 V100"]
    ones = numpy.ones(3)
    assert add(lambda i: Factors(ones), machine.accumulation(8000, False), machine).tolist() == [8000.0] * 3


def test_stochastic_sums_are_right_in_the_mean():
    """Their error is a random walk; to nearest the sum stops growing: stagnation."""
    n, runs, machine = 800, 2000, MACHINES["bfloat16 in bfloat16 stochastic"]
    terms = numpy.full(runs, float(cast(torch.tensor(0.005, dtype=torch.float64), machine.storage)))
    how = machine.accumulation(n, False)
    sums = add(lambda i: Factors(terms), how, machine, numpy.random.default_rng(5))
    exact, unit = n * terms[0], 2.0**-6  # the spacing up to 4
    assert abs(sums.mean() - exact) <= 4 * n**0.5 * unit / 2 / runs**0.5
    assert exact - add(lambda i: Factors(terms), how, MACHINES["bfloat16 in bfloat16"])[0] > exact / 4
    assert sums.std() < n**0.5 * unit / 2


def test_sums_overflow_as_the_format_says():
    float16 = FORMATS["float16"]
    terms = numpy.array([60000.0, 60000.0, -60000.0])
    for running, rounding, expected in (
        (float16, "nearest", numpy.inf),
        (float16, "toward zero", 65504.0 - 60000.0),
        (replace(float16, saturating=True), "nearest", 65504.0 - 60000.0),
    ):
        machine = Machine(float16, running, rounding=rounding)
        assert float(add(lambda i: Factors(terms[i]), machine.accumulation(3, False), machine)) == by_hand(
            expected, running
        )


def test_a_processor_that_flushes_changes_nothing():
    """Products and sums of float32's least numbers are far from float64's."""
    machine = MACHINES["float32"]
    factors = drawn(1, 30, Format(8, 24), 0, 400) * 2.0**-75

    def terms(i):
        return Factors(factors[i, 0], factors[i, 1])

    kept = add(terms, machine.accumulation(30, False), machine)
    assert (numpy.abs(kept) < 2.0**-126).all()
    assert kept.any()
    with flushing():
        flushed = add(terms, machine.accumulation(30, False), machine)
    assert numpy.array_equal(flushed.view(numpy.int64), kept.view(numpy.int64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Machine(FLOAT64, Format(11, 52)), "at most 51 bits"),
        (lambda: Machine(FLOAT64, FLOAT64, rounding="toward zero"), "at most 51 bits"),
        (lambda: Machine(FLOAT64, FLOAT64, parts=(0, 1)), "one part at least"),
        (lambda: Machine(FLOAT64, FLOAT64, aligned=1), "aligned to 2 to 40"),
        (lambda: machine_like(Accumulation(None, 24), torch.float32), "known order"),
        (lambda: add(lambda i: Factors(numpy.ones(1)), Accumulation(None, 24), MACHINES["float32"]), "known order"),
        (lambda: one_term("bfloat16 stochastic"), "needs a generator"),
        (lambda: one_term("float64", fused=True), "not simulated in float64"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def one_term(name, fused=False):
    return add(lambda i: Factors(numpy.ones(1)), Accumulation(SummationTree((0,), fused), 24), MACHINES[name])
