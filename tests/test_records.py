"""Reading trial records and plain asv results: what is good is kept, what is not is named."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import pytest

from analysis.data import asv_results, records
from linear_lasagna.trial import Cell, Trial, fields
from linear_lasagna.trial.record import Repeat
from tests import synthetic

EDITIONS = Path(__file__).parent.parent / "reports"


def one_record(folder: Path) -> records.Records:
    synthetic.write(folder, synthetic.trial("resnet50/conv2_3x3", {"unfold_matmul": 2.0}))
    return records.load(folder)


def test_record_is_read_as_it_was_written(tmp_path):
    loaded = one_record(tmp_path)
    (record,) = loaded
    assert loaded.messages == ()
    assert record.key == (record.machine, "networks", "resnet50/conv2_3x3", "float32", "cpu", "")
    assert (record.machine.partition(" #")[0], record.given) == ("Synthetic processor (2 cores)", "synthetic")
    assert record.commit == "c0ffee"
    assert record.trial == synthetic.trial("resnet50/conv2_3x3", {"unfold_matmul": 2.0})


def test_missing_folder_has_no_records(tmp_path):
    assert len(records.load(tmp_path / "nowhere")) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[1, 2]", "not a trial record"),
        ('{"version": 2, "results": {}}', "not a trial record"),
        ('{"trial": {"schema": 99}, "group": "g", "machine": "m"}', "schema 99"),
        ('{"trial": 3, "group": "g", "machine": "m"}', "not a trial record"),
        ('{"trial": {"schema": 1}, "group": "g", "machine": "m"}', "not a trial record"),
    ],
)
def test_foreign_file_is_named_and_the_rest_is_read(tmp_path, text, words):
    (tmp_path / "a.json").write_text(text)
    loaded = one_record(tmp_path)
    assert len(loaded) == 1
    (message,) = loaded.messages
    assert message.startswith("a.json: ")
    assert words in message
    assert "\n" not in message


def test_truncated_record_is_named_at_every_cut(tmp_path):
    whole = synthetic.write(tmp_path, synthetic.trial("stacks/sesr_x1", {"merged/direct": 0.5})).read_text()
    for cut in range(0, len(whole), len(whole) // 40):
        (tmp_path / "cut.json").write_text(whole[:cut])
        loaded = records.load(tmp_path)
        assert len(loaded) == 1
        assert loaded.messages[0].startswith("cut.json: not JSON, perhaps cut short")


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    loaded = one_record(tmp_path)
    assert len(loaded) == 1
    assert loaded.messages[0].startswith("b.json: ")


@pytest.mark.parametrize("bad", ["fast", -1.0, 0.0, None, True, "1"])
def test_impossible_samples_are_refused(tmp_path, bad):
    path = synthetic.write(tmp_path, synthetic.trial("resnet50/conv1", {"unfold_matmul": 2.0}))
    data = json.loads(path.read_text())
    data["trial"]["cells"]["direct"]["samples"][0][0] = bad
    with pytest.raises(ValueError, match="'direct'"):
        records.read(json.dumps(data))


@pytest.mark.parametrize(
    ("place", "bad"),
    [
        (("dtype",), ["x"]),
        (("device",), ""),
        (("baseline",), 3),
        (("started",), None),
        (("seed",), 1.5),
        (("elapsed_s",), "soon"),
        (("environment",), []),
        (("environment", "threads"), "\ud800"),
        (("problem", "name"), "\ud800"),
        (("problem", "name"), "a\x07b"),
        (("cells", "direct", "samples"), [[], []]),
        (("problem", "source"), 7),
        (("cells", "direct", "measures"), {"error_u": "x"}),
        (("cells", "direct", "measures"), {"error_u": -1.0}),
        (("cells", "direct", "first_call_s"), 1e300),
        (("cells", "direct", "peak_bytes"), 10**30),
        (("cells", "direct", "runs"), [[2, 1]]),
        (("cells", "direct", "every"), 0),
        (("cells", "direct", "reason"), {}),
        (("cells", "direct", "samples"), [[10**400]]),
    ],
)
def test_a_field_of_another_kind_is_refused_by_name(tmp_path, place, bad):
    path = synthetic.write(tmp_path, synthetic.trial("resnet50/conv1", {}))
    data = json.loads(path.read_text())
    *inner, last = place
    target = data["trial"]
    for name in inner:
        target = target[name]
    target[last] = bad
    with pytest.raises(ValueError, match=inner[0] if inner[:1] == ["environment"] else last) as refusal:
        records.read(json.dumps(data))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("folder", sorted(EDITIONS.glob("*/trials")), ids=lambda folder: folder.parent.name)
def test_the_published_editions_are_read_with_their_errors(folder):
    """Whatever schema they were written in."""
    loaded = records.load(folder)
    assert loaded.messages == ()
    assert len(loaded) == len(list(folder.rglob("*.json"))) > 0
    for record in loaded:
        written = json.loads((folder / record.source).read_text())["trial"]["cells"]
        for way, cell in record.trial.cells.items():
            assert cell.measures.get("error_u") == written[way].get("error_u", cell.measures.get("error_u"))


def test_every_field_has_a_rule():
    apart = {"problem", "cells", "schema", "repeats"}
    assert {field.name for field in dataclasses.fields(Trial)} - apart == fields.TRIAL.keys()
    assert {field.name for field in dataclasses.fields(Cell)} == fields.CELL.keys()
    assert {field.name for field in dataclasses.fields(Repeat)} == fields.REPEAT.keys()


def test_files_that_are_no_records_are_named_and_do_not_end_the_reading(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    os.symlink(tmp_path / "nowhere", tmp_path / "link.json")
    loaded = one_record(tmp_path)
    assert len(loaded) == 1
    assert [message.partition(":")[0] for message in loaded.messages] == [
        f"{name}.json" for name in ("deep", "folder", "link", "pipe")
    ]


def test_unknown_status_is_refused(tmp_path):
    path = synthetic.write(tmp_path, synthetic.trial("resnet50/conv1", {}))
    with pytest.raises(ValueError, match="splendid"):
        records.read(path.read_text().replace('"ok"', '"splendid"', 1))


def test_latest_keeps_the_newest_and_says_how_many_it_left_out(tmp_path):
    for day in (2, 3, 1):
        trial = synthetic.trial("resnet50/conv1", {}, started=f"2020-01-0{day}T00:00:00Z")
        synthetic.write(tmp_path, trial, name=f"{day}.json")
    latest = records.load(tmp_path).latest()
    assert [record.trial.started for record in latest] == ["2020-01-03T00:00:00Z"]
    assert latest.notes == ("Older records of trials that were run again are left out: 2.",)


def test_cells_keep_status_and_reason(tmp_path):
    frame = records.cells(records.load(synthetic.study(tmp_path)))
    assert list(frame.columns) == records.CELLS
    assert frame["baseline"].sum() == frame["control"].sum() == 6
    failed = frame[frame["status"] == "failed"]
    assert set(failed["reason"]) == {"wrong on integers <&>"}
    assert failed["blocks"].eq(0).all()


def test_frames_of_nothing_have_their_columns():
    assert list(records.cells(records.Records()).columns) == records.CELLS


def asv_folder(folder: Path, **changes: object) -> Path:
    """What asv writes for one benchmark: two ways timed, one with samples; one failed (null), one skipped (NaN)."""
    machine = {"machine": "box", "cpu": "a processor", "version": 1}
    (folder / "box").mkdir(parents=True)
    (folder / "box" / "machine.json").write_text(json.dumps(machine))
    ways = ["'direct'", "'unfold_matmul'", "'im2col_numpy'", "'patch_matmul'"]
    params = [["'sources/unfold'"], ["'float32'"], ["'cpu'"], ways]
    samples = [[1.0, 2.0, 3.0], None, None, None]
    results = {
        "version": 2,
        "commit_hash": "c0ffee",
        "env_name": "existing",
        "date": 0,
        "params": machine | {"python": "3.11"},
        "python": "3.11",
        "requirements": {},
        "env_vars": {},
        "result_columns": ["result", "params", "samples"],
        "results": {
            "trials.Sources.time_forward": [[2.0, 4.0, None, math.nan], params, samples],
            "trials.Sources.track_ratio": [[1.0, 2.0, None, math.nan], params],
        },
    } | changes
    (folder / "box" / "c0ffee.json").write_text(json.dumps(results))
    return folder


@pytest.mark.parametrize("module", ["trials", "sources"])  # older results name a group's module, too
def test_asv_results_alone_become_records(tmp_path, module):
    folder = asv_folder(tmp_path)
    path = folder / "box" / "c0ffee.json"
    path.write_text(path.read_text().replace("trials.Sources", f"{module}.Sources"))
    loaded = asv_results.load(folder)
    (record,) = loaded
    assert record.key == (record.machine, "sources", "sources/unfold", "float32", "cpu", "")
    assert (record.machine.partition(" #")[0], record.given) == ("a processor", "box")
    cells = record.trial.cells
    assert cells["direct"].samples == [[1.0, 2.0, 3.0]]
    assert cells["unfold_matmul"].samples == [[4.0]]
    assert (cells["im2col_numpy"].status, cells["patch_matmul"].status) == ("failed", "skipped")
    assert "asv's results alone" in loaded.notes[0]


def test_asv_problem_outside_the_catalogue_is_named(tmp_path):
    folder = asv_folder(tmp_path)
    path = folder / "box" / "c0ffee.json"
    path.write_text(path.read_text().replace("sources/unfold", "sources/fold"))
    loaded = asv_results.load(folder)
    assert len(loaded) == 0
    assert "sources/fold" in loaded.messages[0]


def test_asv_file_that_is_cut_short_is_named(tmp_path):
    folder = asv_folder(tmp_path)
    path = folder / "box" / "c0ffee.json"
    path.write_text(path.read_text()[:200])
    loaded = asv_results.load(folder)
    assert len(loaded) == 0
    assert loaded.messages[0].startswith("c0ffee.json")
