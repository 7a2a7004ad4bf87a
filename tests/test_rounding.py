"""Formats and bounds: against torch and Fractions, never below a measured error, close to one that was built."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from exactly import assert_within
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, SUMMED

from linear_lasagna import Layer, Problem
from linear_lasagna.exact import convolve
from linear_lasagna.merging import merge_stack
from linear_lasagna.rounding import (
    SIGNIFICAND_BITS,
    accumulator,
    layer_bound,
    merging_bound,
    smallest_subnormal,
    sum_bound,
    unit_roundoff,
)
from linear_lasagna.rounding.way_bounds import wide_accumulator_bound
from linear_lasagna.ways import way_named

NARROW = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_formats_are_torchs(dtype):
    info = torch.finfo(dtype)
    assert unit_roundoff(dtype) == info.eps / 2 == 2.0 ** -SIGNIFICAND_BITS[dtype]
    zero, one = torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)
    assert smallest_subnormal(dtype) == torch.nextafter(zero, one).item() == info.smallest_normal * info.eps
    assert smallest_subnormal(dtype) > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_unit_roundoff_is_the_largest_relative_error(dtype):
    """1 + u is a tie and goes down; a little more goes up."""
    u = unit_roundoff(dtype)
    one, tie, beyond = (torch.tensor(number, dtype=dtype) for number in (1.0, u, u + 2 * u**2))
    assert (one + tie).item() == 1
    assert (one + beyond).item() == 1 + 2 * u


def test_accumulators():
    assert [accumulator(dtype) for dtype in DTYPES] == [
        torch.float32,
        torch.float32,
        torch.float32,
        torch.float64,
    ]


def test_sum_bound_is_n_u():
    for dtype, n in itertools.product(DTYPES, (0, 1, 9, 5000)):
        assert Fraction(sum_bound(n, dtype)) == n * Fraction(unit_roundoff(dtype))


def product_form(fan_in, roundings, dtype):
    """(1 + u)**roundings (1 + fan_in u_accumulator) - 1 over Fractions."""
    u, wide = Fraction(unit_roundoff(dtype)), Fraction(unit_roundoff(accumulator(dtype)))
    return (1 + u) ** roundings * (1 + fan_in * wide) - 1


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("roundings", [0, 1, 2, 50])
@pytest.mark.parametrize("fan_in", [1, 27, 4608])
def test_layer_bound_with_a_wide_accumulator(dtype, roundings, fan_in):
    assert layer_bound(fan_in, roundings, dtype) == pytest.approx(
        float(product_form(fan_in, roundings, dtype)), rel=1e-13
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_layer_bound_without_one(dtype):
    """All additions are in the dtype itself, in one sum: n u of as many terms."""
    assert layer_bound(27, 3, dtype) == 30 * unit_roundoff(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layer_bound_grows(dtype):
    for fan_in, roundings in itertools.product((1, 10, 100), (1, 2, 3)):
        here = layer_bound(fan_in, roundings, dtype)
        assert layer_bound(fan_in + 1, roundings, dtype) > here
        assert layer_bound(fan_in, roundings + 1, dtype) > here


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_chain_bound_multiplies(dtype):
    """prod(1 + layer bound) - 1, the bias counted as one more product."""
    problem = Problem("two", 1, 4, (5, 5), (Layer(4, 3, bias=True), Layer(4, 1)))
    exact = (1 + Fraction(layer_bound(37, 2, dtype))) * (1 + Fraction(layer_bound(4, 1, dtype))) - 1
    found = wide_accumulator_bound(problem, way_named("direct"), dtype)
    assert found == pytest.approx(float(exact), rel=1e-12)


def test_merging_bound_counts_every_merge():
    """The first layer is kept; merging each later one sums at most in_channels * taps products."""
    layers = [layer.expand(2) for layer in (Layer(8, 3), Layer(4, 3), Layer(2, 1))]
    exact = (1 + Fraction(layer_bound(72, 1, torch.float64))) * (1 + Fraction(layer_bound(4, 1, torch.float64))) - 1
    assert merging_bound(layers, 3, torch.float64) == pytest.approx(float(exact), rel=1e-9)
    assert merging_bound(layers[:1], 3, torch.float64) == 0.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_bound_of_a_sum_is_nearly_attained(dtype):
    """1 + u + u + ...: every tie goes down, so n additions lose n u. A bound half as large would be wrong."""
    n, u = 60, unit_roundoff(dtype)
    total = torch.ones((), dtype=dtype)
    for _ in range(n):
        total = total + u
    exact = 1 + n * Fraction(u)
    error = abs(Fraction(total.item()) - exact) / exact
    bound = sum_bound(n + 1, dtype)
    assert error <= bound
    assert bound < 1.4 * error


SHAPES = [
    Problem("small", 1, 3, (6, 6), (Layer(4, 3),)),
    Problem("wide", 1, 256, (3, 3), (Layer(4, 3),)),
    Problem("deep", 1, 8, (11, 11), (Layer(8, 3),) * 4),
    Problem("biased", 1, 8, (7, 7), (Layer(8, 3, bias=True), Layer(8, 1, bias=True))),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("problem", SHAPES, ids=lambda problem: problem.name)
def test_chain_bound_holds_for_every_method(problem, dtype):
    """Positive numbers, where the bound is relative to the result itself."""
    for seed, (name, method) in itertools.product(range(3), SUMMED.items()):
        if any(method.unsupported(layer, dtype, "cpu") for layer in problem.expanded):
            continue
        y, kernels = problem.draw(dtype, seed=seed, signs="positive")
        exact = convolve(y, kernels, problem.layers)
        for kernel, layer in zip(kernels, problem.layers, strict=True):
            y = method(y, kernel, layer)
        bound = wide_accumulator_bound(problem, way_named(name), dtype)
        limit = bound * exact.to(torch.float64)
        assert_within(exact.error(y), limit, f"METHODS[{name!r}] on {problem!r}, {dtype}, positive, seed {seed}")
        assert exact.error(y).abs().max().item() > 0


@given(SEEDS, st.sampled_from(DTYPES), st.integers(1, 2000))
def test_sums_of_one_sign_stay_within_n_u(seed, dtype, n):
    """In whatever order torch sums, with products in the dtype itself. Numbers from 0.5 on: no product underflows."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(n, generator=generator, dtype=torch.float64).add(0.5).to(dtype) for _ in range(2))
    exact = sum(Fraction(p) * Fraction(q) for p, q in zip(a.tolist(), b.tolist(), strict=True))
    found = torch.dot(a, b).item() if dtype not in NARROW else (a[None] @ b[:, None]).item()
    assert abs(Fraction(found) - exact) <= Fraction(layer_bound(n, 1, dtype)) * exact, f"n = {n}, seed {seed}, {dtype}"


@pytest.mark.parametrize("merge_dtype", DTYPES, ids=str)
def test_merging_bound_holds(merge_dtype):
    """The kernel of three layers of one sign, merged in each dtype, against float64's with its own bound."""
    layers = tuple(layer.expand(2) for layer in (Layer(8, 3), Layer(6, 3), Layer(4, 2)))
    problem = Problem("merge", 1, 3, (8, 8), layers)
    for seed in range(3):
        _, kernels = problem.draw(merge_dtype, seed=seed, signs="positive")
        merged, layer = merge_stack(kernels, layers)
        # The merged kernel is what the stack makes of a unit impulse per input channel, flipped.
        impulses = torch.zeros((3, 3, *(2 * k - 1 for k in layer.kernel_size)), dtype=merge_dtype)
        for channel in range(3):
            impulses[(channel, channel, *(k - 1 for k in layer.kernel_size))] = 1
        exact = convolve(impulses, kernels, layers)
        found = merged.weight.flip(2, 3).transpose(0, 1).contiguous()
        limit = merging_bound(layers, 3, merge_dtype) * exact.to(torch.float64) + 300 * smallest_subnormal(merge_dtype)
        assert_within(exact.error(found), limit, f"merge_stack in {merge_dtype}, seed {seed}")
        assert math.isfinite(limit.max().item())
