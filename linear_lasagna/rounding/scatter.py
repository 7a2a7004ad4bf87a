"""How far a measured error may lie from the predicted one: independent parts of an error, and an interval.

The predicted square of an error's norm, T = sum b**2 + tr C, is a mean: b are the errors that are known, C is the
covariance of the others. If these are normal, T has the variance 2 tr C**2 + 4 b^T C b, so it scatters as the mean of
nu squares of independent normal numbers,

    nu = 2 T**2 / (2 tr C**2 + 4 b^T C b),        without known errors (tr C)**2 / tr C**2.

Few outputs, errors of early layers that all later ones share, and a spectrum that falls make it small. C itself rests
on n errors that were found, so that measured / predicted square follows F's distribution with nu and n degrees of
freedom. Sources: Satterthwaite, Biometrics Bulletin 2 (1946), 110; Box, Ann. Math. Statist. 25 (1954), 290.
"""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist
from typing import NamedTuple

import numpy

from linear_lasagna.intervals import CONFIDENCE
from linear_lasagna.rounding.propagation import ErrorMoments

DRAWS = (4, 24)  # error vectors that are drawn: at least and at most
NUMBERS = 2**22  # in all of a layer's, about
MANY = 20000  # draws of a ratio, for its quantiles
LEFT_OUT = 0.01  # of an error that is known as a whole, what the model may be off: numbers near a tie, a library's
# other order at an image's edge


class Scatter(NamedTuple):
    """independent: parts of the error; lower, upper: measured / predicted, which lies between with 95 %."""

    independent: float
    lower: float
    upper: float


def draws(outputs: int) -> int:
    """How many error vectors to draw of a layer with so many outputs."""
    least, most = DRAWS
    return min(max(least, NUMBERS // outputs), most)


def scatter(moments: ErrorMoments) -> Scatter:
    """Of the measured error around the predicted one. The moments have drawn errors."""
    assert moments.drawn is not None
    unknown = float(moments.variance.sum())
    whole = float(moments.mean.square().sum()) + unknown
    if not whole:
        return Scatter(math.inf, 1.0, 1.0)
    e, b = moments.drawn.flatten(1), moments.mean.flatten()
    pairs = list(itertools.combinations(range(len(e)), 2))
    gram = (e @ e.T).square()
    shared = sum(float(gram[i, j]) for i, j in pairs) / len(pairs)
    variance = 2 * shared + 4 * float((e @ b).square().mean())
    parts = 2 * whole**2 / variance if variance else math.inf
    seen = moments.ground.seen * (whole / unknown) ** 2 if unknown else math.inf
    averaged = len(e) * whole**2 / shared if shared else math.inf  # draws, whose mean the variance is
    seen = _together(seen, averaged)
    return Scatter(_together(parts, seen), *ratio_interval(parts, seen))


def _together(*parts: float) -> float:
    """Of a product whose factors have so many independent parts each."""
    doubt = sum(1 / each for each in parts)
    return 1 / doubt if doubt else math.inf


def parts_of(lower: float, upper: float) -> float:
    """So many independent parts have an interval as wide as this one, which is made in another way: about."""
    if not 0 < lower < upper:
        return math.inf if lower == upper else 0.0
    return 2 * (NormalDist().inv_cdf((1 + CONFIDENCE) / 2) / math.log(upper / lower)) ** 2


def ratio_interval(parts: float, seen: float) -> tuple[float, float]:
    """The quantiles of sqrt(F), F with so many degrees of freedom, between which it lies with CONFIDENCE."""
    random = numpy.random.default_rng(0)
    sides = [random.chisquare(n, MANY) / n if math.isfinite(n) else numpy.ones(MANY) for n in (parts, seen)]
    tail = (1 - CONFIDENCE) / 2
    lower, upper = numpy.sqrt(numpy.quantile(sides[0] / sides[1], [tail, 1 - tail]))
    return min(float(lower), 1 - LEFT_OUT), max(float(upper), 1 + LEFT_OUT)
