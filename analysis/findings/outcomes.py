"""What became of the claims: by the interval of what was measured, and no other way.

A claim is confirmed where the interval lies in its range, refuted where it lies outside of it, and else undecided; a
hypothesis is confirmed where all its claims are, refuted where one is, else undecided. The intervals of all claims of
one place hold together with 95 % (Bonferroni).
"""

from __future__ import annotations

import dataclasses
import json

from analysis.data.frames import Frame, framed, usable
from analysis.data.over_seeds import PLACE
from analysis.findings.claim import Claim
from analysis.findings.findings import FINDINGS
from analysis.findings.statistics import Measured, chosen
from linear_lasagna.intervals import CONFIDENCE

OUTCOMES = ("confirmed", "undecided", "refuted")
COUNT = sum(len(claim.dtypes) for finding in FINDINGS.values() for claim in finding.claims)
JOINT = 1 - (1 - CONFIDENCE) / COUNT
COLUMNS = ["machine", "device", "finding", "claim", "dtype", "statistic", "definition", "low", "high"]


def outcomes(rows: Frame, experiment: str) -> Frame:
    """Per place, claim and dtype what was measured, its interval, and the outcome."""
    found = []
    for place, own in usable(rows).groupby(PLACE, sort=True):
        for number, finding in FINDINGS.items():
            for claim in finding.claims if finding.experiment == experiment else ():
                for dtype in claim.dtypes:
                    measured = claim.measured.measured(chosen(own, {"dtype": dtype}), JOINT)
                    if measured is not None:
                        named = (*place, number, claim.about, dtype, *defined(claim), claim.low, claim.high)
                        found.append((*named, *measured, JOINT, outcome(measured, claim)))
    return framed(found, [*COLUMNS, *Measured._fields, "confidence", "outcome"])


def defined(claim: Claim) -> tuple[str, str]:
    """The kind of a claim's statistic, and its data as JSON: enough to compute it from the rows again."""
    statistic = claim.measured
    return statistic.kind, json.dumps(dataclasses.asdict(statistic))


def outcome(measured: Measured, claim: Claim) -> str:
    """Of one claim."""
    if claim.low <= measured.lower <= measured.upper <= claim.high:
        return "confirmed"
    return "refuted" if measured.upper < claim.low or measured.lower > claim.high else "undecided"


def overall(claims: Frame) -> str:
    """Of a hypothesis, by its claims."""
    found = set(claims["outcome"])
    return "refuted" if "refuted" in found else "confirmed" if found == {"confirmed"} else "undecided"
