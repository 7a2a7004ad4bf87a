"""What asv saves tells of no home folder, and asv finds it again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from analysis.measure import asv_run
from analysis.measure.checkout import checkout


def saved_by_asv(folder: Path) -> Path:
    environment = "existing-py" + sys.executable.replace("/", "_")
    path = folder / f"0123abcd-{environment}.json"
    data = {"env_name": environment, "python": sys.executable, "params": {"python": sys.executable, "ram": "1"}}
    path.write_text(json.dumps({**data, "results": {"a": [1.5]}}))
    return path


def test_scrubbed_results_name_no_path_and_keep_their_numbers(tmp_path: Path) -> None:
    saved_by_asv(tmp_path)
    asv_run.scrub(tmp_path)
    [path] = tmp_path.iterdir()
    assert path.name == "0123abcd-existing.json"
    assert sys.executable not in path.read_text()
    assert json.loads(path.read_text())["results"] == {"a": [1.5]}


def test_unscrubbing_gives_asv_its_own_file_back(tmp_path: Path) -> None:
    path = saved_by_asv(tmp_path)
    before = json.loads(path.read_text())
    asv_run.scrub(tmp_path)
    asv_run.unscrub(tmp_path)
    assert json.loads(path.read_text()) == before


def test_a_run_that_asv_refuses_names_its_log(tmp_path: Path) -> None:
    settings = asv_run.Settings("f" * 40, "no such machine", ["sources"], 1.0, tmp_path / "asv.log")
    with pytest.raises(RuntimeError, match=r"asv run ended with exit code \d+; see .*asv\.log"):
        asv_run.run(settings, lambda: None)


def test_a_folder_without_git_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no git checkout with a commit") as refusal:
        checkout(tmp_path)
    assert "\n" not in str(refusal.value)
