"""Two kernels into one.

Linear maps compose: W2 (*) (W1 (*) x) = (W2 * W1) (*) x, where (*) is PyTorch's cross-correlation and * the full
convolution of the kernels. Tap i of the first kernel lies at d1 i, tap j of the second at s1 d2 j; so the taps of the
merged kernel lie at d1 i + s1 d2 j. What divides all of these positions stays its dilation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch.nn import functional

from linear_lasagna.problems import ExpandedLayer, Extent, Kernel, Layer

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def merge_kernels(
    first: torch.Tensor,
    second: torch.Tensor,
    groups: int | tuple[int, int] = 1,
    stride: Extent = 1,
    dilations: tuple[Extent, Extent] = (1, 1),
) -> torch.Tensor:
    """The weight of one convolution that equals `second` after `first`.

    first: (mid, in / groups, *k1); second: (out, mid / groups, *k2). groups and dilations: the first's and the
    second's, one int where both have as many groups; stride: the first's. Result: (out, in / g, *k), where g is the
    greatest common divisor of the groups and, per axis, k = (d1 (k1 - 1) + stride d2 (k2 - 1)) / d + 1. Its dilation d
    is the greatest common divisor of d1 and stride d2, of those that belong to an extent above 1.
    The input channels of `first` become a batch, which is correlated with the flipped `second` at full padding:
    a full convolution of the kernels. Source: "How to merge 2D convolutions in PyTorch?".
    Raises ValueError where ranks or channels do not fit.
    """
    early, late = groups if isinstance(groups, tuple) else (groups, groups)
    _check_pair(first, second, early, late)
    rank = first.ndim - 2
    layers = (
        Layer(first.shape[0], tuple(first.shape[2:]), stride, 0, dilations[0], early).expand(rank),
        Layer(second.shape[0], tuple(second.shape[2:]), 1, 0, dilations[1], late).expand(rank),
    )
    return pair(*layers).merge(first, second)


def _check_pair(first: torch.Tensor, second: torch.Tensor, early: int, late: int) -> None:
    if first.ndim != second.ndim or first.ndim - 2 not in CONVOLUTIONS:
        raise ValueError(
            f"merge_kernels needs two weights (out, in, *k) of one rank, not {tuple(first.shape)} "
            f"and {tuple(second.shape)}"
        )
    if first.shape[0] != second.shape[1] * late:
        raise ValueError(f"the first weight gives {first.shape[0]} channels, the second takes {second.shape[1] * late}")
    for name, weight, groups in (("first", first, early), ("second", second, late)):
        if weight.shape[0] % groups:
            raise ValueError(f"the {name} weight gives {weight.shape[0]} channels, no multiple of its {groups} groups")


@dataclass(frozen=True)
class Pair:
    """Two layers to merge, `second` after `first`, and their merge posed as one convolution of `image` by `kernel`.

    Groups are kept: where the first layer has more of them than the result, each of its groups meets its own part of
    the second kernel, and no zeros are multiplied; nor where only the second has more.
    """

    first: ExpandedLayer
    second: ExpandedLayer

    @cached_property
    def merged(self) -> ExpandedLayer:
        """The layer that the two merge into, with the sum of their paddings."""
        early, late = self.first, self.second
        gaps = [math.gcd(*steps) or 1 for steps in self._steps]
        spans = (
            a + s * (b - 1)
            for a, s, b in zip(early.effective_kernel_size, early.stride, late.effective_kernel_size, strict=True)
        )
        return Layer(
            late.out_channels,
            tuple((span - 1) // gap + 1 for span, gap in zip(spans, gaps, strict=True)),
            stride=tuple(a * b for a, b in zip(early.stride, late.stride, strict=True)),
            padding=tuple(a + s * b for a, s, b in zip(early.padding, early.stride, late.padding, strict=True)),
            dilation=tuple(gaps),
            groups=math.gcd(early.groups, late.groups),
            bias=early.bias or late.bias,
        ).expand(len(gaps))

    @property
    def _steps(self) -> list[tuple[int, int]]:
        """Per axis, how far the taps of each kernel lie apart in the first layer's input; 0 for a single tap."""
        early, late = self.first, self.second
        axes = zip(early.kernel_size, early.dilation, late.kernel_size, early.stride, late.dilation, strict=True)
        return [(d1 * (k1 > 1), s1 * d2 * (k2 > 1)) for k1, d1, k2, s1, d2 in axes]

    @cached_property
    def _strides(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The same in units of the merged dilation, at least 1: of the first kernel, of the second."""
        units = [
            tuple(max(1, s // g) for s in steps) for steps, g in zip(self._steps, self.merged.dilation, strict=True)
        ]
        early, late = zip(*units, strict=True)
        return early, late

    @property
    def _parts(self) -> int:
        """Groups of the first layer that fall into one group of the result."""
        return self.first.groups // self.merged.groups

    @cached_property
    def layer(self) -> ExpandedLayer:
        """The convolution that merges."""
        steps, parts = self._strides[1], self._parts
        padding = tuple(step * (k - 1) for step, k in zip(steps, self.second.kernel_size, strict=True))
        return replace(
            self.second,
            out_channels=self.second.out_channels * parts,
            stride=(1,) * len(steps),
            padding=padding,
            dilation=steps,
            groups=self.second.groups if parts == 1 else self.first.groups,
            bias=False,
        )

    def image(self, first: torch.Tensor) -> torch.Tensor:
        """The first weight (mid, in / groups, *k) as (in / groups, mid, *taps and the zeros between them)."""
        steps = self._strides[0]
        if set(steps) != {1}:
            size = tuple((k - 1) * step + 1 for k, step in zip(first.shape[2:], steps, strict=True))
            sparse = first.new_zeros(*first.shape[:2], *size)
            sparse[(slice(None), slice(None), *(slice(None, None, step) for step in steps))] = first
            first = sparse
        return first.transpose(0, 1)

    def kernel(self, second: torch.Tensor) -> torch.Tensor:
        """The second weight (out, mid / groups, *k), flipped; the parts of it that each group of the first meets."""
        second, groups, parts = second.flip(tuple(range(2, second.ndim))), self.merged.groups, self._parts
        if parts == 1:
            return second
        second = regroup(second, self.second.groups, groups)
        return second.unflatten(1, (parts, -1)).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 2)

    def weight(self, product: torch.Tensor) -> torch.Tensor:
        """What the convolution of `image` by `kernel` gives, as the merged weight (out, in / groups, *k)."""
        groups, parts = self.merged.groups, self._parts
        if parts > 1:
            apart = product.unflatten(1, (groups, parts, -1))
            return apart.permute(1, 3, 2, 0, *range(4, apart.ndim)).flatten(2, 3).flatten(0, 1).contiguous()
        return product.transpose(0, 1).contiguous()

    def merge(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The merged weight."""
        if first.dtype is torch.float64 and self.first.groups == self.second.groups == 1:
            # A library's float64 convolution reads the kernel once per image: a matrix product takes a part of that.
            if self.second.taps == 1:
                return torch.tensordot(second.flatten(1), first, 1)
            if self.first.taps == 1:
                return torch.einsum("om...,mi->oi...", second, first.flatten(1)).contiguous()
        layer, image, kernel = self.layer, self.image(first), self.kernel(second)
        convolution = CONVOLUTIONS[image.ndim - 2]
        product = convolution(image, kernel, None, 1, layer.padding, layer.dilation, layer.groups)
        return self.weight(product)

    def merge_biased(self, first: Kernel, second: Kernel) -> Kernel:
        """The merged weight and bias: every tap of the second kernel sees the first bias, where nothing is padded."""
        weight = self.merge(first.weight, second.weight)
        if first.bias is None:
            return Kernel(weight, second.bias)
        seen = through(second.weight.flatten(2).sum(2), first.bias, self.second.groups)
        return Kernel(weight, seen if second.bias is None else seen + second.bias)


@lru_cache(maxsize=1024)
def pair(first: ExpandedLayer, second: ExpandedLayer) -> Pair:
    """The pair, its arithmetic done once."""
    return Pair(first, second)


def through(matrices: torch.Tensor, vector: torch.Tensor, groups: int) -> torch.Tensor:
    """One position's channels (mid,) through a kernel summed over its taps, (out, mid / groups): (out,)."""
    return torch.bmm(matrices.unflatten(0, (groups, -1)), vector.reshape(groups, -1, 1)).flatten()


def regroup(weight: torch.Tensor, groups: int, fewer: int) -> torch.Tensor:
    """The same convolution's weight with fewer groups: (out, in / groups, *k) -> (out, in / fewer, *k).

    Each old group becomes a block on the diagonal of its new group; the rest is zero.
    """
    if groups == fewer:
        return weight
    ratio = groups // fewer
    out, channels, *taps = weight.shape
    blocks = weight.reshape(fewer, ratio, out // groups, channels, *taps)
    wide = weight.new_zeros(fewer, ratio, out // groups, ratio, channels, *taps)
    index = torch.arange(ratio, device=weight.device)
    wide[:, index, :, index] = blocks.transpose(0, 1)
    return wide.reshape(out, ratio * channels, *taps)
