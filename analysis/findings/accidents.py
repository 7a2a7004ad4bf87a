"""Finding on accidents: whether ordinary stacks' rounding is seen in their predictions."""

from __future__ import annotations

from analysis.findings.claim import Claim, Finding
from analysis.findings.statistics import Ratio
from analysis.precision.accidents import stack
from linear_lasagna.vocabulary import BASELINE

ACCIDENTS = Finding(
    "Not by accident",
    "A linear stack of 64 layers that was trained on digits makes as many mistakes in "
    "bfloat16 as the same numbers in float64, within 5 %.",
    "accidents",
    (
        Claim(
            "wrong: stack / in float64, 64 layers, trained",
            Ratio(
                (BASELINE, "wrong"), (BASELINE, "float64_wrong"), {"problem": stack("trained", 64).name, "gain": 1.0}
            ),
            0.95,
            1.05,
            ("bfloat16",),
        ),
    ),
    (0,),
)
