"""Linear stacks that are trained through the rounding of formats which this processor need not have.

One network per format, side by side along the first axis: layers of products that add biases, and every layer's output
stored in the format, as inputs, weights and biases are. No activation, no scaling. `linear_lasagna.simulated` computes
the same, in a thousand times the time, and is what tests compare this with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
        return self.round_(x.clone(memory_format=torch.contiguous_format))

    def round_(self, x: torch.Tensor, room: torch.Tensor | None = None) -> torch.Tensor:
        """The same in place, of contiguous numbers; room: as many integers, to be overwritten."""
        drop, half, kept = self.constants(x)
        bits, short = x.view(HELD[x.dtype][0]), [x[place].clone() for place, _ in self.short]
        odd = torch.bitwise_right_shift(bits, drop, out=room).bitwise_and_(1)  # the last bit that is kept
        bits.add_(odd.add_(half)).bitwise_and_(kept)
        for own, (place, form) in zip(short, self.short, strict=True):
            small = (own / form.smallest).round_().mul_(form.smallest)
            x[place] = torch.where(own.abs() < form.smallest_normal, small, x[place]).clamp_(
                -form.largest, form.largest
            )
        return x

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
            cosine = ctx.formats.phase(sums).mul_(2 * math.pi).cos_()
            gradient = torch.addcmul(gradient, gradient, cosine, value=-ctx.slope)
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
        drawn = []
        for terms, layer in zip(problem.fan_ins, problem.layers, strict=True):
            weight = torch.randn(terms, layer.out_channels, generator=draws) / math.sqrt(terms)
            drawn += [weight.flatten(), torch.randn(layer.out_channels, generator=draws) * biases]
        self.trained = nn.Parameter(torch.cat(drawn).repeat(len(formats.forms), 1))  # all, to be rounded at once

    def stored(self, sums: torch.Tensor, kept: torch.Tensor | None = None, slope: float = 0.0) -> torch.Tensor:
        """Sums rounded to the formats."""
        kept = self.formats.round(sums.detach()) if kept is None else kept
        return _Stored.apply(sums, kept, self.formats, slope)  # type: ignore[no-any-return]

    def numbers(self) -> list[Numbers]:
        """Of every layer, as the formats hold them."""
        return self.parted(self.stored(self.trained))

    def parted(self, numbers: torch.Tensor) -> list[Numbers]:
        """Of every layer, parts of all numbers (formats, …)."""
        widths = [layer.out_channels for layer in self.problem.layers]
        sizes = zip(self.problem.fan_ins, widths, strict=True)
        parts = iter(numbers.split([size for terms, width in sizes for size in (terms * width, width)], 1))
        return [
            Numbers(next(parts).unflatten(1, (terms, width)), next(parts).unsqueeze(1))
            for terms, width in zip(self.problem.fan_ins, widths, strict=True)
        ]

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
            slope = self.slope if place + 1 < self.problem.depth else 0.0
            y = self.stored(sums, kept, slope) if rounding else sums
        return y

    @torch.no_grad()
    def running(self, y: torch.Tensor, each: Numbers) -> torch.Tensor:
        """Sums whose every step is rounded, bias last. Products of numbers of the formats are exact."""
        seen, weights = y.transpose(1, 2).contiguous(), each.weight.unsqueeze(3)  # images last: long rows
        total = torch.zeros(len(y), weights.shape[2], y.shape[1], dtype=y.dtype)
        room = torch.empty_like(total, dtype=HELD[y.dtype][0])
        for term in range(y.shape[2]):
            total.addcmul_(seen[:, term : term + 1], weights[:, term])
            self.formats.round_(total, room)
        return self.formats.round_(total.add_(each.bias.transpose(1, 2)), room).transpose(1, 2)

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

    def alone(self, place: int) -> SimulatedStacks:
        """The network in the format of that place, as it is now."""
        own = SimulatedStacks(self.problem, Formats((self.formats.forms[place],)), 0, 0.0, self.narrow, self.slope)
        own.trained = nn.Parameter(self.trained[place : place + 1].detach())
        return own

    def function(self, place: int, rounding: bool = True) -> Callable[[torch.Tensor], torch.Tensor]:
        """What the network in the format of that place makes of float64 images, (n, outputs), where this module is in
        float64. rounding: else neither inputs nor outputs are rounded.
        """
        own = self.alone(place)

        @torch.no_grad()
        def call(x: torch.Tensor) -> torch.Tensor:
            whole = x.double().flatten(1)[None]
            y = own.formats.round(whole) if rounding else whole
            return own.outputs(y.transpose(0, 1), rounding)[0]

        return call
