"""In which order a stack's kernels are merged: the one with the fewest multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from linear_lasagna.merging.pairs import Pair, pair
from linear_lasagna.problems import ExpandedLayer

Order: TypeAlias = "int | tuple[Order, Order]"  # a layer's index, or two orders whose results are merged


def multiply_adds(both: Pair, in_channels: int) -> int:
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
    depth = len(layers)
    channels = (in_channels, *(layer.out_channels for layer in layers))
    merged = {(i, i): layer for i, layer in enumerate(layers)}
    best: dict[tuple[int, int], tuple[int, Order]] = {(i, i): (0, i) for i in range(depth)}
    for length in range(1, depth):
        for start in range(depth - length):
            stop = start + length
            choices: list[tuple[int, int]] = []
            for last in range(start, stop):
                both = pair(merged[start, last], merged[last + 1, stop])
                cost = multiply_adds(both, channels[start]) + best[start, last][0] + best[last + 1, stop][0]
                choices.append((cost, -last))
                merged[start, stop] = both.merged
            cost, last = min(choices)
            best[start, stop] = cost, (best[start, -last][1], best[1 - last, stop][1])
    return best[0, depth - 1][1]


def fold(layers: Sequence[ExpandedLayer]) -> ExpandedLayer:
    """The one layer that the layers merge into, with the sum of their paddings."""
    merged = layers[0]
    for layer in layers[1:]:
        merged = pair(merged, layer).merged
    return merged
