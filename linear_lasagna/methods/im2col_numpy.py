"""im2col in NumPy: one strided slice copied per row and column of the filter, then one matrix product.

    columns[n, c, i, j] = x[n, c, i :: stride, j :: stride]         (batch, in, kh, kw, oh, ow)
    y = columns.transpose(0, 4, 5, 1, 2, 3).reshape(batch * oh * ow, in * kh * kw) @ weight.T

Source: the NumPy im2col of "The unfold function"; Saitoh, "Deep Learning from Scratch", chapter 7.
"""

from __future__ import annotations

import numpy
import torch

from linear_lasagna.devices import device_named
from linear_lasagna.methods.method import Call, Method, columns
from linear_lasagna.methods.views import grouped_rows
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer


def unsupported(layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    if device_named(device).kind != "cpu":
        return "NumPy computes on the CPU only"
    if dtype is torch.bfloat16:
        return "NumPy has no bfloat16"
    if dtype is torch.float16:
        return "NumPy multiplies float16 matrices element by element, without BLAS"
    return "the article's im2col has 2 spatial axes" if layer.rank in (1, 3) else None


def im2col(x: numpy.ndarray, layer: ExpandedLayer) -> numpy.ndarray:
    """Columns (batch, in, kh, kw, oh, ow) of the image x (batch, in, h, w)."""
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = layer.kernel_size, layer.stride, layer.dilation, layer.padding
    oh, ow = layer.output_size(x.shape[2:])
    x = numpy.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    columns = numpy.empty((*x.shape[:2], kh, kw, oh, ow), x.dtype)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
            columns[:, :, i, j] = x[:, :, rows, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
    return columns


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    groups = layer.groups
    weight = grouped_rows(kernel.weight, groups).detach().numpy().transpose(0, 2, 1)
    bias = None if kernel.bias is None else kernel.bias.detach().numpy()

    def call(x: torch.Tensor) -> torch.Tensor:
        columns = im2col(x.detach().numpy(), layer)
        batch, oh, ow = x.shape[0], *columns.shape[-2:]
        columns = columns.reshape(batch, groups, -1, oh * ow).transpose(1, 0, 3, 2)
        y = columns.reshape(groups, batch * oh * ow, -1) @ weight
        y = y.reshape(groups, batch, oh * ow, -1).transpose(1, 0, 3, 2)
        y = y.reshape(batch, layer.out_channels, oh, ow)
        return torch.from_numpy(y if bias is None else y + bias[:, None, None])

    return call


im2col_numpy = Method("im2col_numpy", prepare, unsupported, buffer=columns)
