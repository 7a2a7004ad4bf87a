"""Floating-point tensors as integers times one power of two, cut into 24-bit limbs that float64 multiplies exactly.

A finite floating-point number is an integer times a power of two. A tensor's common power is that of its lowest set
bit, so its integers are as short as they can be: about 74 bits for 200,000 uniform float64 values.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class Band(NamedTuple):
    """Integers times 2**power, held in float64, of at most `bits` bits: integers that do not overflow float64."""

    integers: torch.Tensor
    power: int
    bits: int


class Limbs(NamedTuple):
    """Integers as sums of limbs: values (rows, *shape) float64, |value| <= 2**23; row r counts 2**powers[r]."""

    values: torch.Tensor
    powers: tuple[int, ...]

    def times(self, power: int) -> Limbs:
        """The integers times 2**power."""
        return Limbs(self.values, tuple(p + power for p in self.powers))


def span(x: torch.Tensor, name: str = "x") -> Span:
    """The common exponent and the largest magnitude of a tensor. Raises ValueError if x is not finite."""
    form = format_of(x.dtype)
    lowest, largest = 2**31, 0
    for piece in x.reshape(-1).split(PIECE):
        largest = max(largest, int((raw(piece) & (2 ** (form.width - 1) - 1)).max()))
        mantissa, exponent = decode(piece)
        last = (mantissa & -mantissa).to(torch.float64).view(torch.int64) >> 52
        lowest = min(lowest, int(exponent.add_(last).masked_fill_(mantissa == 0, 2**32).min()) - 1023)
    field, fraction = divmod(largest, 2 ** (form.precision - 1))
    if field == form.fields:
        raise ValueError(f"{name} has infinite or NaN values; only finite numbers have an exact result")
    if largest == 0:
        return Span(0, 0)
    mantissa = fraction + (2 ** (form.precision - 1) if field else 0)
    shift = max(field, 1) - 1 + form.least - lowest
    return Span(lowest, mantissa << shift if shift >= 0 else mantissa >> -shift)


def bands(x: torch.Tensor, span: Span) -> list[Band]:
    """x / 2**span.exponent as a sum of bands: one, unless the numbers span more than 960 bits."""
    bits = span.magnitude.bit_length()
    mantissa, shift = decode(x)
    # Where the shift is negative, the mantissa ends in as many zeros (or is zero).
    shift = shift.sub_(span.exponent).clamp_(min=-53)
    values = mantissa.to(torch.float64)
    if bits <= BAND:
        return [Band(values.mul_(_power_of_two(shift)), 0, bits)]
    index, found = shift.clamp(min=0) // BAND, []
    for number in range(-(-bits // BAND)):
        part = values * _power_of_two((shift - BAND * number).clamp_(-53, BAND))
        part.masked_fill_(index != number, 0.0)
        found.append(Band(part, BAND * number, min(BAND + 53, bits - BAND * number)))
    return found


def largest_sum(bands: Sequence[Band]) -> int:
    """An upper bound of max over rows of sum |integer|, too large by 2**-30 of it at most; bands of shape (rows, n)."""
    total = 0
    for integers, power, _ in bands:
        largest = int(integers.abs().sum(-1).max())
        # n non-negative terms, added in any order, lose at most n units in the last place.
        total += (largest + (largest * integers.shape[-1] >> 52) + 1) << power
    return total


def limbs(bands: Sequence[Band]) -> Limbs:
    """The bands cut into limbs; their integers are used up."""
    counts = [bits // LIMB + 1 for _, _, bits in bands]
    values = bands[0].integers.new_empty((sum(counts), *bands[0].integers.shape))
    powers, first = [], 0
    for (rest, power, _), count in zip(bands, counts, strict=True):
        for place in reversed(range(count)):
            row = torch.mul(rest, 2.0 ** (-LIMB * place), out=values[first + place]).round_()
            rest.sub_(row, alpha=2.0 ** (LIMB * place))
        powers.extend(power + LIMB * place for place in range(count))
        first += count
    return Limbs(values, tuple(powers))


def _power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    return (exponent.add_(1023) << 52).view(torch.float64)
