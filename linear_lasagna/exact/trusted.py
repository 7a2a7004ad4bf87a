"""Whether a device multiplies and adds in float64 as IEEE 754 says: on that alone the exact reference rests.

Integers whose sums stay within 2**53 are exact in any order, with or without fused multiply-add. They are not where
float64 is emulated in parts with a common exponent per row: some rows here hold numbers of one bit and of 45.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

SIDE = 64
# Bits of the two factors and of what is added first: SIDE products of them, and that, stay within 2**53.
BITS = ((45, 1, 52), (23, 24, 0))
UNEVEN = 0  # in the first case the numbers of a row differ in their bits


def check_float64(device: torch.device) -> None:
    """Once per process and device. Raises RuntimeError where its products of integers are not exact."""
    _check(str(device))


@cache
def _check(device: str) -> None:
    left, right, start = _integers()
    products = (left[..., None] * right[:, None]).sum(2)  # integer arithmetic, on the CPU
    a, b, c = (each.to(torch.float64).to(device) for each in (left, right, start))
    for name, found, expected in (
        ("mm", torch.stack([torch.mm(*pair) for pair in zip(a, b, strict=True)]), products),
        ("mv", torch.stack([torch.mv(one, other[:, 0]) for one, other in zip(a, b, strict=True)]), products[..., 0]),
        ("baddbmm", torch.baddbmm(c, a, b), start + products),
    ):
        wrong = int((found.cpu() != expected.to(torch.float64)).sum())
        if wrong:
            raise RuntimeError(
                f"{device} does not compute in float64 ({name}: {wrong} of {expected.numel()} sums of integers below "
                "2**53 are wrong), so that no result is known exactly there; is float64 emulated?"
            )


def _integers() -> tuple[Tensor, Tensor, Tensor]:
    """int64, (cases, SIDE, SIDE) each: the factors, and what their product is added to."""
    generator = torch.Generator().manual_seed(0)

    def below(most: Tensor) -> Tensor:
        return (torch.rand(SIDE, SIDE, generator=generator, dtype=torch.float64) * most).to(torch.int64)

    left, right, start = (
        torch.stack([below(torch.tensor(2.0**bits, dtype=torch.float64)) for bits in each])
        for each in zip(*BITS, strict=True)
    )
    left[UNEVEN] >>= below(torch.tensor(BITS[UNEVEN][0] + 1.0, dtype=torch.float64))
    return left * (1 - 2 * (right[..., :1] & 1)), right, start
