"""Merging that is right at the border too: one merged convolution, then the outputs that it gets wrong anew.

These are the `regions.faces` around the interior. Each is computed from the input alone, by windows and one matrix
product with a merged kernel of its own (`faces`), and takes as many products as the merged convolution takes there.
Every output equals the stack's up to rounding.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from linear_lasagna.exact.regions import Crop
from linear_lasagna.merging.chain import Chain, chained, joined, runs, sizes_of
from linear_lasagna.merging.faces import face_kernel
from linear_lasagna.merging.regions import Face, Shape, face_layer, faces, interior, whole
from linear_lasagna.merging.stack import moved, not_mergeable, summed_kernel, unlike, working_place
from linear_lasagna.methods import METHODS, Call
from linear_lasagna.problems import ExpandedLayer, Kernel

# Numbers in the kernels of all faces: 64 MiB in float32. Beyond that (corners of deep stacks in three dimensions) they
# would cost more to read than merging saves, and the stack runs.
LARGEST = 2**24
# Of all methods the fastest on most faces, which are few outputs, of many channels, from thin crops.
FACE_METHOD = METHODS["strided_matmul"]


class Plan(NamedTuple):
    """How one size of input is computed.

    inner: the merged layer, with the padding that it adds itself to `need`; layers: those of the faces, without
    padding. Per image, operations: multiply-accumulates; window_numbers: laid out for the faces' products.
    kernel_numbers: in the faces' kernels.
    """

    inner: ExpandedLayer
    need: Crop
    faces: tuple[Face, ...]
    layers: tuple[ExpandedLayer, ...]
    operations: int
    window_numbers: int
    kernel_numbers: int


def plan(chain: Chain, in_channels: int, size: tuple[int, ...]) -> Plan | None:
    """How an input of this size is computed, or None where the stack has to run.

    So it does where no output is interior, and where the faces' kernels have more than `LARGEST` numbers.
    """
    links = as_few(chain)
    inside = interior(links, size)
    if inside is None:
        return None
    found = faces(links, size, inside)
    layers = tuple(face_layer(links, face.shape) for face in found)
    numbers = [layer.out_channels * layer.fan_in(in_channels) for layer in layers]
    if sum(numbers) > LARGEST:
        return None
    inner, need = whole(links, size)
    places = [math.prod(face.sliding) for face in found]
    operations = layer_operations(inner, in_channels, sizes_of(links, size)[-1])
    operations += sum(map(operator.mul, places, numbers))
    windows = sum(place * in_channels * layer.taps for place, layer in zip(places, layers, strict=True))
    return Plan(inner, need, found, layers, operations, windows, sum(numbers))


def as_few(chain: Chain) -> Chain:
    """The chain with every run that merges into one link, right everywhere, merged."""
    return tuple(joined(run) for run in runs(chain))


def layer_operations(layer: ExpandedLayer, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of a layer that has outputs of this size."""
    return math.prod(size) * layer.out_channels * layer.fan_in(in_channels)


def stack_operations(chain: Chain, in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of the stack, layer after layer."""
    total, channels = 0, in_channels
    for link, block in zip(chain, sizes_of(chain, size)[1:], strict=True):
        total += layer_operations(link.layer, channels, block)
        channels = link.layer.out_channels
    return total


def border_operations(layers: Sequence[ExpandedLayer], in_channels: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of `border_exact`: the merged layer and the faces; the stack's where it runs."""
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
    """call(x) -> y: every output of the stack up to rounding, from merged kernels.

    x: (batch, in, *size), of the kernels' dtype and of this very size. Kernels are merged in `merge_dtype` and rounded
    to their own dtype, beforehand. The merged convolution is computed with the method, the border by windows and matrix
    products; where no output is interior, the stack runs. Raises NotImplementedError with the reason where the method
    cannot compute a layer, ValueError where the layers are no stack.
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
    shaped = face_kernels(kernels, chain, [face.shape for face in found.faces], merge_dtype)
    outer = [FACE_METHOD.prepare(kernel, layer) for kernel, layer in zip(shaped, found.layers, strict=True)]
    return lambda x: compute(x, found, inner, outer)


def face_kernels(
    kernels: Sequence[Kernel], chain: Chain, shapes: Sequence[Shape], merge_dtype: torch.dtype
) -> list[Kernel]:
    """One kernel per shape, merged in `merge_dtype`, in the dtype and on the device of the given ones."""
    weight = kernels[0].weight
    place = working_place(weight.device, merge_dtype)
    parts = run_kernels([moved(kernel, place, merge_dtype) for kernel in kernels], runs(chain), merge_dtype)
    found = (face_kernel(as_few(chain), parts, shape) for shape in shapes)
    return [moved(kernel, weight.device, weight.dtype) for kernel in found]


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

    inner: the convolution of `found.inner`; outer: those of `found.layers`.
    """
    if x.ndim == len(found.inner.padding) + 1:
        return compute(x[None], found, inner, outer)[0]
    y = inner(take(x, found.need, found.inner.padding))
    for face, call in zip(found.faces, outer, strict=True):
        place = y
        for axis, (start, stop) in enumerate(face.box, start=2):
            place = place.narrow(axis, start, stop - start)
        place.copy_(unfolded(call(take(x, face.need)), face.shape))
    return y


def unfolded(y: torch.Tensor, shape: Shape) -> torch.Tensor:
    """(batch, out * counts, *size), 1 on the counted axes -> (batch, out, *size), the counts there."""
    counts = [count or 1 for count in shape.counts]
    if max(counts) == 1:
        return y
    rank = len(counts)
    apart = y.unflatten(1, (-1, *counts))
    order = [axis for pair in zip(range(2, 2 + rank), range(2 + rank, 2 + 2 * rank), strict=True) for axis in pair]
    sizes = [count * length for count, length in zip(counts, y.shape[2:], strict=True)]
    return apart.permute(0, 1, *order).reshape(y.shape[0], apart.shape[1], *sizes)


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
