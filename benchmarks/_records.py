"""Trial records beside asv's results: `.asv/trials/<machine>/<commit>/<problem>.<dtype>.<device>.<key>.json`.

A record is written atomically when its trial has ended, and reused wherever nothing that shaped it has changed: a
run that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linear_lasagna.catalog import GROUPS

if TYPE_CHECKING:
    from linear_lasagna.trial import Trial

BUDGET_S = 2.0
STEP_TIMEOUT_S = 6.0  # some library kernels never end; what is done with one way takes seconds at most


def fetch(group: str, problem: str, dtype: str, device: str) -> Trial:
    """The trial of this commit and machine: read where it was finished before, else run now in a child process."""
    path = _folder() / f"{problem.replace('/', '-')}.{dtype}.{device}.{_key(group, problem, device)}.json"
    trial = _finished(path, (problem, dtype, device), GROUPS[group].ways)
    if trial is None:
        trial = _run(group, problem, dtype, device)
        _write(path, group, trial)
    return trial


def _finished(path: Path, key: tuple[str, str, str], ways: Sequence[str]) -> Trial | None:
    """The trial in a record, or None where it must be run; a record that cannot be read is set aside, as `.bad`.

    It must be run where it was not, and where LASAGNA_RETRY_BEFORE (seconds since the epoch) is later than a record
    with failed cells.
    """
    try:
        trial = _read(path, key, ways)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OSError, RecursionError, OverflowError) as error:
        os.replace(path, path.with_suffix(".bad"))
        print(f"{path.name} cannot be read and is computed again; it is kept as .bad: {error!r}", file=sys.stderr)
        return None
    old = path.stat().st_mtime < float(os.environ.get("LASAGNA_RETRY_BEFORE") or 0)
    return None if old and trial.named("failed") else trial


def _read(path: Path, key: tuple[str, str, str], ways: Sequence[str]) -> Trial:
    """Raises ValueError and its like for anything but a record of the key's trial with these ways."""
    from linear_lasagna.trial import Trial, fields

    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")
    text = path.read_text(encoding="utf-8")
    trial = fields.checked(Trial.from_dict(json.loads(text)["trial"]))
    if (trial.problem.name, trial.dtype, trial.device) != key or list(trial.cells) != list(ways):
        raise ValueError("it is of another trial")
    return trial


def budget_s() -> float:
    """Seconds in timed calls per trial: LASAGNA_BUDGET_S, else 2. Raises ValueError for what is no positive number."""
    text = os.environ.get("LASAGNA_BUDGET_S", str(BUDGET_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"LASAGNA_BUDGET_S must be a positive number of seconds, not {text!r}")
    return seconds


def _key(group: str, problem: str, device: str) -> str:
    """Digest of all that shapes a trial, but for its dtype."""
    import numpy

    from linear_lasagna.devices import accelerator_names
    from linear_lasagna.environment import code_digest, fingerprint

    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES")}
    machine = [fingerprint(), [] if device == "cpu" else accelerator_names()]
    settings = GROUPS[group]
    parts = [group, problem, settings.ways, settings.work, settings.share * budget_s(), code_digest(), machine]
    parts += [sys.version, numpy.__version__, threads]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def _root() -> Path:
    return Path(os.environ.get("ASV_CONF_DIR", Path(__file__).parent.parent))


def _folder() -> Path:
    from linear_lasagna.environment import machine_key

    return _root() / ".asv" / "trials" / machine_key() / (_commit() or "unknown")


def _commit() -> str:
    return os.environ.get("ASV_COMMIT") or _git("rev-parse", "HEAD")


def _dirty() -> bool:
    """Whether the code that was timed differs from the commit. asv's own environments hold the commit itself."""
    return os.environ.get("ASV_ENV_TYPE", "existing") == "existing" and bool(_git("status", "--porcelain"))


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=_root(), capture_output=True, text=True, check=False)
    return result.stdout.strip()


def _run(group: str, problem: str, dtype: str, device: str) -> Trial:
    import torch

    from linear_lasagna.catalog import problem_named
    from linear_lasagna.timing import OVER_BUDGET
    from linear_lasagna.trial import run_isolated
    from linear_lasagna.trial.isolation import SHARED_STEPS

    # In a child of asv's fork server torch is imported and has computed nothing yet: only there is forking safe.
    forkable = "run_server" in sys.argv and sys.platform == "linux" and not torch.cuda.is_initialized()
    return run_isolated(
        problem_named(problem),
        GROUPS[group].ways,
        dtype=dtype,
        device=device,
        budget_s=GROUPS[group].share * budget_s(),
        timeout_s=STEP_TIMEOUT_S + OVER_BUDGET / SHARED_STEPS * budget_s(),  # timing all together takes no longer
        start_method="fork" if forkable else "spawn",
        work=GROUPS[group].work,
    )


def _write(path: Path, group: str, trial: Trial) -> None:
    """Whole or not at all: a kill leaves no half of a record."""
    from linear_lasagna.environment import chosen_name, fingerprint_of, machine_named

    machine = machine_named(fingerprint_of(trial.environment), chosen_name())
    record = {"group": group, "machine": machine, "commit": path.parent.name, "dirty": _dirty()}
    record["trial"] = json.loads(trial.to_json())
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
