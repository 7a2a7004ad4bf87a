"""Unfold + matmul: im2col into a column buffer, then one matrix product.

    columns = unfold(x)                      (batch, in * taps, outputs)
    y = weight.view(out, in * taps) @ columns

Source: "The unfold function" (Conv2D = im2col + matmul); torch.nn.functional.unfold; Chellapilla, Puri, Simard,
"High Performance Convolutional Neural Networks for Document Processing" (2006). The buffer is `taps` times the
input. One spatial axis runs as two, the first of size 1.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from linear_lasagna.methods.method import Call, Method, columns
from linear_lasagna.methods.views import add_bias, grouped_rows
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer


def unsupported(layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    return "torch's unfold knows no third spatial axis" if layer.rank == 3 else None


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    rows = grouped_rows(kernel.weight, layer.groups)
    flat = len(layer.kernel_size) == 1
    kernel_size, dilation, padding, stride = (
        (extent if not flat else (neutral, *extent))
        for extent, neutral in (
            (layer.kernel_size, 1),
            (layer.dilation, 1),
            (layer.padding, 0),
            (layer.stride, 1),
        )
    )

    def call(x: torch.Tensor) -> torch.Tensor:
        image = x.unsqueeze(2) if flat else x
        columns = functional.unfold(image, kernel_size, dilation, padding, stride)
        if layer.groups > 1:
            columns = columns.unflatten(1, (layer.groups, -1))
            y = torch.matmul(rows, columns).flatten(1, 2)
        else:
            y = torch.matmul(rows[0], columns)
        y = y.reshape(x.shape[0], layer.out_channels, *layer.output_size(tuple(x.shape[2:])))
        return add_bias(y, kernel.bias)

    return call


unfold_matmul = Method("unfold_matmul", prepare, unsupported, buffer=columns)
