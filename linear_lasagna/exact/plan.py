"""What a stack needs to be computed exactly: its numbers as limbs, a bound for every layer, the primes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from linear_lasagna.exact import primes as system
from linear_lasagna.exact.scaling import Limbs, Span, limbs, span
from linear_lasagna.problems import ExpandedLayer, Kernel


class Step(NamedTuple):
    """A layer ready to be computed: its numbers as limbs, counted in powers of two of the layer's output."""

    layer: ExpandedLayer
    weight: Limbs  # (rows, out channels, fan-in); a fan-in runs over kernel positions, then channels
    bias: Limbs | None  # (rows, out channels, 1)
    primes: tuple[int, ...]
    known: int  # how many of the primes the layer before used
    following: tuple[int, ...]  # the next layer's primes


class Plan(NamedTuple):
    """A stack ready to be computed: its input's span, its layers; the result counts 2**exponent."""

    span: Span
    steps: tuple[Step, ...]
    exponent: int

    @property
    def layers(self) -> tuple[ExpandedLayer, ...]:
        """The layers, without their numbers."""
        return tuple(step.layer for step in self.steps)


class Numbers(NamedTuple):
    """A kernel's numbers as limbs, counted in powers of two of their own."""

    weight: Limbs
    exponent: int
    bias: Limbs | None
    bias_exponent: int


def numbers_of(kernels: Sequence[Kernel]) -> list[Numbers]:
    """What every plan for these kernels needs of them. Raises ValueError for numbers that are not finite."""
    return [_numbers(kernel, f"kernel {index}") for index, kernel in enumerate(kernels)]


def _numbers(kernel: Kernel, name: str) -> Numbers:
    matrix = kernel.weight.flatten(2).transpose(1, 2).flatten(1)
    spanned = span(matrix, f"{name}'s weight")
    weight = limbs(matrix, spanned)
    if kernel.bias is None:
        return Numbers(weight, spanned.exponent, None, 0)
    bias_spanned = span(kernel.bias, f"{name}'s bias")
    return Numbers(weight, spanned.exponent, limbs(kernel.bias[:, None], bias_spanned), bias_spanned.exponent)


def plan(x: torch.Tensor, kernels: Sequence[Numbers], layers: Sequence[ExpandedLayer]) -> Plan:
    """Scale the numbers and choose the primes that every layer needs. x: only the part that will be used.

    A layer's bound is its input's bound times the largest row sum of its weights' magnitudes, plus the
    largest bias. Raises ValueError for numbers that are not finite.
    """
    source = span(x)
    exponent, bound = source
    numbers, bounds = [], []
    for kernel in kernels:
        weight, bias, exponent, bound = _scaled(kernel, exponent, bound)
        numbers.append((weight, bias))
        bounds.append(bound)
    # The bias is one more product.
    fan_in = max(weight.values.shape[-1] for weight, _ in numbers) + 1
    primes, counts = system.choose(bounds, fan_in)
    following = (*counts[1:], counts[-1])
    steps = [
        Step(layer, weight, bias, primes[:count], known, primes[:more])
        for layer, (weight, bias), count, known, more in zip(
            layers, numbers, counts, (0, *counts[:-1]), following, strict=True
        )
    ]
    return Plan(source, tuple(steps), exponent)


def _scaled(kernel: Numbers, exponent: int, bound: int) -> tuple[Limbs, Limbs | None, int, int]:
    """Weight and bias in powers of the output, its exponent and its bound, from those of the input."""
    exponent += kernel.exponent
    bound *= kernel.weight.largest_sum
    if kernel.bias is None:
        return kernel.weight, None, exponent, bound
    lowest = min(exponent, kernel.bias_exponent)
    bias = kernel.bias.times(kernel.bias_exponent - lowest)
    bound = (bound << (exponent - lowest)) + bias.largest_sum
    return kernel.weight.times(exponent - lowest), bias, lowest, bound
