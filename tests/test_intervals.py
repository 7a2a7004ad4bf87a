"""Intervals and verdicts, against exact enumeration, other libraries, and rules that stop where it hurts most."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable
from fractions import Fraction

import numpy
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from linear_lasagna.intervals import (
    CONFIDENCE,
    LEAST_PROCESSES,
    MARGIN,
    PRECISE,
    PRECISE_TIE,
    autocorrelation,
    median_interval,
    process_interval,
    repeated_ranks,
    settled,
    verdict,
)

SIGMAS = 4
MOST = 18


def monte_carlo(rate: float, repeats: int) -> float:
    """How far a true rate's estimate from so many repeats may be off."""
    return SIGMAS * math.sqrt(rate * (1 - rate) / repeats)


# The interval of one sample


@given(st.integers(1, 80), st.sampled_from((0.6, 0.8, 0.9, 0.95, 0.99)))
def test_median_interval_is_the_binomials(n, confidence):
    """The narrowest pair of order statistics whose tails, by scipy's binomial, are small enough."""
    binomial = scipy.stats.binom(n, 0.5)
    k = int(binomial.ppf((1 - confidence) / 2))  # the least k with P(X <= k) over the tail
    found = median_interval([float(v) for v in reversed(range(1, n + 1))], confidence)
    assert found == (None if k == 0 else (k, n + 1 - k))
    if k:
        assert 1 - 2 * binomial.cdf(k - 1) >= confidence > 1 - 2 * binomial.cdf(k)


def test_median_interval_covers_the_median():
    """12 values of a skewed distribution, 4,000 times."""
    generator, repeats = numpy.random.default_rng(1), 4000
    draws = generator.exponential(1, (repeats, 12)).tolist()
    intervals = [median_interval(values) for values in draws]
    coverage = statistics.mean(lower <= math.log(2) <= upper for lower, upper in intervals)
    exact = 1 - 2 * scipy.stats.binom(12, 0.5).cdf(2)
    assert abs(coverage - exact) <= monte_carlo(exact, repeats)


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 5])
def test_too_few_values_have_no_interval(values):
    assert median_interval(values) is None


@pytest.mark.parametrize(("correlation", "rank"), [(-0.5, 6), (0.0, 6), (1 / 3, 4), (0.5, 3), (0.6, None), (1.0, None)])
def test_correlated_values_count_for_fewer(correlation, rank):
    """Of 20 values n (1 - r) / (1 + r) count: 20, 10, 6, 5. Of 10 the interval starts at the 2nd, so of these 20 at the
    4th; of 6 at the 1st, so here at the 3rd.
    """
    found = median_interval([float(v) for v in range(1, 21)], correlation=correlation)
    assert found == (None if rank is None else (rank, 21 - rank))


@pytest.mark.parametrize("correlation", [0.4, 0.6])
def test_the_interval_of_correlated_values_covers_where_the_plain_one_does_not(correlation):
    """AR(1), 48 values, 2,000 times. The plain interval misses by more than chance."""
    repeats, generator = 2000, numpy.random.default_rng(3)
    series = autoregressive(generator, correlation, repeats, 48)
    plain, allowing = ([median_interval(s, correlation=r) for s in series] for r in (0.0, correlation))
    covered = [statistics.mean(a <= 0 <= b for a, b in found) for found in (plain, allowing)]
    assert covered[1] >= CONFIDENCE - monte_carlo(CONFIDENCE, repeats)
    assert covered[0] < CONFIDENCE - monte_carlo(CONFIDENCE, repeats)


# The interval between processes


@pytest.mark.parametrize("n", range(13))
def test_repeated_ranks_keep_the_confidence_by_enumeration(n):
    """All 2**n walks, in exact rationals: those that any interval so far misses are at most 5 %, and one rank more at
    the last look would miss too many, or more than is spent by then.
    """
    ranks = [repeated_ranks(m) for m in range(n + 1)]
    assert missed(ranks) <= Fraction(1, 20)
    allowed = Fraction(1, 20) - (Fraction(1, 20) - Fraction(1, 32)) * Fraction(LEAST_PROCESSES, max(n, LEAST_PROCESSES))
    if n >= LEAST_PROCESSES:
        assert missed(ranks) <= allowed < missed([*ranks[:-1], ranks[-1] + 1])
    else:
        assert ranks[-1] == 0


def missed(ranks: list[int]) -> Fraction:
    """The share of walks of fair steps that fewer than k are below, or above, the median, at any length."""
    n = len(ranks) - 1
    walks = itertools.product((0, 1), repeat=n)
    lost = sum(
        any(min(below, m - below) < ranks[m] for m, below in enumerate(itertools.accumulate(walk, initial=0)))
        for walk in walks
    )
    return Fraction(lost, 2**n)


def test_repeated_ranks_never_fall_and_are_no_bolder_than_one_look():
    ranks = [repeated_ranks(n) for n in range(61)]
    assert ranks == sorted(ranks)
    assert ranks[LEAST_PROCESSES - 1 : LEAST_PROCESSES + 1] == [0, 1]
    assert all(rank <= scipy.stats.binom(n, 0.5).ppf((1 - CONFIDENCE) / 2) for n, rank in enumerate(ranks))
    assert ranks[60] >= 15  # and not much more timid: one look alone has 22


@pytest.mark.parametrize("n", range(LEAST_PROCESSES))
def test_too_few_processes_have_no_interval(n):
    assert process_interval([0.0] * n) is None


@pytest.mark.parametrize("n", [6, 11, 15, 18])
def test_the_interval_is_between_order_statistics(n):
    values = [float(v) for v in range(1, n + 1)]
    random.Random(n).shuffle(values)
    k = repeated_ranks(n)
    assert process_interval(values) == (k, n + 1 - k)


DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda draw: draw.gauss(0, 1),
    "skewed": lambda draw: draw.expovariate(1) - math.log(2),
    "two values": lambda draw: draw.choice((-1.0, 1.0)) + draw.gauss(0, 1e-3),
    "no mean": lambda draw: draw.paretovariate(0.5) - 4,
}
STOPS: dict[str, Callable[[float, float], bool]] = {
    "never": lambda lower, upper: False,
    "when it misses": lambda lower, upper: not lower <= 0 <= upper,
    "when it is narrow": lambda lower, upper: upper - lower < 0.8,
    "when it excludes a wrong value": lambda lower, upper: not lower <= 0.5 <= upper,
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_intervals_cover_whenever_one_stops(distribution, stop):
    """The median is 0. The worst rule stops as soon as the interval misses it."""
    draw, repeats, covered = random.Random(f"{distribution} {stop}"), 1500, 0
    for _ in range(repeats):
        values: list[float] = []
        while True:
            values.append(DISTRIBUTIONS[distribution](draw))
            lower, upper = process_interval(values) or (-math.inf, math.inf)
            if len(values) == MOST or (len(values) >= LEAST_PROCESSES and STOPS[stop](lower, upper)):
                break
        covered += lower <= 0 <= upper
    assert covered / repeats >= CONFIDENCE - monte_carlo(CONFIDENCE, repeats)


def test_a_fixed_samples_interval_would_not_survive_the_worst_rule():
    """What the repeated one is for: looking after every process, the plain interval misses far more than 5 %."""
    draw, repeats, missed_ = random.Random(0), 1500, 0
    for _ in range(repeats):
        values = [draw.gauss(0, 1) for _ in range(MOST)]
        intervals = [median_interval(values[:n]) for n in range(LEAST_PROCESSES, MOST + 1)]
        missed_ += any(found is not None and not found[0] <= 0 <= found[1] for found in intervals)
    assert missed_ / repeats > 1.5 * (1 - CONFIDENCE)


# Autocorrelation


def autoregressive(generator: numpy.random.Generator, correlation: float, repeats: int, n: int) -> list[list[float]]:
    """AR(1) series of variance 1."""
    values = generator.normal(size=(repeats, n))
    for place in range(1, n):
        values[:, place] = correlation * values[:, place - 1] + math.sqrt(1 - correlation**2) * values[:, place]
    return values.tolist()


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.3, 0.7])
def test_autocorrelation_of_a_known_process(correlation):
    """Long series give it; of many short ones the bias that is put back is that of independent values."""
    generator = numpy.random.default_rng(4)
    assert autocorrelation(autoregressive(generator, correlation, 20, 1000)) == pytest.approx(correlation, abs=0.03)
    short = autocorrelation(autoregressive(generator, correlation, 4000, 12))
    bias = 3 * correlation / 12  # Kendall's other term, which is left, and terms of 1/n**2
    assert short == pytest.approx(correlation - bias, abs=0.05)


def test_autocorrelation_by_hand():
    """0, 1, 2, 3: products 1.25, squares 5, 1.25 back; series are summed, each around its own mean."""
    assert autocorrelation([[0.0, 1.0, 2.0, 3.0]]) == pytest.approx((1.25 + 1.25) / 5)
    assert autocorrelation([[0.0, 1.0, 2.0, 3.0], [7.0, 9.0]]) == pytest.approx((1.25 - 1 + 1.25 + 1) / 7)
    for nothing in ([], [[]], [[1.0], [2.0]], [[0.1] * 12]):
        assert math.isnan(autocorrelation(nothing))


# Verdicts

LOGS = st.floats(-0.2, 0.2)


@given(LOGS, LOGS, LOGS, st.floats(0, 0.1))
def test_a_verdict_says_what_its_interval_allows(a, b, c, noise):
    lower, estimate, upper = sorted((a, b, c))
    found = verdict(estimate, lower, upper, noise=noise)
    inside = lower >= -MARGIN and upper <= MARGIN
    assert (found == "tie") == inside
    assert (found == "faster") == (not inside and upper < 0 and estimate < -max(MARGIN, noise))
    assert (found == "slower") == (not inside and lower > 0 and estimate > max(MARGIN, noise))
    mirrored = verdict(-estimate, -upper, -lower, noise=noise)
    assert mirrored == {"faster": "slower", "slower": "faster"}.get(found, found)


def test_without_an_interval_nothing_is_decided_or_settled():
    assert verdict(1.0, math.nan, math.nan) == "undecided"
    assert settled(1.0, math.nan, math.nan) is None


@given(LOGS, LOGS, LOGS, st.floats(0, 0.1))
def test_settled_is_a_verdict_or_a_narrow_interval(a, b, c, noise):
    lower, estimate, upper = sorted((a, b, c))
    decided = verdict(estimate, lower, upper, noise=noise) != "undecided"
    narrow = (upper - lower) / 2 <= (PRECISE_TIE if abs(estimate) <= MARGIN else PRECISE)
    assert settled(estimate, lower, upper, noise) == ("verdict" if decided else "precise" if narrow else None)


@pytest.mark.parametrize(
    ("estimate", "half", "noise", "reason"),
    [
        (0.05, 0.03, 0.0, "verdict"),
        (0.05, 0.03, 0.06, None),
        (0.05, 0.019, 0.06, "precise"),
        (0.015, 0.019, 0.0, "precise"),
        (0.009, 0.019, 0.0, None),
        (0.009, 0.004, 0.0, "precise"),
        (0.0, 0.009, 0.0, "verdict"),
    ],
)
def test_when_no_further_process_is_needed(estimate, half, noise, reason):
    """5 % beside a restless control needs an interval of 2 %; whether 0.9 % is a tie, one of 0.5 %."""
    assert settled(estimate, estimate - half, estimate + half, noise) == reason
