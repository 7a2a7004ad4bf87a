"""From Chinese remainder digits to numbers: limbs, one carry sweep, one rounding; no big integer per element."""

from __future__ import annotations

import math

import torch

from linear_lasagna.exact.formats import encode
from linear_lasagna.exact.primes import limb_table
from linear_lasagna.exact.scaling import LIMB, limbs, span

SPARE = 3  # zero limbs below the lowest, so that the leading limb always has three below it


def integers(
    digits: torch.Tensor, primes: tuple[int, ...], exponent: int, plus: torch.Tensor | None = None
) -> tuple[torch.Tensor, int]:
    """Balanced limbs (rows, n), float64, lowest first, and the exponent of the first.

    digits: (k, n) float64; the numbers are integers times 2**exponent. plus: (n,), finite, added to them.
    """
    lowest, length = exponent, math.prod(primes).bit_length() + exponent
    if plus is not None:
        step, magnitude = span(plus)
        lowest = min(exponent, step)
        length = max(length, step + magnitude.bit_length())
    rows = (length - lowest) // LIMB + 2
    table = digits.new_tensor(limb_table(primes, exponent - lowest, rows))
    multiples = torch.mv(digits.T, 1 / digits.new_tensor(primes)).round_()
    values = digits.new_zeros((SPARE + rows, digits.shape[1]))
    torch.mm(table[:, :-1], digits, out=values[SPARE:])
    values[SPARE:].addr_(table[:, -1], multiples)
    if plus is not None:
        base = step - (step - lowest) % LIMB
        parts = limbs(plus, base, (magnitude << (step - base)).bit_length())
        for power, part in zip(parts.powers, parts.values, strict=True):
            values[SPARE + (base - lowest + power) // LIMB] += part
    sweep(values[SPARE:])
    return values, lowest - SPARE * LIMB


def sweep(values: torch.Tensor) -> None:
    """Carry in place: every limb becomes an integer of at most 2**23, the last one takes what is left."""
    carry = torch.zeros_like(values[0])
    for row in values:
        row += carry
        torch.mul(row, 2.0**-LIMB, out=carry)
        row.sub_(carry.round_(), alpha=2.0**LIMB)


def rounded(values: torch.Tensor, exponent: int, dtype: torch.dtype) -> torch.Tensor:
    """The numbers of `integers`, (rows, n) limbs, each rounded once to dtype, to nearest, ties to even: (n,)."""
    leading = _mark_inexact(values)
    rows = torch.arange(-SPARE, 1, device=values.device)[:, None] + leading
    last, third, second, first = values.gather(0, rows)
    upper = (first.round_() * 2.0**LIMB).add_(second.round_()).mul_(2.0 ** (2 * LIMB))
    lower = (third.round_() * 2.0**LIMB).add_(last)
    high = upper + lower
    low = lower.sub_(high - upper)
    return encode(high, low, (leading - SPARE) * LIMB + exponent, dtype)


def _mark_inexact(values: torch.Tensor) -> torch.Tensor:
    """Add to every limb a quarter of the sign of all limbs below it. Returns the leading limb's row, at least SPARE."""
    leading = torch.full_like(values[0], SPARE, dtype=torch.int64)
    sign = torch.zeros_like(values[0])
    for index in range(SPARE, len(values)):
        row = values[index]
        leading.masked_fill_(row != 0, index)
        torch.sign(row.add_(sign, alpha=0.25), out=sign)
    return leading
