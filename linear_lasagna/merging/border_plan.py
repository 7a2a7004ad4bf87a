"""How one size of input is computed by border-exact merging, and with how many operations. Integers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from linear_lasagna.exact.regions import Crop
from linear_lasagna.merging.chain import Chain, as_few, chained, joined, sizes_of
from linear_lasagna.merging.product import Layout, layout
from linear_lasagna.merging.regions import Face, extents, faces, interior, places, whole
from linear_lasagna.problems import ExpandedLayer

# Numbers in the kernels of all faces: 64 MiB in float32. Beyond that (corners of deep stacks in three dimensions) they
# would cost more to read than merging saves, and the stack runs.
LARGEST = 2**24
# What the faces cost beside their products, in multiply-accumulates of a stack: calling for a face, and moving a
# number of its windows and of its kernel. Fitted on two cores to 574 pairs and chains of 3 to 256 channels on images
# of 8 to 192 squared, in float32 and bfloat16: over 2 % are lost on 59, on 16 of them by merging. A measurement
# decides better.
FACE_OPERATIONS = 6_000_000
WINDOW_OPERATIONS = 150
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


def plan(chain: Chain, in_channels: int, size: tuple[int, ...]) -> Plan | None:
    """How an input of this size is computed, or None where the stack has to run.

    So it does where no output is interior, and where the faces' kernels have more than `LARGEST` numbers.
    """
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
    layouts = tuple(layout(face.shape, merged) for face in around)
    return Plan(inner, need, around, layouts, operations, sum(windows), sum(numbers))


def _kernel_numbers(face: Face, merged: ExpandedLayer, in_channels: int) -> int:
    outputs = merged.out_channels * math.prod(count or 1 for count in face.shape.counts)
    return outputs * in_channels // merged.groups * math.prod(extents(face, merged))


def pays(found: Plan, chain: Chain, in_channels: int, size: tuple[int, ...], batch: int) -> bool:
    """Whether the plan saves more operations over the layers one after another than its faces cost beside theirs."""
    saved = stack_operations(chain, in_channels, size) - found.operations
    moved = batch * found.window_numbers * WINDOW_OPERATIONS + found.kernel_numbers * KERNEL_OPERATIONS
    return batch * saved > len(found.faces) * FACE_OPERATIONS + moved


def layer_operations(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of a layer that has outputs of this size."""
    return math.prod(size) * layer.out_channels * layer.fan_in(in_channels)


def stack_operations(chain: Chain, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of the stack, layer after layer."""
    total, channels = 0, in_channels
    for link, block in zip(chain, sizes_of(chain, size)[1:], strict=True):
        total += layer_operations(link.layer, channels, block)
        channels = link.layer.out_channels
    return total


def border_operations(layers: Sequence[ExpandedLayer], in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of `border_exact`: the merged layer and the faces; the stack's where it runs."""
    chain = chained(layers)
    found = plan(chain, in_channels, size)
    return stack_operations(chain, in_channels, size) if found is None else found.operations


def border_pays(layers: Sequence[ExpandedLayer], in_channels: int, size: tuple[int, ...], batch: int) -> bool:
    """Whether `border_exact` is estimated to be faster than the layers one after another; not where it runs these."""
    chain = chained(layers)
    found = plan(chain, in_channels, size)
    return found is not None and pays(found, chain, in_channels, size, batch)
