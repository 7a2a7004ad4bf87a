"""Merged numbers in the dtype that is to hold them: none may overflow, and none lose more digits than normal ones do.

Products of small weights fall below the least normal number of float16 long before the stack's own numbers do. There
an output channel's weights are multiplied by a power of two, which is exact, and its outputs are divided by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from linear_lasagna.devices import wide
from linear_lasagna.formats import LEAST_EXPONENT, power_of_two, unit_roundoff
from linear_lasagna.merging.border.module import BorderExact


class Scaled(nn.Module):
    """A convolution whose outputs are multiplied by powers of two, `scale`, one per channel.

    Its weights are that much larger than those it stands for, but no larger than keeps its own outputs finite for every
    finite input.
    """

    scale: torch.Tensor

    def __init__(self, convolution: nn.Module, scale: torch.Tensor) -> None:
        super().__init__()
        self.convolution = convolution
        self.register_buffer("scale", scale)

    @property
    def weight(self) -> Any:
        """The weights as they are stored: those that it stands for, divided by `scale`."""
        return self.convolution.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x) * self.scale


class Rows(NamedTuple):
    """A kernel's numbers in float64, several rows for every output channel: weight (out, rows, n), bias (out, rows)."""

    weight: torch.Tensor
    bias: torch.Tensor


@torch.no_grad()
def fitted(module: Any, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The module with its numbers rounded to the dtype, and its outputs rescaled where small weights need that.

    module: a convolution, or a `BorderExact`, in the dtype that it was merged in; it is changed. Raises ValueError
    where a number overflows, and where weights are so small, rescaled or not, that rounding changes them by more than u
    of their L2 norm, as it never does to normal numbers; u: the dtype's unit roundoff.
    """
    bordered = isinstance(module, BorderExact)
    parts: list[Any] = [module.merged, *module.border] if bordered else [module]
    layers: list[Any] = list(module.layers) if bordered else []
    for layer in layers:
        rows = _rows(layer, len(layer.weight))
        _check(rows, rows.bias.new_zeros(len(layer.weight), dtype=torch.int64), dtype)
    weight = parts[0].weight
    rows = [_rows(part, len(weight)) for part in parts]
    exponents = _exponents(rows, dtype)
    for each in rows:
        _check(each, exponents, dtype)
    if not bool(exponents.any()):
        return module.to(device=device, dtype=dtype)
    for part in parts:
        _multiply(part, power_of_two(exponents))
    scale = power_of_two(-exponents).to(device, dtype).view(-1, *(1,) * (weight.ndim - 2))
    module = module.to(device=device, dtype=dtype)
    if not bordered:
        return Scaled(module, scale)
    module.scale = scale
    return module


def _rows(part: Any, channels: int) -> Rows:
    weight = wide(part.weight).reshape(channels, len(part.weight) // channels, -1)
    bias = weight.new_zeros(weight.shape[:2])
    return Rows(weight, bias if part.bias is None else wide(part.bias).view_as(bias))


def _exponents(rows: Sequence[Rows], dtype: torch.dtype) -> torch.Tensor:
    """By which powers of two the channels' weights have to be multiplied: int64, (out,); 0 where they are fit as is.

    With the largest input that the dtype holds, outputs reach sum |w| times it, plus the bias: half of it is allowed.
    """
    largest = torch.finfo(dtype).max
    small = torch.stack([_lost(each.weight, dtype) > _allowed(each.weight, dtype) for each in rows]).any(0)
    reached = torch.stack([(w.abs().sum(-1) + b.abs() / largest).amax(1) for w, b in rows]).amax(0)
    most = (-(2 * reached).log2()).floor().clamp(0, -LEAST_EXPONENT[dtype])
    return most.where(small & reached.isfinite(), 0).long()


def _check(rows: Rows, exponents: torch.Tensor, dtype: torch.dtype) -> None:
    """Raises ValueError for weights, multiplied by the powers of two, and biases that the dtype cannot hold."""
    name = str(dtype).removeprefix("torch.")
    for part, numbers in zip(("weight", "bias"), rows, strict=True):
        if not bool(numbers.isfinite().all()):
            raise ValueError(f"a merged {part} is not finite")
        if not bool(numbers.to(dtype).isfinite().all()):
            largest = torch.finfo(dtype).max
            raise ValueError(
                f"a merged {part} of {numbers.abs().max():.3g} overflows {name}, which ends at {largest:.3g}"
            )
    larger = power_of_two(exponents)
    lost = torch.linalg.vector_norm(_lost(rows.weight * larger[:, None, None], dtype) / larger)
    if bool(lost > _allowed(rows.weight.flatten(), dtype)):
        part = float(lost / torch.linalg.vector_norm(rows.weight))
        raise ValueError(f"the merged weights are so small that {name} would change them by {part:.1g} of their size")


def _lost(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The L2 norm of what rounding changes, per channel: (out, rows, n) -> (out,)."""
    return torch.linalg.vector_norm((weight.to(dtype).double() - weight).flatten(1), dim=1)


def _allowed(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """u times the L2 norm per channel, or of all numbers of a vector."""
    return unit_roundoff(dtype) * torch.linalg.vector_norm(weight.flatten(1) if weight.ndim > 1 else weight, dim=-1)


def _multiply(part: Any, factors: torch.Tensor) -> None:
    """Multiply a channel's weights and biases, which may have several rows."""
    rows = factors.repeat_interleave(len(part.weight) // len(factors))
    part.weight.mul_(rows.to(part.weight).view(-1, *(1,) * (part.weight.ndim - 1)))
    if part.bias is not None:
        part.bias.mul_(rows.to(part.bias))
