"""How the error of a stack grows with its depth, layer by layer and merged."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

WAYS = ("direct", "merged/direct", "merged_working/direct")


def rows(unit: Unit) -> list[Row]:
    """One row per way; a single layer has nothing to merge, so there it is `direct` alone."""
    from analysis.precision.case import Case

    return Case.of(unit).rows(WAYS)


def grid(seeds: int, *depths: int) -> tuple[Grid]:
    """Plain 3×3 stacks of 16 channels; 8×8 outputs × 16 channels are compared, 1024 numbers per row."""
    return (Grid(tuple(plain(depth) for depth in depths), seeds),)


DEPTH = Experiment(
    name="depth",
    question="How does rounding error grow with the depth of a stack, and what does merging the stack do to it?",
    ways=WAYS,
    presets={
        "smoke": grid(2, 1, 2, 4),
        "default": grid(10, 1, 2, 4, 8, 16),
        "full": grid(30, 1, 2, 3, 4, 6, 8, 12, 16, 24),
    },
    rows=rows,
)
