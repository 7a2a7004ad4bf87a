"""What should not change an image's bits: the same products for the same outputs, computed under other circumstances.

Each perturbation gives pairs of results for the same outputs, one as they are and one computed otherwise. They are
equal bit for bit where the method adds an output's products in an order that depends on that output alone.
`vocabulary.PERTURBATIONS` says what each changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import torch

from linear_lasagna.geometry import Box
from linear_lasagna.methods.direct_channels_last import FORMATS
from linear_lasagna.problems import ExpandedLayer
from linear_lasagna.reproducibility import instructions
from linear_lasagna.reproducibility.subject import Subject
from linear_lasagna.reproducibility.threads import threads

BATCHES = (2, 3, 8, 32)
THREADS = (1, 2, 3, 8)
OFFSETS = (1, 3)  # elements past the address at which memory is handed out
STRIDES = (2, 3)


class Pair(NamedTuple):
    """y: outputs computed as `setting` says; plain: the same outputs of the image as it is, of y's shape."""

    setting: str
    y: torch.Tensor
    plain: torch.Tensor


Pairs: TypeAlias = Iterator[Pair]
# Of a subject and its own result for its image, (1, out_channels, *output_size); no pair where the layer, the method or
# the device leaves nothing to change.
Perturbation: TypeAlias = Callable[[Subject, torch.Tensor], Pairs]


def repeated(subject: Subject, plain: torch.Tensor) -> Pairs:
    yield Pair("again", subject.compute(subject.image), plain)


def batch(subject: Subject, plain: torch.Tensor) -> Pairs:
    """The image is the first of its batch, and the last."""
    others = subject.images[1:]
    for count in BATCHES:
        between = others[torch.arange(count - 2) % len(others)]
        y = subject.compute(torch.cat([subject.image, between, subject.image]))
        yield Pair(f"first of {count}", y[:1], plain)
        yield Pair(f"last of {count}", y[-1:], plain)


def thread_counts(subject: Subject, plain: torch.Tensor) -> Pairs:
    """Off the CPU no thread of the host adds anything."""
    if subject.images.device.type == "cpu":
        for number in THREADS:
            if number != torch.get_num_threads():
                with threads(number):
                    y = subject.compute(subject.image)
                yield Pair(f"{number} threads" if number > 1 else "1 thread", y, plain)


def layout(subject: Subject, plain: torch.Tensor) -> Pairs:
    """The same numbers in another order in memory, or with gaps between them."""
    image, weight = subject.image, subject.kernel.weight
    if (rank := image.ndim - 2) > 1:
        last = FORMATS[rank]
        yield Pair("image's channels last", subject.compute(image.contiguous(memory_format=last)), plain)
        kernel = subject.kernel._replace(weight=weight.contiguous(memory_format=last))
        yield Pair("kernel's channels last", subject.compute(image, kernel=kernel), plain)
        yield Pair("columns before rows", subject.compute(image.mT.contiguous().mT), plain)
    gaps = image.new_zeros((*image.shape[:-1], 2 * image.shape[-1]))[..., ::2]
    yield Pair("gaps", subject.compute(gaps.copy_(image)), plain)


def offset(subject: Subject, plain: torch.Tensor) -> Pairs:
    """Memory is handed out at multiples of 64 bytes or so; a part of a larger tensor begins elsewhere."""
    for count in OFFSETS:
        yield Pair(f"image {count} on", subject.compute(_moved(subject.image, count)), plain)
        kernel = subject.kernel.map(lambda numbers, count=count: _moved(numbers, count))
        yield Pair(f"kernel {count} on", subject.compute(subject.image, kernel=kernel), plain)


def _moved(numbers: torch.Tensor, count: int) -> torch.Tensor:
    """A copy that begins so many elements into its memory."""
    memory = numbers.new_empty(numbers.numel() + count)
    return memory[count:].view(numbers.shape).copy_(numbers)


def copied(numbers: torch.Tensor) -> torch.Tensor:
    """A copy even where none is needed, in torch's own order, that begins where memory is handed out."""
    return numbers.clone(memory_format=torch.contiguous_format)


def crop(subject: Subject, plain: torch.Tensor) -> Pairs:
    """Outputs whose windows, and the padding in them, are the same in a part of the image."""
    size = tuple(plain.shape[2:])
    boxes: dict[str, Box] = {
        "first half": tuple((0, -(-n // 2)) for n in size),
        "last half": tuple((n // 2, n) for n in size),
        "all but the first": tuple((min(1, n - 1), n) for n in size),
        "one output": tuple((n // 2, n // 2 + 1) for n in size),
    }
    for name, box in boxes.items():
        ranges, begins = cut(subject.layer, tuple(subject.image.shape[2:]), box)
        if all(part == slice(0, n) for part, n in zip(ranges, subject.image.shape[2:], strict=True)):
            continue
        y = subject.compute(copied(subject.image[(..., *ranges)]))
        inside = tuple(slice(low - first, high - first) for (low, high), first in zip(box, begins, strict=True))
        yield Pair(name, y[(..., *inside)], plain[(..., *(slice(*ends) for ends in box))])


def cut(layer: ExpandedLayer, size: Sequence[int], box: Box) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """The least part of an image, per axis, in which the layer computes the outputs in the box from the same inputs and
    zeros; and which output of the whole image is the part's first.
    """
    ranges, begins = [], []
    axes = zip(box, size, layer.stride, layer.padding, layer.effective_kernel_size, strict=True)
    for (low, high), n, stride, padding, span in axes:
        first = max(0, (low * stride - padding) // stride)
        begins.append(first)
        start = min(first * stride, n - 1)
        ranges.append(slice(start, min(n, max(start + 1, (high - 1) * stride - padding + span))))
    return tuple(ranges), tuple(begins)


def stride(subject: Subject, plain: torch.Tensor) -> Pairs:
    """Every so manieth output alone; or all those between the outputs too."""
    layer, own = subject.layer, subject.layer.stride
    dense = set(own) == {1}
    for step in STRIDES if dense else (1,):
        other = replace(layer, stride=(step,) * len(own))
        if subject.lacks(subject.method, other) is None:
            y = subject.compute(subject.image, other)
            kept = tuple(slice(None, None, step) for _ in own) if dense else tuple(slice(None, None, s) for s in own)
            yield Pair(f"stride {step}", *((y, plain[(..., *kept)]) if dense else (y[(..., *kept)], plain)))


def channels(subject: Subject, plain: torch.Tensor) -> Pairs:
    """Some output channels alone, as where several devices share a layer's."""
    layer, kernel = subject.layer, subject.kernel
    halves = layer.out_channels // 2
    if layer.groups > 1 or not halves:
        return
    for name, part in {"first half": slice(halves), "last half": slice(-halves, None), "one": slice(1)}.items():
        some = kernel.map(lambda numbers, part=part: copied(numbers[part]))
        y = subject.compute(subject.image, replace(layer, out_channels=len(some.weight)), some)
        yield Pair(name, y, plain[:, part])


def instruction_set(subject: Subject, plain: torch.Tensor) -> Pairs:
    """In processes of their own."""
    if subject.images.device.type == "cpu":
        for name in instructions.emulated():
            yield Pair(name, instructions.computed(name, subject), plain)


def method(subject: Subject, plain: torch.Tensor) -> Pairs:
    """The subject's baseline instead."""
    if subject.method.name != subject.baseline.name and subject.lacks(subject.baseline) is None:
        yield Pair(subject.baseline.name, replace(subject, method=subject.baseline).compute(subject.image), plain)


PERTURBATIONS: dict[str, Perturbation] = {
    "repeat": repeated,
    "batch": batch,
    "threads": thread_counts,
    "layout": layout,
    "offset": offset,
    "crop": crop,
    "stride": stride,
    "channels": channels,
    "instructions": instruction_set,
    "method": method,
}


def named(names: Sequence[str] | None) -> dict[str, Perturbation]:
    """The perturbations by their names, all for None. Raises ValueError for an unknown one."""
    chosen = list(PERTURBATIONS) if names is None else list(names)
    for name in itertools.filterfalse(PERTURBATIONS.__contains__, chosen):
        raise ValueError(f"unknown perturbation {name!r}; known: {', '.join(PERTURBATIONS)}")
    return {name: PERTURBATIONS[name] for name in chosen}
