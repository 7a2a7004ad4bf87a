"""Convolutions with bias and nothing else, whose stored outputs are rounded to integers.

Between 1024 and 2048 the numbers of float16 are the integers, as are bfloat16's between 128 and 256: their ulp is 1
there. A bias that is larger by 1536 (192) puts a layer's outputs there, so that storing them rounds them, to nearest,
ties to even. The next layer's bias takes the offset back. In exact arithmetic offsets cancel, and the stack is one
convolution.

Rounding passes every small change by, so it is trained with the derivative 1 − cos 2πx in place of its own: that of
x − sin(2πx) / 2π, which climbs where round does, halfway between integers, and is level at them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from analysis.precision.digits.modules import convolution, convolved
from linear_lasagna.problems import Kernel, Problem

OFFSETS = {torch.float16: 1536.0, torch.bfloat16: 192.0}  # the middle of the numbers whose ulp is 1
GAINS = (1.0, 0.5)  # standard deviation of the first layer's weights, and of the others', times √fan-in


class Round(torch.autograd.Function):
    """To the nearest integer, ties to even, with the derivative 1 − cos 2πx."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        rounded = x.round()
        ctx.save_for_backward(x - rounded)  # exact, and small: cosines of large numbers take several times as long
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (rest,) = ctx.saved_tensors
        return torch.addcmul(gradient, gradient, (2 * math.pi * rest).cos_(), value=-1)


def stored(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """As the dtype holds them, in x's dtype; the derivative is 1."""
    return x + (x.detach().to(dtype).to(x.dtype) - x.detach())


class Numbers(NamedTuple):
    """A layer's weight, the bias that is deployed, and what that adds to numbers without offsets; numbers of dtype."""

    weight: torch.Tensor
    bias: torch.Tensor
    effective: torch.Tensor


class RoundedStack(nn.Module):
    """A problem's layers, trained as they will run in dtype: each but the last followed by rounding to integers.

    problem: two-dimensional, no padding (its zeros would be no zeros beside an offset), no groups, every layer with a
    bias; dtype: of `OFFSETS`. Weights of the later layers have zero mean per output, so that they hardly see an offset,
    and what they see of it the bias takes back to the last bit.
    """

    def __init__(self, problem: Problem, dtype: torch.dtype, seed: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.problem, self.dtype = problem, dtype
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for place, (layer, channels) in enumerate(zip(problem.expanded, problem.channels, strict=False)):
            scale = GAINS[min(place, 1)] / math.sqrt(layer.fan_in(channels))
            self.weights.append(scale * torch.randn(layer.weight_shape(channels), generator=draws))
            self.biases.append(torch.zeros(layer.out_channels))

    def numbers(self) -> Iterator[Numbers]:
        """Of every layer, as dtype holds them."""
        offset = OFFSETS[self.dtype]
        before = 0.0  # the offset of what a layer reads
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            after = offset if place + 1 < len(self.weights) else 0.0
            if before:
                weight = weight - weight.mean((1, 2, 3), keepdim=True)
            weight = stored(weight, self.dtype)
            seen = before * weight.sum((1, 2, 3))
            deployed = stored(bias - seen + after, self.dtype)
            yield Numbers(weight, deployed, deployed + seen - after)
            before = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, *size) as float32 to (n, the last layer's outputs): what the deployed stack computes, but for
        the order of its sums.
        """
        for place, (numbers, layer) in enumerate(zip(self.numbers(), self.problem.expanded, strict=True)):
            x = convolved(Round.apply(x) if place else x, numbers.weight, numbers.effective, layer.stride)
        return x.flatten(1)

    @torch.no_grad()
    def deployed(self) -> nn.Sequential:
        """Plain nn.Conv2d in a row, of dtype."""
        dtype = self.dtype
        modules = [
            convolution(Kernel(numbers.weight.to(dtype), numbers.bias.to(dtype)), layer)
            for numbers, layer in zip(self.numbers(), self.problem.expanded, strict=True)
        ]
        return nn.Sequential(*modules).requires_grad_(False)
