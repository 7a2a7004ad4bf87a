"""Which input positions a block of output positions needs, through a stack of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from linear_lasagna.problems import ExpandedLayer

Box: TypeAlias = tuple[tuple[int, int], ...]  # (start, stop) per spatial axis


class Crop(NamedTuple):
    """The part of a layer's input that a block of its output needs, and the zeros around that part.

    before, after: zeros per axis; a negative number says how many of the part's positions are not needed, which
    happens only where everything that is needed is padding.
    """

    box: Box
    before: tuple[int, ...]
    after: tuple[int, ...]


def size_of(box: Box) -> tuple[int, ...]:
    """Positions per axis."""
    return tuple(stop - start for start, stop in box)


def crop(layer: ExpandedLayer, size: tuple[int, ...], box: Box) -> Crop:
    """What `box` of the layer's output needs of its input of `size`. The part has one position at least per axis."""
    boxes, before, after = [], [], []
    for axis, (start, stop) in enumerate(box):
        stride, padding, length = layer.stride[axis], layer.padding[axis], size[axis]
        first = start * stride - padding
        last = (stop - 1) * stride - padding + layer.reach[axis]
        low = min(max(first, 0), length - 1)
        high = max(min(last, length), low + 1)
        boxes.append((low, high))
        before.append(low - first)
        after.append(last - high)
    return Crop(tuple(boxes), tuple(before), tuple(after))


def crops(layers: Sequence[ExpandedLayer], sizes: Sequence[tuple[int, ...]], box: Box) -> tuple[Crop, ...]:
    """One crop per layer, in order, for `box` of the last layer's output. sizes: before each layer."""
    found = []
    for layer, size in zip(reversed(layers), reversed(sizes), strict=True):
        found.append(crop(layer, size, box))
        box = found[-1].box
    return tuple(reversed(found))
