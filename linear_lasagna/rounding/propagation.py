"""Propagation of exact values and rounding errors through a layer and through a stack."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from linear_lasagna.formats import SIGNIFICAND_BITS, ulp
from linear_lasagna.methods.direct import direct
from linear_lasagna.metrics import relative_l2
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.accumulation import accumulation, assumed, followed
from linear_lasagna.rounding.emulation import accumulations
from linear_lasagna.rounding.replay import running_format
from linear_lasagna.rounding.summation_tree import Accumulation, Order, bias_first
from linear_lasagna.rounding.variance import SHARP, Error, layer_error, storage_error


class Ground(NamedTuple):
    """What errors rest on. seen: how many different errors, the fewest in any layer; assumed: an order not found."""

    seen: float = math.inf
    assumed: bool = False

    def worst(self, other: Ground) -> Ground:
        """Of both."""
        return Ground(min(self.seen, other.seen), self.assumed or other.assumed)


class KernelErrors(NamedTuple):
    """Mean and variance of the errors of a kernel's numbers, each shaped as the kernel is.

    drawn: of the weight's part that is not known, (draws, *shape); None where its numbers err independently.
    """

    mean: Kernel
    variance: Kernel
    ground: Ground = Ground()
    drawn: torch.Tensor | None = None

    @property
    def known(self) -> bool:
        """Whether they are, so that the numbers in use are those that are predicted."""
        parts = [part for part in self.variance if part is not None]
        return not self.ground.assumed and not any(bool(part.any()) for part in parts)


class ErrorMoments(NamedTuple):
    """Exact values up to float64; mean and variance of the errors of what is computed instead; all of one shape.

    drawn: of the part that is not known, with this variance on average, and with its covariances: (draws, *shape),
    None where none are drawn.
    """

    value: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    drawn: torch.Tensor | None = None
    ground: Ground = Ground()

    def map(self, f: Callable[[torch.Tensor], torch.Tensor]) -> ErrorMoments:
        """f of each tensor, and of each draw."""
        drawn = None if self.drawn is None else torch.stack([f(each) for each in self.drawn])
        return ErrorMoments(f(self.value), f(self.mean), f(self.variance), drawn, self.ground)

    def relative_l2(self) -> float:
        """Root of the expected square of the relative L2 error; 0 where nothing is lost, inf where all values are 0."""
        return relative_l2(torch.stack([self.mean, self.variance.sqrt()]), self.value)


def exactly(values: torch.Tensor, draws: int = 0) -> ErrorMoments:
    """Values without error, of which so many are drawn."""
    zero = torch.zeros_like(values)
    return ErrorMoments(values, zero, zero, zero.expand(draws, *zero.shape) if draws else None)


def settled(x: ErrorMoments, dtype: torch.dtype) -> bool:
    """Whether what is computed is known nearly all to the last bit, so that what comes of it is, too."""
    if dtype is torch.float64:
        return not bool(x.mean.any() or x.variance.any())
    return float(x.variance.sum()) <= float((SHARP * ulp(x.value + x.mean, dtype)).square().sum())


@dataclass(frozen=True)
class Setting:
    """Where a stack is computed: storage dtype, device, method; the order that is assumed where none can be found.

    random: what errors are drawn with, on the CPU.
    """

    dtype: torch.dtype
    device: str
    method: str
    unknown: Order = bias_first
    random: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0), compare=False)


def propagate(
    x: ErrorMoments, kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], setting: Setting
) -> ErrorMoments:
    """Propagate values and rounding errors through the layers in turn. kernels: exact, float64."""
    for kernel, layer in zip(kernels, layers, strict=True):
        x = propagate_layer(x, kernel, layer, setting)
    return x


def propagate_layer(
    x: ErrorMoments, kernel: Kernel, layer: ExpandedLayer, setting: Setting, errors: KernelErrors | None = None
) -> ErrorMoments:
    """Propagate values and rounding errors through one layer.

    x: exact values with mean and variance of their errors
    kernel: exact, float64
    errors: mean and variance of the errors of the kernel in use; None if it is exact
    """
    shape = x.value.shape
    how = accumulation(setting.method, layer, shape, setting.dtype, setting.device)
    ground = x.ground if errors is None else x.ground.worst(errors.ground)
    found = how.order is not None
    sure = found and settled(x, setting.dtype)
    if errors is not None:
        sure = sure and errors.known and setting.dtype is not torch.float64  # in which the kernel's value is not known
    if not found:
        how = assumed(setting.method, layer, shape, setting.dtype, setting.unknown)
        ground = ground.worst(Ground(assumed=True))
    y, mean = direct(x.value, kernel, layer), direct(x.mean, Kernel(kernel.weight), layer)
    variance = direct(x.variance, Kernel(kernel.weight.square()), layer)
    drawn = None if x.drawn is None else carried(x.drawn, kernel, layer)
    used = kernel
    if errors is not None:
        weight, shift = errors.mean
        used = Kernel(kernel.weight + weight, None if kernel.bias is None or shift is None else kernel.bias + shift)
        mean = mean + direct(x.value + x.mean, errors.mean, layer)
        variance = variance + direct(x.value.square(), errors.variance, layer)
        drawn = None if drawn is None else drawn + of_kernels(x.value, errors, layer, len(drawn), setting)
    if drawn is not None:
        variance = variance * scale_of(variance, drawn)
    # What is rounded is not the exact result but what is left of it.
    rounded = x.value + x.mean, used, layer
    own = added_up(*rounded, setting, how, sure) if found else layer_error(*rounded, setting.dtype, how, None)
    mean, variance = mean + own.mean, variance + own.variance
    fresh = own.variance
    if how.bits > SIGNIFICAND_BITS[setting.dtype]:
        # The running sum is a number of its own format: so ties stay ties.
        running = running_format(how, setting.dtype).round((y + mean).cpu().numpy())
        last = storage_error(torch.from_numpy(running).to(y.device), setting.dtype, variance)
        mean, variance, fresh = mean + last.mean, variance + last.variance, fresh + last.variance
    if drawn is not None:
        drawn = drawn + fresh.sqrt() * noise(y, len(drawn), setting.random)
    return ErrorMoments(y, mean, variance, drawn, ground.worst(Ground(own.seen)))


def added_up(
    x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer, setting: Setting, how: Accumulation, sure: bool
) -> Error:
    """`layer_error`, of outputs that the method was found to add up otherwise than most, as it was found.

    how: that of most; sure: whether the numbers are known that are added up.
    """
    asked = (setting.method, layer, tuple(x.shape), setting.dtype, setting.device)
    alike = followed(how, *asked)
    own = layer_error(x, kernel, layer, setting.dtype, how, alike if sure else None)
    for other in () if bool(alike.all()) else accumulations(*asked):
        fresh = followed(other, *asked) & ~alike
        if bool(fresh.any()):
            theirs = layer_error(x, kernel, layer, setting.dtype, other, fresh if sure else None)
            mean, variance = (torch.where(fresh, *pair) for pair in zip(theirs[:2], own[:2], strict=True))
            own = Error(mean, variance, own.seen)
            alike = alike | fresh
    return own


def scale_of(variance: torch.Tensor, drawn: torch.Tensor) -> float:
    """By how much variances are larger in all where errors are not independent: as those that are drawn are."""
    independent = float(variance.sum())
    return float(drawn.square().sum()) / len(drawn) / independent if independent else 1.0


def carried(drawn: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> torch.Tensor:
    """Drawn errors through a layer: (draws, batch, in, *size) -> (draws, batch, out, *output_size)."""
    return direct(drawn.flatten(0, 1), Kernel(kernel.weight), layer).unflatten(0, drawn.shape[:2])


def of_kernels(
    x: torch.Tensor, errors: KernelErrors, layer: ExpandedLayer, draws: int, setting: Setting
) -> torch.Tensor | float:
    """What drawn errors of a kernel make of x: (draws, batch, out, *output_size). One kernel serves all positions."""
    if not any(part is not None and bool(part.any()) for part in errors.variance):
        return 0.0
    weight, bias = errors.variance
    weights = errors.drawn
    if weights is None:
        weights = weight.sqrt() * noise(weight, draws, setting.random, alike=False)
    shifts = [None] * draws if bias is None else bias.sqrt() * noise(bias, draws, setting.random, alike=False)
    return torch.stack([direct(x, Kernel(*each), layer) for each in zip(weights, shifts, strict=True)])


def noise(y: torch.Tensor, draws: int, random: torch.Generator, alike: bool = True) -> torch.Tensor:
    """Normal numbers, (draws, *y.shape) float64; alike: the same for outputs that are the same, as of constant images:
    they see the same, and err the same.
    """
    if not alike:
        return torch.randn(draws, *y.shape, generator=random, dtype=torch.float64).to(y.device)
    kinds, kind = torch.unique(y.float(), return_inverse=True)
    normal = torch.randn(draws, len(kinds), generator=random, dtype=torch.float64)
    return normal[:, kind.cpu()].to(y.device)
