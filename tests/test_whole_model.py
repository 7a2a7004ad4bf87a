"""merge_model(..., measure=True) against the clock as a whole: in fresh processes, or why not."""

import math
import os
import subprocess
import time
from dataclasses import replace

import pytest
import torch
from blocks import SESR, drawn, trained
from torch import nn

from linear_lasagna.models import fresh, whole
from linear_lasagna.models.measuring import timed
from linear_lasagna.models.table import whole_lines
from linear_lasagna.timing import Timing


def of_seconds(before, after, noise=1.0):
    samples = {"before": before, "control": before * noise, "after": after}
    return Timing({name: [[value] * 3] * 12 for name, value in samples.items()}, {}, {}, {}, 0.0, 0.0)


@pytest.fixture
def timings(monkeypatch):
    """Stand-ins for what this process times, and what others do."""

    def put(here, others):
        monkeypatch.setattr(whole, "timed", lambda *_: here)
        monkeypatch.setattr(fresh, "fresh_timings", lambda *_: others)
        return whole.whole(nn.ReLU(), nn.ReLU(), (torch.ones(1),), (torch.ones(1),), [])

    return put


def test_six_processes_give_an_interval_between_them(timings):
    others = [of_seconds(1e-3, ratio * 1e-3) for ratio in (0.5, 0.52, 0.54, 0.55, 0.56, 0.6)]
    found = timings(of_seconds(2e-3, 2e-3), others)
    assert found.comparison.processes == 6
    assert (found.comparison.lower, found.comparison.upper) == (pytest.approx(0.5), pytest.approx(0.6))
    assert found.comparison.verdict == "faster"
    assert found.seconds_before == 1e-3
    assert whole_lines(found)[0] == (
        "whole model: faster merged, 1 ms -> 0.545 ms (×0.545 [0.5, 0.6], faster), between 6 processes"
    )


def test_a_slower_model_is_called_so(timings):
    found = timings(of_seconds(1e-3, 1.2e-3), [of_seconds(1e-3, 1.2e-3)] * 6)
    assert whole_lines(found)[0].startswith("whole model: SLOWER merged, 1 ms -> 1.2 ms (×1.2 [1.2, 1.2], slower)")


@pytest.mark.parametrize("others", ["the model cannot be pickled: no", [of_seconds(1e-3, 1e-3)] * 5], ids=["none", "5"])
def test_without_six_processes_it_is_of_one(timings, others):
    found = timings(of_seconds(1e-3, 5e-4), others)
    assert found.comparison.processes == 1
    assert found.alone
    assert "within one process" in " ".join(whole_lines(found))


def test_processes_that_would_take_too_long_are_not_asked(timings):
    found = timings(of_seconds(1.0, 1.0), None)
    assert found.alone == "6 others would take over 25 s"


def test_the_runs_share_adds_up(timings):
    found = timings(of_seconds(4e-3, 2e-3), [of_seconds(4e-3, 2e-3)] * 6)
    found = replace(found, runs_before=3e-3, runs_after=1e-3, share_before=0.75, share_after=0.5)
    assert whole_lines(found)[1] == (
        "its runs take 3 ms -> 1 ms: 75% of the given model's time, 50% of the merged one's"
    )


def test_fresh_processes_time_both_models():
    """Real ones: each has another process number, and none of them is this one."""
    model = trained(SESR(4, 16), dtype=torch.float32)
    x = (drawn(1, 4, 8, 8, dtype=torch.float32),)
    found = fresh.fresh_timings(model, nn.Identity(), x, x, 1e-3, 2)
    assert len(found) == 2
    for timing in found:
        assert set(timing.samples) == {"before", "control", "after"}
        assert timing.seconds("after") < timing.seconds("before")


class Counting(nn.Module):
    """Refuses to compute where another has computed before it in its process."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.made = os.getpid()

    def forward(self, x):
        assert os.getpid() != self.made, "not a process of its own"
        print("a model may print")
        return x


def test_fresh_processes_are_not_this_one():
    x = (torch.ones(1),)
    assert isinstance(fresh.fresh_timings(Counting(), nn.Identity(), x, x, 1e-3, 1), list)
    with pytest.raises(AssertionError, match="not a process of its own"):
        timed(Counting(), nn.Identity(), x, x, 1e-3)


class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError("only here\nit fails")


def test_why_there_are_no_fresh_processes():
    x = (torch.ones(1),)
    local = type("Local", (nn.ReLU,), {"__module__": "__main__"})()
    assert fresh.fresh_timings(local, local, x, x, 1e-3, 1) == (
        "no other process can import Local, which is defined in the script itself"
    )
    unnamed = nn.ReLU()
    unnamed.extra = lambda: None
    assert fresh.fresh_timings(unnamed, unnamed, x, x, 1e-3, 1).startswith("the model cannot be pickled: ")
    reason = fresh.fresh_timings(Failing(), nn.ReLU(), x, x, 1e-3, 1)
    assert reason == "other processes gave no times: RuntimeError: only here"


class Hanging(nn.Module):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def forward(self, x):
        self.path.write_text(str(os.getpid()))
        time.sleep(60)


def test_a_process_that_hangs_is_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(fresh, "TIMEOUT_S", 1.0)
    x = (torch.ones(1),)
    reason = fresh.fresh_timings(Hanging(tmp_path / "pid"), nn.ReLU(), x, x, 1e-3, 1)
    assert reason == "other processes gave no times: they timed out"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_process_that_takes_too_long(monkeypatch):
    def late(*_, **__):
        raise subprocess.TimeoutExpired("python", 60)

    monkeypatch.setattr(subprocess, "run", late)
    x = (torch.ones(1),)
    assert "timed out" in fresh.fresh_timings(nn.ReLU(), nn.ReLU(), x, x, 1e-3, 1)


def test_too_few_blocks_for_an_interval(timings):
    """Its verdict is undecided, and the interval is not shown."""
    here = Timing({name: [[1e-3]] for name in ("before", "control", "after")}, {}, {}, {}, 0.0, 0.0)
    found = timings(here, "there are none")
    assert math.isnan(found.comparison.lower)
    assert "(×1, undecided), within one process: there are none" in " ".join(" ".join(whole_lines(found)).split())
