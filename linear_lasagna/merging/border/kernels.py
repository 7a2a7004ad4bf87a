"""The kernels of the outputs around the interior: what a stack does to its border, merged too.

An output near the end of an axis is as linear in the input as any other, only each position has a kernel of its own,
because other positions of the padded levels are missing for it. These kernels are the stack's adjoint, applied to one
output at a time: from the last layer to the first, a transposed convolution, then what lies outside the level is cut
away. A block's outputs along its counted axes are rows of one matrix, and the positions that they need are its columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from linear_lasagna.devices import device_named
from linear_lasagna.merging.border.regions import Shape
from linear_lasagna.merging.chain import Chain, as_few, joined, runs
from linear_lasagna.merging.stack import summed_kernel
from linear_lasagna.problems import Kernel

TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def block_kernel(chain: Chain, kernels: Sequence[Kernel], shape: Shape) -> Kernel:
    """A block's kernel as a matrix, in the dtype of the given ones.

    weight: (out * outputs along the counted axes, in of a group * extents), groups one under the other; bias: one per
    row or None. `regions.extents` says what a row has of each axis.
    """
    merged = joined(chain).layer
    groups, counts = merged.groups, [count or 1 for count in shape.counts]
    image = _outputs(merged.out_channels, groups, counts, kernels[0].weight)
    bias = image.new_zeros(image.shape[0], groups)
    for link, kernel, cuts in zip(reversed(chain), reversed(kernels), reversed(shape.cuts), strict=True):
        layer = link.layer
        if kernel.bias is not None:
            added = image.flatten(2).sum(2) * kernel.bias
            bias = bias + added.unflatten(1, (groups, -1)).sum(2)
        transposed = TRANSPOSED[len(counts)]
        image = transposed(image, kernel.weight, None, layer.stride, 0, 0, layer.groups, layer.dilation)
        image = _cut(image, cuts)
    kept = (
        slice(None, None, gap if count is None else 1) for gap, count in zip(merged.dilation, shape.counts, strict=True)
    )
    weight = image[(slice(None), slice(None), *kept)].unflatten(1, (groups, -1)).transpose(0, 1)
    return Kernel(weight.flatten(0, 1).flatten(1).contiguous(), bias.T.flatten() if merged.bias else None)


def _cut(image: torch.Tensor, cuts: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Without what lies outside the level. Where all does, one cut is negative: zeros take the place of a position."""
    pads = [-cut for ends in reversed(cuts) for cut in ends]
    if max(pads) > 0:
        image, pads = functional.pad(image, [max(0, zeros) for zeros in pads]), [min(0, zeros) for zeros in pads]
    return functional.pad(image, pads) if min(pads) < 0 else image


def _outputs(channels: int, groups: int, counts: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """One image (channels, *counts) per output of a group, 1 there: all groups at once, for they never mix."""
    each, positions = channels // groups, math.prod(counts)
    ones = torch.eye(each * positions, dtype=like.dtype, device=like.device)
    return ones.view(-1, each, *counts).repeat(1, groups, *(1 for _ in counts))


def block_kernels(
    kernels: Sequence[Kernel], chain: Chain, shapes: Sequence[Shape], merge_dtype: torch.dtype
) -> list[Kernel]:
    """One kernel per shape, merged in `merge_dtype`, in the dtype and on the device of the given ones."""
    weight = kernels[0].weight
    place = device_named(weight.device).home(merge_dtype)
    working = [kernel.map(lambda numbers: numbers.to(place, merge_dtype)) for kernel in kernels]
    parts = run_kernels(working, runs(chain), merge_dtype)
    merged = (block_kernel(as_few(chain), parts, shape) for shape in shapes)
    return [kernel.map(lambda numbers: numbers.to(weight)) for kernel in merged]


def run_kernels(kernels: Sequence[Kernel], partition: Sequence[Chain], merge_dtype: torch.dtype) -> list[Kernel]:
    """One kernel per run; a run of one layer keeps its own."""
    merged, start = [], 0
    for run in partition:
        part = kernels[start : start + len(run)]
        layers = [link.layer for link in run]
        merged.append(part[0] if len(run) == 1 else summed_kernel(part, layers, merge_dtype))
        start += len(run)
    return merged
