"""What merging finds in a model: steps, chains of them, and runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from linear_lasagna.devices import device_named, wide
from linear_lasagna.merging import merge_stack, merged_layer, not_mergeable
from linear_lasagna.models.reparameterization import diagonal, fuse_batch_norm, joined_kernel, joined_layer, pointwise
from linear_lasagna.models.tracing import Value
from linear_lasagna.modules import Convolution, kernel_of
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer, Problem


@dataclass(frozen=True, eq=False)
class Step:
    """One convolution that a run can be computed by.

    kernel: gives its numbers in float64, when they are needed. names: of the modules that it stands for.
    operations: multiply-accumulates per image of what it stands for, as the model computes it; BatchNorm takes one
    per output, additions none. target: the module that is this step unchanged, or None. lone: whether it is nothing but
    a BatchNorm.
    """

    layer: ExpandedLayer
    in_channels: int
    kernel: Callable[[], Kernel]
    names: tuple[str, ...]
    operations: int
    target: str | None = None
    lone: bool = False


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps applied in turn to the value of `base`. nodes: all that they stand for."""

    base: fx.Node
    steps: tuple[Step, ...] = ()
    nodes: frozenset[fx.Node] = frozenset()

    def then(self, step: Step, *nodes: fx.Node) -> Chain:
        """The chain with one more step."""
        return replace(self, steps=(*self.steps, step), nodes=self.nodes.union(nodes))


def convolution_step(module: Convolution, layer: ExpandedLayer, target: str, size: tuple[int, ...]) -> Step:
    """A convolution module as a step, for an input of `size`."""
    channels = module.in_channels
    operations = macs(layer, channels, size)
    return Step(layer, channels, lambda: kernel_of(module).map(wide), (target,), operations, target)


def normalised(step: Step, module: nn.Module, target: str, size: tuple[int, ...]) -> Step:
    """The step with an eval-mode BatchNorm after it folded in; size: of their output."""

    def kernel() -> Kernel:
        return fuse_batch_norm(step.kernel(), *scale_and_shift(module))

    layer, names = replace(step.layer, bias=True), (*step.names, target)
    operations = step.operations + layer.out_channels * math.prod(size)
    return Step(layer, step.in_channels, kernel, names, operations, lone=step.lone)


def normalisation_step(module: nn.Module, target: str, size: tuple[int, ...]) -> Step:
    """An eval-mode BatchNorm as a 1-tap depthwise convolution."""
    channels, rank = int(module.num_features), len(size)  # type: ignore[arg-type]
    layer = pointwise(channels, rank, bias=True)

    def kernel() -> Kernel:
        return diagonal(*scale_and_shift(module), rank)

    return Step(layer, channels, kernel, (target,), macs(layer, channels, size), target, lone=True)


def scale_and_shift(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """What an eval-mode BatchNorm multiplies by and adds, float64, (channels,) each."""
    mean, variance = wide(module.running_mean), wide(module.running_var)  # type: ignore[arg-type]
    scale = (variance + float(module.eps)).rsqrt()  # type: ignore[arg-type]
    if module.weight is not None:
        scale = scale * wide(module.weight)  # type: ignore[arg-type]
    shift = -mean * scale
    return scale, shift if module.bias is None else shift + wide(module.bias)  # type: ignore[arg-type]


def names_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """The modules that the steps stand for, each once."""
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

    operations = sum(step.operations for step in chain.steps)
    return Step(merged_layer(layers), chain.steps[0].in_channels, kernel, names_of(chain.steps), operations)


def _identity_step(value: Value) -> Step:
    """A value as a convolution of itself."""
    channels, rank = value.shape[1], value.ndim - 2
    ones = torch.ones(channels, dtype=torch.float64, device=device_named(value.device).home())
    return Step(pointwise(channels, rank, bias=False), channels, lambda: diagonal(ones, None, rank), (), 0)


def joined_step(steps: Sequence[Step]) -> Step | str:
    """The sum of steps on one input as one step, or why there is none."""
    layers = [step.layer for step in steps]
    layer = joined_layer(layers)
    if isinstance(layer, str):
        return layer

    def kernel() -> Kernel:
        return joined_kernel([step.kernel() for step in steps], layers, layer)

    return Step(layer, steps[0].in_channels, kernel, names_of(steps), sum(step.operations for step in steps))


def problem_of(steps: Sequence[Step], size: tuple[int, ...], batch: int) -> Problem:
    """The steps as a stack, for images of `size`."""
    layers = tuple(step.layer for step in steps)
    return Problem(", ".join(names_of(steps)), batch, steps[0].in_channels, size, layers)


def macs(layer: Layer, channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of one layer on one image of `channels` and `size`."""
    return Problem("layer", 1, channels, size, (layer,)).macs
