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
from asv_runner.benchmarks.mark import SkipNotImplemented
from asv_runner.benchmarks.time import TimeBenchmark
from asv_runner.discovery import disc_benchmarks

import benchmarks._records as records_module
import benchmarks._replay as replay_module
import linear_lasagna.environment as environment_module
from analysis.data.machines import DIGEST
from benchmarks._replay import ReplayClock
from benchmarks.trials import Sources
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.trial import Cell, Trial

ROOT = Path(__file__).parent.parent
CELL = ("sources/merge", "float32", "cpu", "direct")
# 0.1 + 0.2 and its neighbours: sums of such numbers lose bits that the replay must keep.
SAMPLES = [[0.1 + 0.2, 1 / 3, 7e-7], [math.pi * 1e-5, 2**-40 + 2**-80, 1e-3]]


def made_trial(**cells: Cell) -> Trial:
    return Trial(CATALOG["sources/merge"], "float32", "cpu", 1.0, 0, cells, {})


def handed(monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    monkeypatch.setattr(replay_module, "fetch", lambda *arguments: trial)


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
    """asv keys a setup_cache by file and line, so that heirs of one class would share it: there is none here."""
    names = [benchmark.name for benchmark in discovered()]
    assert len(names) == len(set(names))
    assert {f"trials.{group.capitalize()}.time_forward" for group in GROUPS} <= set(names)
    shared = [b.setup_cache_key for b in discovered() if b.setup_cache_key is not None]
    assert len(shared) == len(set(shared))


def test_the_readme_names_every_group() -> None:
    [line] = [line for line in (ROOT / "README.md").read_text().splitlines() if "--bench trials." in line]
    assert all(group.capitalize() in line for group in GROUPS)


def test_parameters_are_static_strings() -> None:
    groups = [b for b in discovered() if b.name.endswith("time_forward")]
    for benchmark in groups:
        assert benchmark.param_names == ["problem", "dtype", "device", "way"]
        assert benchmark.params[1] == ["'float16'", "'bfloat16'", "'float32'", "'float64'"]
        assert benchmark.params[2] == ["'cpu'", "'cuda'", "'mps'"]
        assert "'control'" in benchmark.params[3]


def test_discovery_does_not_import_torch() -> None:
    code = (
        "import sys; from asv_runner.discovery import disc_benchmarks; "
        f"list(disc_benchmarks({str(ROOT / 'benchmarks')!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_runs_a_trial_does_not_import_the_compiler() -> None:
    """It takes over a second, which each of asv's cells would spend."""
    code = "import sys; import linear_lasagna.trial.isolation; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def fetch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setenv("ASV_CONF_DIR", str(folder))
    monkeypatch.setenv("ASV_COMMIT", "0" * 40)
    monkeypatch.setenv("LASAGNA_BUDGET_S", "0.05")
    monkeypatch.setitem(GROUPS, "sources", replace(GROUPS["sources"], ways=("direct", "control")))
    return records_module.fetch("sources", "sources/merge", "float32", "cpu")


def test_a_finished_trial_is_reused_and_a_part_of_a_record_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    real = records_module._run
    monkeypatch.setattr(records_module, "_run", lambda *a: runs.append(a) or real(*a))
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
    "of a newer version": lambda text: text.replace('"schema": 2', '"schema": 99'),
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
    monkeypatch.setattr(records_module, "_run", lambda *arguments: trial)
    fetch(tmp_path, monkeypatch)
    [path] = tmp_path.rglob("*.json")
    broken = change(path.read_text())
    path.write_text(broken)
    assert fetch(tmp_path, monkeypatch) == trial
    assert path.with_suffix(".bad").read_text() == broken
    assert Trial.from_json(json.dumps(json.loads(path.read_text())["trial"])) == trial
    assert f"{path.name} cannot be read and is computed again" in capsys.readouterr().err


def test_a_record_is_as_readable_as_any_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "_run", lambda *arguments: made_trial(direct=Cell(), control=Cell()))
    fetch(tmp_path, monkeypatch)
    [path] = tmp_path.rglob("*.json")
    (other := tmp_path / "other").touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_failed_cells_are_tried_again_once_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    trial = made_trial(direct=Cell(samples=SAMPLES), control=Cell("failed", "was killed"))
    monkeypatch.setattr(records_module, "_run", lambda *arguments: runs.append(1) or trial)
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
    whole = records_module._key("sources", "sources/merge", "cpu")
    monkeypatch.setitem(GROUPS, "sources", replace(GROUPS["sources"], share=0.15))
    assert records_module._key("sources", "sources/merge", "cpu") != whole
    given = {}
    monkeypatch.setattr("linear_lasagna.trial.run_isolated", lambda *_, **settings: given.update(settings))
    records_module._run("sources", "sources/merge", "float32", "cpu")
    assert given["budget_s"] == pytest.approx(0.3)


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf"])
def test_a_budget_that_is_no_positive_number_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASAGNA_BUDGET_S", text)
    with pytest.raises(ValueError, match="LASAGNA_BUDGET_S must be a positive number of seconds"):
        records_module.budget_s()


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


def test_asv_saves_the_samples_of_the_record_bit_for_bit(asv_home: tuple[Path, dict[str, str]]) -> None:
    folder, environment = asv_home
    command = [sys.executable, "-m", "asv", "run", "-E", f"existing:{sys.executable}", "--machine", "tested"]
    command += ["--set-commit-hash", "HEAD", "--record-samples"]
    command += ["--bench", r"Sources\.time_forward\('sources/merge', 'float32', 'cpu', '(direct|merged/direct)'"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [record] = (folder / ".asv/trials").glob("tested-*/*/*.json")
    assert DIGEST.sub("", json.loads(record.read_text())["machine"]) == "tested"
    cells = json.loads(record.read_text())["trial"]["cells"]
    [saved] = (folder / ".asv/results/tested").glob("*-existing-*.json")
    result = json.loads(saved.read_text())
    row = result["results"]["trials.Sources.time_forward"]
    samples = [s for s in row[result["result_columns"].index("samples")] if s]
    expected = [[s for block in cells[way]["samples"] for s in block] for way in ("direct", "merged/direct")]
    assert samples == expected


def test_another_machine_s_record_is_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder may be shared by machines of one host name: none may take the other's record for its own."""
    trial = ("sources", "sources/merge", "cpu")
    key, folder = records_module._key(*trial), records_module._folder()
    found = environment_module.fingerprint()
    for change in ({"threads": 99}, {"instruction_sets": {"aten": "DEFAULT"}}, {"cpu_model": "another"}):
        monkeypatch.setattr(environment_module, "fingerprint", lambda *_, changed=found | change: changed)
        assert records_module._key(*trial) != key
        assert records_module._folder() != folder
