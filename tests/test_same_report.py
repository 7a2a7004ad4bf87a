"""A fixed small study gives the same report as before: what changes it must mean to, and say so.

`python -m tests.test_same_report` writes the digests anew. Figures are left out, and floats keep 9 digits: their last
bits differ between processors.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from analysis.data import records
from analysis.report import page as report
from tests.compiling import compiled, compiling
from tests.reporting import undrawn

STUDY = Path(__file__).parent / "fixed_study"
DIGESTS = STUDY / "digests.json"
CONTEXT = report.Context(
    version="1.2.3",
    commit="c0ffee" * 6,
    date="2026-11-22",
    selection="fixed",
    expected=[("networks", "vgg16/conv5", "float32", "cpu"), ("networks", "resnet50/conv5_3x3", "float32", "cpu")],
    commands=("make study",),
    address="https://example.org/lasagna",
)
SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)


def lines(name: str) -> list[str]:
    return gzip.decompress((STUDY / f"{name}.jsonl.gz").read_bytes()).decode().splitlines()


def study() -> tuple[records.Records, pandas.DataFrame]:
    """Some trials and rows of one machine, as they were measured."""
    trials = records.Records(tuple(records.read(line) for line in lines("trials")))
    return trials, pandas.DataFrame([json.loads(line) for line in lines("rows")])


def rounded(text: str) -> str:
    """The CSV with 9 significant digits."""
    return "\n".join(",".join(map(_shown, row)) for row in csv.reader(io.StringIO(text)))


def _shown(value: str) -> str:
    try:
        return f"{float(value):.9g}"
    except ValueError:
        return value


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its report."""
    return render(tmp_path_factory.mktemp("report"))


def render(folder: Path) -> Path:
    with undrawn():
        report.render(*study(), folder, CONTEXT)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """The first 16 hex digits of every file's digest."""
    kinds = {".csv": rounded, ".html": lambda text: SVG.sub("", text), ".tex": str}
    files = sorted(path for path in folder.rglob("*") if path.suffix in kinds)
    texts = {path.relative_to(folder).as_posix(): kinds[path.suffix](path.read_text("utf-8")) for path in files}
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}


def test_the_report_is_the_same(rendered: Path) -> None:
    found, expected = digests(rendered), json.loads(DIGESTS.read_text())
    assert {name for name in found | expected if found.get(name) != expected.get(name)} == set()


@compiling
def test_its_tables_compile_and_fit_the_page(rendered: Path, tmp_path: Path) -> None:
    tables = [path.read_text(encoding="ascii") for path in sorted(rendered.glob("data/*.tex"))]
    assert len(tables) > 40
    assert any("begin{longtable}" in each for each in tables)
    said = compiled(tables, tmp_path)
    assert [line for line in said.splitlines() if "Overfull" in line or "too large" in line] == []


def test_a_scope_s_frames_depend_on_its_own_data_alone() -> None:
    """Every frame of every section that is of a machine, beside a second one with a smaller preset."""
    trials, rows = study()
    fewer = tuple(replace(r, machine="other") for r in trials if r.trial.dtype == "float32" and r.group != "borders")
    less = rows[(rows["seed"] < 4) & (rows["depth"] != 8) & (rows["fan_in"] < 300)].assign(machine="other")
    parts = {trials.entries[0].machine: (trials, rows), "other": (records.Records(fewer), less)}
    rows = rows.assign(machine=trials.entries[0].machine)
    data, results = report.derive(records.Records(trials.entries + fewer), pandas.concat([rows, less]))
    for scope in data.scopes:
        own, mine = parts[scope.machine]
        alone = report.derive(own, mine.assign(machine=scope.machine))[1]
        for (section, frames), (_, expected) in zip(results, alone, strict=True):
            assert frames is not None
            assert expected is not None
            if section.everywhere:
                continue
            for name in frames.keys() - {"problems", "missing", "characteristics", "models"}:
                found, right = frames[name], expected[name].reset_index(drop=True)
                found = found[found["machine"] == scope.machine].reset_index(drop=True)
                found = found[right.columns]  # what no row of this scope has is a column of the other's
                pandas.testing.assert_frame_equal(found, right, check_dtype=False, obj=f"{section.name}: {name}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        DIGESTS.write_text(json.dumps(digests(render(Path(folder))), indent=1) + "\n")
    print(f"wrote {DIGESTS}", file=sys.stderr)
