"""Machines are told apart by what their results recorded, whatever their hosts were called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from analysis import study
from analysis.data import records
from analysis.data.machines import DIGEST, adopted, after_on, mixed, told
from analysis.data.records import Record, Records
from analysis.data.study_data import StudyData
from analysis.report import page as report
from analysis.report.fitness import fitness
from analysis.report.sections import machine as section
from linear_lasagna.environment import (
    FINGERPRINT,
    environment,
    fingerprint_of,
    machine_label,
    machine_name,
    machine_named,
)
from tests import synthetic
from tests.reporting import study as analysed
from tests.reporting import undrawn

HOST = "vm"  # what cloud machines are all called
PROBLEM = "resnet50/conv2_3x3"
OTHERS = [
    {"cpu": "Other processor"},
    {"cpu_model": "AuthenticAMD 25 1 1"},
    {"cores": 64},
    {"threads": 1},
    {"torch": "9.9"},
    {"cpu_capability": "AVX512"},
    {"instruction_sets": {"aten": "AVX2", "onednn": "SSE41"}},
    {"accelerator": "Other card"},
]


def write(folder: Path, name: str, ratio: float, given: str = HOST, **changes: object) -> None:
    trial = synthetic.trial(PROBLEM, {"unfold_matmul": ratio})
    trial.environment |= changes
    synthetic.write(folder, trial, name=f"{name}.json", machine=given)


def two_machines(folder: Path, **changes: object) -> records.Records:
    """The same trial, of the same commit, from two machines with one host name: one is twice as slow with it."""
    write(folder, "a", 2.0)
    write(folder, "b", 4.0, **changes)
    return records.load(folder)


def warnings(data: StudyData) -> list[str]:
    told = report.warnings(data, [(section.SECTION, section.SECTION.frames(data))])
    return list(fitness(data, (), report.Context(version="0"), told).bad)


@pytest.mark.parametrize("changes", OTHERS, ids=lambda changes: next(iter(changes)))
def test_two_machines_of_one_host_name_never_blend(tmp_path, changes):
    found = analysed(two_machines(tmp_path, **changes)).data
    assert len(found.records) == len(found.scopes) == 2
    assert not any("Older records" in note for note in found.notes)
    ways = found.speedups[~found.speedups["control"].astype(bool)]
    each = [scope.of(ways) for scope in found.scopes]
    assert sorted(len(rows) for rows in each) == [1, 1]
    assert sorted(float(rows["speedup"].iloc[0]) for rows in each) == pytest.approx([0.25, 0.5])
    assert len({scope.label for scope in found.scopes}) == 2


@pytest.mark.parametrize("changes", OTHERS, ids=lambda changes: next(iter(changes)))
def test_in_what_machines_differ_is_told(tmp_path, changes):
    loaded = two_machines(tmp_path, **changes)
    line = section.warning(loaded.entries, [(record.machine, "cpu") for record in loaded])
    assert line.startswith("These results are of 2 machines, each shown apart, their times never compared: ")
    assert all(record.machine in line for record in loaded)
    differing = {"cpu_capability": "instruction sets"}.get(next(iter(changes)), next(iter(changes)).replace("_", " "))
    assert line.endswith(f"differ: {differing}.")


def test_the_page_says_so_first(tmp_path):
    loaded = two_machines(tmp_path / "records", threads=1)
    with undrawn():
        made = report.render(loaded, None, tmp_path / "out", report.Context(version="0")).page
    page = made.read_text(encoding="utf-8")
    assert page.index('class="banner bad"') < page.index("These results are of 2 machines") < page.index("The answer")


SHARED = ("problems", "missing", "characteristics", "models")  # the catalogue's, not run by any, and committed


def test_what_is_said_of_a_machine_is_the_same_beside_another(tmp_path):
    """Every CSV: a machine's rows are those that a report of it alone has."""
    synthetic.study(tmp_path)
    first = records.load(tmp_path)
    environment = synthetic.ENVIRONMENT | {"cores": 64}
    second = [replace(r.trial, environment=environment) for r in first if r.trial.dtype == "float32"]
    made = [replace(r, machine=told(HOST, r.trial.environment)) for r in first]
    made += [Record(trial, "stacks", told(HOST, environment)) for trial in second]
    rows = [
        synthetic.precision(seeds).assign(machine=m)
        for seeds, m in zip((8, 6), dict.fromkeys(r.machine for r in made), strict=True)
    ]
    both = analysed(Records(tuple(made)), pandas.concat(rows)).files
    assert {name for name, frame in both.items() if "machine" not in frame} <= set(SHARED)
    for machine, own in zip(dict.fromkeys(r.machine for r in made), rows, strict=True):
        alone = analysed(Records(tuple(r for r in made if r.machine == machine)), own).files
        for name in alone.keys() - set(SHARED):
            here = both[name][both[name]["machine"] == machine].reset_index(drop=True)
            pandas.testing.assert_frame_equal(here, alone[name].reset_index(drop=True), check_dtype=False, obj=name)


def test_sentences_are_of_one_machine_each(tmp_path):
    """Two titles, each with its machine; the control of one is not counted with the other's."""
    loaded = two_machines(tmp_path, cores=64)
    rows = [synthetic.precision(6).assign(machine=record.machine) for record in loaded]
    study = analysed(loaded, pandas.concat(rows))
    found, said = study.data, study.headlines
    assert len({(line.title, line.anchor) for line in said}) == len(said)
    noise = [line for line in said if line.title.startswith("Noise floor")]
    assert [line.title for line in noise] == [f"Noise floor, {scope.label}" for scope in found.scopes]
    assert all("of 1 control" in line.text for line in noise)
    assert all(any(record.machine in line.title for record in loaded) for line in said)
    with undrawn():
        captions = [part.caption for each in study.sections.values() for part in (*each.plots, *each.tables)]
    assert len(captions) == len(set(captions))


def test_one_machine_has_no_banner_and_no_name_in_captions(tmp_path):
    write(tmp_path, "a", 2.0, load_1min=0.1)
    write(tmp_path, "b", 2.0, load_1min=7.0, memory_gib=1.0)
    found = analysed(records.load(tmp_path)).data
    assert warnings(found) == []
    assert [scope.label for scope in found.scopes] == ["cpu"]


def test_a_machine_and_its_accelerator_are_not_two(tmp_path):
    """The same host: its trials on the CPU record no accelerator."""
    for device, card in (("cpu", None), ("cuda", "Some card")):
        trial = synthetic.trial(PROBLEM, {"unfold_matmul": 2.0}, device=device)
        trial.environment["accelerator"] = card
        given = machine_named(fingerprint_of(trial.environment))
        synthetic.write(tmp_path, trial, name=f"{device}.json", machine=given)
    found = analysed(records.load(tmp_path)).data
    assert warnings(found) == []
    assert sorted(scope.label for scope in found.scopes) == ["cpu", "cuda"]
    assert sorted(scope.machine.partition(" #")[0] for scope in found.scopes) == [
        "Some card on Synthetic processor (2 cores)",
        "Synthetic processor (2 cores)",
    ]


def test_hosts_told_apart_by_name_alone_stay_apart(tmp_path):
    """Older records of equal machines: only their names say that they are two."""
    write(tmp_path, "a", 2.0, given="left")
    write(tmp_path, "b", 4.0, given="right")
    found = analysed(records.load(tmp_path)).data
    assert len(found.scopes) == 2
    [line] = warnings(found)
    assert line.endswith("differ: nothing but the names they were given.")
    assert not any(name in line for name in ("left", "right"))


def test_a_record_s_machine_is_what_it_recorded():
    """The own label or a chosen name, with a digest of what the record holds, whatever digest was written."""
    own = json.loads(json.dumps(environment()))
    found = fingerprint_of(own)
    assert told(machine_named(found), own) == machine_named(found)
    assert told(machine_named(found, "my box"), own) == machine_named(found, "my box")
    assert told(machine_named(found), own | {"threads": 99}) != machine_named(found)
    assert told("host", {}) == "host"
    assert told("host", own).startswith(machine_label(found) + " #")
    assert told("host", own) != told("other", own)


@pytest.mark.parametrize("value", [None, "", 3, 1e9, True, "text", [1, [2]], {"aten": ["x"], "onednn": 3}])
def test_whatever_a_file_holds_is_a_name(value):
    """Environments come from files: each value of plain data in every place."""
    for name in FINGERPRINT:
        assert told("host", {name: value, "cpu": "Some processor"} | {name: value})


def test_rows_find_the_machine_of_their_host(tmp_path):
    rows = synthetic.precision().assign(machine=HOST)
    write(tmp_path, "a", 2.0)
    [record] = records.load(tmp_path)
    assert set(adopted(rows, [record])["machine"]) == {record.machine}
    assert warnings(analysed(records.load(tmp_path), rows).data) == []
    assert adopted(None, [record]) is None


def test_rows_of_a_host_that_may_be_either_machine_are_nobody_s(tmp_path):
    rows = synthetic.precision().assign(machine=HOST)
    loaded = two_machines(tmp_path, cores=64)
    assert set(adopted(rows, loaded)["machine"]) == {HOST}
    [line] = warnings(analysed(loaded, rows).data)
    assert line.startswith("These results are of 3 machines")


def test_rows_of_another_machine_are_told(tmp_path):
    write(tmp_path, "a", 2.0)
    rows = synthetic.precision().assign(machine="Another (2 cores) #01234567")
    [line] = warnings(analysed(records.load(tmp_path), rows).data)
    assert "Another (2 cores) #01234567" in line


def test_mixed_is_several_machines_on_one_device():
    assert not mixed([])
    assert not mixed([("a", "cpu"), ("a", "cpu"), ("a with card", "cuda")])
    assert mixed([("a", "cpu"), ("b", "cpu")])


def test_a_study_s_rows_are_kept_under_the_fingerprint(tmp_path, monkeypatch):
    """Not under the host's name: a store may be filled from several machines."""
    asked = []
    monkeypatch.setattr("analysis.precision.run_study", lambda *_, machine, **__: asked.append(machine))
    monkeypatch.setattr("analysis.precision.probing.probe_machine", lambda *a: asked.append(a[2]))
    study.measure_precision((), "smoke", "cpu", tmp_path, 0)
    assert asked == [machine_name()] * 2
    assert DIGEST.search(machine_name())


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("A card on Some CPU (16 cores, AVX512)", "A card, host Some CPU (16 cores, AVX512)"),
        ("Some CPU (1 core, AVX2)", "Some CPU (1 core, AVX2)"),
        ("the one on my desk", "the one on my desk"),
    ],
)
def test_an_accelerator_and_its_host_read_well_in_a_title(name, title):
    assert after_on(name) == title
