"""Families of inputs: float64 images (batch, channels, *size) from numpy's random numbers.

Values come from sums, products, quotients and square roots, so that they are the same on every processor; those of
`pink` may differ in the last place where the library of sines is another one. Where nothing else is said, all numbers
are independent, and the sizes those of numbers with unit variance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from analysis.precision.families.family import Family
from analysis.precision.families.photographs import photographs

if TYPE_CHECKING:
    import numpy

    Array: TypeAlias = numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float64]]
    Random: TypeAlias = numpy.random.Generator

Shape: TypeAlias = tuple[int, ...]

DEGREES = 3  # of freedom: the least whole number for which Student's t has a variance


def normal(random: Random, shape: Shape) -> Array:
    """N(0, 1)."""
    return random.standard_normal(shape)


def offset(random: Random, shape: Shape, strength: float) -> Array:
    """N(strength, 1): white noise around a mean."""
    return random.standard_normal(shape) + strength


def relu(random: Random, shape: Shape) -> Array:
    """max(N(0, 1), 0): what a layer gets behind a ReLU."""
    return normal(random, shape).clip(0)


def pink(random: Random, shape: Shape) -> Array:
    """1/f images: amplitudes fall as 1/f with frequency, as those of photographs do; from 0 to 1.

    Each channel is the real inverse Fourier transform of complex normal numbers / f, f = |(f1, f2, …)| in cycles per
    position, f(0) = 1 / the longest side, shifted to the minimum 0; an image is divided by its maximum. Source: Field,
    J. Opt. Soc. Am. A 4 (1987), 2379. Raises ValueError for images of one position.
    """
    import numpy

    size = shape[2:]
    if math.prod(size) < 2:
        raise ValueError("a 1/f image has at least 2 positions")
    sides = [numpy.fft.fftfreq(n) for n in size[:-1]] + [numpy.fft.rfftfreq(size[-1])]
    square = sum(side.reshape(-1, *(1,) * (len(size) - 1 - axis)) ** 2 for axis, side in enumerate(sides))
    frequency = numpy.sqrt(square)
    frequency.flat[0] = 1 / max(size)
    real, imaginary = random.standard_normal((2, *shape[:2], *frequency.shape))
    axes = tuple(range(2, len(shape)))
    image = numpy.fft.irfftn((real + 1j * imaginary) / frequency, size, axes)
    image = image - image.min(axes, keepdims=True)
    return image / image.max(tuple(range(1, len(shape))), keepdims=True)


def photograph(random: Random, shape: Shape) -> Array:
    """Patches of two photographs, colours from 0 to 1 in steps of 1/255; every image at a place of its own.

    3 channels are the colours of one patch; of any other number each is one colour of a patch of its own. Images of one
    axis are pieces of rows. Source: scikit-learn's sample images, china.jpg and flower.jpg (CC-BY, credits in its
    documentation). Raises ValueError for three axes, and for images larger than the photographs.
    """
    import numpy

    pictures = photographs()
    batch, channels, *size = shape
    height, width = (1, *size)[-2:]
    if len(size) > 2 or height > pictures.shape[1] or width > pictures.shape[2]:
        most = " x ".join(map(str, pictures.shape[1:3]))
        raise ValueError(f"photographs have 2 axes and {most} positions, not {' x '.join(map(str, size))}")
    single = channels != 3
    count = batch * channels if single else batch
    which, colour = random.integers(len(pictures), size=count), random.integers(3, size=count)
    rooms = zip(pictures.shape[1:3], (height, width), strict=True)
    tops, lefts = (random.integers(n - m + 1, size=count) for n, m in rooms)
    places = zip(which, tops, lefts, strict=True)
    patches = numpy.stack([pictures[i, top : top + height, left : left + width] for i, top, left in places])
    chosen = patches[numpy.arange(count), ..., colour] if single else numpy.moveaxis(patches, -1, 1)
    return chosen.reshape(shape) / 255.0


def heavy_tails(random: Random, shape: Shape) -> Array:
    """Student's t with 3 degrees of freedom, divided by its standard deviation: extremes are common."""
    import numpy

    numerator, *rest = random.standard_normal((1 + DEGREES, *shape))
    scale = numpy.sqrt(sum(each * each for each in rest) / DEGREES)
    return numerator / scale / math.sqrt(DEGREES / (DEGREES - 2))


def spot(random: Random, shape: Shape, strength: float) -> Array:
    """N(0, 1), multiplied by the strength within one bright spot of 2 positions per axis in the centre."""
    image = random.standard_normal(shape)
    image[(..., *(slice(max(n // 2 - 1, 0), n // 2 + 1) for n in shape[2:]))] *= strength
    return image


def constant(random: Random, shape: Shape) -> Array:
    """One number in [0, 1) per image and channel, the same at all positions."""
    import numpy

    return numpy.broadcast_to(random.random((*shape[:2], *(1,) * (len(shape) - 2))), shape).copy()


UNIFORM = "uniform"
INPUTS: dict[str, Family] = {
    UNIFORM: Family(normal, "white noise, uniform in [−√3, √3); positive: in [0, 1)"),  # drawn by `Problem.draw`
    "normal": Family(normal, "white noise, N(0, 1)"),
    "offset": Family(offset, "white noise around a mean, N(strength, 1)", 1.0),
    "relu": Family(relu, "max(N(0, 1), 0), as behind a ReLU"),
    "pink": Family(pink, "images with a 1/f spectrum, from 0 to 1"),
    "photograph": Family(photograph, "patches of two photographs, from 0 to 1"),
    "heavy_tails": Family(heavy_tails, "Student’s t with 3 degrees of freedom, of unit variance"),
    "spot": Family(spot, "N(0, 1), times the strength in a spot of 2 positions per axis in the centre", 1e4),
    "constant": Family(constant, "one number in [0, 1) per image and channel"),
}
