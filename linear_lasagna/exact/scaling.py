"""Floating-point tensors as integers times one power of two, cut into 24-bit limbs that float64 multiplies exactly.

A finite floating-point number is an integer times a power of two. A tensor's common power is that of its lowest set
bit, so its integers are as short as they can be: about 74 bits for 200,000 uniform float64 values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from linear_lasagna.exact.formats import decode, format_of, raw

LIMB = 24
BAND = 40 * LIMB
PIECE = 2**18


class Span(NamedTuple):
    """Every value is an integer times 2**exponent, of at most `magnitude`."""

    exponent: int
    magnitude: int


def span(x: torch.Tensor, name: str = "x") -> Span:
    """The common exponent and the largest magnitude of a tensor. Raises ValueError if x is not finite."""
    form = format_of(x.dtype)
    lowest, largest = 2**31, 0
    for piece in x.reshape(-1).split(PIECE):
        largest = max(largest, int((raw(piece) & (2 ** (form.width - 1) - 1)).max()))
        mantissa, exponent = decode(piece)
        last = (mantissa & -mantissa).to(torch.float64).view(torch.int64) >> 52
        lowest = min(lowest, int((exponent + last).masked_fill_(mantissa == 0, 2**32).min()) - 1023)
    field, fraction = divmod(largest, 2 ** (form.precision - 1))
    if field == form.fields:
        raise ValueError(f"{name} has infinite or NaN values; only finite numbers have an exact result")
    if largest == 0:
        return Span(0, 0)
    mantissa = fraction + (2 ** (form.precision - 1) if field else 0)
    shift = max(field, 1) - 1 + form.least - lowest
    return Span(lowest, mantissa << shift if shift >= 0 else mantissa >> -shift)


class Limbs(NamedTuple):
    """Integers as sums of limbs: values (rows, *shape) float64, |value| <= 2**23; row r counts 2**powers[r]."""

    values: torch.Tensor
    powers: tuple[int, ...]


def limbs(x: torch.Tensor, exponent: int, bits: int) -> Limbs:
    """x / 2**exponent as limbs. All of them must be integers of at most `bits` bits."""
    rows, powers = [], []
    for integers, power, length in _bands(x, exponent, bits):
        values = integers.new_empty((length // LIMB + 1, *x.shape))
        for place in reversed(range(len(values))):
            torch.mul(integers, 2.0 ** (-LIMB * place), out=values[place])
            values[place].round_()
            integers.sub_(values[place], alpha=2.0 ** (LIMB * place))
        rows.append(values)
        powers.extend(power + LIMB * place for place in range(len(values)))
    return Limbs(rows[0] if len(rows) == 1 else torch.cat(rows), tuple(powers))


def largest_sum(x: torch.Tensor, exponent: int, bits: int) -> int:
    """An upper bound, too large by 1 part in 2**30 at most, of max over rows of sum |x| / 2**exponent; x: (rows, n)."""
    total = 0
    for integers, power, _ in _bands(x, exponent, bits):
        largest = int(integers.abs_().sum(-1).max())
        # n non-negative terms, added in any order, lose at most n units in the last place.
        total += (largest + (largest * x.shape[-1] >> 52) + 1) << power
    return total


def _bands(x: torch.Tensor, exponent: int, bits: int) -> Iterator[tuple[torch.Tensor, int, int]]:
    """x / 2**exponent = sum of integers * 2**power; each as float64 that does not overflow, with its bit length."""
    mantissa, shift = decode(x)
    shift -= exponent
    # Where the shift is negative, the mantissa ends in as many zeros.
    mantissa >>= (-shift).clamp_(0, 63)
    shift.clamp_(min=0)
    values = mantissa.to(torch.float64)
    if bits <= BAND:
        yield values.mul_(_power_of_two(shift)), 0, bits
        return
    band = shift // BAND
    for index in range(-(-bits // BAND)):
        part = values * _power_of_two((shift - BAND * index).clamp_(0, BAND))
        yield part.masked_fill_(band != index, 0.0), BAND * index, min(BAND + 53, bits - BAND * index)


def _power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    return ((exponent + 1023) << 52).view(torch.float64)
