"""SciPy: `scipy.signal.correlate` as it is defined, and the product of Fourier transforms by `scipy.fft`.

    scipy_correlate  per group and output channel one correlation in all axes, channels among them, where both fit
                     ("valid"): a sum over channels and taps. It knows neither stride nor dilation: kernels are filled
                     up with zeros, all outputs are computed, and every stride-th is kept. One thread.
    scipy_fft        as `methods.fft`, with pocketfft's transforms of sizes that are products of small primes; the
                     products over channels are torch's. Transforms take as many threads as torch.

Both read torch's memory and give torch theirs, without copies.
"""

from __future__ import annotations

import math
from typing import Any

import numpy
import torch

from linear_lasagna.formats import accumulator
from linear_lasagna.methods.fft import buffer_of, by_frequency, dilated, operations_on
from linear_lasagna.methods.method import Call, Method
from linear_lasagna.methods.views import pad
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.runtimes.runtime import library, refusing

LACKING = {
    dtype: f"scipy.signal.correlate has no loop for {name}"
    for dtype, name in ((torch.float16, "float16"), (torch.bfloat16, "bfloat16"))
}


def _kept(layer: ExpandedLayer, size: tuple[int, ...]) -> tuple[Any, ...]:
    """Of the outputs with stride 1 those that the layer has."""
    return (..., *(slice(None, n * s, s) for n, s in zip(layer.output_size(size), layer.stride, strict=True)))


def _prepare_correlate(kernel: Kernel, layer: ExpandedLayer) -> Call:
    correlate = library("scipy.signal").correlate

    weight = dilated(kernel.weight.detach(), layer).numpy()
    bias = None if kernel.bias is None else kernel.bias.detach().numpy()
    channels, outputs = weight.shape[1], layer.out_channels // layer.groups

    def call(x: torch.Tensor) -> torch.Tensor:
        image = pad(x.detach(), layer.padding).numpy()
        y = numpy.empty((x.shape[0], layer.out_channels, *layer.output_size(tuple(x.shape[2:]))), image.dtype)
        kept = _kept(layer, tuple(x.shape[2:]))
        for output in range(layer.out_channels):
            first = output // outputs * channels
            of_group = image[:, first : first + channels]
            whole = correlate(of_group, weight[None, output], "valid", "direct")
            y[:, output] = whole[:, 0][kept]
            if bias is not None:
                y[:, output] += bias[output]
        return torch.from_numpy(y)

    return call


def _correlations(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...], dtype: torch.dtype) -> int:
    """A product and an addition for every weight, zeros among them, of every output that stride 1 would have."""
    outputs = math.prod(
        n + 2 * p - r + 1 for n, p, r in zip(size, layer.padding, layer.effective_kernel_size, strict=True)
    )
    return 2 * outputs * layer.out_channels * (in_channels // layer.groups) * math.prod(layer.effective_kernel_size)


def _transform_size(size: tuple[int, ...], layer: ExpandedLayer) -> list[int]:
    """Per axis the least that holds the padded image and that pocketfft is fast at."""
    next_fast_len = library("scipy.fft").next_fast_len
    return [next_fast_len(n + 2 * p, real=True) for n, p in zip(size, layer.padding, strict=True)]


def _prepare_fft(kernel: Kernel, layer: ExpandedLayer) -> Call:
    fft = library("scipy.fft")

    dtype, groups = accumulator(kernel.weight.dtype), layer.groups
    axes = tuple(range(-len(layer.kernel_size), 0))
    weight = dilated(kernel.weight.detach().to(dtype), layer).unflatten(0, (groups, -1)).numpy()
    bias = None if kernel.bias is None else kernel.bias.detach().to(dtype)
    last: dict[tuple[int, ...], torch.Tensor] = {}  # of the last size alone

    def spectrum(size: list[int], workers: int) -> torch.Tensor:
        if tuple(size) not in last:
            last.clear()
            found = torch.from_numpy(fft.rfftn(weight, size, axes, workers=workers).conj())
            last[tuple(size)] = by_frequency(found).mT.contiguous()
        return last[tuple(size)]

    def call(x: torch.Tensor) -> torch.Tensor:
        workers, size = torch.get_num_threads(), _transform_size(tuple(x.shape[2:]), layer)
        image = pad(x.detach(), layer.padding).to(dtype).numpy()
        found = torch.from_numpy(fft.rfftn(image, size, axes, workers=workers))
        product = by_frequency(found.unflatten(1, (groups, -1)).transpose(0, 1)) @ spectrum(size, workers)
        product = product.permute(2, 1, 3, 0).flatten(1, 2).unflatten(2, found.shape[2:])
        y = torch.from_numpy(fft.irfftn(product.numpy(), size, axes, workers=workers))
        y = y[_kept(layer, tuple(x.shape[2:]))].contiguous()
        return (y if bias is None else y.add_(bias.view(-1, *(1,) * len(axes)))).to(x.dtype)

    return call


def _fft_operations(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...], dtype: torch.dtype) -> int:
    return operations_on(_transform_size(size, layer), layer, in_channels)


def _fft_buffer(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    return buffer_of(_transform_size(size, layer), layer, in_channels)


scipy_correlate = Method(
    "scipy_correlate", _prepare_correlate, refusing("scipy", "SciPy", LACKING), operations=_correlations
)
scipy_fft = Method(
    "scipy_fft",
    _prepare_fft,
    refusing("scipy", "SciPy"),
    exact_on_integers=False,
    summed=False,
    operations=_fft_operations,
    computes_in=accumulator,
    buffer=_fft_buffer,
)
