"""How the error grows with depth where weights have a mean: an outlier in the spectrum of every layer."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import PLAIN_CHANNELS, Grid, Unit, plain

WAYS = ("direct",)
DTYPES = ("float16", "bfloat16")
DEPTHS = (1, 2, 4, 8, 16)
IDENTITY = ("normal", "near_identity")


def rows(unit: Unit) -> list[Row]:
    """One row, of the stack layer by layer."""
    from analysis.precision.case import Case

    return Case.of(unit).rows(WAYS)


def families(strength: float) -> tuple[str, str]:
    """Inputs and weights: white noise around a mean, and a matrix of rank one that multiplies the mean; both by name.

    The other singular directions of a layer neither grow nor shrink, so a strength of 1 is where the mean leaves the
    bulk of the spectrum (Tao, Outliers in the spectrum of iid matrices with bounded rank perturbations, Probab. Theory
    Relat. Fields 155 (2013), 231).
    """
    return f"offset:{strength:g}", f"rank_one:{strength:g}"


def grid(
    seeds: int,
    *each: tuple[str, str],
    channels: int = PLAIN_CHANNELS,
    depths: tuple[int, ...] = DEPTHS,
    dtypes: tuple[str, ...] = DTYPES,
) -> tuple[Grid, ...]:
    """Plain 3×3 stacks, 8×8 outputs, with each of these inputs and weights; no signal leaves float16's range."""
    problems = tuple(plain(depth, channels) for depth in depths)
    return tuple(Grid(problems, seeds, dtypes, ("random",), inputs=(x,), weights=(w,)) for x, w in each)


OUTLIER = Experiment(
    name="outlier",
    question="Does rounding error still grow with the square root of the depth where weights have a mean?",
    ways=WAYS,
    presets={
        "smoke": grid(2, families(2), depths=(1, 2, 4), dtypes=("bfloat16",)),
        "default": (
            *grid(20, *map(families, (0, 0.5, 1, 2)), IDENTITY),
            *grid(20, *map(families, (0.5, 2)), channels=8, dtypes=("bfloat16",)),
            *grid(20, *map(families, (0.5, 2)), channels=64, depths=DEPTHS[:-1], dtypes=("bfloat16",)),
        ),
        "full": tuple(
            each
            for channels in (8, 16, 64)
            for each in grid(20, *map(families, (0, 0.25, 0.5, 1, 2)), IDENTITY, channels=channels)
        ),
    },
    rows=rows,
)
