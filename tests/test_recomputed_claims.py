"""What a report says of its findings is what its rows give: recomputed by code that shares nothing with it."""

from __future__ import annotations

import itertools
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pandas
import pytest

from analysis.data.records import Records
from analysis.findings import FINDINGS
from analysis.findings.statistics import STATISTICS
from analysis.precision import EXPERIMENTS
from analysis.precision.compute import Computer, Stamp, Task, full_row
from analysis.precision.unit import Unit
from analysis.report import page
from linear_lasagna.vocabulary import COMMON_METRICS
from tests import recomputed_claims as recomputed
from tests.reporting import undrawn
from tests.synthetic import units_of_claims

SEEDS = 15  # enough for intervals
SETS = {"synthetic #0": "AVX2", "synthetic #1": "DEFAULT, oneDNN SSE41"}


def drawn() -> list[dict[str, Any]]:
    """Random errors of every cell that a finding is about; some are about the same."""
    numbers, rows = random.Random(0), {}
    for finding, machine in itertools.product(FINDINGS.values(), SETS):
        experiment = EXPERIMENTS[finding.experiment]
        units = [unit for unit in units_of_claims(experiment) if unit.seed < SEEDS]
        for claim, unit in itertools.product(finding.claims, units):
            cells, kept = split(unit, claim.measured.cells)
            for way in claim.measured.ways if kept and unit.dtype in claim.dtypes else ():
                key = (experiment.name, machine, unit, way, *cells.items())
                rows[key] = rows.get(key) or row(experiment, unit, way, machine, numbers) | cells
    return list(rows.values())


def split(unit: Unit, cells: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The cells that a unit does not fix, and whether it has the others."""
    fixed = {name: getattr(unit, name) for name in cells if hasattr(unit, name)} | {"problem": unit.problem.name}
    others = {name: value for name, value in cells.items() if name not in fixed}
    return others, all(fixed[name] == value for name, value in cells.items() if name in fixed)


def row(experiment: Any, unit: Unit, way: str, machine: str, numbers: random.Random) -> dict[str, Any]:
    sizes = {name: numbers.lognormvariate(0, 0.3) for name in (*COMMON_METRICS, *experiment.columns)}
    task = Task(experiment, unit, Stamp(machine, "code", "version", "torch"))
    result = {"way": way, "status": "ok", "reason": "", **sizes, "outputs": 1}
    return full_row(task, result, 1, 0.1, Computer("local", SETS[machine]))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    with undrawn():
        page.render(Records(), pandas.DataFrame(drawn()), out, page.Context(version="0"))
    return out


@pytest.fixture
def copied(rendered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered, tmp_path / "copy"))


def test_every_claim_is_recomputed(rendered: Path):
    count, lines = recomputed.check(rendered)
    assert lines == []
    assert count == len(SETS) * sum(len(claim.dtypes) for finding in FINDINGS.values() for claim in finding.claims)


def a_digit(text: str) -> str:
    """The number with another fifth digit."""
    place = re.search(r"(?:[1-9]\D*(?:\d\D*?){3})(\d)", text)
    assert place
    return text[: place.start(1)] + str((int(place[1]) + 1) % 10) + text[place.end(1) :]


def another(text: str) -> str:
    return "refuted" if text == "undecided" else "undecided"


@pytest.mark.parametrize(
    ("name", "column", "change"),
    [
        ("averaging_claims", "median", a_digit),
        ("outlier_claims", "lower", a_digit),
        ("casting_claims", "upper", a_digit),
        ("summation_claims", "seeds", lambda text: "19"),
        ("summation_claims", "outcome", another),
        ("outlier_instructions", "outcome", another),
        ("outlier_instructions", "agreement", lambda text: "one set"),
        ("casting_rows", "error_u", lambda text: "50.0"),
    ],
)
def test_what_is_changed_in_a_csv_is_seen(copied: Path, name: str, column: str, change: Any):
    path = copied / "data" / f"{name}.csv"
    for other in copied.glob("data/*_claims.csv"):
        if not name.startswith(other.stem.removesuffix("claims")):
            other.unlink()
    frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
    one = frame["way"].eq("direct") if name.endswith("rows") else frame.index == 3
    frame.loc[one, column] = frame.loc[one, column].map(change)
    frame.to_csv(path, index=False)
    _, lines = recomputed.check(copied)
    assert lines
    assert name.endswith("rows") or len(lines) == 1 + (column == "outcome" and name.endswith("claims")) * 2


def test_a_digit_that_is_changed_on_the_page_is_seen(copied: Path):
    path = copied / "report.html"
    text = path.read_text(encoding="utf-8")
    found = re.search(r'id="table-summation.*?>\d+\.\d*(\d) <small>\[', text, re.DOTALL)
    assert found
    digit = str((int(found[1]) + 1) % 10)
    path.write_text(text[: found.start(1)] + digit + text[found.end(1) :], encoding="utf-8")
    _, (line,) = recomputed.check(copied)
    assert "the page prints" in line


def test_statistics_are_known_to_it():
    assert set(recomputed.STATISTICS) == set(STATISTICS)
