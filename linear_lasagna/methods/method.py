"""What a method is: an untimed part per kernel, then a call per input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from linear_lasagna.preconditions import check_image, check_kernel
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer

Call: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


def _anything(layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    return None


def _sum_then_bias(layer: ExpandedLayer) -> int:
    return 1 + layer.bias


def _own(dtype: torch.dtype) -> torch.dtype:
    return dtype


def products(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...], dtype: torch.dtype) -> int:
    """Floating-point operations of an image: a product and an addition for every weight of every output."""
    return 2 * math.prod(layer.output_size(size)) * layer.out_channels * layer.fan_in(in_channels)


def _unknown(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int | None:
    return None


def no_buffer(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    """Nothing but input, kernel and output."""
    return 0


def columns(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    """Every input number once for each position of the kernel: im2col."""
    return in_channels * layer.taps * math.prod(layer.output_size(size))


@dataclass(frozen=True)
class Method:
    """One way to compute one convolution.

    `prepare_expanded(kernel, layer)` does once what depends on the kernel alone and returns call(x) -> y with x
    (batch, in, *size) and y (batch, out, *output_size). `unsupported(layer, dtype, device)` is a reason, or None.
    `roundings(layer)` counts how often one output is rounded to the storage dtype while it is summed.
    `exact_on_integers`: it only adds and multiplies, so small integers must come out exactly.
    `summed`: an output is the sum of its products, in some order, in the usual accumulator. Else no order is looked for
    and no error predicted; what it may be is in `rounding.own_bounds`.
    `operations(layer, in_channels, size, dtype)`: floating-point operations of the algorithm per image of this size,
    biases not counted, nor what depends on the kernel alone. `computes_in(dtype)`: the dtype of these operations.
    `buffer(layer, in_channels, size)`: numbers per image, of that dtype, that the algorithm keeps beyond input, kernel
    and output, None where nobody has counted them; what a library does beside is not in it.
    """

    name: str
    prepare_expanded: Callable[[Kernel, ExpandedLayer], Call]
    unsupported: Callable[[Layer, torch.dtype, str], str | None] = _anything
    roundings: Callable[[ExpandedLayer], int] = _sum_then_bias
    exact_on_integers: bool = True
    summed: bool = True
    operations: Callable[[ExpandedLayer, int, tuple[int, ...], torch.dtype], int] = products
    computes_in: Callable[[torch.dtype], torch.dtype] = _own
    buffer: Callable[[ExpandedLayer, int, tuple[int, ...]], int | None] = _unknown

    def prepare(self, kernel: Kernel, layer: Layer) -> Call:
        """The call for one kernel; it checks what it is given.

        Raises ValueError where the kernel does not fit the layer, or x the kernel, NotImplementedError with the reason
        where the layer is unsupported.
        """
        expanded = layer.expand(kernel.weight.ndim - 2)
        check_kernel(kernel, expanded)
        call, in_channels = self.build(kernel, expanded), kernel.weight.shape[1] * layer.groups
        least = expanded.input_size((1,) * len(expanded.kernel_size))

        def checked(x: torch.Tensor) -> torch.Tensor:
            check_image(x, in_channels, least)
            return call(x)

        return checked

    def build(self, kernel: Kernel, layer: Layer) -> Call:
        """As `prepare`, for what was checked already."""
        weight = kernel.weight
        expanded = layer.expand(weight.ndim - 2)
        reason = self.unsupported(expanded, weight.dtype, weight.device.type)
        if reason is not None:
            raise NotImplementedError(f"{self.name}: {reason}")
        return self.prepare_expanded(kernel, expanded)

    def __call__(self, x: torch.Tensor, kernel: Kernel, layer: Layer) -> torch.Tensor:
        """Prepare and call once."""
        return self.prepare(kernel, layer)(x)
