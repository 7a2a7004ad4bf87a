"""Plans: which runs of layers the planner merged, and what that brought."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from numpy import where

from analysis.data.frames import Frame, dtypes_in_order, framed, ordered, problems_in_order
from analysis.data.records import PLACE, Record, Records
from analysis.data.speedups import control_log_ratio
from analysis.data.study_data import Scope, StudyData
from analysis.report import extremes, wording
from analysis.report import formatting as show
from analysis.report.section import Content, Frames, Section, per_scope
from analysis.report.sections.speed import VERDICTS_READ, intervals
from analysis.report.tables import Table, Text, slug, table
from linear_lasagna.timing import compare, log_ratio

MEASURED, COUNTED = "planned/direct", "planned_operations/direct"
MERGED = ("merged/direct", "border_exact/direct")
PLANS = [
    *PLACE,
    "way",
    "runs",
    "depth",
    "seconds",
    "stacked_seconds",
    "merged_seconds",
    "against",
    "ratio",
    "ratio_lower",
    "ratio_upper",
    "verdict",
    "processes",
    "blocks",
]


def plans(records: Records) -> Frame:
    """One row per planned way of a trial. runs: "0–1, 2": the layers from 0, merged ones joined by a dash.

    ratio: time / that of the faster of the stack and the stack merged, which `against` names; merged_seconds is NaN
    where the whole stack was not merged.
    """
    return framed([row for record in records for row in _plans(record)], PLANS)


def _plans(record: Record) -> Iterator[tuple[Any, ...]]:
    trial, timings, timed = record.trial, record.timings, record.trial.timing().samples
    merged = next((way for way in MERGED if way in timed), None)
    if trial.baseline not in timed:
        return
    against = merged if merged and log_ratio(timings, merged, trial.baseline) < 0 else trial.baseline
    for way in (MEASURED, COUNTED):
        runs = trial.cells[way].runs if way in timed else None
        if runs is not None:
            noise = abs(control_log_ratio(trial, timings))
            comparison = compare(timings, against, control=None, noise=noise, only={way})[way]
            seconds = [trial.seconds(w) if w else math.nan for w in (way, trial.baseline, merged)]
            result = (comparison.ratio, comparison.lower, comparison.upper, comparison.verdict)
            result += (comparison.processes, comparison.blocks)
            yield (*record.place.values(), way, _text(runs), trial.problem.depth, *seconds, against, *result)


def _text(runs: list[list[int]]) -> str:
    return ", ".join(str(start) if stop == start + 1 else f"{start}–{stop - 1}" for start, stop in runs)


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    rows = frames["plans"]
    return Content(tables=(plan_table(scope, rows),)) if (rows["way"] == MEASURED).any() else None


def plan_table(scope: Scope, rows: Frame) -> Table:
    """What was merged, and what that brought, beside the stack and the stack merged as a whole."""
    rows = rows.assign(same=itself(rows))
    counted = {_key(row): row for row in rows[rows["way"] == COUNTED].itertuples(index=False)}
    measured = by_problem(rows[rows["way"] == MEASURED])
    columns = {
        "problem": lambda row: row.problem,
        "dtype": lambda row: row.dtype,
        "plan": lambda row: _runs(row),
        "stacked": lambda row: show.seconds(row.stacked_seconds),
        "merged": lambda row: show.seconds(row.merged_seconds),
        "planned": lambda row: show.seconds(row.seconds),
        "speedup": lambda row: against(row, row.same),
        "by operations": lambda row: against(other := counted.get(_key(row)), other is not None and other.same),
    }
    caption = f"Which runs of layers `{MEASURED}` merged, {scope.label}: layers are counted from 0, merged ones "
    caption += (
        "joined by a dash. Speedup over the faster of the stack and the stack merged as a whole; the last column: "
    )
    caption += (
        f"the same for `{COUNTED}`, which counts instead of timing; “same call”: its plan is what it is compared "
    )
    caption += f"with. Speedups are of calls timed one after another, not of the times shown. {intervals(rows)} "
    caption += VERDICTS_READ
    return table(slug("plans", scope.machine, scope.device), caption, measured, columns, "plans", (0, 1, 2))


def _key(row: Any) -> tuple[str, str, str]:
    return row.group, row.problem, row.dtype


def _runs(row: Any) -> Text:
    if row.runs == f"0–{row.depth - 1}":
        return Text("all merged")
    return Text(row.runs if "–" in row.runs else "nothing merged", kind="" if "–" in row.runs else "zero")


def against(row: Any, same: bool = False) -> Text:
    """same: it is compared with itself, so that no verdict but a tie is true."""
    if row is None:
        return Text(show.DASH)
    ends = (1 / row.ratio_upper, 1 / row.ratio_lower)
    interval = show.interval(1 / row.ratio, *ends)
    if same and row.verdict in ("faster", "slower"):
        return Text(show.number(1 / row.ratio, *ends), f"{interval} same call", "zero", row.verdict)
    return Text(show.number(1 / row.ratio, *ends), interval, row.verdict, row.verdict)


def by_problem(rows: Frame) -> Frame:
    order = {name: place for place, name in enumerate(problems_in_order(rows["problem"]))}
    return ordered(rows).assign(_order=rows["problem"].map(order)).sort_values("_order", kind="stable")


def main_dtype(rows: Frame) -> str | None:
    """float32, or else the widest dtype that there is."""
    present = dtypes_in_order(rows["dtype"])
    return "float32" if "float32" in present else (present[-1] if present else None)


def itself(rows: Frame) -> Frame:
    """Whether a plan is the very call that it is compared with: it merges nothing, or everything. No verdict is true of
    it.
    """
    whole = rows["runs"] == "0–" + (rows["depth"] - 1).astype(str)
    return where(rows["against"].isin(MERGED), whole, ~rows["runs"].str.contains("–"))


def slower(counted: Frame) -> str:
    """As in "2 of 23 (1 more is called slower falsely: …)"."""
    lost = counted["verdict"] == "slower"
    false = int((lost & itself(counted)).sum())
    text = f"{int(lost.sum()) - false} of {len(counted)}"
    if not false:
        return text
    told = "is called slower falsely: its plan is" if false == 1 else "are called slower falsely: their plans are"
    return f"{text} ({false} more {told} the very call that it is compared with)"


def headline(data: StudyData, frames: Frames) -> str:
    """How planned stacks do against the better of stacked and merged."""
    rows = frames["plans"]
    dtype = main_dtype(rows)
    measured = rows[(rows["dtype"] == dtype) & (rows["way"] == MEASURED)]
    if not len(measured):
        return ""
    counts = measured.loc[~itself(measured), "verdict"].value_counts()
    text = f"In {dtype}, {show.of_these(len(measured), 'stack')}, merging only the runs of layers that were "
    text += f"measured to pay (`{MEASURED}`) is, {wording.by_intervals(measured)}, "
    text += f"faster on {counts.get('faster', 0)} and slower on {counts.get('slower', 0)} than the stack as it is or "
    text += "merged as a whole, whichever took less time"
    best = extremes.most(measured, "faster")
    text += f": {best}" if best else ""
    counted = rows[(rows["dtype"] == dtype) & (rows["way"] == COUNTED)]
    if len(counted):
        text += f". Runs chosen by operation count are slower on {slower(counted)}"
    return f"{text}."


SECTION = Section(
    "plans",
    "Plans: which layers to merge",
    per_scope(part),
    lambda data: {"plans": plans(data.judged)},
    intro="A stack need not be merged as a whole or not at all: the planner cuts it into runs, and merges each. It "
    "times every run that is worth it once, adds up, and lets its plan, the plan by operation count, the stack and the "
    "stack merged run against each other; a plan must then be faster by over 2 % to be chosen.",
    empty="Nothing was planned.",
    headlines={"Plans": headline},
    files={"plans": "One row per planned way of a trial, against the faster of stacked and merged."},
    columns={
        "runs": "the layers from 0 as the plan cuts them; merged ones are joined by a dash",
        "stacked_seconds": "seconds per call of the unmerged stack",
        "merged_seconds": "seconds per call of the stack merged as a whole; empty where it was not timed",
        "against": "the faster of the two, with which the planned way is compared: ratio is time / its time",
    },
)
