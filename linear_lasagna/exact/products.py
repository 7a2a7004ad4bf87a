"""One layer modulo several primes: matrix products, one per kernel position, whose float64 sums are exact.

Residues of images are (primes, channels, samples, *size) float64 views whose last-but-spatial strides are regular:
dimension 0 and 1 are contiguous blocks. With stride 1 a kernel position is a shifted view of the flat image, so no
column buffer is needed; the positions between the rows of the valid output are computed too, and ignored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch

from linear_lasagna.exact.regions import Crop
from linear_lasagna.problems import ExpandedLayer

LARGEST_WASTE = 1.3  # positions computed in a flat view per position needed; beyond, columns are gathered
LEAST_WASTE = 1.15  # beyond, images are copied together
GATHERED = 64
ROUNDER = torch.tensor(
    1.5 * 2.0**52, dtype=torch.float64
)  # added and subtracted, it rounds numbers below 2**51


class Buffers:
    """Named blocks of float64 memory, used again by every layer and chunk: fresh memory costs more than the sums."""

    def __init__(self, device: torch.device):
        self._device = device
        self._blocks: dict[str, torch.Tensor] = {}

    def take(self, name: str, *shape: int) -> torch.Tensor:
        """Uninitialised memory, valid until the same name is taken again."""
        count = math.prod(shape)
        block = self._blocks.get(name)
        if block is None or len(block) < count:
            block = torch.empty(count, dtype=torch.float64, device=self._device)
            self._blocks[name] = block
        return block[:count].view(shape)


def reduce(values: torch.Tensor, primes: Sequence[int], buffers: Buffers) -> None:
    """Balanced residues in place, row by row. values: (k, n) float64 integers of at most primes.EXACT."""
    quotient = buffers.take("quotient", values.shape[1])
    for row, prime in zip(values, primes, strict=True):
        torch.add(ROUNDER, row, alpha=1 / prime, out=quotient).sub_(ROUNDER)
        row.sub_(quotient, alpha=prime)


def arrange(images: torch.Tensor, layer: ExpandedLayer, crop: Crop, buffers: Buffers) -> torch.Tensor:
    """The layer's input with the crop's zeros around it, and without the waste of earlier layers' row ends.

    images: (k, channels, samples, *size), returned as they are where there is nothing to do.
    """
    if any(crop.before) or any(crop.after):
        return _pad(images, crop, buffers)
    if Pattern(layer, images).waste > LEAST_WASTE and not images.is_contiguous():
        return buffers.take("padded", *images.shape).copy_(images)
    return images


def _pad(images: torch.Tensor, crop: Crop, buffers: Buffers) -> torch.Tensor:
    size = images.shape[3:]
    total = tuple(b + n + a for b, n, a in zip(crop.before, size, crop.after, strict=True))
    padded = buffers.take("padded", *images.shape[:3], *total).zero_()
    source, target = images, padded
    for axis, (before, length, whole) in enumerate(zip(crop.before, size, total, strict=True), start=3):
        start, stop = max(before, 0), min(before + length, whole)
        if stop <= start:
            return padded
        source = source.narrow(axis, start - before, stop - start)
        target = target.narrow(axis, start, stop - start)
    target.copy_(source)
    return padded


class Pattern:
    """How the kernel positions of one layer meet its padded input: as flat views, or gathered into columns."""

    def __init__(self, layer: ExpandedLayer, images: torch.Tensor):
        self.layer = layer
        self.strides = images.stride()[2:]
        axes = zip(images.shape[3:], layer.reach, layer.stride, strict=True)
        self.shape = (images.shape[2], *((n - reach) // step + 1 for n, reach, step in axes))
        self.channels = images.shape[1] // layer.groups
        length = 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        self.waste = length / math.prod(self.shape)
        self.flat = all(step == 1 for step in layer.stride) and self.waste <= LARGEST_WASTE
        self.length = length if self.flat else math.prod(self.shape)
        self.taps = 1 if self.flat else min(layer.taps, max(1, GATHERED // self.channels))

    def offsets(self) -> list[int]:
        """Where each kernel position starts in the flat image."""
        steps = [
            [tap * dilation * stride for tap in range(taps)]
            for taps, dilation, stride in zip(
                self.layer.kernel_size, self.layer.dilation, self.strides[1:], strict=True
            )
        ]
        return [sum(position) for position in itertools.product(*steps)]

    def valid(self, flat: torch.Tensor) -> torch.Tensor:
        """The outputs (k, channels, samples, *size), a view of flat (k, channels, length)."""
        if not self.flat:
            return flat.view(*flat.shape[:2], *self.shape)
        return flat.as_strided((*flat.shape[:2], *self.shape), (*flat.stride()[:2], *self.strides))


def multiply(
    out: torch.Tensor, weight: torch.Tensor, images: torch.Tensor, pattern: Pattern, buffers: Buffers
) -> None:
    """The layer's sums of products, into out (k, out channels, length).

    weight: (k, out channels, taps * in channels / groups); images: (k, in channels, samples, *size).
    """
    batch = len(out) * pattern.layer.groups
    weight = weight.view(batch, -1, weight.shape[-1])
    out = out.view(batch, -1, out.shape[-1])
    start = 0
    for block in (
        _shifted(images, pattern, batch) if pattern.flat else _gathered(images, pattern, batch, buffers)
    ):
        part = weight[:, :, start : start + block.shape[1]]
        torch.baddbmm(out, part, block, beta=1 if start else 0, out=out)
        start += block.shape[1]


def _shifted(images: torch.Tensor, pattern: Pattern, batch: int) -> Iterator[torch.Tensor]:
    """Views (batch, channels, length), one per kernel position."""
    shape = (batch, pattern.channels, pattern.length)
    strides = (pattern.channels * images.stride(1), images.stride(1), 1)
    for offset in pattern.offsets():
        yield images.as_strided(shape, strides, images.storage_offset() + offset)


def _gathered(images: torch.Tensor, pattern: Pattern, batch: int, buffers: Buffers) -> Iterator[torch.Tensor]:
    """Columns (batch, positions * channels, length) of several kernel positions at once, valid one at a time."""
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
