"""Finding 8: how far errors of draws lie apart is a function of depth by width."""

from __future__ import annotations

from analysis.findings.claim import ANY, Claim, Finding
from analysis.findings.statistics import Spread
from analysis.precision.scatter import stack

Stack = tuple[int, int]  # width, depth


def _claim(over: Stack, under: Stack, low: float, high: float) -> Claim:
    names = [f"{width} × {depth}" for width, depth in (over, under)]
    cells = [{"problem": stack(*each).name} for each in (over, under)]
    spread = Spread("direct", "error_u", {"weights": "normal"}, *cells)
    return Claim(f"{names[0]} / {names[1]}", spread, low, high, ("bfloat16",))


SCATTER = Finding(
    "Scatter follows depth / width",
    "Over draws of weights and inputs the logarithm of the error of a stack of 1×1 layers has a standard deviation "
    "that depends on depth / width: it is the same, within a factor of 2, where that is, and over 3 times as large "
    "where a stack of the same width is 8 or 16 times as deep, or one of the same depth 16 times as narrow (named as "
    "width × depth).",
    "scatter",
    (
        _claim((32, 4), (8, 1), 0.5, 2),
        _claim((128, 16), (32, 4), 0.5, 2),
        _claim((128, 32), (32, 8), 0.5, 2),
        _claim((32, 16), (8, 4), 0.5, 2),
        _claim((32, 32), (8, 8), 0.5, 2),
        _claim((8, 16), (8, 1), 3, ANY),
        _claim((32, 32), (32, 4), 3, ANY),
        _claim((8, 16), (128, 16), 3, ANY),
    ),
    (0, 1, 4, 5, 7),
)
