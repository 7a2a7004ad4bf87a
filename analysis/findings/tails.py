"""Finding 7: relative errors of single outputs have no mean."""

from __future__ import annotations

from analysis.findings.claim import Claim, Finding
from analysis.findings.statistics import Value
from analysis.precision.tails import OTHERS
from analysis.precision.unit import plain
from linear_lasagna.vocabulary import DTYPES


def _claim(way: str, *dtypes: str) -> Claim:
    return Claim(way, Value(way, "relative_tail", {"problem": plain(2, 32, output=32).name}), 0.85, 1.15, dtypes)


TAILS = Finding(
    "Relative errors have no mean",
    "Of all outputs of two layers, the largest 1 % of the relative errors fall off with exponent 1, within 15 %, "
    "whatever the method and the dtype: outputs near zero are as likely as others, and their errors are no smaller. So "
    "such errors have quantiles, but neither a mean nor a largest one that would tell of more than their number.",
    "tails",
    (
        _claim("direct", *DTYPES),
        _claim("merged/direct", "bfloat16", "float32"),
        *(_claim(way, "float32") for way in ("unfold_matmul", *OTHERS)),
    ),
    (0,),
)
