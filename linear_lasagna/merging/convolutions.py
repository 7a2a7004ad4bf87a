"""PyTorch's convolution modules into one: `merge`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeGuard

import torch
from torch import nn

from linear_lasagna.devices import device_named
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.chain import Link, joined, runs
from linear_lasagna.merging.fitting import PLAIN, Storage, fitted
from linear_lasagna.merging.plain import not_its_class, not_plain
from linear_lasagna.merging.stack import summed_kernel
from linear_lasagna.modules import CONVOLUTIONS, Convolution, convolution, kernel_of, link_of
from linear_lasagna.rounding.offsets import even, rounding_share, rounds, warning

BORDERS = ("exact", "summed")


def merge(
    convolutions: nn.Sequential | Iterable[nn.Module],
    merge_dtype: torch.dtype = torch.float64,
    border: Literal["exact", "summed"] = "exact",
    *,
    dtype: torch.dtype | None = None,
    split: bool = False,
    rounding: Literal["nearest", "taps"] = "nearest",
) -> nn.Module:
    """One module that equals the given convolutions applied in turn, for inputs of any size.

    convolutions: an nn.Sequential or a list of nn.Conv1d, nn.Conv2d or nn.Conv3d with any stride, padding (numbers,
    "same" or "valid"), dilation, groups and bias, and padding_mode "zeros". Merged in `merge_dtype`, returned on the
    device of the given ones, which are left alone, and in `dtype` (None: theirs): float32 layers that are to run in 16
    bits are so merged first and rounded once, not every layer and then their product.
    split: every merged weight as two numbers of the dtype, in one convolution of the input beside itself (`Split`),
    with twice the work; kernels of the border stay single. rounding: "taps" keeps the sum over each kernel's taps, in
    which the errors of smooth images and of averages over positions lie (`tap_sums`); at no cost.

    Where one convolution is right everywhere (only the first layer is padded, or the others' zeros are what would stand
    there anyway), it is returned: an nn.Conv1d, nn.Conv2d or nn.Conv3d. Elsewhere border="exact" returns a
    `BorderExact`, whose every output is the stack's up to rounding, and border="summed" one convolution with the sum of
    the paddings. That is what others merge into, and it is WRONG at the border: it differs from the stack wherever an
    output needs zeros that a later layer pads. Where merged weights would lose digits to underflow, or overflow, they
    are multiplied by powers of two, and the convolution is returned in a module, `Scaled`, that divides its outputs.
    `certify` tells how far the result is from the exact one at most. Warns, RuntimeWarning, where rounding in the dtype
    is part of what the layers compute, because of their biases, for inputs evenly spread between -1 and 1
    (`rounding.offsets`): the exact result is another one then.

    Whether a `BorderExact` merges or runs the layers, is decided by their times: the first merge of a stack on a
    machine times it for a second or so, and says so in the log "linear_lasagna"; the times are kept (`calibration`).

    Raises ValueError, naming the layer, for what cannot be merged, hooks and layers with a forward of their own among
    it, and where the dtype cannot hold the merged numbers.
    """
    convolutions = [*_listed(convolutions)]
    merged = merged_module(convolutions, merge_dtype, border, Storage(dtype, split, rounding))
    if isinstance(merged, BorderExact):
        merged.calibrate()
    _warn_of_rounding(convolutions, dtype)
    return merged


def _warn_of_rounding(modules: Sequence[Any], dtype: torch.dtype | None) -> None:
    used: torch.dtype = dtype or modules[0].weight.dtype
    gone = [place + 1 < len(modules) for place in range(len(modules))]
    groups = [module.groups for module in modules]
    share = rounding_share([kernel_of(module) for module in modules], groups, gone, used, even())
    if rounds(share):
        name = str(used).removeprefix("torch.")
        warnings.warn(warning(share, f"these layers, in {name},"), RuntimeWarning, stacklevel=3)


def merged_module(
    convolutions: nn.Sequential | Iterable[nn.Module],
    merge_dtype: torch.dtype,
    border: str = "exact",
    storage: Storage = PLAIN,
) -> nn.Module:
    """`merge` without timing anything: until it is calibrated, a `BorderExact` runs the layers."""
    storage.check()
    if border not in BORDERS:
        raise ValueError(f"border must be one of {', '.join(BORDERS)}, not {border!r}")
    modules = [_checked(index, module) for index, module in enumerate(_listed(convolutions))]
    if not modules:
        raise ValueError("there is no layer to merge")
    for index, (module, following) in enumerate(pairwise(modules)):
        _check_follows(index, module, following)
    weight = modules[0].weight
    try:
        return fitted(_merged(modules, merge_dtype, border), storage.dtype or weight.dtype, weight.device, storage)
    except ValueError as error:
        raise ValueError(f"layers 0 to {len(modules) - 1}: {error}") from None


def _merged(modules: Sequence[Convolution], merge_dtype: torch.dtype, border: str) -> nn.Module:
    """The merged module in `merge_dtype`."""
    chain = tuple(map(link_of, modules))
    place = device_named(modules[0].weight.device).home(merge_dtype)
    kernels = [kernel_of(module).map(lambda numbers: numbers.detach().to(place, merge_dtype)) for module in modules]
    together, in_channels = joined(chain), modules[0].in_channels
    padding = _padding_for(together)
    if padding is not None and (border == "summed" or len(runs(chain)) == 1):
        # Where nothing had to be merged or rounded, these are still the given modules' own tensors.
        kernel = summed_kernel(kernels, [link.layer for link in chain]).map(torch.clone)
        return convolution(kernel, together.layer, in_channels, padding)
    if border == "summed":
        raise ValueError(
            f"border='summed' needs as many zeros before as after an axis, not {together.layer.padding} and "
            f"{together.after}; border='exact' can pad unevenly"
        )
    return BorderExact(modules, chain, kernels, merge_dtype)


def _listed(convolutions: Iterable[nn.Module]) -> Iterable[nn.Module]:
    """The layers; raises ValueError for a module that is no plain container of them."""
    if isinstance(convolutions, nn.Module) and not isinstance(convolutions, nn.ModuleList):
        sequential = isinstance(convolutions, nn.Sequential)
        reason = not_its_class(convolutions, (nn.Sequential,)) if sequential else "it is no nn.Sequential"
        if reason is not None:
            raise ValueError(f"a {type(convolutions).__name__} cannot be merged: {reason}")
    return convolutions


def _is_convolution(module: nn.Module) -> TypeGuard[Convolution]:
    return isinstance(module, tuple(CONVOLUTIONS.values()))


def _checked(index: int, module: nn.Module) -> Convolution:
    if not _is_convolution(module):
        raise ValueError(f"layer {index} is a {type(module).__name__}; merge takes nn.Conv1d, nn.Conv2d, nn.Conv3d")
    reason = not_plain(module, CONVOLUTIONS.values())
    if reason is not None:
        raise ValueError(f"layer {index}, a {type(module).__name__}, cannot be merged: {reason}")
    if module.padding_mode != "zeros":
        raise ValueError(f"layer {index} has padding_mode {module.padding_mode!r}; only 'zeros' can be merged")
    if not module.weight.is_floating_point():
        raise ValueError(f"layer {index} is {module.weight.dtype}; only real floating-point numbers can be merged")
    for name, numbers in (("weight", module.weight), ("bias", module.bias)):
        if numbers is not None and not bool(numbers.isfinite().all()):
            raise ValueError(f"layer {index} has a {name} with numbers that are not finite")
    return module


def _check_follows(index: int, module: Convolution, following: Convolution) -> None:
    pair = f"layer {index} and layer {index + 1}"
    if len(module.kernel_size) != len(following.kernel_size):
        raise ValueError(f"{pair} differ in their number of spatial axes")
    if module.out_channels != following.in_channels:
        raise ValueError(
            f"layer {index} gives {module.out_channels} channels, layer {index + 1} takes {following.in_channels}"
        )
    if (module.weight.dtype, module.weight.device) != (following.weight.dtype, following.weight.device):
        raise ValueError(f"{pair} differ in dtype or device")


def _padding_for(link: Link) -> tuple[int, ...] | str | None:
    """The argument with which a module pads as the link does, or None where there is none."""
    layer = link.layer
    if layer.padding == link.after:
        return layer.padding
    halves = tuple((span - 1) // 2 for span in layer.effective_kernel_size)
    rest = tuple(span - 1 - half for span, half in zip(layer.effective_kernel_size, halves, strict=True))
    return "same" if (layer.padding, link.after, set(layer.stride)) == (halves, rest, {1}) else None
