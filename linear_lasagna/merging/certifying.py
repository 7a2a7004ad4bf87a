"""The certificate of merged modules: what they are guaranteed to compute of the layers that they were merged from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import nn

from linear_lasagna.devices import wide
from linear_lasagna.formats import accumulator
from linear_lasagna.merging.border.kernels import block_kernels
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.border.plan import shapes
from linear_lasagna.merging.chain import Chain, as_few, joined, runs
from linear_lasagna.merging.fitting import Scaled
from linear_lasagna.merging.split import Split
from linear_lasagna.merging.stack import summed_kernel
from linear_lasagna.modules import CONVOLUTIONS, kernel_of, link_of
from linear_lasagna.problems import Kernel
from linear_lasagna.rounding.bounds import chained, layer_bound, merging_bound
from linear_lasagna.rounding.certificate import Certificate, Numbers, Reach, certificate, reach, start
from linear_lasagna.rounding.offsets import Spread, even, rounding_share
from linear_lasagna.rounding.underflow import Losses, losses, merged_kernel

EXACT = torch.float64


class Part(NamedTuple):
    """Layers in turn, their numbers exact in float64, and the module that computes them: a merged one, or the layer."""

    chain: Chain
    kernels: tuple[Kernel, ...]
    module: nn.Module


def certify(merged: nn.Module, convolutions: nn.Sequential | Iterable[nn.Module], largest: float) -> Certificate:
    """How far the outputs of what `merge` returned can be from the exact ones of the layers, for inputs |x| <= largest.

    merged: as `merge` gives it, or trained, cast or changed since: its numbers are compared with those of the layers as
    they are now, which are taken as exact. It holds for inputs of any size, whose numbers are of merged's dtype, on any
    processor that adds up products (`rounding.certificate` has the formula), unless it may round float32 to TF32 first:
    `switches.operands_rounded` tells. Of numbers of float64 what merging them in float64 loses is in the bound, but for
    what falls below 2**-1022 at the border. What it says of the layers' own rounding (`Certificate.rounding`) is for
    inputs evenly spread up to that size. Raises ValueError for a module that `merge` does not return.
    """
    modules: list[Any] = list(convolutions)
    chain = tuple(map(link_of, modules))
    found = certified([Part(chain, tuple(kernel_of(module).map(wide) for module in modules), merged)], largest)
    if found is None:
        raise ValueError(f"only what merge returns can be certified, not a {type(merged).__name__}")
    return found


@torch.no_grad()
def certified(parts: Sequence[Part], largest: float, inputs: Spread | None = None) -> Certificate | None:
    """The certificate of the parts in turn; None where a module is of no kind that is known here.

    inputs: None for even ones of at most that size.
    """
    first = parts[0]
    channels = first.kernels[0].weight.shape[1] * first.chain[0].layer.groups
    value = start(largest, channels, first.kernels[0].weight.device)
    ends = _through(parts, Ends(value, value))
    if ends is None:
        return None
    return certificate(largest, *ends, _left_out(parts, inputs or even(largest)))


def _left_out(parts: Sequence[Part], inputs: Spread) -> float:
    """What share the layers' own rounding has that the modules leave out, in the dtype of these."""
    links = [(place + 1 < len(part.chain), link) for part in parts for place, link in enumerate(part.chain)]
    kernels = [kernel for part in parts for kernel in part.kernels]
    used = used_numbers(parts[0].module)
    groups, gone = [link.layer.groups for _, link in links], [gone for gone, _ in links]
    return 0.0 if used is None else rounding_share(kernels, groups, gone, used[0].weight.dtype, inputs)


class Ends(NamedTuple):
    """What a value holds if 16-bit numbers are summed in any format, and if they are in float32."""

    narrow: Reach
    wide: Reach

    def joined(self, other: Ends) -> Ends:
        """What holds of both values."""
        return Ends(self.narrow.joined(other.narrow), self.wide.joined(other.wide))


def _through(parts: Sequence[Part], value: Ends) -> Ends | None:
    after: Ends | None = value
    for part in parts:
        after = None if after is None else _after(part, after)
    return after


def _after(part: Part, before: Ends) -> Ends | None:
    module: Any = part.module
    if isinstance(module, BorderExact):
        layers = [Part((link,), (kernel,), each) for link, kernel, each in zip(*part[:2], module.layers, strict=True)]
        apart, together = _through(layers, before), _bordered(part, module, before)
        return None if apart is None else apart.joined(together)  # which of them runs, depends on the image
    used = used_numbers(module)
    if used is None:
        return None
    scale = module.scale if isinstance(module, Scaled) else None
    return _computed(interior_numbers(part, used), part, before, scale, used[0].weight.dtype)


def used_numbers(module: Any) -> tuple[Kernel, ...] | None:
    """The kernels, in their dtype, whose sum the module convolves with: one, or two; None for no convolution.

    Inside the border, and before outputs are multiplied by powers of two.
    """
    if isinstance(module, Scaled):
        return used_numbers(module.convolution)
    if isinstance(module, (Split, BorderExact)):
        return module.used()
    return (kernel_of(module),) if isinstance(module, tuple(CONVOLUTIONS.values())) else None


def _bordered(part: Part, module: BorderExact, before: Ends) -> Ends:
    """What all outputs hold, those in the interior and those around it."""
    dtype = module.merged.weight.dtype
    every = [interior_numbers(part, module.used()), *border_numbers(part, module)]
    found = [_computed(numbers, part, before, module.scale, dtype) for numbers in every]
    return reduce(Ends.joined, found)


def _computed(numbers: Numbers, part: Part, before: Ends, scale: torch.Tensor | None, dtype: torch.dtype) -> Ends:
    """What the outputs hold; scale: by which powers of two they are multiplied afterwards, as the weights are not."""
    layer = joined(part.chain).layer
    powers = None if scale is None else wide(scale).flatten()
    if powers is not None:
        doubt = None if numbers.doubt is None else _divided(numbers.doubt, powers)
        numbers = numbers._replace(exact=_divided(numbers.exact, powers), doubt=doubt)
    sums = ((before.narrow, False), (before.wide, True))[: 1 if accumulator(dtype) is dtype else 2]
    found = [reach(each, numbers, layer.groups, layer.out_channels, dtype, wider) for each, wider in sums]
    found = found if powers is None else [each.scaled(powers, dtype) for each in found]
    return Ends(found[0], found[-1])


def _divided(kernel: Kernel, powers: torch.Tensor) -> Kernel:
    """A channel's rows, which may be several, divided by its power of two."""
    each = powers.repeat_interleave(len(kernel.weight) // len(powers))
    return kernel.map(lambda numbers: numbers / each.view(-1, *(1,) * (numbers.ndim - 1)))


def interior_numbers(part: Part, used: Sequence[Kernel]) -> Numbers:
    """The merged kernel's numbers, one row per output channel."""
    layers = [link.layer for link in part.chain]
    rows = tuple(_rows(kernel, kernel.weight.shape[1]) for kernel in used)
    if len(layers) == 1:
        return Numbers(_rows(part.kernels[0], rows[0].weight.shape[1]), None, rows)
    exact = summed_kernel(part.kernels, layers, EXACT)
    sizes = merged_kernel(part.kernels, layers, Losses(0.0, 0.0, 0.0), losses(EXACT, EXACT, True))
    in_channels = part.kernels[0].weight.shape[1] * layers[0].groups
    relative = merging_bound(layers, in_channels, EXACT)
    weight, bias = (_doubt(*each, relative) for each in zip(sizes.numbers, sizes.lost, strict=True))
    doubt = Kernel(weight, bias)
    per_group = exact.weight.shape[1]
    return Numbers(_rows(exact, per_group), _rows(doubt, per_group), rows)


def _doubt(size: torch.Tensor | None, lost: torch.Tensor | None, relative: float) -> Any:
    return None if size is None or lost is None else relative * size + (1 + relative) * lost


def border_numbers(part: Part, module: BorderExact) -> list[Numbers]:
    """The numbers of the kernels around the interior, several rows per output channel."""
    in_channels = part.kernels[0].weight.shape[1] * part.chain[0].layer.groups
    per_group = in_channels // joined(part.chain).layer.groups
    known = shapes(part.chain, in_channels)
    exact = block_kernels(part.kernels, part.chain, known, EXACT)
    sizes = block_kernels([kernel.map(torch.abs) for kernel in part.kernels], part.chain, known, EXACT)
    used: list[Any] = list(module.border)
    found = []
    for true, size, each in zip(exact, sizes, used, strict=True):
        relative = _border_bound(part, true.weight.shape[1])
        doubt = Kernel(size.weight * relative, None if size.bias is None else size.bias * relative)
        rows = [_rows(kernel, per_group) for kernel in (true, doubt, kernel_of(each))]
        found.append(Numbers(rows[0], rows[1], (rows[2],)))
    return found


def _border_bound(part: Part, columns: int) -> float:
    """A bound on the relative error of a border kernel, merged in float64 by transposed convolutions of its outputs.

    columns: numbers of a row.
    """
    place, bounds = 0, []
    for run in runs(part.chain):
        layers = [link.layer for link in run]
        if len(run) > 1:
            in_channels = part.kernels[place].weight.shape[1] * layers[0].groups
            bounds.append(merging_bound(layers, in_channels, EXACT))
        place += len(run)
    for link in as_few(part.chain):
        sums = link.layer.out_channels * (link.layer.taps + 1) + columns + 2
        bounds.append(layer_bound(sums, 1, EXACT))
    return chained(bounds)


def _rows(kernel: Kernel, channels: int) -> Kernel:
    """weight: (rows, in / groups, taps)."""
    return Kernel(kernel.weight.reshape(len(kernel.weight), channels, -1), kernel.bias)
