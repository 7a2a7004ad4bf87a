"""asv's two rounds: in the first every trial is validated and timed once, in the second again, in more processes.

asv tells no cell which round it is, so that is counted: every run of asv has one process that starts those of all
cells, and the first time that it asks for a cell is the first round. A run with one round alone, as `--quick` has, ends
there.
"""

from __future__ import annotations

import enum
import json
import os
import sys
from pathlib import Path

from asv_runner.benchmarks.mark import SkipNotImplemented

from linear_lasagna.trial import files, processes
from linear_lasagna.trial.files import Key
from linear_lasagna.trial.record import Trial

REPLAY = "LASAGNA_REPLAY"  # set where records are to be handed over as they are, in one round
MOST = "LASAGNA_PROCESSES"


class Round(enum.Enum):
    """Which samples a cell is to hand over: the first process's, the other processes', or all (`_replay.share`)."""

    FIRST = enum.auto()
    SECOND = enum.auto()
    ALL = enum.auto()


def fetch(key: Key, way: str) -> tuple[Trial, Round]:
    """The trial, as far as this round of asv needs it, and the round. A replay skips what was not timed before."""
    if os.environ.get(REPLAY):
        trial = files.read(key)
        if trial is None:
            raise SkipNotImplemented("it has no record: there was no time for it, or its conditions are others")
        return trial, Round.ALL
    path = _asked_file()
    asked = _asked(path)
    trial = files.first(key, _forkable())
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps([*key, way]) + "\n")
    if (*key, way) not in asked:
        return trial, Round.FIRST
    return complete(key, *(Key(*each[:-1]) for each in asked)), Round.SECOND


def complete(key: Key, *others: Key) -> Trial:
    """The trial with all its processes; where one lacks, the others are timed together with it."""
    trial, most = files.first(key, _forkable()), most_processes()
    if REPLAY in os.environ or processes.attempts(trial) >= most or processes.finished(trial):
        return trial
    for _ in processes.further(list(dict.fromkeys((key, *others))), processes.Limits(most)):
        pass
    return files.first(key)


def most_processes() -> int:
    """LASAGNA_PROCESSES: how many processes time a trial at most. Raises ValueError for what is no whole number."""
    text = os.environ.get(MOST) or str(processes.MOST_PROCESSES)
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise ValueError(f"{MOST} must be a whole number from 1, not {text!r}")
    return int(text)


def _forkable() -> bool:
    """In a child of asv's fork server torch is imported and has computed nothing yet."""
    return "run_server" in sys.argv


def _asked(path: Path) -> list[tuple[str, ...]]:
    """The cells that this run of asv has asked for."""
    return [tuple(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _asked_file() -> Path:
    """Of this run of asv; those of runs that have ended are removed."""
    import psutil

    parent = psutil.Process(os.getppid())
    folder = files.folder()
    folder.mkdir(parents=True, exist_ok=True)
    mine = folder / f"asked.{parent.pid}.{parent.create_time():.0f}"
    if not mine.exists():
        for path in folder.glob("asked.*"):
            if not psutil.pid_exists(int(path.name.split(".")[1])):
                path.unlink(missing_ok=True)
    return mine
