"""How the error depends on the fan-in: the number of products that are summed for one output."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

WAYS = ("direct", "unfold_matmul", "merged/direct")
OUTPUT = 4


def rows(unit: Unit) -> list[Row]:
    """One row per way. The column fan_in is the stack's; that of the merged layer is larger."""
    from analysis.precision.case import Case

    return Case.of(unit).rows(WAYS)


def grid(seeds: int, single: tuple[int, ...], stacked: tuple[int, ...]) -> tuple[Grid]:
    """3×3 layers with as many channels in as out, 4×4 outputs; single: their channels at depth 1, stacked: at 4."""
    problems = [plain(1, channels, output=OUTPUT) for channels in single]
    problems += [plain(4, channels, output=OUTPUT) for channels in stacked]
    return (Grid(tuple(problems), seeds),)


FAN_IN = Experiment(
    name="fan_in",
    question="How does rounding error grow with the fan-in, at depth 1 and at depth 4?",
    ways=WAYS,
    presets={
        "smoke": grid(2, (2, 16), (2,)),
        "default": grid(10, (2, 4, 8, 16, 32, 64, 128), (2, 4, 8, 16, 32)),
        "full": grid(20, (2, 4, 8, 16, 32, 64, 128, 256), (2, 4, 8, 16, 32, 64, 128)),
    },
    rows=rows,
)
