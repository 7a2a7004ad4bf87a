"""Whether rounding is part of what layers in turn compute: biases make an ulp large against what their outputs vary by.

A bias of 1536 in float16 puts an output where numbers are 1 apart, so that storing it rounds it to an integer, and a
later bias takes the offset back. Merged, nothing is rounded in between, and another function is computed.

Inputs have a mean m and a standard deviation s. What is known of every output channel of a layer, W its weights,

    offset  o' = W o + b,  g' = W g          so that the mean is o + g m         o = 0, g = 1 before the first
    spread  w'**2 = (W * W) w**2             of independent inputs: s w;  of equal ones: s |g|;  the larger counts
    noise   n'**2 = (W * W) n**2 + ulp(o + g m)**2 / 12          of rounding there, where merging leaves it out

and of the last one the quotient of noise and spread, the share. Rounding to a unit q adds independent noise of standard
deviation q / sqrt(12) as long as values vary by q or more; where they vary by less, what it adds follows from the
value: it is no noise, but a function. A Gaussian's characteristic function at 2 pi / q is what they have in common:
exp(-2 pi**2), 3e-9, if its standard deviation is q; 7e-3 at q / 2, 0.3 at q / 4. So rounding is taken for part of what
is computed from a share of 1 / sqrt(12) on, that of values whose standard deviation is one ulp. Ordinary layers stay
far below: biases as large as what outputs vary by make it u.

Source: Widrow and Kollar, Quantization Noise (2008), chapters 4 and 5. The recursion is this suite's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from linear_lasagna.devices import wide
from linear_lasagna.formats import ulp
from linear_lasagna.problems import Kernel

ROUNDS = 1 / math.sqrt(12)  # of the spread: from here on rounding is a function of the value


class Spread(NamedTuple):
    """What inputs have: a mean, and a standard deviation around it."""

    mean: float = 0.0
    deviation: float = 1.0


def even(largest: float = 1.0) -> Spread:
    """Of inputs evenly spread between -largest and largest."""
    return Spread(deviation=largest / math.sqrt(3))


def spread_of(x: torch.Tensor) -> Spread:
    """Of all numbers of x together. Where these are all equal, their size is taken for what they may vary by, or 1."""
    numbers = x if x.dtype.itemsize > 2 else x.float()
    variance, mean = torch.var_mean(numbers, correction=0)
    if not float(variance):
        return Spread(0.0, abs(float(mean)) or 1.0)
    return Spread(float(mean), float(variance) ** 0.5)


def rounding_share(
    kernels: Sequence[Kernel], groups: Sequence[int], merged: Sequence[bool], dtype: torch.dtype, inputs: Spread
) -> float:
    """The noise that merging leaves out, as a part of the outputs' spread, of the worst output channel; see above.

    kernels: of layers in turn, weight (out, in / groups, *taps). merged: of each, whether its outputs are no longer
    stored. dtype: in which they are. Outputs that spread by less than all do on average are taken to spread by that, as
    dead channels do not count. Zero padding is not looked at.
    """
    if not any(merged):
        return 0.0
    channels = kernels[0].weight.shape[1] * groups[0]
    offset, noise = (wide(kernels[0].weight).new_zeros(channels) for _ in range(2))
    answer, spread = (torch.ones_like(offset) for _ in range(2))
    for kernel, parts, gone in zip(kernels, groups, merged, strict=True):
        weight, square = _over_taps(kernel.weight)
        offset, answer = _seen(weight, offset, parts), _seen(weight, answer, parts)
        noise, spread = _seen(square, noise, parts), _seen(square, spread, parts)
        offset = offset if kernel.bias is None else offset + wide(kernel.bias)
        mean = offset + inputs.mean * answer
        noise = noise + ulp(mean, dtype).square() / 12 * (gone & (mean != 0))
    varying = inputs.deviation**2 * torch.maximum(spread, answer.square())
    least = varying.clamp(min=float(varying.mean()))
    return float(torch.where(least > 0, noise / least, 0.0).max().sqrt())


def _over_taps(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over the taps, and of the squares: float64, (out, in / groups) each."""
    taps = wide(weight.detach()).flatten(1).reshape(*weight.shape[:2], -1)
    return taps.sum(2), torch.linalg.vector_norm(taps, dim=2).square_()


def _seen(weight: torch.Tensor, values: torch.Tensor, groups: int) -> torch.Tensor:
    """Each output's sum of what it sees: (out, in / groups), (in,) -> (out,)."""
    return torch.bmm(weight.unflatten(0, (groups, -1)), values.view(groups, -1, 1)).flatten()


def rounds(share: float) -> bool:
    """Whether rounding is part of what layers compute whose rounding has this share."""
    return share >= ROUNDS


def warning(share: float, layers: str) -> str:
    """What merging does to layers of which rounding is a part, and what to do."""
    return (
        f"merging changes what {layers} compute: biases put values where rounding is {share:.2g} times as large as "
        "what outputs vary by, so that it is part of their function, and merged nothing is rounded there; keep them as "
        "they are, or, if no rounding is meant, make the biases smaller or the format wider"
    )
