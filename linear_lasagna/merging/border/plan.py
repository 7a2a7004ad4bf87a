"""How one size of input is computed by border-exact merging, and with how many multiply-accumulates. Integers only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from linear_lasagna.geometry import Crop
from linear_lasagna.merging.border.regions import BorderBlock, Shape, blocks, extents, interior, places, whole
from linear_lasagna.merging.border.window_matmul import Layout, layout_of
from linear_lasagna.merging.chain import Chain, as_few, chained, joined, sizes_of
from linear_lasagna.problems import ExpandedLayer

# Numbers in the kernels of all blocks: 64 MiB in float32. Beyond that (corners of deep stacks in three dimensions) they
# would cost more to read than merging saves, and the stack runs.
LARGEST = 2**24
# Sizes modulo the strides for which kernels of the border are made; with more of them the stack runs.
MOST_ALIGNMENTS = 16


class BorderPlan(NamedTuple):
    """How one size of input is computed.

    inner: the merged layer, with the padding that it adds itself to its receptive field. Per image, inner_macs: its
    multiply-accumulates; macs: those of the blocks too; window_numbers: laid out for the blocks' products.
    """

    inner: ExpandedLayer
    receptive_field: Crop
    blocks: tuple[BorderBlock, ...]
    layouts: tuple[Layout, ...]
    inner_macs: int
    macs: int
    window_numbers: int


@lru_cache(maxsize=1024)
def plan(chain: Chain, in_channels: int, size: tuple[int, ...]) -> BorderPlan | None:
    """How an input of this size is computed, or None where the stack has to run.

    So it does where no output is interior, where the blocks' kernels have more than `LARGEST` numbers, where strides
    leave more than `MOST_ALIGNMENTS`, and on images so small that they have blocks of their own.
    """
    border_plan = _plan(chain, in_channels, size)
    known = border_plan is not None and all(block.shape in shapes(chain, in_channels) for block in border_plan.blocks)
    return border_plan if known else None


@lru_cache(maxsize=1024)
def shapes(chain: Chain, in_channels: int) -> tuple[Shape, ...]:
    """The shapes of all blocks of large images: which of them an image has, depends on its size modulo the strides."""
    merged = joined(chain)
    if math.prod(merged.layer.stride) > MOST_ALIGNMENTS:
        return ()
    axes = []
    for span, before, after, stride in zip(
        merged.layer.effective_kernel_size, merged.layer.padding, merged.after, merged.layer.stride, strict=True
    ):
        large = 4 * (span + before + after)
        axes.append(range(large, large + stride))
    plans = (_plan(chain, in_channels, size) for size in itertools.product(*axes))
    return tuple(dict.fromkeys(block.shape for each in plans if each is not None for block in each.blocks))


def _plan(chain: Chain, in_channels: int, size: tuple[int, ...]) -> BorderPlan | None:
    links = as_few(chain)
    inside = interior(links, size)
    if inside is None:
        return None
    around, merged = blocks(links, size, inside), joined(links).layer
    windows = [places(block) * in_channels * math.prod(extents(block, merged)) for block in around]
    numbers = [_kernel_numbers(block, merged, in_channels) for block in around]
    if sum(numbers) > LARGEST:
        return None
    inner, receptive_field = whole(links, size)
    inner_macs = layer_macs(inner, in_channels, sizes_of(links, size)[-1])
    macs = inner_macs + sum(places(block) * count for block, count in zip(around, numbers, strict=True))
    layouts = tuple(layout_of(block.shape, merged) for block in around)
    return BorderPlan(inner, receptive_field, around, layouts, inner_macs, macs, sum(windows))


def _kernel_numbers(block: BorderBlock, merged: ExpandedLayer, in_channels: int) -> int:
    outputs = merged.out_channels * math.prod(count or 1 for count in block.shape.counts)
    return outputs * in_channels // merged.groups * math.prod(extents(block, merged))


def layer_macs(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of a layer that has outputs of this size."""
    return math.prod(size) * layer.out_channels * layer.fan_in(in_channels)


def stack_macs(chain: Chain, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of the stack, layer after layer."""
    total, channels = 0, in_channels
    for link, after in zip(chain, sizes_of(chain, size)[1:], strict=True):
        total += layer_macs(link.layer, channels, after)
        channels = link.layer.out_channels
    return total


def border_macs(layers: Sequence[ExpandedLayer], in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of `border_exact`: the merged layer and the blocks; the stack's where it runs."""
    chain = chained(layers)
    border_plan = plan(chain, in_channels, size)
    return stack_macs(chain, in_channels, size) if border_plan is None else border_plan.macs
