"""Arithmetic of one value and constants as a scale and a shift: multiply, divide, add, subtract, negate."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import fx

from linear_lasagna.models.constants import Constants
from linear_lasagna.models.operators import name_of, terms

# Name -> the signs of both terms; alpha multiplies the second, of rsub the first.
SUMS = {"add": (1, 1), "iadd": (1, 1), "sub": (1, -1), "isub": (1, -1), "subtract": (1, -1), "rsub": (-1, 1)}
PRODUCTS = ("mul", "imul", "multiply")
QUOTIENTS = ("truediv", "itruediv", "div", "divide", "true_divide")
NEGATIONS = ("neg", "negative")


class Summand(NamedTuple):
    """A value, and by what it is multiplied in a sum."""

    value: Any
    factor: float = 1.0


class Affine(NamedTuple):
    """scale * value + shift, float64: one number () or one per channel (channels,). shift: None where it adds none."""

    value: fx.Node
    scale: torch.Tensor
    shift: torch.Tensor | None = None

    @property
    def is_identity(self) -> bool:
        return self.scale.ndim == 0 and float(self.scale) == 1 and self.shift is None

    @property
    def scales(self) -> bool:
        """Whether it multiplies by anything but 1 and -1, which is no operation."""
        return self.scale.ndim > 0 or abs(float(self.scale)) != 1

    @property
    def fixed(self) -> bool:
        """Whether it fits one number of channels only."""
        return any(each is not None and each.numel() > 1 for each in (self.scale, self.shift))


def summands(node: fx.Node) -> list[Summand] | None:
    """The two terms of an addition or subtraction, nodes and numbers; None for anything else."""
    name, values = name_of(node).rstrip("_"), terms(node)
    alpha: Any = node.kwargs.get("alpha", 1)
    if name not in SUMS or len(values) != 2 or set(node.kwargs) - {"input", "other", "alpha"} or not _is_number(alpha):
        return None
    first, second = SUMS[name]
    factors = (first * alpha, second) if name == "rsub" else (first, second * alpha)
    return [Summand(value, float(factor)) for value, factor in zip(values, factors, strict=True)]


def affine(node: fx.Node, constants: Constants) -> Affine | str | None:
    """The node as a scale and a shift of one value; why not, where it is linear; None where it is neither.

    A sum of two values that are no constants is neither, but for a value with itself.
    """
    name, values = name_of(node).rstrip("_"), terms(node)
    if name in NEGATIONS and len(values) == 1:
        return Affine(values[0], number(-1))
    if name in SUMS:
        return _of_sum(node, constants)
    if len(values) != 2 or set(node.kwargs) - {"input", "other"}:
        return None
    known = [_is_constant(value, constants) for value in values]
    if name in PRODUCTS and sum(known) == 1:
        value, by = values if known[1] else values[::-1]
    elif name in QUOTIENTS and known == [False, True]:
        value, by = values
    else:
        return None
    if not isinstance(value, fx.Node):
        return None
    scale = per_channel(by, value, constants)
    if isinstance(scale, str):
        return scale
    return _finite(Affine(value, scale if name in PRODUCTS else 1 / scale))


def by_size(node: fx.Node) -> bool:
    """Whether it scales or shifts one value by a number that sizes decide."""
    name, values = name_of(node).rstrip("_"), terms(node)
    sized = [isinstance(value, fx.Node) and bool(value.meta.get("sized")) for value in values]
    images = [isinstance(value, fx.Node) and "tensor" in value.meta for value in values]
    if name in QUOTIENTS:
        return (sized, images) == ([False, True], [True, False])
    return name in (*SUMS, *PRODUCTS) and len(values) == 2 and sum(sized) == sum(images) == 1 and sized != images


def _of_sum(node: fx.Node, constants: Constants) -> Affine | str | None:
    both = summands(node)
    if both is None:
        return None
    if both[0].value is both[1].value and isinstance(both[0].value, fx.Node):
        return Affine(both[0].value, number(both[0].factor + both[1].factor))
    known = [_is_constant(each.value, constants) for each in both]
    if sum(known) != 1:
        return None
    value, constant = both if known[1] else both[::-1]
    if not isinstance(value.value, fx.Node):
        return None
    shift = per_channel(constant.value, value.value, constants)
    if isinstance(shift, str):
        return shift
    shift = shift * constant.factor
    return _finite(Affine(value.value, number(value.factor), shift if bool((shift != 0).any()) else None))


def _finite(found: Affine) -> Affine | str:
    numbers = [each for each in (found.scale, found.shift) if each is not None]
    return found if all(bool(each.isfinite().all()) for each in numbers) else "it has numbers that are not finite"


def per_channel(constant: Any, value: fx.Node, constants: Constants) -> torch.Tensor | str:
    """A constant that is combined with an image as one number, () or (channels,), or why it is none."""
    if not isinstance(constant, fx.Node):
        return number(constant)
    tensor, ndim = constants.value(constant), len(value.meta["tensor"].shape)
    shape = (*(1,) * (ndim - tensor.ndim), *tensor.shape)
    if len(shape) != ndim or any(n > 1 for axis, n in enumerate(shape) if axis != 1):
        return "its numbers differ from position to position; one per channel would be merged"
    return tensor.reshape(()) if tensor.numel() == 1 else tensor.flatten()


def number(value: float) -> torch.Tensor:
    """One number in float64, ()."""
    return torch.tensor(float(value), dtype=torch.float64)


def _is_constant(value: Any, constants: Constants) -> bool:
    return value in constants.nodes if isinstance(value, fx.Node) else _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
