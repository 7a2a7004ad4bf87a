"""Merged numbers in the dtype that is to hold them: none may overflow, and none lose more digits than normal ones do.

Products of small weights fall below the least normal number of float16 long before the stack's own numbers do, and
those of large ones overflow. There an output channel's weights are multiplied by a power of two, which is exact, and
its outputs are divided by it: multiplied, as far as every finite input leaves them finite; divided, as little as the
weights and the bias need, so that outputs overflow only where they do by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from linear_lasagna.devices import wide
from linear_lasagna.formats import LEAST_EXPONENT, power_of_two, unit_roundoff
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.split import Split, split, two_parts
from linear_lasagna.merging.tap_sums import kept_sums

ROUNDINGS = ("nearest", "taps")
TOGETHER = 2**17  # numbers that are looked at together, so that they stay in the cache
LOW_BITS = 4  # that the low parts of a split kernel add, at least


class Storage(NamedTuple):
    """How merged numbers are stored.

    dtype: None for the one that the layers have. split: as two numbers each, `split.Split`. rounding: to nearest, or so
    that the sums over the taps are kept, `tap_sums`; kernels of the border are rounded to nearest.
    """

    dtype: torch.dtype | None = None
    split: bool = False
    rounding: Literal["nearest", "taps"] = "nearest"

    def check(self) -> None:
        """Raises ValueError for what is unknown."""
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, not {self.rounding!r}")
        if self.dtype is not None and self.dtype not in LEAST_EXPONENT:
            raise ValueError(f"dtype must be one of {', '.join(map(str, LEAST_EXPONENT))}, not {self.dtype}")


PLAIN = Storage()


class Scaled(nn.Module):
    """A convolution whose outputs are multiplied by powers of two, `scale`, one per channel.

    Its weights are those it stands for, divided by these: larger, but no larger than keeps its own outputs finite for
    every finite input, or smaller, where they would not be finite themselves.
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


def splits(module: nn.Module) -> bool:
    """Whether every weight of the module, inside the border, is the sum of two."""
    inner = module.convolution if isinstance(module, Scaled) else module
    return isinstance(inner, Split) or (isinstance(inner, BorderExact) and len(inner.used()) == 2)


class Rows(NamedTuple):
    """A kernel's numbers in float64, several rows for every output channel: weight (out, rows, n), bias (out, rows)."""

    weight: torch.Tensor
    bias: torch.Tensor


@torch.no_grad()
def fitted(module: Any, dtype: torch.dtype, device: torch.device, storage: Storage = PLAIN) -> nn.Module:
    """The module with its numbers rounded to the dtype, and its outputs rescaled where its weights need that.

    module: a convolution, or a `BorderExact`, in the dtype that it was merged in; it is changed. storage: its dtype is
    not looked at. Raises ValueError where a number is not finite, or one of a bordered stack's own layers overflows,
    and where weights are so small, rescaled or not, that rounding changes them by more than u of their L2 norm, as it
    never does to normal numbers; u: the dtype's unit roundoff.
    """
    bordered = isinstance(module, BorderExact)
    parts: list[Any] = [module.merged, *module.border] if bordered else [module]
    layers: list[Any] = list(module.layers) if bordered else []
    for layer in layers:
        own = _rows(layer, len(layer.weight))
        _check(own, own.bias.new_zeros(len(layer.weight), dtype=torch.int64), dtype)
    weight = parts[0].weight
    rows = [_rows(part, len(weight)) for part in parts]
    small = _small(rows, dtype, storage.split)
    exponents = _exponents(rows, small, dtype)
    for each in rows:
        _check(each, exponents, dtype, digits=bool(small.any() or exponents.any()))
    if bool(exponents.any()):
        for part in parts:
            _multiply(part, power_of_two(exponents))
    module = _stored(module, dtype, storage).to(device=device, dtype=dtype)
    if not bool(exponents.any()):
        return module
    scale = power_of_two(-exponents).to(device, dtype).view(-1, *(1,) * (weight.ndim - 2))
    if not bordered:
        return Scaled(module, scale)
    module.scale = scale
    return module


def _stored(module: Any, dtype: torch.dtype, storage: Storage) -> Any:
    """The module, its merged numbers made such as the dtype holds, where rounding to nearest is not all."""
    bordered = isinstance(module, BorderExact)
    convolution = module.merged if bordered else module
    if storage.rounding == "taps" and not storage.split:
        convolution.weight.copy_(kept_sums(convolution.weight, dtype))
    if not storage.split or dtype is convolution.weight.dtype:
        return module
    if not bordered:
        return split(module, dtype)
    convolution.weight = nn.Parameter(two_parts(convolution.weight.detach(), dtype))
    return module


def _rows(part: Any, channels: int) -> Rows:
    weight = wide(part.weight).reshape(channels, len(part.weight) // channels, -1)
    bias = weight.new_zeros(weight.shape[:2])
    return Rows(weight, bias if part.bias is None else wide(part.bias).view_as(bias))


def _small(rows: Sequence[Rows], dtype: torch.dtype, split: bool = False) -> torch.Tensor:
    """Which channels' weights lose more digits than normal numbers do: (out,).

    Split ones also where a low part is left fewer than `LOW_BITS`.
    """
    none = torch.zeros(len(rows[0].weight), dtype=torch.bool, device=rows[0].weight.device)
    lossy = [each.weight for each in rows if not _normal(each.weight, dtype)]
    small = torch.stack([none, *(_lost(each, dtype) > _allowed(each, dtype) for each in lossy)]).any(0)
    if split:
        rest = rows[0].weight - rows[0].weight.to(dtype).double()
        small |= _lost(rest, dtype) > 2.0**-LOW_BITS * _allowed(rows[0].weight, dtype)
    return small


def _exponents(rows: Sequence[Rows], small: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """By which powers of two the channels' weights have to be multiplied: int64, (out,); 0 where they are fit as is.

    Small ones: with the largest input that the dtype holds, outputs reach sum |w| times it, plus the bias: half of it
    is allowed. Those that overflow are made as little smaller as brings them to half of the largest number, and never
    by more than it.
    """
    largest = torch.finfo(dtype).max
    sizes = torch.stack([torch.maximum(_largest(w), _largest(b)) for w, b in rows]).amax(0)
    over = sizes.isfinite() & ~sizes.to(dtype).isfinite()
    if not bool((over | small).any()):
        return torch.zeros_like(sizes, dtype=torch.int64)
    down = -(2 * sizes / largest).log2().ceil().clamp(0, math.floor(math.log2(largest)))
    reached = torch.stack([(w.abs().sum(-1) + b.abs() / largest).amax(1) for w, b in rows]).amax(0)
    most = (-(2 * reached).log2()).floor().clamp(0, -LEAST_EXPONENT[dtype])
    return torch.where(over, down, most.where(small & reached.isfinite(), 0.0)).long()


def _check(rows: Rows, exponents: torch.Tensor, dtype: torch.dtype, digits: bool = True) -> None:
    """Raises ValueError for weights, multiplied by the powers of two, and biases that the dtype cannot hold.

    digits: ask, too, whether weights are so small that they lose some.
    """
    name, larger = str(dtype).removeprefix("torch."), power_of_two(exponents)
    for part, numbers in zip(("weight", "bias"), rows, strict=True):
        sizes = _largest(numbers)
        if not bool(sizes.isfinite().all()):
            raise ValueError(f"a merged {part} is not finite")
        if not bool((sizes * larger).to(dtype).isfinite().all()):
            largest = torch.finfo(dtype).max
            raise ValueError(f"a merged {part} of {sizes.max():.3g} overflows {name}, which ends at {largest:.3g}")
    if not digits:
        return
    lost = torch.linalg.vector_norm(_lost(rows.weight * larger[:, None, None], dtype) / larger)
    if bool(lost > _allowed(rows.weight.flatten(), dtype)):
        part = float(lost / torch.linalg.vector_norm(rows.weight))
        raise ValueError(f"the merged weights are so small that {name} would change them by {part:.1g} of their size")


def _largest(numbers: torch.Tensor) -> torch.Tensor:
    """max |numbers| per channel: (out, …) -> (out,)."""
    return torch.maximum(-numbers.flatten(1).amin(1), numbers.flatten(1).amax(1))


def _normal(numbers: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether no number but 0 is below the normal ones of the dtype, so that none loses more digits than they do."""
    least = 2.0 ** LEAST_EXPONENT[dtype]
    parts = (part.abs() for part in numbers.flatten().split(TOGETHER))
    return all(bool(each.amin() >= least) or bool(((each >= least) | (each == 0)).all()) for each in parts)


def _lost(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The L2 norm of what rounding changes, per channel: (out, rows, n) -> (out,)."""
    if dtype is weight.dtype:
        return weight.new_zeros(len(weight))
    return torch.linalg.vector_norm(weight.to(dtype).double().sub_(weight).flatten(1), dim=1)


def _allowed(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """u times the L2 norm per channel, or of all numbers of a vector."""
    return unit_roundoff(dtype) * torch.linalg.vector_norm(weight.flatten(1) if weight.ndim > 1 else weight, dim=-1)


def _multiply(part: Any, factors: torch.Tensor) -> None:
    """Multiply a channel's weights and biases, which may have several rows."""
    rows = factors.repeat_interleave(len(part.weight) // len(factors))
    part.weight.mul_(rows.to(part.weight).view(-1, *(1,) * (part.weight.ndim - 1)))
    if part.bias is not None:
        part.bias.mul_(rows.to(part.bias))
