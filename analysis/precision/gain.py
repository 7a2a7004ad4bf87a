"""What happens when every layer of a stack grows or shrinks what passes through it, until the range ends.

All gains are powers of two: where nothing over- or underflows they change no relative error at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

if TYPE_CHECKING:
    import torch

    from linear_lasagna.exact import Exact

WAYS = ("direct", "merged/direct", "merged_working/direct")
DTYPES = ("float16", "bfloat16", "float32")
STACK = plain(4, channels=8, output=4)


def rows(unit: Unit) -> list[Row]:
    """One row per way, with how many of its outputs are not finite, subnormal, and zero though they should not be."""
    from analysis.precision.case import Case

    case = Case.of(unit)
    return case.rows(WAYS, lambda y: out_of_range(y, case.exact))


def out_of_range(y: torch.Tensor, exact: Exact) -> Row:
    """How many outputs are infinite or NaN, subnormal, and zero where the exact result is not."""
    from linear_lasagna.metrics import counts, vanished

    losses = counts(y, exact.to(y.dtype))
    return {"not_finite": losses.overflow, "subnormal": losses.subnormal, "flushed": vanished(y, exact)}


def grid(seeds: int, *exponents: int) -> tuple[Grid]:
    """4 layers of 8 channels, 4×4 outputs, each layer's weights × 2**exponent."""
    gains = tuple(2.0**exponent for exponent in exponents)
    return (Grid((STACK,), seeds, dtypes=DTYPES, gains=gains),)


GAIN = Experiment(
    name="gain",
    question="At what gain per layer do stacks and merged kernels leave the range of a dtype, and what is lost there?",
    ways=WAYS,
    presets={
        "smoke": grid(2, -8, 0, 6),
        "default": grid(10, -8, -6, -5, -4, -3, -2, 0, 2, 4, 6, 8),
        "full": grid(30, *range(-12, 13)),
    },
    rows=rows,
    columns=("not_finite", "subnormal", "flushed"),
)
