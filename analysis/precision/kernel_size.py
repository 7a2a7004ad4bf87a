"""How the error depends on the kernel's size, and whether by more than the fan-in that comes with it."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

WAYS = ("direct", "unfold_matmul", "merged/direct")
CHANNELS = 8


def rows(unit: Unit) -> list[Row]:
    """One row per way. fan_in is 8 × the kernel's area; the experiment fan_in has the same fan-ins from channels."""
    from analysis.precision.case import Case

    return Case.of(unit).rows(WAYS)


def grid(seeds: int, single: tuple[int, ...], stacked: tuple[int, ...]) -> tuple[Grid]:
    """8 channels, 8×8 outputs; single: kernel sizes at depth 1, stacked: at depth 4."""
    problems = [plain(1, CHANNELS, kernel_size) for kernel_size in single]
    problems += [plain(4, CHANNELS, kernel_size) for kernel_size in stacked]
    return (Grid(tuple(problems), seeds),)


KERNEL_SIZE = Experiment(
    name="kernel_size",
    question="How does rounding error grow with the size of the kernel, at depth 1 and at depth 4?",
    ways=WAYS,
    presets={
        "smoke": grid(2, (1, 3), (3,)),
        "default": grid(10, (1, 3, 5, 7, 9, 11), (1, 3, 5, 7)),
        "full": grid(20, (1, 2, 3, 5, 7, 9, 11, 13), (1, 2, 3, 5, 7, 9, 11)),
    },
    rows=rows,
)
