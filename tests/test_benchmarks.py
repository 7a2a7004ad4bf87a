"""asv's side: the replay hands asv a trial's samples bit for bit, and finished trials are never run again."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from asv_runner.benchmarks.mark import SkipNotImplemented
from asv_runner.benchmarks.time import TimeBenchmark
from asv_runner.discovery import disc_benchmarks

import benchmarks._replay as replay_module
import benchmarks._rounds as rounds_module
import benchmarks.models as models_module
import linear_lasagna.environment as environment_module
from analysis.data.machines import DIGEST
from benchmarks._replay import ReplayClock, share
from benchmarks._rounds import Round
from benchmarks.models import Models
from benchmarks.trials import Sources
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.models.designs import DESIGNS, Branches, Design
from linear_lasagna.models.ways import MODEL_WAYS
from linear_lasagna.trial import Cell, Trial, files
from linear_lasagna.trial.files import Key
from linear_lasagna.trial.record import Repeat

ROOT = Path(__file__).parent.parent
CELL = ("sources/merge", "float32", "cpu", "direct")
# 0.1 + 0.2 and its neighbours: sums of such numbers lose bits that the replay must keep.
SAMPLES = [[0.1 + 0.2, 1 / 3, 7e-7], [math.pi * 1e-5, 2**-40 + 2**-80, 1e-3]]


def made_trial(**cells: Cell) -> Trial:
    return Trial(CATALOG["sources/merge"], "float32", "cpu", 1.0, 0, cells, {})


def handed(monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    monkeypatch.setattr(replay_module, "fetch", lambda *arguments: (trial, Round.ALL))
    monkeypatch.setattr(replay_module, "complete", lambda *arguments: trial)


def test_the_clock_returns_zero_and_then_the_sample() -> None:
    clock = ReplayClock()
    clock.load([3.0, 4.0])
    assert [clock() for _ in range(6)] == [0.0, 3.0, 0.0, 4.0, 0.0, 3.0]


def test_canary_asv_runner_hands_the_samples_on_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a new asv_runner times, warms up or batches in a way that breaks the replay."""
    handed(monkeypatch, made_trial(direct=Cell(samples=SAMPLES, measures={"error_u": 1.0})))
    suite = Sources()
    benchmark = TimeBenchmark("trials.Sources.time_forward", suite.time_forward, [suite])
    benchmark._current_params = CELL
    assert not benchmark.do_setup()
    result = benchmark.run(*CELL)
    assert result == {"samples": [sample for block in SAMPLES for sample in block], "number": 1}


def test_a_skipped_cell_is_skipped_and_a_failed_one_fails_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {"direct": Cell("skipped", "cannot do it"), "control": Cell("failed", "is wrong")}
    handed(monkeypatch, made_trial(**cells))
    with pytest.raises(SkipNotImplemented, match="cannot do it"):
        Sources().setup(*CELL)
    with pytest.raises(RuntimeError, match="is wrong"):
        Sources().setup(*CELL[:3], "control")


def test_ratio_and_error_are_finite_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    block = [1e-3, 1.1e-3, 0.9e-3]
    twice = [[2 * s for s in block]] * 12
    cells = {
        "direct": Cell(samples=[block] * 12, measures={"error_u": 1.5}),
        "unfold_matmul": Cell(samples=twice, measures={"error_u": 2.5}),
    }
    handed(monkeypatch, made_trial(**cells))
    suite = Sources()
    suite.setup(*CELL[:3], "unfold_matmul")
    assert suite.track_ratio(*CELL[:3], "unfold_matmul") == pytest.approx(2.0, rel=1e-12)
    assert suite.track_error(*CELL[:3], "unfold_matmul") == 2.5


def discovered() -> list:
    return list(disc_benchmarks(str(ROOT / "benchmarks")))


def test_every_group_is_discovered_once_and_none_shares_a_setup_cache() -> None:
    """asv keys a setup_cache by file and line, so that heirs of one class would share it: none does here."""
    names = [benchmark.name for benchmark in discovered()]
    assert len(names) == len(set(names))
    assert {f"trials.{group.capitalize()}.time_forward" for group in GROUPS} <= set(names)
    users = {(b.setup_cache_key, b.name.rpartition(".")[0]) for b in discovered() if b.setup_cache_key is not None}
    assert len(users) == len({key for key, _ in users})


def test_the_readme_names_every_group() -> None:
    line, *_ = [line for line in (ROOT / "README.md").read_text().splitlines() if "--bench trials." in line]
    assert all(group.capitalize() in line for group in [*GROUPS, "own"])


def test_parameters_are_static_strings() -> None:
    groups = [b for b in discovered() if b.name.startswith("trials.") and b.name.endswith("time_forward")]
    for benchmark in groups:
        assert benchmark.param_names == ["problem", "dtype", "device", "way", "conditions"]
        assert benchmark.params[1] == ["'float16'", "'bfloat16'", "'float32'", "'float64'"]
        group = benchmark.name.split(".")[1]
        cpu = [] if group in ("Batches", "Throughput") else ["'cpu'"]
        others = [] if group in ("Runtimes", "Threads", "Onethread", "Twothreads") else ["'cuda'", "'mps'"]
        assert benchmark.params[2] == [*cpu, *others]
        assert "'control'" in benchmark.params[3]


def test_models_are_those_of_the_registries() -> None:
    """Written once more, because discovery must not import torch."""
    assert list(DESIGNS) == models_module.DESIGNS
    assert list(MODEL_WAYS) == models_module.WAYS


def test_a_model_s_cell_is_replayed_skipped_or_fails() -> None:
    numbers = {"status": "ok", "relative_l2": 1e-7, "peak_bytes": 8, "operations": 5, "convolutions": 2, "norms": 3}
    cache = {
        "m": {
            "given": numbers | {"samples": SAMPLES[0], "ratio": 1.0},
            "fused": numbers,
            "authors": {"status": "absent", "reason": "has none"},
            "frozen": {"status": "failed", "reason": "is broken"},
        }
    }
    suite = Models()
    benchmark = TimeBenchmark("models.Models.time_forward", suite.time_forward, [suite])
    benchmark.set_param_idx(0)
    benchmark._current_params = (cache, "m", "given")
    assert not benchmark.do_setup()
    assert benchmark.run(cache, "m", "given") == {"samples": SAMPLES[0], "number": 1}
    assert suite.track_convolutions_and_norms(cache, "m", "given") == 5
    assert (suite.track_ratio(cache, "m", "given"), suite.track_error(cache, "m", "given")) == (1.0, 1e-7)
    with pytest.raises(SkipNotImplemented, match="has none"):
        Models().setup(cache, "m", "authors")
    with pytest.raises(RuntimeError, match="is broken"):
        Models().setup(cache, "m", "frozen")
    with pytest.raises(SkipNotImplemented, match="what the given model does"):
        Models.time_forward.setup(cache, "m", "fused")


def test_a_model_s_cells_have_samples_and_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Design("two", lambda: iter([Branches(2, 2), torch.nn.ReLU()]), (1, 2, 8, 8))
    monkeypatch.setitem(DESIGNS, "small", small)
    found = models_module.cells("small", ["given", "merged", "authors"], 0.01)
    assert found["given"]["ratio"] == 1.0
    for way in ("given", "merged", "authors"):
        assert found[way]["status"] == "ok"
        assert min(found[way]["samples"]) > 0
    assert (found["given"]["convolutions"], found["merged"]["convolutions"]) == (2, 1)


def test_discovery_does_not_import_torch() -> None:
    code = (
        "import sys; from asv_runner.discovery import disc_benchmarks; "
        f"list(disc_benchmarks({str(ROOT / 'benchmarks')!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_neither_trials_nor_models_import_the_compiler() -> None:
    """It takes seconds, which each of asv's cells, and each process that merges a model, would spend."""
    modules = "linear_lasagna.trial.isolation, linear_lasagna.models"
    code = f"import sys; import {modules}; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def fetch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setenv("ASV_CONF_DIR", str(folder))
    monkeypatch.setenv("ASV_COMMIT", "0" * 40)
    monkeypatch.setenv("LASAGNA_BUDGET_S", "0.05")
    monkeypatch.setitem(GROUPS, "sources", replace(GROUPS["sources"], ways=("direct", "control")))
    return files.first(Key("sources", "sources/merge", "float32", "cpu"))


def test_a_finished_trial_is_reused_and_a_part_of_a_record_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    real = files._run
    monkeypatch.setattr(files, "_run", lambda *a: runs.append(a) or real(*a))
    first = fetch(tmp_path, monkeypatch)
    assert fetch(tmp_path, monkeypatch) == first
    assert len(runs) == 1
    [path] = tmp_path.rglob("*.json")
    path.rename(path.with_suffix(".part"))  # what a kill during the write leaves behind
    fetch(tmp_path, monkeypatch)
    assert len(runs) == 2


BROKEN = {
    "cut short": lambda text: text[:500],
    "empty": lambda text: "",
    "of a newer version": lambda text: text.replace('"schema": 4', '"schema": 99'),
    "no object": lambda text: "[1]",
    "deep": lambda text: "[" * 100_000,
    "an impossible time": lambda text: text.replace('"first_call_s": ', '"first_call_s": -'),
    "of another way": lambda text: text.replace('"control": {', '"other": {'),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_record_that_cannot_be_read_is_set_aside_and_computed_again(
    change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = made_trial(direct=Cell(samples=SAMPLES, first_call_s=1.0), control=Cell(samples=SAMPLES))
    monkeypatch.setattr(files, "_run", lambda *arguments: trial)
    fetch(tmp_path, monkeypatch)
    [path] = tmp_path.rglob("*.json")
    broken = change(path.read_text())
    path.write_text(broken)
    assert fetch(tmp_path, monkeypatch) == trial
    assert path.with_suffix(".bad").read_text() == broken
    assert Trial.from_json(json.dumps(json.loads(path.read_text())["trial"])) == trial
    assert f"{path.name} cannot be read and is computed again" in capsys.readouterr().err


def test_a_record_is_as_readable_as_any_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_run", lambda *arguments: made_trial(direct=Cell(), control=Cell()))
    fetch(tmp_path, monkeypatch)
    [path] = tmp_path.rglob("*.json")
    (other := tmp_path / "other").touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_failed_cells_are_tried_again_once_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    trial = made_trial(direct=Cell(samples=SAMPLES), control=Cell("failed", "was killed"))
    monkeypatch.setattr(files, "_run", lambda *arguments: runs.append(1) or trial)
    fetch(tmp_path, monkeypatch)
    [path] = tmp_path.rglob("*.json")
    os.utime(path, (1e9, 1e9))
    fetch(tmp_path, monkeypatch)
    assert len(runs) == 1
    monkeypatch.setenv("LASAGNA_RETRY_BEFORE", "1e9")
    fetch(tmp_path, monkeypatch)
    assert len(runs) == 1
    monkeypatch.setenv("LASAGNA_RETRY_BEFORE", "1000000001")
    fetch(tmp_path, monkeypatch)
    fetch(tmp_path, monkeypatch)
    assert len(runs) == 2
    trial.cells["control"] = Cell(samples=SAMPLES)
    path.unlink()
    fetch(tmp_path, monkeypatch)
    os.utime(path, (1e9, 1e9))
    fetch(tmp_path, monkeypatch)
    assert len(runs) == 3  # nothing failed in it


def test_a_group_s_share_of_the_budget_shapes_its_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASAGNA_BUDGET_S", "2")
    whole = files._digest(Key("sources", "sources/merge", "float32", "cpu"))
    monkeypatch.setitem(GROUPS, "sources", replace(GROUPS["sources"], share=0.15))
    assert files._digest(Key("sources", "sources/merge", "float32", "cpu")) != whole
    given = {}
    monkeypatch.setattr("linear_lasagna.trial.run_isolated", lambda *_, **settings: given.update(settings))
    files._run(Key("sources", "sources/merge", "float32", "cpu"), fork=False)
    assert given["budget_s"] == pytest.approx(0.3)
    assert given["blocks"] == files.BLOCKS


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf"])
def test_a_budget_that_is_no_positive_number_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASAGNA_BUDGET_S", text)
    with pytest.raises(ValueError, match="LASAGNA_BUDGET_S must be a positive number of seconds"):
        files.budget_s()


@pytest.fixture
def asv_home(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder with a configuration of its own, so that a test leaves no trace in the checkout's results."""
    configuration = json.loads((ROOT / "asv.conf.json").read_text())
    configuration |= {"repo": str(ROOT), "benchmark_dir": str(ROOT / "benchmarks")}
    (tmp_path / "asv.conf.json").write_text(json.dumps(configuration))
    environment = {**os.environ, "HOME": str(tmp_path), "LASAGNA_BUDGET_S": "0.1", "LASAGNA_MACHINE": "tested"}
    environment["ASV_CONF_DIR"] = str(tmp_path)  # asv itself sets it in its managed environments only
    asv = [sys.executable, "-m", "asv", "machine", "--yes", "--machine", "tested"]
    subprocess.run(asv, cwd=tmp_path, env=environment, check=True, capture_output=True)
    return tmp_path, environment


def asv_run(folder: Path, environment: dict[str, str], *settings: str) -> tuple[list[Trial], dict[str, list[float]]]:
    """What a bare `asv run` of one small trial leaves: its record, and asv's own samples by way."""
    command = [sys.executable, "-m", "asv", "run", "-E", f"existing:{sys.executable}", "--machine", "tested"]
    command += ["--set-commit-hash", "HEAD", "--record-samples", *settings]
    command += ["--bench", r"Sources\.time_forward\('sources/merge', 'float32', 'cpu', '(direct|merged/direct)'"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in (folder / ".asv/trials").glob("tested-*/*/*.json")]
    assert {DIGEST.sub("", record["machine"]) for record in records} == {"tested"}
    [saved] = (folder / ".asv/results/tested").glob("*-existing-*.json")
    result = json.loads(saved.read_text())
    row = result["results"]["trials.Sources.time_forward"]
    samples = [each for each in row[result["result_columns"].index("samples")] if each]
    return [Trial.from_dict(r["trial"]) for r in records], dict(zip(("direct", "merged/direct"), samples, strict=True))


def test_asv_saves_the_samples_of_all_processes_bit_for_bit(asv_home: tuple[Path, dict[str, str]]) -> None:
    folder, environment = asv_home
    [trial], samples = asv_run(folder, environment | {"LASAGNA_PROCESSES": "3"})
    assert [repeat.reason for repeat in trial.repeats] == ["", ""]
    assert samples == {way: handed_over(trial, way) for way in samples}
    [replayed], again = asv_run(folder, environment | {"LASAGNA_REPLAY": "1"}, "--attribute", "rounds=1")
    assert (replayed, again) == (trial, samples)  # nothing was timed again


def test_a_replay_times_nothing_that_has_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a study had no time for is not timed when it hands its samples to asv."""
    monkeypatch.setenv("LASAGNA_ROOT", str(tmp_path))
    monkeypatch.delenv("ASV_CONF_DIR", raising=False)
    monkeypatch.setenv("LASAGNA_REPLAY", "1")
    monkeypatch.setattr(files, "_run", lambda *arguments: pytest.fail("it was timed"))
    with pytest.raises(SkipNotImplemented, match="no record"):
        rounds_module.fetch(Key("sources", "sources/merge", "float32", "cpu"), "direct")


def handed_over(trial: Trial, way: str) -> list[float]:
    return [seconds for timing in trial.timings() for block in timing.samples.get(way, []) for seconds in block]


def repeated(*slow: str) -> Trial:
    """A trial of three processes; slow ways were timed in the first alone."""
    cells = {way: Cell(samples=SAMPLES, measures={"error_u": 1.0}) for way in ("direct", "control", "unfold_matmul")}
    for way in slow:
        cells[way].samples = [[7.0]]
    trial = made_trial(**cells)
    others = [{way: [[float(number)]] for way in cells if way not in slow} for number in (2, 3)]
    trial.repeats = [Repeat(samples=samples) for samples in others]
    return trial


def test_the_rounds_of_asv_share_the_processes() -> None:
    """The last sample of the first process comes with the others'."""
    trial, flat = repeated(), [sample for block in SAMPLES for sample in block]
    shares = {which: share(trial, "unfold_matmul", which) for which in Round}
    assert shares[Round.ALL] == [*flat, 2.0, 3.0] == shares[Round.FIRST] + shares[Round.SECOND]
    assert shares[Round.SECOND] == [flat[-1], 2.0, 3.0]


def test_samples_of_one_process_are_handed_over_once() -> None:
    """Of a run with one process, or whose other processes were all lost."""
    trial = repeated()
    trial.repeats = [Repeat(reason="was killed")]
    first, second = (share(trial, "direct", which) for which in (Round.FIRST, Round.SECOND))
    assert first
    assert second
    assert first + second == share(trial, "direct", Round.ALL) == handed_over(trial, "direct")


def test_a_way_that_was_timed_in_one_process_alone_is_handed_over_once() -> None:
    trial = repeated("unfold_matmul")
    with pytest.raises(SkipNotImplemented):
        share(trial, "unfold_matmul", Round.FIRST)
    assert share(trial, "unfold_matmul", Round.SECOND) == share(trial, "unfold_matmul", Round.ALL) == [7.0]


def test_a_second_time_that_one_run_of_asv_asks_for_a_cell_is_its_second_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of those times all that was asked for, in further processes."""
    monkeypatch.setattr(files, "_run", lambda *arguments: made_trial(direct=Cell(samples=SAMPLES), control=Cell()))
    fetch(tmp_path, monkeypatch)
    further = []
    monkeypatch.setattr(rounds_module.processes, "further", lambda keys, limits: further.append(keys) or [])
    key = Key("sources", "sources/merge", "float32", "cpu")
    other = key._replace(dtype="float64")
    rounds = [rounds_module.fetch(k, w)[1] for k, w in ((key, "direct"), (key, "control"), (other, "direct"))]
    assert rounds == [Round.FIRST] * 3
    assert not further
    assert rounds_module.fetch(key, "direct")[1] is Round.SECOND
    assert further == [[key, other]]


def test_what_has_all_its_processes_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unsettled trial would else have every further cell read all records of the run."""
    monkeypatch.setenv("LASAGNA_PROCESSES", "3")
    monkeypatch.setattr(files, "first", lambda *arguments: repeated())
    monkeypatch.setattr(rounds_module.processes, "further", lambda *arguments: pytest.fail("looked again"))
    assert rounds_module.complete(Key("sources", "sources/merge", "float32", "cpu")) == repeated()


def test_a_quick_run_times_one_process(asv_home: tuple[Path, dict[str, str]]) -> None:
    [trial], _ = asv_run(*asv_home, "--quick")
    assert trial.repeats == []


@pytest.mark.parametrize("text", ["few", "0", "-1", "2.5"])
def test_a_number_of_processes_that_is_none_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASAGNA_PROCESSES", text)
    with pytest.raises(ValueError, match="LASAGNA_PROCESSES must be a whole number from 1"):
        rounds_module.most_processes()


def test_another_machine_s_record_is_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder may be shared by machines of one host name: none may take the other's record for its own."""
    trial = Key("sources", "sources/merge", "float32", "cpu")
    key, folder = files._digest(trial), files.folder()
    found = environment_module.fingerprint()
    for change in ({"threads": 99}, {"instruction_sets": {"aten": "DEFAULT"}}, {"cpu_model": "another"}):
        monkeypatch.setattr(environment_module, "fingerprint", lambda *_, changed=found | change: changed)
        files._shape.cache_clear()
        files._machine.cache_clear()
        assert files._digest(trial) != key
        assert files.folder() != folder
