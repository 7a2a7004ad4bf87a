"""Intervals for a median, over processes or over the blocks of one, and the verdicts that they allow.

What differs from one process to the next (where its memory lies, what its libraries chose, what the hour brings) is in
no interval over the blocks of one. The unit of a published interval is therefore the process: Kalibera and Jones,
"Rigorous benchmarking in reasonable time", ISMM 2013. How many processes there are is decided while they are timed, and
the interval allows for that: it is one of a sequence that all contain the median with the confidence of 95 %, whatever
the distribution and whenever one stops (Jennison and Turnbull, "Interim analyses: the repeated confidence interval
approach", JRSS B 51, 1989). Needs neither torch nor NumPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from statistics import fmean, median
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["faster", "slower", "tie", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("faster", "slower", "tie", "undecided")
Interval: TypeAlias = tuple[float, float, float]  # an estimate, lower end, upper end
Stop: TypeAlias = Literal["verdict", "precise"]

MARGIN = 0.01  # smaller differences are never a verdict
CONFIDENCE = 0.95
LEAST_BLOCKS = 8  # of one process alone: fewer give no interval worth a verdict
LEAST_PROCESSES = 6  # with fewer, no interval between any two of them has the confidence
PRECISE = 0.02  # the half width of a log ratio's interval that is narrow enough,
PRECISE_TIE = 0.005  # and where only a narrower one tells whether it is a tie


def verdict(estimate: float, lower: float, upper: float, margin: float = MARGIN, noise: float = 0.0) -> Verdict:
    """What a log ratio with its interval amounts to: the one rule of all verdicts.

    "faster", "slower": the interval excludes zero and the estimate exceeds the margin, and the noise that a control
    shows. "tie": the whole interval lies within the margin; noise never widens it. Else, and where the ends are NaN,
    "undecided".
    """
    if -margin <= lower and upper <= margin:
        return "tie"
    if abs(estimate) > max(margin, noise) and (lower > 0 or upper < 0):
        return "faster" if estimate < 0 else "slower"
    return "undecided"


def settled(estimate: float, lower: float, upper: float, noise: float = 0.0) -> Stop | None:
    """Why no further process is needed for a log ratio, by its interval between processes; None where one is."""
    if math.isnan(lower):
        return None
    if verdict(estimate, lower, upper, MARGIN, noise) != "undecided":
        return "verdict"
    enough = PRECISE_TIE if abs(estimate) <= MARGIN else PRECISE
    return "precise" if (upper - lower) / 2 <= enough else None


def difference(first: Interval, second: Interval) -> Interval:
    """Second - first of two independent estimates, each with the ends of its interval; NaN where one is.

    The method of variance estimates recovery: Zou and Donner, "Construction of confidence limits about effect
    measures", Statistics in Medicine 27 (2008). Of logarithms it is the interval of a ratio.
    """
    (low, low_lower, low_upper), (high, high_lower, high_upper) = first, second
    estimate = high - low
    lower = estimate - math.hypot(high - high_lower, low_upper - low)
    upper = estimate + math.hypot(high_upper - high, low - low_lower)
    return estimate, lower, upper


def log_median(values: Sequence[float]) -> Interval:
    """The median of the logarithms of one value per process, with its interval between processes; NaN for too few."""
    logs = [math.log(value) for value in values]
    return (median(logs), *(process_interval(logs) or (math.nan, math.nan)))


def median_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, correlation: float = 0.0
) -> tuple[float, float] | None:
    """A distribution-free interval for the median from order statistics, of at least the given confidence.

    None where there are too few values. correlation: of each value with the next, where it is positive: the ranks of
    the ends are then those that n (1 - correlation) / (1 + correlation) independent values would have, spread over the
    n that there are. Source: David and Nagaraja, Order Statistics, section 7.1: the interval between the k-th smallest
    and the k-th largest covers 1 - 2 P(Binomial(n, 1/2) < k).
    """
    n = len(values)
    independent = math.floor(n * (1 - correlation) / (1 + correlation)) if correlation > 0 else n
    rank = _rank(independent, confidence)
    k = math.floor(rank * n / independent) if rank else 0
    if k == 0:
        return None
    ordered = sorted(values)
    return ordered[k - 1], ordered[n - k]


def _rank(n: int, confidence: float) -> int:
    """The largest k for which the interval has the confidence; 0 where none has it."""
    tail, k = 0.0, 0
    while n > 0:
        tail += math.comb(n, k) / 2**n
        if 2 * tail > 1 - confidence:
            break
        k += 1
    return k


def process_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The interval between processes for the median of all, from one value of each, in the order of their time.

    None for fewer than LEAST_PROCESSES. The intervals of all prefixes together contain the median with CONFIDENCE, if
    processes are independent: so one may stop whenever an interval says enough.
    """
    k = repeated_ranks(len(values))
    if k == 0:
        return None
    ordered = sorted(values)
    return ordered[k - 1], ordered[len(values) - k]


@cache
def repeated_ranks(n: int) -> int:
    """k, where the interval of n processes lies between the k-th smallest and the k-th largest value; 0 for too few.

    How many values lie below the median is a walk of fair steps. k is the largest for which walks that have left their
    bounds by then are no more likely than is allowed: 1 - CONFIDENCE at last, 2/2**6 of it at the first look, the rest
    as 1/n falls (alpha spending: Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70,
    1983).
    """
    return _look(n)[0]


@cache
def _look(n: int) -> tuple[int, float, tuple[tuple[int, float], ...]]:
    """k; the probability of walks that have left their bounds; that of those which have not, by their place."""
    if n == 0:
        return 0, 0.0, ((0, 1.0),)
    _, spent, before = _look(n - 1)
    places: dict[int, float] = {}
    for below, probability in before:
        for place in (below, below + 1):
            places[place] = places.get(place, 0.0) + probability / 2
    if n < LEAST_PROCESSES:
        return 0, spent, tuple(places.items())
    first = 2.0 ** (1 - LEAST_PROCESSES)
    allowed = 1 - CONFIDENCE - (1 - CONFIDENCE - first) * LEAST_PROCESSES / n - spent
    k, left = 0, 0.0
    while (more := left + places.get(k, 0.0) + places.get(n - k, 0.0)) <= allowed + 1e-12:
        k, left = k + 1, more
    inside = tuple((place, probability) for place, probability in places.items() if k <= place <= n - k)
    return k, spent + left, inside


def autocorrelation(series: Sequence[Sequence[float]]) -> float:
    """Of each value with the next within the series, around their means, all series together; NaN for too little.

    The mean that is taken off makes it too small by about 1/n for series of n values: that is put back. Source:
    Kendall, "Note on bias in the estimation of autocorrelation", Biometrika 41 (1954), for the term that does not
    depend on the correlation itself.
    """
    products = squares = expected = 0.0
    for values in series:
        if len(values) < 2:
            continue
        above = [value - values[0] for value in values]  # of equal values nothing is left
        middle = fmean(above)
        off = [value - middle for value in above]
        size = sum(d * d for d in off)
        products += sum(a * b for a, b in itertools.pairwise(off))
        squares += size
        expected -= size / len(values)
    return (products - expected) / squares if squares else math.nan
