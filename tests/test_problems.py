"""Layers and problems: shapes and counts against torch's modules, refusals, drawing, the reduced problem."""

import copy
import dataclasses
import math
import pickle
import statistics

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, layers, problems

from linear_lasagna import Layer, Problem
from linear_lasagna.catalog import CATALOG

MODULES = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}
SIGMAS = 5  # a true statement about n samples fails by chance less often than once in a million


def modules(problem):
    """The layers as torch's modules, without memory."""
    channels, made = problem.in_channels, []
    for layer in problem.layers:
        module = MODULES[len(problem.size)](
            channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias,
            device="meta",
        )
        made.append(module)
        channels = layer.out_channels
    return made


def torch_shapes(problem):
    """Shapes before each layer and after the last, from torch. Raises RuntimeError where torch does."""
    x = torch.empty((problem.batch, problem.in_channels, *problem.size), device="meta")
    shapes = [tuple(x.shape)]
    for module in modules(problem):
        x = module(x)
        shapes.append(tuple(x.shape))
    return tuple(shapes)


@given(problems())
def test_shapes_and_counts_are_torchs(problem):
    shapes, made = torch_shapes(problem), modules(problem)
    products = [module.weight[0].numel() for module in made]
    assert problem.shapes == shapes
    assert problem.channels == tuple(shape[1] for shape in shapes)
    assert problem.sizes == tuple(shape[2:] for shape in shapes)
    assert problem.fan_ins == tuple(products)
    assert problem.parameters == sum(p.numel() for module in made for p in module.parameters())
    assert problem.macs == sum(math.prod(s) * n for s, n in zip(shapes[1:], products, strict=True))
    ends = math.prod(shapes[0]) + math.prod(shapes[-1])
    assert problem.least_bytes(8) == 8 * (ends + problem.parameters)
    assert (problem.rank, problem.depth) == (len(problem.size), len(made))


@given(problems())
def test_expanded_layers_are_the_modules(problem):
    for layer, module, channels in zip(problem.expanded, modules(problem), problem.channels, strict=False):
        assert layer.kernel_size == module.kernel_size
        assert (layer.stride, layer.padding) == (module.stride, module.padding)
        assert (layer.dilation, layer.groups, layer.bias) == (
            module.dilation,
            module.groups,
            module.bias is not None,
        )
        assert layer.weight_shape(channels) == tuple(module.weight.shape)
        assert layer.taps == math.prod(module.kernel_size)
        assert layer.expand(problem.rank) == layer


@given(st.data())
def test_possible_exactly_where_torch_says_so(data):
    """Sizes drawn without regard to the layers: torch refuses the same ones."""
    rank = data.draw(st.integers(1, 3))
    stack = [data.draw(layers(rank, 2))]
    stack.append(data.draw(layers(rank, stack[0].out_channels)))
    size = tuple(data.draw(st.integers(1, 9)) for _ in range(rank))
    fields = {"batch": 1, "in_channels": 2, "size": size, "layers": tuple(stack)}
    unchecked = type("Unchecked", (), fields)
    try:
        shapes = torch_shapes(unchecked)
    except RuntimeError:
        with pytest.raises(ValueError, match=r"^drawn: layer [01] spans") as refusal:
            Problem("drawn", **fields)
        assert "\n" not in str(refusal.value)
    else:
        assert Problem("drawn", **fields).shapes == shapes


@given(problems(), st.integers(1, 9))
def test_input_size_is_the_least(problem, wanted):
    for layer in problem.expanded:
        size = layer.input_size((wanted,) * problem.rank)
        assert min(layer.output_size(size)) >= wanted
        for axis, n in enumerate(size):
            smaller = (*size[:axis], n - 1, *size[axis + 1 :])
            assert n == 1 or layer.output_size(smaller)[axis] < wanted, f"{layer}: {size}, but {smaller} would do"


IMPOSSIBLE_LAYERS = [
    ({"out_channels": 0}, "out_channels"),
    ({"out_channels": -4}, "out_channels"),
    ({"out_channels": 2.0}, "out_channels"),
    ({"out_channels": True}, "out_channels"),
    ({"kernel_size": 0}, "kernel_size"),
    ({"kernel_size": (3, 0)}, "kernel_size"),
    ({"kernel_size": ()}, "kernel_size"),
    ({"kernel_size": [3, 3]}, "kernel_size"),
    ({"kernel_size": "3"}, "kernel_size"),
    ({"kernel_size": (1, 1, 1, 1)}, "kernel_size"),
    ({"stride": 0}, "stride"),
    ({"stride": (1, -1)}, "stride"),
    ({"padding": -1}, "padding"),
    ({"padding": "same"}, "padding"),
    ({"dilation": 0}, "dilation"),
    ({"dilation": 1.5}, "dilation"),
    ({"groups": 0}, "groups"),
    ({"groups": 3}, "groups"),
    ({"bias": None}, "bias"),
    ({"bias": 1}, "bias"),
    ({"kernel_size": (3, 3), "stride": (1, 1, 1)}, "one length"),
]


@pytest.mark.parametrize(("wrong", "named"), IMPOSSIBLE_LAYERS, ids=str)
def test_impossible_layers(wrong, named):
    assert_refused(lambda: Layer(**{"out_channels": 4, "kernel_size": 3} | wrong), named)


IMPOSSIBLE_PROBLEMS = [
    ({"name": ""}, "name"),
    ({"name": 3}, "name"),
    ({"batch": 0}, "batch"),
    ({"batch": 1.0}, "batch"),
    ({"in_channels": 0}, "in_channels"),
    ({"occurrences": 0}, "occurrences"),
    ({"size": ()}, "size"),
    ({"size": 8}, "size"),
    ({"size": [8, 8]}, "size"),
    ({"size": (8, 0)}, "size"),
    ({"size": (8, 8, 8, 8)}, "size"),
    ({"layers": ()}, "layers"),
    ({"layers": [Layer(4, 3)]}, "layers"),
    ({"layers": Layer(4, 3)}, "layers"),
    ({"layers": (Layer(4, 3), "conv")}, "layers"),
    ({"layers": (Layer(4, 3), Layer(4, 3, groups=2), Layer(6, 3, groups=3))}, "layer 2"),
    ({"in_channels": 3, "layers": (Layer(4, 3, groups=2),)}, "layer 0"),
    ({"layers": (Layer(4, (3, 3, 3)),)}, "spatial axes"),
    ({"layers": (Layer(4, 9),)}, "layer 0"),
    ({"layers": (Layer(4, 5), Layer(4, 5))}, "layer 1"),
    ({"layers": (Layer(4, 3, dilation=4),)}, "layer 0"),
    ({"layers": (Layer(4, 11, padding=1),)}, "layer 0"),
]


@pytest.mark.parametrize(("wrong", "named"), IMPOSSIBLE_PROBLEMS, ids=str)
def test_impossible_problems(wrong, named):
    fields = {"name": "p", "batch": 1, "in_channels": 2, "size": (8, 8), "layers": (Layer(4, 3),)}
    assert_refused(lambda: Problem(**fields | wrong), named)


def assert_refused(make, named):
    """ValueError in one line that names what is wrong."""
    with pytest.raises(ValueError, match=named) as refusal:
        make()
    assert "\n" not in str(refusal.value)


def test_frozen_and_hashable():
    problem = Problem("p", 1, 2, (8,), (Layer(4, 3),))
    assert hash(problem) == hash(dataclasses.replace(problem))
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.batch = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.layers[0].stride = 2


def numbers(drawn):
    """Input, weights and biases of a draw, in order."""
    x, kernels = drawn
    return [x, *(part for kernel in kernels for part in kernel if part is not None)]


@given(problems(), SEEDS, st.sampled_from(("random", "positive")))
def test_draw_is_reproducible_and_the_same_in_every_dtype(problem, seed, signs):
    wide = numbers(problem.draw(torch.float64, seed=seed, signs=signs))
    for dtype in DTYPES:
        for found, expected in zip(numbers(problem.draw(dtype, seed=seed, signs=signs)), wide, strict=True):
            assert found.dtype is dtype
            assert torch.equal(found, expected.to(dtype))
    other = numbers(problem.draw(torch.float64, seed=seed + 1, signs=signs))
    assert not torch.equal(torch.cat([n.flatten() for n in other]), torch.cat([n.flatten() for n in wide]))


@given(problems(), SEEDS)
def test_draw_fits_the_problem(problem, seed):
    x, kernels = problem.draw(seed=seed)
    assert x.dtype is torch.float32
    assert tuple(x.shape) == torch_shapes(problem)[0]
    for kernel, module in zip(kernels, modules(problem), strict=True):
        assert kernel.weight.shape == module.weight.shape
        assert (kernel.bias is None) == (module.bias is None)
        assert kernel.bias is None or kernel.bias.shape == module.bias.shape


@given(problems(), SEEDS)
def test_positive_draws_are_not_negative(problem, seed):
    for part in numbers(problem.draw(torch.float64, seed=seed, signs="positive")):
        assert bool((part >= 0).all())
    x, _ = problem.draw(torch.float64, seed=seed, signs="positive")
    assert bool((x < 1).all())


@pytest.mark.parametrize("signs", ["", "negative", None])
def test_draw_refuses_other_signs(signs):
    problem = Problem("p", 1, 2, (8,), (Layer(4, 3),))
    assert_refused(lambda: problem.draw(signs=signs), "random, positive")


def test_random_draws_have_the_stated_moments():
    """Uniform on [-a, a): the mean of n squares is a^2 / 3 with standard error a^2 sqrt(4 / 45 / n)."""
    problem = Problem("p", 4, 16, (64, 64), (Layer(256, 3, bias=True, groups=2),))
    x, (kernel,) = problem.draw(torch.float64, seed=1)
    for values, variance in ((x, 1), (kernel.weight, 1 / 72), (kernel.bias, 1 / 64)):
        squares, n = values.square().mean().item() / variance, values.numel()
        assert abs(squares - 1) <= SIGMAS * math.sqrt(0.8 / n), f"variance {squares} x {variance}, n = {n}"
        assert abs(values.mean().item()) <= SIGMAS * math.sqrt(variance / n)
        assert values.abs().max().item() <= math.sqrt(3 * variance)


STATISTICS = [
    (1, Layer(32, 1)),
    (3, Layer(32, 3)),
    (3, Layer(32, 2, groups=4)),
    (2, Layer(32, (2, 1), stride=2)),
]


@pytest.mark.parametrize(("depth", "layer"), STATISTICS, ids=str)
@pytest.mark.parametrize(("signs", "moment", "kept"), [("random", 2, 1.0), ("positive", 1, 0.5)])
def test_stacks_keep_the_moment(depth, layer, signs, moment, kept):
    """Random signs keep the variance, positive numbers the mean, within the standard error over seeds."""
    size = (12, 12)
    problem = Problem("p", 1, 32, size, (layer,) * depth)
    means = []
    for seed in range(40):
        y, kernels = problem.draw(torch.float64, seed=seed, signs=signs)
        for module, kernel in zip(modules(problem), kernels, strict=True):
            y = torch.nn.functional.conv2d(y, kernel.weight, None, module.stride, groups=module.groups)
        means.append(y.pow(moment).mean().item())
    error = statistics.stdev(means) / math.sqrt(len(means))
    assert abs(statistics.mean(means) - kept) <= SIGMAS * error, f"{statistics.mean(means)} +- {error}, not {kept}"
    assert error < 0.1 * kept, "the check would find nothing"


def assert_reduced(problem, least=4):
    """Batch 1, the same layers, no axis longer than the problem's, and 4 outputs or all that there are."""
    reduced = problem.reduced()
    assert dataclasses.replace(reduced, batch=problem.batch, size=problem.size) == problem
    assert reduced.batch == 1
    assert all(a <= b for a, b in zip(reduced.size, problem.size, strict=True))
    enough = min(least, math.prod(problem.sizes[-1]))
    assert math.prod(reduced.sizes[-1]) >= enough, f"{problem} has more outputs than its reduced {reduced.size}"
    return reduced, enough


def assert_least(problem):
    """No axis of the reduced input could be shorter."""
    reduced, enough = assert_reduced(problem)
    for axis, n in enumerate(reduced.size):
        try:
            smaller = dataclasses.replace(reduced, size=(*reduced.size[:axis], n - 1, *reduced.size[axis + 1 :]))
        except ValueError:
            continue
        assert math.prod(smaller.sizes[-1]) < enough, f"{problem} reduces to {reduced.size}, {smaller.size} would do"


@given(problems())
@example(Problem("thin", 1, 1, (1, 100), (Layer(1, 1),)))
@example(Problem("thin", 1, 1, (3, 100, 1), (Layer(1, (3, 1, 1), stride=2),)))
@example(Problem("cube", 1, 1, (9, 9, 9), (Layer(1, 3),)))
def test_reduced_is_the_least(problem):
    """Padding alone may give more outputs than wanted; without it no smaller input would do."""
    assert_reduced(problem)
    unpadded = tuple(dataclasses.replace(layer, padding=0) for layer in problem.layers)
    size = tuple(n + 4 * 3**problem.depth for n in problem.size)  # more than the padding gave, stride 3 at most
    assert_least(dataclasses.replace(problem, size=size, layers=unpadded))


@pytest.mark.parametrize("name", CATALOG)
def test_reduced_catalogue(name):
    assert_least(CATALOG[name])


def test_floor():
    """3×3, 2 → 4, on 2 images of 4×4: 2 · 4 · 2² · 18 multiply-accumulates; 64 + 32 + 72 numbers of 2 bytes."""
    problem = Problem("p", 2, 2, (4, 4), (Layer(4, 3),))
    assert problem.floor_s(1e3, 1e9, 2) == 576 / 1e3
    assert problem.floor_s(1e9, 1e3, 2) == 336 / 1e3


def test_a_problem_is_found_again_after_its_hash_was_asked_for():
    """In a mapping; and a pickle does not carry the hash into a process that hashes strings otherwise."""
    problem = CATALOG["stacks/plain_x3"]
    again, renamed = pickle.loads(pickle.dumps(problem)), dataclasses.replace(problem, name="other")
    assert {problem: 1}[again] == {problem: 1}[copy.deepcopy(problem)] == 1
    assert "_hash" in vars(problem)
    assert "_hash" not in vars(pickle.loads(pickle.dumps(problem)))
    assert renamed not in {problem: 1}
