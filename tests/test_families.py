"""Families of data: what they promise, and the same numbers on every processor."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy
import pytest
import scipy.stats
import torch
from torch.nn import functional

from analysis.precision.families import INPUTS, WEIGHTS, draw, family_named
from analysis.precision.families.drawing import drawn_input, drawn_weights
from analysis.precision.families.photographs import photographs
from analysis.precision.families.trained import kept
from analysis.precision.unit import Unit, plain
from linear_lasagna.methods import METHODS
from linear_lasagna.problems import Layer, Problem

STACK = plain(3, channels=4, output=4)
GROUPED = Problem("grouped", 1, 4, (9,), (Layer(6, 3, groups=2, bias=True), Layer(2, 3, groups=2)))
# First 8 hex digits of SHA-256 over the float64 numbers of two draws. `pink` needs sines.
DIGESTS = {
    "normal": "9cfc6494",
    "offset": "e3fd4688",
    "relu": "60693441",
    "photograph": "0d5c518c",
    "heavy_tails": "e40f711a",
    "spot": "b0f4f168",
    "constant": "e07a30ae",
    "laplace": "2149553d",
    "pruned": "008e2972",
    "near_identity": "5a0419b6",
    "rank_one": "4b03ceb8",
    "zero_mean": "13ce517d",
    "trained_digits": "fbed9787",
    "trained_photographs": "81baa1b2",
}


def digest(arrays):
    return hashlib.sha256(b"".join(numpy.ascontiguousarray(each).tobytes() for each in arrays)).hexdigest()[:8]


def many(family, seeds=40):
    """The numbers of many draws, each weight times sqrt(fan-in)."""
    if family in WEIGHTS:
        return numpy.concatenate([each.ravel() * 6 for s in range(seeds) for each in drawn_weights(STACK, s, family)])
    return numpy.concatenate([drawn_input(STACK, seed, family).ravel() for seed in range(seeds)])


@pytest.mark.parametrize("family", [name for name in (*INPUTS, *WEIGHTS) if name not in ("uniform", "pink")])
def test_the_numbers_are_the_same_everywhere(family):
    if family in INPUTS and family in WEIGHTS:
        arrays = [drawn_input(STACK, 0, family), *drawn_weights(STACK, 1, family)]
    elif family in INPUTS:
        arrays = [drawn_input(STACK, seed, family) for seed in range(2)]
    else:
        arrays = [each for seed in range(2) for each in drawn_weights(STACK, seed, family)]
    assert digest(arrays) == DIGESTS[family]


def test_every_family_has_its_sentence():
    for family in (*INPUTS.values(), *WEIGHTS.values()):
        assert family.about
        assert ("strength" in family.about) == (family.strength is not None)


@pytest.mark.parametrize(
    ("family", "distribution"),
    [
        ("normal", scipy.stats.norm()),
        ("laplace", scipy.stats.laplace(scale=1 / math.sqrt(2))),
        ("heavy_tails", scipy.stats.t(3, scale=1 / math.sqrt(3))),
        ("offset:2", scipy.stats.norm(2)),
    ],
)
def test_distributions(family, distribution):
    """Kolmogorov and Smirnov's test on some ten thousand numbers."""
    assert scipy.stats.kstest(many(family), distribution.cdf).pvalue > 0.01


def test_inputs_from_the_same_noise():
    noise = drawn_input(STACK, 5, "normal")
    assert numpy.array_equal(drawn_input(STACK, 5, "relu"), numpy.maximum(noise, 0))
    assert numpy.array_equal(drawn_input(STACK, 5, "offset:0.5"), noise + 0.5)
    factor = drawn_input(STACK, 5, "spot:100") / noise
    assert set(factor.ravel().round(9)) == {1, 100}
    assert [tuple(where.tolist()) for where in (factor[0, 0] > 50).nonzero()] == [(4, 4, 5, 5), (4, 5, 4, 5)]


def test_constant_images_are_constant():
    image = drawn_input(STACK, 0, "constant")
    assert (image == image[..., :1, :1]).all()
    assert len(numpy.unique(image)) == 4


def test_pink_is_one_over_f():
    """Power times f**2 is the same at all frequencies: over 30 images, within a fourth for each octave."""
    size, powers = 32, 0
    problem = Problem("p", 1, 4, (size, size), (Layer(1, 1),))
    for seed in range(30):
        image = drawn_input(problem, seed, "pink")
        assert image.min() == 0
        assert image.max() == 1
        spread = image - image.mean((2, 3), keepdims=True)
        spread /= spread.std((2, 3), keepdims=True)
        powers = powers + (abs(numpy.fft.fft2(spread)) ** 2).mean((0, 1))
    f = numpy.hypot(*numpy.meshgrid(*[numpy.fft.fftfreq(size)] * 2))
    octaves = [(f >= low) & (f < 2 * low) for low in (1 / 16, 1 / 8, 1 / 4)]
    levels = [(powers * f**2)[octave].mean() for octave in octaves]
    assert max(levels) / min(levels) < 1.25


def found(patch):
    """Whether the pixels (height, width, colours) are somewhere in a photograph, all colours or one."""
    height, width = patch.shape[:2]
    windows = numpy.lib.stride_tricks.sliding_window_view(photographs(), (height, width), (1, 2))
    places = (windows[..., 0, 0] == patch[0, 0]) & (windows[..., -1, -1] == patch[-1, -1])
    chosen = windows[places] if patch.shape[2] == 1 else windows[places.all(-1)]
    return (chosen == patch.transpose(2, 0, 1)).all(axis=(-1, -2)).any()


@pytest.mark.parametrize("channels", [3, 4])
def test_patches_are_parts_of_photographs(channels):
    problem = Problem("p", 2, channels, (7, 9), (Layer(1, 1),))
    images = drawn_input(problem, 3, "photograph") * 255
    pixels = images.round().astype(numpy.uint8)
    assert abs(images - pixels).max() < 1e-12
    patches = (
        list(pixels.transpose(0, 2, 3, 1)) if channels == 3 else [each[..., None] for each in pixels.reshape(-1, 7, 9)]
    )
    assert all(map(found, patches))
    assert len({each.tobytes() for each in patches}) == len(patches)


def test_pruned_weights_are_the_smallest():
    dense, sparse = (drawn_weights(STACK, 2, family) for family in ("normal", "pruned:0.75"))
    for before, after in zip(dense, sparse, strict=True):
        zero = after == 0
        assert zero.sum() == 0.75 * after.size
        assert numpy.array_equal(after[~zero], before[~zero])
        assert abs(before[zero]).max() < abs(before[~zero]).min()


def test_the_identity_of_every_group_is_kept():
    problem = Problem("p", 1, 4, (7, 8), (Layer(4, 3), Layer(4, (1, 3), groups=2), Layer(4, 1, groups=4)))
    x = torch.randn(problem.shapes[0], dtype=torch.float64)
    y = x
    for weight, layer in zip(drawn_weights(problem, 0, "near_identity:0"), problem.expanded, strict=True):
        y = functional.conv2d(y, torch.from_numpy(weight), groups=layer.groups)
    assert torch.equal(y, x[:, :, 1:-1, 2:-2])
    near, noise = (drawn_weights(problem, 1, family)[0] for family in ("near_identity:0.5", "normal"))
    assert numpy.array_equal(near[0, 1], 0.5 * noise[0, 1])


def test_rank_one_and_means_of_zero():
    noise, outlier, centred = (drawn_weights(STACK, 4, family) for family in ("normal", "rank_one:2", "zero_mean"))
    for plain_weight, weight, zero in zip(noise, outlier, centred, strict=True):
        assert weight - plain_weight == pytest.approx(2 / 36, rel=1e-12)
        assert abs(zero.sum((2, 3))).max() < 1e-15
        assert zero - plain_weight == pytest.approx(-plain_weight.mean((2, 3), keepdims=True) + 0 * zero, abs=1e-15)


@pytest.mark.parametrize("name", ["digits", "photographs"])
def test_trained_layers_follow_each_other(name):
    """The same network and channels throughout, layers in turn; the same numbers of float32."""
    networks = kept()[name]
    assert (networks.shape, networks.dtype) == ((4, 3, 32, 32, 3, 3), numpy.float32)
    weights = drawn_weights(plain(4, channels=32), 7, f"trained_{name}")
    assert numpy.array_equal(weights[0], weights[3])
    places = {networks[index].tobytes(): index for index in itertools.product(*map(range, networks.shape[:4]))}
    index = [
        [places[weight[pair].astype(numpy.float32).tobytes()] for pair in itertools.product(range(32), repeat=2)]
        for weight in weights
    ]
    channels = [[(o, i) for *_, o, i in layer] for layer in index]
    assert channels[0] == channels[1] == channels[2]
    assert len({network for layer in index for network, *_ in layer}) == 1
    layers = [layer[0][1] for layer in index]
    assert [(b - a) % 3 for a, b in itertools.pairwise(layers)] == [1, 1, 1]
    with pytest.raises(ValueError, match="3 x 3 with up to 32 channels, not 5 x 5 with 4"):
        drawn_weights(plain(1, 4, 5), 0, f"trained_{name}")
    with pytest.raises(ValueError, match="not 3 x 3 with 33"):
        drawn_weights(plain(1, 33), 0, f"trained_{name}")


@pytest.mark.parametrize("problem", [STACK, GROUPED], ids=lambda problem: problem.name)
@pytest.mark.parametrize(
    ("inputs", "weights"), [("pink", "uniform"), ("uniform", "rank_one:4"), ("spot", "near_identity")]
)
def test_draws_are_levelled_by_powers_of_two(problem, inputs, weights):
    x, kernels = draw(problem, 3, inputs=inputs, weights=weights)
    own_x, own = problem.draw(torch.float64, seed=3)
    raw = torch.from_numpy(drawn_input(problem, 3, inputs)) if inputs != "uniform" else own_x
    drawn = drawn_weights(problem, 3, weights) if weights != "uniform" else [kernel.weight.numpy() for kernel in own]
    factors = [float((x / raw).nanmedian())]
    assert torch.equal(raw * factors[0], x)
    y = x
    for kernel, weight, layer in zip(kernels, drawn, problem.expanded, strict=True):
        factors.append(float((kernel.weight / torch.from_numpy(weight)).nanmedian()))
        assert torch.equal(torch.from_numpy(weight) * factors[-1], kernel.weight)
        y = METHODS["direct"](y, kernel, layer)
        assert 0.7 < float(y.square().mean().sqrt()) < 1.42
    assert all(math.frexp(factor)[0] == 0.5 for factor in factors)


def test_input_and_weights_are_drawn_apart():
    one, other = (draw(STACK, 1, inputs=inputs, weights="normal")[1] for inputs in ("relu", "relu"))
    assert torch.equal(one[0].weight, other[0].weight)
    x, same = (draw(STACK, 1, inputs="relu", weights=weights)[0] for weights in ("normal", "uniform"))
    assert torch.equal(x, same)
    assert not numpy.array_equal(
        drawn_input(STACK, 1, "normal")[0, :, :3, :3], drawn_weights(STACK, 1, "normal")[0][0] * 6
    )


def test_positive_signs_are_those_of_uniform_numbers():
    x, kernels = draw(STACK, 1, "positive", inputs="relu")
    assert all(bool((kernel.weight >= 0).all()) for kernel in kernels)
    x, kernels = draw(STACK, 1, "positive", weights="normal")
    assert bool((x >= 0).all())
    assert bool((kernels[0].weight < 0).any())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inputs": "noise"}, "unknown family 'noise'; known: uniform, normal"),
        ({"weights": "spot"}, "unknown family 'spot'; known: uniform, normal, laplace"),
        ({"inputs": "relu:2"}, "the family 'relu' has no strength, as 'relu:2' has"),
        ({"weights": "rank_one:much"}, "the strength in 'rank_one:much' must be a finite number, as in 'rank_one:1'"),
        ({"inputs": "spot:inf"}, "must be a finite number"),
        ({"signs": "positive", "inputs": "relu", "weights": "normal"}, "positive numbers are uniform ones"),
        ({"truth": "exact"}, "truth must be one of rounded, float32, float64, not 'exact'"),
    ],
)
def test_units_of_no_family_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Unit(STACK, "float32", **{"signs": "random", "seed": 0} | values)


def test_shapes_that_a_family_cannot_have_are_refused():
    for rank in (1, 3):
        size = (3,) * rank
        problem = Problem("p", 1, 2, size, (Layer(1, 1),))
        if rank == 1:
            assert drawn_input(problem, 0, "photograph").shape == (1, 2, 3)
        else:
            with pytest.raises(ValueError, match="photographs have 2 axes and 427 x 640 positions, not 3 x 3 x 3"):
                drawn_input(problem, 0, "photograph")
        assert drawn_input(problem, 0, "pink").shape == (1, 2, *size)
        with pytest.raises(ValueError, match="a kernel of one tap"):
            drawn_weights(problem, 0, "zero_mean")
    with pytest.raises(ValueError, match="at least 2 positions"):
        drawn_input(Problem("p", 1, 2, (1, 1), (Layer(1, 1),)), 0, "pink")
    with pytest.raises(ValueError, match="less than 1, not 1"):
        drawn_weights(STACK, 0, "pruned:1")


def test_a_strength_is_read_from_the_name():
    assert family_named("rank_one", WEIGHTS) == (WEIGHTS["rank_one"], 1.0)
    assert family_named("rank_one:0.25", WEIGHTS) == (WEIGHTS["rank_one"], 0.25)
    assert family_named("normal", WEIGHTS)[1] is None
