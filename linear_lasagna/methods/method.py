"""What a method is: an untimed part per kernel, then a call per input."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Method:
    """One way to compute one convolution.

    `prepare_expanded(kernel, layer)` does once what depends on the kernel alone and returns call(x) -> y with x
    (batch, in, *size) and y (batch, out, *output_size). `unsupported(layer, dtype, device)` is a reason, or None.
    `roundings(layer)` counts how often one output is rounded to the storage dtype while it is summed.
    `exact_on_integers`: it only adds and multiplies, so small integers must come out exactly.
    `summed`: an output is the sum of its products, in some order, in the usual accumulator. Else no order is looked for
    and no error predicted; what it may be is in `rounding.own_bounds`.
    """

    name: str
    prepare_expanded: Callable[[Kernel, ExpandedLayer], Call]
    unsupported: Callable[[Layer, torch.dtype, str], str | None] = _anything
    roundings: Callable[[ExpandedLayer], int] = _sum_then_bias
    exact_on_integers: bool = True
    summed: bool = True

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
