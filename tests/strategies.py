"""What hypothesis draws: layers, problems, stacks that can be merged, and integers to fill them with."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import strategies as st

from linear_lasagna import METHODS, Kernel, Layer, Problem
from linear_lasagna.catalog import CATALOG

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Of the many pairs of the break-even map two stand for all; layers for transforms are those of networks.
REDUCED = {
    name: CATALOG[name].reduced()
    for name in CATALOG
    if not name.startswith(("breakeven/", "transforms/")) or name.endswith("_8_8")
}
# The others have bounds, and tests, of their own: `test_transforms`.
SUMMED = {name: method for name, method in METHODS.items() if method.summed}
SEEDS = st.integers(0, 2**20)
KERNEL_SIZES = {1: (1, 4), 2: (1, 3), 3: (1, 2)}
OUTPUTS = {1: 5, 2: 3, 3: 2}


def divisors(number):
    """All of them, ascending."""
    return [n for n in range(1, number + 1) if number % n == 0]


@st.composite
def extents(draw, rank, least, most):
    """An int, or a tuple of one int per spatial axis."""
    if draw(st.booleans()):
        return draw(st.integers(least, most))
    return tuple(draw(st.integers(least, most)) for _ in range(rank))


@st.composite
def layers(draw, rank, channels, stride=3):
    """One layer for an input with `rank` spatial axes and `channels` channels, everything small, to this stride."""
    groups = draw(st.sampled_from(divisors(channels)))
    return Layer(
        groups * draw(st.integers(1, max(1, 4 // groups))),
        draw(extents(rank, *KERNEL_SIZES[rank])),
        stride=draw(extents(rank, 1, stride)),
        padding=draw(extents(rank, 0, 2)),
        dilation=draw(extents(rank, 1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
    )


def axes_of(layer, rank):
    """(kernel size, stride, padding, dilation) for every spatial axis."""
    values = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return list(zip(*(v if isinstance(v, tuple) else (v,) * rank for v in values), strict=True))


def input_size(layer, size):
    """An input size that gives at least `size` outputs, from the definition of a convolution."""
    axes = zip(size, axes_of(layer, len(size)), strict=True)
    return tuple(max(1, (n - 1) * s + d * (k - 1) + 1 - 2 * p) for n, (k, s, p, d) in axes)


@st.composite
def sizes(draw, rank, stack):
    """An input size for which every layer of the stack has an output, and a few positions more."""
    size = tuple(draw(st.integers(1, OUTPUTS[rank])) for _ in range(rank))
    for layer in reversed(stack):
        size = input_size(layer, size)
    return tuple(n + draw(st.integers(0, 2)) for n in size)


@st.composite
def problems(draw, ranks=(1, 2, 3), depths=(1, 3), stride=3):
    """Small problems of every rank, with everything that a layer can have, to this stride."""
    rank, depth = draw(st.sampled_from(ranks)), draw(st.integers(*depths))
    channels = in_channels = draw(st.integers(1, 4))
    stack = []
    for _ in range(depth):
        stack.append(draw(layers(rank, channels, stride)))
        channels = stack[-1].out_channels
    size = draw(sizes(rank, stack))
    return Problem("drawn", draw(st.integers(1, 2)), in_channels, size, tuple(stack))


@st.composite
def patch_problems(draw):
    """Problems of one layer whose windows tile the input: kernel size = stride."""
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    window = draw(extents(rank, 1, 3))
    layer = Layer(2 * groups, window, stride=window, groups=groups, bias=draw(st.booleans()))
    return Problem("drawn", draw(st.integers(1, 2)), 2 * groups, draw(sizes(rank, [layer])), (layer,))


@st.composite
def mergeable_problems(draw, ranks=(1, 2, 3), depths=(2, 4)):
    """Stacks that equal one convolution: stride 1, all unpadded, or all fully padded and without bias."""
    rank, depth = draw(st.sampled_from(ranks)), draw(st.integers(*depths))
    full = draw(st.booleans())
    channels = in_channels = draw(st.sampled_from((1, 2, 4)))
    stack = []
    for _ in range(depth):
        groups = draw(st.sampled_from(divisors(channels)))
        kernel_size = tuple(draw(st.integers(*KERNEL_SIZES[rank])) for _ in range(rank))
        padding = tuple(k - 1 for k in kernel_size) if full else 0
        channels = groups * draw(st.sampled_from((1, 2)))
        stack.append(
            Layer(
                channels,
                kernel_size,
                padding=padding,
                groups=groups,
                bias=not full and draw(st.booleans()),
            )
        )
    size = draw(sizes(rank, stack))
    return Problem("drawn", draw(st.integers(1, 2)), in_channels, size, tuple(stack))


@st.composite
def padded_problems(draw, ranks=(1, 2, 3), depths=(1, 4)):
    """Stacks with all that a layer can have, zeros between the layers too; a third have an interior and faces."""
    problem = draw(problems(ranks, depths, stride=draw(st.integers(1, 2))))
    room = draw(st.sampled_from((1, 8, 16)))
    size = tuple(n + draw(st.integers(0, room)) for n in problem.size)
    return replace(problem, size=size)


def integers(shape, largest, seed, dtype=torch.float64):
    """Whole numbers in [-largest, largest]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).to(dtype)


def integer_numbers(problem, seed, dtype=torch.float64, largest=2):
    """Input and kernels of whole numbers: the input in [-largest, largest], weights and biases -1, 0 or 1."""
    x = integers(problem.shapes[0], largest, seed, dtype)
    kernels, channels = [], problem.in_channels
    for index, layer in enumerate(problem.layers):
        taps = tuple(k for k, *_ in axes_of(layer, len(problem.size)))
        shape = (layer.out_channels, channels // layer.groups, *taps)
        weight = integers(shape, 1, seed + 2 * index + 1, dtype)
        bias = integers((layer.out_channels,), 1, seed + 2 * index + 2, dtype) if layer.bias else None
        kernels.append(Kernel(weight, bias))
        channels = layer.out_channels
    return x, tuple(kernels)
