"""Findings 1 and 3: what averages over positions leave of merging's error."""

from __future__ import annotations

from analysis.findings.claim import ANY, Claim, Finding
from analysis.findings.statistics import Ratio
from analysis.precision.averaging import averaged

STACKED, MERGED, TAPS = "direct", "merged/direct", "merged+tap_sums/direct"
PIXEL, POOLED = "error_u", "pooled_u"


def _claim(about: str, over: tuple[str, str], under: tuple[str, str], low: float, high: float, inputs: str) -> Claim:
    cells = {"inputs": inputs, "weights": "normal", "problem": averaged(3).name}
    return Claim(f"{about}, {inputs}", Ratio(over, under, cells), low, high)


COHERENT = Finding(
    "Merging’s error is coherent",
    "Averaged over positions, the error of a stack falls nearly as that of independent numbers where inputs have "
    "one sign, the error of the merged kernel hardly: its rounding is one fixed operator.",
    "averaging",
    (
        _claim("stacked: averaged / single", (STACKED, POOLED), (STACKED, PIXEL), 0.0, 0.1, "relu"),
        _claim("merged: averaged / single", (MERGED, POOLED), (MERGED, PIXEL), 0.4, ANY, "relu"),
        *(
            _claim("averaged: merged / stacked", (MERGED, POOLED), (STACKED, POOLED), 5.0, ANY, inputs)
            for inputs in ("relu", "pink", "photograph")
        ),
        _claim("averaged: merged / stacked", (MERGED, POOLED), (STACKED, POOLED), 0.5, 1.0, "normal"),
    ),
    (2, 4, 5),
)
TAP_SUMS = Finding(
    "Tap sums can be kept for nothing",
    "Rounding a merged kernel so that each kernel’s sum over its taps is kept leaves at most 35 % of the averaged "
    "error on images, and single outputs as they are, within 5 %.",
    "averaging",
    tuple(
        claim
        for inputs in ("relu", "pink", "photograph")
        for claim in (
            _claim("averaged: sums kept / to nearest", (TAPS, POOLED), (MERGED, POOLED), 0.0, 0.35, inputs),
            _claim("single: sums kept / to nearest", (TAPS, PIXEL), (MERGED, PIXEL), 0.95, 1.05, inputs),
        )
    ),
    (4, 5),
)
