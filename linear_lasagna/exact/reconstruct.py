"""From Chinese remainder digits to numbers: limbs, one carry sweep, one rounding; no big integers."""

from __future__ import annotations

import math

import torch

from linear_lasagna.exact.bits import encode, magnitude
from linear_lasagna.exact.primes import limb_table
from linear_lasagna.exact.scaling import LIMB, Span, limbs, span

SPARE = 3  # zero limbs below the lowest, so that the leading limb always has three below it


def integers(
    digits: torch.Tensor, primes: tuple[int, ...], exponent: int, plus: torch.Tensor | None = None
) -> tuple[torch.Tensor, int]:
    """Limbs (rows, n), float64, lowest first, not carried yet, and the exponent of the first.

    digits: (k + 1, n) float64, the last row for scratch; the numbers are integers times 2**exponent.
    plus: (n,), finite, added to them.
    """
    lowest, length = exponent, math.prod(primes).bit_length() + exponent
    step, magnitude = (exponent, 0) if plus is None else span(plus)
    lowest, length = min(lowest, step), max(length, step + magnitude.bit_length())
    rows = (length - lowest) // LIMB + 2
    table = digits.new_tensor(limb_table(primes, exponent - lowest, rows))
    torch.mv(digits[:-1].T, 1 / digits.new_tensor(primes), out=digits[-1]).round_()
    values = digits.new_zeros((SPARE + rows, digits.shape[1]))
    torch.mm(table, digits, out=values[SPARE:])
    if plus is not None:
        base = step - (step - lowest) % LIMB
        parts = limbs(plus[None], Span(base, magnitude << (step - base)))
        for power, part in zip(parts.powers, parts.values[:, 0], strict=True):
            values[SPARE + (base - lowest + power) // LIMB] += part
    return values, lowest - SPARE * LIMB


def sweep(values: torch.Tensor) -> torch.Tensor:
    """Carry in place: rows become integers of at most 2**23, plus a quarter of the sign of all that is below.

    Returns the leading row of every number, int64, at least SPARE.
    """
    leading = torch.full_like(values[0], SPARE)
    sign, carry, nonzero = torch.zeros_like(leading), torch.zeros_like(leading), torch.empty_like(leading)
    for index, row in enumerate(values[SPARE:], start=SPARE):
        row += carry
        torch.mul(row, 2.0**-LIMB, out=carry).round_()
        row.sub_(carry, alpha=2.0**LIMB)
        torch.maximum(leading, torch.ne(row, 0.0, out=nonzero).mul_(index), out=leading)
        torch.sign(row.add_(sign, alpha=0.25), out=sign)
    return leading.to(torch.int64)


def rounded(values: torch.Tensor, exponent: int, dtype: torch.dtype) -> torch.Tensor:
    """The numbers of `integers` rounded once to dtype, to nearest, ties to even: (n,). Uses up the values."""
    return encode(*_leading(values, exponent), dtype)


def exponents(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """floor(log2 |number|) of the numbers of `integers`, as `bits.magnitude` gives it: (n,). Uses up the values."""
    return magnitude(*_leading(values, exponent))


def paired(values: torch.Tensor) -> torch.Tensor:
    """The numbers of `integers` as integers of 48 bits and less, float64: (rows / 2, n); row r counts 2**(48 r)."""
    sweep(values)
    limbs = torch.nn.functional.pad(values.round_(), (0, 0, 0, len(values) % 2)).unflatten(0, (-1, 2))
    return limbs[:, 0] + limbs[:, 1] * 2.0**LIMB


def _leading(values: torch.Tensor, exponent: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(high, low, power): the numbers are (high + low) * 2**power, up to what only tells on which side they lie."""
    leading = sweep(values)
    rows = torch.arange(-SPARE, 1, device=values.device)[:, None] + leading
    last, third, second, first = values.gather(0, rows)
    upper = (first.round_() * 2.0**LIMB).add_(second.round_()).mul_(2.0 ** (2 * LIMB))
    lower = (third.round_() * 2.0**LIMB).add_(last)
    high = upper + lower
    low = lower.sub_(high - upper)
    return high, low, (leading - SPARE).mul_(LIMB).add_(exponent)
