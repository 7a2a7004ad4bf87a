"""Finding 2: merging before weights are cast to 16 bits."""

from __future__ import annotations

import math

from analysis.findings.claim import Claim, Finding
from analysis.findings.statistics import Ratio
from analysis.precision.unit import plain

DEPTHS = (2, 3, 4, 8)
CAST, ONCE, SPLIT = (f"{schedule}direct" for schedule in ("", "merged+nearest/", "merged+split/"))


def _claim(about: str, way: str, depth: int, low: float, high: float) -> Claim:
    cells = {"inputs": "relu", "problem": plain(depth).name}
    return Claim(f"{about} / cast, depth {depth}", Ratio((way, "error_u"), (CAST, "error_u"), cells), low, high)


CAST_ONCE = Finding(
    "Merge first, cast once",
    "Against float32 weights, merging L layers first and rounding once leaves 1 / √L of the error of rounding "
    "each, within 10 %; split into two kernels less than half of it.",
    "casting",
    tuple(
        claim
        for depth in DEPTHS
        for claim in (
            _claim("merged, then cast", ONCE, depth, 0.9 / math.sqrt(depth), 1.1 / math.sqrt(depth)),
            _claim("split", SPLIT, depth, 0.0, 0.5),
        )
    ),
    (0, 4, 5),
)
