"""The error measures, against fractions, NumPy's own spacing, and numbers worked out by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy
import pytest
import torch
from exactly import stack
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, integer_numbers, problems
from torch.nn.functional import conv2d

from linear_lasagna import Kernel, Layer, metrics
from linear_lasagna.exact import convolve
from linear_lasagna.formats import LEAST_EXPONENT, SIGNIFICAND_BITS, power_of_two, smallest_subnormal, ulp
from linear_lasagna.rounding.propagation import ErrorMoments
from linear_lasagna.vocabulary import COMMON_METRICS

NUMPY = {torch.float16: numpy.float16, torch.float32: numpy.float32, torch.float64: numpy.float64}
FINITE = st.floats(allow_nan=False, allow_infinity=False)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def ulp_by_definition(y, dtype):
    """2**(max(floor(log2 |y|), e_min) - p + 1), in fractions."""
    exponent = LEAST_EXPONENT[dtype]
    while abs(Fraction(y)) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    return Fraction(2) ** (exponent - SIGNIFICAND_BITS[dtype] + 1)


class TestUlp:
    @given(y=FINITE, dtype=st.sampled_from(DTYPES))
    def test_definition(self, y, dtype):
        assert Fraction(float(ulp(doubles(y), dtype))) == ulp_by_definition(y, dtype)

    @pytest.mark.parametrize("dtype", NUMPY, ids=str)
    def test_numpy_spacing(self, dtype):
        """numpy.spacing is the distance to the next number: the same for every number that the dtype holds."""
        info = torch.finfo(dtype)
        generator = torch.Generator().manual_seed(0)
        wide = torch.randn(500, generator=generator, dtype=torch.float64).exp()
        some = doubles(1, 2, 3, 0.1, info.smallest_normal, info.smallest_normal / 2, smallest_subnormal(dtype), 0)
        y = torch.cat([wide, some]).to(dtype)
        spacing = numpy.spacing(y.numpy().astype(NUMPY[dtype]))
        assert ulp(y.double(), dtype).tolist() == spacing.astype(numpy.float64).tolist()

    @pytest.mark.parametrize("dtype", NUMPY, ids=str)
    def test_parameters(self, dtype):
        info = numpy.finfo(NUMPY[dtype])
        assert (SIGNIFICAND_BITS[dtype], LEAST_EXPONENT[dtype]) == (info.nmant + 1, info.minexp)
        assert smallest_subnormal(dtype) == float(info.smallest_subnormal)

    def test_bfloat16_by_hand(self):
        y = doubles(1.0, 1.99, 2.0, -3.0, 256.0, 2.0**-126, 2.0**-130, 0.0)
        expected = [2.0**-7, 2.0**-7, 2.0**-6, 2.0**-6, 2.0, 2.0**-133, 2.0**-133, 2.0**-133]
        assert ulp(y, torch.bfloat16).tolist() == expected

    def test_powers_of_two(self):
        exponents = torch.arange(-1074, 1024)
        assert power_of_two(exponents).tolist() == [math.ldexp(1.0, e) for e in exponents.tolist()]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
    def test_just_below_a_power_of_two(self, dtype):
        """1 - 2**-60 rounds to 1, whose ulp is twice as large: 2**-p above, and u = 2**-p below it."""
        u = 2.0 ** -SIGNIFICAND_BITS[dtype]
        x, weight = (torch.tensor([[values]], dtype=dtype) for values in ([1.0, 2.0**-60], [1.0, -1.0]))
        exact, y = convolve(x, [Kernel(weight)], [Layer(1, 2)]), torch.tensor([[[1 - u]]], dtype=dtype)
        assert exact.ulp(dtype).tolist() == [[[u]]]
        assert metrics.ulps(exact.error(y), exact, dtype).item() == pytest.approx(1 - 2.0**-60 / u, rel=1e-12)
        assert metrics.ulps(exact.error(exact.to(dtype)), exact, dtype).item() <= 0.5

    @given(problem=problems(), seed=SEEDS, power=st.integers(-150, 100), dtype=st.sampled_from(DTYPES))
    def test_ulp_of_exact_numbers(self, problem, seed, power, dtype):
        x, kernels = integer_numbers(problem, seed)
        scaled = x * 2.0**power
        exact = convolve(
            scaled, [k if k.bias is None else Kernel(k.weight, k.bias * 2.0**power) for k in kernels], problem.layers
        )
        numbers = exact.fractions()
        found = [Fraction(unit) for unit in exact.ulp(dtype).flatten().tolist()]
        assert found == [ulp_by_definition(number, dtype) for number in numbers]
        assert exact.nonzero().flatten().tolist() == [number != 0 for number in numbers]

    @dtypes
    def test_rounding_once_is_within_half_an_ulp(self, dtype):
        exact = torch.randn(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        error = exact.to(torch.float32).to(dtype).double() - exact if dtype is not torch.float64 else exact * 0
        worst = float(metrics.ulps(error, exact, dtype).max())
        assert worst <= 0.5 * (1 + 2.0**-12)
        assert worst > 0.49 or dtype is torch.float64


class TestDistance:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    def test_counts_the_numbers_between(self, dtype):
        every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
        ordered = every[every.isfinite()].double().unique().to(dtype)  # sorted, one zero
        place = torch.arange(len(ordered))
        shuffled = torch.randperm(len(ordered))
        assert torch.equal(metrics.ulp_distance(ordered, ordered[shuffled]), (place - place[shuffled]).abs())

    def test_neighbours_are_one_apart(self):
        for dtype in (torch.float32, torch.float64):
            values = torch.tensor([1.0, -1.0, 0.0, -0.0, 1e-40, 3e38], dtype=dtype)
            up = torch.nextafter(values, torch.full_like(values, math.inf))
            assert metrics.ulp_distance(values, up).tolist() == [1] * 6
            assert metrics.ulp_distance(-up, values).tolist()[2:4] == [1, 1]
            assert metrics.ulp_distance(values[2:3], values[3:4]).item() == 0

    @dtypes
    def test_numbers_of_opposite_sign_lie_on_either_side_of_zero(self, dtype):
        positive = torch.tensor([smallest_subnormal(dtype), 1.0], dtype=dtype)
        steps = metrics.ulp_distance(positive, torch.zeros_like(positive))
        assert metrics.ulp_distance(positive, -positive).tolist() == (2 * steps).tolist() == [2, 2 * int(steps[1])]


@dtypes
def test_what_is_judged_stays_as_it_is(dtype):
    """A metric that changes its tensors spoils whatever is told of them next."""
    layers, weight = [Layer(3, 3)], torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = convolve(x, [Kernel(weight)], layers)
    y = conv2d(x.float(), weight.float()).to(dtype)
    values, rounded, error = exact.to(torch.float64), exact.to(dtype), exact.error(y)
    size = metrics.magnitudes(x, [Kernel(weight)], layers)
    given = (x, weight, y, values, rounded, error, size)
    kept = [each.clone() for each in given]
    metrics.measures(metrics.Outcome(error, values, dtype, y, exact, size), tuple(metrics.METRICS))
    metrics.counts(y, rounded), metrics.vanished(y, exact), metrics.bitwise_equality(y, rounded)
    metrics.ulp_distance(y, rounded), metrics.bit_pattern(y), metrics.correct_bits(error, dtype)
    exact.error(y), exact.nonzero(), exact.ulp(dtype)
    assert all(torch.equal(before, after) for before, after in zip(kept, given, strict=True))
    assert torch.equal(exact.to(torch.float64), values)


class TestRelative:
    def test_by_hand(self):
        error, exact = doubles(3, 0, -4), doubles(0, 12, -5)
        assert metrics.relative_l2(error, exact) == 5 / 13
        assert metrics.relative_error(error, exact).tolist() == [math.inf, 0, 0.8]

    def test_nothing(self):
        zero = doubles(0, 0)
        assert metrics.relative_l2(zero, zero) == 0
        assert metrics.relative_l2(doubles(0, 1), zero) == math.inf
        assert metrics.relative_error(zero, zero).tolist() == [0, 0]

    @pytest.mark.parametrize("size", [2.0**-1022, 1e-290, 1e-200, 1e-146, 1.0, 1e154, 1e300])
    def test_no_square_overflows_or_underflows(self, size):
        """Four equal numbers, each off by 1e-5 of itself."""
        exact = doubles(size, -size, size, size)
        assert metrics.relative_l2(exact.abs() * 1e-5, exact) == pytest.approx(1e-5, rel=1e-15)
        assert metrics.mean_error(exact.abs() * 1e-5, exact) == pytest.approx(1e-5, rel=1e-15)
        assert ErrorMoments(exact, exact * 1e-5, exact * 0).relative_l2() == pytest.approx(1e-5, rel=1e-15)

    def test_numbers_of_all_sizes(self):
        assert metrics.relative_l2(doubles(5e-324, 0), doubles(0, 5e-324)) == 1
        assert metrics.relative_l2(doubles(3e-160, 4e-160), doubles(1e-160, 1e-300)) == pytest.approx(5, rel=1e-15)
        assert metrics.relative_l2(doubles(1e300), doubles(1e-300)) == math.inf
        assert metrics.relative_l2(doubles(1e-300), doubles(1e300)) == 0
        assert metrics.mean_error(doubles(-1e300), doubles(1e-300)) == -math.inf
        assert metrics.relative_l2(doubles(math.inf, 1), doubles(1, 1)) == math.inf
        assert math.isnan(metrics.relative_l2(doubles(math.nan, 1), doubles(1, 1)))

    def test_bits(self):
        relative = doubles(0, 2.0**-60, 2.0**-11, 2.0**-3.5, 1, 7, math.inf, math.nan)
        assert metrics.correct_bits(relative, torch.float16).tolist() == [11, 11, 11, 3.5, 0, 0, 0, 0]
        assert metrics.correct_bits(relative[:2], torch.float64).tolist() == [53, 53]

    def test_mean_keeps_its_sign(self):
        exact = doubles(3, 4, 3, 4)
        assert metrics.mean_error(doubles(-1, -1, -1, -1), exact) == -1 / math.sqrt(12.5)
        assert metrics.mean_error(doubles(-1, 1, -1, 1), exact) == 0

    def test_a_scale_is_told_from_what_is_independent(self):
        """Of an error that is -1e-6 of the result, and one at right angles to it; of numbers of any size."""
        exact = doubles(3, 4, -12)
        for size in (2.0**-1000, 1.0, 2.0**1000):
            assert metrics.scale_error(exact * -1e-6 * size, exact * size) == pytest.approx(-1e-6, rel=1e-15)
            assert metrics.scale_error(doubles(4, 0, 1) * 1e-3 * size, exact * size) == 0

    @given(seed=SEEDS, power=st.integers(-900, 1000))
    def test_scaling_by_a_power_of_two_changes_nothing(self, seed, power):
        exact, error = torch.randn(2, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        scaled = exact * 2.0**power, error * 2.0**power
        assert metrics.relative_l2(scaled[1], scaled[0]) == metrics.relative_l2(error, exact)
        assert metrics.mean_error(scaled[1], scaled[0]) == metrics.mean_error(error, exact)
        assert metrics.scale_error(scaled[1], scaled[0]) == metrics.scale_error(error, exact)
        assert metrics.relative_error(scaled[1], scaled[0]).equal(metrics.relative_error(error, exact))

    @given(seed=SEEDS, power=st.integers(-40, 40))
    def test_scaling_changes_no_ulps(self, seed, power):
        exact, error = torch.randn(2, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        first, second = (metrics.ulps(error * by, exact * by, torch.float32) for by in (1.0, 2.0**power))
        assert first.equal(second)


class TestRegistry:
    """Every metric against its sentence in `vocabulary.METRICS`, in fractions, of a convolution by hand."""

    x = torch.tensor([[[3.0, 1, 2, 5, 1, 7], [1, 4, 1, 2, 8, 3]]])
    weight = torch.tensor([[[1.0, -1], [0.5, 0]], [[0, 2], [1, 1]]])

    @pytest.fixture
    def judged(self):
        """The outcome, with errors of 0, 1, -2, … units of 2**-7, and errors, results and magnitudes as fractions."""
        kernels, layers = [Kernel(self.weight)], [Layer(2, 2)]
        reference = convolve(self.x, kernels, layers)
        values = reference.to(torch.float64)
        signs = torch.tensor([[[0, 1, -2, 1, 3], [1, 1, -1, 0, 0]]])
        y = values + signs * 2.0**-7
        magnitude = metrics.magnitudes(self.x, kernels, layers)
        y = y.to(torch.float32)
        outcome = metrics.Outcome(reference.error(y), values, y.dtype, y, reference, magnitude)
        errors = [Fraction(int(sign), 128) for sign in signs.flatten()]
        sizes = stack(self.x.abs(), [Kernel(self.weight.abs())], layers).values
        return outcome, errors, stack(self.x, kernels, layers).values, sizes

    def test_every_one(self, judged):
        outcome, errors, exact, sizes = judged
        u, one = Fraction(1, 2**24), Fraction(1)
        relative = sorted(abs(e) / abs(v) if e or v else 0 * one for e, v in zip(errors, exact, strict=True))
        ulps = sorted(abs(e) / ulp_by_definition(v, torch.float32) for e, v in zip(errors, exact, strict=True))
        conditions = sorted(s / abs(v) for s, v in zip(sizes, exact, strict=True))
        pools = [[sum(part[i : i + 5]) / 5 for i in (0, 5)] for part in (errors, exact)]
        squares = [sum(v * v for v in part) for part in (errors, exact, *pools)]
        expected = {
            "relative_l2": math.sqrt(squares[0] / squares[1]),
            "error_u": math.sqrt(squares[0] / squares[1]) / u,
            "relative_max": max(map(abs, errors)) / max(map(abs, exact)),
            "relative_q50_u": relative[4] / u,
            "relative_q90_u": relative[8] / u,
            "relative_q99_u": relative[9] / u,
            "relative_tail": 1 / math.log(relative[9] / relative[8]),
            "backward_u": max(abs(e) / s for e, s in zip(errors, sizes, strict=True)) / u,
            "ulps_q50": ulps[4],
            "ulps_max": ulps[9],
            "condition_q50": conditions[4],
            "mean_u": sum(errors) / 10 / math.sqrt(squares[1] / 10) / u,
            "scale_u": sum(e * v for e, v in zip(errors, exact, strict=True)) / squares[1] / u,
            "pooled_u": math.sqrt(squares[2] / squares[3]) / u,
            "correctly_rounded": Fraction(3, 10),
        }
        found = metrics.measures(outcome, tuple(metrics.METRICS))
        assert list(found) == list(metrics.METRICS) == list(expected)
        assert found == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-12)

    def test_the_common_ones_need_nothing_more(self, judged):
        outcome, *_ = judged
        bare = metrics.Outcome(outcome.error, outcome.exact, outcome.dtype)
        assert list(metrics.measures(bare)) == list(COMMON_METRICS)
        for name, needed in {
            "backward_u": "need the magnitudes",
            "ulps_max": "need the exact reference",
            "correctly_rounded": "what was computed",
        }.items():
            with pytest.raises(ValueError, match=needed):
                metrics.measures(bare, [name])

    def test_the_tail_s_exponent_is_that_of_pareto_s_distribution(self):
        """Of quotients of normal numbers (Cauchy's distribution) it is 1, of what has an upper limit large."""
        uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for exponent in (0.5, 1.0, 3.0):
            assert metrics.tail_exponent(uniform.pow(-1 / exponent)) == pytest.approx(exponent, rel=0.1)
        assert metrics.tail_exponent((math.pi * uniform).tan().abs()) == pytest.approx(1, rel=0.1)
        assert metrics.tail_exponent(uniform) > 100
        assert math.isnan(metrics.tail_exponent(doubles(1, 1, math.inf)))

    def test_quantiles_bear_infinity(self):
        assert [metrics.quantile(doubles(3, math.inf, 1, 2), share) for share in (0.25, 0.5, 0.75, 0.76)] == [
            *(1, 2, 3),
            math.inf,
        ]
        assert metrics.quantile(doubles(5), 0.01) == 5

    def test_pooled_errors_of_one_sign_stay(self):
        """The same relative error everywhere is left whole by a mean; errors that cancel leave nothing."""
        exact = torch.ones(2, 3, 4, 4, dtype=torch.float64)
        signs = torch.tensor([1.0, -1]).repeat(8).view(4, 4)
        assert metrics.pooled_error(exact * 1e-3, exact) == pytest.approx(1e-3, rel=1e-12)
        assert metrics.pooled_error(exact * 1e-3 * signs, exact) < 1e-18


class TestMagnitudes:
    @given(problem=problems(), seed=SEEDS)
    def test_sum_of_absolute_values(self, problem, seed):
        x, kernels = integer_numbers(problem, seed)
        sizes = [Kernel(k.weight.abs(), None if k.bias is None else k.bias.abs()) for k in kernels]
        expected = stack(x.abs(), sizes, problem.expanded)
        found = metrics.magnitudes(x, kernels, problem.expanded)
        assert [Fraction(v) for v in found.flatten().tolist()] == expected.values
        assert tuple(found.shape) == expected.shape

    @given(problem=problems(), seed=SEEDS)
    def test_condition_number_is_at_least_one(self, problem, seed):
        x, kernels = integer_numbers(problem, seed)
        exact = convolve(x, kernels, problem.expanded).to(torch.float64)
        assert bool((metrics.condition_number(exact, metrics.magnitudes(x, kernels, problem.expanded)) >= 1).all())

    def test_by_hand(self):
        layer, x = Layer(1, 2), torch.tensor([[[3.0, -2.0]]])
        kernels = [Kernel(torch.tensor([[[1.0, 1.0]]]))]
        magnitude = metrics.magnitudes(x, kernels, [layer])
        assert magnitude.tolist() == [[[5]]]
        assert metrics.condition_number(doubles(1), doubles(5)).tolist() == [5]
        assert metrics.condition_number(doubles(0, 0), doubles(5, 0)).tolist() == [math.inf, 1]
        assert metrics.backward_error(doubles(-1, 0), doubles(5, 0)).tolist() == [0.2, 0]


class TestCounts:
    def test_by_hand(self):
        tiny = 2.0**-24
        y = torch.tensor([1.0, math.inf, math.nan, tiny, 0.0, 0.0, 2.0**-14, -0.0], dtype=torch.float16)
        exact = torch.tensor([1.0, 1.0, 1.0, 2 * tiny, tiny, -0.0, 2.0**-14, 0.0], dtype=torch.float16)
        found = metrics.counts(y, exact)
        assert found == metrics.Counts(outputs=8, overflow=2, subnormal=1, flushed=1, exact=2)

    @dtypes
    def test_least_numbers(self, dtype):
        normal = torch.full((1,), 2.0 ** LEAST_EXPONENT[dtype], dtype=torch.float64)
        y = torch.cat([normal, -normal / 2, normal * 2.0 ** (1 - SIGNIFICAND_BITS[dtype]), normal * 0]).to(dtype)
        assert metrics.counts(y, y) == metrics.Counts(outputs=4, overflow=0, subnormal=2, flushed=0, exact=4)

    @dtypes
    def test_exact_means_rounded_once(self, dtype):
        """A sum that is rounded once is exact, bit by bit; one that is an ulp off is not."""
        x = torch.rand(1, 1, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
        kernels = [Kernel(torch.ones(1, 1, 2, dtype=dtype))]
        rounded = convolve(x, kernels, [Layer(1, 2)]).to(dtype)
        y = (x[..., :-1].double() + x[..., 1:].double()).to(dtype)
        assert metrics.counts(y, rounded).exact == 49
        y[0, 0, 7] += float(ulp(y[0, 0, 7:8].double(), dtype))
        assert metrics.counts(y, rounded).exact == 48
        assert metrics.bitwise_equality(y, rounded) == 48 / 49

    def test_bitwise(self):
        y = torch.tensor([0.0, -0.0, math.nan, 1.0])
        other = torch.tensor([0.0, 0.0, math.nan, 2.0])
        assert metrics.bitwise_equality(y, other) == 0.5
        assert metrics.bitwise_equality(y[:0], other[:0]) == 1
        assert metrics.bitwise_equality(y.view(2, 2).T, other.view(2, 2).T) == 0.5

    def test_unlike_tensors(self):
        y = torch.zeros(3)
        for other in (torch.zeros(2), torch.zeros(3, dtype=torch.float64)):
            with pytest.raises(ValueError, match="must agree"):
                metrics.counts(y, other)
            with pytest.raises(ValueError, match="must agree"):
                metrics.bitwise_equality(y, other)
