"""Winograd's minimal filtering F(m x m, 3 x 3), m = 2 or 4: tiles of m x m outputs from (m + 2) x (m + 2) inputs.

    Y = A^T [sum_c (G g G^T) * (B^T d B)] A        g: 3 x 3 taps of a channel, d: a tile of it, *: by element

The sums over channels are matrix products. 16 bits are computed in float32 and rounded once. Neither is exact on all
integers that sums are exact on; F(2 x 2) is on small ones, its numbers being multiples of 1/4.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308, section 4: A, B and G.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional

from linear_lasagna.formats import accumulator
from linear_lasagna.methods.method import Call, Method
from linear_lasagna.methods.views import add_bias, pad
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer, spread


class Transforms(NamedTuple):
    """A^T (m, m + 2), B^T (m + 2, m + 2) and G (m + 2, 3), float64."""

    outputs: torch.Tensor
    inputs: torch.Tensor
    taps: torch.Tensor

    def to(self, like: torch.Tensor) -> Transforms:
        return Transforms(*(each.to(like) for each in self))

    def abs(self) -> Transforms:
        return Transforms(*(each.abs() for each in self))


def _table(text: str) -> torch.Tensor:
    return torch.tensor([[float(number) for number in row.split()] for row in text.split(";")], dtype=torch.float64)


F2 = Transforms(
    _table("1 1 1 0; 0 1 -1 -1"),
    _table("1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1"),
    _table("2 0 0; 1 1 1; 1 -1 1; 0 0 2") / 2,
)
F4 = Transforms(
    _table("1 1 1 1 1 0; 0 1 -1 2 -2 0; 0 1 1 4 4 0; 0 1 -1 8 -8 1"),
    _table("4 0 -5 0 1 0; 0 -4 -4 1 1 0; 0 4 -4 -1 1 0; 0 -2 -1 2 1 0; 0 2 -1 -2 1 0; 0 4 0 -5 0 1"),
    _table("6 0 0; -4 -4 -4; -4 4 -4; 1 2 4; 1 -2 4; 0 0 24") / 24,
)


def unsupported(layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    rank = layer.rank or 2
    kernel_size, stride, dilation = (
        spread(extent, rank) for extent in (layer.kernel_size, layer.stride, layer.dilation)
    )
    if kernel_size != (3, 3) or stride != (1, 1) or dilation != (1, 1):
        return "its transforms are for 3×3 kernels on 2 spatial axes, with stride 1 and no dilation"
    return None


def transformed_taps(weight: torch.Tensor, groups: int, by: Transforms) -> torch.Tensor:
    """G g G^T: (points, groups, out / groups, in / groups)."""
    return (by.taps @ weight @ by.taps.mT).unflatten(0, (groups, -1)).flatten(3).permute(3, 0, 1, 2).contiguous()


def filtered(x: torch.Tensor, taps: torch.Tensor, layer: ExpandedLayer, by: Transforms) -> torch.Tensor:
    """The outputs (batch, out, *size) of x, with taps transformed already."""
    m, points = by.outputs.shape
    size = layer.output_size(tuple(x.shape[2:]))
    x = pad(x, layer.padding)
    tall, wide = (-(-n // m) for n in size)
    x = functional.pad(x, (0, wide * m + 2 - x.shape[3], 0, tall * m + 2 - x.shape[2]))
    tiles = by.inputs @ x.unfold(2, points, m).unfold(3, points, m) @ by.inputs.mT
    tiles = tiles.unflatten(1, (layer.groups, -1)).flatten(5).permute(5, 1, 2, 0, 3, 4)
    summed = (taps @ tiles.flatten(3)).unflatten(3, (len(x), tall, wide)).unflatten(0, (points, points))
    y = by.outputs @ summed.permute(4, 2, 3, 5, 6, 0, 1) @ by.outputs.mT
    y = y.flatten(1, 2).permute(0, 1, 2, 4, 3, 5).reshape(len(x), layer.out_channels, tall * m, wide * m)
    return y[..., : size[0], : size[1]].contiguous()


def prepare(by: Transforms, kernel: Kernel, layer: ExpandedLayer) -> Call:
    weight = kernel.weight.to(accumulator(kernel.weight.dtype))
    bias = None if kernel.bias is None else kernel.bias.to(weight.dtype)
    by = by.to(weight)
    taps = transformed_taps(weight, layer.groups, by)

    def call(x: torch.Tensor) -> torch.Tensor:
        return add_bias(filtered(x.to(taps.dtype), taps, layer, by), bias).to(x.dtype)

    return call


def transform_operations(by: torch.Tensor) -> int:
    """Of by @ tile @ by.mT, as many operations as its numbers ask for: none for 0, no product for 1 and -1."""
    rows, columns = by.shape
    terms = int((by != 0).sum())
    once = terms - rows + int(((by != 0) & (by.abs() != 1)).sum())  # additions and products for one column
    return once * columns + once * rows


def operations(
    by: Transforms, layer: ExpandedLayer, in_channels: int, size: tuple[int, ...], dtype: torch.dtype
) -> int:
    m, points = by.outputs.shape
    tiles = math.prod(-(-n // m) for n in layer.output_size(size))
    products = 2 * points**2 * layer.out_channels * (in_channels // layer.groups)
    inputs, outputs = transform_operations(by.inputs), transform_operations(by.outputs)
    return tiles * (products + inputs * in_channels + outputs * layer.out_channels)


def buffer(by: Transforms, layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    """All tiles transformed, before and after the products."""
    m, points = by.outputs.shape
    tiles = math.prod(-(-n // m) for n in layer.output_size(size))
    return points**2 * tiles * (in_channels + layer.out_channels)


def method(name: str, by: Transforms) -> Method:
    return Method(
        name,
        partial(prepare, by),
        unsupported,
        exact_on_integers=False,
        summed=False,
        operations=partial(operations, by),
        computes_in=accumulator,
        buffer=partial(buffer, by),
    )


winograd_f2, winograd_f4 = method("winograd_f2", F2), method("winograd_f4", F4)
