"""What the leads claim, as data: numbers of a small earlier measurement on one machine with 2 cores, unpublished."""

from __future__ import annotations

import math
from dataclasses import dataclass

from linear_lasagna.vocabulary import DTYPES

LEADS = {
    1: "At depth 8, merging in float64 makes errors smaller in 16 bits and larger in float32 and float64.",
    2: "The error of a stack grows with the square root of its depth for random signs, hardly for positive numbers.",
    3: "On the CPU, 16-bit errors do not depend on the fan-in; float32 errors grow with it, then reach a plateau.",
    4: "The variance recursion predicts the error of a stack in 16 bits within 8 %.",
}
ANY = math.inf  # the upper end of a claim that only says "more than"
RELATIVE = 0.1  # by how much of the measured median an interval is widened
ABSOLUTE = 0.05  # by how much the interval of an exponent is widened: 10 % of the exponent of a square root


@dataclass(frozen=True)
class Claim:
    """One number of a lead: of the quantity `about` (as `measured` names it) in a dtype, for a sign structure.

    low, high: the claimed range, or the claimed number twice; high = ANY: more than low. neutral: what parts the two
    directions that the number may take, 1 for a ratio, None where there is none. tolerance: the range is itself the
    largest deviation that the lead allows, so nothing is widened, and all of the interval must lie in it.
    """

    lead: int
    about: str
    dtype: str
    signs: str
    low: float
    high: float
    neutral: float | None = None
    tolerance: bool = False

    @property
    def exponent(self) -> bool:
        return "exponent" in self.about


RATIO, DEPTH_EXPONENT = "error merged / stacked, depth 8", "exponent in depth"
LEAST, LARGEST = "least median error over fan-ins (u)", "largest median error over fan-ins (u)"
WHOLE, LOWER, UPPER = "exponent in fan-in", "exponent in fan-in, lower half", "exponent in fan-in, upper half"
LOW, HIGH = "least predicted / measured error over depths", "largest predicted / measured error over depths"

RATIOS = {"float16": 0.50, "bfloat16": 0.54, "float32": 1.92, "float64": 1.24}
SIGNS = ("random", "positive")

CLAIMS = (
    *(Claim(1, RATIO, dtype, "random", ratio, ratio, 1.0) for dtype, ratio in RATIOS.items()),
    Claim(1, RATIO, "float32", "positive", 8.1, 8.1, 1.0),
    *(Claim(2, DEPTH_EXPONENT, dtype, "random", 0.48, 0.52, 0.0) for dtype in DTYPES),
    *(Claim(2, DEPTH_EXPONENT, dtype, "positive", 0.03, 0.03) for dtype in DTYPES),
    *(Claim(3, about, d, s, 0.4, 0.5) for about in (LEAST, LARGEST) for d in DTYPES[:2] for s in SIGNS),
    *(Claim(3, WHOLE, dtype, signs, 0.0, 0.0) for dtype in DTYPES[:2] for signs in SIGNS),
    *(Claim(3, LOWER, "float32", signs, 0.0, ANY) for signs in SIGNS),
    *(Claim(3, UPPER, "float32", signs, 0.0, 0.0) for signs in SIGNS),
    *(Claim(4, about, d, s, 0.92, 1.08, tolerance=True) for about in (LOW, HIGH) for d in DTYPES[:2] for s in SIGNS),
)
