"""Systems of primes, and the Chinese remainder theorem's constants for them.

An integer v with 2 |v| < M = p_1 ... p_k is determined by its residues modulo the primes:

    v = sum_i c_i M / p_i - q M,    c_i = v (M / p_i)**-1 mod p_i,    q = round(sum_i c_i / p_i).

The digits c_i are what the computation carries. Residues are balanced: |c_i| <= half(p_i).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

import numpy

from linear_lasagna.exact.scaling import LIMB

SEGMENT = 2**13
# Sums up to here are exact in float64, and so is the multiple of a prime that is subtracted from them.
EXACT = 2**53 - 2**25
# Quotients by it stay below 2**51.
LEAST_PRIME = 5
LARGEST_HALF = 2 ** (LIMB - 1)


def half(prime: int) -> int:
    """Largest magnitude of a balanced residue; 2 more than (p - 1) / 2, as the quotient's rounding allows."""
    return (prime + 3) // 2


def balanced(value: int, prime: int) -> int:
    """The residue of least magnitude."""
    value %= prime
    return value - prime if 2 * value > prime else value


@cache
def _small_primes() -> list[int]:
    """The primes up to the square root of the largest modulus."""
    bound = math.isqrt(2 * LARGEST_HALF) + 1
    return [n for n in range(2, bound) if all(n % d for d in range(2, math.isqrt(n) + 1))]


@cache
def _segment(index: int) -> list[int]:
    """The primes of [index * SEGMENT, (index + 1) * SEGMENT), descending (sieve of Eratosthenes)."""
    start, sieve = index * SEGMENT, numpy.ones(SEGMENT, dtype=bool)
    for prime in _small_primes():
        sieve[max(prime * prime, -(-start // prime) * prime) - start :: prime] = False
    if index == 0:
        sieve[:LEAST_PRIME] = False
    return [start + int(n) for n in numpy.flatnonzero(sieve)[::-1]]


def _descending(limit: int) -> Iterator[int]:
    """The primes from LEAST_PRIME up to a limit, the largest first."""
    for index in range(limit // SEGMENT, -1, -1):
        yield from (prime for prime in _segment(index) if prime <= limit)


def choose(bounds: Sequence[int], fan_in: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Primes, and how many of them each layer's results need. bounds: largest |v| after each layer, in order.

    fan_in: most products in one sum. Every sum of products, of residues or of residues and limbs, stays below
    EXACT. Raises ValueError where there are not enough primes.
    """
    largest = min(LARGEST_HALF, math.isqrt(EXACT // fan_in))
    while True:
        primes, counts = _take(bounds, 2 * largest - 3)
        allowed = 2 ** (52 - LIMB + 1) // (len(primes) + 2)
        if largest <= allowed:
            return primes, counts
        largest = min(allowed, largest - largest // 8)


def _take(bounds: Sequence[int], limit: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    primes, counts, modulus = [], [], 1
    source = _descending(limit)
    for bound in bounds:
        # The margin keeps sum c_i / p_i, rounded, away from halves.
        while modulus <= 2 * bound + (bound >> 20) + 2 or not primes:
            prime = next(source, None)
            if prime is None:
                raise ValueError("the stack is too large for the exact reference: its primes ran out")
            primes.append(prime)
            modulus *= prime
        counts.append(len(primes))
    return tuple(primes), tuple(counts)


@lru_cache(maxsize=64)
def cofactors(primes: tuple[int, ...]) -> tuple[int, ...]:
    """M / p_i for every prime, M their product."""
    modulus = math.prod(primes)
    return tuple(modulus // prime for prime in primes)


@lru_cache(maxsize=64)
def digit_units(primes: tuple[int, ...], known: int) -> tuple[int, ...]:
    """Factors, one modulo each prime, that turn digits for a few primes into digits for all of them.

    Of the first `known` primes there are digits for these primes alone; of the others there are plain
    residues.
    """
    before = cofactors(primes[:known])
    factors = (*before, *(1 for _ in primes[known:]))
    triples = zip(primes, cofactors(primes), factors, strict=True)
    return tuple(pow(cofactor, -1, p) * factor % p for p, cofactor, factor in triples)


@lru_cache(maxsize=64)
def extension(primes: tuple[int, ...], known: int) -> tuple[list[list[int]], list[int]]:
    """For each prime p after the first `known`: the residues of their M / p_i, and of -M."""
    first, rest = primes[:known], primes[known:]
    modulus = math.prod(first)
    table = [[balanced(cofactor, p) for cofactor in cofactors(first)] for p in rest]
    return table, [balanced(-modulus, p) for p in rest]


@lru_cache(maxsize=64)
def limb_table(primes: tuple[int, ...], shift: int, rows: int) -> list[list[int]]:
    """Balanced limbs of every M / p_i * 2**shift and, last, of -M * 2**shift: `rows` lists, lowest first."""
    numbers = [*cofactors(primes), -math.prod(primes)]
    columns = [_limbs_of(number << shift, rows) for number in numbers]
    return [list(row) for row in zip(*columns, strict=True)]


def _limbs_of(number: int, rows: int) -> list[int]:
    parts = []
    for _ in range(rows):
        limb = balanced(number, 2**LIMB)
        number = (number - limb) >> LIMB
        parts.append(limb)
    return parts
