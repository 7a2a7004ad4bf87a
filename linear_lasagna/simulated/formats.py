"""Binary floating-point formats by their bits, and those that have a name.

Sources: IEEE 754-2019; OCP 8-bit Floating Point Specification (OFP8), revision 1.0, 2023, for E4M3 and E5M2; OCP
Microscaling Formats (MX) Specification, version 1.0, 2023, for those of 6 and 4 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

Special: TypeAlias = Literal["infinity and NaN", "NaN", "none"]
SPECIALS: tuple[Special, ...] = ("infinity and NaN", "NaN", "none")


@dataclass(frozen=True)
class Format:
    """A binary format of so many bits, of whose significand the hidden one counts; exponents are IEEE 754's.

    special: the codes that are no finite numbers. "infinity and NaN": those of the largest exponent, as in IEEE 754;
    "NaN": the one code with all bits set, and its negative, as in OCP's E4M3; "none", as in OCP's formats of 6 bits.
    saturating: what is too large becomes the largest number, infinity too (OFP8's saturating mode), instead of
    infinity, or NaN where the format has none. Always so where nothing is special; finite numbers rounded toward zero
    become the largest one in any case. (torch 2.13 saturates when it casts to E4M3, and not to E5M2.)
    subnormals: whether numbers below the least normal one exist; else they are zero, if they are below it still when
    rounded as if exponents had no end, as x86 processors flush. (Higham and Pranesh's chop rounds them to the nearer of
    zero and the least normal number.)
    Raises ValueError for formats whose numbers are not all numbers of float64.
    """

    exponent_bits: int
    significand_bits: int
    special: Special = "infinity and NaN"
    saturating: bool = False
    subnormals: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.exponent_bits <= 11 or not 2 <= self.significand_bits <= 53:
            raise ValueError(
                f"a format has 2 to 11 bits of exponent and 2 to 53 of significand, not {self.exponent_bits} and "
                f"{self.significand_bits}"
            )
        if self.special not in SPECIALS:
            raise ValueError(f"special must be one of {', '.join(map(repr, SPECIALS))}, not {self.special!r}")
        if self.most > 1023:
            raise ValueError("of 11 bits of exponent the largest must be for infinity and NaN")

    @property
    def least(self) -> int:
        """Exponent of the least normal number."""
        return 2 - 2 ** (self.exponent_bits - 1)

    @property
    def most(self) -> int:
        """Exponent of the largest number."""
        return 2 ** (self.exponent_bits - 1) - (self.special == "infinity and NaN")

    @property
    def largest(self) -> float:
        """The largest finite number."""
        integer = 2**self.significand_bits - (2 if self.special == "NaN" else 1)
        return math.ldexp(integer, self.most + 1 - self.significand_bits)

    @property
    def smallest_normal(self) -> float:
        """The least positive number of full precision."""
        return math.ldexp(1.0, self.least)

    @property
    def smallest(self) -> float:
        """The least positive number."""
        return math.ldexp(1.0, self.least + (1 - self.significand_bits if self.subnormals else 0))

    @property
    def unit_roundoff(self) -> float:
        """u = 2**-significand_bits, of rounding to nearest."""
        return 2.0**-self.significand_bits

    @property
    def overflow(self) -> float:
        """What stands for too large positive numbers, rounded to nearest."""
        if self.saturating or self.special == "none":
            return self.largest
        return math.nan if self.special == "NaN" else math.inf


# By torch's names, where it has them.
FORMATS: dict[str, Format] = {
    "float64": Format(11, 53),
    "float32": Format(8, 24),
    "tf32": Format(8, 11),
    "bfloat16": Format(8, 8),
    "float16": Format(5, 11),
    "float8_e5m2": Format(5, 3),
    "float8_e4m3fn": Format(4, 4, "NaN"),
    "float6_e3m2fn": Format(3, 3, "none"),
    "float6_e2m3fn": Format(2, 4, "none"),
    "float4_e2m1fn": Format(2, 2, "none"),
}


def format_named(name: str | torch.dtype) -> Format:
    """Of `FORMATS`, by name or dtype. Raises ValueError for others."""
    known = str(name).removeprefix("torch.")
    if known not in FORMATS:
        raise ValueError(f"unknown format {known!r}; known: {', '.join(FORMATS)}")
    return FORMATS[known]
