"""Linear stacks that are trained through the rounding of formats which this processor need not have.

One network per format, side by side along the first axis: layers of products that add biases, and every layer's output
stored in the format, as inputs, weights and biases are. No activation, no scaling. `linear_lasagna.simulated` computes
the same, in a thousand times the time, and is what tests compare this with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import torch
from torch import nn

from linear_lasagna.problems import Kernel, Problem
from linear_lasagna.simulated import Format

HELD = {torch.float32: (torch.int32, 24), torch.float64: (torch.int64, 53)}


@dataclass(frozen=True)
class Formats:
    """Formats of numbers (formats, …) held in float32 or float64, whose exponents theirs must lie within.

    Raises ValueError for formats without subnormal numbers, and those that do not saturate but could overflow.
    """

    forms: tuple[Format, ...]

    def __post_init__(self) -> None:
        if not all(form.subnormals and (form.saturating or form.exponent_bits >= 8) for form in self.forms):
            raise ValueError("formats trained through have subnormal numbers, and saturate or have 8 bits of exponent")

    @cached_property
    def short(self) -> list[tuple[int, Format]]:
        """Those with fewer exponents than float32, and their places."""
        return [(place, form) for place, form in enumerate(self.forms) if form.exponent_bits < 8]

    def constants(self, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Of each format how many bits of the dtype are dropped, half of their unit less one, and the bits kept."""
        return _constants(tuple(form.significand_bits for form in self.forms), like.dtype, like.ndim)

    def round(self, x: torch.Tensor) -> torch.Tensor:
        """To nearest, ties to even, on the bits: as `linear_lasagna.simulated.cast`, which see."""
        drop, half, kept = self.constants(x)
        bits = x.contiguous().view(HELD[x.dtype][0])
        y = (bits >> drop).bitwise_and_(1).add_(half).add_(bits).bitwise_and_(kept).view(x.dtype)
        for place, form in self.short:
            own = x[place]
            small = torch.round(own / form.smallest) * form.smallest
            y[place] = torch.where(own.abs() < form.smallest_normal, small, y[place]).clamp_(
                -form.largest, form.largest
            )
        return y

    def phase(self, x: torch.Tensor) -> torch.Tensor:
        """How far numbers lie above the next one towards zero, in units of their ulp: 0 to 1."""
        _, _, kept = self.constants(x)
        above = (x.contiguous().view(HELD[x.dtype][0]) & ~kept).to(x.dtype).div_(-kept)
        for place, form in self.short:
            own = x[place]
            above[place] = torch.where(own.abs() < form.smallest_normal, own / form.smallest, above[place])
        return above


@cache
def _constants(significands: tuple[int, ...], dtype: torch.dtype, rank: int) -> tuple[torch.Tensor, ...]:
    kind, digits = HELD[dtype]
    drop = torch.tensor([digits - bits for bits in significands], dtype=kind).view(-1, *[1] * (rank - 1))
    unit = torch.ones_like(drop) << drop
    return drop, (unit >> 1) - 1, -unit


class _Stored(torch.autograd.Function):
    """What is stored of sums, with a derivative of 1 − slope · cos 2πu, u: the sums in units of their ulp."""

    @staticmethod
    def forward(ctx: Any, sums: torch.Tensor, kept: torch.Tensor, formats: Formats, slope: float) -> torch.Tensor:
        ctx.save_for_backward(sums)
        ctx.formats, ctx.slope = formats, slope
        return kept

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        (sums,) = ctx.saved_tensors
        if ctx.slope:
            gradient = gradient * (1 - ctx.slope * torch.cos(2 * math.pi * ctx.formats.phase(sums)))
        return gradient, None, None, None


class Numbers(NamedTuple):
    """Of a layer: weight (formats, in, out), bias (formats, 1, out), numbers of the formats."""

    weight: torch.Tensor
    bias: torch.Tensor


class SimulatedStacks(nn.Module):
    """A problem's layers in every format: the first sees the whole image, the others are 1×1, all have biases.

    Weights are drawn with variance 1 / fan-in, biases with the standard deviation `biases`, alike for all formats.
    narrow: running sums are rounded to the format, too, term by term, the bias last; else they are as wide as the
    numbers' dtype. slope: of the derivative that stands for that of rounding, 0 for a constant 1 (the straight-through
    estimator; Bengio, Léonard, Courville, arXiv 1308.3432).
    """

    def __init__(
        self, problem: Problem, formats: Formats, seed: int, biases: float, narrow: bool = False, slope: float = 1.0
    ) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.problem, self.formats, self.narrow, self.slope = problem, formats, narrow, slope
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for terms, layer in zip(problem.fan_ins, problem.layers, strict=True):
            weight = torch.randn(terms, layer.out_channels, generator=draws) / math.sqrt(terms)
            bias = torch.randn(1, layer.out_channels, generator=draws) * biases
            self.weights.append(weight.repeat(len(formats.forms), 1, 1))
            self.biases.append(bias.repeat(len(formats.forms), 1, 1))

    def stored(self, sums: torch.Tensor, kept: torch.Tensor | None = None, slope: float = 0.0) -> torch.Tensor:
        """Sums rounded to the formats."""
        kept = self.formats.round(sums.detach()) if kept is None else kept
        return _Stored.apply(sums, kept, self.formats, slope)  # type: ignore[no-any-return]

    def numbers(self) -> Iterator[Numbers]:
        """Of every layer."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            yield Numbers(self.stored(weight), self.stored(bias))

    def inputs(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, *size) as the formats hold them, (n, formats, pixels)."""
        return self.formats.round(x.flatten(1).expand(len(self.formats.forms), -1, -1)).transpose(0, 1)

    def outputs(self, x: torch.Tensor, rounding: bool = True) -> torch.Tensor:
        """Of `inputs`, (formats, n, outputs). rounding: else only inputs and weights are numbers of the formats: the
        twin.
        """
        y = x.transpose(0, 1)
        for place, each in enumerate(self.numbers()):
            sums = torch.baddbmm(each.bias, y, each.weight)
            kept = self.running(y.detach(), each) if self.narrow and rounding else None
            slope = self.slope if place + 1 < len(self.weights) else 0.0
            y = self.stored(sums, kept, slope) if rounding else sums
        return y

    @torch.no_grad()
    def running(self, y: torch.Tensor, each: Numbers) -> torch.Tensor:
        """Sums whose every step is rounded, bias last."""
        total = self.formats.round(y[..., :1] * each.weight[:, :1])
        for term in range(1, y.shape[-1]):
            total = self.formats.round(total + y[..., term : term + 1] * each.weight[:, term : term + 1])
        return self.formats.round(total + each.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of `inputs`, (n, outputs, formats)."""
        return self.outputs(x).permute(1, 2, 0)

    @torch.no_grad()
    def kernels(self, place: int) -> tuple[Kernel, ...]:
        """Of the network in the format of that place, for `linear_lasagna.simulated.convolve`; float64."""
        layers = zip(self.numbers(), self.problem.expanded, self.problem.channels, strict=False)
        return tuple(
            Kernel(each.weight[place].T.reshape(layer.weight_shape(channels)).double(), each.bias[place, 0].double())
            for each, layer, channels in layers
        )

    def function(self, place: int, rounding: bool = True) -> Callable[[torch.Tensor], torch.Tensor]:
        """What the network in the format of that place makes of float64 images, (n, outputs), once this module is in
        float64. rounding: else neither inputs nor outputs are rounded.
        """

        @torch.no_grad()
        def call(x: torch.Tensor) -> torch.Tensor:
            whole = x.double().flatten(1).expand(len(self.formats.forms), -1, -1)
            y = self.formats.round(whole) if rounding else whole
            return self.outputs(y.transpose(0, 1), rounding)[place]

        return call
