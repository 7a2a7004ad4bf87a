"""Findings: the outcomes of data whose answer is known."""

import itertools
import json
import math
from fractions import Fraction

import numpy
import pandas
import pytest
from matplotlib.colors import to_hex

from analysis.findings import FINDINGS, JOINT, outcomes, overall
from analysis.findings.casting import CAST_ONCE
from analysis.findings.instructions import by_instructions, shift
from analysis.findings.outcomes import outcome
from analysis.findings.statistics import STATISTICS, Measured, Ratio, Slope, Spread, Value
from analysis.precision import EXPERIMENTS
from analysis.precision.families import INPUTS
from analysis.report.sections.findings import LOOKS, _stacks, claim_table, dependence, figure, sentences
from analysis.report.style import PAPER, VERMILION
from linear_lasagna.intervals import median_interval
from tests.synthetic import units_of_claims

CLAIM = CAST_ONCE.claims[0]  # merged and cast once against cast, depth 2
PLACE = {"machine": "synthetic", "device": "cpu", "status": "ok", "dtype": "float16"}


def rows(ratio, seeds=20, **more):
    """Errors of 1 of the way that is divided by, and of the ratio, a little more with each seed, of the other."""
    statistic = CLAIM.measured
    cells = [
        {**statistic.cells, **PLACE, "seed": seed, "way": way, "error_u": size, **more}
        for seed in range(seeds)
        for way, size in ((statistic.under[0], 1.0), (statistic.over[0], ratio * (1 + seed / 1e4)))
    ]
    return pandas.DataFrame(cells).sample(frac=1, random_state=0)


def judged(found):
    """The outcome of the one claim that there are rows of."""
    (row,) = outcomes(found, "casting").itertuples(index=False)
    assert (row.finding, row.claim, row.dtype, row.low, row.high) == (2, CLAIM.about, "float16", CLAIM.low, CLAIM.high)
    return row


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [(0.5**0.5, "confirmed"), (0.6, "refuted"), (0.9, "refuted"), (CLAIM.high / 1.001, "undecided")],
)
def test_a_claim_is_judged_by_its_interval(ratio, outcome):
    values = [ratio * (1 + seed / 1e4) for seed in range(20)]
    assert CLAIM.measured.values(rows(ratio)) == pytest.approx(values)
    row = judged(rows(ratio))
    assert (row.median, row.lower, row.upper) == pytest.approx((ratio * (1 + 9.5 / 1e4), values[2], values[17]))
    assert (row.seeds, row.outcome) == (20, outcome)
    assert judged(rows(ratio, 3)).outcome == "undecided"  # too few for an interval


def test_a_claim_that_has_too_few_seeds_to_be_decided_says_so():
    """In its row, its table's caption and the sentence; one that its interval leaves undecided does not."""
    few, enough = (outcomes(rows(CLAIM.high / 1.001, seeds), "casting") for seeds in (5, 20))
    (cell,) = (row[-1] for row in claim_table("t", "d", few).rows)
    assert (cell.main, cell.detail) == ("undecided", "too few seeds")
    assert "too few for an interval" in claim_table("t", "d", few).caption
    assert "hold with 95 %" not in claim_table("t", "d", few).caption
    assert next(sentences(few)).endswith("of 1 claim 1 undecided; 5 seeds are too few for intervals.")
    (cell,) = (row[-1] for row in claim_table("t", "d", enough).rows)
    assert (cell.main, cell.detail) == ("undecided", "")
    assert "all intervals together hold with 95 %" in claim_table("t", "d", enough).caption
    assert "few" not in next(sentences(enough))


def test_only_the_claim_s_own_cells_count():
    other = rows(9.0, inputs="pink")
    assert CLAIM.measured.values(pandas.concat([rows(0.7), other])) == CLAIM.measured.values(rows(0.7))
    assert CLAIM.measured.measured(other, JOINT) is None
    lost = rows(9.0, status="failed").assign(error_u=float("nan"))
    assert judged(pandas.concat([rows(0.7), lost])).median == judged(rows(0.7)).median


def test_a_slope_is_that_of_each_seed():
    cells = [
        {"way": way, "fan_in": fan_in, "seed": seed, "depth": depth, "pooled_u": depth ** (0.5 + seed / 100)}
        for way, fan_in, seed, depth in itertools.product(("direct", "other"), (9, 18), range(5), (1, 2, 4))
    ]
    frame = pandas.DataFrame(cells).sample(frac=1, random_state=0)
    frame.loc[(frame["way"] == "other") | (frame["fan_in"] == 18), "pooled_u"] = 1.0
    slope = Slope("direct", "pooled_u", {"fan_in": 9})
    assert slope.values(frame) == pytest.approx([0.5, 0.51, 0.52, 0.53, 0.54])
    assert slope.values(frame[frame["depth"] > 1]) == []  # two depths give none


def test_a_value_is_that_of_each_seed():
    frame = pandas.DataFrame(
        {"way": ["direct", "direct", "other"], "seed": [1, 0, 0], "depth": 4, "pooled_u": [3, 2, 9]}
    )
    assert Value("direct", "pooled_u", {"depth": 4}).values(frame) == [2, 3]


def test_a_scatter_s_interval_holds_the_true_ratio():
    """Of 300 times 48 draws of two log-normal errors, one scattered twice as far: in 95 %, within 3 standard errors."""
    random = numpy.random.default_rng(0)
    spread, inside = Spread("direct", "error_u", {"depth": 4}, {"fan_in": 8}, {"fan_in": 16}), 0
    for _ in range(300):
        errors = numpy.exp(numpy.concatenate([0.2 * random.standard_normal(48), 0.1 * random.standard_normal(48)]))
        cells = {"way": "direct", "depth": 4, "fan_in": [8] * 48 + [16] * 48, "error_u": errors}
        found = spread.measured(pandas.DataFrame(cells), 0.95)
        inside += found.lower < 2 < found.upper
    assert 300 * 0.91 <= inside <= 300 * 0.99
    assert found.seeds == 48


def test_draws_that_do_not_scatter_have_no_spread():
    spread = Spread("direct", "error_u", {}, {"fan_in": 8}, {"fan_in": 16})
    cells = {"way": "direct", "fan_in": [8] * 4 + [16] * 4, "error_u": [1.0] * 4 + [1.0, 2.0, 3.0, 4.0]}
    assert spread.measured(pandas.DataFrame(cells), 0.95) is None


def test_intervals_hold_together():
    """Bonferroni: as many as there are claims and dtypes. Of 20 seeds they leave out three on each side."""
    number = sum(len(claim.dtypes) for finding in FINDINGS.values() for claim in finding.claims)
    assert number * (1 - JOINT) == pytest.approx(0.05)
    assert median_interval(list(map(float, range(20))), JOINT) == (2, 17)  # more than 124 claims would widen them all


@pytest.mark.parametrize(("claims", "left_out"), [(124, 2), (1248, 1), (26214, 0)])
def test_room_for_claims(claims, left_out):
    """By the binomial: so many of 20 draws lie on one side of the median with at most 5 % / claims, on either side."""
    tail = sum(Fraction(math.comb(20, k), 2**20) for k in range(left_out + 1))
    assert math.floor(Fraction(1, 20) / (2 * tail)) == claims
    draws = list(map(float, range(20)))
    assert median_interval(draws, 1 - 0.05 / claims) == (left_out, 19 - left_out)
    assert median_interval(draws, 1 - 0.05 / (claims + 1)) == ((left_out - 1, 20 - left_out) if left_out else None)


def test_one_claim_s_interval_alone_is_not_enough():
    """Of 20 seeds the four least lie below the range: the 95 % interval, from the sixth on, would confirm it."""
    ratios = [0.1] * 4 + [0.5**0.5] * 16
    assert min(median_interval(ratios)) == 0.5**0.5
    assert outcome(Measured(0.5**0.5, *median_interval(ratios, JOINT), 20), CLAIM) == "undecided"


def test_a_hypothesis_is_what_its_claims_are():
    frame = pandas.DataFrame({"finding": [2, 2, 2], "outcome": ["confirmed", "undecided", "confirmed"]})
    frame = frame.assign(claim=CLAIM.about, dtype=["float16", "float32", "float64"], median=0.71, lower=0.7, upper=0.72)
    assert overall(frame) == "undecided"
    assert overall(frame.replace("undecided", "refuted")) == "refuted"
    assert overall(frame.replace("undecided", "confirmed")) == "confirmed"
    text = " ".join(sentences(frame))
    assert text.startswith("Hypothesis 2 is undecided: of 3 claims 2 confirmed and 1 undecided. ")
    assert f"Ratios, {CLAIM.about}: 0.71" in text


def under(label, ratio):
    """Of a machine with these instructions."""
    return rows(ratio, machine=label, instructions=label)


def test_a_finding_that_depends_on_the_instruction_set_says_so():
    together = pandas.concat([under("AVX2", 0.7), under("AVX512", 0.714)])
    compared = by_instructions(together, outcomes(together, "casting"))
    assert list(compared["agreement"]) == ["same", "same"]
    assert shift(compared) == pytest.approx(0.02)
    assert list(dependence(compared)) == [
        "Hypothesis 2 is the same under AVX2 and under AVX512: the outcome, and medians of ratios at most 2.0 % apart."
    ]
    other = pandas.concat([together, under("DEFAULT, oneDNN SSE41", 0.9)])
    (text,) = dependence(by_instructions(other, outcomes(other, "casting")))
    assert text == (
        f"Hypothesis 2 depends on the instruction set: {CLAIM.about} (float16) is confirmed under AVX2, confirmed "
        "under AVX512 and refuted under DEFAULT, oneDNN SSE41."
    )


def test_a_finding_that_is_undecided_under_one_set_says_so():
    together = pandas.concat([under("AVX2", 0.7), under("AVX512", CLAIM.high / 1.001)])
    compared = by_instructions(together, outcomes(together, "casting"))
    assert list(compared["agreement"]) == ["undecided", "undecided"]
    (text,) = dependence(compared)
    assert text == (
        f"Whether hypothesis 2 depends on the instruction set is undecided: {CLAIM.about} (float16) is confirmed under "
        "AVX2 and undecided under AVX512."
    )


def test_one_instruction_set_alone_is_said_to_be_one():
    for alone, label in ((under("AVX2", 0.7), "AVX2"), (rows(0.7), "unknown")):
        compared = by_instructions(alone, outcomes(alone, "casting"))
        assert list(compared["agreement"]) == ["one set"]
        assert list(dependence(compared)) == [f"Hypothesis 2 was run under {label} alone."]
    card = rows(0.7, device="cuda")
    assert list(dependence(by_instructions(card, outcomes(card, "casting")))) == []


def test_a_definition_gives_the_statistic_again():
    row = judged(rows(0.7))
    again = STATISTICS[row.statistic](**json.loads(row.definition))
    assert isinstance(again, Ratio)
    assert again.values(rows(0.7)) == CLAIM.measured.values(rows(0.7))


def column(unit, name):
    return unit.problem.name if name == "problem" else getattr(unit, name)


@pytest.mark.parametrize("finding", FINDINGS.values(), ids=lambda finding: finding.title)
def test_the_default_preset_asks_for_every_claim(finding):
    """Each claim's cells are among the experiment's units, and 20 seeds or more are drawn of each: where networks are
    trained, by the full preset. Cells that rows add, such as a format, are no matter of units.
    """
    experiment = EXPERIMENTS[finding.experiment]
    units = units_of_claims(experiment)
    assert len({claim.about for claim in finding.claims}) == len(finding.claims)
    for claim in finding.claims:
        assert claim.low < claim.high
        assert set(claim.measured.ways) <= set(experiment.ways)
        cells = {name: value for name, value in claim.measured.cells.items() if name not in experiment.columns}
        own = [u for u in units if all(column(u, name) == value for name, value in cells.items())]
        for dtype in claim.dtypes:
            seeds = [(unit.problem.name, unit.seed) for unit in own if unit.dtype == dtype]
            assert len(seeds) == len(set(seeds))
            assert len({seed for _, seed in seeds}) >= 20


def test_panels_of_one_finding_are_titled_by_their_kinds_of_number():
    fixed = {"claim": "c", "dtype": "float32", "low": 0.4, "high": 0.6, "median": 0.5, "lower": 0.4, "upper": 0.6}
    kinds = pandas.DataFrame(
        [fixed | {"finding": 6, "statistic": kind, "seeds": 20, "outcome": "confirmed"} for kind in ("ratio", "slope")]
    )
    titles = [title.get_text() for title in figure(kinds).titles]
    assert [title.rpartition(": ")[2] for title in titles] == ["ratios", "exponents"]
    assert figure(kinds[:1]).titles[0].get_text() == f"6: “{FINDINGS[6].title}”"


def test_a_claim_s_mark_and_the_legend_tell_its_outcome():
    fixed = {"claim": "c", "low": 0.4, "high": 0.6, "median": 0.5, "lower": 0.4, "upper": 0.6, "seeds": 20}
    fixed |= {"finding": 2, "statistic": "ratio"}
    outcome_of = {"float16": "refuted", "bfloat16": "undecided"}
    drawing = figure(pandas.DataFrame([fixed | {"dtype": d, "outcome": o} for d, o in outcome_of.items()]))
    assert [handle.get_label() for handle in drawing.handles] == ["undecided", "refuted"]
    undecided, refuted = (handle.get_markerfacecolor() for handle in drawing.handles)
    assert (undecided, refuted) == (PAPER[0], VERMILION)
    filled = [each.get_facecolor()[0] for each in drawing.panels[0].collections if len(each.get_facecolor())]
    assert {to_hex(colour) for colour in filled} == {PAPER[0], VERMILION}
    assert len({look for look in LOOKS.values() if look}) == 3


def test_the_stacks_of_hypotheses_are_told():
    rows = pandas.DataFrame({"depth": [3, 2, 3], "fan_in": [800, 288, 288]})
    told = "Depth of the stacks: 2 and 3; fan-in of their widest layers: 288 and 800."
    assert _stacks(rows) == told
    inputs = rows.assign(inputs=["relu", "offset:2", None])
    assert _stacks(inputs) == f"{told} Inputs: offset: {INPUTS['offset'].about}; relu: {INPUTS['relu'].about}."
