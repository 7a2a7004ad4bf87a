"""Rounding to formats: against torch's own casts, all patterns, and against rationals rounded from the definition."""

import itertools
import math
import struct
from dataclasses import replace
from fractions import Fraction

import numpy
import pytest
import torch
from flushing import flushing
from hypothesis import given
from hypothesis import strategies as st
from rounded_by_hand import by_hand, nearest, toward_zero, unit_at

from linear_lasagna.simulated import FORMATS, Format, cast
from linear_lasagna.simulated.casting import RANDOM_BITS
from linear_lasagna.simulated.formats import SPECIALS, format_named

INTEGERS = {1: torch.uint8, 2: torch.int16}
TORCHS = ("float16", "bfloat16", "float8_e5m2", "float8_e4m3fn")
CHOICES = {"nearest": nearest, "toward zero": toward_zero}


def bits(x):
    return x.contiguous().view(torch.int64)


def assert_same(found, expected):
    """The same numbers to the sign of zero; NaN is NaN."""
    assert found.isnan().equal(expected.isnan())
    number = ~expected.isnan()
    assert bits(found[number]).equal(bits(expected[number]))


def number(pattern):
    return struct.unpack("<d", struct.pack("<Q", pattern))[0]


def numbers_of(name):
    """All of a dtype's numbers, NaN once: float64, ascending."""
    dtype = getattr(torch, name)
    codes = torch.arange(2 ** (8 * dtype.itemsize)).to(INTEGERS[dtype.itemsize])
    return codes.view(dtype).to(torch.float64).unique()


def torch_s(name):
    """The format with torch's rule of overflow, which for E4M3 is OCP's saturating one in some versions."""
    form = format_named(name)
    too_large = torch.tensor([math.inf]).to(getattr(torch, name)).to(torch.float64)
    return replace(form, saturating=bool(too_large.isfinite()))


@pytest.mark.parametrize("name", TORCHS)
def test_all_numbers_are_kept(name):
    x = numbers_of(name)
    x = x[x.isfinite()]
    form = format_named(name)
    for rounding in ("nearest", "toward zero", "stochastic"):
        assert_same(cast(x, form, rounding, numpy.random.default_rng(0)), x)
    assert float(x.max()) == form.largest
    assert float(x[x > 0].min()) == form.smallest


@pytest.mark.parametrize("name", TORCHS)
def test_between_all_numbers_it_rounds_as_torch_does(name):
    """At every tie and on both sides of it. torch rounds float64 twice, so it is given float32."""
    x = numbers_of(name)
    x = x[x.isfinite()]
    ties = ((x[1:] + x[:-1]) / 2).to(torch.float32)
    beyond = torch.tensor([1.01, 1.03, 1.0356, 1.036, 1.08, 2, 1e3, math.inf, math.nan]) * format_named(name).largest
    up, down = torch.tensor(math.inf), torch.tensor(-math.inf)
    asked = torch.cat([ties, ties.nextafter(up), ties.nextafter(down), beyond, -beyond])
    assert len(asked) > 3 * 200
    assert_same(cast(asked.double(), torch_s(name)), asked.to(getattr(torch, name)).double())


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=200))
def test_float32_is_torch_s(patterns):
    x = torch.tensor([number(pattern) for pattern in patterns], dtype=torch.float64)
    x = torch.cat([x, x.nan_to_num().frexp().mantissa * 2.0 ** (torch.arange(len(x)) % 280 - 150)])
    assert_same(cast(x, FORMATS["float32"]), x.to(torch.float32).to(torch.float64))


def test_largest_numbers_are_the_published_ones():
    largest = {name: form.largest for name, form in FORMATS.items()}
    assert largest == {
        "float64": torch.finfo(torch.float64).max,
        "float32": torch.finfo(torch.float32).max,
        "tf32": (2 - 2.0**-10) * 2.0**127,
        "bfloat16": torch.finfo(torch.bfloat16).max,
        "float16": 65504,
        "float8_e5m2": 57344,
        "float8_e4m3fn": 448,
        "float6_e3m2fn": 28,
        "float6_e2m3fn": 7.5,
        "float4_e2m1fn": 6,
    }


def test_float4_is_eight_numbers_and_their_negatives():
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    assert cast(x, FORMATS["float4_e2m1fn"]).abs().unique().tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("saturating", "expected"), [(False, [448, 448, math.nan, math.nan]), (True, [448, 448, 448, 448])]
)
def test_e4m3_overflows_by_ocp_s_rule(saturating, expected):
    """464 is a tie between 448 and 480, the code of NaN, which is odd."""
    x = torch.tensor([449, 464, 464.0000001, math.inf], dtype=torch.float64)
    form = replace(FORMATS["float8_e4m3fn"], saturating=saturating)
    assert_same(cast(x, form), torch.tensor(expected, dtype=torch.float64))
    assert_same(cast(-x, form), -torch.tensor(expected, dtype=torch.float64))


@st.composite
def formats(draw):
    exponent_bits, significand_bits = draw(st.integers(2, 11)), draw(st.integers(2, 53))
    special = draw(st.sampled_from(SPECIALS if exponent_bits < 11 else SPECIALS[:1]))
    return Format(exponent_bits, significand_bits, special, draw(st.booleans()), draw(st.booleans()))


# Those whose numbers are float64's subnormal ones, too, or that have hardly any.
ENDS = [Format(11, 53), Format(11, 2), Format(11, 52, subnormals=False), Format(11, 9, saturating=True)]
ENDS += [Format(2, 2, "none"), Format(2, 2, "NaN", subnormals=False), Format(10, 53, "NaN"), Format(5, 11)]


def values_for(form, seed, count):
    """Anywhere in float64, and close to the format's numbers, ties and ends."""
    draw = numpy.random.default_rng(seed)
    anywhere = draw.integers(0, 2**64, count // 4, numpy.uint64).view(numpy.float64)
    ends = [form.least - form.significand_bits, form.least, form.most]
    power = draw.choice(ends, count) + draw.integers(-2, 3, count)
    length = draw.choice([1, 2, 4, form.significand_bits, form.significand_bits + 1, 53], count).clip(max=53)
    integer = numpy.floor((1 + draw.random(count)) * 2.0 ** (length - 1))
    integer = numpy.where(draw.random(count) < 0.3, 2.0**length - 1, integer)
    near = numpy.ldexp(integer * draw.choice([-1, 1], count), (power - length).clip(-1080, 971))
    toward = numpy.where(draw.random(count) < 0.5, near, numpy.inf * draw.choice([-1, 1], count))
    with numpy.errstate(over="ignore"):
        return [*numpy.nextafter(near, toward).tolist(), *anywhere.tolist()]


def assert_rounds_rightly(form, rounding, values):
    expected = [by_hand(value, form, CHOICES[rounding]) for value in values]
    found = cast(torch.tensor(values, dtype=torch.float64), form, rounding)
    assert_same(found, torch.tensor(expected, dtype=torch.float64))


@given(formats(), st.sampled_from(sorted(CHOICES)), st.integers(0, 2**32 - 1))
def test_rounds_once_and_rightly(form, rounding, seed):
    assert_rounds_rightly(form, rounding, values_for(form, seed, 50))


@pytest.mark.parametrize("form", ENDS, ids=str)
@pytest.mark.parametrize("rounding", sorted(CHOICES))
def test_ends_are_rounded_rightly(form, rounding):
    assert_rounds_rightly(form, rounding, values_for(form, 0, 300))


class Chosen:
    """A generator that gives the number before the first that rounds a share of the unit up, or that, + 1."""

    def __init__(self, share, shift):
        self.share, self.shift, self.high = share, shift, None

    def integers(self, low, high, shape):
        assert low == 0
        self.high = int(numpy.max(high))
        first_up = self.high - int(self.share * self.high)
        return numpy.full(shape, min(first_up - 1 + self.shift, self.high - 1))

    @property
    def exact(self):
        return self.high is None or self.high == 2**RANDOM_BITS or (self.share * self.high).denominator == 1


@given(formats(), st.integers(0, 2**32 - 1))
def test_stochastic_rounding_has_the_exact_probabilities(form, seed):
    """It goes up for exactly so many of the generator's numbers, which are the largest of them."""
    for value in values_for(form, seed, 12):
        if not math.isfinite(value) or not value:
            continue
        units = abs(Fraction(value)) / unit_at(Fraction(value), form)
        share = units - math.floor(units)
        for up in (0, 1)[: 1 + (int(share * 2**RANDOM_BITS) > 0)]:
            expected = by_hand(value, form, lambda units, up=up: math.floor(units) + up)
            chosen = Chosen(share, up)
            found = cast(torch.tensor([value], dtype=torch.float64), form, "stochastic", chosen)  # type: ignore[arg-type]
            assert_same(found, torch.tensor([expected], dtype=torch.float64))
            assert chosen.exact


def test_stochastic_rounding_is_right_in_the_mean():
    form, n = Format(4, 4), 2**16
    values = [1 + 1 / 80, -1.1, 2.0**-6 * 1.3, 2.0**-9 * 0.2, 200.0]
    x = torch.tensor(values, dtype=torch.float64)[:, None].expand(-1, n)
    found = cast(x, form, "stochastic", numpy.random.default_rng(1))
    for value, row in zip(values, found, strict=True):
        unit = float(unit_at(Fraction(value), form))
        assert len(row.unique()) == 2
        assert abs(float(row.mean()) - value) <= 4 * unit / 2 / n**0.5
    assert not found[0].equal(cast(x[0], form, "stochastic", numpy.random.default_rng(2)))
    assert found.equal(cast(x, form, "stochastic", numpy.random.default_rng(1)))


@pytest.mark.parametrize(
    "form", [Format(11, 30), Format(11, 53), Format(10, 7), FORMATS["float16"], FORMATS["float32"]]
)
def test_a_processor_that_flushes_changes_nothing(form):
    generator = numpy.random.default_rng(3)
    size = generator.integers(0, 2**53, 4000)
    near = generator.integers(0, 2**52, 4000) + ((1023 + form.least - generator.integers(0, 20, 4000)).clip(0) << 52)
    x = torch.from_numpy(numpy.concatenate([size, near]).view(numpy.float64))
    for rounding in ("nearest", "toward zero"):
        kept = bits(cast(x, form, rounding))
        with flushing():
            assert bits(cast(x, form, rounding)).equal(kept)


def test_flushed_formats_have_no_subnormal_numbers():
    """Not before rounding decides: what rounds up to the least normal number is that."""
    form = Format(5, 11, subnormals=False)
    least = form.smallest_normal
    x = torch.tensor([least * (1 - 2.0**-12), least * (1 - 2.0**-11), least / 2, -least / 4], dtype=torch.float64)
    assert cast(x, form).tolist() == [least, least * 0, 0, 0]
    assert cast(x, replace(form, subnormals=True)).tolist() == [least, least, least / 2, -least / 4]


def test_shapes_are_kept():
    for shape in ((), (0,), (2, 3, 1)):
        assert cast(torch.full(shape, 1.1, dtype=torch.float64), FORMATS["float16"]).shape == shape
    strided = torch.arange(12, dtype=torch.float64).view(3, 4).T / 7
    assert cast(strided, FORMATS["float16"]).equal(cast(strided.contiguous(), FORMATS["float16"]))


def test_what_is_given_stays():
    for form, factor in itertools.product((FORMATS["float64"], FORMATS["float16"]), (1.0, 1e9, 1e-9)):
        x = torch.rand(9, dtype=torch.float64) * factor
        kept = x.clone()
        cast(x, form).add_(1)
        assert x.equal(kept)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Format(12, 24), "2 to 11 bits"),
        (lambda: Format(8, 54), "2 to 53"),
        (lambda: Format(11, 24, "NaN"), "largest must be for infinity"),
        (lambda: Format(5, 3, "all"), "special must be one of"),  # type: ignore[arg-type]
        (lambda: format_named("float7"), "unknown format 'float7'; known: float64"),
        (lambda: cast(torch.ones(1), FORMATS["float16"]), "from float64, not from torch.float32"),
        (lambda: cast(torch.ones(1).double(), FORMATS["float16"], "up"), "rounding must be one of"),  # type: ignore[arg-type]
        (lambda: cast(torch.ones(1).double(), FORMATS["float16"], "stochastic"), "needs a generator"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
