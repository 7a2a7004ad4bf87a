"""The precision study: rows are right, and the same however often it is killed and whoever computes them."""

import ast
import contextlib
import importlib
import itertools
import math
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from pathlib import Path

import pandas
import psutil
import pytest
import torch

from analysis import precision
from analysis.precision import study
from analysis.precision.case import Case, draw
from analysis.precision.compute import Stamp, Task, compute
from analysis.precision.conditions import pinned
from analysis.precision.dispatch import dispatch
from analysis.precision.experiment import SHARED, Experiment
from analysis.precision.unit import DTYPES, Grid, Unit, plain
from analysis.store import Store, StoreError, read
from linear_lasagna import Kernel
from linear_lasagna.devices import DTYPES as KNOWN_DTYPES
from linear_lasagna.problems import Layer, Problem

ROOT = Path(__file__).parent.parent
FOLDER = "LASAGNA_TEST_FOLDER"  # where the fakes leave marks; workers inherit it
RUN = "import sys; from analysis.precision import run_study; run_study(['depth'], 'smoke', sys.argv[1], workers={})"
GUARDED = "if __name__ == '__main__':\n    "

TINY = Problem("tiny", 1, 1, (2, 2), (Layer(1, 1),))
SMALL = plain(3, channels=4, output=3)


def same_rows(first, second):
    """Equal in every column but the one that measures time."""
    pandas.testing.assert_frame_equal(first.drop(columns="elapsed_s"), second.drop(columns="elapsed_s"))


def fake(name, rows, seeds=6):
    """An experiment with one unit per seed."""
    grid = (Grid((TINY,), seeds, dtypes=("float32",), signs=("random",)),)
    return Experiment(name, "none", ("direct", "other"), dict.fromkeys(precision.PRESETS, grid), rows)


def mark(what):
    """Count, in a file, how often something was done, in whatever process."""
    with (Path(os.environ[FOLDER]) / what).open("a") as file:
        file.write("x")


def marks(folder, what):
    path = folder / what
    return len(path.read_text()) if path.exists() else 0


def good_row(unit):
    return {"way": "direct", "status": "ok", "reason": "", "relative_l2": unit.seed / 7, "error_u": 0.0, "outputs": 4}


def steady_rows(unit):
    mark(f"seed{unit.seed}")
    return [good_row(unit)]


def raising_rows(unit):
    if unit.seed == 2:
        raise MemoryError("no room for it\nsecond line")
    return [good_row(unit)]


def deadly_rows(unit):
    """The worker dies of seed 2."""
    mark(f"seed{unit.seed}")
    if unit.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return [good_row(unit)]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path / "precision.sqlite"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The rows of the depth experiment's smoke preset, computed in this process."""
    path = tmp_path_factory.mktemp("undisturbed") / "precision.sqlite"
    precision.run_study(["depth"], "smoke", path)
    return read(path)


def register(monkeypatch, experiment):
    monkeypatch.setitem(precision.EXPERIMENTS, experiment.name, experiment)


def one_unit(name, unit):
    """The rows of one unit of a registered experiment, as they would be stored."""
    experiment = precision.EXPERIMENTS[name]
    return compute(Task(experiment, unit, Stamp.of(experiment, "here")))


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_relative_l2_is_what_fractions_give(dtype):
    unit = Unit(Problem("hand-made", 1, 2, (3, 2), (Layer(2, 2),)), dtype, "random", seed=5)
    case = Case.of(unit)
    (row,) = case.rows(["direct"])
    x, weight = case.x[0], case.kernels[0].weight
    exact = [
        sum(
            Fraction(weight[o, c, i, j].item()) * Fraction(x[c, p + i, j].item())
            for c, i, j in itertools.product(range(2), repeat=3)
        )
        for o, p in itertools.product(range(2), repeat=2)
    ]
    y = [Fraction(value) for value in case.compute("direct").flatten().tolist()]
    squares = [sum((a - b) ** 2 for a, b in zip(y, exact, strict=True)), sum(b**2 for b in exact)]
    expected = math.sqrt(squares[0] / squares[1])
    assert row["relative_l2"] == pytest.approx(expected, rel=1e-12)
    assert row["error_u"] == pytest.approx(expected / (torch.finfo(KNOWN_DTYPES[dtype]).eps / 2), rel=1e-12)
    assert (row["outputs"], row["status"]) == (4, "ok")


def test_a_single_layer_has_no_merged_rows(undisturbed):
    ways = undisturbed.groupby("depth")["way"].unique().map(sorted)
    assert ways[1] == ["direct"]
    assert ways[2] == sorted(precision.EXPERIMENTS["depth"].ways)


def test_rows_carry_what_the_report_needs(undisturbed):
    columns = "experiment machine device dtype signs depth seed way status reason relative_l2 error_u fan_in outputs"
    assert set(f"{columns} threads code version torch elapsed_s".split()) <= set(undisturbed.columns)
    assert not undisturbed.duplicated(["dtype", "signs", "depth", "seed", "way"]).any()
    assert (undisturbed["status"] == "ok").all()
    assert (undisturbed["relative_l2"] > 0).all()
    assert set(undisturbed["threads"]) == {1}
    assert set(undisturbed["outputs"]) == {16 * 8 * 8}
    assert set(undisturbed["fan_in"]) == {144}


def test_overflow_is_a_row():
    rows = one_unit("depth", Unit(SMALL, "float16", "positive", seed=0, gain=2.0**6))
    assert [row["status"] for row in rows] == ["overflow"] * 3
    assert all(row["reason"] == "36 of 36 outputs are not finite" for row in rows)
    assert all(row["relative_l2"] is row["error_u"] is None for row in rows)
    assert all(row["outputs"] == 36 for row in rows)


def test_a_way_that_raises_is_a_row():
    case = Case.of(Unit(TINY, "float32", "random", seed=0))
    row = case.row("direct", lambda: torch.ones(2) @ torch.ones(3))
    assert row["status"] == "failed"
    assert row["reason"].startswith("RuntimeError: ")
    assert "\n" not in row["reason"]


def test_gain_scales_the_weights_before_they_are_rounded():
    plain_unit, scaled = (Unit(SMALL, "float16", "random", 3, gain=gain) for gain in (1.0, 3.0))
    (x, before), (same_x, after) = draw(plain_unit), draw(scaled)
    assert torch.equal(x, same_x)
    exactly = SMALL.draw(torch.float64, seed=3)[1]
    for kernel, scaled_kernel, wide in zip(before, after, exactly, strict=True):
        assert torch.equal(kernel.weight, wide.weight.half())
        assert torch.equal(scaled_kernel.weight, (wide.weight * 3).half())


def test_draws_are_the_problem_s_own():
    x, kernels = SMALL.draw(torch.bfloat16, seed=4, signs="positive")
    own_x, own_kernels = draw(Unit(SMALL, "bfloat16", "positive", seed=4))
    assert torch.equal(x, own_x)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(kernels, own_kernels, strict=True))
    assert all(isinstance(kernel, Kernel) for kernel in own_kernels)


# --- units ------------------------------------------------------------------------------------------------------------


def test_unit_keys_differ_where_units_do():
    units = [
        Unit(problem, dtype, signs, seed, device, gain)
        for problem, dtype, signs, seed, device, gain in itertools.product(
            (TINY, SMALL, plain(3, channels=4, output=4)),
            DTYPES,
            ("random", "positive"),
            range(2),
            ("cpu", "cuda"),
            (1.0, 2.0),
        )
    ]
    assert len({unit.key for unit in units}) == len(units)
    assert Unit(TINY, "float32", "random", 0).key == Unit(TINY, "float32", "random", 0).key


def test_dtypes_are_those_of_the_suite():
    assert list(DTYPES) == list(KNOWN_DTYPES)


@pytest.mark.parametrize("name", precision.EXPERIMENTS)
def test_experiments_are_well_formed(name):
    experiment = precision.EXPERIMENTS[name]
    assert experiment.name == name
    assert experiment.question.endswith("?")
    assert set(experiment.presets) == set(precision.PRESETS)
    sizes = [len(experiment.units(preset, "cpu")) for preset in precision.PRESETS]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    for preset in ("default", "full"):
        assert len({unit.seed for unit in experiment.units(preset, "cpu")}) >= 10


def test_the_default_study_has_a_thousand_cells():
    units = (unit for each in precision.EXPERIMENTS.values() for unit in each.units("default", "cpu"))
    assert sum(1 for _ in units) >= 400
    assert len(precision.EXPERIMENTS["depth"].units("default", "cpu")) == 400


@pytest.mark.parametrize("name", precision.EXPERIMENTS)
def test_the_version_covers_every_module_that_an_experiment_computes_with(name):
    own = importlib.import_module(precision.EXPERIMENTS[name].rows.__module__)
    seen, pending = set(), {Path(str(own.__file__)).name}
    while pending:
        file = pending.pop()
        seen.add(file)
        tree = ast.parse((ROOT / "analysis" / "precision" / file).read_text())
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        used = {f"{m.rpartition('.')[2]}.py" for m in modules if m.startswith("analysis.precision.")}
        pending |= used - seen
    assert seen - {Path(str(own.__file__)).name} <= {*SHARED, "experiment.py"}


def test_the_version_changes_with_the_experiment_and_with_torch(monkeypatch):
    versions = {experiment.version() for experiment in precision.EXPERIMENTS.values()}
    assert len(versions) == len(precision.EXPERIMENTS)
    before = precision.EXPERIMENTS["depth"].version()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    assert precision.EXPERIMENTS["depth"].version() != before


# --- conditions -------------------------------------------------------------------------------------------------------


def test_a_unit_has_one_thread_and_puts_the_number_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pinned() as threads:
            assert threads == torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError, match="left early"), pinned():
            raise RuntimeError("left early")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_rows_do_not_depend_on_the_threads_outside():
    unit = Unit(plain(4), "float32", "random", seed=1)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(pandas.DataFrame(one_unit("depth", unit)))
    torch.set_num_threads(before)
    same_rows(*found)


def test_importing_the_study_imports_neither_torch_nor_pandas():
    code = "import sys, analysis.precision, analysis.store; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- running ----------------------------------------------------------------------------------------------------------


def test_only_missing_units_run(path, monkeypatch):
    register(monkeypatch, fake("fake", steady_rows))
    first = precision.run_study(["fake"], "smoke", path)
    again = precision.run_study(["fake"], "smoke", path)
    other = precision.run_study(["fake"], "smoke", path, machine="another")
    assert (first.units, first.stored, first.statuses) == (6, 0, {"ok": 6})
    assert (again.units, again.stored, again.statuses) == (6, 6, {})
    assert other.stored == 0
    assert [marks(path.parent, f"seed{seed}") for seed in range(6)] == [2] * 6
    assert "6 of them stored before" in str(again)


def test_a_unit_that_raises_is_failed_rows_and_may_be_retried(path, monkeypatch):
    register(monkeypatch, fake("fake", raising_rows))
    assert precision.run_study(["fake"], "smoke", path).statuses == {"ok": 5, "failed": 2}
    failed = read(path).query("status == 'failed'")
    assert list(failed["reason"]) == ["MemoryError: no room for it"] * 2
    assert list(failed["way"]) == ["direct", "other"]
    assert precision.run_study(["fake"], "smoke", path).stored == 6
    assert precision.run_study(["fake"], "smoke", path, retry_failed=True).stored == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["nonsense"], "smoke"), r"unknown experiment 'nonsense'; known: depth"),
        ((["depth"], "huge"), r"unknown preset 'huge'; known: smoke, default, full"),
        ((["depth"], "smoke", "tpu"), r"unknown device 'tpu'; known: cpu, cuda, mps"),
        ((["depth"], "smoke", "cpu", -1), r"workers must be 0 or more, not -1"),
    ],
)
def test_unknown_names_are_told_in_one_line_before_anything_is_made(path, arguments, message):
    experiments, preset, device, workers = (*arguments, *("cpu", 0)[len(arguments) - 2 :])
    with pytest.raises(ValueError, match=message) as caught:
        precision.run_study(experiments, preset, path, device=device, workers=workers)
    assert "\n" not in str(caught.value)
    assert not path.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a CUDA device")
def test_a_device_that_is_not_there_is_told(path):
    with pytest.raises(ValueError, match="no CUDA device"):
        precision.run_study(["depth"], "smoke", path, device="cuda")


def test_a_store_of_another_schema_is_told_and_the_study_goes_on(path, monkeypatch, capsys):
    register(monkeypatch, fake("fake", steady_rows))
    precision.run_study(["fake"], "smoke", path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")
    capsys.readouterr()
    assert precision.run_study(["fake"], "smoke", path).stored == 0
    assert "kept as precision.schema9.sqlite" in capsys.readouterr().err


def test_a_store_that_cannot_be_written_ends_the_run_and_keeps_its_rows(path, monkeypatch):
    class Full(Store):
        def put(self, *arguments):
            if len(self.done("fake", arguments[2], arguments[3])) == 3:
                self.connection.execute("PRAGMA query_only = ON")
            super().put(*arguments)

    register(monkeypatch, fake("fake", steady_rows))
    monkeypatch.setattr(study, "Store", Full)
    with pytest.raises(StoreError, match="readonly database; what was stored before is intact"):
        precision.run_study(["fake"], "smoke", path)
    assert len(read(path)) == 3
    monkeypatch.undo()
    monkeypatch.setenv(FOLDER, str(path.parent))
    register(monkeypatch, fake("fake", steady_rows))
    assert precision.run_study(["fake"], "smoke", path).stored == 3


# --- workers and kills ------------------------------------------------------------------------------------------------


def test_two_workers_give_the_same_rows_as_none(path, undisturbed):
    summary = precision.run_study(["depth"], "smoke", path, workers=2)
    assert sum(summary.statuses.values()) == len(undisturbed)
    same_rows(read(path), undisturbed)


def test_a_unit_whose_worker_dies_is_tried_once_more_then_recorded(path, monkeypatch):
    register(monkeypatch, fake("fake", deadly_rows, seeds=4))
    summary = precision.run_study(["fake"], "smoke", path, workers=1)
    assert summary.statuses == {"ok": 3, "failed": 2}
    frame = read(path).set_index("seed")
    assert set(frame.loc[2, "reason"]) == {"its worker process died, also when it computed nothing else"}
    assert list(frame.loc[2, "way"]) == ["direct", "other"]
    assert sorted(frame.index) == [0, 1, 2, 2, 3]
    assert marks(path.parent, "seed2") == 2
    assert not multiprocessing.active_children()


class Mortal(ThreadPoolExecutor):
    """An executor that breaks when a task dies in it, as a pool of processes does: all that runs is lost."""

    def __init__(self, workers, dies):
        super().__init__(workers)
        self.dies, self.broken = dies, False

    def submit(self, fn, /, *args, **kwargs):
        if self.broken:
            raise BrokenProcessPool
        return super().submit(self.work, args[0])

    def work(self, task):
        time.sleep(0.001)
        self.broken |= self.dies(task)
        if self.broken:
            raise BrokenProcessPool
        return [{"status": "ok"}]


@pytest.mark.parametrize("always", [set(), {0}, {9}, {3, 4, 5}, set(range(10))])
@pytest.mark.parametrize("once", [set(), {1, 3, 9}])
def test_only_what_kills_its_worker_alone_is_recorded_as_failed(always, once):
    """Other tasks that were handed out with it get their rows; a worker that died of something else is forgiven."""
    experiment = fake("fake", steady_rows)
    stamp = Stamp.of(experiment, "here")
    tasks = [Task(experiment, Unit(TINY, "float32", "random", seed), stamp) for seed in range(10)]
    tried = Counter()

    def dies(task):
        tried[task.unit.seed] += 1
        return task.unit.seed in always or (task.unit.seed in once and tried[task.unit.seed] == 1)

    results = list(dispatch(tasks, 4, lambda workers: Mortal(workers, dies)))
    assert sorted(task.unit.seed for task, _ in results) == list(range(10))
    failed = {task.unit.seed for task, rows in results if rows[0]["status"] == "failed"}
    assert failed == always
    assert max(tried.values()) <= 2


def start(path, workers=0):
    """A smoke run of the depth experiment in a process of its own."""
    command = [sys.executable, "-c", GUARDED + RUN.format(workers), str(path)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def stored(path):
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM units").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)


def test_a_killed_run_resumes_and_gives_the_undisturbed_rows(path, undisturbed):
    rng, before = random.Random(), 0
    for _ in range(2):
        more = before + rng.randint(1, 20)
        run = start(path)
        wait_for(lambda run=run, more=more: stored(path) >= more or run.poll() is not None)
        time.sleep(rng.random() * 0.02)
        run.send_signal(signal.SIGKILL)
        run.wait()
        kept = stored(path)
        assert kept >= more
        before = kept
    assert start(path).wait() == 0
    same_rows(read(path), undisturbed)
    assert stored(path) == 48


def test_a_killed_run_takes_its_workers_along(path):
    run = start(path, workers=2)
    wait_for(lambda: stored(path) >= 2 or run.poll() is not None)
    workers = psutil.Process(run.pid).children(recursive=True)
    assert len(workers) >= 2
    run.send_signal(signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
