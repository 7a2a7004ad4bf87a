"""What is left of an error in an average over positions, as every classifier takes one: stacked and merged."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Layer, Problem

WAYS = ("direct", "merged/direct", "merged+tap_sums/direct", "merged+split/direct")
MEASURES = ("pooled_u",)
OUTPUT = 24
DTYPES = ("float16", "bfloat16")
INPUTS = ("normal", "relu", "pink", "photograph")


def rows(unit: Unit) -> list[Row]:
    """One row per way, with the error of single outputs and of their means."""
    from analysis.precision.case import Case

    return Case.of(unit, MEASURES).rows(WAYS)


def averaged(depth: int, kernel_size: int = 3) -> Problem:
    """An unpadded stack of 8 -> 32 -> … -> 8 channels whose last output is 24 x 24."""
    size = OUTPUT + depth * (kernel_size - 1)
    layers = [Layer(32, kernel_size)] * (depth - 1) + [Layer(8, kernel_size)]
    return Problem(f"averaged_x{depth}_k{kernel_size}", 1, 8, (size, size), tuple(layers))


def grid(
    seeds: int, *problems: Problem, inputs: tuple[str, ...] = INPUTS, weights: tuple[str, ...] = ("normal",)
) -> Grid:
    return Grid(problems, seeds, DTYPES, ("random",), inputs=inputs, weights=weights)


AVERAGING = Experiment(
    name="averaging",
    question="Does merging's error average out over positions, as a stack's own does?",
    ways=WAYS,
    presets={
        "smoke": (grid(2, averaged(2), inputs=("relu",)),),
        "default": (grid(20, averaged(3)), grid(20, averaged(3, 5), inputs=("relu",))),
        "full": (
            grid(20, *map(averaged, range(2, 9))),
            grid(20, averaged(3, 5), averaged(3, 7)),
            grid(20, averaged(3), weights=("laplace", "pruned", "near_identity", "rank_one", "trained_photographs")),
        ),
    },
    rows=rows,
    columns=MEASURES,
)
