"""Merging that is right at the border too: the merged kernel inside, the stack itself on the thin rest.

The rest is cut into strips (`regions`), two per axis at most. Each is computed on the crop that it needs, with the
zeros that the layers pad put around it: by the stack, or by the stack after merging those runs whose border merging
leaves alone, whichever takes fewer operations. Every output equals the stack's up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch.nn import functional

from linear_lasagna.exact.regions import Crop, size_of
from linear_lasagna.merging.chain import Chain, chained, joined, runs, sizes_of
from linear_lasagna.merging.regions import (
    Regions,
    Strip,
    interior,
    operations,
    regions,
    strip_operations,
    strips_of,
)
from linear_lasagna.merging.stack import not_mergeable, summed_kernel, unlike
from linear_lasagna.methods import METHODS, Call
from linear_lasagna.problems import ExpandedLayer, Kernel


class Plan(NamedTuple):
    """How one size of input is computed.

    inner: the merged layer, with the padding that it adds itself to the block's crop; outer: the layers of the
    strips, without padding, each merged from the run of the stack's layers in `runs`. operations: multiply-accumulates
    per image.
    """

    regions: Regions
    inner: ExpandedLayer
    outer: tuple[ExpandedLayer, ...]
    runs: tuple[Chain, ...]
    operations: int


def plan(chain: Chain, in_channels: int, size: tuple[int, ...]) -> Plan | None:
    """How an input of this size is computed, or None where no output is interior and the stack has to run."""
    groupings = (runs(chain), tuple((link,) for link in chain))
    inner = interior([joined(run) for run in groupings[0]], size)
    if inner is None:
        return None
    merged, unpadded = joined(chain), (0,) * len(size)
    plans = []
    for grouping in groupings:
        links = [joined(run) for run in grouping]
        found = regions(links, size, inner)
        # Zeros on both sides the convolution adds itself, without a copy.
        padding = tuple(max(0, min(ends)) for ends in zip(found.need.before, found.need.after, strict=True))
        inside = operations([merged], in_channels, [size_of(found.block)])
        strips = sum(strip_operations(links, in_channels, each) for each in strips_of(found))
        outer = tuple(replace(link.layer, padding=unpadded) for link in links)
        plans.append(Plan(found, replace(merged.layer, padding=padding), outer, grouping, inside + strips))
    return min(plans, key=lambda each: each.operations)


def stack_operations(chain: Chain, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of the stack, layer after layer."""
    return operations(chain, in_channels, sizes_of(chain, size)[1:])


def border_operations(layers: Sequence[ExpandedLayer], in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of `border_exact`: interior and strips; the stack's where nothing is interior."""
    chain = chained(layers)
    found = plan(chain, in_channels, size)
    return stack_operations(chain, in_channels, size) if found is None else found.operations


def not_border_mergeable(layers: Sequence[ExpandedLayer]) -> str | None:
    """Why border-exact merging has nothing to do for these layers, or None where it has."""
    if not unlike(layers):
        if len(layers) == 1:
            return "a single layer has nothing to merge"
        if not_mergeable(layers) is None:
            return "no padding between the layers changes the border: it is the plain merged convolution"
    return unlike(layers)


def border_exact(
    kernels: Sequence[Kernel],
    layers: Sequence[ExpandedLayer],
    size: tuple[int, ...],
    method: str = "direct",
    merge_dtype: torch.dtype = torch.float64,
) -> Call:
    """call(x) -> y: every output of the stack up to rounding, most of them from the merged kernel.

    x: (batch, in, *size), of the kernels' dtype and of this very size. Kernels are merged in `merge_dtype` and rounded
    to their own dtype, beforehand. Interior and strips are computed with the method; where no output is interior, the
    stack is. Raises NotImplementedError with the reason where the method cannot compute a layer, ValueError where the
    layers are no stack.
    """
    reason = unlike(layers)
    if reason is not None:
        raise ValueError(reason)
    chosen, chain = METHODS[method], chained(layers)
    found = plan(chain, kernels[0].weight.shape[1] * layers[0].groups, size)
    if found is None:
        calls = [chosen.prepare(kernel, layer) for kernel, layer in zip(kernels, layers, strict=True)]
        return lambda x: in_turn(x, calls)
    inner = chosen.prepare(summed_kernel(kernels, layers, merge_dtype), found.inner)
    parts = zip(run_kernels(kernels, found.runs, merge_dtype), found.outer, strict=True)
    outer = [chosen.prepare(kernel, layer) for kernel, layer in parts]
    return lambda x: compute(x, found, inner, outer)


def run_kernels(kernels: Sequence[Kernel], grouping: Sequence[Chain], merge_dtype: torch.dtype) -> list[Kernel]:
    """One kernel per run; a run of one layer keeps its own."""
    found, start = [], 0
    for run in grouping:
        part = kernels[start : start + len(run)]
        layers = [link.layer for link in run]
        found.append(part[0] if len(run) == 1 else summed_kernel(part, layers, merge_dtype))
        start += len(run)
    return found


def compute(x: torch.Tensor, found: Plan, inner: Call, outer: Sequence[Call]) -> torch.Tensor:
    """All outputs for x ([batch,] channels, *size).

    inner: the convolution of `found.inner`; outer: those of `found.outer`.
    """
    if x.ndim == len(found.inner.padding) + 1:
        return compute(x[None], found, inner, outer)[0]
    y = inner(take(x, found.regions.need, found.inner.padding))
    for axis, ((start, stop), (origin, _)) in enumerate(zip(found.regions.interior, found.regions.block, strict=True)):
        y = y.narrow(axis + 2, start - origin, stop - start)
    for axis, (pair, alike) in reversed(list(enumerate(zip(found.regions.strips, found.regions.alike, strict=True)))):
        before, after = _strips(x, pair, alike, outer)
        around = [part for part in (before, y, after) if part is not None]
        y = torch.cat(around, axis + 2) if len(around) > 1 else y
    return y


def _strips(
    x: torch.Tensor, pair: tuple[Strip | None, Strip | None], alike: bool, calls: Sequence[Call]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The outputs of the strips before and after the interior; in one batch where they are alike.

    A thin image costs more by the call than by the operation, and is too little work for several threads.
    """
    present = [each for each in pair if each is not None]
    if alike:
        first, second = _strip(x, present, calls)
        return first, second
    first, second = (None if each is None else _strip(x, [each], calls)[0] for each in pair)
    return first, second


def _strip(x: torch.Tensor, strips: Sequence[Strip], calls: Sequence[Call]) -> Sequence[torch.Tensor]:
    """The outputs of strips that are alike, computed as one batch."""
    parts: Sequence[torch.Tensor] = [take(x, each.crops[0]) for each in strips]
    batch = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
    for index, call in enumerate(calls):
        batch = call(together(parts, [each.crops[index] for each in strips]) if index else batch)
        parts = batch.chunk(len(strips))
    return parts


def together(parts: Sequence[torch.Tensor], needs: Sequence[Crop]) -> torch.Tensor:
    """One batch of all parts (batch, channels, *size), each with its own crop's zeros; they are alike in size then."""
    if any(min(*need.before, *need.after) < 0 for need in needs):
        return torch.cat([zeros_around(part, need) for part, need in zip(parts, needs, strict=True)])
    if not any(any(need.before) or any(need.after) for need in needs):
        return torch.cat(list(parts)) if len(parts) > 1 else parts[0]
    # Written once: padding each part and then joining them would write every number three times.
    count, channels, *size = parts[0].shape
    padded = (sum(ends) for ends in zip(needs[0].before, size, needs[0].after, strict=True))
    whole = parts[0].new_empty((len(needs) * count, channels, *padded))
    for index, (part, need) in enumerate(zip(parts, needs, strict=True)):
        target = whole.narrow(0, index * count, count)
        for axis, (before, after) in enumerate(zip(need.before, need.after, strict=True), start=2):
            length = target.shape[axis] - before - after
            target.narrow(axis, 0, before).zero_()
            target.narrow(axis, before + length, after).zero_()
            target = target.narrow(axis, before, length)
        target.copy_(part)
    return whole


def take(x: torch.Tensor, need: Crop, padding: Sequence[int] | None = None) -> torch.Tensor:
    """The part of x (…, *size) that is needed, with its zeros around it but for `padding` of them on both sides."""
    for axis, (start, stop) in enumerate(need.box, start=x.ndim - len(need.box)):
        x = x.narrow(axis, start, stop - start)
    return zeros_around(x, need, padding)


def zeros_around(x: torch.Tensor, need: Crop, padding: Sequence[int] | None = None) -> torch.Tensor:
    """x with the crop's zeros, but for `padding` of them on both sides.

    Where only zeros are needed, a negative number of them says how much is too much: it is cut off once they are there.
    """
    padding = padding or (0,) * len(need.box)
    pads = [(b - p, a - p) for b, a, p in zip(need.before, need.after, padding, strict=True)]
    if any(max(ends) > 0 for ends in pads):
        x = functional.pad(x, [max(0, zeros) for ends in reversed(pads) for zeros in ends])
    for axis, ends in enumerate(pads, start=x.ndim - len(pads)):
        if min(ends) < 0:
            before, after = (max(0, -zeros) for zeros in ends)
            x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


def in_turn(x: torch.Tensor, calls: Sequence[Call]) -> torch.Tensor:
    """All calls, one after another."""
    for call in calls:
        x = call(x)
    return x
