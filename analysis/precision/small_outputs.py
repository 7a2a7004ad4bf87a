"""Whether transforms lose small outputs beside large ones, and how that goes with depth."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import PLAIN_CHANNELS, Grid, Unit, plain
from linear_lasagna.problems import Problem
from linear_lasagna.vocabulary import BASELINE, TRANSFORMS

WAYS = (BASELINE, *TRANSFORMS)
MEASURES = ("relative_q50_u", "relative_q99_u", "scale_u", "backward_u")
OUTPUT = 16
DEPTHS = (1, 2, 4, 8)
INPUTS = ("normal", "spot", "relu", "pink")


def rows(unit: Unit) -> list[Row]:
    """One row per method, with quantiles of its outputs' own relative errors."""
    from analysis.precision.case import Case

    return Case.of(unit, MEASURES).rows(WAYS)


def wide(depth: int) -> Problem:
    """An unpadded stack of 3×3 layers, as Winograd's transforms want them, whose last output is 16×16."""
    return plain(depth, PLAIN_CHANNELS, 3, OUTPUT)


def grid(seeds: int, *depths: int, inputs: tuple[str, ...] = INPUTS, dtypes: tuple[str, ...] = ("float32",)) -> Grid:
    return Grid(tuple(map(wide, depths)), seeds, dtypes, ("random",), inputs=inputs, weights=("normal",))


SMALL_OUTPUTS = Experiment(
    name="small_outputs",
    question="Do transforms lose small outputs beside large ones, and how does that go with depth?",
    ways=WAYS,
    presets={
        "smoke": (grid(2, 2, inputs=("spot",)),),
        "default": (
            grid(20, *DEPTHS, inputs=("normal", "spot")),
            grid(20, 4, inputs=("relu", "pink")),
            grid(20, 4, inputs=("spot",), dtypes=("float16", "bfloat16", "float64")),
        ),
        "full": (
            grid(20, *range(1, 9), dtypes=("float16", "bfloat16", "float32", "float64")),
            grid(20, *DEPTHS, inputs=("spot:100", "spot:1e6", "heavy_tails", "photograph")),
        ),
    },
    rows=rows,
    columns=MEASURES,
)
