"""Two kernels into one, a stack into one.

Linear maps compose: W2 (*) (W1 (*) x) = (W2 * W1) (*) x, where (*) is PyTorch's cross-correlation and * the full
convolution of the kernels. Merged here are stride-1 layers without dilation, of any rank, with groups, either all
unpadded (bias allowed), or all fully padded (padding = kernel size - 1) without bias. Elsewhere zero padding between
the layers makes the border of the merged convolution wrong, and merging is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeAlias, TypeGuard

import torch
from torch import nn
from torch.nn import functional

from linear_lasagna.problems import ExpandedLayer, Kernel, Layer

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d

MODULES: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def merge_kernels(first: torch.Tensor, second: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """The weight of one convolution that equals `second` after `first`, both of stride 1.

    first: (mid, in / groups, *k1); second: (out, mid / groups, *k2); result: (out, in / groups, *k1 + k2 - 1).
    The input channels of `first` become a batch, which is correlated with the flipped `second` at full padding:
    a full convolution of the kernels. Source: "How to merge 2D convolutions in PyTorch?".
    Raises ValueError where ranks or channels do not fit.
    """
    _check_pair(first, second, groups)
    axes = tuple(range(2, second.ndim))
    padding = tuple(k - 1 for k in second.shape[2:])
    full = CONVOLUTIONS[len(axes)](first.transpose(0, 1), second.flip(axes), padding=padding, groups=groups)
    return full.transpose(0, 1).contiguous()


def _check_pair(first: torch.Tensor, second: torch.Tensor, groups: int) -> None:
    if first.ndim != second.ndim or first.ndim - 2 not in CONVOLUTIONS:
        raise ValueError(
            f"merge_kernels needs two weights (out, in, *k) of one rank, not {tuple(first.shape)} "
            f"and {tuple(second.shape)}"
        )
    if first.shape[0] != second.shape[1] * groups:
        raise ValueError(
            f"the first weight gives {first.shape[0]} channels, the second takes {second.shape[1] * groups}"
        )
    if second.shape[0] % groups:
        raise ValueError(f"the second weight gives {second.shape[0]} channels, no multiple of its {groups} groups")


def not_mergeable(layers: Sequence[ExpandedLayer]) -> str | None:
    """Why these layers cannot be merged into one convolution, or None where they can."""
    if not layers:
        return "there is no layer to merge"
    if len({len(layer.kernel_size) for layer in layers}) > 1:
        return "the layers differ in their number of spatial axes"
    for index, layer in enumerate(layers):
        if set(layer.stride) != {1} or set(layer.dilation) != {1}:
            return f"layer {index} has stride {layer.stride} and dilation {layer.dilation}; only 1 can be merged"
    unpadded = not any(any(layer.padding) for layer in layers)
    full = all(layer.padding == tuple(k - 1 for k in layer.kernel_size) for layer in layers)
    if not unpadded and not full:
        return "zero padding between layers changes the border; merge unpadded or fully padded layers"
    if not unpadded and any(layer.bias for layer in layers):
        return "a bias between fully padded layers changes the border; merge unpadded layers, or without bias"
    return None


def merged_layer(layers: Sequence[ExpandedLayer]) -> ExpandedLayer:
    """The layer that the stack merges into. Raises ValueError with the reason where it cannot."""
    reason = not_mergeable(layers)
    if reason is not None:
        raise ValueError(reason)
    extents = [tuple(k - 1 for k in layer.kernel_size) for layer in layers]
    kernel_size = tuple(sum(axis) + 1 for axis in zip(*extents, strict=True))
    padding = tuple(sum(axis) for axis in zip(*(layer.padding for layer in layers), strict=True))
    groups = math.gcd(*(layer.groups for layer in layers))
    bias = any(layer.bias for layer in layers)
    return Layer(layers[-1].out_channels, kernel_size, padding=padding, groups=groups, bias=bias).expand(
        len(kernel_size)
    )


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


def merge_stack(
    kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], merge_dtype: torch.dtype | None = None
) -> tuple[Kernel, ExpandedLayer]:
    """One kernel and layer that equal the stack, merged from the first layer on.

    The merge runs in `merge_dtype` (None: the kernels' own), its result is rounded to the kernels' dtype. The result
    has as many groups as the stack's structure has: the greatest common divisor of the layers' groups.
    Raises ValueError with the reason where the stack cannot be merged.
    """
    layer = merged_layer(layers)
    dtype = kernels[0].weight.dtype
    merge_dtype = merge_dtype or dtype
    parts = [
        Kernel(
            regroup(kernel.weight.to(merge_dtype), each.groups, layer.groups),
            None if kernel.bias is None else kernel.bias.to(merge_dtype),
        )
        for kernel, each in zip(kernels, layers, strict=True)
    ]
    merged = parts[0]
    for part in parts[1:]:
        bias = _merge_bias(merged.bias, part, layer.groups)
        merged = Kernel(merge_kernels(merged.weight, part.weight, layer.groups), bias)
    return Kernel(merged.weight.to(dtype), None if merged.bias is None else merged.bias.to(dtype)), layer


def _merge_bias(bias: torch.Tensor | None, second: Kernel, groups: int) -> torch.Tensor | None:
    """The first bias seen through the second weight (every tap sees it, unpadded), plus the second bias."""
    if bias is None:
        return second.bias
    matrices = second.weight.flatten(2).sum(2).unflatten(0, (groups, -1))
    seen = torch.bmm(matrices, bias.reshape(groups, -1, 1)).flatten()
    return seen if second.bias is None else seen + second.bias


def merge(convolutions: nn.Sequential | Iterable[nn.Module], merge_dtype: torch.dtype = torch.float64) -> Convolution:
    """One nn.Conv1d, nn.Conv2d or nn.Conv3d that equals the given ones applied in turn.

    convolutions: an nn.Sequential or a list of nn.ConvNd with stride 1, no dilation, and padding either 0
    everywhere or, without bias, kernel_size - 1 everywhere. Merged in `merge_dtype`, returned in the dtype and on the
    device of the first. Raises ValueError, naming the layer, for what cannot be merged.
    """
    modules = [_checked(index, module) for index, module in enumerate(convolutions)]
    layers = [_layer_of(index, module) for index, module in enumerate(modules)]
    reason = not_mergeable(layers)
    if reason is not None:
        raise ValueError(reason)
    for index, (module, following) in enumerate(pairwise(modules)):
        if module.out_channels != following.in_channels:
            raise ValueError(
                f"layer {index} gives {module.out_channels} channels, layer {index + 1} takes {following.in_channels}"
            )
    kernels = [Kernel(module.weight.detach(), _detached(module.bias)) for module in modules]
    kernel, layer = merge_stack(kernels, layers, merge_dtype)
    return _module_of(kernel, layer, modules[0].in_channels)


def _is_convolution(module: nn.Module) -> TypeGuard[Convolution]:
    return type(module) in MODULES.values()


def _checked(index: int, module: nn.Module) -> Convolution:
    if not _is_convolution(module):
        raise ValueError(f"layer {index} is a {type(module).__name__}; merge takes nn.Conv1d, nn.Conv2d, nn.Conv3d")
    if module.padding_mode != "zeros":
        raise ValueError(f"layer {index} has padding_mode {module.padding_mode!r}; only 'zeros' can be merged")
    return module


def _layer_of(index: int, module: Convolution) -> ExpandedLayer:
    return Layer(
        module.out_channels,
        tuple(module.kernel_size),
        tuple(module.stride),
        _padding_of(index, module),
        tuple(module.dilation),
        module.groups,
        module.bias is not None,
    ).expand(len(module.kernel_size))


def _padding_of(index: int, module: Convolution) -> tuple[int, ...]:
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    if module.padding == "same":
        if any((k - 1) % 2 for k in module.kernel_size):
            raise ValueError(f"layer {index} pads an even kernel by 'same', more on one side; it cannot be merged")
        return tuple(d * (k - 1) // 2 for k, d in zip(module.kernel_size, module.dilation, strict=True))
    return tuple(int(p) for p in module.padding)


def _detached(bias: torch.Tensor | None) -> torch.Tensor | None:
    return None if bias is None else bias.detach()


def _module_of(kernel: Kernel, layer: ExpandedLayer, in_channels: int) -> Convolution:
    module = MODULES[len(layer.kernel_size)](
        in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        groups=layer.groups,
        bias=layer.bias,
        dtype=kernel.weight.dtype,
        device="meta",
    )
    # Where nothing had to be merged or rounded, these are still the given modules' own tensors.
    module.weight = nn.Parameter(kernel.weight.clone())
    module.bias = None if kernel.bias is None else nn.Parameter(kernel.bias.clone())
    return module
