"""A method's outputs formed again, to the last bit of each, from the orders in which it was found to add.

Libraries add up some outputs otherwise than most: a product's last rows or columns without fused multiply-add, say, or
in another order, by where they lie in memory. So outputs are sorted into kinds by what they answer to one question,
each kind is asked for its own accumulation, and which one an output has is seen on other numbers than it is used for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy
import torch

from linear_lasagna.formats import SIGNIFICAND_BITS, accumulator
from linear_lasagna.methods import METHODS
from linear_lasagna.metrics import ulp_distance
from linear_lasagna.problems import ExpandedLayer, Kernel, Problem
from linear_lasagna.rounding.accumulation import Answers, accumulation, answering, process_conditions
from linear_lasagna.rounding.adder_probe import AdderProbe
from linear_lasagna.rounding.parts import affordable
from linear_lasagna.rounding.random_sums import factor, fits, random_rows
from linear_lasagna.rounding.replay import replay, storage_format
from linear_lasagna.rounding.summation_probe import probe_summation
from linear_lasagna.rounding.summation_tree import Accumulation
from linear_lasagna.rounding.variance import product_terms, windows_at

ASKED = 8  # random sums by which outputs are sorted
MOST_KINDS = 8
DRAWS = 48  # at most, on which it is seen how an output is added up
FIRST_SEED = 10**6  # of these


class Kind(NamedTuple):
    """Outputs that answer alike. count: how many; channels: those of the kind at `position`, one that has most."""

    count: int
    channels: list[int]
    position: int


def accumulations(
    method: str, layer: ExpandedLayer, shape: Sequence[int], dtype: torch.dtype, device: str = "cpu"
) -> list[Accumulation]:
    """The ways in which the method was found to add up outputs of the layer, that of most outputs first.

    shape: (batch, channels, *size). Empty where no order was found. A kind of outputs whose order cannot be found, or
    would take too long, is left out. Answers are kept. Raises NotImplementedError where the method cannot compute the
    layer.
    """
    return list(_accumulations(method, layer, tuple(shape), dtype, device, process_conditions(device)))


@lru_cache(maxsize=256)
@torch.no_grad()
def _accumulations(
    method: str,
    layer: ExpandedLayer,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    process: tuple[object, ...],
) -> tuple[Accumulation, ...]:
    usual = accumulation(method, layer, shape, dtype, device)
    found = [] if usual.order is None else [usual]
    outputs = answering(method, layer, shape, dtype, device)
    if outputs is None or not METHODS[method].summed:
        return tuple(found)
    macs = Problem("asked", shape[0], shape[1], shape[2:], (layer,)).macs
    for kind in _kinds(outputs, layer, shape[1], dtype):
        probe = _probe(outputs, kind, layer, shape[1], dtype)
        how = next((how for how in with_products_rounded(found) if fits(probe, how)), None)
        if how is None and affordable(probe, macs):
            how = probe_summation(probe)
        found += [how] if how is not None and how not in found else []
    return tuple(found)


def with_products_rounded(found: Sequence[Accumulation]) -> list[Accumulation]:
    """The accumulations, then each with its products rounded first where they were not, and the other way round.

    For outputs that see padding, which no constant image asks.
    """
    return list(dict.fromkeys([*found, *(replace(how, fused=not how.fused) for how in found)]))


def _kinds(outputs: Answers, layer: ExpandedLayer, channels: int, dtype: torch.dtype) -> list[Kind]:
    """The kinds with most outputs among those that see no padding, the largest first."""
    blank = AdderProbe(lambda terms, value: terms, layer.fan_in(channels) + layer.bias, 1, dtype, layer.bias)
    rows = random_rows(blank, SIGNIFICAND_BITS[accumulator(dtype)], ASKED)[:ASKED]
    answers = [outputs(row.expand(layer.out_channels, -1), factor(dtype)) for row in rows]
    distinct, kind = torch.stack(answers, 2).flatten(0, 1).unique(dim=0, return_inverse=True)
    members = [(kind == number).view(layer.out_channels, -1) for number in range(len(distinct))]
    members = sorted(members, key=lambda member: -int(member.sum()))[:MOST_KINDS]
    fullest = [int(member.sum(0).argmax()) for member in members]
    return [
        Kind(int(member.sum()), member[:, at].nonzero().flatten().tolist(), at)
        for member, at in zip(members, fullest, strict=True)
    ]


def _probe(outputs: Answers, kind: Kind, layer: ExpandedLayer, channels: int, dtype: torch.dtype) -> AdderProbe:
    n = layer.fan_in(channels) + layer.bias

    def adder(terms: torch.Tensor, value: float) -> torch.Tensor:
        table = torch.zeros(layer.out_channels, n, dtype=torch.float64)
        asked = kind.channels[: len(terms)]
        table[asked] = terms
        return outputs(table, value)[asked, kind.position]

    return AdderProbe(adder, n, len(kind.channels), dtype, layer.bias)


def emulate(
    x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer, how: Accumulation, places: torch.Tensor
) -> torch.Tensor:
    """The outputs at some places, added up as `how` says: (places, out), of x's dtype.

    places: numbers of positions, counted over batch and size of the output. Raises ValueError where it says no order.
    """
    groups, out = layer.groups, len(kernel.weight)
    weight = kernel.weight.double().reshape(1, groups, out // groups, -1)
    patches = windows_at(x.double(), layer, places).reshape(len(places), groups, 1, -1)
    bias = None if kernel.bias is None else kernel.bias.double().view(groups, -1)
    values = replay(product_terms(patches, weight, bias), how, x.dtype).values
    stored = storage_format(x.dtype).round(
        numpy.array(numpy.broadcast_to(values, (len(places), groups, out // groups)))
    )
    return torch.from_numpy(stored).reshape(len(places), out).to(x.dtype)


def at(y: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The outputs y (batch, out, *size) at some places, as `emulate` has them: (places, out)."""
    return y.transpose(0, 1).flatten(1)[:, places.to(y.device)].T


@torch.no_grad()
def which(
    method: str,
    layer: ExpandedLayer,
    shape: Sequence[int],
    hows: Sequence[Accumulation],
    places: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Which of some accumulations each output at some places has, by number: (places, out); the first where none fits.

    Asked on draws of other numbers, until one alone is left. shape: (batch, channels, *size) of the input.
    """
    problem = Problem("other numbers", shape[0], shape[1], tuple(shape[2:]), (layer,))
    possible = torch.ones(len(hows), len(places), layer.out_channels, dtype=torch.bool)
    for seed in range(FIRST_SEED, FIRST_SEED + DRAWS):
        (open_places,) = (possible.sum(0) > 1).any(1).nonzero(as_tuple=True)
        if not len(open_places):
            break
        x, (kernel,) = problem.draw(dtype, seed=seed)
        y = at(METHODS[method](x, kernel, layer), places[open_places])
        for number, how in enumerate(hows):
            equal = ulp_distance(emulate(x, kernel, layer, how, places[open_places]), y) == 0
            possible[number, open_places] &= equal
    return possible.to(torch.uint8).argmax(0)


def chosen(candidates: Sequence[torch.Tensor], numbers: torch.Tensor) -> torch.Tensor:
    """Of each output the one of several candidates, (places, out) each, that its number says."""
    return torch.stack(list(candidates)).gather(0, numbers[None])[0]
