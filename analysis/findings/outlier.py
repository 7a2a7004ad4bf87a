"""Finding 4: where the depth's exponent turns."""

from __future__ import annotations

from typing import Any

from analysis.findings.claim import ANY, SIXTEEN_BITS, Claim, Finding
from analysis.findings.statistics import Slope
from analysis.precision.outlier import IDENTITY, families
from analysis.precision.unit import PLAIN_CHANNELS


def _claim(strength: float, low: float, high: float, channels: int = PLAIN_CHANNELS) -> Claim:
    dtypes = SIXTEEN_BITS if channels == PLAIN_CHANNELS else ("bfloat16",)
    return _of(f"strength {strength:g}, {channels} channels", families(strength), channels, low, high, dtypes)


def _of(about: str, names: tuple[str, str], channels: int, low: float, high: float, dtypes: tuple[str, ...]) -> Claim:
    cells: dict[str, Any] = {"inputs": names[0], "weights": names[1], "fan_in": 9 * channels}
    return Claim(about, Slope("direct", "error_u", cells), low, high, dtypes)


OUTLIER = Finding(
    "The exponent turns at an outlier",
    "Where weights are noise and a matrix of rank one that multiplies the signal’s mean by a strength, the error of a "
    "stack grows as the square root of its depth while the strength is at most ½, also near the identity; at 1, where "
    "the mean leaves the bulk of the spectrum, more slowly; and at 2 hardly, whatever the number of channels.",
    "outlier",
    (
        _claim(0, 0.45, 0.55),
        _claim(0.5, 0.45, 0.55),
        _claim(1, 0.2, 0.48),
        _claim(2, -ANY, 0.2),
        _of("near the identity", IDENTITY, PLAIN_CHANNELS, 0.45, 0.55, SIXTEEN_BITS),
        *(claim for channels in (8, 64) for claim in (_claim(0.5, 0.4, 0.6, channels), _claim(2, -ANY, 0.2, channels))),
    ),
    (1, 2, 3),
)
