"""Which outputs of a chain a merged convolution gets right, and what the others need. Integers only.

Zero padding between layers is not what the layer before would have computed there. An output is *interior* if what it
needs of every padded level between the layers stays inside that level: there the merged kernel, with the sum of the
paddings, is right. What an output needs is affine in its position, so the interior is one interval per axis. The zeros
around the input itself never matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from linear_lasagna.exact.regions import Box, Crop, crop, size_of
from linear_lasagna.merging.chain import Link, joined, sizes_of

WASTE = 1 / 16  # outputs that the merged convolution may compute in vain, per interior one; see `block`


class Strip(NamedTuple):
    """A block of the outputs, and what each link of the chain needs of its input for it."""

    box: Box
    crops: tuple[Crop, ...]


class Regions(NamedTuple):
    """The outputs of a chain: the interior, and around it per axis the strip before it and the strip after it.

    The merged convolution computes `block`, the interior at least, from what it needs for that.
    On the axes before its own a strip is as long as the interior, on those after it as the output. alike: per axis,
    whether both strips need blocks of one size of every layer, zeros included, and so can be one batch.
    """

    interior: Box
    block: Box
    need: Crop
    strips: tuple[tuple[Strip | None, Strip | None], ...]
    alike: tuple[bool, ...]


def interior(chain: Sequence[Link], size: tuple[int, ...]) -> Box | None:
    """The outputs that need no padded position between links, or None where there are none. size: the input's."""
    sizes = sizes_of(chain, size)
    box = [(0, length) for length in sizes[-1]]
    for index, link in enumerate(chain[1:], start=1):
        if link.pads:
            rest = joined(chain[index:]).layer
            axes = zip(box, sizes[index], rest.padding, rest.reach, rest.stride, strict=True)
            box = [
                (max(start, -(-padding // stride)), min(stop, (length + padding - reach) // stride + 1))
                for (start, stop), length, padding, reach, stride in axes
            ]
    return tuple(box) if all(start < stop for start, stop in box) else None


def regions(chain: Sequence[Link], size: tuple[int, ...], inner: Box) -> Regions:
    """The outputs of the chain around the interior. size: the input's."""
    output = tuple((0, length) for length in sizes_of(chain, size)[-1])
    strips = []
    for axis, ((start, stop), (_, length)) in enumerate(zip(inner, output, strict=True)):
        ends = ((0, start), (stop, length))
        boxes = ((*inner[:axis], end, *output[axis + 1 :]) if end[0] < end[1] else None for end in ends)
        before, after = (None if box is None else strip(chain, size, box) for box in boxes)
        strips.append((before, after))
    alike = tuple(_alike(*pair) for pair in strips)
    whole = block(inner, output)
    return Regions(inner, whole, crop(joined(chain).layer, size, whole), tuple(strips), alike)


def block(inner: Box, output: Box) -> Box:
    """All outputs where these are few more than the interior, else the interior.

    Libraries are fast on the sizes that images have: with a merged 5×5 of 8 channels, 256 columns took less time than
    254. The border that is computed in vain, and wrongly, is left out afterwards.
    """
    most = (1 + WASTE) * math.prod(size_of(inner))
    return output if math.prod(size_of(output)) <= most else inner


def _alike(before: Strip | None, after: Strip | None) -> bool:
    if before is None or after is None:
        return False
    return [each.padded for each in before.crops] == [each.padded for each in after.crops]


def strip(chain: Sequence[Link], size: tuple[int, ...], box: Box) -> Strip:
    """What each link needs for a block of the last one's outputs."""
    crops, needed = [], box
    for link, length in zip(reversed(chain), reversed(sizes_of(chain, size)[:-1]), strict=True):
        crops.append(crop(link.layer, length, needed))
        needed = crops[-1].box
    return Strip(box, tuple(reversed(crops)))


def strips_of(found: Regions) -> Iterator[Strip]:
    """All strips."""
    return (each for pair in found.strips for each in pair if each is not None)


def operations(chain: Sequence[Link], in_channels: int, blocks: Sequence[tuple[int, ...]]) -> int:
    """Multiply-accumulates of computing, for every link, a block of outputs of this size. in_channels: the first's."""
    total, channels = 0, in_channels
    for link, block in zip(chain, blocks, strict=True):
        total += math.prod(block) * link.layer.out_channels * link.layer.fan_in(channels)
        channels = link.layer.out_channels
    return total


def strip_operations(chain: Sequence[Link], in_channels: int, strip: Strip) -> int:
    """Multiply-accumulates of one strip."""
    boxes = [*(each.box for each in strip.crops[1:]), strip.box]
    return operations(chain, in_channels, [size_of(box) for box in boxes])
