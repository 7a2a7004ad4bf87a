"""Units computed by a Dask scheduler's workers: the same rows, whatever becomes of one; what cannot be is told."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import distributed
import pytest
from test_precision import SMALL, TINY, same_rows

from analysis import precision
from analysis.__main__ import main
from analysis.data.store import read
from analysis.precision import cluster, depth
from analysis.precision.cluster import Cluster, Facts, called, facts, open_cluster, suite
from analysis.precision.compute import Stamp, Task
from analysis.precision.dispatch import dispatch
from analysis.precision.experiment import Experiment
from analysis.precision.unit import Grid, Unit

FOLDER = "LASAGNA_CLUSTER_FOLDER"  # where workers, which inherit it, leave marks
LOCAL = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}


def mortal_rows(unit):
    """Those of the depth experiment; the first unit of seed 1 kills its worker instead."""
    killed = Path(os.environ[FOLDER]) / "killed"
    if unit.seed == 1 and not killed.exists():
        killed.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return depth.DEPTH.rows(unit)


GRID = (Grid((SMALL,), 3, dtypes=("float32", "bfloat16"), signs=("random",)),)
MORTAL = Experiment("mortal", "none", ("direct",), dict.fromkeys(precision.PRESETS, GRID), mortal_rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cluster")
        patch.setenv(FOLDER, str(path))
        yield path


@pytest.fixture(scope="module")
def address(folder):
    """Of a scheduler with two workers, processes of their own."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),  # so that the study is told of each
        distributed.LocalCluster(n_workers=2, **LOCAL) as local,
    ):
        yield local.scheduler_address


@pytest.fixture(scope="module")
def deserted():
    """The address of a scheduler without workers."""
    with distributed.LocalCluster(n_workers=0, **LOCAL) as local:
        yield local.scheduler_address


def test_a_worker_that_is_killed_leaves_the_same_rows(address, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(precision.EXPERIMENTS, "mortal", MORTAL)
    summary = precision.run_study(["mortal"], "smoke", tmp_path / "there.sqlite", scheduler=address, machine="any")
    assert set(summary.statuses) == {"ok"}
    precision.run_study(["mortal"], "smoke", tmp_path / "here.sqlite", machine="any")
    there, here = read(tmp_path / "there.sqlite"), read(tmp_path / "here.sqlite")
    same_rows(there, here)
    hosts, processes = zip(*(name.split("/") for name in there["worker"]), strict=True)
    assert set(hosts) == {socket.gethostname()}
    assert str(os.getpid()) not in processes
    assert int((folder / "killed").read_text()) != os.getpid()
    assert set(there["threads"]) == {1}


def test_a_worker_that_joined_with_another_version_ends_the_study(address):
    """Its rows are not recorded as failed: they are the fault of no unit."""
    task = Task(MORTAL, Unit(TINY, "float32", "random", 0), Stamp.of(MORTAL, "any"))

    def opened(_):
        found = open_cluster(address)
        found.facts = found.facts._replace(suite="another")
        return found

    with pytest.raises(RuntimeError, match=rf"^the worker {socket.gethostname()}/\d+ is another machine"):
        list(dispatch([task], 1, opened))


FACTS = Facts("cpu", "", *suite(), "here #1", None, ("float32",))
MISSING = ModuleNotFoundError("No module named 'analysis'")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "the scheduler at tcp://a:1 has no workers; `dask worker tcp://a:1` starts one"),
        (
            {"tcp://b:2": MISSING},
            "the worker tcp://b:2 cannot compute: ModuleNotFoundError: No module named 'analysis'",
        ),
        ({"b": FACTS, "c": FACTS._replace(suite="0123")}, "the worker c has version 0123 of the suite and torch"),
        ({"b": FACTS, "c": FACTS._replace(torch="1.0")}, f"and torch 1.0, here are {' and '.join(suite())}"),
        ({"b": FACTS._replace(unavailable="no CUDA device")}, "device 'cpu': no CUDA device on the worker b"),
        ({"b": FACTS, "c": FACTS._replace(machine="x #2")}, "of 2 kinds: b is here #1, c is x #2"),
    ],
)
def test_workers_that_cannot_compute_or_differ_are_told_in_one_line(found, said):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        cluster._alike(found, "tcp://a:1")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert cluster._alike({"b": FACTS, "c": FACTS}, "tcp://a:1") == FACTS


def silent_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def ended(address, tmp_path, monkeypatch, capsys):
    """The exit code and the one line of `python -m analysis precision` with the scheduler; it made nothing."""
    monkeypatch.setattr(sys, "argv", ["analysis", "precision", "depth", "--scheduler", address, "--out", str(tmp_path)])
    code, (line,) = main(), capsys.readouterr().err.splitlines()
    assert not list(tmp_path.iterdir())
    return code, line


def test_an_address_that_nobody_answers_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    address = silent_address()
    code, line = ended(address, tmp_path, monkeypatch, capsys)
    assert (code, line.partition(": OSError")[0]) == (1, f"error: no scheduler answers at {address}")


def test_a_missing_package_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, line = ended("tcp://a:1", tmp_path, monkeypatch, capsys)
    assert code == 1
    assert "distributed is not installed, which --scheduler needs; pip install -e '.[cluster]'" in line


def test_a_scheduler_without_workers_is_one_line(deserted, tmp_path, monkeypatch, capsys):
    code, line = ended(deserted, tmp_path, monkeypatch, capsys)
    assert (code, line.partition(";")[0]) == (1, f"error: the scheduler at {deserted} has no workers")


def test_a_study_whose_workers_have_all_gone_ends(deserted, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE_S", 0.2)
    task = Task(MORTAL, Unit(TINY, "float32", "random", 0), Stamp.of(MORTAL, "any"))
    first = [Cluster(cluster._connected(deserted), FACTS, 1)]
    with pytest.raises(RuntimeError, match="has no workers"):
        list(dispatch([task], 1, lambda _: first.pop() if first else open_cluster(deserted)))


def test_a_worker_of_several_threads_computes_one_unit_at_a_time():
    """Switches and numbers of threads are the process's, so a unit beside another would change its conditions."""
    inside, most = [], []

    def unit():
        inside.append(threading.get_ident())
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()

    expected = facts("cpu", "")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: called(expected, unit, ()), range(12)))
    assert set(most) == {1}
