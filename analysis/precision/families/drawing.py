"""A problem's input and kernels, of any two families, from a seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.precision.families.family import family_named
from analysis.precision.families.inputs import INPUTS, UNIFORM
from analysis.precision.families.weights import WEIGHTS, Place
from linear_lasagna.problems import Kernel, Problem
from linear_lasagna.vocabulary import Signs

if TYPE_CHECKING:
    import torch


def draw(
    problem: Problem, seed: int, signs: Signs = "random", inputs: str = UNIFORM, weights: str = UNIFORM
) -> tuple[torch.Tensor, tuple[Kernel, ...]]:
    """Input (batch, in_channels, *size) and a kernel per layer, float64, on the CPU.

    inputs, weights: names in `INPUTS` and `WEIGHTS`, with a strength as in "spot:100". Of the uniform families signs
    has its meaning, and biases are theirs. The input does not depend on the family of the weights, nor the other way
    round. Where a family is another one, the input and each layer's kernel are multiplied by the power of two that
    brings the root mean square of the input, or of the layer's output, closest to 1: so no stack leaves a dtype's range
    before it must. Raises ValueError for unknown families, and for shapes that a family cannot have.
    """
    import torch

    x, kernels = problem.draw(torch.float64, seed=seed, signs=signs)
    if inputs == weights == UNIFORM:
        return x, kernels
    if inputs != UNIFORM:
        x = torch.from_numpy(drawn_input(problem, seed, inputs))
    if weights != UNIFORM:
        drawn = map(torch.from_numpy, drawn_weights(problem, seed, weights))
        kernels = tuple(Kernel(weight, kernel.bias) for weight, kernel in zip(drawn, kernels, strict=True))
    return levelled(x, kernels, problem)


def drawn_input(problem: Problem, seed: int, name: str):
    """The input as an array, of a family other than the uniform one."""
    import numpy

    family, strength = family_named(name, INPUTS)
    random = numpy.random.default_rng([seed, 0])
    return family.draw(random, problem.shapes[0], *(() if strength is None else (strength,)))


def drawn_weights(problem: Problem, seed: int, name: str):
    """The layers' weights as arrays, of a family other than the uniform one."""
    import numpy

    family, strength = family_named(name, WEIGHTS)
    pairs = zip(problem.expanded, problem.channels, strict=False)
    places = [Place(layer.weight_shape(channels), layer.groups) for layer, channels in pairs]
    random = numpy.random.default_rng([seed, 1])
    return family.draw(random, places, *(() if strength is None else (strength,)))


def levelled(x: torch.Tensor, kernels: tuple[Kernel, ...], problem: Problem) -> tuple[torch.Tensor, tuple[Kernel, ...]]:
    """Input and kernels times a power of two each: the root mean squares of input and layers' outputs are near 1."""
    from linear_lasagna.methods.direct import direct

    result = []
    x = y = x * leveller(x)
    for kernel, layer in zip(kernels, problem.expanded, strict=True):
        y = direct(y, kernel, layer)
        factor = leveller(y)
        result.append(kernel.map(lambda numbers, by=factor: numbers * by))
        y = y * factor
    return x, tuple(result)


def leveller(x: torch.Tensor) -> float:
    """The power of two closest to 1 / x's root mean square, 1 where that is zero."""
    size = float(x.square().mean().sqrt())
    return 2.0 ** -round(math.log2(size)) if size else 1.0
