"""Trial records on disk: `.asv/trials/<machine>/<commit>/<problem>.<dtype>.<device>[.<conditions>].<key>.json`.

A record is written atomically when the process that validates its trial has ended, and again after each that repeats
it; it is reused wherever nothing that shaped it has changed: a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from linear_lasagna import own
from linear_lasagna.catalog import GROUPS, OWN, problem_named
from linear_lasagna.factors import parsed, written
from linear_lasagna.installed import versions_of
from linear_lasagna.trial import fields
from linear_lasagna.trial.record import Repeat, Trial

if TYPE_CHECKING:
    from linear_lasagna.trial.numbers import Given

BUDGET_S = 0.3
BLOCKS = 4
DIGITS = 10  # of a record's digest
ROOT = "LASAGNA_ROOT"  # the checkout; the current folder, where it is not set
STEP_TIMEOUT_S = 15.0  # some library kernels never end; planning, the longest step, starts a process of its own


class Key(NamedTuple):
    """What identifies a trial. under: its conditions, as `factors.written` writes them."""

    group: str
    problem: str
    dtype: str
    device: str
    under: str = ""

    @property
    def work(self) -> str:
        """What a trial of it does."""
        return parsed(self.under).get("work", GROUPS[self.group].work)


def first(key: Key, fork: bool = False) -> Trial:
    """The trial of this commit and machine: read where it was validated before, else run now in a child process.

    fork: whether this process has computed nothing with torch and never will, so that a child may be its fork.
    """
    trial = read(key)
    if trial is None:
        trial = _run(key, fork)
        write(key, trial)
    return trial


def repeat(trials: Mapping[Key, Trial]) -> Iterator[tuple[Key, Repeat]]:
    """Time trials once more, in one fresh process, and add what was timed to them and to their records."""
    from linear_lasagna.trial.isolation import repeat_isolated

    works = [(key.work, trial) for key, trial in trials.items()]
    seed = 1 + max(len(trial.repeats) for trial in trials.values())
    numbers = {name: given for key in trials if (given := numbers_of(name := key.problem)) is not None}
    ends = repeat_isolated(works, seed=seed, numbers=numbers, timeout_s=_timeout_s(), start_method="spawn")
    for (key, trial), end in zip(trials.items(), ends, strict=True):
        trial.repeats.append(end)
        write(key, trial)
        yield key, end


def read(key: Key) -> Trial | None:
    """The trial in a record, or None where it must be run; a record that cannot be read is set aside, as `.bad`.

    It must be run where it was not, where a record with failed cells was written before LASAGNA_RETRY_BEFORE (seconds
    since the epoch), and where another problem of the user's own was timed under its name since: a report shows the
    latest.
    """
    path = path_of(key)
    try:
        trial = _read(path, key)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OSError, RecursionError, OverflowError) as error:
        os.replace(path, path.with_suffix(".bad"))
        print(f"{path.name} cannot be read and is computed again; it is kept as .bad: {error!r}", file=sys.stderr)
        return None
    old = path.stat().st_mtime < float(os.environ.get("LASAGNA_RETRY_BEFORE") or 0)
    return None if (old and trial.named("failed")) or _superseded(path, key) else trial


def _superseded(path: Path, key: Key) -> bool:
    if key.group != own.GROUP:
        return False
    others = path.parent.glob(f"{glob.escape(_name(key))}.{'[0-9a-f]' * DIGITS}.json")
    return any(other.stat().st_mtime > path.stat().st_mtime for other in others)


def _read(path: Path, key: Key) -> Trial:
    """Raises ValueError and its like for anything but a record of the key's trial with its group's ways."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")
    trial = fields.checked(Trial.from_dict(json.loads(path.read_text(encoding="utf-8"))["trial"]))
    told = (trial.problem.name, trial.dtype, trial.device, written(trial.under))
    if told != key[1:] or list(trial.cells) != list(GROUPS[key.group].ways):
        raise ValueError("it is of another trial")
    return trial


def prepare(device: str = "cpu") -> None:
    """Find out what the paths of a device's records need: once in a process, and for all that are forked from it."""
    _shape(device)
    folder()


def path_of(key: Key) -> Path:
    """Where the trial's record lies, or is to lie."""
    return folder() / f"{_name(key)}.{_digest(key)}.json"


def _name(key: Key) -> str:
    return f"{key.problem.replace('/', '-')}.{key.dtype}.{key.device}" + (f".{key.under}" if key.under else "")


def budget_s() -> float:
    """Seconds in timed calls per trial and process: LASAGNA_BUDGET_S, else 0.3. Raises ValueError for what is no
    positive number.
    """
    text = os.environ.get("LASAGNA_BUDGET_S", str(BUDGET_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"LASAGNA_BUDGET_S must be a positive number of seconds, not {text!r}")
    return seconds


def _digest(key: Key) -> str:
    """Of all that shapes a trial, but for its dtype."""
    settings = GROUPS[key.group]
    parts = [key.group, key.problem, settings.ways, settings.work, settings.share * budget_s(), settings.threads]
    parts += [key.under, *_shape(key.device)]
    parts += OWN.code(settings.ways)
    if runtimes := versions_of(settings.ways):
        parts.append(runtimes)
    if key.group == own.GROUP:
        parts += [repr(problem_named(key.problem)), _numbers_digests(key.problem)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:DIGITS]


def numbers_of(problem: str) -> Given | None:
    """The numbers that a user gave for a problem, or None; it raises ValueError where they do not fit."""
    if problem not in OWN.numbers:
        return None
    from linear_lasagna.trial.numbers import read

    return read(OWN.numbers[problem], problem_named(problem), OWN.folder)


@cache
def _numbers_digests(problem: str) -> dict[str, str]:
    from linear_lasagna.trial.numbers import digests

    return digests(numbers_of(problem) or {})


@cache
def _shape(device: str) -> list[object]:
    """What shapes all trials of a device: the code, the machine, the libraries and what was chosen for them."""
    import numpy

    from linear_lasagna.conditions import allocator
    from linear_lasagna.devices import accelerator_names
    from linear_lasagna.environment import code_digest, fingerprint

    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES")}
    machine = [fingerprint(), [] if device == "cpu" else accelerator_names()]
    return [code_digest(), machine, sys.version, numpy.__version__, threads, allocator()]


def _root() -> Path:
    return Path(os.environ.get("ASV_CONF_DIR") or os.environ.get(ROOT) or Path.cwd())


def folder() -> Path:
    """Where the records of this commit and machine lie."""
    return _root() / ".asv" / "trials" / _machine() / (_commit() or "unknown")


@cache
def _machine() -> str:
    from linear_lasagna.environment import machine_key

    return machine_key()


def _commit() -> str:
    return os.environ.get("ASV_COMMIT") or _git(_root(), "rev-parse", "HEAD")


def _dirty() -> bool:
    """Whether the code that was timed differs from the commit. asv's own environments hold the commit itself."""
    return os.environ.get("ASV_ENV_TYPE", "existing") == "existing" and bool(_git(_root(), "status", "--porcelain"))


@cache
def _git(root: Path, *arguments: str) -> str:
    """What git says, asked once; "" where there is none."""
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.strip()


def forkable(fork: bool) -> bool:
    """Whether a child may be a fork of this process. fork: as `first` takes it, but for a problems file that may have
    computed.
    """
    import torch

    return fork and not OWN.torch and sys.platform == "linux" and not torch.cuda.is_initialized()


def _run(key: Key, fork: bool) -> Trial:
    from linear_lasagna.trial import run_isolated

    return run_isolated(
        problem_named(key.problem),
        GROUPS[key.group].ways,
        dtype=key.dtype,
        device=key.device,
        budget_s=GROUPS[key.group].share * budget_s(),
        blocks=BLOCKS,
        numbers=numbers_of(key.problem),
        timeout_s=_timeout_s(),
        start_method="fork" if forkable(fork) else "spawn",
        work=key.work,
        threads=GROUPS[key.group].threads,
        under=parsed(key.under),
    )


def _timeout_s() -> float:
    """Of a step with one way: timing all together takes no longer than SHARED_STEPS of them."""
    from linear_lasagna.timing import OVER_BUDGET
    from linear_lasagna.trial.isolation import SHARED_STEPS

    return STEP_TIMEOUT_S + OVER_BUDGET / SHARED_STEPS * budget_s()


def write(key: Key, trial: Trial) -> None:
    """Whole or not at all: a kill leaves no half of a record."""
    from linear_lasagna.environment import chosen_name, fingerprint_of, machine_named

    path = path_of(key)
    machine = machine_named(fingerprint_of(trial.environment), chosen_name())
    record = {"group": key.group, "machine": machine, "commit": path.parent.name, "dirty": _dirty()}
    record["trial"] = json.loads(trial.to_json())
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
