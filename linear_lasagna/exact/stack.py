"""The whole stack modulo enough primes: from tensors to the Chinese remainder digits of its exact result."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from linear_lasagna.exact import primes as system
from linear_lasagna.exact.products import Buffers, Pattern, arrange, multiply, reduce
from linear_lasagna.exact.regions import Box, Crop, crops, size_of
from linear_lasagna.exact.scaling import Limbs, Span, limbs, span
from linear_lasagna.problems import ExpandedLayer, Kernel

CHUNK_BYTES = 2**27
GROUP_BYTES = 2**24


class Step(NamedTuple):
    """A layer ready to be computed: its numbers as limbs, counted in powers of two of the layer's output."""

    layer: ExpandedLayer
    weight: Limbs  # (rows, out channels, fan-in), fan-in ordered by kernel position, then channel
    bias: Limbs | None  # (rows, out channels)
    primes: tuple[int, ...]
    known: int  # how many of the primes the layer before used


class Plan(NamedTuple):
    """A stack ready to be computed. The result is an integer times 2**exponent."""

    span: Span
    steps: tuple[Step, ...]
    exponent: int


def plan(x: torch.Tensor, kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer]) -> Plan:
    """Scale the numbers and choose the primes that every layer needs. x: only the part that will be used."""
    source = span(x)
    exponent, bound = source
    prepared, bounds = [], []
    for index, (kernel, layer) in enumerate(zip(kernels, layers, strict=True)):
        weight, bias, exponent, bound = _scaled(kernel, exponent, bound, f"kernel {index}")
        prepared.append((layer, weight, bias))
        bounds.append(bound)
    fan_in = max(weight.values.shape[-1] for _, weight, _ in prepared) + 1
    primes, counts = system.choose(bounds, fan_in)
    triples = zip(prepared, counts, (0, *counts), strict=False)
    steps = tuple(Step(*numbers, primes[:count], known) for numbers, count, known in triples)
    return Plan(source, steps, exponent)


def _scaled(kernel: Kernel, exponent: int, bound: int, name: str) -> tuple[Limbs, Limbs | None, int, int]:
    """Weight and bias as limbs, and the output's exponent and bound, from those of the input."""
    matrix = kernel.weight.flatten(2).transpose(1, 2).flatten(1)
    found = span(matrix, f"{name}'s weight")
    weight, exponent = limbs(matrix, found), exponent + found.exponent
    bound *= weight.largest_sum
    if kernel.bias is None:
        return weight, None, exponent, bound
    found = span(kernel.bias, f"{name}'s bias")
    lowest = min(exponent, found.exponent)
    bias = limbs(kernel.bias[:, None], found).times(found.exponent - lowest)
    bound = (bound << (exponent - lowest)) + bias.largest_sum
    return weight.times(exponent - lowest), bias, lowest, bound


def digits(x: torch.Tensor, plan: Plan, box: Box) -> torch.Tensor:
    """The digits (primes, samples, out channels, *size of box), float32, of `box` of the last layer's output."""
    layers = [step.layer for step in plan.steps]
    sizes = [tuple(x.shape[2:])]
    for layer in layers[:-1]:
        sizes.append(layer.output_size(sizes[-1]))
    shape = (len(plan.steps[-1].primes), len(x), layers[-1].out_channels, *size_of(box))
    result = torch.empty(shape, dtype=torch.float32, device=x.device)
    buffers = Buffers(x.device)
    for samples, part, size in chunks(plan, x.shape[1], len(x), sizes, box):
        # The largest first: blocks that grow are blocks of fresh memory.
        buffers.take("images 0", size // 8)
        buffers.take("images 1", size // 8)
        target = result[:, samples[0] : samples[1]]
        for axis, ((start, stop), (origin, _)) in enumerate(zip(part, box, strict=True), start=3):
            target = target.narrow(axis, start - origin, stop - start)
        images = _stack(x[samples[0] : samples[1]], plan, crops(layers, sizes, part), buffers)
        target.copy_(images.transpose(1, 2))
    return result


def chunks(
    plan: Plan, channels: int, samples: int, sizes: Sequence[tuple[int, ...]], box: Box
) -> Iterator[tuple[tuple[int, int], Box, int]]:
    """Ranges of samples and boxes of the output, with the bytes of their intermediate residues.

    They take CHUNK_BYTES or less, unless a single output takes more.
    """
    layers = [step.layer for step in plan.steps]
    pending = [((0, samples), box)]
    while pending:
        (first, last), part = pending.pop()
        largest = (last - first) * _bytes_per_sample(plan, channels, crops(layers, sizes, part))
        lengths = size_of(part)
        if largest <= CHUNK_BYTES or (last - first == 1 and max(lengths) == 1):
            yield (first, last), part, largest
        elif last - first > 1:
            middle = (first + last) // 2
            pending += [((middle, last), part), ((first, middle), part)]
        else:
            axis = lengths.index(max(lengths))
            start, stop = part[axis]
            for half in ((middle := (start + stop) // 2, stop), (start, middle)):
                pending.append(((first, last), (*part[:axis], half, *part[axis + 1 :])))


def _bytes_per_sample(plan: Plan, channels: int, crops: Sequence[Crop]) -> int:
    """Largest intermediate residues of one sample: a layer's padded input or its output, for the primes it needs."""
    largest = 0
    for index, (step, crop) in enumerate(zip(plan.steps, crops, strict=True)):
        padded = math.prod(
            n + b + a for n, b, a in zip(size_of(crop.box), crop.before, crop.after, strict=True)
        )
        following = plan.steps[min(index + 1, len(plan.steps) - 1)].primes
        most = max(len(step.primes) * channels, (len(following) + 1) * step.layer.out_channels)
        largest = max(largest, 8 * most * padded)
        channels = step.layer.out_channels
    return largest


def _stack(x: torch.Tensor, plan: Plan, crops: Sequence[Crop], buffers: Buffers) -> torch.Tensor:
    """Digits (primes, out channels, samples, *size), a float64 view, of one chunk; x: (samples, channels, *size)."""
    for axis, (start, stop) in enumerate(crops[0].box, start=2):
        x = x.narrow(axis, start, stop - start)
    numbers, primes = limbs(x.transpose(0, 1), plan.span), plan.steps[0].primes
    out = buffers.take("images 1", len(primes), *numbers.values.shape[1:])
    residues(
        numbers.values.flatten(1), powers(numbers, primes, [1] * len(primes)), primes, out.flatten(1), buffers
    )
    images = out
    for index, step in enumerate(plan.steps):
        following = plan.steps[index + 1].primes if index + 1 < len(plan.steps) else step.primes
        images = arrange(images, step.layer, crops[index], buffers)
        pattern = Pattern(step.layer, images)
        # One more row than the next layer needs: scratch for the extension.
        out = buffers.take(f"images {index % 2}", len(following) + 1, step.layer.out_channels, pattern.length)
        _layer(out[: len(step.primes)], images, step, pattern, buffers)
        _extend(out.flatten(1), following, len(step.primes), buffers)
        images = pattern.valid(out[:-1])
    return images


def powers(numbers: Limbs, primes: Sequence[int], units: Sequence[int]) -> torch.Tensor:
    """The table (k, rows) of what a limb of each row counts, times each prime's unit, modulo the prime."""
    table = [
        [system.balanced(pow(2, power, p) * unit, p) for power in numbers.powers]
        for p, unit in zip(primes, units, strict=True)
    ]
    return numbers.values.new_tensor(table)


def residues(
    limbs: torch.Tensor, table: torch.Tensor, primes: Sequence[int], out: torch.Tensor, buffers: Buffers
) -> torch.Tensor:
    """Limbs (rows, n) times a table of powers, modulo the primes, into out (k, n)."""
    torch.mm(table, limbs, out=out)
    reduce(out, primes, buffers)
    return out


def _layer(out: torch.Tensor, images: torch.Tensor, step: Step, pattern: Pattern, buffers: Buffers) -> None:
    """One layer's digits, into out (k, out channels, length). images: its padded input, modulo k primes or more."""
    primes, channels, fan_in = step.primes, len(out[0]), step.weight.values.shape[-1]
    table = powers(step.weight, primes, system.digit_units(primes, step.known))
    weights = step.weight.values.flatten(1)
    # A block of output channels, and of primes, whose weights and outputs stay in a cache while they are reduced.
    rows = channels if step.layer.groups > 1 else max(1, GROUP_BYTES // (8 * len(primes) * fan_in))
    count = max(1, GROUP_BYTES // (8 * min(rows, channels) * max(fan_in, pattern.length)))
    for first, start in itertools.product(range(0, channels, rows), range(0, len(primes), count)):
        group, part = primes[start : start + count], out[start : start + count, first : first + rows]
        weight = buffers.take("weight", len(group), part.shape[1], fan_in)
        chosen = weights[:, first * fan_in : (first + rows) * fan_in]
        residues(chosen, table[start : start + count], group, weight.flatten(1), buffers)
        multiply(part, weight, images[start : start + count], pattern, buffers)
        if step.bias is None:
            reduce(part.flatten(1), group, buffers)
    if step.bias is not None:
        _add_bias(out, step, buffers)
        reduce(out.flatten(1), primes, buffers)


def _add_bias(out: torch.Tensor, step: Step, buffers: Buffers) -> None:
    bias, primes = out.new_empty(out.shape[:2]), step.primes
    table = powers(step.bias, primes, system.digit_units(primes, 0))
    out += residues(step.bias.values.flatten(1), table, primes, bias, buffers)[:, :, None]


def _extend(values: torch.Tensor, primes: tuple[int, ...], known: int, buffers: Buffers) -> None:
    """Fill the rows of values (primes + 1, n) after the first `known`, digits, with plain residues; use up the last."""
    if known == len(primes):
        return
    table, modulus = system.extension(primes, known)
    weights = values.new_tensor([*table, [1 / p for p in primes[:known]]])
    torch.mm(weights, values[:known], out=values[known:])
    multiples = values[-1].round_()
    for row, negative in zip(values[known:-1], modulus, strict=True):
        row.add_(multiples, alpha=negative)
    reduce(values[known:-1], primes[known:], buffers)
