"""The one table of results: every number once, with an id that stays."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas
import pytest

from analysis.data.records import PLACE, Record, Records, load
from analysis.report import openings, results
from linear_lasagna.trial import Cell
from tests import synthetic
from tests.reporting import Study, study


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(load(synthetic.study(tmp_path_factory.mktemp("trials"))))


@pytest.fixture(scope="module")
def table(found: Study) -> pandas.DataFrame:
    return found.files["results"]


def test_every_timed_or_failed_cell_has_one_row_and_one_id(found, table):
    cells = found.data.cells
    wanted = cells[~cells["control"] & (cells["status"] != "skipped")]
    assert len(table) == len(wanted)
    assert table["id"].is_unique


def test_numbers_are_those_of_the_other_files(found, table):
    keys = ["problem", "dtype", "way"]
    speedups = found.data.speedups.set_index(keys)["speedup"]
    own = table[~table["baseline"] & table["speedup"].notna()].set_index(keys)["speedup"]
    pandas.testing.assert_series_equal(own.sort_index(), speedups[own.index].sort_index())
    sesr = table[(table["problem"] == "stacks/sesr_x1") & (table["dtype"] == "float32")].set_index("way")
    assert sesr.loc["direct", "speedup"] == 1
    assert sesr.loc["direct", "seconds"] == pytest.approx(1e-3)
    assert sesr.loc["merged/direct", "of_best"] == pytest.approx(1)
    assert sesr.loc["direct", "of_best"] == pytest.approx(0.25, rel=0.02)


def test_ids_depend_on_nothing_but_what_the_row_is_of(table):
    alone = synthetic.trial("resnet50/conv2_3x3", {"unfold_matmul": 7.0})
    [record] = table[table["id"] == table["id"]].head(1)["machine"].unique()
    other = study(Records((Record(alone, "networks", record),))).files["results"]
    row = other[other["way"] == "unfold_matmul"].iloc[0]
    same = table[(table["problem"] == row["problem"]) & (table["way"] == row["way"]) & (table["dtype"] == row["dtype"])]
    assert same["id"].tolist() == [row["id"]]
    assert same["speedup"].tolist() != [row["speedup"]]


def test_rows_of_one_problem_in_several_groups_are_told_apart():
    """A forward call and a training step of the same stack; of what one group alone has, no group is told."""
    trials = {group: synthetic.trial("stacks/sesr_x1", {"merged/direct": 0.5}) for group in ("stacks", "training")}
    made = [Record(trial, group, "m") for group, trial in trials.items()]
    made.append(Record(synthetic.trial("resnet50/conv1", {"unfold_matmul": 0.5}), "networks", "m"))
    bodies = list(results.bodies(study(Records(tuple(made))).files["results"], several=False))
    told = [re.sub(r"<[^>]+>", "", body.partition("\n")[0]) for body in bodies]
    assert told == ["resnet50/conv1, float32", "stacks/sesr_x1, float32", "training: stacks/sesr_x1, float32"]
    assert [body.count("<tr id=") for body in bodies] == [2, 2, 2]


def test_bodies_are_whole_elements_whatever_the_names(tmp_path: Path):
    name = "<b>\"x\" & 'y'</b>"
    cells = {name: 2.0, "unfold_matmul": Cell("failed", "wrong <script>alert(1)</script>")}
    made = study(Records((Record(synthetic.trial("vgg16/conv5", cells), "networks", "m"),))).files["results"]
    [text] = results.bodies(made, several=True)
    tags: list[str] = []
    told: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)
    parser.handle_data = told.append
    parser.feed(text)
    assert tags.count("tr") == 1 + len(made)
    assert set(tags) <= {"tbody", "tr", "th", "td", "wbr", "svg", "path"}
    assert name in "".join(told)


def test_all_shown_numbers_have_ids(table):
    ids: list[str] = []
    for body in results.bodies(table, several=False):
        for row in body.split("<tr ")[1:]:
            *numbers, processes = re.findall(r"<td([^>]*)>\[?\d", row) or [""]
            assert all(" id=" in cell for cell in numbers)
            assert processes == ""
        ids += re.findall(r'id="([^"]+)"', body)
    assert len(ids) == len(set(ids)) > 5 * len(table)


def test_what_is_the_same_in_all_rows_is_no_choice(table):
    choices = results.choices(table)
    assert set(choices["dtype"]) == {"float32", "bfloat16"}
    assert "device" not in choices
    assert "machine" not in choices
    for body in results.bodies(table, several=False):
        assert re.findall(r' data-(\w+)="', body) == [name for name in results.OF_TRIALS if name in choices]


def test_a_way_that_is_wrong_at_the_border_is_no_fastest_one():
    trial = synthetic.trial("borders/plain_x3_32", {"merged_summed/direct": 0.1, "merged/direct": 0.5})
    found = study(Records((Record(trial, "borders", "m"),)), synthetic.precision())
    table = found.files["results"].set_index("way")
    assert table.loc["merged/direct", "of_best"] == 1
    assert math.isnan(table.loc["merged_summed/direct", "of_best"])
    told = openings.trade_off(found.data, {})
    found.data.costs.loc[found.data.costs["way"] == "merged_summed/direct", "error_u"] = 99.0
    assert openings.trade_off(found.data, {}) == told


@pytest.mark.parametrize(("lower", "told"), [(0.9, "undecided ?"), (float("nan"), "no interval")])
def test_an_undecided_cell_says_where_it_has_no_interval(table, lower, told):
    row = table[table["speedup_lower"].notna() & ~table["baseline"]].head(1)
    [text] = results.bodies(row.assign(speedup_lower=lower, speedup_upper=2 * lower, verdict="undecided"), False)
    assert f"<td>{told}<td" in text


def test_who_leads_the_sweeps_is_told_of_one_dtype():
    rows = [
        {"dtype": dtype, "problem": f"{dtype}{place}", "way": way, "leads": way == leader}
        for dtype, leader in (("float32", "direct"), ("bfloat16", "fft"))
        for place in range(3)
        for way in ("direct", "fft")
    ]
    told = openings._leaders(pandas.DataFrame(rows))
    assert told.endswith(" in float32, `direct` is clearly fastest of the 2 ways timed there on 3 of 3 problems.")


def test_shares_of_the_limit_name_their_problems():
    place = dict.fromkeys(PLACE, "x") | {"way": "direct", "seconds": 1.0}
    rows = [place | {"problem": f"p{n}", "dtype": "float32", "share": n / 10} for n in (4, 6, 7)]
    rows += [place | {"problem": "p1", "dtype": "bfloat16", "share": 0.2}]
    told = openings._shares(pandas.DataFrame(rows))
    assert "60 % (40 % to 70 %, 3 problems) in float32" in told
    assert "20 % (20 % to 20 %, 1 problem) in bfloat16" in told
