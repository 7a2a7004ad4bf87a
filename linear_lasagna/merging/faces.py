"""The kernels of the outputs around the interior: what a stack does to its border, merged too.

An output near the end of an axis is as linear in the input as any other, only each position has a kernel of its own,
because other positions of the padded levels are missing for it. These kernels are the stack's adjoint, applied to one
output at a time: from the last layer to the first, a transposed convolution, then what lies outside the level is cut
away. All outputs of a face along its counted axes become channels, and so do the positions that they need there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from linear_lasagna.merging.chain import Chain, as_few, joined, runs
from linear_lasagna.merging.regions import Shape, counted, sliding
from linear_lasagna.merging.stack import moved, summed_kernel, working_place
from linear_lasagna.problems import Kernel

TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def face_kernel(chain: Chain, kernels: Sequence[Kernel], shape: Shape) -> Kernel:
    """The kernel of `regions.face_layer`, in the dtype of the given ones.

    Its output channels are (out, *counts), its input channels (in of a group, *positions along the counted axes).
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
    weight = folded(image[(slice(None), slice(None), *kept)], shape)
    # (out of a group * outputs, groups * in of a group, *taps) -> (groups * out of a group * outputs, in of a group, …)
    weight = weight.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1)
    return Kernel(weight.contiguous(), bias.T.flatten() if merged.bias else None)


def folded(x: torch.Tensor, shape: Shape) -> torch.Tensor:
    """(batch, channels, *size) -> (batch, channels * positions along the counted axes, *size of the sliding axes).

    A corner, which has none of these, gets one of size 1.
    """
    counts = counted(shape)
    x = x.permute(0, 1, *(2 + axis for axis in (*counts, *sliding(shape))))
    return x.reshape(x.shape[0], -1, *(x.shape[2 + len(counts) :] or (1,)))


def unfolded(y: torch.Tensor, shape: Shape) -> torch.Tensor:
    """The inverse for outputs: (batch, out * counts, *size of the sliding axes) -> (batch, out, *size)."""
    axes = (*counted(shape), *sliding(shape))
    counts = [shape.counts[axis] or 1 for axis in counted(shape)]
    sizes = y.shape[2:] if sliding(shape) else ()
    back = [2 + axes.index(axis) for axis in range(len(axes))]
    return y.reshape(y.shape[0], -1, *counts, *sizes).permute(0, 1, *back)


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


def face_kernels(
    kernels: Sequence[Kernel], chain: Chain, groups: Sequence[Sequence[Shape]], merge_dtype: torch.dtype
) -> list[Kernel]:
    """One kernel per group of shapes, merged in `merge_dtype`, in the dtype and on the device of the given ones."""
    weight = kernels[0].weight
    place = working_place(weight.device, merge_dtype)
    parts = run_kernels([moved(kernel, place, merge_dtype) for kernel in kernels], runs(chain), merge_dtype)
    found = ([face_kernel(as_few(chain), parts, shape) for shape in shapes] for shapes in groups)
    return [moved(_joint(members), weight.device, weight.dtype) for members in found]


def _joint(kernels: Sequence[Kernel]) -> Kernel:
    """The kernel of a layer that has each of these as a group."""
    biases = [kernel.bias for kernel in kernels if kernel.bias is not None]
    return Kernel(torch.cat([kernel.weight for kernel in kernels]), torch.cat(biases) if biases else None)


def run_kernels(kernels: Sequence[Kernel], grouping: Sequence[Chain], merge_dtype: torch.dtype) -> list[Kernel]:
    """One kernel per run; a run of one layer keeps its own."""
    found, start = [], 0
    for run in grouping:
        part = kernels[start : start + len(run)]
        layers = [link.layer for link in run]
        found.append(part[0] if len(run) == 1 else summed_kernel(part, layers, merge_dtype))
        start += len(run)
    return found
