"""Whether a computed stack is linear: the identities that a linear map satisfies, and by how much they fail.

Rounding to nearest is odd and commutes with powers of two, so f(-x) = -f(x) and f(4x) = 4f(x) hold bitwise while
nothing over- or underflows; f(x+z) = f(x)+f(z) and f(3x) = 3f(x) do not.
"""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

WAYS = ("direct", "unfold_matmul", "merged/direct")


def rows(unit: Unit) -> list[Row]:
    """One row per way and property. relative_l2 is the size of the defect relative to the exact result."""
    from analysis.precision.linear_defects import defects

    return defects(unit, WAYS)


def grid(seeds: int, *depths: int) -> tuple[Grid]:
    """Plain 3×3 stacks without bias, 16 channels, 8×8 outputs."""
    return (Grid(tuple(plain(depth) for depth in depths), seeds),)


LINEARITY = Experiment(
    name="linearity",
    question="Which identities of a linear map does a computed stack keep bit for bit, and how far off are the others?",
    ways=WAYS,
    presets={"smoke": grid(2, 2), "default": grid(10, 1, 4, 8), "full": grid(30, 1, 2, 4, 8, 16)},
    rows=rows,
    columns=("property", "equal"),
)
