"""How far errors of draws of one stack lie apart, against its depth and its width."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain
from linear_lasagna.problems import Problem

WAYS = ("direct",)
DEPTHS: Mapping[int, tuple[int, ...]] = {8: (1, 4, 8, 16), 32: (4, 8, 16, 32), 128: (16, 32)}  # by width


def rows(unit: Unit) -> list[Row]:
    """One row, of the stack layer by layer."""
    from analysis.precision.case import Case

    return Case.of(unit).rows(WAYS)


def stack(width: int, depth: int) -> Problem:
    """Plain 1×1 layers of so many channels: 196 positions, which see nothing of each other."""
    return plain(depth, width, 1, 14)


def grid(seeds: int, depths: Mapping[int, tuple[int, ...]], *dtypes: str) -> tuple[Grid]:
    """Each width with its depths."""
    problems = tuple(stack(width, depth) for width, each in depths.items() for depth in each)
    return (Grid(problems, seeds, dtypes, ("random",), inputs=("normal",), weights=("normal",)),)


SCATTER = Experiment(
    name="scatter",
    question="How far do errors of draws of one stack lie apart?",
    ways=WAYS,
    presets={
        "smoke": grid(4, {8: (1,), 32: (4,)}, "bfloat16"),
        "default": grid(96, DEPTHS, "bfloat16"),
        "full": grid(96, dict.fromkeys(DEPTHS, (1, 2, 4, 8, 16, 32)), "float16", "bfloat16", "float32"),
    },
    rows=rows,
)
