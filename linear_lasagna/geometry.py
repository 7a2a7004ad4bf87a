"""Which input positions a block of output positions needs: boxes, crops with the zeros around them. Integers only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from linear_lasagna.problems import ExpandedLayer

Box: TypeAlias = tuple[tuple[int, int], ...]  # (start, stop) per spatial axis


class Crop(NamedTuple):
    """The part of a layer's input that a block of its output needs, and the zeros around that part.

    before, after: zeros per axis. Where all that is needed is padding, one of them is negative: so many of
    the part's positions are not needed.
    """

    box: Box
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        """Size of the part with the zeros around it."""
        axes = zip(self.before, size_of(self.box), self.after, strict=True)
        return tuple(before + length + after for before, length, after in axes)


def size_of(box: Box) -> tuple[int, ...]:
    """Positions per axis."""
    return tuple(stop - start for start, stop in box)


def crop(layer: ExpandedLayer, size: tuple[int, ...], box: Box) -> Crop:
    """What `box` of the layer's output needs of its input of `size`, one position at least."""
    boxes, before, after = [], [], []
    for axis, (start, stop) in enumerate(box):
        stride, padding, length = layer.stride[axis], layer.padding[axis], size[axis]
        first = start * stride - padding
        last = (stop - 1) * stride - padding + layer.effective_kernel_size[axis]
        low = min(max(first, 0), length - 1)
        high = max(min(last, length), low + 1)
        boxes.append((low, high))
        before.append(low - first)
        after.append(last - high)
    return Crop(tuple(boxes), tuple(before), tuple(after))


def crops(layers: Sequence[ExpandedLayer], size: tuple[int, ...], box: Box) -> tuple[Crop, ...]:
    """One crop per layer, in order, for `box` of the last layer's output. size: the first layer's input's."""
    sizes, parts = [size], []
    for layer in layers[:-1]:
        sizes.append(layer.output_size(sizes[-1]))
    for layer, size in zip(reversed(layers), reversed(sizes), strict=True):
        parts.append(crop(layer, size, box))
        box = parts[-1].box
    return tuple(reversed(parts))
