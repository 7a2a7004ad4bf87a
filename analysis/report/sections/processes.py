"""What differs between processes: the spread between and within them, why no further one was needed, page faults."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from analysis.data import processes
from analysis.data.frames import Frame, framed, ordered
from analysis.data.records import PLACE
from analysis.data.study_data import Scope, StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.section import Content, Frames, Section, per_scope
from analysis.report.tables import Table, Text, count_of, slug, table

STRONG = 0.9  # a rank correlation from which on times go with the faults
FEW = 3  # cells that are named
SHOWN = {
    "steal": ("steal: time that other machines took", show.percent),
    "mhz": ("MHz of the processors", lambda value: f"{value:.0f}"),
    "preempted": ("times that the process lost its core", lambda value: f"{value:.0f}"),
}
ENDED = {
    "ended_verdict": "verdict",
    "ended_precise": "precise",
    "ended_most": "most processes",
    "ended_time": "time or a limit",
}


def frames(data: StudyData) -> Frames:
    """processes: what each timed; spreads: between and within them, per dtype; process_groups: per cell, whether its
    times go with page faults, or fall into two groups.
    """
    each = processes.processes(data.records)
    spreads = processes.spreads(data.speedups)
    return {"processes": each, "spreads": spreads, "process_groups": processes.groups(each)}


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    each, groups = frames["processes"], frames["process_groups"]
    if not len(groups):
        return None
    repeated = each.merge(groups[[*PLACE, "way"]], on=[*PLACE, "way"])
    tables = (spread_table(scope, frames["spreads"]), conditions_table(scope, repeated, groups))
    lines = (with_faults(groups), in_two(groups), independence(repeated), lost(data))
    return Content(tables=tables, notes=tuple(line for line in lines if line))


def spread_table(scope: Scope, rows: Frame) -> Table:
    """Per dtype how far processes lie apart, and why no further one timed a cell."""
    columns: dict[str, Any] = {
        "dtype": lambda row: row.dtype,
        "cells": lambda row: str(row.cells),
        "processes": _processes,
        "between": lambda row: show.percent(row.between),
        "within": lambda row: show.percent(row.within),
        **{heading: count_of(name) for name, heading in ENDED.items()},
        "one process": lambda row: Text(str(row.cells - row.several), kind="" if row.cells > row.several else "zero"),
    }
    caption = (
        f"How far the log ratios of one cell lie apart, {scope.label}: medians over cells of the standard deviation "
    )
    caption += (
        "between processes, and within one between its blocks. Processes: their median, least and most. Then why "
    )
    caption += "no further process timed a cell. Verdict: its interval between processes decides. Precise: that is "
    caption += (
        "narrow enough. Most processes: it is neither, after as many as there are at most. Time or a limit: it is "
    )
    caption += (
        "neither, after those that there was time for, or that a limit allowed. One process: far slower than the "
    )
    caption += "fastest way, or never repeated; an interval of these is within one process."
    return table(
        slug("spreads", scope.machine, scope.device), caption, ordered(rows.assign(way="")), columns, "spreads"
    )


def _processes(row: Any) -> Text:
    differ = row.least_processes < row.most_processes
    return Text(f"{row.median_processes:g}", f"{row.least_processes} to {row.most_processes}" if differ else "")


def conditions_table(scope: Scope, each: Frame, groups: Frame) -> Table:
    """What the processes of the trials found, and in how many it differed."""
    trials = each.drop_duplicates([*PLACE, "process"])
    faults = each["faults"].dropna().astype(float)
    differ = int(groups["fault_correlation"].notna().sum())
    rows = [("page faults per call", *_range(faults, show.significant), f"{differ} of {_cells(len(groups))}")]
    for name, (told, say) in SHOWN.items():
        values = trials[name].dropna().astype(float)
        rows.append((told, *_range(values, say), _differing(trials, name)))
    chosen = sorted({str(name) for name in trials["allocator"].dropna()})
    rows.append(("allocator", wording.listed(chosen) if chosen else show.DASH, "", "", _differing(trials, "allocator")))
    head = ["what", "least", "middle", "most", "differed"]
    columns = {"quantity": lambda row: row.what, "least": lambda row: row.least, "median": lambda row: row.middle}
    columns |= {"most": lambda row: row.most, "differed between processes in": lambda row: row.differed}
    caption = (
        f"What the processes of the same trials found, {scope.label}, over all trials and processes; faults, over "
    )
    caption += (
        "their ways too, and counted as different from one page per call on. Keep, of the allocator: large blocks "
    )
    caption += "of memory are kept, as in a process that has run for a while."
    return table(slug("processes", scope.machine, scope.device), caption, framed(rows, head), columns, "processes")


def _range(values: Frame, say: Any) -> tuple[str, str, str]:
    if not len(values):
        return show.DASH, show.DASH, show.DASH
    return say(values.min()), say(values.median()), say(values.max())


def _differing(trials: Frame, name: str) -> str:
    counts = trials.groupby(PLACE, sort=False)[name].nunique()
    return f"{int((counts > 1).sum())} of {show.plural(len(counts), 'trial')}"


def with_faults(groups: Frame) -> str:
    """In which cells a call takes longer in processes in which it needs more pages anew."""
    known = groups[groups["fault_correlation"].notna()]
    if not len(known):
        return "In no cell do the page faults per call differ between processes by a page or more."
    up, down = known[known["fault_correlation"] >= STRONG], known[known["fault_correlation"] <= -STRONG]
    text = (
        f"Page faults per call differ between processes in {len(known)} of {_cells(len(groups))}. The time goes with "
    )
    text += (
        f"them, by a rank correlation of {STRONG:g} or more, in {len(up) or 'none'}{_named(up)}; and against them, as "
    )
    return text + f"only chance would have it, in {len(down) or 'none'}."


def in_two(groups: Frame) -> str:
    """In which cells the ratio takes one of two values."""
    groups = groups[~groups["baseline"].astype(bool)]
    split = groups[groups["gap"].notna()]
    text = f"The ratios of one cell's processes fall into two groups, over {100 * processes.WIDE:g} % and "
    text += f"{processes.APART:g} times as far apart as either is wide, in {len(split) or 'none'} of "
    return text + f"{_cells(len(groups))}{_named(split)}; of 6 values chance splits some 1 to 3 in 100 so."


def _cells(count: int) -> str:
    return show.plural(count, "cell")


def _named(rows: Frame) -> str:
    if not len(rows):
        return ""
    names = [f"{row.way} on {row.problem} in {row.dtype}" for row in rows.head(FEW).itertuples(index=False)]
    more = len(rows) - len(names)
    return f" ({'; '.join(names)}{f'; and {more} more' if more else ''})"


def independence(each: Frame) -> str:
    """Whether processes follow each other by chance, as the intervals between them suppose."""
    found = processes.dependence(each)
    if math.isnan(found):
        return ""
    text = (
        "The intervals between processes suppose that these do not depend on each other. The lag-1 autocorrelation of "
    )
    text += (
        f"the log ratios over a cell's processes, in the order of their time, is {show.signed(f'{found:.2f}')}, all "
    )
    return text + "cells together, where independent ones would show about 0."


def lost(data: StudyData) -> str:
    """How many processes ended without having timed a trial, and why."""
    reasons = [repeat.reason for record in data.records for repeat in record.trial.repeats if repeat.reason]
    if not reasons:
        return ""
    count = show.plural(len(reasons), "repeat")
    return f"{count} of a trial in a further process ended without a time; one reason: {reasons[0]}."


def notes_of_columns() -> Iterator[tuple[str, str]]:
    """What the columns on why a cell's timing ended mean."""
    for end in processes.ENDS:
        yield f"ended_{end}", f"cells of several processes whose `ended` is {end}"


SECTION = Section(
    "processes",
    "What differs between processes",
    per_scope(part),
    frames,
    intro="The first process of a trial validates and times it; fresh processes, spread over the study, time it again "
    "by the same plan: five, and more until the interval between them decides or is narrow, unless time is over.",
    empty="Every trial was timed in one process alone: no interval on this page is between processes.",
    files={
        "processes": "One row per trial, process and way.",
        "spreads": "Spread between and within processes, and why no further one was needed.",
        "process_groups": "One row per cell of several processes: whether its times go with page faults, or make two "
        "groups.",
    },
    columns={
        "process": "which of the trial's processes, in the order of their time; 1 validated it",
        "steal": "share of the processors' time that other machines on the same hardware took, meanwhile",
        "mhz": "clock of the processors in MHz, in the mean, when the trial had been timed",
        "preempted": "how often the process lost its core meanwhile",
        "allocator": "keep: large blocks of memory are kept by the process; default: as the library has it",
        "started": "when the process began with the trial, UTC",
        "least_faults": "least page faults per call of any process",
        "most_faults": "most page faults per call of any process",
        "fault_correlation": "rank correlation (Spearman) of the seconds with the page faults per call over processes; "
        "empty where these differ by less than a page",
        "gap": "how far the two groups lie apart into which the processes' log ratios fall; empty where they do not",
        "several": "cells that several processes timed",
        "least_processes": "the fewest processes of a cell",
        "median_processes": "the median number of processes of a cell",
        "most_processes": "the most processes of a cell",
        **dict(notes_of_columns()),
    },
)
