"""The outputs of a block: windows of what it needs as columns, times the rows of its kernel.

Positions lie innermost, so that windows are copied in long pieces. The products of groups are made one by one where
they are few: a library's batched product wakes all its threads, for longer than one of these takes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from linear_lasagna.merging.border.regions import Shape, counted, sliding
from linear_lasagna.problems import ExpandedLayer, Kernel

FEW = 8  # groups
BATCH = -1  # among axes


class Layout(NamedTuple):
    """Where a block's numbers lie.

    rows: of the kernel, (out, *outputs along the counted axes). slides: per other axis, its number, and stride, span
    and gap of the taps. columns: the order in which the axes of the windows, (batch, in, *axes, *taps), become
    (in, *extents, batch, *places). outputs: the one in which (*rows, batch, *places) becomes (batch, out, *axes).
    """

    groups: int
    rows: tuple[int, ...]
    slides: tuple[tuple[int, int, int, int], ...]
    columns: tuple[int, ...]
    outputs: tuple[int, ...]


def layout_of(shape: Shape, merged: ExpandedLayer) -> Layout:
    """For a block of this shape. merged: the layer that the stack merges into."""
    rank, slides = len(shape.counts), sliding(shape)
    taps = tuple(
        (axis, merged.stride[axis], merged.effective_kernel_size[axis], merged.dilation[axis]) for axis in slides
    )
    seen = [2 + (rank + slides.index(axis) if axis in slides else axis) for axis in range(rank)]
    laid = (*counted(shape), BATCH, *slides)
    return Layout(
        merged.groups,
        (merged.out_channels, *(count for count in shape.counts if count is not None)),
        taps,
        (1, *seen, 0, *(2 + axis for axis in slides)),
        (1 + laid.index(BATCH), 0, *(1 + laid.index(axis) for axis in range(rank))),
    )


def product(x: torch.Tensor, kernel: Kernel, layout: Layout) -> torch.Tensor:
    """A block's outputs, (batch, out, *size), from what it needs of the input, (batch, in, *size).

    kernel: `kernels.block_kernel`.
    """
    for axis, stride, span, gap in layout.slides:
        x = x.unfold(2 + axis, span, stride)
        if gap > 1:
            x = x[..., ::gap]
    x = x.permute(layout.columns)
    sizes = x.shape[len(layout.columns) - 1 - len(layout.slides) :]
    y = _multiply(kernel.weight, x.reshape(layout.groups * kernel.weight.shape[1], -1), layout.groups)
    if kernel.bias is not None:
        y = y.add_(kernel.bias[:, None])
    return y.view((*layout.rows, *sizes)).permute(layout.outputs)


def _multiply(rows: torch.Tensor, columns: torch.Tensor, groups: int) -> torch.Tensor:
    """(groups * out, k) times (groups * k, positions), group by group."""
    if groups == 1:
        return torch.mm(rows, columns)
    if groups > FEW:
        return torch.bmm(rows.unflatten(0, (groups, -1)), columns.unflatten(0, (groups, -1))).flatten(0, 1)
    return torch.cat([torch.mm(*each) for each in zip(rows.chunk(groups), columns.chunk(groups), strict=True)])
