"""The banner: what makes numbers unfit to be cited is said before them, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.data.records import Record, Records
from analysis.report.fitness import Fitness, fitness
from analysis.report.page import Context
from tests import synthetic
from tests.reporting import study

CLEAN = Context(version="1", commit="c0ffee", selection="default")


def told(records: list[Record], context: Context = CLEAN, rows: Any = None) -> Fitness:
    found = study(Records(tuple(records)), synthetic.precision() if rows is None else rows)
    return fitness(found.data, found.frames["noise"], context)


def record(problem: str = "vgg16/conv5", control: float = 1.0, **extra: Any) -> Record:
    trial = synthetic.trial(problem, {"unfold_matmul": 2.0})
    synthetic.put(trial, "control", synthetic.cell(1e-3 * control))
    return Record(trial, "networks", "m", "c0ffee", **extra)


def test_a_clean_study_has_no_banner():
    assert told([record()]) == Fitness((), ())


def test_a_smoke_study_says_so_first():
    assert told([record()], replace(CLEAN, selection="smoke")).bad[0].startswith("A smoke test")


def test_a_dirty_tree_and_several_commits_are_told():
    other = replace(record("resnet50/conv1", dirty=True), commit="beef")
    bad = told([record(), other]).bad
    assert "1 of 2 trials ran in a working tree that differed from the commit: they belong to no commit." in bad
    assert "The trials come from 2 commits." in bad


@pytest.mark.parametrize(("control", "noisy"), [(1.05, False), (1.3, True), (0.7, True)])
def test_a_control_that_shows_much_noise_is_told(control, noisy):
    bad = told([record(control=control)]).bad
    assert any("noisy machine" in line for line in bad) == noisy


def test_what_is_missing_is_told():
    found = study(Records((record(),)), None, [("networks", "vgg16/conv5", "float16", "cpu")])
    expected = replace(CLEAN, expected=[("networks", "vgg16/conv5", "float16", "cpu")])
    assert fitness(found.data, found.frames["noise"], expected).doubtful == (
        "1 of 1 trial of the selection “default”, as this version has it, left no record.",
        "There are no rows of the precision experiment yet.",
    )
    assert fitness(study().data, (), CLEAN).doubtful[0] == "There are no trial records yet."
