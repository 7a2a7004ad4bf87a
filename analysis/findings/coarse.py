"""Finding on coarse arithmetic: where storing outputs is an activation."""

from __future__ import annotations

from analysis.findings.claim import Claim, Finding
from analysis.findings.statistics import Ratio
from analysis.precision.coarse import WAYS, biased

AGAINST = {"linear_wrong": "best linear", "float64_wrong": "in float64"}


def _claim(biases: float, form: str, under: str, low: float, high: float) -> Claim:
    about = f"wrong: stack / {AGAINST[under]}, {form}, biases {biases:g}"
    cells = {"problem": biased(biases).name, "format": form}
    return Claim(about, Ratio((WAYS[0], "wrong"), (WAYS[0], under), cells), low, high, ("float32",))


COARSE = Finding(
    "Coarse storage is an activation",
    "A stack of linear layers that is trained through its own rounding, its biases drawn as zeros, makes as many "
    "mistakes as the best linear classifier, within 20 %, even with 2 significant bits. With biases drawn with a "
    "standard deviation of 4 it makes at most three quarters as many in 2 bits, but as many with 6 "
    "bits; the same numbers in float64 lose the gain. With biases "
    "of 16 there is a gain over float64 with 4 bits.",
    "coarse",
    (
        _claim(0, "2 bits", "linear_wrong", 0.8, 1.2),
        _claim(4, "2 bits", "linear_wrong", 0.0, 0.75),
        _claim(4, "6 bits", "linear_wrong", 0.8, 1.2),
        _claim(4, "2 bits", "float64_wrong", 0.0, 0.6),
        _claim(16, "4 bits", "float64_wrong", 0.0, 1.0),
    ),
    (0, 1, 3, 4),
)
