"""The first screen's sentences: what they say of data with a known answer, and that they say nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas
import pytest

from analysis.data.records import Record, Records
from analysis.data.study_data import APART
from analysis.report import answers, miniature, wording
from analysis.report import page as report
from analysis.report.answers import ERROR, MERGE, METHOD, QUESTIONS, TRUST
from analysis.report.miniature import Bar
from analysis.report.sections import merged_error
from linear_lasagna.catalog import GROUPS
from tests import synthetic
from tests.reporting import study

PAIRS = [problem.name for problem in GROUPS["breakeven"].problems]


STACKS = tuple(problem.name for problem in GROUPS["stacks"].problems)


def said(trials: Mapping[str, Iterable[Any]], precision: Any = None) -> dict[str, str]:
    """Question -> sentence, of one machine. trials: by group."""
    records = Records(tuple(Record(trial, group, "m") for group, each in trials.items() for trial in each))
    found = study(records, precision)
    return {answer.question: answer.text for answer in found.answers}


def pairs(ratio_saving: float, ratio_losing: float) -> list[Any]:
    """A trial of every pair, merged as fast as the ratios say where that saves operations, and where it does not."""
    from analysis.report.sections.break_even import break_even_middle

    problems = {problem.name: problem for problem in GROUPS["breakeven"].problems}
    made = []
    for name in PAIRS:
        problem = problems[name]
        saves = problem.channels[1] > break_even_middle(problem)
        made.append(synthetic.trial(name, {"merged/direct": ratio_saving if saves else ratio_losing}))
    return made


def counts() -> tuple[int, int]:
    """How many pairs save operations, and how many do not."""
    from analysis.report.sections.break_even import break_even_middle

    saves = [each.channels[1] > break_even_middle(each) for each in GROUPS["breakeven"].problems]
    return sum(saves), len(saves) - sum(saves)


def test_nothing_is_said_of_nothing():
    assert said({}) == {}


def test_merging_that_pays_where_operations_say_so():
    gain, loss = counts()
    text = said({"breakeven": pairs(0.5, 2.0)})[MERGE]
    assert text == f"Where merging saves operations, yes: faster on all {gain} pairs; else 0 of {loss}."


def test_pairs_without_a_verdict_are_not_left_out_of_what_is_counted():
    gain, loss = counts()
    text = said({"breakeven": pairs(0.5, synthetic.cell(1e-3, (0.9, 1.1) * 6))})[MERGE]
    assert text == f"Where merging saves operations, yes: faster on all {gain} pairs; else 0 of {loss}."
    assert MERGE not in said({"breakeven": pairs(*[synthetic.cell(1e-3, (0.9, 1.1) * 6)] * 2)})


def test_merging_that_never_pays_is_told_so():
    gain, loss = counts()
    text = said({"breakeven": pairs(2.0, 2.0)})[MERGE]
    assert text == f"Where merging saves operations, hardly: faster on 0 of {gain} pairs; else 0 of {loss}."


@pytest.mark.parametrize(("share", "told"), [(0.95, "yes: "), (0.7, ""), (0.4, "hardly: ")])
def test_how_often_merging_pays_decides_the_word(share, told):
    gain, loss = counts()
    made = pairs(0.5, 2.0)
    count = round(share * gain)
    for trial in [each for each in made if _faster(each)][count:]:
        made[made.index(trial)] = synthetic.trial(trial.problem.name, {"merged/direct": 2.0})
    text = said({"breakeven": made})[MERGE]
    assert text == f"Where merging saves operations, {told}faster on {count} of {gain} pairs; else 0 of {loss}."


def test_pairs_of_one_kind_alone_are_told_without_the_other():
    gain, loss = counts()
    both = [pairs(0.5, 2.0), pairs(2.0, 0.5)]
    ahead = [[each for each in made if _faster(each)] for made in both]
    assert [len(each) for each in ahead] == [gain, loss]
    told = [said({"breakeven": each})[MERGE] for each in (*ahead, ahead[0][:1], ahead[1][:1])]
    assert told == [
        f"Where merging saves operations, yes: faster on all {gain} pairs.",
        f"Where merging saves no operations, it is faster on all {loss} pairs.",
        "Where merging saves operations, yes: faster on the only pair.",
        "Where merging saves no operations, it is faster on the only pair.",
    ]


def _faster(trial: Any) -> bool:
    return trial.cells["merged/direct"].samples[0] < trial.cells["direct"].samples[0]


def test_the_named_stack_is_not_the_one_that_gains_most():
    """Fixed before the data: a larger gain of another stack is not what is told."""
    trials = [
        synthetic.trial("stacks/sesr_x1", {"merged/direct": 0.5}),
        synthetic.trial("stacks/sesr_x3", {"merged/direct": 0.01}),
    ]
    assert said({"stacks": trials})[MERGE] == "Stacks: 2 of 2 faster, 0 slower. sesr_x1: 2.00× [1.98, 2.02]."


def test_undecided_pairs_and_stacks_without_interval_say_nothing():
    noisy = tuple(math.exp(0.3 * (block - 5.5)) for block in range(12))
    trial = synthetic.trial(PAIRS[0], {"merged/direct": synthetic.cell(1e-3, noisy)})
    alone = synthetic.trial("stacks/sesr_x1", {"merged/direct": 0.5}, several=False)
    alone.cells["merged/direct"].samples[:] = alone.cells["merged/direct"].samples[:3]
    assert MERGE not in said({"breakeven": [trial], "stacks": [alone]})
    several = [synthetic.trial(name, {"merged/direct": synthetic.cell(1e-3, noisy)}) for name in STACKS[:3]]
    assert "Stacks" not in said({"breakeven": pairs(0.5, 2.0), "stacks": several})[MERGE]


def test_how_merging_does_on_whole_stacks_is_told_beside_pairs():
    stacks = [
        synthetic.trial(name, {"merged/direct": ratio}) for name, ratio in zip(STACKS, (0.5, 0.5, 2.0), strict=False)
    ]
    assert " Stacks: 2 of 3 faster, 1 slower." in said({"breakeven": pairs(0.5, 2.0), "stacks": stacks})[MERGE]


def network(name: str, ways: Mapping[str, float], **extra: Any) -> list[Any]:
    names = [problem.name for problem in GROUPS["networks"].problems if problem.name.startswith(f"{name}/")]
    return [synthetic.trial(each, ways, **extra) for each in names]


def test_a_method_that_is_faster_on_a_network_is_named_with_its_number():
    text = said({"networks": network("resnet50", {"im2col_numpy": 0.5, "unfold_matmul": 2.0})})[METHOD]
    assert text.startswith("float32: `im2col_numpy`, best of 2: 2.0")


def test_the_baseline_is_kept_where_all_others_are_slower():
    text = said({"networks": network("resnet50", {"im2col_numpy": 1.5, "unfold_matmul": 2.0})})[METHOD]
    assert text.startswith("float32: keep `direct`; `im2col_numpy`, best of 2: 0.6")


def test_an_undecided_network_is_told_as_such():
    text = said({"networks": network("vgg16", {"im2col_numpy": 1.0})})[METHOD]
    assert text.startswith("float32: none beats `direct`; `im2col_numpy`, the only other: 1.0")


def test_the_way_that_is_best_on_one_network_is_drawn_on_the_others_too():
    """Where it ran all their layers: a way that gains on the one may lose on the next."""
    trials = [
        *network("resnet50", {"im2col_numpy": 0.5, "unfold_matmul": 2.0}),
        *network("vgg16", {"im2col_numpy": 2.0}),
    ]
    for names, kept in (("ResNet-50 float32", "same way, VGG-16"), trials), (("ResNet-50 float32",), trials[:-1]):
        found = study(Records(tuple(Record(trial, "networks", "m") for trial in kept)))
        [(bars, text)] = [(answer.bars, answer.text) for answer in found.answers if answer.question == METHOD]
        assert ("(VGG-16: 0.5000×)." in text) == (len(names) == 2)
        assert tuple(bar.label for bar in bars) == names
        assert [bar.value for bar in bars] == pytest.approx([2.0, 0.5][: len(bars)], rel=0.02)


def test_another_network_on_which_the_best_way_gains_too_is_not_named():
    both = [*network("resnet50", {"im2col_numpy": 0.5}), *network("vgg16", {"im2col_numpy": 0.25})]
    assert "VGG-16" not in said({"networks": both})[METHOD]


def test_a_narrow_dtype_that_takes_longer_than_float32_is_told_of():
    """Twice as fast as its own baseline, which takes six times as long as float32's."""
    main = network("resnet50", {"im2col_numpy": 0.5})
    for seconds, told in ((6e-3, ", in 3.0× float32 `direct`’s time."), (2.1e-3, ""), (2e-3, "")):
        narrow = network("resnet50", {"im2col_numpy": 0.5}, dtype="bfloat16", seconds=seconds)
        text = said({"networks": [*main, *narrow]})[METHOD].partition("bfloat16: ")[2]
        assert text.startswith("`im2col_numpy`, the only other: 2.0")
        assert text.endswith(told or "].")
    slower = said({"networks": network("resnet50", {"im2col_numpy": 1.5})})[METHOD]
    assert slower.endswith("].")  # of float32 itself nothing of the kind


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        (("host", "device"), ", merged bound by launches."),
        (("device", "host"), ", stacked bound by launches."),
        (("host", "host"), "]."),
    ],
)
def test_a_ratio_of_launches_to_work_says_so(whole, bounds, told):
    speedups = whole.data.speedups
    own = (speedups["problem"] == "stacks/sesr_x1") & (speedups["way"] == "merged/direct")
    data = replace(whole.data, speedups=speedups.assign(bound=bounds[0], bounds_differ=own & (bounds[0] != bounds[1])))
    found = answers.merging(data, whole.frames)
    assert found is not None
    assert re.search(rf" sesr_x1: \d.*\]{re.escape(told.lstrip(']'))}$", found.text)


def test_stacks_in_batches_count_among_the_stacks():
    stacks = [synthetic.trial("throughput/expandnet_b32", {"merged/direct": 0.5})]
    stacks += [synthetic.trial("throughput/sesr_x1_b2", {"merged/direct": 2.0})]
    assert " Stacks: 1 of 2 faster, 1 slower." in said({"breakeven": pairs(0.5, 2.0), "throughput": stacks})[MERGE]
    assert (
        said({"throughput": stacks})[MERGE] == "Stacks: 1 of 2 faster, 1 slower."
    )  # as on an accelerator, without pairs


def test_errors_are_told_of_two_dtypes_and_drawn_of_all(whole):
    summary = whole.frames["merging_parts"]
    more = pandas.concat([summary, summary[summary["dtype"] == "float32"].assign(dtype="float64")])
    found = answers.error(whole.data, {"merging_parts": more})
    assert found is not None
    assert re.match(r"Random signs: float16 \w+, [\d.]+ .*; float32 \w+, [\d.]+ \[", found.text)
    assert "float64" not in found.text
    assert [bar.label for bar in found.bars] == ["float16", "float32", "float64"]


def test_positive_numbers_are_told_of_where_merging_them_costs_more(whole):
    """By their interval, than random signs in any dtype."""
    summary = whole.frames["merging_parts"]
    *_, row = merged_error.spoken_of(summary, "ratio", "positive").sort_values("median").itertuples(index=False)
    [text] = [answer.text for answer in whole.answers if answer.question == ERROR]
    assert text.endswith(f" Positive numbers: {row.dtype} {wording.median(row)}.")
    numbers = ["median", "lower", "upper"]
    ends = merged_error.spoken_of(summary, "ratio")["upper"].max() / row.lower
    for scale, told in ((1.01 * ends, True), (0.99 * ends, False)):
        scaled = summary.copy()
        scaled.loc[scaled["signs"] == "positive", numbers] *= scale
        found = answers.error(whole.data, {"merging_parts": scaled})
        assert found is not None
        assert ("Positive" in found.text) == told


def test_the_noise_is_that_of_the_controls():
    text = said({"networks": network("vgg16", {"im2col_numpy": 2.0})})[TRUST]
    assert text == "Same call twice: 0 % apart, 90 % within 0 %; 0 of 9 comparisons undecided."


def test_undecided_comparisons_are_those_of_the_table_of_results(whole):
    """Of sweeps, threads and other groups with a section of their own, too."""
    [text] = [each.text for each in whole.answers if each.question == TRUST]
    table = whole.files["results"]
    judged = table[table["verdict"] != ""]
    assert len(judged) > len(judged[~judged["group"].isin(APART)]) > 0
    undecided = int((judged["verdict"] == "undecided").sum())
    assert text.endswith(f"; {undecided} of {len(judged)} comparisons undecided.")


LINE = re.compile(r'class="axis" d="M([\d.]+) 0V')
NUMBER = re.compile(r'<text x="([\d.]+)" y="[\d.]+">([^<]+)</text></g>')


@pytest.mark.parametrize("value", [0.6, 0.7, 0.81, 0.9, 0.97, 1.0, 1.03, 1.3, 2.0])
def test_the_line_at_one_crosses_no_number_of_a_small_chart(value):
    text = miniature.chart([Bar("way", value, 0.97 * value, 1.03 * value), Bar("other", 1.6, 1.5, 1.7)], "speedup")
    line = float(LINE.findall(text)[0])
    for left, number in NUMBER.findall(text):
        width = 7 * len(number)  # of digits of 11.5 pixels: 0.6 em, and less of a point
        assert not float(left) - 3 < line < float(left) + width, number


def test_all_questions_together_are_at_most_130_words(whole):
    """Of a study that answers all of them, with the longest sentences that these can make."""
    texts = [*QUESTIONS, *(f"{answer.text} {answer.condition}" for answer in whole.answers)]
    assert {answer.question for answer in whole.answers} == set(QUESTIONS)
    assert len(re.findall(r"\S*\w\S*", " ".join(texts))) <= 120  # ten are the title's


@pytest.fixture(scope="module")
def whole():
    from tests.test_same_report import study as fixed

    return study(*fixed())


def test_error_of_merging_is_told_by_direction(whole):
    [text] = [answer.text for answer in whole.answers if answer.question == ERROR]
    summary = whole.frames["merging_parts"]
    rows = summary[
        (summary["quantity"] == "ratio") & (summary["way"] == "merged/direct") & (summary["signs"] == "random")
    ]
    told = set()
    for row in rows[rows["depth"] == 8].itertuples():
        side = "smaller" if row.upper < 1 else "larger" if row.lower > 1 else "undecided"
        told |= {row.dtype} if f"{row.dtype} {side}, " in text else set()
    assert told == {"float16", "float32"}


def test_answers_lead_to_chapters_of_the_page():
    from analysis.report.chapters import CHAPTERS

    names = {chapter.name for chapter in CHAPTERS}
    found = study(Records(tuple(Record(trial, "breakeven", "m") for trial in pairs(0.5, 2.0))))
    assert {answer.anchor for answer in found.answers} <= names
    assert report.first_lines([(found.data.scopes[0], found.answers)])[0].anchor in names
