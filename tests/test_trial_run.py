"""A preset's trials in processes: what the one that starts them must not do, and what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from analysis.measure import trial_run
from linear_lasagna.trial import files, processes
from linear_lasagna.trial.isolation import SLOWEST_RATE, rates

ROOT = Path(__file__).parent.parent
IN_TIME = """
import time
from dataclasses import replace
import torch
from linear_lasagna.catalog import GROUPS
from linear_lasagna.trial import files, processes
GROUPS["sources"] = replace(GROUPS["sources"], ways=("direct", "control"))
keys = [files.Key("sources", "sources/unfold", "float32", "cpu")]
for key in processes.run(keys, processes.Limits(most=1, until=time.monotonic() + 60, fork=True)):
    print({name: (cell.status, cell.reason) for name, cell in files.read(key).cells.items()})
"""


def test_where_time_is_limited_forks_compute_all_the_same(tmp_path: Path) -> None:
    """A process that has computed with several threads must not fork: its children would wait for them for ever."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LASAGNA_ROOT": str(tmp_path), "LASAGNA_BUDGET_S": "0.02"}
    environment |= {"OMP_NUM_THREADS": "2"}
    environment.pop("ASV_CONF_DIR", None)
    line = [sys.executable, "-c", IN_TIME]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["{'direct': ('ok', ''), 'control': ('ok', '')}"]


def test_rates_are_found_in_another_process_and_one_that_cannot_be_is_slow() -> None:
    found = rates({("float32", "cpu"), ("float64", "nowhere")})
    assert found["float32", "cpu"] not in (0.0, SLOWEST_RATE)
    assert found["float64", "nowhere"] == SLOWEST_RATE


def test_processes_are_supposed_to_start_as_long_as_this_one_did(monkeypatch):
    found = []
    monkeypatch.setattr(processes, "run", lambda keys, limits: found.append(limits) or iter(()))
    monkeypatch.setattr(files, "prepare", lambda: None)
    clock = iter((100.0, 107.0))
    monkeypatch.setattr(trial_run, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(sys, "argv", ["trial_run", json.dumps({"keys": [], "budget_s": 0.3, "limit_s": 60.0})])
    assert trial_run.main() == 0
    assert (found[0].starting_s, found[0].until) == (7.0, 160.0)
