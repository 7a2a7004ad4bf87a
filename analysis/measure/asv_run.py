"""Runs asv on this checkout's own environment, shows how far it is, and cleans what it saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.measure import leash
from analysis.measure.checkout import ROOT
from linear_lasagna.factors import VARIABLE, named

SCRUBBED = "existing"


@dataclass(frozen=True)
class Settings:
    """One `asv run`, which is handed the records that there are: what it selects, where it saves. conditions: the
    values of that parameter.
    """

    commit: str
    machine: str
    patterns: Sequence[str]
    budget_s: float
    log: Path
    conditions: Sequence[str] = ("",)


def register_machine() -> str:
    """The name under which asv's results of this machine are kept, written to ~/.asv-machine.json: its key.

    asv's own name for a machine, its host's, stays there for a bare `asv run`.
    """
    from asv.machine import MachineCollection
    from asv.util import UserError

    from linear_lasagna.environment import machine_key

    if not Path(MachineCollection.get_machine_file_path()).exists():
        _asv(["machine", "--yes"])
    key = machine_key()
    try:
        MachineCollection.load(key)
    except UserError:
        _asv(["machine", "--yes", "--machine", key])
    return key


def _asv(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "asv", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"asv {arguments[0]} failed: {(result.stderr or result.stdout).strip().splitlines()[-1]}")


def run(settings: Settings, progress: Callable[[], None], keep: Sequence[int] = ()) -> float:
    """Run asv to its end; progress is called about twice a second. Returns the wall seconds.

    keep: file descriptors that stay open until asv, and all that it started, have ended.
    Raises RuntimeError, naming the log, where asv did not run; a failed cell is no such failure.
    """
    command = [sys.executable, "-m", "asv", "run", "-E", f"existing:{sys.executable}"]
    command += ["--set-commit-hash", settings.commit, "--machine", settings.machine, "--record-samples"]
    command += ["--attribute", "rounds=1"]
    for pattern in settings.patterns:
        command += ["--bench", pattern]
    environment = {**os.environ, "LASAGNA_BUDGET_S": str(settings.budget_s), "LASAGNA_REPLAY": "1"}
    environment[VARIABLE] = ";".join(map(named, settings.conditions))
    settings.log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with settings.log.open("w") as log:
        code = leash.run(command, ROOT, log, environment, progress, keep)
    progress()
    # asv exits with 2 where a cell failed; its record says why, and the report shows it.
    if code not in (0, 2):
        raise RuntimeError(f"asv run ended with exit code {code}; see {settings.log}")
    return time.perf_counter() - start


def importable() -> bool:
    """Whether the benchmarks' processes, of which asv starts some outside the checkout, can import linear_lasagna."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if "ASV_PYTHONPATH" in environment:
        environment["PYTHONPATH"] = environment["ASV_PYTHONPATH"]  # as asv has it
    command = [
        sys.executable,
        "-c",
        "import importlib.util, sys; sys.exit(not importlib.util.find_spec('linear_lasagna'))",
    ]
    return subprocess.run(command, cwd="/", env=environment, check=False).returncode == 0


def scrub(results: Path) -> None:
    """Take the interpreter's path out of the names and contents of results: it tells of nothing but a home folder."""
    for path in results.glob(f"*-{_environment_name()}.json"):
        _rename(path, SCRUBBED, f"{sys.version_info.major}.{sys.version_info.minor}")


def unscrub(results: Path) -> None:
    """The reverse, before a run: asv adds to the file whose name holds its environment."""
    for path in results.glob(f"*-{SCRUBBED}.json"):
        _rename(path, _environment_name(), sys.executable)


def _environment_name() -> str:
    """asv's name for `-E existing:<this interpreter>`."""
    return "existing-py" + sys.executable.replace(os.sep, "_")


def _rename(path: Path, environment: str, python: str) -> None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["env_name"], data["python"] = environment, python
        data["params"]["python"] = python
    except (ValueError, TypeError, KeyError):  # asv does not write atomically
        path.rename(path.with_suffix(".bad"))
        print(f"{path.name} cannot be read, perhaps cut short; it is kept as {path.stem}.bad", file=sys.stderr)
        return
    target = path.with_name(f"{path.name[:8]}-{environment}.json")
    target.write_text(json.dumps(data), encoding="utf-8")
    path.unlink()
