"""Findings: the outcomes of data whose answer is known."""

import pandas
import pytest

from analysis.precision import EXPERIMENTS
from analysis.report.sections.findings import DTYPES, FINDINGS, JOINT, _outcome, overall, paired, sentences
from linear_lasagna.intervals import median_interval

CLAIM = FINDINGS[1].claims[0]  # merged and cast once against cast, depth 2


def rows(ratio, seeds=20, **more):
    """Errors of 1 of the way that is divided by, and of the ratio, a little more with each seed, of the other."""
    cells = [
        {**CLAIM.cells, "dtype": "float16", "seed": seed, "way": way, "error_u": size, **more}
        for seed in range(seeds)
        for way, size in ((CLAIM.under[0], 1.0), (CLAIM.over[0], ratio * (1 + seed / 1e4)))
    ]
    return pandas.DataFrame(cells).sample(frac=1, random_state=0)


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [(0.5**0.5, "confirmed"), (0.6, "refuted"), (0.9, "refuted"), (CLAIM.high / 1.001, "undecided")],
)
def test_a_claim_is_judged_by_its_interval(ratio, outcome):
    ratios = paired(rows(ratio), CLAIM, "float16")
    assert ratios == pytest.approx([ratio * (1 + seed / 1e4) for seed in range(20)])
    assert _outcome(ratios, CLAIM) == outcome
    assert _outcome(ratios[:3], CLAIM) == "undecided"  # too few for an interval


def test_only_the_claim_s_own_cells_count():
    other = rows(9.0, inputs="pink")
    assert paired(pandas.concat([rows(0.7), other]), CLAIM, "float16") == paired(rows(0.7), CLAIM, "float16")
    assert paired(other, CLAIM, "float16") == []


def test_intervals_hold_together():
    """Bonferroni: as many as there are claims and dtypes; 20 seeds are enough for one."""
    number = len(DTYPES) * sum(len(finding.claims) for finding in FINDINGS)
    assert number * (1 - JOINT) == pytest.approx(0.05)
    assert median_interval(list(map(float, range(20))), JOINT) is not None


def test_one_claim_s_interval_alone_is_not_enough():
    """Of 20 seeds the four least lie below the range: the 95 % interval, from the sixth on, would confirm it."""
    ratios = [0.1] * 4 + [0.5**0.5] * 16
    assert min(median_interval(ratios)) == 0.5**0.5
    assert _outcome(ratios, CLAIM) == "undecided"


def test_a_hypothesis_is_what_its_claims_are():
    frame = pandas.DataFrame({"finding": [2, 2, 2], "outcome": ["confirmed", "undecided", "confirmed"]})
    frame = frame.assign(claim=CLAIM.about, dtype=["float16", "float32", "float64"], median=0.71, lower=0.7, upper=0.72)
    assert overall(frame) == "undecided"
    assert overall(frame.replace("undecided", "refuted")) == "refuted"
    assert overall(frame.replace("undecided", "confirmed")) == "confirmed"
    (text,) = sentences(frame)
    assert text.startswith(
        f"2. {FINDINGS[1].hypothesis} Undecided: 2 of 3 claims confirmed. Ratios, {CLAIM.about}: 0.71"
    )


def cell(unit, name):
    return unit.problem.name if name == "problem" else getattr(unit, name)


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.title)
def test_the_default_preset_asks_for_every_claim(finding):
    """Each claim's cells are among the experiment's units, once per seed, and 20 seeds or more are drawn."""
    experiment = EXPERIMENTS[finding.experiment]
    units = experiment.units("default", "cpu")
    for claim in finding.claims:
        assert claim.low < claim.high
        assert {claim.over[0], claim.under[0]} <= set(experiment.ways)
        own = [
            unit
            for unit in units
            if all(
                (unit.problem.name if name == "problem" else getattr(unit, name)) == v
                for name, v in claim.cells.items()
            )
        ]
        for dtype in DTYPES:
            seeds = [unit.seed for unit in own if unit.dtype == dtype]
            assert len(seeds) == len(set(seeds)) >= 20
