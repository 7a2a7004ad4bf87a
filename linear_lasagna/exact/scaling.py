"""Tensors as integers times one power of two, cut into 24-bit limbs that float64 multiplies exactly.

A finite floating-point number is an integer times a power of two. A tensor's common power is that of its
lowest set bit, so its integers are as short as they can be: about 74 bits for 200,000 uniform float64 values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from linear_lasagna.exact.bits import decode, format_of, raw

LIMB = 24
BAND = 40 * LIMB
PIECE = 2**17  # numbers scaled at once; their temporary copies stay in a processor's cache


class Span(NamedTuple):
    """Every value is an integer times 2**exponent, of at most `magnitude`."""

    exponent: int
    magnitude: int


class Limbs(NamedTuple):
    """Integers as sums of limbs: values (rows, *shape) float64, |value| <= 2**23; row r counts 2**powers[r].

    largest_sum: an upper bound, too large by 2**-30 at most, of the sum of magnitudes over one index of the
    shape's first axis.
    """

    values: torch.Tensor
    powers: tuple[int, ...]
    largest_sum: int

    def times(self, power: int) -> Limbs:
        """The integers times 2**power."""
        return Limbs(self.values, tuple(p + power for p in self.powers), self.largest_sum << power)


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


def limbs(x: torch.Tensor, span: Span) -> Limbs:
    """x / 2**span.exponent as limbs; span must be x's, or that of a tensor which x is a part of."""
    bits = span.magnitude.bit_length()
    # Integers of up to 960 bits fit float64's range, and a mantissa besides. Longer ones are cut into bands.
    starts = range(0, max(bits, 1), BAND) if bits > BAND else (0,)
    counts = [min(BAND + 53, bits - start) // LIMB + 1 for start in starts]
    values = torch.empty((sum(counts), *x.shape), dtype=torch.float64, device=x.device)
    largest, step = 0, max(1, PIECE * len(x) // x.numel())
    for first in range(0, len(x), step):
        piece, total = x[first : first + step].flatten(1), 0
        parts = values[:, first : first + step].split(counts)
        for integers, start, part in zip(_bands(piece, span.exponent, starts), starts, parts, strict=True):
            total += _largest_sum(integers) << start
            _cut(integers, part.flatten(2))
        largest = max(largest, total)
    bands = zip(starts, counts, strict=True)
    powers = tuple(start + LIMB * place for start, count in bands for place in range(count))
    return Limbs(values, powers, largest)


def _bands(x: torch.Tensor, exponent: int, starts: Sequence[int]) -> Iterator[torch.Tensor]:
    """x / 2**exponent as a sum of integers * 2**start; the integers in float64, without overflow."""
    mantissa, shift = decode(x)
    # Where the shift is negative, the mantissa ends in as many zeros (or is zero).
    shift = shift.sub_(exponent).clamp_(min=-53)
    values = mantissa.to(torch.float64)
    if len(starts) == 1:
        yield values.mul_(_power_of_two(shift))
        return
    band = shift.clamp(min=0) // BAND
    for index, start in enumerate(starts):
        part = values * _power_of_two((shift - start).clamp_(-53, BAND))
        yield part.masked_fill_(band != index, 0.0)


def _largest_sum(integers: torch.Tensor) -> int:
    """An upper bound of the rows' sums of magnitudes."""
    largest = int(integers.abs().sum(-1).max())
    # n non-negative terms, added in any order, lose at most n units in the last place.
    return largest + (largest * integers.shape[-1] >> 52) + 1


def _cut(integers: torch.Tensor, rows: torch.Tensor) -> None:
    """Balanced limbs into rows (count, *shape), the lowest first; the integers are used up."""
    for place in reversed(range(len(rows))):
        torch.mul(integers, 2.0 ** (-LIMB * place), out=rows[place]).round_()
        integers.sub_(rows[place], alpha=2.0 ** (LIMB * place))


def _power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    return (exponent.add_(1023) << 52).view(torch.float64)
