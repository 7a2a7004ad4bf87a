"""The accumulation of one output by a method on this machine, probed by calling it.

The method is given a constant image, so that a weight is a term of every output's sum, and each output channel answers
one question. A bias is numbered as the last term; it may be added first, last or between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

import torch

from linear_lasagna.devices import device_named
from linear_lasagna.formats import SIGNIFICAND_BITS, accumulator
from linear_lasagna.methods import METHODS
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.adder_probe import Adder, AdderProbe
from linear_lasagna.rounding.parts import asked_shapes, unpadded
from linear_lasagna.rounding.random_sums import factor, fits, random_rows, replayed
from linear_lasagna.rounding.summation_probe import probe_summation
from linear_lasagna.rounding.summation_tree import Accumulation, Order, SummationTree
from linear_lasagna.switches import conditions

Answers: TypeAlias = Callable[[torch.Tensor, float], torch.Tensor]

ALIKE = 4  # random sums by which channels are compared
AGREED = 8  # and all outputs


def accumulation(
    method: str, layer: ExpandedLayer, shape: Sequence[int], dtype: torch.dtype, device: str = "cpu"
) -> Accumulation:
    """How the method adds up one output of the layer for an input of `shape`, (batch, channels, *size).

    A small part of the image is asked in detail, and the whole whether it does the same. Libraries choose by size: if
    it does not, a larger part is asked; the last answer stands where all that can be asked in seconds differs from the
    whole. Answers are kept. What would take thousands of calls, or cannot be asked because every output sees padding,
    is left open, and what is no sum of products: its order is None. Raises NotImplementedError where the method cannot
    compute the layer.
    """
    return _accumulation(method, layer, tuple(shape), dtype, device, process_conditions(device))


def process_conditions(device: str) -> tuple[object, ...]:
    """What else a library's choice of an order may depend on."""
    return torch.get_num_threads(), *conditions(device_named(device).kind).items()


@lru_cache(maxsize=1024)
def _accumulation(
    method: str,
    layer: ExpandedLayer,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    process: tuple[object, ...],
) -> Accumulation:
    how = None
    if not METHODS[method].summed:
        return Accumulation(None, SIGNIFICAND_BITS[accumulator(dtype)])
    for part in asked_shapes(layer, shape, dtype):
        how = _asked(method, layer, part, dtype, device, process) or how
        if how is not None and (part == shape or _holds(how, method, layer, shape, dtype, device)):
            break
    return how or Accumulation(None, SIGNIFICAND_BITS[accumulator(dtype)])


@lru_cache(maxsize=1024)
def _asked(
    method: str,
    layer: ExpandedLayer,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    process: tuple[object, ...],
) -> Accumulation | None:
    probe = probe_of(method, layer, shape, dtype, device)
    return None if probe is None else probe_summation(probe)


def _holds(
    how: Accumulation, method: str, layer: ExpandedLayer, shape: tuple[int, ...], dtype: torch.dtype, device: str
) -> bool:
    """Whether the whole image answers as the part did."""
    probe = probe_of(method, layer, shape, dtype, device)
    return probe is not None and fits(probe, how)


def followed(
    how: Accumulation,
    method: str,
    layer: ExpandedLayer,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: str = "cpu",
) -> torch.Tensor:
    """Which outputs are added up as `how` says, by some random sums: bool, (batch, out, *output_size).

    Libraries may add the last few channels or positions in another order. Outputs that see padding are not asked: they
    are as their channel is elsewhere. Answers are kept.
    """
    return _followed(how, method, layer, shape, dtype, device, process_conditions(device))


@lru_cache(maxsize=64)
def _followed(
    how: Accumulation,
    method: str,
    layer: ExpandedLayer,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    process: tuple[object, ...],
) -> torch.Tensor:
    n = layer.fan_in(shape[1])
    probe = AdderProbe(lambda terms, value: terms, n + layer.bias, layer.out_channels, dtype, layer.bias)
    rows = random_rows(probe, how.bits, AGREED)[:AGREED]
    x = torch.full(shape, factor(dtype), dtype=dtype, device=device)
    same = torch.ones(shape[0], layer.out_channels, *layer.output_size(tuple(shape[2:])), dtype=torch.bool)
    for row, value in zip(rows.to(device, dtype), replayed(probe, rows, how).tolist(), strict=True):
        table = row.expand(layer.out_channels, -1)
        same &= METHODS[method](x, _kernel(table, layer, shape[1]), layer).cpu().double() == value
    inside = unpadded(layer, tuple(shape[2:]))
    channels = (same | ~inside).transpose(0, 1).flatten(1).all(1)
    return torch.where(inside, same, channels.view(-1, *(1,) * inside.ndim)).to(device)


def assumed(method: str, layer: ExpandedLayer, shape: Sequence[int], dtype: torch.dtype, order: Order) -> Accumulation:
    """The accumulation assumed without probing, its order open: the usual accumulator, and the declared roundings.

    What a method rounds to storage on its way is taken to be the sums over the channels, one per tap.
    """
    n, bits = layer.fan_in(shape[1]), SIGNIFICAND_BITS[accumulator(dtype)]
    parts = METHODS[method].roundings(layer) - layer.bias
    if parts == 1 or accumulator(dtype) is dtype:
        tree = order(n + layer.bias, layer.bias)
        last = layer.bias and tree.terms[-1] == n and accumulator(dtype) is not dtype
        return Accumulation(tree, bits, stored=(len(tree.terms) - 2,) if last else ())
    sums = [order(n // parts, False).renumbered(range(part, n, parts)) for part in range(parts)]
    return Accumulation(
        SummationTree((*[n] * layer.bias, *sums)), bits, stored=tuple(range(layer.bias, layer.bias + parts - 1))
    )


def answering(
    method: str, layer: ExpandedLayer, shape: tuple[int, ...], dtype: torch.dtype, device: str
) -> Answers | None:
    """The method on constant images; None where every output sees padding.

    (table, value) -> (out, positions): the sums of each channel's row of the table, (out, n), of a constant image, at
    all positions that see no padding.
    """
    inside = unpadded(layer, shape[2:]).flatten().repeat(shape[0])
    if not inside.any():
        return None

    def outputs(table: torch.Tensor, value: float) -> torch.Tensor:
        table = table.to(device, dtype)
        kernel = _kernel(table, layer, shape[1])
        x = torch.full(shape, value, dtype=dtype, device=device)
        y = METHODS[method](x, kernel, layer).cpu().to(torch.float64)
        return y.transpose(0, 1).flatten(1)[:, inside]

    return outputs


def _kernel(table: torch.Tensor, layer: ExpandedLayer, channels: int) -> Kernel:
    """Each channel's row of the table, (out, n), as its weights and bias; contiguous: libraries choose by that."""
    weight, bias = table.split((layer.fan_in(channels), int(layer.bias)), 1)
    return Kernel(
        weight.reshape(layer.weight_shape(channels)).contiguous(), bias[:, 0].contiguous() if layer.bias else None
    )


def probe_of(
    method: str, layer: ExpandedLayer, shape: tuple[int, ...], dtype: torch.dtype, device: str
) -> AdderProbe | None:
    """The method as something that adds, or None where every output sees padding."""
    n = layer.fan_in(shape[1])
    answers = answering(method, layer, shape, dtype, device)
    if answers is None:
        return None

    def outputs(table: torch.Tensor, value: float) -> torch.Tensor:
        """What most positions of each channel answer: (out,)."""
        return answers(table, value).median(1).values

    def adder(terms: torch.Tensor, value: float) -> torch.Tensor:
        table = torch.zeros(layer.out_channels, n + layer.bias, dtype=torch.float64)
        table[asked[: len(terms)]] = terms
        return outputs(table, value)[asked[: len(terms)]]

    probe = AdderProbe(adder, n + layer.bias, layer.out_channels, dtype, layer.bias)
    asked = alike(outputs, probe)
    return None if 2 * len(asked) <= layer.out_channels else replace(probe, rows=len(asked))


def alike(outputs: Adder, probe: AdderProbe) -> list[int]:
    """The channels, the most that there are, which answer as one: libraries may add the last few in another order."""
    rows = random_rows(probe, SIGNIFICAND_BITS[accumulator(probe.dtype)], ALIKE)[:ALIKE]
    value = factor(probe.dtype)
    answers = torch.stack([outputs(row.expand(probe.rows, -1), value) for row in rows], 1).tolist()
    ((common, _),) = Counter(map(tuple, answers)).most_common(1)
    return [channel for channel, answer in enumerate(answers) if tuple(answer) == common]
