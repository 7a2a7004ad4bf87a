"""All findings, by their number."""

from __future__ import annotations

from analysis.findings.accidents import ACCIDENTS
from analysis.findings.casting import CAST_ONCE
from analysis.findings.claim import Finding
from analysis.findings.coarse import COARSE
from analysis.findings.coherence import COHERENT, TAP_SUMS
from analysis.findings.defects import DEFECTS
from analysis.findings.evolved import EVOLVED
from analysis.findings.outlier import OUTLIER
from analysis.findings.rounded import ROUNDED
from analysis.findings.scatter import SCATTER
from analysis.findings.small_outputs import LOST
from analysis.findings.summation import SUMMATION
from analysis.findings.tails import TAILS

FINDINGS: dict[int, Finding] = {
    1: COHERENT,
    2: CAST_ONCE,
    3: TAP_SUMS,
    4: OUTLIER,
    5: SUMMATION,
    6: LOST,
    7: TAILS,
    8: SCATTER,
    9: ROUNDED,
    10: COARSE,
    11: DEFECTS,
    12: ACCIDENTS,
    13: EVOLVED,
}
