"""Strided view, then contraction.

    windows[n, c, p, t] = x[n, c, stride * p + dilation * t]        a view: no number is copied by hand
    y[n, o, p] = sum_{c, t} weight[o, c, t] * windows[n, c, p, t]

Source: numpy.lib.stride_tricks.as_strided; torch.Tensor.as_strided. The contraction is a matrix product, for which
the library lays the windows out itself, in the order (batch, position, channel, tap).
"""

from __future__ import annotations

import torch

from linear_lasagna.methods.method import Call, Method, columns
from linear_lasagna.methods.views import add_bias, grouped_rows, windows
from linear_lasagna.problems import ExpandedLayer, Kernel


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    rank = len(layer.kernel_size)
    groups = layer.groups
    columns = grouped_rows(kernel.weight, groups).transpose(1, 2).contiguous()
    taps_last = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))

    def call(x: torch.Tensor) -> torch.Tensor:
        view = windows(x, layer)
        size = view.shape[2 : 2 + rank]
        view = view.unflatten(1, (groups, -1)).permute(taps_last)
        y = torch.bmm(view.reshape(groups, -1, columns.shape[1]), columns)
        y = y.reshape(groups, x.shape[0], -1, columns.shape[2]).permute(1, 0, 3, 2)
        return add_bias(y.reshape(x.shape[0], layer.out_channels, *size), kernel.bias)

    return call


strided_matmul = Method("strided_matmul", prepare, buffer=columns)
