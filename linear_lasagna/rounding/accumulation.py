"""How a method adds up one output here, found by calling it.

The method is given a constant image, so that a weight is a term of every output's sum, and each output channel answers
one question. A bias is numbered as the last term; it may be added first, last or between.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from linear_lasagna.formats import SIGNIFICAND_BITS, accumulator
from linear_lasagna.methods import METHODS
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.parts import asked_shapes, unpadded
from linear_lasagna.rounding.questions import Accumulation, Questions, confirmed, examine


def accumulation(
    method: str, layer: ExpandedLayer, shape: Sequence[int], dtype: torch.dtype, device: str = "cpu"
) -> Accumulation:
    """How the method adds up one output of the layer for an input of `shape`, (batch, channels, *size).

    A small part of the image is asked in detail, and the whole whether it does the same. Libraries choose by size: if
    it does not, a larger part is asked; the last answer stands where all that can be asked in seconds differs from the
    whole. Answers are kept. What would take thousands of calls, or cannot be asked because every output sees padding,
    is left open: its order is None. Raises NotImplementedError where the method cannot compute the layer.
    """
    return _accumulation(method, layer, tuple(shape), dtype, device, _conditions())


def _conditions() -> tuple[object, ...]:
    """What else the library's choice may depend on."""
    return torch.get_num_threads(), torch.backends.mkldnn.enabled, torch.backends.cudnn.allow_tf32


@lru_cache(maxsize=1024)
def _accumulation(
    method: str,
    layer: ExpandedLayer,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    conditions: tuple[object, ...],
) -> Accumulation:
    found = None
    for part in asked_shapes(layer, shape, dtype):
        found = _asked(method, layer, part, dtype, device, conditions) or found
        if found is not None and (part == shape or _holds(found, method, layer, shape, dtype, device)):
            break
    return found or declared(method, layer, shape, dtype)


@lru_cache(maxsize=1024)
def _asked(
    method: str,
    layer: ExpandedLayer,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    conditions: tuple[object, ...],
) -> Accumulation | None:
    questions = method_questions(method, layer, shape, dtype, device)
    return None if questions is None else examine(questions)


def _holds(
    found: Accumulation, method: str, layer: ExpandedLayer, shape: tuple[int, ...], dtype: torch.dtype, device: str
) -> bool:
    """Whether the whole image answers as the part did."""
    questions = method_questions(method, layer, shape, dtype, device)
    return questions is not None and found.order is not None and confirmed(questions, found.order)


def declared(method: str, layer: ExpandedLayer, shape: tuple[int, ...], dtype: torch.dtype) -> Accumulation:
    """What is believed without asking: the usual accumulator; roundings to storage as the method declares them."""
    n = layer.fan_in(shape[1]) + layer.bias
    parts = METHODS[method].roundings(layer) - layer.bias
    stored = tuple(n * part // parts - 1 for part in range(1, parts)) if accumulator(dtype) is not dtype else ()
    return Accumulation(None, SIGNIFICAND_BITS[accumulator(dtype)], True, stored)


def method_questions(
    method: str, layer: ExpandedLayer, shape: tuple[int, ...], dtype: torch.dtype, device: str
) -> Questions | None:
    """The method as something that adds, or None where every output sees padding."""
    weight_shape = layer.weight_shape(shape[1])
    n = layer.fan_in(shape[1])
    inside = unpadded(layer, shape[2:]).flatten().repeat(shape[0])
    if not inside.any():
        return None

    def adder(terms: torch.Tensor, value: float) -> torch.Tensor:
        table = torch.zeros(layer.out_channels, terms.shape[1], dtype=dtype)
        table[: len(terms)] = terms
        table = table.to(device)
        kernel = Kernel(table[:, :n].reshape(weight_shape), table[:, n] if layer.bias else None)
        x = torch.full(shape, value, dtype=dtype, device=device)
        y = METHODS[method](x, kernel, layer).cpu().to(torch.float64)
        return y.transpose(0, 1).flatten(1)[: len(terms), inside].median(1).values

    return Questions(adder, n + layer.bias, layer.out_channels, dtype, layer.bias)
