"""How far the methods' results lie apart: whether they are the same numbers, bit for bit.

"The unfold function" says that the values of Unfold + matmul and of Conv2d are completely equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain
from linear_lasagna.catalog import CATALOG

if TYPE_CHECKING:
    import torch

BASELINE = "direct"
LISTED = (BASELINE, "unfold_matmul")
UNFOLD = CATALOG["sources/unfold"]
RESNET_FIRST = CATALOG["resnet50/conv1"].reduced()
RESNET_3X3 = CATALOG["resnet50/conv2_3x3"].reduced()


def rows(unit: Unit) -> list[Row]:
    """One row per method that can compute the unit, compared with `direct` and with the exact result."""
    from analysis.precision.case import Case
    from linear_lasagna.methods import METHODS

    case = Case.of(unit)
    baseline = case.compute(BASELINE).cpu()
    return case.rows(tuple(METHODS), lambda y: compared(y, baseline))


def compared(y: torch.Tensor, baseline: torch.Tensor) -> Row:
    """equal: the fraction of bitwise equal outputs; largest_ulps: steps between numbers; largest_difference: absolute."""
    from analysis.precision.floats import ulp_distance

    steps = ulp_distance(y, baseline)
    return {
        "equal": float((steps == 0).double().mean()),
        "largest_ulps": int(steps.max()),
        "largest_difference": float((y.double() - baseline.double()).abs().max()),
    }


METHODS_APART = Experiment(
    name="methods",
    question="Are the results of the methods completely equal, and if not, how far apart are they?",
    ways=LISTED,
    presets={
        "smoke": (Grid((RESNET_3X3,), 2),),
        "default": (Grid((UNFOLD, RESNET_FIRST, RESNET_3X3, plain(4)), 10),),
        "full": (Grid((UNFOLD, RESNET_FIRST, RESNET_3X3, plain(4), plain(16)), 30),),
    },
    rows=rows,
)
