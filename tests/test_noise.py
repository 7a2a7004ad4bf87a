"""The noise summary, on rows whose answer is known."""

from __future__ import annotations

import math

import pandas
import pytest

from analysis.measure.noise import COLUMNS, COMPARED, TRUE_RATIO, rows, summary


def made(ratios: list[float], verdicts: list[str], true_ratio: float) -> pandas.DataFrame:
    found = [(1e-3, "interleaved", i, true_ratio, r, v) for i, (r, v) in enumerate(zip(ratios, verdicts, strict=True))]
    return pandas.DataFrame(found, columns=list(COLUMNS))


def test_summary_of_known_rows() -> None:
    same = made([math.exp(s) for s in (0.0, 0.01, -0.02, 0.03)], ["tie", "tie", "faster", "undecided"], 1.0)
    more = made([1.05, 1.04, 1.06, 1.0], ["slower", "slower", "slower", "tie"], TRUE_RATIO)
    [row] = summary(pandas.concat([same, more])).to_dict("records")
    assert row["n"] == 4
    assert row["median"] == pytest.approx(0.015)
    assert row["p90"] == pytest.approx(0.027)
    assert row["largest"] == pytest.approx(0.03)
    assert row["false_verdicts"] == 0.25
    assert row["found_5_percent"] == 0.75


def test_a_timing_without_verdicts_has_no_share_of_false_ones() -> None:
    [row] = summary(made([1.0, 1.1], ["", ""], 1.0)).to_dict("records")
    assert math.isnan(row["false_verdicts"])
    assert math.isnan(row["found_5_percent"])


def test_every_timing_compares_the_same_code_and_the_longer_call() -> None:
    ticks = []
    frame = rows(1, 0.02, (1e-5,), lambda: ticks.append(1))
    assert len(ticks) == len(COMPARED)
    assert list(frame.groupby("timing").true_ratio.apply(sorted)) == [[1.0, TRUE_RATIO]] * len(COMPARED)
    assert (frame.ratio > 0).all()


@pytest.mark.parametrize(("less", "count"), [(0, 1), (3, 10), (5, 10), (10, 10), (150, 343), (0, 400)])
def test_the_sign_test_is_scipy_s(less, count):
    from scipy.stats import binomtest

    from analysis.report.sections.noise import sign_test

    assert sign_test(less, count) == pytest.approx(binomtest(less, count).pvalue, rel=1e-12)
