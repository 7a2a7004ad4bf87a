"""Parts of an image on which a method's summation is probed: small ones first, as far as seconds allow."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.problems import ExpandedLayer
from linear_lasagna.rounding.adder_probe import AdderProbe

FEW_OUTPUTS, FEWEST_OUTPUTS = 256, 16  # of the first part
MORE = 4  # times as many outputs has the next one
MOST_WORK = 2 * 10**10  # multiply-accumulates of all questions to one part
MOST_CALLS = 5000


def asked_shapes(layer: ExpandedLayer, shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[tuple[int, ...]]:
    """Input shapes to probe, ever larger, up to the whole if that can be probed; none where it takes too long."""
    n = layer.fan_in(shape[1]) + layer.bias
    calls = 2 * n * math.ceil(n / 2 ** SIGNIFICAND_BITS[dtype]) / layer.out_channels
    most = int(MOST_WORK / (calls * layer.out_channels * n))
    if calls > MOST_CALLS or most < FEWEST_OUTPUTS:
        return
    outputs, part = min(FEW_OUTPUTS, most), part_of(layer, shape, min(FEW_OUTPUTS, most))
    yield part
    while part != shape and outputs < most:
        outputs = min(MORE * outputs, most)
        part = part_of(layer, shape, outputs)
        yield part


def part_of(layer: ExpandedLayer, shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """An input shape for at most `most` outputs, some of which see no padding if any of the whole's do."""
    whole = layer.output_size(shape[2:])
    outputs = list(whole)
    batch = max(1, min(shape[0], most // math.prod(outputs)))
    while math.prod(outputs) > most:
        outputs[outputs.index(max(outputs))] -= 1
    sizes = list(shape[2:])
    for axis, size in enumerate(layer.input_size(tuple(outputs))):
        if outputs[axis] < whole[axis]:
            sizes[axis] = min(sizes[axis], max(size, layer.effective_kernel_size[axis]))
    return (batch, shape[1], *sizes)


def unpadded(layer: ExpandedLayer, size: tuple[int, ...]) -> torch.Tensor:
    """Which outputs see no padding: bool, (*output_size)."""
    inside = torch.ones((), dtype=torch.bool)
    axes = zip(layer.output_size(size), layer.stride, layer.padding, layer.effective_kernel_size, size, strict=True)
    for outputs, stride, padding, span, length in axes:
        start = torch.arange(outputs) * stride - padding
        inside = inside.unsqueeze(-1) & (start >= 0) & (start + span <= length)
    return inside


def affordable(probe: AdderProbe, macs: int) -> bool:
    """Whether all that is to be found out of an adder takes seconds, where a call multiplies and adds so often."""
    calls = 2 * probe.n * math.ceil(probe.n / 2 ** SIGNIFICAND_BITS[probe.dtype]) / probe.rows
    return calls <= MOST_CALLS and calls * macs <= MOST_WORK
