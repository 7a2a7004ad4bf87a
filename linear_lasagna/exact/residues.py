"""Residues modulo primes, in float64: from limbs, reduced, and extended to more primes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from linear_lasagna.exact import primes as system
from linear_lasagna.exact.scaling import Limbs

# Added and subtracted, it rounds numbers below 2**51 to integers.
ROUNDER = torch.tensor(1.5 * 2.0**52, dtype=torch.float64, device="cpu")


class Buffers:
    """Named blocks of float64 memory, taken again by every layer and chunk; fresh memory is slow."""

    def __init__(self, device: torch.device):
        self._device = device
        self._blocks: dict[str, torch.Tensor] = {}

    def take(self, name: str, *shape: int) -> torch.Tensor:
        """Uninitialised memory, valid until the same name is taken again."""
        count = math.prod(shape)
        block = self._blocks.get(name)
        if block is None or len(block) < count:
            self._blocks[name] = block = torch.empty(count, dtype=torch.float64, device=self._device)
        return block[:count].view(shape)


def reduce(values: torch.Tensor, primes: Sequence[int], buffers: Buffers) -> None:
    """Balanced residues in place, row by row. values: (k, n) float64 integers of at most primes.EXACT."""
    quotient = buffers.take("quotient", values.shape[1])
    for row, prime in zip(values, primes, strict=True):
        torch.add(ROUNDER, row, alpha=1 / prime, out=quotient).sub_(ROUNDER)
        row.sub_(quotient, alpha=prime)


def powers(numbers: Limbs, primes: Sequence[int], units: Sequence[int]) -> torch.Tensor:
    """The table (k, rows) of what a limb of each row counts, times each prime's unit, modulo the prime."""
    table = [
        [system.balanced(pow(2, power, prime) * unit, prime) for power in numbers.powers]
        for prime, unit in zip(primes, units, strict=True)
    ]
    return numbers.values.new_tensor(table)


def residues(
    limbs: torch.Tensor, table: torch.Tensor, primes: Sequence[int], out: torch.Tensor, buffers: Buffers
) -> None:
    """Limbs (rows, n) times a table of powers (k, rows), modulo the primes, into out (k, n)."""
    torch.mm(table, limbs, out=out)
    reduce(out, primes, buffers)


def extend(values: torch.Tensor, primes: tuple[int, ...], known: int, buffers: Buffers) -> None:
    """Fill rows of values (primes + 1, n): from digits for the `known` first primes, residues for the others.

    The last row is scratch. Exact, as the digits' integers stay away from half of the known primes' product.
    """
    if known == len(primes):
        return
    table, modulus = system.extension(primes, known)
    weights = values.new_tensor([*table, [1 / prime for prime in primes[:known]]])
    torch.mm(weights, values[:known], out=values[known:])
    multiples = values[-1].round_()
    for row, negative in zip(values[known:-1], modulus, strict=True):
        row.add_(multiples, alpha=negative)
    reduce(values[known:-1], primes[known:], buffers)
