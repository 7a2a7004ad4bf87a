"""What merging finds in a model: steps, chains of them, and runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import fx, nn

from linear_lasagna.devices import device_named, wide
from linear_lasagna.merging import merge_stack, merged_layer, not_mergeable
from linear_lasagna.models.affine import Affine
from linear_lasagna.models.exact_numbers import EXACT, exact_kernel
from linear_lasagna.models.phases import Spread, in_phases, kernel_in_phases, pointwise_in_phases
from linear_lasagna.models.reparameterization import diagonal, fuse_batch_norm, joined_kernel, joined_layer, pointwise
from linear_lasagna.models.tracer import Value
from linear_lasagna.models.windows import Pool
from linear_lasagna.modules import Convolution
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer, Problem

CANCELLED = 2.0**-40  # of two shifts: far below what the model's own dtype keeps of them, but for float64's last digits


@dataclass(frozen=True, eq=False)
class Step:
    """One convolution that a run can be computed by.

    kernel: gives its numbers in float64, when they are needed. names: of the modules and nodes that it stands for.
    operations: multiply-accumulates per image of what it stands for, as the model computes it; BatchNorm takes one
    per output, so does a scale; average pooling one per number that it adds; additions, shifts and signs none. own:
    what is this step unchanged, the name of a module of the model or a module that it lacks; or None. lone: whether it
    is nothing but BatchNorms, scales and shifts. fixed: whether it fits no other number of channels. fresh: whether
    what `kernel` gives may be overwritten.
    """

    layer: ExpandedLayer
    in_channels: int
    kernel: Callable[[], Kernel]
    names: tuple[str, ...]
    operations: int
    own: str | nn.Module | None = None
    lone: bool = False
    fixed: bool = True
    fresh: bool = False


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps applied in turn to the value of `base`. nodes: all that they stand for. spread: what is done with the last
    one's outputs, or None; then only what is pointwise may follow.
    """

    base: fx.Node
    steps: tuple[Step, ...] = ()
    nodes: frozenset[fx.Node] = frozenset()
    spread: Spread | None = None

    def then(self, step: Step, *nodes: fx.Node) -> Chain:
        """The chain with one more step."""
        return replace(self, steps=(*self.steps, step), nodes=self.nodes.union(nodes))


class Numbers(NamedTuple):
    """A scale and a shift, before they are needed: values gives them in float64, () or (channels,), or None for 0.

    shifts: whether it adds anything; counted: whether it multiplies; fixed: whether it fits one number of channels.
    """

    values: Callable[[], tuple[torch.Tensor, torch.Tensor | None]]
    shifts: bool
    counted: bool
    fixed: bool


def convolution_step(
    module: Convolution, layer: ExpandedLayer, names: tuple[str, ...], size: tuple[int, ...], own: str | None
) -> Step:
    """A convolution module as a step, for an input of `size`; its layer may pad more than the module does."""
    channels = module.in_channels
    operations = macs(layer, channels, size)
    fresh = module not in EXACT and module.weight.dtype is not torch.float64
    return Step(layer, channels, lambda: exact_kernel(module), names, operations, own, fresh=fresh)


def phased_step(step: Step, factors: tuple[int, ...]) -> tuple[Step, Spread]:
    """A convolution of an image that is up-sampled by these factors as one of the image before."""
    layer, spread, axes = in_phases(step.layer, factors)
    return replace(
        step, layer=layer, kernel=lambda: kernel_in_phases(step.kernel(), spread, axes), own=None, fresh=False
    ), spread


def shuffled_step(step: Step, factor: int) -> tuple[Step, Spread]:
    """A dense convolution in front of a pixel shuffle, its outputs in the order in which they are spread."""

    def kernel() -> Kernel:
        return step.kernel().map(lambda rows: rows.unflatten(0, (-1, factor**2)).transpose(0, 1).flatten(0, 1))

    return replace(step, kernel=kernel, own=None, fresh=False), Spread(1, (factor, factor), (0, 0), (0, 0))


def behind_spread(step: Step, spread: Spread) -> Step:
    """A 1 x 1 convolution of what is spread as one of what it was before: the same for every phase."""

    def kernel() -> Kernel:
        return step.kernel().map(lambda numbers: numbers.repeat(spread.phases, *(1,) * (numbers.ndim - 1)))

    channels = step.in_channels * spread.phases
    layer = pointwise_in_phases(step.layer, spread)
    return replace(step, layer=layer, in_channels=channels, kernel=kernel, own=None, fresh=False)


def part_step(
    module: Convolution, layer: ExpandedLayer, channels: range, names: tuple[str, ...], size: tuple[int, ...]
) -> Step:
    """What a convolution makes of some of its input channels, its bias only of the first."""
    layer = replace(layer, bias=layer.bias and channels.start == 0)

    def kernel() -> Kernel:
        numbers = exact_kernel(module)
        return Kernel(numbers.weight[:, channels.start : channels.stop], numbers.bias if layer.bias else None)

    return Step(layer, len(channels), kernel, names, macs(layer, len(channels), size))


def numbers_of(module: nn.Module) -> Numbers:
    """An eval-mode BatchNorm."""
    return Numbers(lambda: scale_and_shift(module), shifts=True, counted=True, fixed=True)


def numbers_of_affine(found: Affine) -> Numbers:
    """A scale and a shift by constants."""
    return Numbers(lambda: (found.scale, found.shift), found.shift is not None, found.scales, found.fixed)


def folded(
    step: Step, numbers: Numbers, names: tuple[str, ...], outputs: Sequence[int], spread: Spread | None = None
) -> Step:
    """The step with a scale and a shift after it folded in; outputs: the shape of what they give, an image's."""
    if spread is not None:
        given = numbers.values
        numbers = numbers._replace(
            values=lambda: tuple(None if each is None else spread.each(each) for each in given())  # type: ignore[arg-type, return-value]
        )

    def kernel() -> Kernel:
        kernel = step.kernel()
        scale, shift = numbers.values()
        shift = torch.zeros_like(scale) if shift is None else shift
        fused = fuse_batch_norm(kernel, _each(scale, kernel.weight), _each(shift, kernel.weight), step.fresh)
        return fused if layer.bias else fused._replace(bias=None)

    layer = replace(step.layer, bias=step.layer.bias or numbers.shifts)
    if step.layer.bias and numbers.shifts and step.own is None and _cancel(step.kernel(), numbers):
        layer = replace(layer, bias=False)
    operations = step.operations + numbers.counted * math.prod(outputs)
    return replace(
        step,
        layer=layer,
        kernel=kernel,
        names=(*step.names, *names),
        operations=operations,
        own=None,
        fixed=step.fixed or numbers.fixed,
    )


def _cancel(kernel: Kernel, numbers: Numbers) -> bool:
    """Whether two shifts are one another's opposite, as a BatchNorm's and the subtraction of its value for zero are.

    Both are computed in float64, in whatever order the model writes them; what they leave of each other is rounding.
    """
    scale, shift = (_each(each, kernel.weight) for each in numbers.values() if each is not None)
    before = kernel.bias * scale  # type: ignore[operator]
    return bool(((before + shift).abs() <= CANCELLED * shift.abs()).all())


def lone_step(numbers: Numbers, names: tuple[str, ...], value: Value, own: str | None = None) -> Step:
    """A scale and a shift of a value as a 1-tap depthwise convolution."""
    alone = folded(_identity_step(value), numbers, names, value.shape[1:])
    operations = numbers.counted * math.prod(value.shape[1:])
    return replace(alone, operations=operations, own=own, lone=True)


def pooling_step(pool: Pool, names: tuple[str, ...], value: Value, own: str | nn.Module | None) -> Step:
    """An average pooling of a value as a depthwise convolution."""
    layer, channels = pool.layer, value.shape[1]

    def kernel() -> Kernel:
        shape, home = layer.weight_shape(channels), device_named(value.device).home()
        return Kernel(torch.full(shape, 1 / pool.divisor, dtype=torch.float64, device=home))

    return Step(layer, channels, kernel, names, macs(layer, channels, value.shape[2:]), own, fixed=False)


def padding_step(padding: tuple[int, ...], names: tuple[str, ...], value: Value) -> Step:
    """Zeros around a value as a depthwise convolution that pads them; only what is folded into it makes it one."""
    step = _identity_step(value)
    return replace(step, layer=replace(step.layer, padding=padding), names=names, lone=True)


def _each(numbers: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """One number for each of the weight's output channels."""
    return numbers.to(weight.device).expand(weight.shape[0]).clone()


def scale_and_shift(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """What an eval-mode BatchNorm multiplies by and adds, float64, (channels,) each."""
    mean, variance = wide(module.running_mean), wide(module.running_var)  # type: ignore[arg-type]
    scale = (variance + float(module.eps)).rsqrt()  # type: ignore[arg-type]
    if module.weight is not None:
        scale = scale * wide(module.weight)  # type: ignore[arg-type]
    shift = -mean * scale
    return scale, shift if module.bias is None else shift + wide(module.bias)  # type: ignore[arg-type]


def names_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """The modules, functions and methods that the steps stand for, each once."""
    return tuple(dict.fromkeys(name for step in steps for name in step.names))


def collapsed_step(chain: Chain) -> Step | str:
    """A branch as one step that equals it for every input, or why there is none."""
    if not chain.steps:
        return _identity_step(chain.base.meta["tensor"])
    if len(chain.steps) == 1:
        return chain.steps[0]
    layers = [step.layer for step in chain.steps]
    reason = not_mergeable(layers)
    if reason is not None:
        return reason

    def kernel() -> Kernel:
        return merge_stack([step.kernel() for step in chain.steps], layers, torch.float64)[0]

    return Step(
        merged_layer(layers),
        chain.steps[0].in_channels,
        kernel,
        names_of(chain.steps),
        sum(step.operations for step in chain.steps),
        fixed=any(step.fixed for step in chain.steps),
    )


def _identity_step(value: Value) -> Step:
    """A value as a convolution of itself."""
    channels, rank = value.shape[1], value.ndim - 2
    ones = torch.ones(channels, dtype=torch.float64, device=device_named(value.device).home())
    layer = pointwise(channels, rank, bias=False)
    return Step(layer, channels, lambda: diagonal(ones, None, rank), (), 0, fixed=False)


def joined_step(steps: Sequence[Step]) -> Step | str:
    """The sum of steps on one input as one step, or why there is none."""
    layers = [step.layer for step in steps]
    layer = joined_layer(layers)
    if isinstance(layer, str):
        return layer

    def kernel() -> Kernel:
        return joined_kernel([step.kernel() for step in steps], layers, layer)

    operations, fixed = sum(step.operations for step in steps), any(step.fixed for step in steps)
    return Step(layer, steps[0].in_channels, kernel, names_of(steps), operations, fixed=fixed)


def problem_of(steps: Sequence[Step], size: tuple[int, ...], batch: int) -> Problem:
    """The steps as a stack, for images of `size`."""
    layers = tuple(step.layer for step in steps)
    return Problem(", ".join(names_of(steps)) or "a sum", batch, steps[0].in_channels, size, layers)


def macs(layer: Layer, channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of one layer on one image of `channels` and `size`."""
    return Problem("layer", 1, channels, size, (layer,)).macs
