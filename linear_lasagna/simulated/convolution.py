"""Convolutions, and stacks of them, as a simulated machine computes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy
import torch

from linear_lasagna.devices import wide
from linear_lasagna.methods import Call, Method
from linear_lasagna.methods.views import windows
from linear_lasagna.preconditions import check_kernels
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer, Problem
from linear_lasagna.rounding.replay import Array, Factors
from linear_lasagna.simulated.casting import cast, rounded
from linear_lasagna.simulated.formats import Format
from linear_lasagna.simulated.machine import Machine
from linear_lasagna.simulated.sums import add

BLOCK = 2**14  # outputs formed at once: what is held of them fits a processor's cache
LIMITS = (2.0**-960, 2.0**960)  # of products that float64 holds with all that they lose


def convolve(
    x: torch.Tensor, kernels: Sequence[Kernel], layers: Sequence[Layer], machine: Machine, seed: int = 0
) -> torch.Tensor:
    """What the machine makes of the layers applied in turn to x (batch, channels, *size), with rank 1 to 3.

    x and the kernels share a dtype and device; those of their numbers that the machine's factors lack are rounded to
    them, to nearest, and none is rounded to its storage before. seed: of stochastic rounding. Returns float64, of
    numbers of the storage format, on the CPU. It takes a second for some 5e7 products.
    Raises ValueError for shapes that do not fit, and numbers of which float64 cannot hold the products.
    """
    batch, channels, *size = x.shape
    check_kernels(Problem("simulated", batch, channels, tuple(size), tuple(layers)), kernels, x)
    one = method(machine, seed)
    y = x
    for kernel, layer in zip(kernels, layers, strict=True):
        y = one(y, kernel, layer)
    return y


def method(machine: Machine, seed: int = 0, name: str = "simulated") -> Method:
    """The machine as a method, which schedules and whoever else computes with methods can use.

    Its calls return float64 numbers on the CPU. Kernels may be of any dtype, but schedules round merged ones to it
    first: give them in float64. Calls of one method go on with the numbers drawn from the seed.
    """
    generator = numpy.random.default_rng(seed)
    return Method(name, lambda kernel, layer: prepare(kernel, layer, machine, generator))


def prepare(
    kernel: Kernel, layer: ExpandedLayer, machine: Machine, generator: numpy.random.Generator | None = None
) -> Call:
    """The call for one kernel, which is rounded here."""
    weight = _beside(_parts(_held(kernel.weight), machine.factors, machine.parts[1]), [j for _, j in machine.pairs], 1)
    rows = weight.unflatten(0, (layer.groups, -1)).flatten(2).permute(2, 0, 1)[..., *[None] * len(layer.kernel_size)]
    bias = None
    if kernel.bias is not None:
        stored = cast(_held(kernel.bias), machine.storage, machine.storing, generator)
        bias = stored.unflatten(0, (layer.groups, -1))[..., *[None] * len(layer.kernel_size)].numpy()
    simulated = _Convolution(rows.numpy(), bias, layer, machine, generator)

    def call(x: torch.Tensor) -> torch.Tensor:
        parts = [part.unflatten(1, (layer.groups, -1)) for part in _parts(_held(x), machine.factors, machine.parts[0])]
        return simulated(_beside(parts, [i for i, _ in machine.pairs], 2).flatten(1, 2))

    return call


class _Convolution:
    """weights: (terms, groups, out / groups, 1, …) and bias: (groups, out / groups, 1, …), numbers of the machine's."""

    def __init__(
        self,
        weights: Array,
        bias: Array | None,
        layer: ExpandedLayer,
        machine: Machine,
        generator: numpy.random.Generator | None,
    ) -> None:
        self.weights, self.bias, self.layer, self.machine, self.generator = weights, bias, layer, machine, generator
        biased = bias is not None
        self.how = machine.accumulation(len(weights) + biased, biased)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer, groups = self.layer, self.layer.groups
        size = layer.output_size(tuple(x.shape[2:]))
        y = numpy.empty((len(x), groups, layer.out_channels // groups, *size))
        _check_products(x.numpy(), self.weights, self.machine.factors)
        parts = windows(x, layer).unflatten(1, (groups, -1)).numpy()
        for block in _blocks(y.shape):
            y[block] = self.outputs(parts[block], y[block].shape)
        return torch.from_numpy(y).flatten(1, 2)

    def outputs(self, x: Array, shape: tuple[int, ...]) -> Array:
        """x: windows (batch, groups, in / groups, *outputs, *kernel_size), of outputs of the shape."""
        rank = len(self.layer.kernel_size)
        places = list(itertools.product(range(x.shape[2]), *map(range, self.layer.kernel_size)))

        def term(number: int) -> Factors:
            if number == len(self.weights):
                assert self.bias is not None
                return Factors(self.bias)
            channel, *tap = places[number]
            return Factors(x[:, :, channel, None, ..., *tap], self.weights[number])

        assert x.ndim == 3 + 2 * rank
        sums = add(term, self.how, self.machine, self.generator)
        stored = rounded(sums, self.machine.storage, self.machine.storing, self.generator)
        return numpy.broadcast_to(stored, shape)


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Parts of outputs (batch, groups, out / groups, *size), along the batch or the first axis of the size."""
    batch, groups, channels, first, *rest = shape
    row = groups * channels * int(numpy.prod(rest))
    images, rows = max(1, BLOCK // (row * first)), max(1, BLOCK // row)
    for image in range(0, batch, images):
        for start in range(0, first, rows):
            yield slice(image, image + images), slice(None), slice(None), slice(start, start + rows)


def _held(numbers: torch.Tensor) -> torch.Tensor:
    """As they are held here: float64, on the CPU."""
    return wide(numbers).cpu()


def _parts(numbers: torch.Tensor, form: Format, count: int) -> list[torch.Tensor]:
    """Numbers of the format that add up to the given ones, up to what the last one loses."""
    parts = []
    for _ in range(count):
        parts.append(cast(numbers, form))
        numbers = numbers - parts[-1]
    return parts


def _beside(parts: Sequence[torch.Tensor], which: Sequence[int], axis: int) -> torch.Tensor:
    return torch.cat([parts[each] for each in which], axis)


def _check_products(x: Array, weights: Array, form: Format) -> None:
    """Raises ValueError where a product would leave float64, or lose what float64 cannot hold."""
    if form.exponent_bits <= 9:
        return
    sizes = [numpy.abs(numbers[(numbers != 0) & numpy.isfinite(numbers)]) for numbers in (x, weights)]
    if not all(each.size for each in sizes):
        return
    least, most = (float(f(sizes[0])) * float(f(sizes[1])) for f in (numpy.min, numpy.max))
    if least < LIMITS[0] or most > LIMITS[1]:
        raise ValueError("products below 2**-960 or above 2**960 cannot be simulated")
