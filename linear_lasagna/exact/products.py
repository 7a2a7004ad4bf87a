"""One layer modulo several primes: matrix products, one per kernel position, whose float64 sums are exact.

Images are residues (primes, channels, samples, *size), float64 views into blocks (primes, channels, length).
With stride 1 a kernel position is a shifted view of the flat image, so that no columns are copied; what
stands between the rows of the valid output is computed too, and ignored. Where that is too much, or strides
differ, columns are gathered. Padding, groups and dilation change nothing in the arithmetic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from linear_lasagna.exact.residues import Buffers
from linear_lasagna.geometry import Crop
from linear_lasagna.problems import ExpandedLayer

# Positions that flat views compute, per position needed: beyond these, columns are gathered, images copied.
LARGEST_WASTE = 1.3
COPIED_WASTE = 1.15
# Rows of gathered columns, about.
GATHERED_ROWS = 64


def arrange(images: Tensor, layer: ExpandedLayer, crop: Crop, buffers: Buffers) -> Tensor:
    """The layer's input with the crop's zeros around it, and without the waste of earlier layers' row ends.

    images: (k, channels, samples, *size), returned as they are where there is nothing to do.
    """
    if any(crop.before) or any(crop.after):
        return _pad(images, crop, buffers)
    if Pattern(layer, images).waste > COPIED_WASTE and not images.is_contiguous():
        return buffers.take("padded", *images.shape).copy_(images)
    return images


def _pad(images: Tensor, crop: Crop, buffers: Buffers) -> Tensor:
    padded = buffers.take("padded", *images.shape[:3], *crop.padded).zero_()
    source, target = images, padded
    axes = zip(crop.before, images.shape[3:], crop.padded, strict=True)
    for axis, (before, length, whole) in enumerate(axes, start=3):
        start, stop = max(before, 0), min(before + length, whole)
        if stop <= start:
            return padded
        source = source.narrow(axis, start - before, stop - start)
        target = target.narrow(axis, start, stop - start)
    target.copy_(source)
    return padded


class Pattern:
    """How one layer's kernel positions meet its padded input: as flat views, or gathered into columns."""

    def __init__(self, layer: ExpandedLayer, images: Tensor):
        self.layer = layer
        self.strides = images.stride()[2:]
        axes = zip(images.shape[3:], layer.effective_kernel_size, layer.stride, strict=True)
        self.shape = (images.shape[2], *((n - reach) // step + 1 for n, reach, step in axes))
        self.channels = images.shape[1] // layer.groups
        length = 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        self.waste = length / math.prod(self.shape)
        self.flat = all(step == 1 for step in layer.stride) and self.waste <= LARGEST_WASTE
        self.length = length if self.flat else math.prod(self.shape)
        self.taps = 1 if self.flat else min(layer.taps, max(1, GATHERED_ROWS // self.channels))

    def offsets(self) -> list[int]:
        """Where each kernel position starts in the flat image."""
        axes = zip(self.layer.kernel_size, self.layer.dilation, self.strides[1:], strict=True)
        starts = [range(0, taps * dilation * stride, dilation * stride) for taps, dilation, stride in axes]
        return [sum(position) for position in itertools.product(*starts)]

    def valid(self, flat: Tensor) -> Tensor:
        """The outputs (k, channels, samples, *size), a view of flat (k, channels, length)."""
        if not self.flat:
            return flat.view(*flat.shape[:2], *self.shape)
        return flat.as_strided((*flat.shape[:2], *self.shape), (*flat.stride()[:2], *self.strides))


def multiply(out: Tensor, weight: Tensor, images: Tensor, pattern: Pattern, buffers: Buffers) -> None:
    """The layer's sums of products, into out (k, out channels, length).

    weight: (k, out channels, taps * in channels / groups); images: (k, in channels, samples, *size).
    """
    batch, start = len(out) * pattern.layer.groups, 0
    weight = weight.view(batch, -1, weight.shape[-1])
    out = out.view(batch, -1, out.shape[-1])
    columns = _shifted(images, pattern, batch) if pattern.flat else _gathered(images, pattern, batch, buffers)
    for block in columns:
        part = weight[:, :, start : start + block.shape[1]]
        torch.baddbmm(out, part, block, beta=1 if start else 0, out=out)
        start += block.shape[1]


def _shifted(images: Tensor, pattern: Pattern, batch: int) -> Iterator[Tensor]:
    """Views (batch, channels, length), one per kernel position."""
    shape = (batch, pattern.channels, pattern.length)
    strides = (pattern.channels * images.stride(1), images.stride(1), 1)
    for offset in pattern.offsets():
        yield images.as_strided(shape, strides, images.storage_offset() + offset)


def _gathered(images: Tensor, pattern: Pattern, batch: int, buffers: Buffers) -> Iterator[Tensor]:
    """Columns (batch, positions * channels, length) of several kernel positions each, valid one at a time."""
    layer, channels, offsets = pattern.layer, pattern.channels, pattern.offsets()
    shape = (batch, channels, *pattern.shape)
    steps = [n * s for n, s in zip((1, *layer.stride), pattern.strides, strict=True)]
    strides = (channels * images.stride(1), images.stride(1), *steps)
    for first in range(0, len(offsets), pattern.taps):
        chosen = offsets[first : first + pattern.taps]
        block = buffers.take("columns", batch, len(chosen), channels, *pattern.shape)
        for tap, offset in enumerate(chosen):
            block[:, tap].copy_(images.as_strided(shape, strides, images.storage_offset() + offset))
        yield block.view(batch, len(chosen) * channels, pattern.length)
