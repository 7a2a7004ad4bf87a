"""Finding on how non-linear stacks are that round on purpose."""

from __future__ import annotations

from analysis.findings.claim import ANY, Claim, Finding
from analysis.findings.statistics import Ratio
from analysis.precision.defects import DIGITS, DISK

ADDITIVITY = "additivity"

DEFECTS = Finding(
    "As non-linear as with ReLU",
    "The defect of additivity of convolutions that are built to round is over 50 times that of ordinary ones in "
    "float16; that of a stack trained through 2 significant bits is over 0.3 of that of the layers with ReLU. "
    "Points in and around a disk, which no line separates, three 1×1 convolutions in float16 classify with at most "
    "half the mistakes of the same numbers in float64.",
    "defects",
    (
        Claim(
            "defect of additivity: built to round / ordinary",
            Ratio(("constructed", ADDITIVITY), ("ordinary", ADDITIVITY), {"problem": DIGITS.name}),
            50,
            ANY,
            ("float16",),
        ),
        Claim(
            "defect of additivity: 2 bits / ReLU",
            Ratio(("2 bits", ADDITIVITY), ("relu", ADDITIVITY), {"problem": DIGITS.name}),
            0.3,
            ANY,
            ("float32",),
        ),
        Claim(
            "wrong, disk: float16 / float64",
            Ratio(("constructed", "wrong"), ("constructed", "float64_wrong"), {"problem": DISK.name}),
            0.0,
            0.5,
            ("float16",),
        ),
    ),
    (0, 1, 2),
)
