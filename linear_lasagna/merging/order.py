"""In which order a stack's kernels are merged: the one with the fewest multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy

from linear_lasagna.merging.pairs import Pair, pair
from linear_lasagna.problems import ExpandedLayer

Order: TypeAlias = "int | tuple[Order, Order]"  # a layer's index, or two orders whose results are merged


def merge_macs(both: Pair, in_channels: int) -> int:
    """Products that the merge of two kernels sums, zeros between their taps not counted. in_channels: the first's."""
    layer = both.layer
    channels = in_channels // both.first.groups * layer.out_channels * (both.first.out_channels // layer.groups)
    return channels * both.first.taps * both.second.taps


@lru_cache(maxsize=256)
def merge_order(layers: tuple[ExpandedLayer, ...], in_channels: int) -> Order:
    """The order of pairwise merges with the fewest multiply-adds; of equally cheap ones, the first layers first.

    Dynamic programming over contiguous runs of layers, as for a chain of matrix products.
    Source: Cormen, Leiserson, Rivest, Stein, Introduction to Algorithms, "Matrix-chain multiplication".
    """
    depth, (groups, taps) = len(layers), _merged(layers)
    channels = (in_channels, *(layer.out_channels for layer in layers))
    # Whole numbers that fit; else Python's own, which take longer.
    fits = depth * max(channels) ** 3 * int(taps.max()) ** 2 < 2**63
    groups, taps, wide = (numpy.array(each, dtype=numpy.int64 if fits else object) for each in (groups, taps, channels))
    best, cuts = numpy.zeros_like(groups), {}
    for length in range(1, depth):
        for start in range(depth - length):
            stop = start + length
            early, late = (start, slice(start, stop)), (slice(start + 1, stop + 1), stop)
            products = _products(groups[early], groups[late], wide[start], wide[start + 1 : stop + 1], wide[stop + 1])
            costs = products * taps[early] * taps[late] + best[early] + best[late]
            cuts[start, stop] = stop - 1 - int(costs[::-1].argmin())
            best[start, stop] = costs[cuts[start, stop] - start]
    return _cut(cuts, 0, depth - 1)


def _merged(layers: Sequence[ExpandedLayer]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Groups and taps of what every run merges into, by its first and last layer. It is one layer in any order."""
    groups, taps = (numpy.ones((len(layers), len(layers)), dtype=object) for _ in range(2))
    for start, layer in enumerate(layers):
        groups[start, start], taps[start, start] = layer.groups, layer.taps
        for stop in range(start + 1, len(layers)):
            layer = pair(layer, layers[stop]).merged
            groups[start, stop], taps[start, stop] = layer.groups, layer.taps
    return groups, taps


def _products(
    early: numpy.ndarray, late: numpy.ndarray, in_channels: int, channels: numpy.ndarray, out_channels: int
) -> numpy.ndarray:
    """`merge_macs` per pair of taps, of every cut of a run at once. early, late: groups."""
    parts = early // numpy.gcd(early, late)
    return in_channels // early * out_channels * parts * (channels // numpy.where(parts == 1, late, early))


def _cut(cuts: Mapping[tuple[int, int], int], start: int, stop: int) -> Order:
    """The order of a run. cuts: (first, last layer) -> the last layer of its first part."""
    if start == stop:
        return start
    last = cuts[start, stop]
    return _cut(cuts, start, last), _cut(cuts, last + 1, stop)


def composed_layer(layers: Sequence[ExpandedLayer]) -> ExpandedLayer:
    """The one layer that the layers merge into, with the sum of their paddings."""
    merged = layers[0]
    for layer in layers[1:]:
        merged = pair(merged, layer).merged
    return merged
