"""The gate: every wrong way fails with a fitting reason, and no other way is blamed for it."""

import dataclasses
import functools
import gc
import os
import re
import signal
import threading
import time

import pytest
import torch
from children import START
from wrong_ways import TRANSFORMS, UNUSUAL, WRONG

from linear_lasagna import METHODS, Layer, Problem
from linear_lasagna.methods import Method
from linear_lasagna.trial import isolation, run, run_isolated

PROBLEM = Problem("gate", 2, 8, (12, 12), (Layer(8, 3, padding=1, bias=True),))
INNOCENT = ["direct", "unfold_matmul"]
BUDGET_S = 0.004


def trial_with(prepare, monkeypatch, dtype="float32", problem=PROBLEM, **marks):
    """A trial of the way, under the name shifted_matmul, before ways that are right."""
    monkeypatch.setitem(METHODS, "shifted_matmul", Method("shifted_matmul", prepare, **marks))
    return run(problem, ["shifted_matmul", *INNOCENT], dtype=dtype, budget_s=BUDGET_S)


def assert_innocent(trial):
    for name in INNOCENT:
        cell = trial.cells[name]
        assert cell.status == "ok", f"{name}: {cell.reason}"
        assert cell.samples
        assert cell.measures
        assert cell.finding == ""


@functools.cache
def trial_of_wrong(batch, dtype):
    """Twelve wrong ways in one trial, before ways that are right: what spoils others has many to spoil."""
    names = list(WRONG)[12 * batch : 12 * (batch + 1)]
    gc.freeze()  # the trial collects garbage, and a test process holds much that is none
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(METHODS, name, Method(name, WRONG[name].prepare))
        return run(PROBLEM, [*names, *INNOCENT], dtype=dtype, budget_s=BUDGET_S)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_way_fails_alone(wrong, dtype):
    trial = trial_of_wrong(list(WRONG).index(wrong) // 12, dtype)
    cell = trial.cells[wrong]
    assert cell.status == "failed", "it passed"
    assert re.search(WRONG[wrong].reason, cell.reason), cell.reason
    assert "\n" not in cell.reason
    assert (cell.samples, cell.measures, cell.peak_bytes) == ([], {}, None)
    assert_innocent(trial)


def test_the_kit_is_large():
    assert len(WRONG) >= 40


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("unusual", UNUSUAL)
def test_an_unusual_way_passes(unusual, dtype, monkeypatch):
    trial = trial_with(UNUSUAL[unusual], monkeypatch, dtype)
    assert trial.named("ok") == list(trial.cells), trial.cells["shifted_matmul"].reason
    assert trial.cells["shifted_matmul"].finding == ""
    assert_innocent(trial)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_transform_is_a_finding_and_timed(transform, monkeypatch):
    if transform == "winograd" and not torch.backends.nnpack.is_available():
        pytest.skip("torch has no NNPACK here")
    trial = trial_with(TRANSFORMS[transform], monkeypatch)
    cell = trial.cells["shifted_matmul"]
    assert (cell.status, cell.reason) == ("ok", "")
    assert cell.samples
    assert re.match(r"inexact on integers as a transform \(Winograd, FFT\) is: \d+ of 2304 outputs, by ", cell.finding)
    assert_innocent(trial)


def test_a_transform_that_is_marked_as_such_is_no_finding(monkeypatch):
    trial = trial_with(TRANSFORMS["fourier"], monkeypatch, exact_on_integers=False)
    assert trial.cells["shifted_matmul"].status == "ok"
    assert_innocent(trial)


# While timed, in a child process


@dataclasses.dataclass(frozen=True)
class Sabotaged(Problem):
    """A problem that breaks three methods in the process in which it is unpickled."""

    def __reduce__(self):
        return sabotage, tuple(getattr(self, field.name) for field in dataclasses.fields(Problem))


def sabotage(*fields):
    def later(action):
        def prepare(kernel, layer):
            call, calls = METHODS["direct"].prepare(kernel, layer), []

            def act(x):
                calls.append(0)
                if len(calls) == 3:
                    action()
                return call(x)

            return act

        return prepare

    actions = {
        "unfold_matmul": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "strided_matmul": lambda: time.sleep(600),
        "shifted_matmul": lambda: threading.Thread(target=time.sleep, args=(600,)).start(),
    }
    for name, action in actions.items():
        METHODS[name] = Method(name, later(action))
    return Problem(*fields)


def test_what_dies_or_hangs_while_timed_fails_alone(monkeypatch):
    """And a thread that goes on does not keep the trial, whether or not its way fails."""
    monkeypatch.setattr(isolation, "JOIN_S", 0.5)
    problem = Sabotaged(*(getattr(PROBLEM, field.name) for field in dataclasses.fields(Problem)))
    ways = ["direct", "control", "unfold_matmul", "strided_matmul", "shifted_matmul"]
    trial = run_isolated(problem, ways, budget_s=BUDGET_S, timeout_s=4.0, start_method=START)
    reasons = {name: trial.cells[name].reason for name in trial.named("failed")}
    assert list(reasons) == ["unfold_matmul", "strided_matmul"]
    assert reasons["unfold_matmul"] == "the child process was killed by SIGSEGV while timing unfold_matmul"
    assert reasons["strided_matmul"] == "stopped after 4 s while timing strided_matmul"
    assert all(trial.cells[name].samples for name in ("direct", "control", "shifted_matmul"))
    assert trial.elapsed_s < 300
