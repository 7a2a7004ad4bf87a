"""Sums of convolutions as one convolution, on whole numbers, exactly."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, integers
from torch import nn

from linear_lasagna import Kernel, Layer
from linear_lasagna.models.reparameterization import diagonal, fuse_batch_norm, joined_kernel, joined_layer, pointwise

CONVOLUTIONS = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}


def computed(x, kernel, layer):
    """One layer through torch in float64; exact on these whole numbers."""
    convolution = CONVOLUTIONS[x.ndim - 2]
    return convolution(x, kernel.weight, kernel.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


AXES = list(itertools.product((1, 2, 3), (0, 1, 2, 3), (1, 2, 3)))  # kernel size, padding, dilation


def outputs(n, stride, kernel_size, padding, dilation):
    """Outputs along one axis of n positions; below 1 where impossible."""
    return (n + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1


@st.composite
def branches(draw):
    """(x, kernels, layers): convolutions of one input and stride, whose outputs have one shape."""
    rank, channels, out, seed = draw(st.integers(1, 3)), 4, 2 * draw(st.integers(1, 2)), draw(SEEDS)
    size = tuple(draw(st.integers(3, 7 - rank)) for _ in range(rank))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    fitting = []  # per axis: all that give as many outputs as one of them
    for n, step in zip(size, stride, strict=True):
        first = draw(st.sampled_from([axis for axis in AXES if outputs(n, step, *axis) > 0]))
        fitting.append([axis for axis in AXES if outputs(n, step, *axis) == outputs(n, step, *first)])
    layers, kernels = [], []
    for index in range(draw(st.integers(2, 4))):
        kernel_size, padding, dilation = zip(*(draw(st.sampled_from(axes)) for axes in fitting), strict=True)
        groups, bias = draw(st.sampled_from((1, 2))), draw(st.booleans())
        layers.append(Layer(out, kernel_size, stride, padding, dilation, groups, bias).expand(rank))
        weight = integers(layers[-1].weight_shape(channels), 3, seed + 2 * index)
        kernels.append(Kernel(weight, integers((out,), 3, seed + 2 * index + 1) if bias else None))
    return integers((2, channels, *size), 3, seed + 99), kernels, layers


@given(branches())
def test_sum_of_convolutions_is_one(drawn):
    x, kernels, layers = drawn
    layer = joined_layer(layers)
    kernel = joined_kernel(kernels, layers, layer)
    assert tuple(kernel.weight.shape) == layer.weight_shape(x.shape[1])
    assert layer.bias == (kernel.bias is not None)
    expected = sum(computed(x, *each) for each in zip(kernels, layers, strict=True))
    assert torch.equal(computed(x, kernel, layer), expected)


@given(branches())
def test_joined_kernel_reaches_no_further_than_it_must(drawn):
    """On every axis both ends of the joined kernel are some branch's own tap."""
    _, kernels, layers = drawn
    layer = joined_layer(layers)
    ones = [Kernel(torch.ones_like(kernel.weight)) for kernel in kernels]
    taps = joined_kernel(ones, layers, layer).weight.sum((0, 1))
    for axis in range(taps.ndim):
        assert float(taps.select(axis, 0).sum()) > 0
        assert float(taps.select(axis, -1).sum()) > 0


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([Layer(4, 3, padding=1), Layer(4, 1)], Layer(4, 3, padding=1)),
        ([Layer(4, 3, stride=2, padding=1), Layer(4, 1, stride=2)], Layer(4, 3, stride=2, padding=1)),
        ([Layer(4, 3, padding=2, dilation=2), Layer(4, 1)], Layer(4, 3, padding=2, dilation=2)),
        ([Layer(4, 3, padding=2, dilation=2), Layer(4, 3, padding=1)], Layer(4, 5, padding=2)),
        ([Layer(4, 3, padding=1, groups=4), Layer(4, 1, groups=2)], Layer(4, 3, padding=1, groups=2)),
        ([Layer(4, (1, 3), padding=(0, 1)), Layer(4, (3, 1), padding=(1, 0))], Layer(4, 3, padding=1)),
        ([Layer(4, 1), Layer(4, 1, bias=True)], Layer(4, 1, bias=True)),
    ],
    ids=str,
)
def test_joined_layer(layers, expected):
    assert joined_layer([layer.expand(2) for layer in layers]) == expected.expand(2)


@pytest.mark.parametrize(
    ("other", "reason"), [(Layer(4, 1, stride=2), "stride"), (Layer(2, 1), "number of channels")], ids=str
)
def test_not_joined(other, reason):
    assert reason in joined_layer([Layer(4, 1).expand(2), other.expand(2)])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_fold_and_diagonal(rank, bias):
    x, scale, shift = integers((2, 3, *(4,) * rank), 3, 1), integers((3,), 3, 2), integers((3,), 3, 3)
    column = (-1, *(1,) * rank)
    expected = x * scale.view(column) + shift.view(column)
    layer = pointwise(3, rank, bias=True)
    assert torch.equal(computed(x, diagonal(scale, shift, rank), layer), expected)
    own = Kernel(integers((3, 1, *(1,) * rank), 3, 4), integers((3,), 3, 5) if bias else None)
    after = computed(expected, own, layer) * scale.view(column) + shift.view(column)
    assert torch.equal(computed(expected, fuse_batch_norm(own, scale, shift), layer), after)
