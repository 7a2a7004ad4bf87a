"""How fit the numbers are to be cited, and what a reader must know before: the banner of the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.data.frames import Frame
from analysis.data.records import Record
from analysis.data.study_data import StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.sections import noise

if TYPE_CHECKING:
    from analysis.report.page import Context

NOISY = 0.1  # the 90th percentile of what controls differ by, from which on times say little
SMOKE = "smoke"


@dataclass(frozen=True)
class Fitness:
    """bad: why no number should be cited as it is; doubtful: what is missing."""

    bad: tuple[str, ...]
    doubtful: tuple[str, ...]


def fitness(data: StudyData, controls: Frame, context: Context, warned: Sequence[str] = ()) -> Fitness:
    """controls: the frame `noise`. warned: by sections, and what could not be made."""
    bad = [*warned, *_origin(data, context), *_noise(controls)]
    bad += [f"Left out: {message}" for message in data.messages]
    return Fitness(tuple(bad), tuple(_missing(data, context)))


def _origin(data: StudyData, context: Context) -> Iterator[str]:
    """Whether the numbers are of one known state of the code."""
    if SMOKE in re.findall(r"\w+", context.selection):
        yield "A smoke test of the suite: few trials and seeds. Do not cite it."
    if dirty := sum(record.dirty for record in data.records):
        trials = show.plural(len(data.records), "trial")
        yield f"{dirty} of {trials} ran in a working tree that differed from the commit: they belong to no commit."
    elif context.dirty:
        yield "The working tree differed from the commit: these numbers belong to no commit."
    commits = {record.commit for record in data.records}
    if len(commits) > 1:
        yield f"The trials come from {len(commits)} commits."
    codes = {r.trial.environment["code"] for r in data.records if "code" in r.trial.environment}
    if len(codes) > len(commits):
        yield f"The trials were computed by {len(codes)} versions of the code."


def _noise(controls: Frame) -> Iterator[str]:
    """Where the same call under two names differs by much."""
    for (machine, device), rows in controls.groupby(["machine", "device"], sort=True) if len(controls) else ():
        p90 = float(noise.apart(rows["ratio"]).quantile(0.9))
        if p90 >= NOISY:
            where = f" on {machine}, {device}" if controls[["machine", "device"]].drop_duplicates().shape[0] > 1 else ""
            text = f"A noisy machine{where}: the same call under two names differs by over {show.percent(p90)} "
            yield f"{text}in one of ten trials."


def _missing(data: StudyData, context: Context) -> Iterator[str]:
    if not len(data.records):
        yield "There are no trial records yet."
    elif len(data.missing):
        of = f"{len(data.missing)} {show.of_these(len(set(map(tuple, context.expected))), 'trial', 'the')}"
        named = f" “{context.selection}”" if context.selection else ""
        yield f"{of} of the selection{named}, as this version has it, left no record."
    if data.rows is None:
        yield "There are no rows of the precision experiment yet."


def conditions(data: StudyData, under: str = "") -> list[str]:
    """Under which conditions the numbers hold, one line per machine and device with trials."""
    lines = []
    for scope in data.scopes:
        records = data.within(scope).records.entries
        if not records:
            continue
        described = records[-1].trial.environment
        chip = described.get("accelerator") if scope.device != "cpu" else described.get("cpu")
        threads = f"{show.plural(int(described['threads']), 'thread')}, " if described.get("threads") else ""
        torch = f"torch {described['torch']}, " if described.get("torch") else ""
        trials = f"{show.plural(len(records), 'trial')}, {_timed(records)}"
        chip = "" if chip and str(chip) in scope.machine else f"{chip or 'processor not recorded'}, "
        lines.append(
            f"{scope.machine}, {scope.device}: {chip}{threads}{torch}{trials}" + (f", under {under}" * bool(under))
        )
    return lines


def _timed(records: Sequence[Record]) -> str:
    return f"each timed in {wording.processes(records)}"
