"""A convolution of few outputs and many channels: windows of the input as columns, times the kernel's rows.

Positions lie innermost, so that windows are copied in long pieces. The groups' products are made one by one where they
are few: a library's batched product wakes all its threads, for longer than one of these takes.
"""

from __future__ import annotations

import torch

from linear_lasagna.methods import Call
from linear_lasagna.methods.views import add_bias, grouped_rows, windows
from linear_lasagna.problems import ExpandedLayer, Kernel

FEW = 8


def product(kernel: Kernel, layer: ExpandedLayer) -> Call:
    """call(x) -> y: x (batch, in, *size), y (batch, out, *output_size). layer: of one axis at least, not padded."""
    rows, rank = grouped_rows(kernel.weight, layer.groups), len(layer.kernel_size)
    columns_first = (1, 2, *range(3 + rank, 3 + 2 * rank), 0, *range(3, 3 + rank))

    def call(x: torch.Tensor) -> torch.Tensor:
        view = windows(x, layer)
        size = view.shape[2 : 2 + rank]
        columns = view.unflatten(1, (layer.groups, -1)).permute(columns_first)
        y = _multiply(rows, columns.reshape(layer.groups, rows.shape[2], -1))
        y = y.reshape(layer.out_channels, x.shape[0], *size).transpose(0, 1)
        return add_bias(y, kernel.bias)

    return call


def _multiply(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(groups, out, k) times (groups, k, positions)."""
    if rows.shape[0] > FEW:
        return torch.bmm(rows, columns)
    return torch.stack([torch.mm(*each) for each in zip(rows, columns, strict=True)])
