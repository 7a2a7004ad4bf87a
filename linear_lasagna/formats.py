"""The four binary formats: unit roundoff, ulp, least numbers.

Notation: p is the significand's bits with the hidden one, u = 2**-p the unit roundoff of rounding to nearest.
"""

from __future__ import annotations

import torch

from linear_lasagna import vocabulary

SIGNIFICAND_BITS: dict[torch.dtype, int] = {
    getattr(torch, name): bits for name, bits in vocabulary.SIGNIFICAND_BITS.items()
}
LEAST_EXPONENT: dict[torch.dtype, int] = {
    torch.float16: -14,
    torch.bfloat16: -126,
    torch.float32: -126,
    torch.float64: -1022,
}

EXPONENT = (2**11 - 1) << 52  # its bits in a float64


def unit_roundoff(dtype: torch.dtype) -> float:
    """u = 2**-p: float16 2**-11, bfloat16 2**-8, float32 2**-24, float64 2**-53."""
    return 2.0 ** -SIGNIFICAND_BITS[dtype]


def smallest_subnormal(dtype: torch.dtype) -> float:
    """The least positive number: float16 2**-24, bfloat16 2**-133, float32 2**-149, float64 2**-1074."""
    return 2.0 ** (LEAST_EXPONENT[dtype] + 1 - SIGNIFICAND_BITS[dtype])


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which libraries sum products of `dtype`: float32 for 16 bits, else the dtype itself."""
    return torch.float32 if dtype.itemsize == 2 else dtype


def ulp(y: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """2**(max(floor(log2 |y|), e_min) - p + 1): the spacing of `dtype`'s numbers at y; float64 of y's shape.

    p / e_min: float16 11/-14, bfloat16 8/-126, float32 24/-126, float64 53/-1022. For a power of two it is the spacing
    above; for zero and subnormal numbers the least positive number. y: float64, finite; larger than what `dtype` holds,
    it is treated as if the exponent had no limit. Source: Muller et al., Handbook of Floating-Point Arithmetic,
    section 2.3.2 (Goldberg's definition, extended to reals).
    """
    return spacing(y, SIGNIFICAND_BITS[dtype], LEAST_EXPONENT[dtype])


def spacing(y: torch.Tensor, bits: int, least: int) -> torch.Tensor:
    """`ulp` for any significand of `bits` bits and least exponent; exact, also where the processor flushes."""
    field = y.contiguous().view(torch.int64).bitwise_and(EXPONENT).clamp_(min=max(least + 1023, 0) << 52)
    if least + 1 - bits >= -1022 or not field.numel() or int(field.min()) >> 52 >= bits:
        return field.sub_((bits - 1) << 52).view(torch.float64)  # a normal number: only the exponent changes
    return power_of_two((field >> 52).sub_(1022 + bits))


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """2**exponent as float64, put together from bits. exponent: int64, -1074 to 1023."""
    normal = (exponent + 1023).clamp_(min=0) << 52
    subnormal = torch.ones_like(exponent) << (exponent + 1074).clamp_(0, 52)
    return torch.where(exponent >= -1022, normal, subnormal).view(torch.float64)
