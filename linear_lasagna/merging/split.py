"""A kernel as two of a narrow format, high and low parts, in one convolution of the input beside itself.

W = high + low + r with high = round(W) and low = round(W - high): |r| is at most u**2 |W|, where W rounded once loses
u |W|, unless low is subnormal. Both parts meet in one sum, which libraries form in float32. It takes twice the work.

Source of the splitting: Dekker, Numer. Math. 18 (1971), 224, with parts of the working format.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from linear_lasagna.modules import Convolution, convolution, kernel_of, link_of
from linear_lasagna.problems import Kernel


class Split(nn.Module):
    """A convolution with two parts of every weight, for inputs ([batch,] in_channels, *size)."""

    def __init__(self, both: nn.Module) -> None:
        super().__init__()
        self.convolution = both

    @property
    def weight(self) -> Any:
        """High and low parts beside each other: (out, 2 in / groups, *kernel_size)."""
        return self.convolution.weight

    def used(self) -> tuple[Kernel, Kernel]:
        """The two kernels whose sum it convolves with."""
        return in_parts(kernel_of(self.convolution))  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(doubled(x, self.convolution.groups, len(self.convolution.kernel_size)))  # type: ignore[arg-type]


def doubled(x: torch.Tensor, groups: int, rank: int) -> torch.Tensor:
    """Every group's channels twice: ([batch,] 2 channels, *size), with `rank` spatial axes."""
    axis = -rank - 1
    if groups == 1:
        return torch.cat([x, x], axis)
    apart = x.unflatten(axis, (groups, -1))
    return torch.cat([apart, apart], axis).flatten(axis - 1, axis)


def in_parts(kernel: Kernel) -> tuple[Kernel, Kernel]:
    """The high and the low part of a kernel that has them beside each other; the bias is the first's."""
    high, low = kernel.weight.chunk(2, 1)
    return Kernel(high, kernel.bias), Kernel(low)


def two_parts(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weights (out, in / groups, …) as high and low parts beside each other, numbers of `dtype` in their own."""
    high = weight.to(dtype).to(weight)
    return torch.cat([high, (weight - high).to(dtype).to(weight)], 1)


def split(module: Convolution, dtype: torch.dtype) -> Split:
    """The convolution, whose numbers are wide, as one of two parts that `dtype` holds."""
    kernel, link = kernel_of(module), link_of(module)
    both = Kernel(two_parts(kernel.weight.detach(), dtype), None if kernel.bias is None else kernel.bias.detach())
    return Split(convolution(both, link.layer, 2 * module.in_channels, module.padding))
