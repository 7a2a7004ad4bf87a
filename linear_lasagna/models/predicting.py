"""The rounding error to expect of what was merged, from a few outputs of every convolution, without timing or probing.

`rounding.predict_error` asks the library how it adds up, which takes seconds for a large layer. Here the order of
summation is left open: pairwise, sequential, and sequential from the bias on, as libraries differ, give a range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy
import torch
from torch import fx
from torch.nn import functional

from linear_lasagna.formats import LEAST_EXPONENT, SIGNIFICAND_BITS, accumulator
from linear_lasagna.merging import merge_stack
from linear_lasagna.methods.views import windows
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models.layers import MODULES
from linear_lasagna.models.steps import Step
from linear_lasagna.models.values import wide
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.roundings import Roundings
from linear_lasagna.rounding.variance import rounding_error, storage_error

Sums: TypeAlias = Callable[[torch.Tensor], list[Roundings]]

POSITIONS, CHANNELS = 8, 8  # of the outputs that are looked at


class Range(NamedTuple):
    """Relative L2 error for the best and for the worst order of summation, dimensionless."""

    least: float
    most: float


def predicted_errors(
    model: fx.GraphModule, steps: Mapping[fx.Node, Sequence[Step]], inputs: Sequence[Any]
) -> dict[fx.Node, Range]:
    """The error that the rounding of each node's own numbers, sums and outputs will make.

    steps: of the nodes, calls of one module each. Errors of a node's input are not counted.
    """
    predicting = _Predicting(model, steps)
    with torch.no_grad():
        predicting.run(*inputs)
    return predicting.found


def in_turn(errors: Sequence[Range]) -> Range:
    """The error of convolutions one after another: each is taken to be carried on at its relative size."""
    return Range(*(math.hypot(*ends) for ends in zip(*errors, strict=True)))


class _Predicting(fx.Interpreter):
    def __init__(self, model: fx.GraphModule, steps: Mapping[fx.Node, Sequence[Step]]) -> None:
        super().__init__(model)
        self.steps, self.found = steps, dict[fx.Node, Range]()

    def run_node(self, n: fx.Node) -> Any:
        if n in self.steps:
            (x,) = self.fetch_args_kwargs_from_env(n)[0]
            self.found[n] = predicted(x[:1], *_computed(self.module.get_submodule(str(n.target)), self.steps[n]))
        return super().run_node(n)


def _computed(module: Any, steps: Sequence[Step]) -> tuple[Kernel, ExpandedLayer]:
    """The steps as one convolution, right inside the border, in the module's dtype where it is this convolution.

    Where the module rescales its outputs, they are meant before that.
    """
    if len(steps) == 1 and type(module) in MODULES.values():
        return Kernel(module.weight, module.bias), steps[0].layer
    none = (0,) * len(steps[0].layer.kernel_size)
    layers = [steps[0].layer, *(replace(step.layer, padding=none) for step in steps[1:])]
    kernel, layer = merge_stack([step.kernel() for step in steps], layers, torch.float64)
    if getattr(module, "scale", None) is None:
        return kernel, layer
    larger = 1 / wide(module.scale).flatten()
    weight = kernel.weight * larger.view(-1, *(1,) * (kernel.weight.ndim - 1))
    return Kernel(weight, None if kernel.bias is None else kernel.bias * larger), layer


def predicted(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> Range:
    """The error of one convolution of x whose kernel, of any numbers, was rounded to x's dtype.

    x: (batch, in, *size), of which some outputs' terms are looked at, evenly spread over positions and channels.
    """
    channels = _spread(layer.out_channels, CHANNELS)
    weight = wide(kernel.weight[channels]).flatten(1)
    seen = _seen(x, layer, channels)
    products = seen * weight
    variance = (seen.square() * storage_error(weight, x.dtype).variance).sum(-1)
    if kernel.bias is not None:
        bias = wide(kernel.bias[channels])
        products = torch.cat([products, bias.expand(len(products), -1).unsqueeze(-1)], -1)
        variance = variance + storage_error(bias, x.dtype).variance
    found = [_relative(products, variance, x.dtype, sums) for sums in (_pairwise, _sequential)]
    if kernel.bias is not None:  # oneDNN's kernels for AVX2 start from it
        found.append(_relative(products.roll(1, -1), variance, x.dtype, _sequential))
    return Range(min(found), max(found))


def _spread(number: int, most: int) -> list[int]:
    """At most `most` of the numbers below `number`, evenly spread."""
    return torch.linspace(0, number - 1, min(most, number), dtype=torch.float64).round().long().tolist()


def _seen(x: torch.Tensor, layer: ExpandedLayer, channels: Sequence[int]) -> torch.Tensor:
    """The inputs of some outputs: float64, (outputs, channels, fan-in)."""
    view, rank = windows(x, layer), len(layer.kernel_size)
    sizes = tuple(view.shape[2 : 2 + rank])
    places = [numpy.unravel_index(place, sizes) for place in _spread(math.prod(sizes), POSITIONS)]
    patches = wide(torch.stack([view[(0, slice(None), *map(int, place))] for place in places]))
    per_group = x.shape[1] // layer.groups
    starts = [channel * layer.groups // layer.out_channels * per_group for channel in channels]
    return torch.stack([patches[:, start : start + per_group].flatten(1) for start in starts], 1)


def _relative(products: torch.Tensor, variance: torch.Tensor, dtype: torch.dtype, sums: Sums) -> float:
    """products: (outputs, channels, n); variance: of the errors from elsewhere, (outputs, channels)."""
    running = accumulator(dtype)
    errors = [rounding_error(each, SIGNIFICAND_BITS[running], LEAST_EXPONENT[running]) for each in sums(products)]
    y = products.sum(-1)
    if running is not dtype:
        errors.append(storage_error(y.unsqueeze(-1), dtype))
    bias = torch.stack([error.bias.sum(-1) for error in errors]).sum(0)
    return relative_l2(torch.stack([bias, (sum(error.variance.sum(-1) for error in errors) + variance).sqrt()]), y)


def _sequential(products: torch.Tensor) -> list[Roundings]:
    """One running sum; its first product is rounded by itself, all others with the sum."""
    return [Roundings(products.cumsum(-1), products)]


def _pairwise(products: torch.Tensor) -> list[Roundings]:
    """Halves, each summed likewise: neighbours first, level by level."""
    found = [Roundings(products[..., ::2], products[..., ::2])]
    while products.shape[-1] > 1:
        left, right = products[..., ::2], functional.pad(products[..., 1::2], (0, products.shape[-1] % 2))
        products = left + right
        found.append(Roundings(products, right))
    return found
