"""asv's own site beside a report: built whole or not at all, and never the end of a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis import study
from analysis.measure import asv_site
from analysis.measure.checkout import ROOT
from analysis.measure.presets import PRESETS


def writing(code: int = 0, index: bool = True) -> Any:
    """asv, as `leash.run` starts it: it writes what the configuration asks for."""

    def run(command: list[str], *_: Any) -> int:
        told = json.loads(Path(command[command.index("--config") + 1]).read_text())
        assert told["results_dir"] == str(ROOT / ".asv" / "results")
        Path(told["html_dir"]).mkdir()
        if index:
            (Path(told["html_dir"]) / "index.html").write_text("new")
        return code

    return run


def test_a_site_is_built_in_the_place_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asv_site.link(tmp_path) == ""
    (tmp_path / "asv").mkdir()
    (tmp_path / "asv" / "old").write_text("")
    monkeypatch.setattr(asv_site.leash, "run", writing())
    assert asv_site.publish(tmp_path, tmp_path / "asv.log").read_text() == "new"
    assert asv_site.link(tmp_path) == "asv/index.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asv", "asv.log"]
    assert [path.name for path in (tmp_path / "asv").iterdir()] == ["index.html"]


@pytest.mark.parametrize("failing", [writing(code=1), writing(index=False)])
def test_where_asv_fails_the_old_site_stays_and_the_study_goes_on(
    failing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "asv").mkdir()
    (tmp_path / "asv" / "index.html").write_text("old")
    monkeypatch.setattr(asv_site.leash, "run", failing)
    monkeypatch.setattr(study, "_without_asv", lambda *_: "")
    request, where = study.Request(PRESETS["smoke"], tmp_path), study.place(tmp_path)
    assert study._told_of(study.publish_asv, request, where, ()) == 0.0
    assert "the report goes without: asv publish ended with exit code" in capsys.readouterr().err
    assert (tmp_path / "asv" / "index.html").read_text() == "old"


def test_asv_itself_is_asked_and_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = asv_site._configuration(tmp_path / "html") | {"results_dir": str(tmp_path)}
    monkeypatch.setattr(asv_site, "_configuration", lambda html: told)
    with pytest.raises(RuntimeError, match=r"see .*asv\.log"):
        asv_site.publish(tmp_path, tmp_path / "asv.log")
    assert "benchmarks.json" in (tmp_path / "asv.log").read_text()
