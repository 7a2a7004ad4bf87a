"""The report on plans, the break-even map and training steps, from made-up records with known answers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas
import pytest

from analysis.data.records import Record, Records, load
from analysis.report import formatting as show
from analysis.report import svg
from analysis.report.page import Context, render
from analysis.report.sections import break_even, plans, wins
from analysis.report.style import STEPS
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.planning import plan
from linear_lasagna.trial import Cell
from tests import synthetic
from tests.reporting import Study, study, undrawn

PAIRS = [p for p in GROUPS["breakeven"].problems if p.channels[0] in (8, 16)]
STACK = "stacks/sesr_x3"
BLOCKS = [[0, 2], [2, 4], [4, 6]]


def planned_cell(ratio: float, runs: list[list[int]]) -> Cell:
    return synthetic.cell(1e-3 * ratio, runs=runs)


def pair_ratio(problem) -> float:
    """As the count says, but for one pair where merging is slower than it promises, and one where it is faster."""
    odd = {"breakeven/k3_16_128": 1.5, "breakeven/k5_8_4": 0.5}
    counted = plan(problem)
    assert counted.merged is not None
    return odd.get(problem.name, counted.merged / counted.stacked)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = synthetic.study(tmp_path_factory.mktemp("trials"))
    for problem in PAIRS:
        synthetic.write(folder, synthetic.trial(problem.name, {"merged/direct": pair_ratio(problem)}), "breakeven")
    ways = {
        "merged/direct": 0.5,
        "planned/direct": planned_cell(0.25, BLOCKS),
        "planned_operations/direct": planned_cell(0.6, [[0, 3], [3, 4], [4, 6]]),
    }
    synthetic.write(folder, synthetic.trial(STACK, ways), "stacks", "plans.json")
    same = {"merged/direct": 0.2, "planned/direct": planned_cell(0.2, [[0, 2]])}
    synthetic.write(folder, synthetic.trial("stacks/sesr_x1", same, "float64"), "stacks", "same.json")
    synthetic.write(folder, synthetic.trial(STACK, {"merged_per_call": 0.1}), "training", "training.json")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Study:
    return study(load(folder))


def test_plans_are_compared_with_the_better_extreme(found):
    rows = found.frames["plans"].set_index(["problem", "way"])
    row = rows.loc[STACK, "planned/direct"]
    assert (row["runs"], row["against"], row["verdict"]) == ("0–1, 2–3, 4–5", "merged/direct", "faster")
    assert row["ratio"] == pytest.approx(0.5)
    assert (row["stacked_seconds"], row["merged_seconds"]) == pytest.approx((1e-3, 0.5e-3))
    row = rows.loc[STACK, "planned_operations/direct"]
    assert (row["runs"], row["verdict"]) == ("0–2, 3, 4–5", "slower")
    row = rows.loc["stacks/sesr_x1", "planned/direct"]
    assert (row["runs"], row["verdict"], row["ratio"]) == ("0–1", "tie", 1.0)


def test_a_plan_that_is_another_way_shares_its_win(found):
    """sesr_x1 merged as a whole by plan is the merged way once more: not a rival to it."""
    rows = found.frames["winners"].set_index(["problem", "dtype"])
    assert rows.loc[("stacks/sesr_x1", "float64"), "way"] == "merged/direct"
    assert rows.loc[(STACK, "float32"), "way"] == "planned/direct"


@pytest.mark.parametrize(
    ("runs", "twins"),
    [
        ([[0, 6]], {"merged/direct", "border_exact/direct"}),
        ([[i, i + 1] for i in range(6)], {"direct"}),
        (BLOCKS, set()),
    ],
)
def test_what_a_plan_s_call_equals(runs, twins):
    trial = synthetic.trial(STACK, {"planned/direct": planned_cell(1, runs)})
    assert wins._twins("planned/direct", trial) == twins
    trial.cells["planned_operations/direct"] = planned_cell(1, runs)
    assert wins._twins("planned/direct", trial) == twins
    assert wins._twins("planned_operations/direct", trial) == twins | {"planned/direct"}


def test_pairs_know_their_break_even(found):
    assert len(found.frames["pairs"]) == len(PAIRS)
    for row in found.frames["pairs"].itertuples(index=False):
        counted = plan(CATALOG[row.problem])
        assert row.saves == bool(counted.merges)
        assert (row.kernel, row.outer, row.middle) == (
            CATALOG[row.problem].expanded[0].kernel_size[0],
            *CATALOG[row.problem].channels[:2],
        )


@pytest.mark.parametrize(("k", "factor"), [(3, 25 / 18), (5, 81 / 50)])
def test_break_even_of_large_images_is_the_rule(k, factor):
    problem = next(p for p in GROUPS["breakeven"].problems if p.name == f"breakeven/k{k}_16_16")
    large = replace(problem, size=(10**6, 10**6))
    assert break_even.break_even_middle(large) == pytest.approx(16 * factor, rel=1e-4)


def test_map_is_drawn_with_its_line_and_all_ratios(found):
    first, second = (svg.raw(break_even.figure(found.frames["pairs"]), "map") for _ in range(2))
    assert first == second
    for word in (
        "C_mid, channels between",
        "undecided (?) or a tie",
        "equally many multiply-accumulates",
        "3×3 kernels",
    ):
        assert word in first.text
    root = ElementTree.fromstring(first.text)
    words = [str(element.text) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    rows = found.frames["pairs"]
    ratios = {f"{each:.2f}" if each < 2 else show.significant(each, 2) for each in rows["speedup"]}
    assert ratios <= {word.removesuffix("?") for word in words}
    assert sum(word.endswith("?") for word in words) == (rows["verdict"] == "undecided").sum()


@pytest.mark.parametrize(
    ("verdict", "speedup", "step"),
    [
        ("faster", 1.05, 4),
        ("faster", 3.0, 5),
        ("faster", 9.0, 6),
        ("slower", 0.95, 2),
        ("slower", 0.1, 0),
        ("undecided", 9.0, 3),
        ("tie", 1.0, 3),
    ],
)
def test_the_map_s_colour_never_contradicts_the_verdict(verdict, speedup, step):
    assert break_even._colour({"verdict": verdict, "speedup": speedup}) == STEPS[step]


def test_line_of_the_map_separates_what_the_count_separates(found):
    """The drawn line passes below every cell that saves and above every cell that does not."""
    figure = break_even.figure(found.frames["pairs"])
    for kernel, panel in zip((3, 5), figure.panels, strict=True):
        rows = found.frames["pairs"][found.frames["pairs"]["kernel"] == kernel]
        (line,) = panel.lines
        places = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
        middles = [int(label.get_text()) for label in panel.get_yticklabels()]
        for row in rows.itertuples(index=False):
            height = middles.index(row.middle) + 0.5
            column = [8, 16].index(row.outer) + 0.5
            assert (height < places[column]) == row.saves
            steps = math.log2(row.middle / row.break_even_middle)
            assert places[column] - height == pytest.approx(steps)


def test_headlines_say_where_count_and_clock_disagree(found):
    said = {headline.title: headline.text for headline in found.headlines}
    text = said["Break-even"]
    gains = sum(break_even.break_even_middle(problem) < problem.channels[1] for problem in PAIRS)
    losses = len(PAIRS) - gains
    assert f"of the {len(PAIRS)} pairs C → C_mid → C merging is, by intervals between processes, faster on" in text
    assert f"faster on {gains - 1} of the {gains} where the operation count" in text
    assert f"promises a gain, and on 1 of the {losses} where it promises a loss" in text
    assert "(the most unforeseen: 3×3, 16 → 128 → 16, 0.667" in text
    assert "; 5×5, 8 → 4 → 8, 2.00" in text
    right = f"the count is right on {len(PAIRS) - 2}; to merge always would be right on {gains}."
    assert f"Of the {len(PAIRS)} with a verdict {right}" in text
    assert "faster on 1 and slower on 0 than the stack as it is or merged as a whole" in said["Plans"]
    assert "sesr_x3 2.00× faster [" in said["Plans"]
    assert "Runs chosen by operation count are slower on 1 of 1" in said["Plans"]
    assert "of 1 stack, a training step that merges first, against the stack's own, is, by inte" in said["Training"]
    assert "by intervals between processes, faster on 1" in said["Training"]


def test_a_rule_has_no_exception_among_the_pairs(found):
    """3×3: 16 → 128 is slower, so the rule starts above 8 C; 5×5: what the count says from 2 C on holds."""
    text = break_even._rules(found.frames["pairs"])
    parts = ["every 3×3 pair with C_mid ≥ 16 C (2 of 12)", "every 5×5 pair with C_mid ≥ 2 C (8 of 12)"]
    assert text == f"Undecided ones left out, it is faster on {' and '.join(parts)}."
    assert break_even._rules(found.frames["pairs"][found.frames["pairs"]["verdict"] == "slower"]) == ""


def best_of(verdict_of: dict[str, Cell]) -> str:
    """The headline about plans of stacks whose planned way is the given cell, beside a stack as it is and merged."""
    trials = [
        synthetic.trial(f"stacks/{name}", {"merged/direct": 1.0, "planned/direct": cell})
        for name, cell in verdict_of.items()
    ]
    records = Records(tuple(Record(trial, "stacks", "m") for trial in trials))
    return next(line.text for line in study(records).headlines if line.title.startswith("Plans"))


def test_a_plan_that_is_the_call_it_is_compared_with_has_false_verdicts_alone():
    """The second merges nothing and is beside the stack, the third merges all and is beside the merged stack."""
    plan = {"depth": 3, "verdict": "slower"}
    frame = pandas.DataFrame(
        [
            plan | {"runs": "0–1, 2", "against": "direct"},
            plan | {"runs": "0, 1, 2", "against": "direct"},
            plan | {"runs": "0–2", "against": "merged/direct"},
            plan | {"runs": "0–2", "against": "direct"},
            plan | {"runs": "0, 1, 2", "against": "merged/direct"},
            plan | {"runs": "0–1, 2", "against": "merged/direct", "verdict": "faster"},
        ]
    )
    assert list(plans.itself(frame)) == [False, True, True, False, False, False]
    assert plans.slower(frame).startswith("3 of 6 (2 more are called slower falsely: ")
    assert plans.slower(frame.drop(index=2)).startswith("3 of 5 (1 more is called slower falsely: ")
    assert plans.slower(frame.drop(index=[1, 2])) == "3 of 4"


def test_the_best_plan_is_one_with_a_verdict():
    """By estimate plan_x2's is 10 times as fast, by 4 processes; the one that is told has a verdict."""
    few = synthetic.cell(1e-4, (1.0,) * 4, runs=[[0, 2]])
    text = best_of({"plain_x2": few, "plain_x4": planned_cell(0.5, [[0, 2], [2, 4]])})
    assert "plain_x4 2.00× faster, the most of 2" in text
    assert "10" not in text


def test_groups_with_sections_of_their_own_are_in_no_other(found):
    assert not {"breakeven", "training"} & set(found.data.groups)
    assert not {"breakeven", "training"} & (set(found.data.compared["group"]) | set(found.frames["winners"]["group"]))


def test_the_page_shows_them(folder, tmp_path):
    with undrawn():
        page = render(load(folder), None, tmp_path, Context("0")).page.read_text()
    for anchor in ("plans", "breakeven", "training"):
        assert f'id="{anchor}"' in page
    for text in ("all merged", "0–1, 2–3, 4–5", "even by count at", "channels C", "mid = 2 C", "merging step"):
        assert text in page
    assert (tmp_path / "data" / "pairs.csv").exists()


def test_without_records_there_are_empty_sections(tmp_path):
    page = render(load(tmp_path / "none"), None, tmp_path, Context("0")).page.read_text()
    for text in ("Nothing was planned.", "No pair was timed.", "No training step was timed."):
        assert text in page
