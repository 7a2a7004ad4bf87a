"""How one size of input is computed by border-exact merging, and with how many operations. Integers only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from linear_lasagna.exact.regions import Crop
from linear_lasagna.merging.chain import Chain, Link, as_few, chained, joined, sizes_of
from linear_lasagna.merging.product import Layout, layout_of
from linear_lasagna.merging.regions import Face, Shape, extents, faces, interior, places, whole
from linear_lasagna.problems import ExpandedLayer

# Numbers in the kernels of all faces: 64 MiB in float32. Beyond that (corners of deep stacks in three dimensions) they
# would cost more to read than merging saves, and the stack runs.
LARGEST = 2**24
# Sizes modulo the strides for which kernels of the border are made; with more of them the stack runs.
MOST_ALIGNMENTS = 16
# In multiply-accumulates of a stack: writing a number between the layers, which merging saves; and what faces cost
# beside their products: calling for one, and moving a number of its windows and of its kernel. Fitted on two cores to
# 862 stacks of two to four layers with 3 to 256 channels, dense and grouped, on images of 8 to 192 squared, in float32
# and bfloat16: over 2 % are lost on 93, on 38 of them by merging. A measurement decides better.
WRITTEN_OPERATIONS = 120
FACE_OPERATIONS = 10_000_000
WINDOW_OPERATIONS = 100
KERNEL_OPERATIONS = 300


class Plan(NamedTuple):
    """How one size of input is computed.

    inner: the merged layer, with the padding that it adds itself to `need`. Per image, operations:
    multiply-accumulates; window_numbers: laid out for the faces' products. kernel_numbers: in their kernels.
    """

    inner: ExpandedLayer
    need: Crop
    faces: tuple[Face, ...]
    layouts: tuple[Layout, ...]
    operations: int
    window_numbers: int
    kernel_numbers: int


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
    operations = layer_operations(inner, in_channels, sizes_of(links, size)[-1])
    operations += sum(places(face) * count for face, count in zip(around, numbers, strict=True))
    layouts = tuple(layout_of(face.shape, merged) for face in around)
    return Plan(inner, need, around, layouts, operations, sum(windows), sum(numbers))


def _kernel_numbers(face: Face, merged: ExpandedLayer, in_channels: int) -> int:
    outputs = merged.out_channels * math.prod(count or 1 for count in face.shape.counts)
    return outputs * in_channels // merged.groups * math.prod(extents(face, merged))


def least_batch(found: Plan, chain: Chain, in_channels: int, size: tuple[int, ...]) -> float:
    """From how many images on the plan is estimated to be faster than the layers one after another; inf for never.

    What merging saves and what the faces' windows cost, grows with the images; calls and kernels are shared by them.
    """
    written = sum(link.layer.out_channels * math.prod(after) for link, after in _sized(chain, size)[:-1])
    saved = stack_operations(chain, in_channels, size) - found.operations + written * WRITTEN_OPERATIONS
    gain = saved - found.window_numbers * WINDOW_OPERATIONS
    once = len(found.faces) * FACE_OPERATIONS + found.kernel_numbers * KERNEL_OPERATIONS
    return once / gain if gain > 0 else math.inf


def layer_operations(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of a layer that has outputs of this size."""
    return math.prod(size) * layer.out_channels * layer.fan_in(in_channels)


def stack_operations(chain: Chain, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of the stack, layer after layer."""
    total, channels = 0, in_channels
    for link, after in _sized(chain, size):
        total += layer_operations(link.layer, channels, after)
        channels = link.layer.out_channels
    return total


def _sized(chain: Chain, size: tuple[int, ...]) -> list[tuple[Link, tuple[int, ...]]]:
    """The links, each with the size of what it computes."""
    return list(zip(chain, sizes_of(chain, size)[1:], strict=True))


def border_operations(layers: Sequence[ExpandedLayer], in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of `border_exact`: the merged layer and the faces; the stack's where it runs."""
    chain = chained(layers)
    found = plan(chain, in_channels, size)
    return stack_operations(chain, in_channels, size) if found is None else found.operations


def border_pays(layers: Sequence[ExpandedLayer], in_channels: int, size: tuple[int, ...], batch: int) -> bool:
    """Whether `border_exact` is estimated to be faster than the layers one after another; not where it runs these."""
    chain = chained(layers)
    found = plan(chain, in_channels, size)
    return found is not None and batch >= least_batch(found, chain, in_channels, size)
