"""One bad record, or one part that fails, costs itself alone: the rest of the report is made, and the gap is named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas
import pytest

from analysis.data import speedups
from analysis.data.records import Record, Records, load
from analysis.data.store import Store, read
from analysis.data.study_data import sound
from analysis.gaps import Gaps
from analysis.precision import EXPERIMENTS
from analysis.precision.compute import Stamp, Task, compute, lost
from analysis.precision.probing import PROBES
from analysis.report import page as report
from analysis.report.sections import SECTIONS, gain, wins
from tests import synthetic
from tests.broken import broken
from tests.reporting import study, undrawn

CONTEXT = report.Context(version="0.0")
STAMP = Stamp("m", "code", "version", "torch")


def raising(*arguments: Any) -> list[Any]:
    """Fails, but for records and rows of nothing."""
    if hasattr(arguments[0], "__len__") and not len(arguments[0]):
        return []
    raise KeyError("not_finite")


def page(records: Records, rows: object, folder: Path) -> str:
    return report.render(records, rows, folder, CONTEXT).page.read_text(encoding="utf-8")


def lost_rows(name: str, store: Path) -> pandas.DataFrame:
    """What a store holds of a unit of the experiment that left no row."""
    experiment = EXPERIMENTS[name]
    with Store(store) as opened:
        for unit in experiment.units("smoke", "cpu")[:2]:
            opened.put(name, unit.key, "v", "m", lost(Task(experiment, unit, STAMP), "killed"))
    return read(store)


@pytest.mark.parametrize("name", [*EXPERIMENTS, "probes"])
def test_rows_have_the_columns_that_their_experiment_names(name, monkeypatch):
    monkeypatch.setattr("linear_lasagna.reproducibility.instructions.emulated", list)  # a process for each
    experiment = EXPERIMENTS.get(name, PROBES)
    unit = experiment.units("smoke" if name in EXPERIMENTS else "default", "cpu")[0]
    task = Task(experiment, unit, STAMP)
    failed = set(lost(task, "killed")[0])
    for row in compute(task):
        assert set(row) == failed


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_of_which_every_unit_failed_leaves_no_gap(name, tmp_path):
    rows = lost_rows(name, tmp_path / "store.sqlite")
    empty = f"No observation of the experiment {name} gave a result."
    for frame in (rows, rows.drop(columns=[*EXPERIMENTS[name].columns])):  # as stores of older versions have it
        found = study(rows=frame)
        assert [section.empty for section in found.sections.values()].count(empty) == 1
        assert ("precision" if name == "depth" else f"{name}_rows") in found.files
        assert found.headlines == []


def test_an_account_that_fails_leaves_a_named_gap(tmp_path, monkeypatch, capsys):
    rows = lost_rows("gain", tmp_path / "store.sqlite")
    everything = pandas.concat([rows, lost_rows("order", tmp_path / "store.sqlite")])
    monkeypatch.setattr("analysis.report.sections.gain.ranges", raising)
    with undrawn():
        text = page(Records(), everything, tmp_path)
    line = f"The section “{gain.SECTION.title}” could not be made: KeyError: &#39;not_finite&#39;"
    assert line in text
    assert text.index(line) < text.index("The answer")
    assert "This section could not be made" in text
    assert "No observation of the experiment order gave a result." in text
    assert line.replace("&#39;", "'") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("analysis.report.sections.wins.wins_table", "The section “Where each way wins”"),
        ("analysis.report.sections.noise.noise_floor", "The section “Noise floor”"),
        ("analysis.report.sections.machine.environment", "The section “The machine”"),
        ("analysis.report.page.conditions", "The conditions"),
        ("analysis.report.page.latex", ".tex"),
        ("analysis.data.speedups.costs", "The data of costs"),
    ],
)
def test_a_part_that_fails_leaves_a_named_gap(function, said, tmp_path, monkeypatch):
    trials = Records((Record(synthetic.trial("resnet50/conv1", {"unfold_matmul": 2.0}), "networks", "m"),))
    nothing = speedups.costs(Records(), speedups.speedups(Records()))
    monkeypatch.setattr(function, lambda *of, **by_name: raising(*of) or nothing)
    with undrawn():
        text = page(trials, None, tmp_path)
    assert f"{said} could not be made: KeyError: &#39;not_finite&#39;" in text


def test_a_record_that_cannot_be_analysed_is_named_and_the_others_are(tmp_path, monkeypatch):
    real = speedups.speedups

    def picky(records: Records) -> object:
        assert all(record.trial.dtype != "bfloat16" for record in records), "no bfloat16"
        return real(records)

    monkeypatch.setattr(speedups, "speedups", picky)
    trials = load(synthetic.study(tmp_path))
    gaps = Gaps()
    found = report.derive(trials, None, (), gaps)[0]
    assert len(found.records) == len(trials) / 2
    assert gaps.lines == []
    assert len(found.messages) == len(trials) / 2
    assert found.messages[0].endswith(".bfloat16.json: cannot be analysed: AssertionError: no bfloat16")


def test_asked_for_alone_a_part_raises_as_it_should(monkeypatch):
    monkeypatch.setattr(wins, "wins", None)
    trials = Records((Record(synthetic.trial("resnet50/conv1", {"unfold_matmul": 2.0}), "networks", "m"),))
    with pytest.raises(TypeError):
        study(trials)


def test_every_section_is_made_of_nothing():
    found = study()
    for section in SECTIONS:
        shown = found.section(section)
        assert shown is None or (shown.anchor, shown.empty) == (section.name, section.empty)


@pytest.mark.parametrize(
    ("column", "bad", "said"),
    [
        ("machine", None, "machine is no text"),
        ("way", "a\x07b", "way is no text"),
        ("depth", "deep", "depth is no finite number"),
        ("seed", float("nan"), "seed is no finite number"),
        ("error_u", float("inf"), "error_u is no finite number"),
    ],
)
def test_rows_of_another_kind_are_left_out_and_named(tmp_path, column, bad, said):
    rows = synthetic.precision(2)
    odd = rows[:3].astype({column: "object"}).assign(**{column: bad})
    with undrawn():
        text = page(Records(), pandas.concat([rows, odd], ignore_index=True), tmp_path)
    assert f"3 precision rows left out: {said}" in text
    assert "could not be made" not in text


def test_a_column_of_another_version_is_said_to_be_unknown(tmp_path):
    with undrawn():
        page(Records(), synthetic.precision(2).assign(**{"<b>": 1.0}), tmp_path)
    assert "<b>,this version does not know this column" in (tmp_path / "data" / "columns.csv").read_text()


def test_a_page_takes_the_files_of_the_one_before_it_along(tmp_path):
    trials = load(synthetic.study(tmp_path / "trials"))
    with undrawn():
        page(trials, None, tmp_path)
        mine = tmp_path / "data" / "mine.csv"
        mine.write_text("precious")
        assert (tmp_path / "data" / "wins.csv").exists()
        page(Records(), synthetic.precision(2), tmp_path)
    there = {path.name for path in (tmp_path / "data").iterdir()}
    assert "wins.csv" not in there
    assert {"mine.csv", "depth.csv", "columns.csv"} <= there  # of which both pages have the last
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert any("depth" in name for name in figures)
    assert not any("speedups" in name for name in figures)


def test_what_another_page_links_to_is_left(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_text("precious")
    (tmp_path / "report.html").write_text('<a href="data/mine.csv" download>mine</a>')
    with undrawn():
        page(Records(), synthetic.precision(2), tmp_path)
    assert (tmp_path / "data" / "mine.csv").read_text() == "precious"


def test_overflow_and_probes_are_sound():
    rows = synthetic.precision(2)
    over = rows[:1].assign(status="overflow", error_u=float("inf"), relative_l2=float("inf"))
    probes = rows[:1].assign(experiment=PROBES.name, depth=None, seed=None, error_u=None)
    kept, messages = sound(pandas.concat([rows, over, probes], ignore_index=True))
    assert (len(kept), messages) == (len(rows) + 2, ())


def test_any_name_can_be_drawn(tmp_path):
    """matplotlib takes what stands between dollar signs for mathematics, and refuses most of it."""
    name = r"a$\frac{$b^"
    for file in synthetic.study(tmp_path / "trials").rglob("*.json"):
        text = file.read_text()
        for old in ("resnet50/conv2_3x3", "unfold_matmul", '"synthetic"', '"networks"'):
            text = text.replace(old, json.dumps(name)[1:-1] if old[0] != '"' else json.dumps(name))
        file.write_text(text)
    trials = load(tmp_path / "trials")
    assert trials.messages == ()
    text = page(trials, None, tmp_path)
    assert "could not be made" not in text
    drawings = [file.read_text() for file in (tmp_path / "figures").iterdir()]
    assert any(f">{name}</text>" in drawing for drawing in drawings)  # as a label, and as a tick's below
    assert any(rf">{name}</tspan>" in drawing or name in drawing for drawing in drawings)


def test_broken_records_never_end_a_report(tmp_path):
    """120 changed records, one at a time beside good ones; then several of those that were read at once, to a page."""
    good = sorted(synthetic.study(tmp_path / "trials").rglob("*.json"))
    texts = [file.read_text() for file in good]
    changed = tmp_path / "trials" / "changed.json"
    kept = []
    for number in range(120):
        rng = random.Random(number)
        data = broken(rng.choice(texts), rng)
        changed.write_bytes(data)
        loaded = load(changed.parent)
        assert len(loaded) + len(loaded.messages) == len(good) + 1
        assert all(len(message) < 250 and "\n" not in message for message in loaded.messages)
        if not loaded.messages:
            gaps = Gaps()
            found, results = report.derive(Records(loaded.entries[:2]), None, (), gaps)
            report.headlines(found, results, gaps)
            assert (gaps.lines, found.messages) == ([], ()), number
            kept.append(data)
    assert 12 < len(kept) < 100
    for number, data in enumerate(kept[:12]):
        (changed.parent / f"{number}.json").write_bytes(data)
    changed.write_bytes(b"{")
    text = page(load(changed.parent), None, tmp_path / "report")
    assert "Left out: changed.json: not JSON" in text
    assert "could not be made" not in text
    assert not list((tmp_path / "report").rglob("*.part"))
