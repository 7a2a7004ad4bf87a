"""The tests' own truth: known answers, torch in float64 on whole numbers, and what it must not let pass."""

import math
from fractions import Fraction

import pytest
import torch
from exactly import Grid, assert_equals, assert_within, error_limit, full_convolution, grid, magnitudes, stack
from hypothesis import given
from strategies import SEEDS, integer_numbers, integers, mergeable_problems, problems

from linear_lasagna import Kernel, Layer

MODULES = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def torch_stack(x, kernels, layers):
    """The stack through torch's modules."""
    for kernel, layer in zip(kernels, layers, strict=True):
        module = MODULES[x.ndim - 2](
            x.shape[1],
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias,
            dtype=torch.float64,
        )
        module.weight.data = kernel.weight
        if kernel.bias is not None:
            module.bias.data = kernel.bias
        x = module(x)
    return x.detach()


@given(problems(), SEEDS)
def test_stack_is_torch_on_whole_numbers(problem, seed):
    x, kernels = integer_numbers(problem, seed, largest=9)
    assert_equals(torch_stack(x, kernels, problem.layers), stack(x, kernels, problem.layers), repr(problem))


def test_known_answers():
    x = tensor([[[1, 2, 3, 4]]])
    cases = [
        (Layer(1, 2), [[[10, 1]]], None, [[[12, 23, 34]]]),  # a correlation: the kernel is not flipped
        (Layer(1, 2, padding=1), [[[10, 1]]], None, [[[1, 12, 23, 34, 40]]]),
        (Layer(1, 2, stride=2), [[[10, 1]]], None, [[[12, 34]]]),
        (Layer(1, 2, dilation=2), [[[10, 1]]], None, [[[13, 24]]]),
        (Layer(2, 1, bias=True), [[[1]], [[-1]]], [5, 0], [[[6, 7, 8, 9], [-1, -2, -3, -4]]]),
    ]
    for layer, weight, bias, expected in cases:
        kernel = Kernel(tensor(weight), None if bias is None else tensor(bias))
        assert_equals(tensor(expected), stack(x, [kernel], [layer]), repr(layer))


def test_groups_see_their_own_channels():
    x = tensor([[[1], [10], [100], [1000]]])
    weight = tensor([[[1], [2]], [[3], [4]], [[5], [6]], [[7], [8]]])
    expected = tensor([[[21], [43], [6500], [8700]]])
    assert_equals(expected, stack(x, [Kernel(weight)], [Layer(4, 1, groups=2)]))


def test_nothing_is_rounded():
    x, weight = tensor([[[2.0**60, 1.0, 0.1]]]), tensor([[[1.0, 2.0**-60, 0.1]]])
    expected = 2**60 + Fraction(1, 2**60) + Fraction(0.1) ** 2
    assert stack(x, [Kernel(weight)], [Layer(1, 3)]) == Grid((1, 1, 1), [expected])


def test_full_convolution_multiplies_polynomials():
    """(1 + 2 z)(3 + 4 z + 5 z^2), with the powers ascending along the kernel."""
    found = full_convolution(tensor([[[1, 2]]]), tensor([[[3, 4, 5]]]))
    assert found == Grid((1, 1, 4), [3, 10, 13, 10])


@given(mergeable_problems(depths=(2, 2)), SEEDS)
def test_full_convolution_is_the_stack(problem, seed):
    """Unpadded, without bias and groups: one convolution with the full convolution of the kernels."""
    shapes = [layer.expand(problem.rank).kernel_size for layer in problem.layers]
    middle, last = (layer.out_channels for layer in problem.layers)
    first = integers((middle, problem.in_channels, *shapes[0]), 3, seed)
    second = integers((last, middle, *shapes[1]), 3, seed + 1)
    taps = tuple(a + b - 1 for a, b in zip(*shapes, strict=True))
    x = integers((1, problem.in_channels, *(t + 1 for t in taps)), 3, seed + 2)
    merged = full_convolution(first, second)
    weight = tensor([float(v) for v in merged.values]).view(merged.shape)
    layers = [Layer(middle, shapes[0]), Layer(last, shapes[1])]
    expected = stack(x, [Kernel(first), Kernel(second)], layers)
    assert stack(x, [Kernel(weight)], [Layer(last, taps)]) == expected


@pytest.mark.parametrize("wrong", [[1.0, 3.0], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_assert_equals_refuses(wrong):
    with pytest.raises(AssertionError, match="reproducer"):
        assert_equals(tensor(wrong), grid(tensor([1.0, 2.0])), "reproducer")


@pytest.mark.parametrize("error", [[0.0, 2.1], [0.0, math.nan], [-1.1, 0.0], [-math.inf, 0.0]])
def test_assert_within_refuses(error):
    with pytest.raises(AssertionError, match="reproducer"):
        assert_within(tensor(error), tensor([1.0, 2.0]), "reproducer")
    assert_within(tensor([-1.0, 2.0]), tensor([1.0, 2.0]), "reproducer")


@given(problems(), SEEDS)
def test_magnitudes_are_the_stack_of_absolute_values(problem, seed):
    x, kernels = integer_numbers(problem, seed)
    absolute = [Kernel(k.weight.abs(), None if k.bias is None else k.bias.abs()) for k in kernels]
    expected = stack(x.abs(), absolute, problem.layers)
    found = magnitudes(x, kernels, problem.layers)
    assert_equals(found.round(), expected)


def test_error_limit_is_the_sum_of_what_the_layers_add():
    """Two 1 x 1 layers in float16: the first's error passes through the second's weight."""
    x, kernels = tensor([[[3.0]]]), [Kernel(tensor([[[-2.0]]])), Kernel(tensor([[[5.0]]]))]
    limit, magnitude = error_limit(x, kernels, [Layer(1, 1)] * 2, [1, 1], torch.float16)
    one, least = 2.0**-11 + 2.0**-24, 2.0**-24
    first = 6 * one + least
    expected = first * 5 + (30 + first * 5) * one + least
    assert magnitude.item() == pytest.approx(30, rel=1e-8)
    assert limit.item() == pytest.approx(expected, rel=2.0**-11)
