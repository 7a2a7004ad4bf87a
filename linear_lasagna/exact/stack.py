"""The whole stack modulo enough primes: from a tensor to the Chinese remainder digits of its exact result."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from linear_lasagna.exact import primes as system
from linear_lasagna.exact.plan import Plan, Step
from linear_lasagna.exact.products import Pattern, arrange, multiply
from linear_lasagna.exact.residues import Buffers, extend, powers, reduce, residues
from linear_lasagna.exact.scaling import limbs
from linear_lasagna.geometry import Box, Crop, crops, size_of

CHUNK_BYTES = 2**26
GROUP_BYTES = 2**23


class Chunk(NamedTuple):
    """A part of the result: samples from first to last, a box of positions; bytes of its largest residues."""

    samples: tuple[int, int]
    box: Box
    size: int


def digits(x: torch.Tensor, plan: Plan, box: Box) -> torch.Tensor:
    """Digits (primes, samples, out channels, *size of box), float32, of `box` of the last layer's output."""
    shape = (len(plan.steps[-1].primes), len(x), plan.layers[-1].out_channels, *size_of(box))
    result = torch.empty(shape, dtype=torch.float32, device=x.device)
    buffers = Buffers(x.device)
    for (first, last), part, size in _chunks(x.shape, plan, box):
        # The largest first: blocks that grow are blocks of fresh memory.
        buffers.take("images 0", size // 8)
        buffers.take("images 1", size // 8)
        target = result[:, first:last]
        for axis, ((start, stop), (origin, _)) in enumerate(zip(part, box, strict=True), start=3):
            target = target.narrow(axis, start - origin, stop - start)
        windows = crops(plan.layers, tuple(x.shape[2:]), part)
        target.copy_(_stack(x[first:last], plan, windows, buffers).transpose(1, 2))
    return result


def _chunks(shape: torch.Size, plan: Plan, box: Box) -> Iterator[Chunk]:
    """Chunks of an input of this shape that take CHUNK_BYTES or less, unless a single output takes more."""
    samples, channels, *size = shape
    pending = [((0, samples), box)]
    while pending:
        (first, last), part = pending.pop()
        windows = crops(plan.layers, tuple(size), part)
        needed = (last - first) * _bytes_per_sample(plan, channels, windows)
        lengths = size_of(part)
        middle = (first + last) // 2
        if needed <= CHUNK_BYTES or (last - first == 1 and max(lengths) == 1):
            yield Chunk((first, last), part, needed)
        elif last - first > 1:
            pending += [((middle, last), part), ((first, middle), part)]
        else:
            axis = lengths.index(max(lengths))
            start, stop = part[axis]
            for half in (((start + stop) // 2, stop), (start, (start + stop) // 2)):
                pending.append(((first, last), (*part[:axis], half, *part[axis + 1 :])))


def _bytes_per_sample(plan: Plan, channels: int, windows: Sequence[Crop]) -> int:
    """Largest residues of one sample: a layer's padded input, or its output."""
    largest = 0
    for step, crop in zip(plan.steps, windows, strict=True):
        outputs = (len(step.following) + 1) * step.layer.out_channels
        rows = max(len(step.primes) * channels, outputs)
        largest = max(largest, 8 * rows * math.prod(crop.padded))
        channels = step.layer.out_channels
    return largest


def _stack(x: torch.Tensor, plan: Plan, windows: Sequence[Crop], buffers: Buffers) -> torch.Tensor:
    """Digits (primes, out channels, samples, *size), a view, of one chunk; x: (samples, channels, *size)."""
    for axis, (start, stop) in enumerate(windows[0].box, start=2):
        x = x.narrow(axis, start, stop - start)
    numbers, primes = limbs(x.transpose(0, 1), plan.span), plan.steps[0].primes
    images = buffers.take("images 1", len(primes), *numbers.values.shape[1:])
    table = powers(numbers, primes, [1] * len(primes))
    residues(numbers.values.flatten(1), table, primes, images.flatten(1), buffers)
    for index, (step, crop) in enumerate(zip(plan.steps, windows, strict=True)):
        images = arrange(images, step.layer, crop, buffers)
        pattern = Pattern(step.layer, images)
        # One more row than the next layer needs: scratch for the extension.
        shape = (len(step.following) + 1, step.layer.out_channels, pattern.length)
        out = buffers.take(f"images {index % 2}", *shape)
        _layer(out[: len(step.primes)], images, step, pattern, buffers)
        extend(out.flatten(1), step.following, len(step.primes), buffers)
        images = pattern.valid(out[:-1])
    return images


def _layer(out: torch.Tensor, images: torch.Tensor, step: Step, pattern: Pattern, buffers: Buffers) -> None:
    """One layer's digits, into out (k, out channels, length). images: its padded input, k primes or more."""
    primes, channels, fan_in = step.primes, out.shape[1], step.weight.values.shape[-1]
    table = powers(step.weight, primes, system.digit_units(primes, step.known))
    weights = step.weight.values.flatten(1)
    # Blocks of output channels and of primes, so that weights and outputs are still in a cache when reduced.
    rows = max(1, GROUP_BYTES // (8 * len(primes) * fan_in))
    rows = channels if step.layer.groups > 1 else min(rows, channels)
    count = max(1, GROUP_BYTES // (8 * rows * max(fan_in, pattern.length)))
    for first, start in itertools.product(range(0, channels, rows), range(0, len(primes), count)):
        group = slice(start, start + count)
        part = out[group, first : first + rows]
        weight = buffers.take("weight", len(part), part.shape[1], fan_in)
        chosen = weights[:, first * fan_in : (first + rows) * fan_in]
        residues(chosen, table[group], primes[group], weight.flatten(1), buffers)
        multiply(part, weight, images[group], pattern, buffers)
        _add_bias(part, step, group, first, buffers)
        reduce(part.flatten(1), primes[group], buffers)


def _add_bias(part: torch.Tensor, step: Step, group: slice, first: int, buffers: Buffers) -> None:
    """Add the bias of output channels from `first` on to part (k, channels, length), if the layer has one."""
    if step.bias is None:
        return
    primes, bias = step.primes[group], part.new_empty(part.shape[:2])
    table = powers(step.bias, primes, system.digit_units(step.primes, 0)[group])
    limbs = step.bias.values[:, first : first + part.shape[1], 0]
    residues(limbs, table, primes, bias, buffers)
    part += bias[:, :, None]
