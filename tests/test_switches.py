"""torch's precision switches: off inside, and exactly as they were afterwards, by whichever interface they were set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from linear_lasagna import Layer, Problem
from linear_lasagna.environment import environment
from linear_lasagna.planning import fresh, plan, planner
from linear_lasagna.planning.measure import Bench
from linear_lasagna.rounding.accumulation import accumulation
from linear_lasagna.switches import CONDITIONS, SWITCHES, conditions, impose, kept, restore, state, switched
from linear_lasagna.timing import Timing
from linear_lasagna.trial import run
from tests.switching import SETTINGS, TRIED

OFF = {"cudnn": False, "cublas": False, "matmul": "highest", "accumulation": False}
# Torch refuses to answer by the older interface alone where cuDNN's own fields are TF32 only by default.
CUDNN_TOLD = (False, "refused")


@cache
def answers() -> dict[str, dict[str, Any]]:
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "error", "-m", "tests.switching"]
    done = subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("setting", SETTINGS)
def test_everything_is_as_it_was(setting):
    answer = answers()[setting]
    assert isinstance(answer["untouched"], list)
    assert answer["left"] == answer["untouched"]
    assert answer["left_early"] == answer["untouched"]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("where", ["inside", "nested"])
def test_inside_all_is_off(setting, where):
    fields, old, *alike = answers()[setting][where]
    assert fields == ["ieee"]
    assert old.pop("cudnn") in CUDNN_TOLD
    assert [value if isinstance(value, bool) else value[0] for value in (old.pop("fp16"), old.pop("bf16"))] == [
        False
    ] * 2
    assert old == {name: value for name, value in OFF.items() if name != "cudnn"}
    assert all(alike)


@pytest.mark.parametrize("setting", TRIED)
def test_trials_and_probes_run_whatever_was_set(setting):
    statuses, row = answers()[setting]["tried"]
    assert statuses == {"direct": "ok"}
    coarse = "mkldnn" in setting or "'high'" in setting or "'medium'" in setting
    coarse |= setting.startswith("torch.backends.fp32") and "ieee" not in setting
    assert row["result"] == ("allowed" if coarse else "off"), row["note"]


# --- in this process -------------------------------------------------------------------------------------------------

ONE = Problem("one", 1, 2, (3, 3), (Layer(2, 3),))
TWO = Problem("two", 1, 2, (5, 5), (Layer(2, 3), Layer(2, 3)))


@pytest.fixture
def medium():
    """A process that lets its products be rounded to bfloat16, on the CPU too."""
    before = kept()
    torch.set_float32_matmul_precision("medium")
    yield
    restore(before)


@pytest.mark.parametrize("dtype", SWITCHES)
@pytest.mark.parametrize("on", [True, False])
def test_a_dtype_s_switches_leave_the_others_alone(dtype, on):
    before = state()
    with switched(SWITCHES[dtype], on):
        now, cuda = state(), {name for name in before if name.startswith(("cudnn.", "cuda.matmul.fp32"))}
        own = cuda if dtype == "float32" else set(SWITCHES[dtype])
        assert {now[name] for name in own} == ({"tf32" if on else "ieee"} if dtype == "float32" else {on})
        others = {name for name in set(before) - own if not name.startswith(("mkldnn.", "float32"))}
        assert {name: now[name] for name in others} == {name: before[name] for name in others}
        assert {now[name] for name in now if name.startswith("mkldnn.")} <= {"ieee", "none"}
    assert state() == before


def test_what_was_imposed_is_in_force(medium):
    """Also where the process is in a state that torch refuses to tell."""
    coarse = state()
    torch.backends.mkldnn.matmul.fp32_precision = "tf32"
    assert state()["float32_matmul_precision"] == "mixed"
    impose(coarse)
    assert state() == coarse


def test_a_trial_records_the_switches_as_they_held_while_it_was_timed(medium):
    trial = run(ONE, ["direct"], budget_s=1e-3)
    assert environment()["switches"]["mkldnn.matmul.fp32_precision"] == "bf16"
    assert trial.environment["switches"]["mkldnn.matmul.fp32_precision"] == "ieee"
    assert trial.environment["switches"].keys() == conditions("cpu").keys()


@pytest.mark.parametrize("kind", CONDITIONS)
def test_conditions_are_plain(kind):
    """The same whether a field was never set or set to what it is: what is kept under them is found again."""
    found = conditions(kind)
    assert json.loads(json.dumps(found)) == found
    assert "none" not in found.values()
    with switched(list(SWITCHES["float32"]), on=False):
        assert conditions(kind).keys() == found.keys()
        assert kind != "cpu" or conditions(kind) == found


def test_what_was_found_under_other_switches_is_not_taken(monkeypatch):
    """A sum's order and a plan are asked for anew once a switch is another."""
    asked = []
    monkeypatch.setattr(sys.modules["linear_lasagna.rounding.accumulation"], "probe_of", lambda *_: asked.append("sum"))
    monkeypatch.setattr(
        planner, "plan_by_time", lambda *_: asked.append("plan") or planner.Measured(((0, 2),), 1, 1, 1)
    )
    problem = Problem("two", 1, 2, (5, 6), TWO.layers)  # of no other test

    def ask() -> list[str]:
        asked.clear()
        accumulation("direct", problem.expanded[0], problem.shapes[0], torch.float32)
        plan(problem, cost="measured")
        return sorted(set(asked))

    assert ask() == ["plan", "sum"]
    assert ask() == []
    before = kept()
    try:
        torch.set_float32_matmul_precision("medium")
        assert ask() == ["plan", "sum"]
    finally:
        restore(before)
    assert ask() == []


def test_a_fresh_process_times_under_the_switches_of_this_one(medium, monkeypatch):
    before, task, told = state(), {}, []

    def asked(command: list[str], input: str, **_: object) -> None:
        task.update(json.loads(input))
        raise OSError

    monkeypatch.setattr(fresh.subprocess, "run", asked)
    assert fresh.fresh_timing(Bench(TWO, "cpu", torch.float32, "direct"), {"stacked": ((0, 1), (1, 2))}, 1e-3) is None
    monkeypatch.setattr(fresh, "cut_timing", lambda *_: told.append(state()) or Timing({}, {}, {}, {}, 0.0, 0.0))
    with switched(SWITCHES["float32"], on=False):
        assert state() != before
        fresh.answer(task)
    assert told == [{name: "ieee" if value == "none" else value for name, value in before.items()}]
