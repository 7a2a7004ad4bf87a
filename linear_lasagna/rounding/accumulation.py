"""How a method adds up one output here, found by calling it.

The method is given a constant image, so that a weight is a term of every output's sum, and each output channel answers
one question. A bias is the last term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

from linear_lasagna.formats import SIGNIFICAND_BITS, accumulator
from linear_lasagna.methods import METHODS
from linear_lasagna.methods.direct import direct
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.questions import Accumulation, Adder, Questions, examine

MOST_OUTPUTS, LEAST_OUTPUTS = 256, 16  # of the image that is asked
MOST_WORK = 10**10  # multiply-accumulates of all questions
MOST_CALLS = 5000


def accumulation(
    method: str, layer: ExpandedLayer, shape: Sequence[int], dtype: torch.dtype, device: str = "cpu"
) -> Accumulation:
    """How the method adds up one output of the layer for an input of `shape`, (batch, channels, *size).

    The image is cut to 256 outputs, fewer where the fan-in is above 4,000 or so: the order hardly depends on them.
    Answers are kept. What would take thousands of calls, or cannot be asked because every output sees padding, is
    left open: its order is None. Raises NotImplementedError where the method cannot compute the layer.
    """
    asked = asked_shape(layer, tuple(shape))
    return _accumulation(method, layer, asked, dtype, device, _conditions())


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
    n = layer.fan_in(shape[1]) + layer.bias
    rounds = math.ceil(n / 2 ** SIGNIFICAND_BITS[dtype])
    calls = 2 * n * rounds / layer.out_channels
    work = calls * math.prod(shape[:1] + layer.output_size(shape[2:])) * layer.out_channels * n
    if calls > MOST_CALLS or work > 2 * MOST_WORK:
        return declared(method, layer, n, dtype)
    adder = method_adder(method, layer, shape, dtype, device)
    found = None if adder is None else examine(Questions(adder, n, layer.out_channels, dtype))
    return found or declared(method, layer, n, dtype)


def declared(method: str, layer: ExpandedLayer, n: int, dtype: torch.dtype) -> Accumulation:
    """What is believed without asking: the usual accumulator; roundings to storage as the method declares them."""
    parts = METHODS[method].roundings(layer) - layer.bias
    stored = tuple(n * part // parts - 1 for part in range(1, parts)) if accumulator(dtype) is not dtype else ()
    return Accumulation(None, SIGNIFICAND_BITS[accumulator(dtype)], True, stored)


def asked_shape(layer: ExpandedLayer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The part of an input shape that is asked: fewer outputs, but some that see no padding, where there are any."""
    n = layer.fan_in(shape[1])
    most = max(LEAST_OUTPUTS, min(MOST_OUTPUTS, MOST_WORK // (2 * n**2)))
    outputs = list(layer.output_size(shape[2:]))
    batch = max(1, min(shape[0], most // math.prod(outputs)))
    while math.prod(outputs) > most:
        outputs[outputs.index(max(outputs))] -= 1
    axes = zip(shape[2:], layer.input_size(tuple(outputs)), layer.reach, strict=True)
    return (batch, shape[1], *(min(whole, max(fewer, reach)) for whole, fewer, reach in axes))


@torch.no_grad()
def method_adder(
    method: str, layer: ExpandedLayer, shape: tuple[int, ...], dtype: torch.dtype, device: str
) -> Adder | None:
    """The sums that the method forms for an output, or None where every output sees padding."""
    weight_shape = layer.weight_shape(shape[1])
    n = layer.fan_in(shape[1])
    ones = direct(torch.ones(shape), Kernel(torch.ones(weight_shape), torch.zeros(layer.out_channels)), layer)
    inside = (ones[:, 0].flatten() == n).nonzero().flatten()
    if not len(inside):
        return None

    def adder(terms: torch.Tensor, value: float) -> torch.Tensor:
        table = torch.zeros(layer.out_channels, terms.shape[1], dtype=dtype)
        table[: len(terms)] = terms
        table = table.to(device)
        kernel = Kernel(table[:, :n].reshape(weight_shape), table[:, n] if layer.bias else None)
        x = torch.full(shape, value, dtype=dtype, device=device)
        y = METHODS[method](x, kernel, layer).cpu().to(torch.float64)
        return y.transpose(0, 1).flatten(1)[: len(terms), inside].median(1).values

    return adder
