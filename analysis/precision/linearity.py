"""Whether a computed stack is linear: the identities that a linear map satisfies, and by how much they fail.

Rounding to nearest is odd and commutes with powers of two, so f(-x) = -f(x) and f(4x) = 4 f(x) hold bitwise while
nothing over- or underflows; f(x + z) = f(x) + f(z) and f(3x) = 3 f(x) do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

if TYPE_CHECKING:
    from analysis.precision.linear_defects import Defects

WAYS = ("direct", "unfold_matmul", "merged/direct")


def rows(unit: Unit) -> list[Row]:
    """One row per way and property. relative_l2 is the defect's size relative to the exact result, not an error's."""
    from analysis.precision.linear_defects import Defects

    defects = Defects.of(unit)
    return [row for way in filter(defects.case.supports, WAYS) for row in defects.rows(way)]


LINEARITY = Experiment(
    name="linearity",
    question="Which properties of a linear map does a computed stack keep bit for bit, and how badly do the others fail?",
    ways=WAYS,
    presets={
        "smoke": (Grid((plain(2, output=4),), 2),),
        "default": (Grid((plain(1, output=4), plain(4, output=4), plain(8, output=4)), 10),),
        "full": (Grid(tuple(plain(depth, output=4) for depth in (1, 2, 4, 8, 16)), 30),),
    },
    rows=rows,
)
