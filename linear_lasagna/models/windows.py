"""What average pooling and zero padding do to an image, from a module or from a call's arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import fx, nn

from linear_lasagna.merging.plain import hooked
from linear_lasagna.models.operators import POOLS, argument, name_of
from linear_lasagna.problems import ExpandedLayer, Layer

ARGUMENTS = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
DEFAULTS = (None, None, 0, False, True, None)
UNEVEN = "it pads more at one end than at the other"
MOST_TIMES = 8  # torch finds a position's source by dividing in float32, which is exact for small factors


class Pool(NamedTuple):
    """An average pooling as a layer whose weights all are 1 / divisor. module: makes one that computes it."""

    layer: ExpandedLayer
    divisor: int
    module: Callable[[], nn.Module]


def pool_of(node: fx.Node, module: nn.Module | None, channels: int) -> Pool | str:
    """The pooling of images with so many channels, or why it is no convolution."""
    rank = next(n for n, pool in POOLS.items() if isinstance(module, pool) or name_of(node) == f"avg_pool{n}d")
    values = _values(node, module)
    kernel_size, stride, padding = (_spread(value, rank) for value in values[:3])
    ceil_mode, include, divisor = values[3:]
    if node.meta["tensor"].ndim != rank + 2 or kernel_size is None or padding is None:
        return "its input has no batch axis, or its windows depend on the input"
    stride = stride or kernel_size
    if ceil_mode and set(stride) != {1}:
        return "with ceil_mode its last windows may reach beyond the image; without it, it would be merged"
    if any(padding) and not include and divisor is None:
        return "its divisor changes at the border; with count_include_pad=True, or unpadded, it would be merged"
    layer = Layer(channels, kernel_size, stride, padding, groups=channels).expand(rank)
    own = {"divisor_override": divisor} if rank > 1 else {}
    return Pool(
        layer, divisor or math.prod(kernel_size), lambda: POOLS[rank](kernel_size, stride, padding, **own).eval()
    )


def _values(node: fx.Node, module: nn.Module | None) -> list[Any]:
    """A pooling's arguments, in the order of `ARGUMENTS`."""
    return [
        getattr(module, name, default) if module is not None else argument(node, 1 + place, name, default)
        for place, (name, default) in enumerate(zip(ARGUMENTS, DEFAULTS, strict=True))
    ]


def averages_truly(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether every output of the pooling is the average of some inputs, no zeros among them that it pads."""
    _, _, padding, _, include, divisor = _values(node, module)
    unpadded = padding == 0 or (isinstance(padding, (tuple, list)) and all(each == 0 for each in padding))
    return divisor is None and (unpadded or not include)


def _spread(value: Any, rank: int) -> tuple[int, ...] | None:
    """One int per axis; None for nothing, and for what is not known before the model is called."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not values or not all(isinstance(each, int) for each in values):
        return None
    return values * rank if len(values) == 1 else values


def factors_of(node: fx.Node, module: nn.Module | None, rank: int) -> tuple[int, ...] | None:
    """By how many times nearest-neighbour up-sampling repeats every position, per axis; None for anything else."""
    names = ("size", "scale_factor", "mode")
    defaults = (None, None, "nearest")
    _, scale, mode = (
        getattr(module, name, default) if module is not None else argument(node, 1 + place, name, default)
        for place, (name, default) in enumerate(zip(names, defaults, strict=True))
    )
    scales: list[Any] = list(scale) if isinstance(scale, (tuple, list)) else [scale] * rank
    if mode not in ("nearest", "nearest-exact") or len(scales) != rank:
        return None
    if not all(isinstance(each, (int, float)) and each in range(1, MOST_TIMES + 1) for each in scales):
        return None
    return tuple(int(each) for each in scales) if max(scales) > 1 else None


def shuffle_of(node: fx.Node, module: nn.Module | None) -> int | None:
    """The factor of a pixel shuffle; None for its inverse."""
    if module is not None:
        return getattr(module, "upscale_factor", None)
    factor = argument(node, 1, "upscale_factor", None)
    return factor if name_of(node) == "pixel_shuffle" and isinstance(factor, int) else None


def unshuffle_of(node: fx.Node, module: nn.Module | None) -> int | None:
    """The factor of a pixel unshuffle; None for anything else."""
    if module is not None:
        return module.downscale_factor if type(module) is nn.PixelUnshuffle and not hooked(module) else None
    factor = argument(node, 1, "downscale_factor", None)
    return factor if name_of(node) == "pixel_unshuffle" and isinstance(factor, int) else None


def zeros_of(node: fx.Node, module: nn.Module | None, rank: int) -> tuple[int, ...] | str:
    """How many zeros a padding puts at either end of each spatial axis, or why a convolution cannot."""
    if module is not None:
        pads, mode, value = module.padding, "constant", module.value
    else:
        constant = getattr(node.target, "__name__", "") == "constant_pad_nd"
        pads = argument(node, 1, "pad", None)
        mode = "constant" if constant else argument(node, 2, "mode", "constant")
        value = argument(node, 2 if constant else 3, "value", None)
    if mode != "constant":
        return "what it puts around the image is no zero"
    if value not in (None, 0):
        return f"it pads with {value}; only zeros can be merged"
    if not isinstance(pads, (tuple, list)) or not all(isinstance(each, int) for each in pads):
        return "how much it pads is computed when the model is called"
    if len(pads) > 2 * rank and any(pads[2 * rank :]):
        return "it pads channels or the batch"
    before, after = (tuple(pads[end : 2 * rank : 2])[::-1] for end in (0, 1))
    none = (0,) * (rank - len(before))
    if min(pads, default=0) < 0:
        return "it cuts positions off"
    return (*none, *before) if before == after else UNEVEN
