"""How one size of input is computed by border-exact merging, and with how many operations. Integers only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from linear_lasagna.geometry import Crop
from linear_lasagna.merging.border.regions import Face, Shape, extents, faces, interior, places, whole
from linear_lasagna.merging.border.window_matmul import Layout, layout_of
from linear_lasagna.merging.chain import Chain, as_few, chained, joined, sizes_of
from linear_lasagna.problems import ExpandedLayer

# Numbers in the kernels of all faces: 64 MiB in float32. Beyond that (corners of deep stacks in three dimensions) they
# would cost more to read than merging saves, and the stack runs.
LARGEST = 2**24
# Sizes modulo the strides for which kernels of the border are made; with more of them the stack runs.
MOST_ALIGNMENTS = 16


class Plan(NamedTuple):
    """How one size of input is computed.

    inner: the merged layer, with the padding that it adds itself to `need`. Per image, inner_operations: its
    multiply-accumulates; operations: those of the faces too; window_numbers: laid out for the faces' products.
    """

    inner: ExpandedLayer
    need: Crop
    faces: tuple[Face, ...]
    layouts: tuple[Layout, ...]
    inner_operations: int
    operations: int
    window_numbers: int


@lru_cache(maxsize=1024)
def plan(chain: Chain, in_channels: int, size: tuple[int, ...]) -> Plan | None:
    """How an input of this size is computed, or None where the stack has to run.

    So it does where no output is interior, where the faces' kernels have more than `LARGEST` numbers, where strides
    leave more than `MOST_ALIGNMENTS`, and on images so small that they have faces of their own.
    """
    found = _plan(chain, in_channels, size)
    known = found is not None and all(face.shape in shapes(chain, in_channels) for face in found.faces)
    return found if known else None


@lru_cache(maxsize=1024)
def shapes(chain: Chain, in_channels: int) -> tuple[Shape, ...]:
    """The shapes of all faces of large images: which of them an image has, depends on its size modulo the strides."""
    merged = joined(chain)
    if math.prod(merged.layer.stride) > MOST_ALIGNMENTS:
        return ()
    axes = []
    for reach, before, after, stride in zip(
        merged.layer.reach, merged.layer.padding, merged.after, merged.layer.stride, strict=True
    ):
        large = 4 * (reach + before + after)
        axes.append(range(large, large + stride))
    plans = (_plan(chain, in_channels, size) for size in itertools.product(*axes))
    return tuple(dict.fromkeys(face.shape for found in plans if found is not None for face in found.faces))


def _plan(chain: Chain, in_channels: int, size: tuple[int, ...]) -> Plan | None:
    links = as_few(chain)
    inside = interior(links, size)
    if inside is None:
        return None
    around, merged = faces(links, size, inside), joined(links).layer
    windows = [places(face) * in_channels * math.prod(extents(face, merged)) for face in around]
    numbers = [_kernel_numbers(face, merged, in_channels) for face in around]
    if sum(numbers) > LARGEST:
        return None
    inner, need = whole(links, size)
    inner_operations = layer_operations(inner, in_channels, sizes_of(links, size)[-1])
    operations = inner_operations + sum(places(face) * count for face, count in zip(around, numbers, strict=True))
    layouts = tuple(layout_of(face.shape, merged) for face in around)
    return Plan(inner, need, around, layouts, inner_operations, operations, sum(windows))


def _kernel_numbers(face: Face, merged: ExpandedLayer, in_channels: int) -> int:
    outputs = merged.out_channels * math.prod(count or 1 for count in face.shape.counts)
    return outputs * in_channels // merged.groups * math.prod(extents(face, merged))


def layer_operations(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of a layer that has outputs of this size."""
    return math.prod(size) * layer.out_channels * layer.fan_in(in_channels)


def stack_operations(chain: Chain, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of the stack, layer after layer."""
    total, channels = 0, in_channels
    for link, after in zip(chain, sizes_of(chain, size)[1:], strict=True):
        total += layer_operations(link.layer, channels, after)
        channels = link.layer.out_channels
    return total


def border_operations(layers: Sequence[ExpandedLayer], in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of `border_exact`: the merged layer and the faces; the stack's where it runs."""
    chain = chained(layers)
    found = plan(chain, in_channels, size)
    return stack_operations(chain, in_channels, size) if found is None else found.operations
