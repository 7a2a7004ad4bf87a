"""One of a thing is said in the singular, everywhere on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.data import records
from analysis.report import page
from analysis.report.formatting import of_these, plural
from tests import synthetic

THINGS = "trials stacks pairs cells problems layers runs ways seeds machines commits cases comparisons units rows"
THINGS += " squares canaries threads blocks images controls networks convolutions numbers"
WRONG = re.compile(rf"\b(?:these|those|all) 1\b|(?<![\d.,–])\b1 (?:more )?(?:{THINGS.replace(' ', '|')})\b")


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (plural(1, "trial"), "1 trial"),
        (plural(0, "trial"), "0 trials"),
        (plural(2, "canary", "canaries"), "2 canaries"),
        (plural(2, "process"), "2 processes"),
        (of_these(1, "stack"), "of 1 stack"),
        (of_these(15, "stack"), "of these 15 stacks"),
        (of_these(1, "pair", "the"), "of 1 pair"),
        (of_these(2, "pair", "the"), "of the 2 pairs"),
    ],
)
def test_counted_things(said: str, right: str) -> None:
    assert said == right


def test_a_study_of_one_trial_each_has_no_plural_of_one(tmp_path: Path) -> None:
    ways = {"merged/direct": 0.5, "planned/direct": synthetic.cell(2.5e-4, runs=[[0, 6]])}
    for group, problem, cells in (
        ("networks", "resnet50/conv2_3x3", {"unfold_matmul": 2.0}),
        ("stacks", "stacks/sesr_x3", ways),
        ("breakeven", "breakeven/k3_16_128", {"merged/direct": 0.5}),
        ("training", "stacks/sesr_x3", {"merged_per_call": 0.5}),
    ):
        synthetic.write(tmp_path / "trials", synthetic.trial(problem, cells), group, f"{group}.json")
    rows = synthetic.precision(1)
    context = page.Context("0", expected=[("networks", "vgg16/conv5", "float32", "cpu")])
    report = page.render(records.load(tmp_path / "trials"), rows, tmp_path / "out", context)
    text = report.page.read_text(encoding="utf-8")
    assert "of 1 stack, " in text
    assert "of 1 pair C" in text
    assert [text[max(0, wrong.start() - 60) : wrong.end() + 20] for wrong in WRONG.finditer(text)] == []


BROKEN = re.compile(r",,|, ,|,\.| ,| \.|\w  \w|\bof the 0\b|\bof 0 \w|\(\)")


@pytest.mark.parametrize(("blocks", "several"), [(1, False), (3, True), (12, False), (12, True)])
def test_no_sentence_has_a_hole_where_nothing_has_an_interval(tmp_path: Path, blocks: int, several: bool) -> None:
    """Of one process, and of a few; with one sample each, with too few for an interval, and with enough."""
    for group, problem, ways in (
        ("networks", "resnet50/conv2_3x3", ("unfold_matmul", "im2col_numpy")),
        ("stacks", "stacks/sesr_x3", ("merged/direct", "planned/direct")),
        ("breakeven", "breakeven/k3_16_128", ("merged/direct",)),
        ("training", "stacks/sesr_x3", ("merged_per_call",)),
        ("sweeps", "sweeps/kernel_5", ("fft",)),
    ):
        trial = synthetic.trial(problem, dict.fromkeys(ways, 0.5), several=False)
        for cell in trial.cells.values():
            cell.samples[:] = cell.samples[:blocks]
        trial = synthetic.divided(trial) if several else trial
        synthetic.write(tmp_path / "trials", trial, group, f"{group}.json")
    made = page.render(records.load(tmp_path / "trials"), synthetic.precision(2), tmp_path / "out", page.Context("0"))
    text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", "¶", made.page.read_text(encoding="utf-8"), flags=re.S)
    assert "networks" in text
    assert [text[max(0, wrong.start() - 60) : wrong.end() + 20] for wrong in BROKEN.finditer(text)] == []
