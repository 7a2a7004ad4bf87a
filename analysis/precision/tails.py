"""How heavy the tail of single outputs' relative errors is: whether they have a mean."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain
from linear_lasagna.vocabulary import DTYPES

SUMMED = ("direct", "unfold_matmul", "merged/direct")
OTHERS = ("fft", "winograd_f2", "winograd_f4", "compensated")  # compared in float32 alone
MEASURES = ("relative_tail", "relative_q50_u", "relative_q99_u")


def rows(unit: Unit) -> list[Row]:
    """One row per way, with the exponent of the tail, the median and the 99 % quantile of its relative errors."""
    from analysis.precision.case import Case

    return Case.of(unit, MEASURES).rows((*SUMMED, *OTHERS) if unit.dtype == "float32" else SUMMED)


def grid(seeds: int, *outputs: int) -> tuple[Grid]:
    """Two plain 3×3 layers of 32 channels, with so many outputs per axis."""
    problems = tuple(plain(2, 32, output=output) for output in outputs)
    return (Grid(problems, seeds, DTYPES, ("random",), inputs=("normal",), weights=("normal",)),)


TAILS = Experiment(
    name="tails",
    question="Have the relative errors of single outputs a mean?",
    ways=(*SUMMED, *OTHERS),
    presets={"smoke": grid(2, 32), "default": grid(20, 32), "full": grid(20, 32, 96)},
    rows=rows,
    columns=MEASURES,
)
