"""Exact gradients: against autograd on integers that float64 holds, and against their definition in fractions."""

from __future__ import annotations

from fractions import Fraction

import exactly
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, integer_numbers, integers, problems

from linear_lasagna import Kernel, Layer, Problem
from linear_lasagna.exact import convolve
from linear_lasagna.exact.gradients import input_gradient, layer_gradients, weight_gradients

WIDE = Problem(
    "wide",
    2,
    4,
    (12, 11),
    (
        Layer(4, (3, 2), stride=(2, 1), padding=(0, 3), groups=2, bias=True),
        Layer(6, 3, padding=(2, 1), dilation=(1, 2)),
        Layer(2, (2, 3), stride=2, padding=1),
    ),
)


def autograd(x, grad, kernels, layers):
    """The gradients of input, weights and biases as torch computes them: without rounding, of small integers."""
    x, weights = x.clone().requires_grad_(), [k.weight.clone().requires_grad_() for k in kernels]
    biases = [w.new_zeros(len(w)) if k.bias is None else k.bias.clone() for w, k in zip(weights, kernels, strict=True)]
    y = x
    for weight, bias, layer in zip(weights, biases, layers, strict=True):
        settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
        y = exactly.CONVOLUTIONS[x.ndim - 2](y, weight, bias.detach_().requires_grad_(), *settings)
    y.backward(grad)
    return [leaf.grad for leaf in (x, *weights, *biases)]


def both(x, grad, kernels, layers):
    """The exact gradients of all weights, then of all biases."""
    weights, biases = zip(*layer_gradients(x, grad, kernels, layers), strict=True)
    return *weights, *biases


@given(problem=problems(), seed=SEEDS, power=st.integers(-200, 200))
def test_gradients_of_integers_are_autograd_s(problem, seed, power):
    """Strides, dilations, paddings beyond the kernel, groups, all ranks; a power of two changes the exponent alone."""
    x, kernels = integer_numbers(problem, seed)
    grad = integers(problem.shapes[-1], 3, seed + 99)
    expected = autograd(x, grad, kernels, problem.expanded)
    scaled = grad * 2.0**power
    found = [
        input_gradient(scaled, kernels, problem.layers, problem.size),
        *both(x, scaled, kernels, problem.layers),
    ]
    point = (1,) * (1 + problem.rank)
    shapes = [(*each.shape, *point) if each.ndim == 1 else tuple(each.shape) for each in expected]
    assert [each.shape for each in found] == shapes
    for each, right in zip(found, expected, strict=True):
        assert torch.equal(each.to(torch.float64).view_as(right), right * 2.0**power)


def test_gradients_of_some_layers_are_those_of_all():
    x, kernels = WIDE.draw(torch.float32, seed=5)
    grad = x.new_tensor(range(1, 1 + torch.Size(WIDE.shapes[-1]).numel())).view(WIDE.shapes[-1])
    every = layer_gradients(x, grad, kernels, WIDE.layers)
    some = layer_gradients(x, grad, kernels, WIDE.layers, (2, 0))
    for place, found in zip((2, 0), some, strict=True):
        assert [each.fractions() for each in found] == [each.fractions() for each in every[place]]


def unit_tensors(shape):
    return torch.eye(shape.numel(), dtype=torch.float64).view(-1, *shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_are_their_definition_in_fractions(dtype):
    """The loss is linear in the input and in each layer's weights: its value at unit vectors is the gradient."""
    problem = Problem("p", 1, 1, (5, 4), (Layer(2, 2, bias=True), Layer(1, (2, 1), stride=2, padding=1), Layer(2, 2)))
    x, kernels = problem.draw(dtype, seed=3)
    grad = problem.draw(dtype, seed=4)[0].new_tensor(range(1, 1 + torch.Size(problem.shapes[-1]).numel()))
    grad = (grad.view(problem.shapes[-1]) / 7).contiguous()
    weighted = exactly.grid(grad).values

    def loss(image, used):
        return sum(a * b for a, b in zip(weighted, exactly.stack(image, used, problem.layers).values, strict=True))

    bare = [Kernel(k.weight) for k in kernels]
    found = input_gradient(grad, kernels, problem.layers, problem.size)
    assert found.fractions() == [loss(one, bare) for one in unit_tensors(x.shape)]
    for index, found in enumerate(weight_gradients(x, grad, kernels, problem.layers)):
        units = unit_tensors(kernels[index].weight.shape)
        used = [[*kernels[:index], Kernel(one), *bare[index + 1 :]] for one in units]
        assert found.fractions() == [loss(x, each) for each in used]


def test_errors_of_autograd_are_small_and_seen():
    """Of float32 the errors are some u, and a change in one last place is seen."""
    x, kernels = WIDE.draw(torch.float32, seed=1)
    grad = torch.randn(WIDE.shapes[-1], generator=torch.Generator().manual_seed(2))
    exact = [
        input_gradient(grad, kernels, WIDE.layers, WIDE.size),
        *both(x, grad, kernels, WIDE.layers),
    ]
    for each, computed in zip(exact, autograd(x, grad, kernels, WIDE.expanded), strict=True):
        computed = computed.view(each.shape)
        size = float(each.to(torch.float64).abs().max())
        assert 0 < float(each.error(computed).abs().max()) < 2**-18 * size
        rounded = each.to(torch.float32)
        moved = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
        assert bool((each.error(moved).abs() >= each.error(rounded).abs()).all())


@given(problem=problems(), seed=SEEDS, power=st.integers(-900, 900))
def test_parts_add_up_to_the_numbers(problem, seed, power):
    x, kernels = problem.draw(torch.float64, seed=seed)
    first, *later = kernels
    exact = convolve(x, [first.map(lambda numbers: numbers * 2.0**power), *later], problem.layers)
    parts, exponent = exact.parts()
    sums = [sum(map(Fraction, column)) * Fraction(2) ** exponent for column in parts.flatten(1).T.tolist()]
    assert sums == exact.fractions()


def test_a_gradient_that_does_not_fit_is_refused():
    x, kernels = WIDE.draw(torch.float32)
    wrong = torch.zeros(2, 2, 3, 3)
    with pytest.raises(ValueError, match=r"grad must be \(2, 2, .*not \(2, 2, 3, 3\) of torch.float32"):
        input_gradient(wrong, kernels, WIDE.layers, WIDE.size)
    with pytest.raises(ValueError, match=r"of torch.float32, .*of torch.float64"):
        weight_gradients(x, torch.zeros(WIDE.shapes[-1], dtype=torch.float64), kernels, WIDE.layers)
