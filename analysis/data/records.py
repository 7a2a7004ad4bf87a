"""Trial records: one JSON file per trial, as the benchmarks leave them under `.asv/trials/<machine>/<commit>/`.

A file holds {"trial": …, "group": …, "machine": …, "commit": …, "dirty": …}. What cannot be read is named and left
out; the rest is reported.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median

from analysis.data import machines
from analysis.data.frames import Frame, framed
from analysis.gaps import MOST
from linear_lasagna.factors import written
from linear_lasagna.timing import Timing
from linear_lasagna.trial import Trial, fields
from linear_lasagna.vocabulary import COMMON_METRICS

PLACE = ["machine", "commit", "group", "problem", "dtype", "device"]
CELLS = [
    *PLACE,
    "way",
    "baseline",
    "control",
    "status",
    "reason",
    "finding",
    *COMMON_METRICS,
    "peak_bytes",
    "first_call_s",
    "faults",
    "processes",
    "blocks",
    "samples",
]
# What reading a file that is no record can raise.
UNREADABLE = (ValueError, OSError, RecursionError, OverflowError, MemoryError)


@dataclass(frozen=True)
class Record:
    """One trial and where it was run. source: the file it was read from, relative to the folder.

    machine: as `machines.told` tells it; given: as the file names it.
    """

    trial: Trial
    group: str
    machine: str
    commit: str = ""
    dirty: bool = False
    source: str = ""
    given: str = ""

    @property
    def under(self) -> str:
        """The conditions of the trial, as `factors.written` writes them."""
        return written(self.trial.under)

    @cached_property
    def timings(self) -> list[Timing]:
        """The trial's, made once: nothing is added to a trial that was read."""
        return self.trial.timings()

    def seconds(self, way: str) -> float:
        """Per call of a way that was timed: the median over processes."""
        return median(timing.seconds(way) for timing in self.timings if way in timing.samples)

    @cached_property
    def key(self) -> tuple[str, str, str, str, str, str]:
        """What makes two records runs of the same trial."""
        return (self.machine, self.group, self.trial.problem.name, self.trial.dtype, self.trial.device, self.under)

    @cached_property
    def place(self) -> dict[str, str]:
        """The columns that say where a row comes from."""
        machine, group, problem, dtype, device, _ = self.key
        values = (machine, self.commit, group, problem, dtype, device)
        return dict(zip(PLACE, values, strict=True))


@dataclass(frozen=True)
class Records:
    """The records that were read. messages: one line for every file that could not be; notes: what else to know."""

    entries: tuple[Record, ...] = ()
    messages: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Record]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def left_out(self) -> str:
        """The first of the messages and how many more there are, in a line; "" for none."""
        first, more = self.messages[:1], len(self.messages) - 1
        return "".join(first) + (f" (and {more} more like it)" if more > 0 else "")

    def of(self, group: str, problems: Collection[str]) -> Records:
        """Those of a group's problems alone."""
        return replace(self, entries=tuple(r for r in self if r.group == group and r.trial.problem.name in problems))

    def timed_under(self, conditions: str) -> Records:
        """Those of these conditions alone, as `factors.written` writes them."""
        return replace(self, entries=tuple(record for record in self if record.under == conditions))

    def latest(self) -> Records:
        """The newest record of every trial, by the time it started; the others are counted in a note."""
        newest: dict[tuple[str, ...], Record] = {}
        for record in sorted(self.entries, key=lambda record: (record.trial.started, record.source)):
            newest[record.key] = record
        older = len(self.entries) - len(newest)
        note = f"Older records of trials that were run again are left out: {older}."
        notes = (*self.notes, note) if older else self.notes
        return Records(tuple(newest[key] for key in sorted(newest)), self.messages, notes)


def load(folder: Path) -> Records:
    """All records below the folder, in the order of their paths; a missing folder has none."""
    loaded, messages = [], []
    for path in sorted(Path(folder).rglob("*.json")):
        source = path.relative_to(folder).as_posix().encode(errors="surrogateescape").decode(errors="replace")
        try:
            if not path.is_file():
                raise ValueError("no regular file")
            loaded.append(replace(read(path.read_text(encoding="utf-8")), source=source))
        except UNREADABLE as error:
            messages.append(f"{source}: {_one_line(error)}")
    return Records(tuple(loaded), tuple(messages))


def read(text: str) -> Record:
    """The record in a file's text. Raises ValueError, in one line, for anything else."""
    data = json.loads(text)
    if not isinstance(data, dict) or not {"trial", "group", "machine"} <= data.keys():
        raise ValueError("not a trial record: it needs trial, group and machine")
    trial = fields.checked(Trial.from_dict(data["trial"]))
    names = {name: data.get(name, "") for name in ("group", "machine", "commit")}
    fields.check(names, {"group": fields.NAME, "machine": fields.NAME, "commit": fields.TEXT}, "")
    machine = machines.told(names["machine"], trial.environment)
    dirty = bool(data.get("dirty", False))
    return Record(trial, names["group"], machine, names["commit"], dirty, given=names["machine"])


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = "not JSON, perhaps cut short: " + text if isinstance(error, json.JSONDecodeError) else text
    return text if len(text) <= MOST else text[: MOST - 1] + "…"


def cells(records: Records) -> Frame:
    """One row per cell, with all `COMMON_METRICS` of its error. peak_bytes: allocated at once during a call; processes,
    blocks, samples: all that timed it; the rest is of the first process.
    """
    rows = []
    for record in records:
        trial, place = record.trial, tuple(record.place.values())
        for way, cell in trial.cells.items():
            processes = [timing.samples[way] for timing in record.timings if way in timing.samples]
            blocks = [block for process in processes for block in process]
            counts = (len(processes), len(blocks), sum(map(len, blocks)))
            flags = (way == trial.baseline, way == trial.control)
            measured = (*map(cell.measures.get, COMMON_METRICS), cell.peak_bytes, cell.first_call_s, cell.faults)
            rows.append((*place, way, *flags, cell.status, cell.reason, cell.finding, *measured, *counts))
    frame = framed(rows, CELLS)
    floats = [*COMMON_METRICS, "peak_bytes", "first_call_s", "faults"]
    return frame.astype(dict.fromkeys(floats, float) | dict.fromkeys(["baseline", "control"], bool))


def problems(records: Records) -> Frame:
    """One row per problem. macs: multiply-accumulates of all layers; occurrences: how often in its network; numbers:
    "drawn", or which were given.
    """
    columns = ["problem", "depth", "input", "output", "parameters", "macs", "occurrences", "numbers", "source"]
    by_name = {record.trial.problem.name: record.trial for record in records}
    rows = []
    for name, trial in sorted(by_name.items()):
        p, given = trial.problem, f"given: {', '.join(trial.numbers)}" if trial.numbers else "drawn"
        shapes = (_shape(p.shapes[0]), _shape(p.shapes[-1]))
        rows.append((name, p.depth, *shapes, p.parameters, p.macs, p.occurrences, given, p.source))
    return framed(rows, columns)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
