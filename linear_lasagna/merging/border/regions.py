"""Which outputs of a chain one merged convolution gets right, and what the others need. Integers only.

Zero padding between layers is not what the layer before would have computed there. An output is *interior* if what it
needs of every padded level between the layers stays inside that level: there the merged convolution, with the sum of
the paddings, is right. What an output needs is affine in its position, so the interior is one interval per axis, and
the outputs around it are `blocks`: in two dimensions four sides and four corners. The zeros around the input itself
never matter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from linear_lasagna.geometry import Box, Crop, crop, size_of
from linear_lasagna.merging.chain import Link, joined, sizes_of
from linear_lasagna.problems import ExpandedLayer


class Shape(NamedTuple):
    """All that the kernel of a block depends on: it is the same for blocks of images of different sizes.

    counts: outputs per axis, None where the block spans the interior and the kernel slides.
    cuts: per link, first to last, and per axis, how many of the positions that the outputs need lie before and after
    the link's input; where all do, one is negative, as in `Crop`. 0 along the sliding axes.
    """

    counts: tuple[int | None, ...]
    cuts: tuple[tuple[tuple[int, int], ...], ...]


def counted(shape: Shape) -> tuple[int, ...]:
    """The axes with a count."""
    return tuple(axis for axis, count in enumerate(shape.counts) if count is not None)


def sliding(shape: Shape) -> tuple[int, ...]:
    """The other axes."""
    return tuple(axis for axis, count in enumerate(shape.counts) if count is None)


class BorderBlock(NamedTuple):
    """A block of outputs beside the interior, at the end of one axis or of several, and what it needs of the input.

    On the axes with a count the receptive field has no zeros: the kernel is made for the positions that there are.
    """

    shape: Shape
    box: Box
    receptive_field: Crop


def interior(chain: Sequence[Link], size: tuple[int, ...]) -> Box | None:
    """The outputs that need no padded position between links, or None where there are none. size: the input's."""
    sizes = sizes_of(chain, size)
    box = [(0, length) for length in sizes[-1]]
    for index, link in enumerate(chain[1:], start=1):
        if link.pads:
            rest = joined(chain[index:]).layer
            axes = zip(box, sizes[index], rest.padding, rest.effective_kernel_size, rest.stride, strict=True)
            box = [
                (max(start, -(-padding // stride)), min(stop, (length + padding - span) // stride + 1))
                for (start, stop), length, padding, span, stride in axes
            ]
    return tuple(box) if all(start < stop for start, stop in box) else None


def whole(chain: Sequence[Link], size: tuple[int, ...]) -> tuple[ExpandedLayer, Crop]:
    """The merged layer for all outputs, and what it needs of the input beside the padding that it adds itself."""
    merged, output = joined(chain), sizes_of(chain, size)[-1]
    receptive_field = crop(merged.layer, size, tuple((0, length) for length in output))
    # Zeros on both sides the convolution adds itself, without a copy.
    padding = tuple(max(0, min(ends)) for ends in zip(receptive_field.before, receptive_field.after, strict=True))
    return replace(merged.layer, padding=padding), receptive_field


def blocks(chain: Sequence[Link], size: tuple[int, ...], inner: Box) -> tuple[BorderBlock, ...]:
    """All outputs of the chain around the interior. size: the input's."""
    axes = []
    for (start, stop), length in zip(inner, sizes_of(chain, size)[-1], strict=True):
        ends = [(first, last) for first, last in ((0, start), (stop, length)) if first < last]
        axes.append([((start, stop), False), *((end, True) for end in ends)])
    _, *choices = itertools.product(*axes)  # the first is the interior
    return tuple(block(chain, size, *zip(*choice, strict=True)) for choice in choices)


def block(chain: Sequence[Link], size: tuple[int, ...], box: Box, ends: Sequence[bool]) -> BorderBlock:
    """The block of outputs. ends: per axis, whether the block is counted there, or slides as the interior does."""
    crops, needed = [], box
    for link, length in zip(reversed(chain), reversed(sizes_of(chain, size)[:-1]), strict=True):
        crops.append(crop(link.layer, length, needed))
        needed = crops[-1].box
    cuts = tuple(
        tuple((b, a) if end else (0, 0) for b, a, end in zip(each.before, each.after, ends, strict=True))
        for each in reversed(crops)
    )
    counts = tuple(n if end else None for n, end in zip(size_of(box), ends, strict=True))
    merged = crop(joined(chain).layer, size, box)
    axes = zip(ends, needed, merged.box, merged.before, merged.after, strict=True)
    field = [(mine, 0, 0) if end else (theirs, before, after) for end, mine, theirs, before, after in axes]
    return BorderBlock(Shape(counts, cuts), box, Crop(*(tuple(each) for each in zip(*field, strict=True))))


def extents(block: BorderBlock, merged: ExpandedLayer) -> tuple[int, ...]:
    """Positions per axis that one output of the block has a number for: all that it needs, or the taps that slide."""
    axes = zip(block.shape.counts, size_of(block.receptive_field.box), merged.kernel_size, strict=True)
    return tuple(taps if count is None else needed for count, needed, taps in axes)


def places(block: BorderBlock) -> int:
    """To how many places the block's kernel slides."""
    return math.prod(size_of(block.box)[axis] for axis in sliding(block.shape))
