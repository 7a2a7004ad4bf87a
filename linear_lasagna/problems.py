"""Layers and problems: what is convolved, its shapes, its cost, and its inputs drawn from a seed.

A `Layer` is one linear convolution, a `Problem` an input shape and a stack of layers. Both are frozen and
validated; neither knows how it will be computed. Convolution is PyTorch's: a cross-correlation, N C *spatial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from linear_lasagna.vocabulary import SIGNS, Signs

if TYPE_CHECKING:
    import torch
    from torch import nn

Extent: TypeAlias = int | tuple[int, ...]
Convolution: TypeAlias = "nn.Conv1d | nn.Conv2d | nn.Conv3d"

MAX_RANK = 3
REDUCED_OUTPUTS = 4


class Kernel(NamedTuple):
    """A layer's numbers: weight (out, in / groups, *kernel_size) and bias (out,) or None."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None

    def map(self, f: Callable[[torch.Tensor], torch.Tensor]) -> Kernel:
        """The kernel of f(weight), and of f(bias) where there is a bias."""
        return Kernel(f(self.weight), None if self.bias is None else f(self.bias))


@dataclass(frozen=True)
class Layer:
    """One linear convolution. Extents are ints (the same on every axis) or one int per spatial axis.

    Raises ValueError where no input could make the layer possible.
    """

    out_channels: int
    kernel_size: Extent
    stride: Extent = 1
    padding: Extent = 0
    dilation: Extent = 1
    groups: int = 1
    bias: bool = False

    def __post_init__(self) -> None:
        for name, least in (("out_channels", 1), ("groups", 1)):
            _check_int(f"Layer.{name}", getattr(self, name), least)
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            _check_extent(f"Layer.{name}", getattr(self, name), least)
        if not isinstance(self.bias, bool):
            raise ValueError(f"Layer.bias must be True or False, not {self.bias!r}")
        if self.out_channels % self.groups:
            raise ValueError(f"Layer.out_channels ({self.out_channels}) must be a multiple of groups ({self.groups})")
        if len(self._lengths()) > 1:
            raise ValueError(f"Layer's tuples must have one length, the number of spatial axes: {self._tuples()}")

    def _tuples(self) -> dict[str, tuple[int, ...]]:
        values = {n: getattr(self, n) for n in ("kernel_size", "stride", "padding", "dilation")}
        return {name: value for name, value in values.items() if isinstance(value, tuple)}

    def _lengths(self) -> set[int]:
        return {len(value) for value in self._tuples().values()}

    @property
    def rank(self) -> int | None:
        """Number of spatial axes, or None where every extent is an int and so fits any rank."""
        return next(iter(self._lengths()), None)

    def expand(self, rank: int) -> ExpandedLayer:
        """The same layer with one int per spatial axis. Raises ValueError if its own rank differs."""
        if self.rank not in (None, rank):
            raise ValueError(f"{self} has {self.rank} spatial axes, the problem has {rank}")
        return ExpandedLayer(
            self.out_channels,
            *(spread(e, rank) for e in (self.kernel_size, self.stride, self.padding, self.dilation)),
            groups=self.groups,
            bias=self.bias,
        )


@dataclass(frozen=True)
class ExpandedLayer(Layer):
    """A layer whose extents all are tuples, one int per spatial axis; `Layer.expand` makes it."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()

    def expand(self, rank: int) -> ExpandedLayer:
        extents: tuple[object, ...] = (self.kernel_size, self.stride, self.padding, self.dilation)
        known = all(isinstance(extent, tuple) and len(extent) == rank for extent in extents)
        return self if known else super().expand(rank)

    @property
    def effective_kernel_size(self) -> tuple[int, ...]:
        """Input positions that one output spans per axis: dilation * (kernel_size - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def taps(self) -> int:
        """Number of kernel positions, the kernel's area."""
        return math.prod(self.kernel_size)

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Output size per axis: floor((n + 2 padding - effective_kernel_size) / stride) + 1; below 1: impossible."""
        axes = zip(size, self.padding, self.effective_kernel_size, self.stride, strict=True)
        return tuple((n + 2 * p - r) // s + 1 for n, p, r, s in axes)

    def input_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The least input size per axis, at least 1, that gives at least `size` outputs."""
        axes = zip(size, self.padding, self.effective_kernel_size, self.stride, strict=True)
        return tuple(max(1, (n - 1) * s + r - 2 * p) for n, p, r, s in axes)

    def fan_in(self, in_channels: int) -> int:
        """Products summed for one output: in_channels / groups * taps."""
        return in_channels // self.groups * self.taps

    def weight_shape(self, in_channels: int) -> tuple[int, ...]:
        """(out, in / groups, *kernel_size)."""
        return (self.out_channels, in_channels // self.groups, *self.kernel_size)


@dataclass(frozen=True)
class Problem:
    """A named input shape (batch, in_channels, *size) and the layers applied to it in turn.

    One layer is a convolution, several are a stack. `source` says where the numbers come from and
    `occurrences` how often the layer stands in the network it is taken from.
    Raises ValueError, naming the layer, where the shapes do not fit.
    """

    name: str
    batch: int
    in_channels: int
    size: tuple[int, ...]
    layers: tuple[Layer, ...]
    source: str = ""
    occurrences: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"Problem.name must be a non-empty string, not {self.name!r}")
        for name in ("batch", "in_channels", "occurrences"):
            _check_int(f"{self.name}: {name}", getattr(self, name), 1)
        if not isinstance(self.size, tuple) or not 1 <= len(self.size) <= MAX_RANK:
            raise ValueError(f"{self.name}: size must be a tuple of 1 to {MAX_RANK} ints, not {self.size!r}")
        _check_extent(f"{self.name}: size", self.size, 1)
        if not isinstance(self.layers, tuple) or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError(f"{self.name}: layers must be a tuple of Layer, not {self.layers!r}")
        if not self.layers:
            raise ValueError(f"{self.name}: layers is empty; a problem has at least one layer")
        self._check_shapes()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Found once: what is kept by problem is asked for once per run of a stack, of which there are many."""
        return hash((self.name, self.batch, self.in_channels, self.size, self.layers))

    def __getstate__(self) -> dict[str, Any]:
        """Another process hashes strings otherwise."""
        return {name: value for name, value in vars(self).items() if name != "_hash"}

    def _check_shapes(self) -> None:
        channels, size = self.in_channels, self.size
        for index, layer in enumerate(self.expanded):
            where = f"{self.name}: layer {index}"
            if channels % layer.groups:
                raise ValueError(f"{where} gets {channels} channels, no multiple of its {layer.groups} groups")
            output = layer.output_size(size)
            if min(output) < 1:
                raise ValueError(
                    f"{where} spans {layer.effective_kernel_size} positions but its input, padding included, has only "
                    f"{tuple(n + 2 * p for n, p in zip(size, layer.padding, strict=True))}"
                )
            channels, size = layer.out_channels, output

    @classmethod
    def from_conv2d(cls, module: Convolution, input_shape: Sequence[int], name: str = "own") -> Problem:
        """What an nn.Conv1d, nn.Conv2d or nn.Conv3d computes of an input (batch, channels, *size).

        Raises ValueError for other modules, an input that does not fit, and padding that is not zeros, as many on both
        sides.
        """
        if getattr(module, "transposed", True):
            known = "nn.Conv1d, nn.Conv2d or nn.Conv3d"
            raise ValueError(f"{name}: not a convolution ({known}) but {type(module).__name__}")
        batch, channels, *size = input_shape
        layer, after = layer_of_module(module)
        if len(size) != len(after):
            raise ValueError(f"{name}: {module} takes batch, channels and {len(after)} sizes, not {tuple(input_shape)}")
        if channels != module.in_channels:
            raise ValueError(f"{name}: {module} takes {module.in_channels} channels, not {channels}")
        if module.padding_mode != "zeros" or layer.padding != after:
            raise ValueError(f"{name}: {module} does not pad with zeros, as many on both sides")
        return cls(name, batch, channels, tuple(size), (layer,))

    @property
    def rank(self) -> int:
        """Number of spatial axes, 1 to 3."""
        return len(self.size)

    @cached_property
    def expanded(self) -> tuple[ExpandedLayer, ...]:
        """The layers with one int per spatial axis in every extent."""
        return tuple(layer.expand(self.rank) for layer in self.layers)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @cached_property
    def channels(self) -> tuple[int, ...]:
        """Channels before each layer and after the last: depth + 1 ints."""
        return (self.in_channels, *(layer.out_channels for layer in self.layers))

    @cached_property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Spatial sizes before each layer and after the last: depth + 1 tuples."""
        sizes = [self.size]
        for layer in self.expanded:
            sizes.append(layer.output_size(sizes[-1]))
        return tuple(sizes)

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Tensor shapes before each layer and after the last: (batch, channels, *size) each."""
        pairs = zip(self.channels, self.sizes, strict=True)
        return tuple((self.batch, channels, *size) for channels, size in pairs)

    @property
    def fan_ins(self) -> tuple[int, ...]:
        """Products summed for one output of each layer."""
        return tuple(layer.fan_in(c) for layer, c in zip(self.expanded, self.channels, strict=False))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers, each computed as it is defined; biases not counted."""
        outputs = (math.prod(shape) for shape in self.shapes[1:])
        return sum(n * fan_in for n, fan_in in zip(outputs, self.fan_ins, strict=True))

    @property
    def parameters(self) -> int:
        """Weights and biases of all layers."""
        pairs = zip(self.expanded, self.fan_ins, strict=True)
        return sum(layer.out_channels * (fan_in + layer.bias) for layer, fan_in in pairs)

    def least_bytes(self, itemsize: int) -> int:
        """Bytes that any way must move: input and parameters read once, the output written once."""
        ends = math.prod(self.shapes[0]) + math.prod(self.shapes[-1])
        return itemsize * (ends + self.parameters)

    def floor_s(self, macs_per_s: float, bytes_per_s: float, itemsize: int) -> float:
        """Seconds below which no way that computes the layers one by one can get: for its arithmetic, or its bytes."""
        return max(self.macs / macs_per_s, self.least_bytes(itemsize) / bytes_per_s)

    def reduced(self) -> Problem:
        """Batch 1, full channels, the least size with at least 4 outputs (never more than the problem has)."""
        size, most = (1,) * self.rank, self.sizes[-1]
        while math.prod(size) < REDUCED_OUTPUTS and size != most:
            axis = min((a for a in range(self.rank) if size[a] < most[a]), key=size.__getitem__)
            size = (*size[:axis], size[axis] + 1, *size[axis + 1 :])
        for layer in reversed(self.expanded):
            size = layer.input_size(size)
        return replace(self, batch=1, size=size)

    def draw(
        self,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
        seed: int = 0,
        signs: Signs = "random",
    ) -> tuple[torch.Tensor, tuple[Kernel, ...]]:
        """Input (batch, in_channels, *size) and one `Kernel` per layer, drawn uniformly from a seed.

        The values are drawn in float64 and then rounded, so that they are the same in every dtype up to rounding.
        signs="random" preserves the variance: input in [-sqrt(3), sqrt(3)), weights in [-1, 1) * sqrt(3 / fan_in).
        signs="positive" preserves the mean: input in [0, 1), weights in [0, 2 / fan_in). Biases are drawn like
        the input, divided by 8. dtype defaults to torch.float32. Raises ValueError for other signs.
        """
        import numpy
        import torch

        if signs not in SIGNS:
            raise ValueError(f"signs must be one of {', '.join(SIGNS)}, not {signs!r}")
        rng = numpy.random.default_rng(seed)

        def uniform(shape: tuple[int, ...], scale: float) -> torch.Tensor:
            values = rng.random(shape)
            if signs == "random":
                values = 2 * values - 1
            return torch.from_numpy(values * scale).to(dtype or torch.float32).to(device)

        unit = math.sqrt(3) if signs == "random" else 1.0
        x = uniform(self.shapes[0], unit)
        kernels = []
        for layer, channels in zip(self.expanded, self.channels, strict=False):
            fan_in = layer.fan_in(channels)
            scale = math.sqrt(3 / fan_in) if signs == "random" else 2 / fan_in
            weight = uniform(layer.weight_shape(channels), scale)
            bias = uniform((layer.out_channels,), unit / 8) if layer.bias else None
            kernels.append(Kernel(weight, bias))
        return x, tuple(kernels)


def layer_of_module(module: Convolution) -> tuple[Layer, tuple[int, ...]]:
    """A convolution module's layer, its padding the zeros before every axis, and the zeros after."""
    before, after = _zeros_of(module)
    extents = (tuple(module.kernel_size), tuple(module.stride), before, tuple(module.dilation))
    return Layer(module.out_channels, *extents, groups=module.groups, bias=module.bias is not None), after


def _zeros_of(module: Convolution) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Zeros before and after every axis; of an odd number, 'same' puts one more after."""
    if module.padding == "valid":
        none = (0,) * len(module.kernel_size)
        return none, none
    if module.padding == "same":
        sums = [d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True)]
        return tuple(total // 2 for total in sums), tuple(total - total // 2 for total in sums)
    padding = tuple(int(p) for p in module.padding)
    return padding, padding


def _check_int(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an int of at least {least}, not {value!r}")


def _check_extent(name: str, value: object, least: int) -> None:
    values = value if isinstance(value, tuple) else (value,)
    if not 1 <= len(values) <= MAX_RANK:
        raise ValueError(f"{name} must be an int or a tuple of 1 to {MAX_RANK} ints, not {value!r}")
    for item in values:
        _check_int(name, item, least)


def spread(extent: Extent, rank: int) -> tuple[int, ...]:
    return extent if isinstance(extent, tuple) else (extent,) * rank
