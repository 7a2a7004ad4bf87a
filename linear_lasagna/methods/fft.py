"""The convolution as a product of Fourier transforms.

    y[n, o] = irfft(sum_c rfft(x[n, c]) * conj(rfft(weight[o, c])))        cut to the outputs, every stride-th of them

Both are filled up with zeros to powers of two, so that no output is reached from the other end. 16 bits are computed in
float32 and rounded once. Not exact on integers; small outputs beside large ones are lost (`rounding.own_bounds`).

Source: Mathieu, Henaff, LeCun, "Fast Training of Convolutional Networks through FFTs", arXiv 1312.5851.
"""

from __future__ import annotations

import math

import torch

from linear_lasagna.formats import accumulator
from linear_lasagna.methods.method import Call, Method
from linear_lasagna.methods.views import add_bias, pad
from linear_lasagna.problems import ExpandedLayer, Kernel


def transform_size(size: tuple[int, ...], layer: ExpandedLayer) -> list[int]:
    """Per axis the least power of two that holds the padded image."""
    return [1 << (n + 2 * p - 1).bit_length() for n, p in zip(size, layer.padding, strict=True)]


def dilated(weight: torch.Tensor, layer: ExpandedLayer) -> torch.Tensor:
    """The weight with its taps as far apart as they are applied, and zeros between."""
    wide = weight.new_zeros(*weight.shape[:2], *layer.effective_kernel_size)
    wide[(..., *(slice(None, None, d) for d in layer.dilation))] = weight
    return wide


def by_frequency(spectrum: torch.Tensor) -> torch.Tensor:
    """(groups, rows, channels, *frequencies) as matrices (frequency, groups, rows, channels)."""
    return spectrum.flatten(3).permute(3, 0, 1, 2).contiguous()


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    dtype, groups = accumulator(kernel.weight.dtype), layer.groups
    axes = tuple(range(-len(layer.kernel_size), 0))
    weight = dilated(kernel.weight.to(dtype), layer).unflatten(0, (groups, -1))
    bias = None if kernel.bias is None else kernel.bias.to(dtype)
    last: dict[tuple[int, ...], torch.Tensor] = {}  # of the last size alone

    def spectrum(size: list[int]) -> torch.Tensor:
        known = last.get(tuple(size))
        if known is not None:
            return known
        last.clear()
        found = by_frequency(torch.fft.rfftn(weight, s=size, dim=axes).conj()).mT.contiguous()
        if not found.requires_grad:
            last[tuple(size)] = found
        return found

    def call(x: torch.Tensor) -> torch.Tensor:
        size, outputs = transform_size(tuple(x.shape[2:]), layer), layer.output_size(tuple(x.shape[2:]))
        image = torch.fft.rfftn(pad(x, layer.padding).to(dtype), s=size, dim=axes)
        product = by_frequency(image.unflatten(1, (groups, -1)).transpose(0, 1)) @ spectrum(size)
        product = product.permute(2, 1, 3, 0).flatten(1, 2).unflatten(2, image.shape[2:])
        y = torch.fft.irfftn(product, s=size, dim=axes)
        cut = (slice(None, n * s, s) for n, s in zip(outputs, layer.stride, strict=True))
        return add_bias(y[(..., *cut)].contiguous(), bias).to(x.dtype)

    return call


def operations(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...], dtype: torch.dtype) -> int:
    """A real transform of N numbers counts 5/2 N log2 N, as FFTW's authors count it (Frigo and Johnson, "The design and
    implementation of FFTW3", Proc. IEEE 93, 2005); a complex product and its addition 8, for half of the frequencies.
    """
    return operations_on(transform_size(size, layer), layer, in_channels)


def operations_on(points: list[int], layer: ExpandedLayer, in_channels: int) -> int:
    """`operations`, with transforms of this size."""
    numbers, last = math.prod(points), points[-1]
    transforms = round(2.5 * numbers * math.log2(numbers)) * (in_channels + layer.out_channels)
    frequencies = numbers // last * (last // 2 + 1)
    return transforms + 8 * frequencies * layer.out_channels * (in_channels // layer.groups)


def buffer(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    """The spectra of input and output, complex, of half of the frequencies."""
    return buffer_of(transform_size(size, layer), layer, in_channels)


def buffer_of(points: list[int], layer: ExpandedLayer, in_channels: int) -> int:
    """`buffer`, with transforms of this size."""
    *others, last = points
    return 2 * math.prod(others) * (last // 2 + 1) * (in_channels + layer.out_channels)


fft = Method(
    "fft",
    prepare,
    exact_on_integers=False,
    summed=False,
    operations=operations,
    computes_in=accumulator,
    buffer=buffer,
)
