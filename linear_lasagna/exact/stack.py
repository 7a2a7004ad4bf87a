"""The whole stack modulo enough primes: from tensors to the Chinese remainder digits of its exact result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from linear_lasagna.exact import primes as system
from linear_lasagna.exact.products import Pattern, accumulate, pad, reduce
from linear_lasagna.exact.regions import Box, Crop, crops, size_of
from linear_lasagna.exact.scaling import Limbs, Span, largest_sum, limbs, span
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
    weight = span(matrix, f"{name}'s weight")
    bits = weight.magnitude.bit_length()
    factor = largest_sum(matrix, weight.exponent, bits)
    scaled = limbs(matrix, weight.exponent, bits)
    product = exponent + weight.exponent
    if kernel.bias is None:
        return scaled, None, product, bound * factor
    bias = span(kernel.bias, f"{name}'s bias")
    result = min(product, bias.exponent)
    offset = limbs(kernel.bias, bias.exponent, bias.magnitude.bit_length())
    bound = (bound * factor << (product - result)) + (bias.magnitude << (bias.exponent - result))
    return _raised(scaled, product - result), _raised(offset, bias.exponent - result), result, bound


def _raised(numbers: Limbs, power: int) -> Limbs:
    return Limbs(numbers.values, tuple(p + power for p in numbers.powers))


def digits(x: torch.Tensor, plan: Plan, box: Box) -> torch.Tensor:
    """The digits (primes, samples, out channels, *size of box), float32, of `box` of the last layer's output."""
    layers = [step.layer for step in plan.steps]
    sizes = [tuple(x.shape[2:])]
    for layer in layers[:-1]:
        sizes.append(layer.output_size(sizes[-1]))
    shape = (len(plan.steps[-1].primes), len(x), layers[-1].out_channels, *size_of(box))
    result = torch.empty(shape, dtype=torch.float32, device=x.device)
    for samples, part in chunks(plan, x.shape[1], len(x), sizes, box):
        target = result[:, samples[0] : samples[1]]
        for axis, ((start, stop), (origin, _)) in enumerate(zip(part, box, strict=True), start=3):
            target = target.narrow(axis, start - origin, stop - start)
        images = _stack(x[samples[0] : samples[1]], plan, crops(layers, sizes, part))
        target.copy_(images.transpose(1, 2))
    return result


def chunks(
    plan: Plan, channels: int, samples: int, sizes: Sequence[tuple[int, ...]], box: Box
) -> Iterator[tuple[tuple[int, int], Box]]:
    """Ranges of samples, and boxes of the output, whose intermediate residues take CHUNK_BYTES or less (or are 1)."""
    layers = [step.layer for step in plan.steps]
    pending = [((0, samples), box)]
    while pending:
        (first, last), part = pending.pop()
        largest = (last - first) * _bytes_per_sample(plan, channels, crops(layers, sizes, part))
        lengths = size_of(part)
        if largest <= CHUNK_BYTES or (last - first == 1 and max(lengths) == 1):
            yield (first, last), part
        elif last - first > 1:
            middle = (first + last) // 2
            pending += [((middle, last), part), ((first, middle), part)]
        else:
            axis = lengths.index(max(lengths))
            start, stop = part[axis]
            for half in ((middle := (start + stop) // 2, stop), (start, middle)):
                pending.append(((first, last), (*part[:axis], half, *part[axis + 1 :])))


def _bytes_per_sample(plan: Plan, channels: int, crops: Sequence[Crop]) -> int:
    """Largest intermediate residues of one sample: a layer's padded input and its output, both for all primes."""
    largest = 0
    for step, crop in zip(plan.steps, crops, strict=True):
        padded = [n + b + a for n, b, a in zip(size_of(crop.box), crop.before, crop.after, strict=True)]
        positions = channels * math.prod(padded) + step.layer.out_channels * math.prod(padded)
        largest = max(largest, 8 * len(step.primes) * positions)
        channels = step.layer.out_channels
    return largest


def _stack(x: torch.Tensor, plan: Plan, crops: Sequence[Crop]) -> torch.Tensor:
    """Digits (primes, out channels, samples, *size), a float64 view, of one chunk; x: (samples, channels, *size)."""
    for axis, (start, stop) in enumerate(crops[0].box, start=2):
        x = x.narrow(axis, start, stop - start)
    numbers = limbs(x.transpose(0, 1), plan.span.exponent, plan.span.magnitude.bit_length())
    primes = plan.steps[0].primes
    images = residues(numbers, primes, [1] * len(primes))
    for index, step in enumerate(plan.steps):
        following = plan.steps[index + 1].primes if index + 1 < len(plan.steps) else step.primes
        images = _layer(pad(images, crops[index]), step, following)
    return images


def residues(numbers: Limbs, primes: Sequence[int], units: Sequence[int]) -> torch.Tensor:
    """(k, *shape): the integers times each prime's unit, modulo the prime."""
    table = [
        [system.balanced(pow(2, power, p) * unit, p) for power in numbers.powers]
        for p, unit in zip(primes, units, strict=True)
    ]
    values = numbers.values
    result = values.new_tensor(table) @ values.flatten(1)
    reduce(result, values.new_tensor(primes))
    return result.view(len(primes), *values.shape[1:])


def _layer(images: torch.Tensor, step: Step, following: tuple[int, ...]) -> torch.Tensor:
    """One layer's digits, and their residues modulo the primes that only the next layer uses."""
    pattern = Pattern(step.layer, images)
    count, channels = len(step.primes), step.layer.out_channels
    out = images.new_empty((len(following), channels, pattern.length))
    size = max(1, min(count, GROUP_BYTES // max(out[0].nbytes, step.weight.values[0].nbytes)))
    scratch = images.new_empty((size, channels * pattern.length))
    units = system.digit_units(step.primes, step.known)
    bias_units = system.digit_units(step.primes, 0)
    for start in range(0, count, size):
        group = slice(start, min(start + size, count))
        chosen = step.primes[group]
        part = out[group]
        if step.bias is None:
            part.zero_()
        else:
            part.copy_(residues(step.bias, chosen, bias_units[group])[:, :, None].expand_as(part))
        accumulate(part, residues(step.weight, chosen, units[group]), images[group], pattern)
        reduce(part.flatten(1), images.new_tensor(chosen), scratch[: len(chosen)])
    _extend(out.flatten(1), following, count)
    return pattern.valid(out)


def _extend(values: torch.Tensor, primes: tuple[int, ...], known: int) -> None:
    """Fill the rows (primes, n) after the first `known`, which are digits, with plain residues."""
    if known == len(primes):
        return
    table, modulus = (values.new_tensor(rows) for rows in system.extension(primes, known))
    first, rest = values[:known], values[known:]
    torch.mm(table, first, out=rest)
    multiples = torch.mv(first.T, 1 / values.new_tensor(primes[:known])).round_()
    rest.addr_(modulus, multiples)
    reduce(rest, values.new_tensor(primes[known:]))
