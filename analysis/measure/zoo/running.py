"""The zoo's run: a process per family, whatever happens in it costs one row; what was tried is not tried again."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from analysis.data import zoo
from analysis.data.frames import Frame
from analysis.measure.zoo import child
from analysis.measure.zoo.packages import PACKAGES, declare_torchvision, version
from linear_lasagna.environment import cpu_name
from linear_lasagna.models.ways import CONTROL, GIVEN
from linear_lasagna.plurals import plural
from linear_lasagna.timing import Timing, compare

Row: TypeAlias = dict[str, Any]

STARTED = "starting"


class Limits(NamedTuple):
    """Of one process."""

    time_s: float = 180.0
    memory_gib: float = 16.0


class Ended(NamedTuple):
    """What a process told. reason: why it ended without a result, "" where it did not."""

    told: Mapping[str, Any]
    reason: str = ""

    @property
    def stopped(self) -> bool:
        return bool(self.reason)


def run(names: Sequence[str], out: Path, limits: Limits, retry_failed: bool, say: Callable[[str], object]) -> Frame:
    """The rows of the packages, all that are installed where none is named; kept in `out` after each architecture.

    say is told a line for each. Raises ValueError for an unknown package, RuntimeError for one that is not installed.
    """
    chosen = _installed(names, say)
    frame = zoo.read(out) if out.exists() else zoo.empty()
    declare_torchvision()
    for name in chosen:
        families, here = PACKAGES[name].families(), _here(name)
        frame = zoo.current(frame, name, here, families, retry_failed)
        tried = set(frame.loc[frame["package"] == name, "family"])
        for family, members in families.items():
            if family in tried:
                continue
            start = time.perf_counter()
            rows = [here | {"family": family} | row for row in _rows(name, members, limits)]
            frame = zoo.with_rows(frame, rows)
            zoo.write(frame, out)
            say(f"{zoo.line(rows)}, {time.perf_counter() - start:.0f} s")
    return frame[frame["package"].isin(chosen)]


def _installed(names: Sequence[str], say: Callable[[str], object]) -> list[str]:
    for name in names:
        if name not in PACKAGES:
            raise ValueError(f"unknown package {name!r}; known: {', '.join(PACKAGES)}")
    missing = {name: PACKAGES[name].missing for name in names or PACKAGES}
    absent = [name for name, module in missing.items() if module]
    how = "pip install -e '.[zoo]' in the checkout installs all"
    if names and absent:
        raise RuntimeError(f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed; {how}")
    for name in absent:
        say(f"{name} is not installed, and left out; {how}")
    return [name for name in missing if name not in absent]


def _here(package: str) -> Row:
    """What the rows depend on beside the architecture."""
    processor = f"{cpu_name()}, {plural(torch.get_num_threads(), 'thread')}"
    return {"package": package, "version": version(package), "torch": torch.__version__, "processor": processor}


def _rows(package: str, names: Sequence[str], limits: Limits) -> list[Row]:
    """One row per way of the family's smallest architecture, or those that say why there are none."""
    end = ended(child.Task(package, tuple(names), limits.memory_gib), limits)
    name = end.told.get("chosen", names[0])
    facts = {"architecture": name, "others": " ".join(each for each in names if each != name)}
    facts |= end.told.get("built", {})
    if "built" not in end.told:
        return [facts | {"way": GIVEN, "status": "failed", "reason": end.reason}]
    trial = end.told["trial" if end.stopped else "done"]
    if end.stopped:
        trial["ways"].setdefault(GIVEN, {"status": "ok"})
        merged = trial["ways"].setdefault("merged", {"status": "failed"})
        merged["reason"] = merged.get("reason") or end.reason
    timings = [Timing(**trial["timing"])] if trial["timing"] else []
    ways = [way for way in trial["ways"] if timings and way in timings[0].samples]
    again = child.Task(package, (name,), limits.memory_gib, tuple(ways))
    for _ in range(PACKAGES[package].processes - 1 if timings else 0):
        further = ended(again, limits)
        timings += [] if further.stopped else [Timing(**further.told["done"]["timing"])]
    whole = {key: trial[key] for key in ("runs", "merged", "notes", "difference")}
    return [facts | whole | {"way": way} | row | _times(way, timings) for way, row in trial["ways"].items()]


def _times(way: str, timings: Sequence[Timing]) -> Row:
    if not timings or way not in timings[0].samples:
        return {}
    from statistics import median

    row: Row = {"seconds": median(timing.seconds(way) for timing in timings), "processes": len(timings)}
    if way == GIVEN or GIVEN not in timings[0].samples:
        return row
    found = compare(timings, GIVEN, CONTROL)[way]
    return row | {
        "ratio": found.ratio,
        "ratio_lower": found.lower,
        "ratio_upper": found.upper,
        "verdict": found.verdict,
    }


def ended(task: child.Task, limits: Limits) -> Ended:
    """What a fresh process tells of its task until it is done, dies, or takes too long."""
    # This process has imported much and computed nothing: on Linux its forks start at once, and are right.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=child.main, args=(theirs, task), daemon=True)
    process.start()
    theirs.close()
    told: dict[str, Any] = {"stage": STARTED}
    reason = ""
    try:
        for kind, content in _messages(ours, limits.time_s):
            told[kind] = content
            if kind == "error":
                reason = f"{content} (while {told['stage']})"
        if not {"done", "error"} & set(told):
            reason = f"stopped after {limits.time_s:g} s while {told['stage']}"
    except EOFError:
        process.join(5)
        reason = f"the process {_ending(process.exitcode)} while {told['stage']}"
    process.kill()
    process.join()
    return Ended(told, reason)


def _messages(pipe: Any, limit_s: float) -> Iterator[tuple[str, Any]]:
    """Until the last one, or for so long after the architecture was chosen, and before it."""
    until = time.monotonic() + limit_s
    while pipe.poll(max(0.0, until - time.monotonic())):
        kind, content = pipe.recv()
        yield kind, content
        if kind == "chosen":
            until = time.monotonic() + limit_s
        if kind in ("done", "error"):
            return


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", perhaps for want of memory," if name == "SIGKILL" else "")
