"""How far the methods' results lie apart: whether they are the same numbers, bit for bit.

"The unfold function" says that the values of Unfold + matmul and of Conv2d are completely equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain
from linear_lasagna.catalog import CATALOG
from linear_lasagna.vocabulary import BASELINE, CONTROL, LAYER_WAYS

if TYPE_CHECKING:
    import torch

METHODS = tuple(way for way in LAYER_WAYS if way != CONTROL)  # transforms are never equal: they are compared elsewhere
LISTED = (BASELINE, "unfold_matmul")
UNFOLD = CATALOG["sources/unfold"]
RESNET_FIRST = CATALOG["resnet50/conv1"].reduced()
RESNET_3X3 = CATALOG["resnet50/conv2_3x3"].reduced()


def rows(unit: Unit) -> list[Row]:
    """One row per method that can compute the unit: all images compared with `direct`, the first with the reference."""
    from analysis.precision.case import Case

    case = Case.of(unit)
    baseline = case.compute(BASELINE).cpu()
    return case.rows(METHODS, lambda y: compared(y, baseline))


def compared(y: torch.Tensor, baseline: torch.Tensor) -> Row:
    """How far y is from the baseline's result, all images together.

    equal: the share of outputs that are equal bit for bit; largest_ulps: steps between numbers, of which there are many
    near zero; largest_difference: absolute; distance_u: relative L2 distance in units of u.
    """
    from linear_lasagna.metrics import bitwise_equality, relative_l2, ulp_distance
    from linear_lasagna.rounding import unit_roundoff

    difference = y.double() - baseline.double()
    return {
        "equal": bitwise_equality(y, baseline),
        "largest_ulps": int(ulp_distance(y, baseline).max()),
        "largest_difference": float(difference.abs().max()),
        "distance_u": relative_l2(difference, baseline.double()) / unit_roundoff(y.dtype),
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
    columns=("equal", "largest_ulps", "largest_difference", "distance_u"),
)
