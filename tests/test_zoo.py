"""The zoo: what becomes of each architecture, whatever it does; its table as a file; the section that shows it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from analysis.data import zoo
from analysis.measure.zoo import packages, running
from analysis.measure.zoo.packages import PACKAGES, Package, images, smallest
from analysis.report.sections.models import answer, content, verdicts
from linear_lasagna.environment import cpu_name

ROOT = Path(__file__).parent.parent
LIMIT_S = 15


def toys(out: Path) -> list[str]:
    """The lines that a run says."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    line = [sys.executable, str(ROOT / "tests" / "toy_zoo.py"), str(out), str(LIMIT_S)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_whatever_an_architecture_does_costs_its_own_rows_alone(tmp_path: Path) -> None:
    out = tmp_path / "zoo.csv"
    lines = toys(out)
    assert len(lines) == 6
    frame = zoo.read(out)
    found = {
        (row.family, row.way): (row.status, row.reason)
        for row in frame.itertuples(index=False)
        if row.way in ("given", "merged")
    }
    assert found["good", "merged"] == found["plain", "merged"] == ("ok", "")
    assert found["crashing", "given"] == ("ok", "")
    assert found["crashing", "merged"] == ("failed", "the process was killed by SIGABRT while making it merged")
    assert found["hanging", "given"] == ("failed", f"stopped after {LIMIT_S} s while building it")
    assert found["raising", "given"][1] == "ZeroDivisionError: division by zero (while building it)"
    if sys.platform == "linux":
        assert "memory" in found["hungry", "given"][1]
    assert {family for family, way in found if way == "merged"} == {"good", "plain", "crashing"}
    good = frame[frame["family"] == "good"].set_index("way")
    assert (good.loc["given", "architecture"], good.loc["given", "others"]) == ("good", "good_wide")
    assert good["processes"].to_list() == [2.0] * 4
    assert good["convolutions"].to_list() == [2.0, 1.0, 1.0, 2.0]
    assert good.loc["given", "shape"] == "1×3×16×16"
    assert good.loc["given", "processor"].startswith(f"{cpu_name()}, ")
    assert lines[0].startswith(
        "toys good: 1 of 1 run merged, convolutions 2 -> 1 (authors' 1), norms 3 -> 0 (authors' 0), difference "
    )

    kept = frame[frame["family"] != "plain"]
    zoo.write(kept, out)
    assert [line.partition(":")[0] for line in toys(out)] == ["toys plain"]
    assert set(zoo.read(out)["family"]) == set(frame["family"])


def rows(**changes: object) -> list[dict[str, object]]:
    """One architecture, as given, merged, and by its authors."""
    fixed = {"package": "p", "version": "1", "torch": "2", "processor": "q", "family": "f", "architecture": "a"}
    numbers = {"convolutions": 4, "norms": 4, "additions": 2, "seconds": 2e-3, "processes": 1, "relative_l2": 1e-7}
    given = fixed | {"way": "given", "status": "ok"} | numbers
    merged = given | {"way": "merged", "convolutions": 2, "norms": 0, "runs": 3, "merged": 2, "notes": 0}
    merged |= {"seconds": 1e-3, "ratio": 0.5, "ratio_lower": 0.4, "ratio_upper": 0.6, "verdict": "faster"}
    merged |= {"difference": 1e-15}
    authors = given | {"way": "authors", "convolutions": 2, "norms": 1, "ratio": 0.55, "verdict": "faster"}
    return [row | changes for row in (given, merged, authors)]


def refused(family: str, status: str = "refused") -> list[dict[str, object]]:
    given, merged, _ = rows(family=family, architecture=family)
    bare = {name: merged[name] for name in ("package", "version", "torch", "processor", "family", "architecture")}
    return [given, bare | {"way": "merged", "status": status, "reason": "it branches"}]


def unbuilt(family: str) -> list[dict[str, object]]:
    return [row | {"status": "failed", "reason": "no"} for row in rows(family=family, architecture=family)[:1]]


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    frame = zoo.with_rows(zoo.with_rows(zoo.empty(), rows()), refused("g"))
    zoo.write(frame, tmp_path / "zoo.csv")
    again = zoo.read(tmp_path / "zoo.csv")
    pandas.testing.assert_frame_equal(again, frame)
    assert list(again["reason"]) == ["", "", "", "", "it branches"]
    assert [path.name for path in tmp_path.iterdir()] == ["zoo.csv"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\x00\x01"])
def test_another_file_is_not_the_zoo_s(tmp_path: Path, text: str) -> None:
    path = tmp_path / "zoo.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"zoo\.csv is no table of the zoo") as raised:
        zoo.read(path)
    assert "\n" not in str(raised.value)
    assert path.read_text() == text


def test_what_is_kept_is_of_this_version_and_of_families_that_there_are() -> None:
    frame = zoo.with_rows(zoo.empty(), [*rows(), *refused("g"), *unbuilt("h"), *rows(package="other", version="0")])
    here = {"version": "1", "torch": "2"}

    def kept(here: dict[str, str], families: str, retry: bool) -> set[str]:
        found = zoo.current(frame, "p", here, families, retry)
        assert "other" in set(found["package"])
        return set(found.loc[found["package"] == "p", "family"])

    assert kept(here, "fgh", False) == {"f", "g", "h"}
    assert kept(here, "fg", False) == {"f", "g"}
    assert kept(here, "fgh", True) == {"f"}
    assert kept(here | {"torch": "3"}, "fgh", False) == set()


def test_lines_and_sentences() -> None:
    assert zoo.line(rows()) == (
        "p a: 2 of 3 runs merged, convolutions 4 -> 2 (authors' 2), norms 4 -> 0 (authors' 1), difference 1e-15, "
        "2 -> 1 ms"
    )
    assert zoo.line(refused("g")) == "p g: refused: it branches"
    assert zoo.line(unbuilt("h")) == "p h: not built: no"
    frame = zoo.with_rows(zoo.empty(), [*rows(), *refused("g"), *refused("i", "failed"), *unbuilt("h")])
    (sentence,) = zoo.sentences(frame)
    assert sentence.startswith("p 1: of 3 architectures that can be built 1 are accepted, 1 refused, 1 failed; 1 have")
    assert "1 are faster, 0 slower" in sentence
    found = zoo.summary(frame).iloc[0]
    assert (found["families"], found["built"], found["changed"]) == (4, 3, 1)


def test_the_section_tells_what_is_accepted_and_compares_with_the_authors() -> None:
    frame = zoo.with_rows(zoo.empty(), [*rows(package="designs"), *rows(), *refused("g"), *unbuilt("h")])
    text = answer(frame)
    assert text.startswith("These are numbers of q, the same on every page; ")
    assert "Of 3 architectures tried so far that can be built without weights 2 are accepted; in 2 of these" in text
    assert "Of 2 that their authors re-parametrise, the merged model has at most the authors' convolutions in 2" in text
    shown = content(None, {"models": frame})  # type: ignore[arg-type]
    assert shown is not None
    names = [table.name for table in shown.tables]
    assert names == ["models-designs", "models-packages", "models-changed", "models-refused"]
    assert [str(text) for text in shown.tables[3].rows[0]] == ["p", "g", "refused", "it branches"]
    assert shown.tables[2].rows[0][3].main == "4 → 2"


def test_verdicts_are_of_models_that_merging_changes_and_say_by_what_intervals() -> None:
    """A verdict on a model that is as it was says nothing about merging."""
    same = [row | {"convolutions": 4, "norms": 4, "verdict": "slower"} for row in rows(family="same")[:2]]
    several = rows(family="several", processes=6)
    frame = zoo.with_rows(zoo.empty(), [*rows(), *same, *several])
    assert (zoo.summary(frame).iloc[0]["faster"], zoo.summary(frame).iloc[0]["slower"]) == (2, 0)
    told = (
        "1 faster, by intervals between processes; 1 faster, by intervals within one process, which need not hold in "
    )
    told += "the next"
    assert verdicts(zoo.changed(frame)) == told
    bare = zoo.with_rows(zoo.empty(), rows(verdict="undecided", ratio_lower=math.nan))
    assert verdicts(zoo.changed(bare)).startswith("1 has no interval")
    assert f"Merged these are {told}." in answer(frame)


def test_the_committed_table_is_whole() -> None:
    frame = zoo.committed()
    assert not frame.duplicated(["package", "family", "way"]).any()
    given = frame[frame["way"] == "given"]
    assert set(given["status"]) <= {"ok", "failed"}
    assert set(frame["package"]) <= set(PACKAGES)
    assert set(frame["status"]) <= {"ok", "absent", "refused", "failed"}
    assert not (frame.loc[frame["status"].isin(["refused", "failed"]), "reason"] == "").any()
    assert not frame["reason"].str.contains("/tmp|/home|/root").any()


def test_unknown_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "ghost", Package("no_such_module", dict, lambda name: None, lambda name: []))  # type: ignore
    with pytest.raises(ValueError, match="unknown package 'resnets'; known: designs, timm"):
        running._installed(["resnets"], print)
    with pytest.raises(RuntimeError, match=r"ghost is not installed; pip install -e '\.\[zoo\]'"):
        running._installed(["designs", "ghost"], print)
    said: list[str] = []
    assert "ghost" not in running._installed([], said.append)
    assert any("ghost is not installed, and left out" in line for line in said)


def test_the_smallest_is_found_without_memory_for_its_numbers() -> None:
    from torch import nn

    sizes = {"large": 2**30, "broken": 0, "small": 2**28}

    def build(name: str) -> nn.Module:
        if name == "broken":
            raise RuntimeError
        return nn.Linear(sizes[name], 4)

    package = Package("torch", dict, build, lambda name: images(8))
    assert smallest(package, list(sizes)) == "small"
    assert smallest(package, ["broken", "broken"]) == "broken"


def test_inputs_are_the_same_each_time() -> None:
    assert packages.image(2, 3).equal(packages.image(2, 3))
    assert [tuple(x.shape) for (x,) in images(4, 8, channels=(3, 1))] == [
        (1, 3, 4, 4),
        (1, 3, 8, 8),
        (1, 1, 4, 4),
        (1, 1, 8, 8),
    ]
