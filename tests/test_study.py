"""A study without git and asv, and its archive: what was finished comes home, whatever ended the study."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import arguments, study
from analysis.data import archive, store
from analysis.data.store import Store
from analysis.measure import checkout, trial_run
from analysis.measure.presets import PRESETS, Preset, Selection
from analysis.precision import run_study
from tests import synthetic
from tests.copies import copy_code, run_code

COMMIT = "0123456789abcdef"
SMALL = Preset("smoke", 0.02, 120.0, (Selection("breakeven", ("breakeven/k3_4_4",), ("float32",)),), "smoke")
HIDDEN = "import sys\nfor name in ('asv', 'asv_runner', 'pandas'):\n    sys.modules[name] = None\n"
COMMAND = """
import sys
from analysis import stopping
from analysis.__main__ import main
from analysis.measure.presets import PRESETS, Preset, Selection
PRESETS["smoke"] = Preset("smoke", 0.02, 120.0, (Selection("breakeven", ("breakeven/k3_4_4",), ("float32",)),), "smoke")
stopping.install()
sys.exit(main())
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code without git, installed nowhere."""
    home = copy_code(tmp_path_factory.mktemp("copy"))
    (home / "hiding").mkdir()
    (home / "hiding" / "sitecustomize.py").write_text(HIDDEN)
    return home


def command(home: Path, *given: str) -> subprocess.CompletedProcess[str]:
    """`python -m analysis study` on the small preset, without git, asv and pandas."""
    paths = {"PYTHONPATH": f"{home}:{home / 'hiding'}", "PATH": str(home / "hiding")}
    return run_code(home, COMMAND, "study", "--preset", "smoke", *given, **paths)


@pytest.fixture(scope="module")
def brought(copied: Path) -> tuple[Path, str]:
    file = copied / "results.tar.gz"
    given = ("--devices", "cpu", "--commit", COMMIT, "--time-limit", "2m", "--archive", str(file), "--no-precision")
    done = command(copied, *given)
    assert done.returncode == 0, done.stderr
    return file, done.stderr + done.stdout


def test_trials_are_timed_without_git_and_asv_and_what_is_left_out_is_said(brought: tuple[Path, str]) -> None:
    file, said = brought
    assert "asv is not handed the samples: it keeps them under commits, and this is no git checkout" in said
    assert "the report is not rendered: pandas is not installed" in said
    with archive.results(file) as found:
        [record] = found.records.glob(f"*/{COMMIT}/*.json")
        data = json.loads(record.read_text())
        statuses = {cell["status"] for cell in data["trial"]["cells"].values()}
        assert (data["commit"], statuses) == (COMMIT, {"ok"})
        told = found.conditions
    assert (told["state"], told["commit"], told["git"], told["dirty"]) == ("finished", COMMIT, False, None)
    assert (told["devices"], told["limit_s"], told["preset"]) == (["cpu"], 120.0, "smoke")
    assert told["environments"]["cpu"]["torch"]


def test_an_archive_names_no_folder_of_its_user(brought: tuple[Path, str]) -> None:
    with tarfile.open(brought[0]) as opened:
        members = {member.name: opened.extractfile(member) for member in opened.getmembers()}
        texts = {name: file.read() for name, file in members.items() if file is not None}
    assert {"conditions.json", "precision.sqlite", "logs/trials.log"} < set(texts)
    assert not [name for name, text in texts.items() if str(brought[0].parent).encode() in text]


def test_an_archive_is_rendered_elsewhere(brought: tuple[Path, str], tmp_path: Path, monkeypatch) -> None:
    """Under its own preset, without git."""
    monkeypatch.setitem(PRESETS, "smoke", SMALL)
    monkeypatch.setattr(study, "checkout_or", lambda given: checkout.checkout_or(given, tmp_path))
    page = study.render("default", tmp_path, [brought[0]]).read_text()
    assert "preset smoke" in page
    assert COMMIT[:12] in page
    assert "The commit is as it was given: git was not there to check it." in page
    assert "left no record" not in page


def test_what_is_finished_is_not_timed_again(brought: tuple[Path, str], copied: Path) -> None:
    """And a study that is stopped before it has timed anything brings home what an earlier one did."""
    [record] = (copied / ".asv").glob(f"trials/*/{COMMIT}/*.json")
    before = record.read_text()
    file = copied / "again.tar.gz"
    done = command(copied, "--commit", COMMIT, "--time-limit", "1s", "--archive", str(file))
    assert done.returncode == 0, done.stderr
    assert "rounding errors are not measured: no time is left" in done.stderr
    assert record.read_text() == before
    with archive.results(file) as found:
        assert [path.read_text() for path in found.records.rglob("*.json")] == [before]


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_what_ends_a_study_leaves_its_archive(end: type[BaseException], tmp_path: Path, monkeypatch) -> None:
    def timed(specification, log, progress, keep):
        log.write_text("visited")
        records = study.TRIALS / "here" / COMMIT
        records.mkdir(parents=True)
        (records / "done.json").write_text("{}")
        raise end

    monkeypatch.setattr(study, "TRIALS", tmp_path / "trials")
    monkeypatch.setattr(study, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(study, "place", lambda out, commit: study.Place(found, "here", out))
    monkeypatch.setattr(trial_run, "time_all", timed)
    found, file = checkout.Checkout(COMMIT, False, git=False), tmp_path / "home" / "results.tar.gz"
    with pytest.raises(end):
        study.study(study.Request(SMALL, tmp_path, ("cpu",), archive=file, asv=False))
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    with archive.results(file) as results:
        assert [path.name for path in results.records.rglob("*.json")] == ["done.json"]
        assert results.conditions["state"] == "stopped"


def test_where_git_is_missing_the_commit_is_unknown_unless_it_is_given(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout.checkout_or() == checkout.Checkout("unknown", False, git=False)
    assert checkout.checkout_or(COMMIT).commit == COMMIT


def test_the_report_says_that_a_commit_is_unknown(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    synthetic.write(tmp_path / "trials", synthetic.trial("resnet50/conv1", {"unfold_matmul": 2.0}), commit="unknown")
    page = study.render("default", tmp_path / "out", [tmp_path / "trials"]).read_text()
    assert "The commit is unknown" in page
    assert "git checkout unknown" not in page
    assert "commit unknown" not in page


def test_an_archive_s_store_is_whole_while_another_writes(tmp_path: Path) -> None:
    path = tmp_path / "precision.sqlite"
    with Store(path) as opened:
        opened.put("depth", "unit", "v", "m", [{"status": "ok", "x": 1}])
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("INSERT INTO units VALUES ('depth', 'half', 'v', 'm', 0, '[]')")  # not committed
            copy = tmp_path / "copy.sqlite"
            copy.write_bytes(store.closed(path))
    assert list(store.read(copy)["x"]) == [1]
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096)
    with pytest.raises(store.StoreError):
        store.closed(path)


def test_an_archive_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "results.tar.gz"
    archive.pack(file, {"conditions.json": b'{"devices": []}'})
    before = file.read_bytes()
    real = tarfile.TarFile.addfile

    def full(self, info, content=None):
        real(self, info, content)
        raise OSError("no space left")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match="no space"):
        archive.pack(file, {"conditions.json": b"{}", "more": b"x" * 10**5})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\x1f\x8b" + b[:1:-1]])
def test_a_spoilt_archive_is_refused_in_one_line(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tmp_path / "results.tar.gz"
    archive.pack(file, {"conditions.json": b'{"devices": []}', "trials/a.json": os.urandom(5000)})
    file.write_bytes(spoil(file.read_bytes()))
    with (
        pytest.raises(ValueError, match=r"results\.tar\.gz is no archive of a study") as refusal,
        archive.results(file),
    ):
        pass
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("text", "value"), [("540s", 540.0), ("9m", 540.0), ("1.5h", 5400.0)])
def test_times_are_read(text: str, value: float) -> None:
    assert arguments.seconds("time-limit", text) == value


@pytest.mark.parametrize("text", ["", "9", "9 m", "-1s", "0m", "9m30s", "m", "infs", "1e9h"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time above zero such as 540s"):
        arguments.seconds("time-limit", text)


def test_experiments_end_with_the_time(tmp_path: Path, capsys) -> None:
    run_study(("depth",), "smoke", tmp_path / "precision.sqlite", until=time.monotonic())
    said = capsys.readouterr().err
    assert "left: there was no time for more" in said
    with contextlib.closing(sqlite3.connect(tmp_path / "precision.sqlite")) as opened:
        assert opened.execute("SELECT count(*) FROM units WHERE experiment = 'depth'").fetchone() == (1,)


def test_a_page_of_two_commits_is_of_neither(tmp_path):
    """Nor of the checkout that renders it."""
    for commit, dtype in (("a" * 40, "float32"), ("b" * 40, "bfloat16")):
        trial = synthetic.trial("vgg16/conv5", {"unfold_matmul": 2.0}, dtype)
        synthetic.write(tmp_path, trial, commit=commit)
    with study.results_of("smoke", tmp_path / "out", tmp_path) as found:
        assert found.context.commit == ""
        assert not found.context.dirty
