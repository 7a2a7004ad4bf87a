"""The rounding error to expect of what was merged, from a few outputs of every convolution, without timing or probing.

`rounding.predict_error` asks the library how it adds up, which takes seconds for a large layer. Here the order of
summation is left open: the best one, pairwise, and the worst, sequential, give a range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import fx

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.merging import merge_stack
from linear_lasagna.models.steps import Step, wide
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.accumulation import declared
from linear_lasagna.rounding.order import Sum, pairwise, sequential
from linear_lasagna.rounding.variance import sampled_windows, storage_error, summing_error

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
            self.found[n] = predicted(x[:1], *whole(self.steps[n]))
        return super().run_node(n)


def whole(steps: Sequence[Step]) -> tuple[Kernel, ExpandedLayer]:
    """The steps as one convolution, right inside the border; float64."""
    none = (0,) * len(steps[0].layer.kernel_size)
    layers = [steps[0].layer, *(replace(step.layer, padding=none) for step in steps[1:])]
    return merge_stack([step.kernel() for step in steps], layers, torch.float64)


def predicted(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> Range:
    """The error of one convolution of x whose kernel is rounded to x's dtype. kernel: float64."""
    outputs = _sampled(x, kernel, layer)
    orders = (order(layer.fan_in(x.shape[1]) + layer.bias) for order in (pairwise, sequential))
    least, most = sorted(_relative(outputs, x, layer, order) for order in orders)
    return Range(least, most)


class _Outputs(NamedTuple):
    """products: float64 terms (outputs, channels, n), the bias the last; variance: of the kernel's rounding."""

    products: torch.Tensor
    variance: torch.Tensor


def _sampled(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> _Outputs:
    """Some outputs' terms, evenly spread over positions and channels."""
    out, per_group = kernel.weight.shape[:2]
    chosen = torch.linspace(0, out - 1, min(CHANNELS, out)).round().long()
    patches = sampled_windows(wide(x), layer, POSITIONS)
    starts = [int(channel) * layer.groups // out * per_group for channel in chosen]
    seen = torch.stack([patches[:, start : start + per_group].flatten(1) for start in starts], 1)
    weights = kernel.weight[chosen].flatten(1)
    products = seen * weights
    variance = (seen.square() * storage_error(weights, x.dtype).variance).sum(-1)
    if kernel.bias is not None:
        bias = kernel.bias[chosen]
        products = torch.cat([products, bias.expand(len(products), -1).unsqueeze(-1)], -1)
        variance = variance + storage_error(bias, x.dtype).variance
    return _Outputs(products, variance)


def _relative(outputs: _Outputs, x: torch.Tensor, layer: ExpandedLayer, order: Sum) -> float:
    how = replace(declared("direct", layer, tuple(x.shape), x.dtype), order=order)
    sums, y = summing_error(outputs.products, x.dtype, how), outputs.products.sum(-1)
    last = storage_error(y, x.dtype)
    square = float((sums.bias.square() + sums.variance + outputs.variance).sum())
    if how.bits > SIGNIFICAND_BITS[x.dtype]:
        square += float((last.bias.square() + last.variance).sum())
    size = float(torch.linalg.vector_norm(y))
    return math.sqrt(square) / size if size else math.inf
