"""One layer modulo several primes: matrix products, one per kernel position, whose float64 sums are exact.

Residues of images are (primes, channels, samples, *size) float64 views whose last-but-spatial strides are regular:
dimension 0 and 1 are contiguous blocks. With stride 1 a kernel position is a shifted view of the flat image, so no
column buffer is needed; the positions between the rows of the valid output are computed too, and ignored.
"""

from __future__ import annotations

import itertools
import math

import torch

from linear_lasagna.exact.regions import Crop, size_of
from linear_lasagna.problems import ExpandedLayer

LARGEST_WASTE = 1.3
LEAST_CHANNELS = 8
GATHERED = 64


def reduce(values: torch.Tensor, primes: torch.Tensor, scratch: torch.Tensor | None = None) -> None:
    """Balanced residues in place. values: (k, n) float64 integers of at most 2**53; primes: (k,) float64."""
    quotient = torch.mul(values, (1 / primes)[:, None], out=scratch)
    values.addcmul_(quotient.round_(), primes[:, None], value=-1)


def pad(images: torch.Tensor, crop: Crop) -> torch.Tensor:
    """images (k, channels, samples, *size) with the crop's zeros around them; the same tensor if there are none."""
    if not any(crop.before) and not any(crop.after):
        return images
    size = images.shape[3:]
    total = tuple(b + n + a for b, n, a in zip(crop.before, size, crop.after, strict=True))
    padded = images.new_zeros((*images.shape[:3], *total))
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
    """How the kernel positions of one layer meet one padded image: as flat views, or gathered into columns."""

    def __init__(self, layer: ExpandedLayer, images: torch.Tensor):
        self.layer = layer
        self.strides = images.stride()[2:]
        out = tuple((n - r) // s + 1 for n, r, s in zip(images.shape[3:], layer.reach, layer.stride, strict=True))
        self.shape = (images.shape[2], *out)
        flat = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        self.channels = images.shape[1] // layer.groups
        shifts = all(s == 1 for s in layer.stride) and flat <= LARGEST_WASTE * math.prod(self.shape)
        self.flat = shifts and self.channels >= LEAST_CHANNELS
        self.length = flat if self.flat else math.prod(self.shape)
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


def accumulate(out: torch.Tensor, weight: torch.Tensor, images: torch.Tensor, pattern: Pattern) -> None:
    """Add the layer's products to out (k, out channels, length).

    weight: (k, out channels, taps * in channels / groups); images: (k, in channels, samples, *size).
    """
    batch = len(out) * pattern.layer.groups
    weight = weight.view(batch, -1, weight.shape[-1])
    out = out.view(batch, -1, out.shape[-1])
    columns = _shifted(images, pattern, batch) if pattern.flat else _gathered(images, pattern, batch)
    start = 0
    for block in columns:
        out.baddbmm_(weight[:, :, start : start + block.shape[1]], block)
        start += block.shape[1]


def _shifted(images: torch.Tensor, pattern: Pattern, batch: int):
    shape = (batch, pattern.channels, pattern.length)
    strides = (pattern.channels * images.stride(1), images.stride(1), 1)
    for offset in pattern.offsets():
        yield images.as_strided(shape, strides, images.storage_offset() + offset)


def _gathered(images: torch.Tensor, pattern: Pattern, batch: int):
    layer, channels = pattern.layer, pattern.channels
    strides = [n * s for n, s in zip((1, *layer.stride), pattern.strides, strict=True)]
    offsets = pattern.offsets()
    for first in range(0, len(offsets), pattern.taps):
        chosen = offsets[first : first + pattern.taps]
        block = images.new_empty((batch, len(chosen), channels, *pattern.shape))
        for tap, offset in enumerate(chosen):
            view = images.as_strided(
                (batch, channels, *pattern.shape),
                (channels * images.stride(1), images.stride(1), *strides),
                images.storage_offset() + offset,
            )
            block[:, tap].copy_(view)
        yield block.view(batch, len(chosen) * channels, pattern.length)
