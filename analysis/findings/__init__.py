"""Findings: hypotheses that were fixed before their experiments were run, and what came out. No drawing, no files.

`FINDINGS` names them. One is a file of data here: a title, a hypothesis, and claims, each a statistic of an
experiment's rows with the range in which it should lie. `outcomes` judges all claims of an experiment.
"""

from analysis.findings.claim import ANY, SIXTEEN_BITS, Claim, Finding
from analysis.findings.findings import FINDINGS
from analysis.findings.outcomes import JOINT, OUTCOMES, outcomes, overall

__all__ = ["ANY", "FINDINGS", "JOINT", "OUTCOMES", "SIXTEEN_BITS", "Claim", "Finding", "outcomes", "overall"]
