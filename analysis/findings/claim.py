"""What a finding is: a hypothesis and its claims, fixed before the experiment was run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.findings.statistics import Statistic

ANY = math.inf
SIXTEEN_BITS = ("float16", "bfloat16")


@dataclass(frozen=True)
class Claim:
    """What is measured lies between low and high, in each of the dtypes. about: of what, in a few words."""

    about: str
    measured: Statistic
    low: float
    high: float
    dtypes: tuple[str, ...] = SIXTEEN_BITS


@dataclass(frozen=True)
class Finding:
    """title: a few words; hypothesis: as it was fixed; claims: its numbers, of one experiment.

    told: the places of the claims whose numbers the sentence on it gives.
    """

    title: str
    hypothesis: str
    experiment: str
    claims: tuple[Claim, ...]
    told: tuple[int, ...]
