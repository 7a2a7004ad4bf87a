"""What the two articles claim, judged on data with a known answer."""

from __future__ import annotations

import pytest

from analysis.data.records import Record, Records
from analysis.report.sections import articles
from linear_lasagna.trial import Cell
from tests import synthetic
from tests.reporting import study


def judged(problem: str, ways: dict[str, float | Cell]) -> dict[str, tuple[str, str]]:
    """Claim -> what was measured, and the outcome."""
    record = Record(synthetic.trial(problem, ways), "sources", "m")
    frame = study(Records((record,))).frames["articles"]
    return {row.claim: (row.measured, row.outcome) for row in frame.itertuples(index=False)}


def of(text: str) -> str:
    (found,) = (claim.text for claim in articles.CLAIMS if claim.text.startswith(text))
    return found


@pytest.mark.parametrize(("ratio", "outcome"), [(0.25, articles.HOLDS), (4.0, articles.FAILS), (1.0, "undecided")])
def test_merging_saves_time_where_its_interval_says_so(ratio, outcome):
    measured, found = judged("sources/merge", {"merged/direct": ratio})[of("Merging saves time")]
    assert found == outcome
    assert measured.endswith(" as fast as direct in float32")


def test_the_merged_kernel_has_more_parameters_than_the_article_says():
    """2 × 1 × 7 × 7, as merging the example by hand gives."""
    measured, outcome = judged("sources/merge", {"merged/direct": 0.5})[of("The example’s merged kernel")]
    assert (measured.split(":")[0], outcome) == ("98", articles.FAILS)


def test_a_reshape_that_failed_to_be_exact_is_told():
    claim = of("Where kernel equals stride")
    assert judged("sources/patches", {"patch_matmul": 0.5})[claim] == ("exact on integers in float32", articles.HOLDS)
    failed = judged("sources/patches", {"patch_matmul": Cell("failed", reason="differs")})[claim]
    assert failed == ("it failed in float32", articles.FAILS)
    assert claim not in judged("sources/patches", {"unfold_matmul": 1.0})
