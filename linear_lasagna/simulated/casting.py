"""Float64 numbers rounded once to any format, on their bits: exact where the processor flushes subnormal numbers, too.

Stochastic rounding takes the neighbour above with the probability of the distance from the one below, in their unit.
Sources: Higham and Pranesh, Simulating low precision floating-point arithmetic, SIAM J. Sci. Comput. 41 (2019), C585;
Connolly, Higham, Mary, Stochastic rounding and its probabilistic backward error analysis, SIAM J. Sci. Comput. 43
(2021), A566 (mode 1 there).
"""

from __future__ import annotations

import struct
from typing import Any, Literal, TypeAlias

import numpy
import torch

from linear_lasagna.rounding.replay import Array
from linear_lasagna.simulated.formats import Format

Rounding: TypeAlias = Literal["nearest", "toward zero", "stochastic"]
ROUNDINGS: tuple[Rounding, ...] = ("nearest", "toward zero", "stochastic")

SIZE = 2**63 - 1  # all bits of a float64 but the sign
FRACTION = 2**52 - 1
INFINITY = 2047 << 52
RANDOM_BITS = 62  # at most, that decide a stochastic rounding


def cast(
    x: torch.Tensor,
    form: Format,
    rounding: Rounding = "nearest",
    generator: numpy.random.Generator | None = None,
) -> torch.Tensor:
    """x rounded once to numbers of the format: float64 of x's shape, on x's device. x: float64.

    rounding: to "nearest", ties to even; "toward zero"; "stochastic", by the generator's numbers, with probabilities
    that are multiples of 2**-62 below the exact ones at most. The sign of zero is kept, and NaN stays NaN in formats
    that have none. Raises ValueError for another dtype, an unknown rounding, and a stochastic one without a generator.
    """
    if x.dtype is not torch.float64:
        raise ValueError(f"numbers are cast from float64, not from {x.dtype}")
    check_rounding(rounding, generator)
    result = rounded(x.detach().cpu().numpy(), form, rounding, generator)
    return torch.from_numpy(numpy.array(result)).to(x.device)


def check_rounding(rounding: str, generator: numpy.random.Generator | None) -> None:
    """Raises ValueError for one that is not known, or lacks its generator."""
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(map(repr, ROUNDINGS))}, not {rounding!r}")
    if rounding == "stochastic" and generator is None:
        raise ValueError("stochastic rounding needs a generator, numpy.random.default_rng(seed)")


def rounded(
    y: Array, form: Format, rounding: Rounding = "nearest", generator: numpy.random.Generator | None = None
) -> Array:
    """`cast` for arrays."""
    bits = numpy.asarray(y, numpy.float64, order="C").view(numpy.int64)
    drop = 53 - form.significand_bits
    result = bits if drop == 0 else bits + _increment(bits, drop, rounding, generator) & -(1 << drop)
    special = _special(bits & SIZE, form)
    if special is not None:
        result = numpy.array(result)
        result[special] = _carefully(bits[special], form, rounding, generator)
    return result.view(numpy.float64)


def _increment(bits: Any, drop: Any, rounding: Rounding, generator: numpy.random.Generator | None) -> Any:
    """What is added to integers before their last `drop` bits are cut off."""
    if rounding == "toward zero":
        return 0
    if rounding == "stochastic":
        assert generator is not None
        return generator.integers(0, numpy.int64(1) << drop, numpy.shape(bits))
    below = (numpy.int64(1) << drop) - 1
    return (below >> 1) + ((bits >> drop) & numpy.minimum(below, 1))


def _special(size: Any, form: Format) -> Any:
    """Where a number is neither zero nor within the format's normal ones: bool, or None if nowhere."""
    least, largest = _bits_of(form.smallest_normal), _bits_of(form.largest)
    below = (size - 1).view(numpy.uint64)  # zero becomes the largest
    if not size.size or (below.min() >= least - 1 and size.max() <= largest):
        return None
    return (below < least - 1) | (size > largest)


def _carefully(bits: Any, form: Format, rounding: Rounding, generator: numpy.random.Generator | None) -> Any:
    """The bits of float64 numbers rounded, wherever they lie: as integers times powers of two."""
    size = bits & SIZE
    field = size >> 52
    mantissa = (size & FRACTION) | (numpy.minimum(field, 1) << 52)
    exponent = numpy.maximum(field, 1) - 1075
    unit = exponent + 53 - form.significand_bits
    unit = numpy.maximum(unit, form.least + 1 - form.significand_bits) if form.subnormals else unit - (field == 0)
    drop = numpy.maximum(unit - exponent, 0)
    unit = exponent + drop
    beyond = numpy.maximum(drop - RANDOM_BITS, 0)
    mantissa, drop = mantissa >> numpy.minimum(beyond, 63), drop - beyond
    kept = (mantissa + _increment(mantissa, drop, rounding, generator)) >> drop
    result = _put_together(kept, unit)
    largest, overflow = _bits_of(form.largest), _bits_of(form.overflow)
    result = numpy.where(result > largest, largest if rounding == "toward zero" else overflow, result)
    if not form.subnormals:
        result = numpy.where(result < _bits_of(form.smallest_normal), 0, result)
    result = numpy.where(size >= INFINITY, numpy.where(size > INFINITY, size, overflow), result)
    return result | (bits & ~SIZE)


def _put_together(integer: Any, exponent: Any) -> Any:
    """The bits of integer * 2**exponent; integers of up to 53 bits, exponents of -1074 and more."""
    normal = integer.astype(numpy.float64).view(numpy.int64) + (exponent << 52)
    subnormal = integer << numpy.clip(exponent + 1074, 0, 52)
    return numpy.where(integer == 0, 0, numpy.where(normal >> 52 >= 1, normal, subnormal))


def _bits_of(number: float) -> int:
    return struct.unpack("<q", struct.pack("<d", number))[0]
