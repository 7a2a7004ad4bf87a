"""Probes before any experiment: stored once, told where a canary fails, shown in the report."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from analysis import study as whole
from analysis.data import study_data
from analysis.data.records import Records
from analysis.data.store import read
from analysis.data.study_data import parted
from analysis.precision import probing
from analysis.precision.place import place_of
from analysis.precision.workers import InProcess
from analysis.report import page as report
from analysis.report.sections import probes as section
from linear_lasagna import probes
from tests import synthetic
from tests.reporting import study

CONTEXT = report.Context(version="0.0")


def answers(device: str, dtypes: Any, methods: Any = None) -> list[dict[str, Any]]:
    """What two methods answer with one thread; with more, `direct` flushes subnormal results in part."""
    threads, found = torch.get_num_threads(), []
    for dtype in dtypes:
        for method in ("direct", "unfold_matmul"):
            said = {
                "ones": ("exact", True, ""),
                "powers": ("exact", True, ""),
                "operands": ("exact", True, ""),
                "accumulator": ("24 bits", None, ""),
                "order": ("2 running sums of up to 288", None, "576 products"),
                "products": ("fused", None, ""),
                "subnormal inputs": ("kept", None, ""),
                "subnormal results": ("kept", None, ""),
            }
            if threads > 1 and method == "direct":
                said["subnormal results"] = ("partly flushed", None, "50% of 8 outputs")
            if (method, dtype) == ("unfold_matmul", "bfloat16"):
                said["ones"] = ("wrong", False, "1.0 instead of 4")
            place = {"method": method, "dtype": dtype, "device": device}
            found += [{"probe": name, **place, "result": r, "ok": ok, "note": n} for name, (r, ok, n) in said.items()]
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Quick answers instead of real ones; how often they were given."""
    calls: list[int] = []

    def run_probes(device: str, dtypes: Any) -> list[dict[str, Any]]:
        calls.append(torch.get_num_threads())
        return answers(device, dtypes)

    monkeypatch.setattr(probes, "run_probes", run_probes)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield calls
    torch.set_num_threads(before)


@pytest.fixture
def rows(asked: list[int], tmp_path: Path) -> pandas.DataFrame:
    probing.probe_machine(tmp_path / "s.sqlite", "cpu", "here")
    return read(tmp_path / "s.sqlite")


def test_the_layer_is_the_one_that_is_probed():
    (layer,) = probing.PROBED.layers
    assert (probing.PROBED.in_channels, layer.out_channels) == (probes.CHANNELS, probes.QUESTIONS)
    assert probing.PROBED.sizes[-1] == (probes.OUTPUTS, probes.OUTPUTS)


def test_probes_are_asked_once_with_one_thread_and_with_all(asked, tmp_path, capsys):
    path = tmp_path / "s.sqlite"
    failed = probing.probe_machine(path, "cpu", "here")
    assert asked == [1, 2] * 4
    assert [(row["probe"], row["way"], row["dtype"], row["threads"]) for row in failed] == [
        ("ones", "unfold_matmul", "bfloat16", threads) for threads in (1, 2)
    ]
    assert "a canary failed: ones, unfold_matmul, bfloat16: 1.0 instead of 4" in capsys.readouterr().err
    assert probing.probe_machine(path, "cpu", "here") == []
    assert len(asked) == 8
    probing.probe_machine(path, "cpu", "elsewhere")
    assert len(asked) == 16
    assert torch.get_num_threads() == 2


def test_workers_ask_with_as_many_threads_as_this_process_has(asked, monkeypatch, tmp_path):
    """They begin with one."""

    def opened(workers: int) -> InProcess:
        torch.set_num_threads(1)
        return InProcess()

    place = place_of(0, "", "cpu")
    monkeypatch.setattr(probing, "place_of", lambda *_: replace(place, open_executor=opened))
    probing.probe_machine(tmp_path / "s.sqlite", "cpu", "here", workers=2)
    assert asked == [1, 2] * 4


def test_rows_have_the_columns_of_all_and_whole_numbers(rows):
    assert set(rows["experiment"]) == {"probes"}
    assert set(rows["status"]) == {"ok"}
    assert [rows[name].dtype.kind for name in ("seed", "depth", "fan_in", "threads", "outputs")] == ["i"] * 5
    assert len(rows) == 2 * 4 * 2 * 8


def test_a_probe_that_raises_is_a_failed_row(monkeypatch):
    def broken(device: str, dtypes: Any) -> list[dict[str, Any]]:
        return [{**answers(device, dtypes)[0], "result": "failed", "ok": False, "note": "RuntimeError: no kernel"}]

    monkeypatch.setattr(probes, "run_probes", broken)
    (unit, *_) = probing.PROBES.units("default", "cpu")
    (row,) = probing.rows(unit)
    assert (row["status"], row["reason"], row["ok"]) == ("failed", "RuntimeError: no kernel", False)


def test_real_probes_fit_the_table():
    """Every answer of this machine, in one dtype."""
    unit = next(unit for unit in probing.PROBES.units("default", "cpu") if unit.dtype == "float32")
    found = pandas.DataFrame(probing.rows(unit)).assign(
        experiment="probes", machine="here", device="cpu", threads=1, dtype="float32", seed=0
    )
    table = study_data.answers(found)
    assert set(table["probe"]) == {*probes.PROBES, "tf32"}
    shown = section.sums(table)
    assert [row[0].main for row in shown.rows] == list(dict.fromkeys(table.loc[table["way"] != "", "way"]))
    assert all(row[2].main.endswith("bits") or row[2].main == "unknown" for row in shown.rows)
    assert not list(section.warnings(table))


def test_both_commands_probe_before_they_measure(monkeypatch, tmp_path):
    """And a mistake in a name is told before anything is made."""
    order: list[str] = []
    monkeypatch.setattr(probing, "probe_machine", lambda *_: order.append("probes"))
    monkeypatch.setattr("analysis.precision.run_study", lambda *_, **__: order.append("experiments"))
    whole.measure_precision(("depth",), "smoke", "cpu", tmp_path / "out", 0)
    assert order == ["probes", "experiments"]
    with pytest.raises(ValueError, match="unknown experiment 'dept'"):
        whole.measure_precision(("dept",), "smoke", "cpu", tmp_path / "out", 0)
    assert order == ["probes", "experiments"]


# --- the report -----------------------------------------------------------------------------------------------------


def texts(table: Any) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in table.rows]


def test_tables_show_which_threads_differ(rows):
    found, others, _ = parted(rows)
    assert others is None
    assert texts(section.subnormals(found)) == [
        ["direct", "1", *["kept"] * 4],
        ["direct", "2", *["inputs kept results partly flushed: 50% of 8 outputs"] * 4],
        ["unfold_matmul", "1, 2", *["kept"] * 4],
    ]
    sums = texts(section.sums(found))
    assert sums[-1] == ["unfold_matmul", "1, 2", *["24 bits 2 × ≤ 288, fused"] * 4]
    counted = texts(section.canaries(found))
    assert counted[0] == ["ones", "4 of 4", "2 of 4", "4 of 4", "4 of 4"]


def test_probes_are_no_experiment(rows):
    """They have one seed and no error: nothing that speaks of experiments counts them."""
    both = pandas.concat([rows, synthetic.precision()], ignore_index=True)
    found = study(rows=both).data
    assert len(found.probes) == len(rows)
    assert found.rows is not None
    assert set(found.rows["experiment"]) == {"depth"}
    assert not set(found.rows) & {"probe", "result", "ok", "note"}
    alone = study(rows=rows).data
    assert alone.rows is None
    assert alone.messages == ()


def test_a_failed_canary_is_told_at_the_top_of_the_page(rows, tmp_path):
    page = report.render(Records(), rows, tmp_path, CONTEXT).page.read_text(encoding="utf-8")
    warning = "A canary failed on here, cpu: ones, unfold_matmul in bfloat16 with 1 thread: 1.0 instead of 4."
    assert page.index(warning) < page.index('<section id="answer"')
    assert "2 canaries failed: see the top of the page." in page
    sound = rows.assign(ok=True)
    page = report.render(Records(), sound, tmp_path, CONTEXT).page.read_text(encoding="utf-8")
    assert "A canary failed" not in page
    assert "All canaries hold." in page


def test_many_failed_canaries_are_counted(rows):
    found, *_ = parted(rows.assign(ok=False))
    lines = list(section.warnings(found))
    assert len(lines) == section.MOST_WARNINGS + 1
    assert lines[-1].startswith(f"{len(rows) - section.MOST_WARNINGS} more canaries failed")


def test_without_probes_the_section_says_so():
    found = study(rows=synthetic.precision())
    assert found.sections["probes"].empty == "The machine was not probed."
    assert report.warnings(found.data, found.results) == []


def test_a_canary_s_outcome_survives_the_store(rows):
    """None in the store may come back as NaN: neither is a failure."""
    assert len(section.failed(rows.assign(ok=[None] * len(rows)))) == 0
    assert len(section.failed(rows.assign(ok=math.nan))) == 0
    assert len(section.failed(parted(rows)[0])) == 2
