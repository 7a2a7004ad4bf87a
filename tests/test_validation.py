"""Validate, then time: the integers are small and large enough, tiles fit, and what is wrong does not pass."""

import dataclasses
import itertools
import math

import pytest
import torch
from checks import check_bound, check_integers, check_single_taps
from exactly import CONVOLUTIONS, magnitudes, moved, stack
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, REDUCED, SEEDS, SUMMED, problems

from linear_lasagna import METHODS, SCHEDULES, Kernel, Layer, Problem
from linear_lasagna.catalog import CATALOG
from linear_lasagna.exact import convolve
from linear_lasagna.methods import Method
from linear_lasagna.rounding import SIGNIFICAND_BITS
from linear_lasagna.validation import (
    TILE_POSITIONS,
    TileReference,
    draw_integers,
    integer_case,
    tiles,
    way_bound,
)
from linear_lasagna.ways import Way, way_named

SINGLE = {name: problem for name, problem in REDUCED.items() if problem.depth == 1}
STACKS = {name: problem for name, problem in REDUCED.items() if problem.depth > 1}
# Enough to see every kind of layer and stack in all ways and dtypes.
CHOSEN = (
    "sources/merge",
    "sources/unfold",
    "resnet50/conv1",
    "resnet50/conv2_3x3",
    "vgg16/conv1_2",
    "stacks/sesr_x1",
    "stacks/expandnet",
    "stacks/separable_early",
    "stacks/blur_pyramid",
    "stacks/plain_x2",
    "stacks/plain_x4",
)
MODEST = {name: problem for name, problem in REDUCED.items() if problem.parameters < 300_000}
# Every measured plan takes a moment: one method stands for all.
WAYS = [f"{s}/{method}" for s, method in itertools.product(SCHEDULES, SUMMED) if s != "planned" or method == "direct"]


def supported(problem, dtype, device="cpu"):
    """Every way that can compute the problem there, by name."""
    found = {name: way_named(name) for name in WAYS}
    return {name: way for name, way in found.items() if way.unsupported(problem, dtype, device) is None}


def absolute(kernels):
    return tuple(Kernel(k.weight.abs(), None if k.bias is None else k.bias.abs()) for k in kernels)


def sums(problem, x, kernels):
    """Per layer the largest sum of |a||b|; exact in float64 where it stays below 2**53."""
    return [
        magnitudes(x, kernels[:depth], problem.expanded[:depth]).max().item() / (1 + 2.0**-30)
        for depth in range(1, problem.depth + 1)
    ]


# Integers


@given(problems(), SEEDS, st.sampled_from(DTYPES))
def test_no_sum_exceeds_the_significand(problem, seed, dtype):
    x, kernels = draw_integers(problem, dtype, seed=seed)
    limit = 2 ** SIGNIFICAND_BITS[dtype]
    for depth in range(problem.depth + 1):
        values = stack(x.abs(), absolute(kernels[:depth]), problem.layers[:depth]).values
        assert all(value.denominator == 1 for value in values)
        assert max(values) <= limit, f"{problem!r}, {dtype}, seed {seed}: {max(values)} after {depth} layers"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MODEST)
def test_no_sum_exceeds_the_significand_in_the_catalogue(name, dtype):
    problem = REDUCED[name]
    x, kernels = draw_integers(problem, dtype)
    numbers = [x, *(part for kernel in kernels for part in kernel if part is not None)]
    assert all(torch.equal(number, number.round()) and number.dtype is dtype for number in numbers)
    assert max(sums(problem, x, kernels)) <= 2 ** SIGNIFICAND_BITS[dtype] * (1 + 2.0**-40)


def unpadded(problem):
    layers = tuple(dataclasses.replace(layer, padding=0) for layer in problem.expanded)
    return dataclasses.replace(problem, size=CATALOG[problem.name].size, layers=layers).reduced()


@pytest.mark.parametrize("name", SINGLE)
def test_the_significand_is_used(name):
    """A sum within a factor of 4 of the limit, in float32, where no tap is lost to padding."""
    problem = unpadded(SINGLE[name])
    assert max(sums(problem, *draw_integers(problem, torch.float32))) >= 2**22


def test_every_layer_has_ones_and_seeds_differ():
    problem = STACKS["stacks/plain_x16"]
    x, kernels = draw_integers(problem, torch.bfloat16, seed=1)
    assert all(bool(kernel.weight.any()) for kernel in kernels)
    assert all(set(kernel.weight.unique().tolist()) == {-1.0, 0.0, 1.0} for kernel in kernels)
    again, other = (
        draw_integers(problem, torch.bfloat16, seed=1),
        draw_integers(problem, torch.bfloat16, seed=2),
    )
    assert torch.equal(x, again[0])
    assert not torch.equal(x, other[0])


@given(problems(), SEEDS, st.sampled_from(DTYPES))
def test_integer_case_is_the_exact_result(device, problem, seed, dtype):
    case = integer_case(problem, dtype, device, seed)
    expected = stack(*moved("cpu", case.x, case.kernels), problem.layers)
    assert case.expected.dtype is torch.float64
    assert case.expected.flatten().tolist() == expected.values
    assert tuple(case.expected.shape) == expected.shape


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CHOSEN)
def test_right_ways_are_exact_on_integers(name, dtype):
    problem = REDUCED[name]
    case = integer_case(problem, dtype)
    ways = supported(problem, dtype)
    assert len(ways) >= (3 if problem.depth == 1 else 12)
    for way in ways.values():
        check_integers(problem, way, case)


def with_numbers(change):
    """direct, with the input and the weight changed before."""

    def prepare(kernel, layer):
        call = METHODS["direct"].prepare(Kernel(change(kernel.weight), kernel.bias), layer)
        return lambda x: call(change(x))

    return prepare


def with_weight(change):
    """direct, with only the weight changed."""
    return lambda kernel, layer: METHODS["direct"].prepare(Kernel(change(kernel.weight), kernel.bias), layer)


def with_output(change):
    def prepare(kernel, layer):
        call = METHODS["direct"].prepare(kernel, layer)
        return lambda x: change(call(x))

    return prepare


def tf32_cut(tensor):
    """Cut to TF32's 10 fraction bits."""
    return (tensor.view(torch.int32) & -(2**13)).view(torch.float32)


def tf32_rounded(tensor):
    """Rounded to TF32's 10 fraction bits, ties to even."""
    bits = tensor.view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & -(2**13)).view(torch.float32)


def without_last_tap(weight):
    weight = weight.clone()
    weight[..., -1] = 0
    return weight


def flipped(weight):
    return weight.flip(tuple(range(2, weight.ndim)))


def off_by_one_ulp(y):
    return torch.nextafter(y, torch.full_like(y, math.inf))


def broken(prepare, exact_on_integers=True):
    """A way that is no way of the package."""
    return Way(SCHEDULES["stacked"], "broken"), Method("broken", prepare, exact_on_integers=exact_on_integers)


@pytest.mark.parametrize("name", SINGLE)
def test_tf32_is_caught_on_integers(name, monkeypatch):
    """One layer's inputs are large enough to need more than 11 bits."""
    way, method = broken(with_numbers(tf32_cut))
    monkeypatch.setitem(METHODS, "broken", method)
    problem = SINGLE[name]
    with pytest.raises(ArithmeticError, match=r"\d+ of \d+ outputs"):
        check_integers(problem, way, integer_case(problem, torch.float32))


@pytest.mark.parametrize("tf32", [tf32_cut, tf32_rounded])
@pytest.mark.parametrize("name", [n for n in MODEST if not n.startswith("borders/") or n.endswith("_32")])
def test_tf32_is_caught(name, tf32, monkeypatch):
    """By one of the two checks, for stacks too, where the integers between the layers may be small."""
    way, method = broken(with_numbers(tf32))
    monkeypatch.setitem(METHODS, "broken", method)
    # Reduced, a padded stack's taps see hardly anything but zeros: it is taken at the size at which it is timed.
    problem = CATALOG[name] if name.startswith("borders/") else MODEST[name]
    draw = problem.draw(torch.float32, signs="positive")
    case, reference = integer_case(problem, torch.float32), TileReference.of(problem, *draw)
    with pytest.raises(ArithmeticError, match=r"on integers|times the bound"):  # noqa: PT012
        check_single_taps(problem, way, torch.float32)
        check_integers(problem, way, case)
        check_bound(problem, way, torch.float32, draw, reference)


WRONG = {
    "a tap dropped": with_weight(without_last_tap),
    "the kernel flipped": with_weight(flipped),
    "output channels rolled": with_weight(lambda weight: weight.roll(1, 0)),
    "the bias forgotten": lambda kernel, layer: METHODS["direct"].prepare(
        Kernel(kernel.weight), dataclasses.replace(layer, bias=False)
    ),
    "one output off by an ulp": with_output(
        lambda y: torch.cat([off_by_one_ulp(y.flatten()[:1]), y.flatten()[1:]]).view_as(y)
    ),
    "an output NaN": with_output(lambda y: torch.where(y == y.max(), math.nan, y)),
    "a transposed image": with_output(lambda y: y.transpose(2, 3).contiguous()),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_methods_are_caught_on_integers(wrong, dtype, monkeypatch):
    way, method = broken(WRONG[wrong])
    monkeypatch.setitem(METHODS, "broken", method)
    problem = Problem("wrong", 1, 4, (6, 6), (Layer(4, 3, padding=1, bias=True),))
    with pytest.raises(ArithmeticError, match=r"wrong on integers|inexact on integers|not finite"):
        check_integers(problem, way, integer_case(problem, dtype))


@pytest.mark.parametrize("change", [lambda y: y[:, :, :-1], lambda y: y[0], lambda y: y.mT], ids=("cut", "rank", "mT"))
def test_wrong_shapes_are_caught_on_integers(change, monkeypatch):
    way, method = broken(with_output(change))
    monkeypatch.setitem(METHODS, "broken", method)
    problem = Problem("wrong", 1, 4, (6, 5), (Layer(4, 3),))
    with pytest.raises(ArithmeticError, match=r"gives shape .* instead of"):
        check_integers(problem, way, integer_case(problem, torch.float32))


def test_methods_that_do_more_than_add_and_multiply_are_not_asked_for_integers(monkeypatch):
    way, method = broken(with_output(lambda y: y * (1 + 1e-6)), exact_on_integers=False)
    monkeypatch.setitem(METHODS, "broken", method)
    problem = Problem("fourier", 1, 4, (6, 5), (Layer(4, 3),))
    check_integers(problem, way, integer_case(problem, torch.float32))


# Tiles


def problem_of_size(size):
    return Problem("tiles", 1, 1, size, (Layer(1, 1),))


@given(st.integers(1, 3).flatmap(lambda rank: st.tuples(*[st.integers(1, 300)] * rank)))
def test_tiles_fit(size):
    found = tiles(problem_of_size(size))
    positions = [math.prod(part.stop - part.start for part in tile) for tile in found]
    assert sum(positions) <= TILE_POSITIONS == 64
    assert min(positions) >= 1
    for tile in found:
        assert all(0 <= part.start < part.stop <= n for part, n in zip(tile, size, strict=True))
    if math.prod(size) <= TILE_POSITIONS:
        assert found == (tuple(slice(0, n) for n in size),)
    else:
        corner, interior = found
        assert all(part.start == 0 for part in corner)
        assert sum(positions) > TILE_POSITIONS / 4, "too few positions for what is allowed"
        middle = [abs(part.start + part.stop - n) for part, n in zip(interior, size, strict=True)]
        assert max(middle) <= 1


@given(problems(depths=(1, 2)), SEEDS, st.data())
def test_tile_reference_is_the_exact_result(problem, seed, data):
    """The first image only, in the order of `values`, whatever the tiles are."""
    x, kernels = problem.draw(torch.float32, seed=seed)
    whole = convolve(x, kernels, problem.layers)
    reference = TileReference.of(problem, x, kernels)
    cut = [(slice(0, 1), slice(None), *tile) for tile in tiles(problem)]
    expected = torch.cat([whole.to(torch.float64)[part].flatten() for part in cut])
    assert torch.equal(reference.values, expected)
    y = whole.to(torch.float32) + 1
    errors = torch.cat([whole.error(y)[part].flatten() for part in cut])
    assert torch.equal(reference.errors(y), errors)


def test_tile_reference_of_a_large_layer():
    """Two patches of 32 positions, each with all output channels and the full fan-in."""
    problem = CATALOG["resnet50/conv2_3x3"]
    x, kernels = problem.draw(torch.float32)
    reference = TileReference.of(problem, x, kernels)
    assert reference.values.numel() <= 64 * 64
    y = CONVOLUTIONS[2](x.double(), kernels[0].weight.double(), padding=1)
    # float64's own 576 products, and one rounding of the reference
    assert (
        reference.errors(y).abs().max().item() <= 577 * 2.0**-53 * magnitudes(x, kernels, problem.expanded).max().item()
    )


# Bounds


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CHOSEN)
def test_right_ways_meet_their_bound(name, dtype):
    problem = REDUCED[name]
    draw = problem.draw(dtype, signs="positive")
    reference = TileReference.of(problem, *draw)
    for way in supported(problem, dtype).values():
        check_bound(problem, way, dtype, draw, reference)


# Without large strides or dilations, which the library's own 16-bit convolutions get wrong on some machines.
PLAIN = [
    Problem("plain", 1, 8, (9, 9), (Layer(8, 3, padding=1, bias=True), Layer(4, 3, padding=1))),
    Problem("grouped", 1, 8, (9, 9), (Layer(8, 3, groups=4), Layer(8, 1, bias=True), Layer(8, 3, groups=8))),
    Problem("line", 1, 4, (40,), (Layer(8, 4), Layer(4, 5, bias=True))),
    Problem("volume", 1, 4, (5, 5, 5), (Layer(4, 2), Layer(4, 2))),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("problem", PLAIN, ids=lambda problem: problem.name)
@pytest.mark.parametrize("seed", range(3))
def test_positive_draws_meet_the_bound(problem, dtype, seed, device):
    draw = problem.draw(dtype, device, seed, "positive")
    reference = TileReference.of(problem, *draw)
    for way in supported(problem, dtype, device).values():
        check_bound(problem, way, dtype, draw, reference)


LESS = {torch.float16: 7, torch.bfloat16: 4, torch.float32: 10, torch.float64: 23}


def coarse(bits):
    """Rounded to a significand of so many fraction bits."""

    def change(tensor):
        fraction, exponent = torch.frexp(tensor.double())
        return torch.ldexp((fraction * 2 ** (bits + 1)).round() / 2 ** (bits + 1), exponent).to(tensor.dtype)

    return change


BEYOND = {
    "lower precision": lambda dtype: with_numbers(coarse(LESS[dtype])),
    "a tap dropped": lambda dtype: with_weight(without_last_tap),
    "NaN": lambda dtype: with_output(lambda y: y * math.nan),
    "infinite": lambda dtype: with_output(lambda y: y / 0),
    "zero": lambda dtype: with_output(torch.zeros_like),
    "one output off": lambda dtype: with_output(
        lambda y: torch.cat([y.flatten()[:1] * 1.25, y.flatten()[1:]]).view_as(y)
    ),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CHOSEN)
def test_right_ways_round_no_more_than_their_dtype(name, dtype):
    """On kernels with one non-zero tap; and arithmetic of fewer bits does not pass, however large the fan-in."""
    problem = REDUCED[name]
    for way in supported(problem, dtype).values():
        check_single_taps(problem, way, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CHOSEN)
def test_narrower_arithmetic_is_caught_on_one_tap(name, dtype, monkeypatch):
    way, method = broken(with_numbers(coarse(SIGNIFICAND_BITS[dtype] // 2)))
    monkeypatch.setitem(METHODS, "broken", method)
    with pytest.raises(ArithmeticError, match="one non-zero tap is"):
        check_single_taps(REDUCED[name], way, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("wrong", BEYOND)
def test_beyond_the_bound_is_caught(wrong, dtype, monkeypatch):
    """Also where a method may round on integers."""
    way, method = broken(BEYOND[wrong](dtype), exact_on_integers=False)
    monkeypatch.setitem(METHODS, "broken", method)
    problem = Problem("wrong", 1, 8, (6, 6), (Layer(8, 3),))
    draw = problem.draw(dtype, signs="positive")
    with pytest.raises(ArithmeticError, match="times the bound"):
        check_bound(problem, way, dtype, draw, TileReference.of(problem, *draw))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STACKS)
def test_bounds_are_ordered(name, dtype):
    """Merging in float64 adds less than in the working dtype; and bounds say something.

    Planned by time is some cut, whose bound `test_planning` checks.
    """
    problem = STACKS[name]
    relative = {s: way_bound(problem, way_named(f"{s}/direct"), dtype) for s in SCHEDULES if s != "planned"}
    assert all(0 < absolute < 0.1 for _, absolute in relative.values())
    assert 0 < relative["merged"][0] <= relative["merged_working"][0] == relative["merged_per_call"][0]
    assert relative["stacked"][0] < {8: 0.3, 11: 0.05, 24: 0.01, 53: 1e-8}[SIGNIFICAND_BITS[dtype]]
