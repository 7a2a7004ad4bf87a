"""Floating-point numbers as integers: a tensor's mantissas and exponents, and rounding back to a format.

Everything is done on the bits, so that subnormal numbers stay exact even where the processor flushes them
(`torch.set_flush_denormal`), and a result is rounded once (torch's own float64 to float16 rounds twice).
Masks are avoided: a random mask costs some 20 times as much as an addition.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from linear_lasagna.formats import LEAST_EXPONENT, SIGNIFICAND_BITS

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Format(NamedTuple):
    """A binary format: the integer dtype of its width, precision in bits, exponent of its least number."""

    bits: torch.dtype
    precision: int
    least: int

    @property
    def width(self) -> int:
        """Bits of one number."""
        return torch.iinfo(self.bits).bits

    @property
    def fields(self) -> int:
        """The exponent field of infinities and NaNs, the largest."""
        return 2 ** (self.width - self.precision) - 1


def format_of(dtype: torch.dtype) -> Format:
    """Raises ValueError for a dtype other than float16, bfloat16, float32, float64."""
    if dtype not in SIGNIFICAND_BITS:
        names = ", ".join(str(known) for known in SIGNIFICAND_BITS)
        raise ValueError(f"{dtype} has no exact reference; these have: {names}")
    precision = SIGNIFICAND_BITS[dtype]
    return Format(INTEGERS[dtype.itemsize], precision, LEAST_EXPONENT[dtype] + 1 - precision)


def raw(x: torch.Tensor) -> torch.Tensor:
    """The bits of x as int64 of x's shape, in x's own memory if they fit; the sign is the integer's."""
    return x.contiguous().view(format_of(x.dtype).bits).to(torch.int64)


def decode(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 mantissas (signed) and exponents of x's shape: x = mantissa * 2**exponent, for finite x."""
    form, bits = format_of(x.dtype), raw(x)
    hidden = form.precision - 1
    field = (bits >> hidden).bitwise_and_(form.fields)
    mantissa = (bits & (2**hidden - 1)).add_(field.clamp(max=1), alpha=2**hidden)
    sign = bits >> 63
    return mantissa.bitwise_xor_(sign).sub_(sign), field.clamp_(min=1).add_(form.least - 1)


def encode(high: torch.Tensor, low: torch.Tensor, exponent: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(high + low) * 2**exponent rounded once to dtype, to nearest, ties to even; subnormal or inf if due.

    high, low: float64, |low| <= ulp(high) / 2, 2**60 <= |high| < 2**400 or high = low = 0. exponent: int64.
    """
    form = format_of(dtype)
    integer, power = _rounded_to_odd(high, low)
    exponent = exponent + power
    length = _length(integer)
    drop = torch.maximum(length.sub_(form.precision), form.least - exponent).clamp_(max=62)
    half = torch.ones_like(drop) << (drop - 1)
    below = (integer >> drop).bitwise_and_(1).sub_(1).add_(half)
    kept = integer.add_(below) >> drop
    field = exponent.add_(drop).sub_(form.least)
    # A mantissa rounded up to the next power of two carries into the field, from the largest one to infinity.
    bits = kept.add_(field.clamp(0, form.fields - 2) << (form.precision - 1))
    bits.masked_fill_(field > form.fields - 2, form.fields << (form.precision - 1))
    bits.masked_fill_(high == 0, 0)
    bits += (high.view(torch.int64) >> 63) << (form.width - 1)
    return bits.to(form.bits).view(dtype)


def magnitude(high: torch.Tensor, low: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """floor(log2 |(high + low) * 2**exponent|) as int64, far below all formats' exponents for zero; as in `encode`."""
    integer, power = _rounded_to_odd(high, low)
    return _length(integer).sub_(1).add_(power).add_(exponent).masked_fill_(high == 0, -(2**31))


def _length(integer: torch.Tensor) -> torch.Tensor:
    """Bits of an integer of 60 or 61 bits."""
    return (integer >> 60).add_(60)


def _rounded_to_odd(high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 (z, e): |high + low| is z * 2**e, or close to it and z is odd. z has 60 or 61 bits.

    Rounding z to fewer bits then equals rounding the sum (Boldo and Melquiond, 2008, on rounding to odd).
    """
    bits = high.view(torch.int64)
    power = (bits >> 52).bitwise_and_(2**11 - 1).sub_(1075 + 8)
    mantissa = (bits & (2**52 - 1)).bitwise_or_(2**52)
    rest = (low * high.sign()).mul_(((1023 - power) << 52).view(torch.float64))
    whole = rest.floor()
    inexact = (rest != whole).to(torch.int64)
    return (mantissa << 8).add_(whole.to(torch.int64)).bitwise_or_(inexact), power
