"""CONTRIBUTING's recipes, followed with toys in a copy of the code: registered, timed, judged, in the report."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.copies import copy_code, run_code

NEW_FILES = {
    "linear_lasagna/methods/toy.py": '''
"""A toy: a convolution of the negated image, negated."""

from torch.nn import functional

from linear_lasagna.methods.method import Method


def prepare(kernel, layer):
    names = ("stride", "padding", "dilation", "groups")
    settings = {name: getattr(layer, name) for name in names}

    def call(x):
        y = -functional.conv2d(-x, kernel.weight, None, **settings)
        return y if kernel.bias is None else y + kernel.bias.view(-1, 1, 1)

    return call


toy = Method("toy", prepare)
''',
    "analysis/precision/toys.py": '''
"""How large is the error of the toy?"""

from analysis.precision.experiment import PRESETS, Experiment
from analysis.precision.unit import Grid, plain


def rows(unit):
    from analysis.precision.case import Case

    return Case.of(unit).rows(("direct", "toy"))


TOYS = Experiment(
    name="toys",
    question="How large is the error of the toy?",
    ways=("direct", "toy"),
    presets=dict.fromkeys(PRESETS, (Grid((plain(1, 4, output=4),), 2, ("float32",)),)),
    rows=rows,
)
''',
    "analysis/report/sections/toys.py": '''
"""Sections about toys: of the experiment, and of the trials."""

from analysis.data.over_seeds import SERIES, over_seeds
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Section, per_scope
from analysis.report.tables import table


def part(scope, rows, frames):
    columns = {"way": lambda row: row.way, "error": lambda row: f"{row.median:.3f}"}
    return Content(tables=(table("toys", "Errors of toys.", frames["toys"], columns, "toys"),))


def timed(scope, data, frames):
    return Content(answer=f"The toy was timed on {len(frames['toy_times'])} problems.")


EXPERIMENT = experiment_section(
    "toys",
    "toys",
    "Toys that err",
    lambda rows: {"toys": over_seeds(rows, [*SERIES, "way"], "error_u")},
    part,
    files={"toys": "The errors of toys."},
)
TRIALS = Section(
    "toy-times",
    "Toys that run",
    per_scope(timed),
    lambda data: {"toy_times": data.cells[data.cells["way"] == "toy"][["machine", "device", "problem"]]},
    headlines={"Toys": lambda data, frames: f"Timed: {len(frames['toy_times'])}."},
    files={"toy_times": "The problems on which the toy was timed."},
)
''',
}
NEW_LINES = {  # file -> (the line after which, the lines)
    "linear_lasagna/methods/__init__.py": [
        ("from linear_lasagna.methods.strided_matmul", "from linear_lasagna.methods.toy import toy"),
        ("METHODS: dict[str, Method] = {", '    "toy": toy,'),
    ],
    "linear_lasagna/vocabulary.py": [
        ("METHODS: dict[str, str] = {", '    "toy": "twice negated, for fun.",'),
        ("METRICS: dict[str, str] = {", '    "largest_error": "largest |computed − exact|",'),
        ("COMMON_METRICS = ", 'COMMON_METRICS += ("largest_error",)'),
    ],
    "linear_lasagna/metrics.py": [("METRICS: dict", '    "largest_error": lambda of: float(of.error.abs().max()),')],
    "linear_lasagna/catalog.py": [
        (
            "GROUPS: dict[str, Group] = {",
            '    "toys": Group("toys", (Problem("toys/tiny", 1, 2, (6, 6), (Layer(2, 3),)),), LAYER_WAYS),',
        )
    ],
    "benchmarks/trials.py": [("from ._replay import", '\n\nclass Toys(_Trials):\n    group = "toys"')],
    "analysis/precision/experiments.py": [
        ("from analysis.precision.switches import", "from analysis.precision.toys import TOYS"),
        ("EXPERIMENTS: dict[str, Experiment] = {", '    "toys": TOYS,'),
    ],
    "analysis/report/sections/__init__.py": [
        ("    switches,", "    toys,"),
        ("    hypotheses.SECTION,", "    toys.EXPERIMENT,\n    toys.TRIALS,"),
    ],
}
FOLLOWED = """
import json, sys
from pathlib import Path
from asv_runner.discovery import disc_benchmarks
from analysis.data.records import Record, Records
from analysis.data.store import read
from analysis.measure.presets import PRESETS, trials
from analysis.precision import run_study
from analysis.report import page
from linear_lasagna import trial
from linear_lasagna.catalog import CATALOG, GROUPS

def shown(cell):
    return cell.status, cell.reason, len(cell.samples), cell.measures.get("largest_error")

out = Path(sys.argv[1])
measured = trial.run(CATALOG["toys/tiny"], GROUPS["toys"].ways, dtype="float32", budget_s=0.02)
run_study(["toys"], "smoke", out / "store.sqlite")
records = Records((Record(measured, "toys", "here"),))
report = page.render(records, read(out / "store.sqlite"), out, page.Context(version="0"))
print(json.dumps({
    "benchmarks": [each.name for each in disc_benchmarks("benchmarks")],
    "preset": [key.problem for key in trials(PRESETS["default"], ("cpu",)) if key.group == "toys"],
    "cells": {way: shown(cell) for way, cell in measured.cells.items()},
    "headlines": [line.text for line in report.headlines],
}))
"""


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What came of the toys, and the folder of their report."""
    home = copy_code(tmp_path_factory.mktemp("recipes"))
    for name, text in NEW_FILES.items():
        (home / name).write_text(text.lstrip())
    for name, additions in NEW_LINES.items():
        lines = (home / name).read_text().split("\n")
        for after, new in additions:
            [place] = [place for place, line in enumerate(lines) if line.startswith(after)]
            lines.insert(place + 1, new)
        (home / name).write_text("\n".join(lines))
    done = run_code(home, FOLLOWED, str(home / "out"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), home / "out"


def test_a_method_and_a_group_are_timed_and_judged(followed):
    found, _ = followed
    assert "trials.Toys.time_forward" in found["benchmarks"]
    assert found["preset"] == ["toys/tiny"]
    status, reason, blocks, _ = found["cells"]["toy"]
    assert (status, reason) == ("ok", "")
    assert blocks > 0


def test_all_of_them_are_in_the_report(followed):
    found, out = followed
    page = re.sub("</?(dfn|button)[^>]*>", "", (out / "report.html").read_text(encoding="utf-8"))
    assert "<code>toy</code>: twice negated, for fun." in page
    assert "Speed: toys" in page
    assert "How large is the error of the toy?" in page
    assert "The toy was timed on 1 problems." in page
    assert "Timed: 1." in found["headlines"]
    for name in ("toys", "toys_rows", "toy_times"):
        assert (out / "data" / f"{name}.csv").exists()
        assert f'id="data-{name}"' in page


def test_a_metric_is_computed_of_trials_and_experiments(followed):
    found, out = followed
    assert all(cell[3] >= 0 for cell in found["cells"].values() if cell[0] == "ok")
    for name in ("cells", "toys_rows"):
        with (out / "data" / f"{name}.csv").open(encoding="utf-8") as file:
            errors = [float(row["largest_error"]) for row in csv.DictReader(file) if row["status"] == "ok"]
        assert errors
        assert all(error >= 0 for error in errors)
    assert "largest |computed − exact|" in (out / "data" / "columns.csv").read_text(encoding="utf-8")
