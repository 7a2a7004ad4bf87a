"""Convolutions of images that nearest-neighbour up-sampling made larger, and what follows a pixel shuffle.

An image whose every position stands r times beside itself has only as many different numbers as before. So a
convolution of it takes, at each of the r positions (phases) that one of them became, fewer taps: those that meet the
same number are added up. All phases are one convolution of the small image, with r times the channels per axis, whose
outputs are then put in place, and a few cut off at the ends. It is exact at the border: zeros around the large image
are zeros around the small one. A 3 x 3 behind doubling takes 2 x 2 taps instead of 9.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from linear_lasagna.problems import ExpandedLayer, Kernel

Method = Callable[..., Any]


@dataclass(frozen=True)
class Spread:
    """How outputs are put in place: channels (groups, *factors, channels / groups) become positions of the image.

    Then `before` and `after` positions per axis are cut off.
    """

    groups: int
    factors: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def phases(self) -> int:
        """Positions that each position becomes."""
        return math.prod(self.factors)

    def each(self, numbers: torch.Tensor) -> torch.Tensor:
        """Numbers of the channels, (channels,) or (), for every phase of them."""
        if numbers.ndim == 0:
            return numbers
        rows = numbers.view(self.groups, 1, -1)
        return rows.expand(-1, self.phases, -1).flatten()

    def placed(self, y: Any, call: Method = lambda name, value, *args: getattr(value, name)(*args)) -> Any:
        """(batch, channels, *size) put in place. call: computes a method of a value, or notes it in a graph."""
        rank = len(self.factors)
        y = call("unflatten", y, 1, (self.groups, *self.factors, -1))
        pairs = [axis for n in range(rank) for axis in (3 + rank + n, 2 + n)]
        y = call("flatten", call("permute", y, 0, 1, 2 + rank, *pairs), 1, 2)
        for axis in range(2, 2 + rank):
            y = call("flatten", y, axis, axis + 1)
        ends = [slice(b, -a if a else None) for b, a in zip(self.before, self.after, strict=True)]
        return call("__getitem__", y, (..., *ends)) if any(self.before + self.after) else y

    def placed_in(self, graph: fx.Graph, node: fx.Node) -> fx.Node:
        """The same of a node, as nodes."""

        def call(name: str, value: fx.Node, *args: Any) -> fx.Node:
            if name == "__getitem__":
                return graph.call_function(operator.getitem, (value, *args))
            return graph.call_method(name, (value, *args))

        return self.placed(node, call)


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution in phases: taps[slot][tap] lists the taps of the given kernel that meet there."""

    kernel_size: int
    padding: int
    before: int
    after: int
    taps: tuple[tuple[tuple[int, ...], ...], ...]


def axis_in_phases(kernel_size: int, padding: int, dilation: int, factor: int) -> Axis:
    """The axis with the fewest taps: output o is slot s of position m where o + shift = factor * m + s."""
    found = []
    for shift in range(factor):
        offsets = [[(s - shift + t * dilation - padding) // factor for t in range(kernel_size)] for s in range(factor)]
        first, last = min(map(min, offsets)), max(map(max, offsets))
        size, span = last - first + 1, dilation * (kernel_size - 1)
        pad = max(0, -first)
        while (after := _after(factor, size, pad, first, shift, padding, span)) < 0:
            pad += 1
        taps = tuple(
            tuple(tuple(t for t, at in enumerate(here) if at - first == tap) for tap in range(size)) for here in offsets
        )
        found.append(Axis(size, pad, factor * (pad + first) + shift, after, taps))
    return min(found, key=lambda axis: (axis.kernel_size, axis.padding))


def _after(factor: int, size: int, pad: int, first: int, shift: int, padding: int, span: int) -> int:
    """Positions that are too many at the end: for n inputs, factor * (n + 2 pad - size + 1) are put in place."""
    return factor * (2 * pad - size + 1) - (factor * (pad + first) + shift) - (2 * padding - span)


def in_phases(layer: ExpandedLayer, factors: Sequence[int]) -> tuple[ExpandedLayer, Spread, list[Axis]]:
    """The layer of stride 1 on an image up-sampled by these factors, as one on the image before."""
    axes = [
        axis_in_phases(k, p, d, r)
        for k, p, d, r in zip(layer.kernel_size, layer.padding, layer.dilation, factors, strict=True)
    ]
    spread = Spread(
        layer.groups, tuple(factors), tuple(axis.before for axis in axes), tuple(axis.after for axis in axes)
    )
    small = replace(
        layer,
        out_channels=layer.out_channels * spread.phases,
        kernel_size=tuple(axis.kernel_size for axis in axes),
        padding=tuple(axis.padding for axis in axes),
        dilation=(1,) * len(axes),
    )
    return small, spread, axes


def kernel_in_phases(kernel: Kernel, spread: Spread, axes: Sequence[Axis]) -> Kernel:
    """The numbers of the layer in phases: sums of taps."""
    weight = kernel.weight
    for axis in axes:
        sums = weight.new_zeros(len(axis.taps), axis.kernel_size, weight.shape[2])
        for slot, row in enumerate(axis.taps):
            for tap, meeting in enumerate(row):
                sums[slot, tap, list(meeting)] = 1
        weight = torch.tensordot(weight, sums, dims=([2], [2]))  # type: ignore[arg-type]
    rank = len(axes)
    slots, taps = [3 + 2 * n for n in range(rank)], [4 + 2 * n for n in range(rank)]
    rows = weight.unflatten(0, (spread.groups, -1)).permute(0, *slots, 1, 2, *taps)
    bias = None if kernel.bias is None else spread.each(kernel.bias)
    return Kernel(rows.flatten(0, rank + 1).contiguous(), bias)


def pointwise_in_phases(layer: ExpandedLayer, spread: Spread) -> ExpandedLayer:
    """A 1 x 1 layer behind: the same for every phase. spread: of one group."""
    return replace(layer, out_channels=layer.out_channels * spread.phases, groups=layer.groups * spread.phases)
