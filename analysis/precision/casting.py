"""Whether float32 weights that are to run in 16 bits are better merged first and cast once, or cast and then merged."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

WAYS = ("direct", "merged/direct", "merged+nearest/direct", "merged+split/direct")
DTYPES = ("float16", "bfloat16")


def rows(unit: Unit) -> list[Row]:
    """One row per way, against the exact result of the weights before they were rounded."""
    from analysis.precision.case import Case

    return Case.of(unit).rows(WAYS)


def grid(seeds: int, *depths: int, inputs: tuple[str, ...] = ("relu",)) -> tuple[Grid]:
    """Plain 3×3 stacks, 16 channels, 8×8 outputs; the weights' truth is float32."""
    problems = tuple(plain(depth) for depth in depths)
    return (Grid(problems, seeds, DTYPES, ("random",), inputs=inputs, weights=("normal",), truths=("float32",)),)


CASTING = Experiment(
    name="casting",
    question="How much of the error against float32 weights goes where a stack is merged first and cast once?",
    ways=WAYS,
    presets={
        "smoke": grid(2, 2),
        "default": grid(20, 2, 3, 4, 8),
        "full": grid(20, *range(2, 9), 12, 16, inputs=("normal", "relu", "pink", "photograph")),
    },
    rows=rows,
)
