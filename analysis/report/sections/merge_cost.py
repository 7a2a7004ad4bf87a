"""What merging a stack's kernels costs, and after how many calls it has paid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from analysis.data.frames import Frame, ordered, problems_in_order
from analysis.data.study_data import Scope, StudyData
from analysis.report import formatting as show
from analysis.report.section import Content, Frames, Section, per_scope
from analysis.report.sections.speed import intervals
from analysis.report.tables import Table, Text, slug, table

RATIO = ["ratio", "ratio_lower", "ratio_upper", "processes", "blocks"]


def merging(speedups: Frame) -> Frame:
    """What merging costs: one row per problem, dtype and merge. calls: the merge's time in calls of the unmerged stack.

    break_even: calls after which a kernel merged once has paid, where merging makes the stack faster by verdict.
    """
    keys = ["machine", "problem", "dtype", "device"]
    ways = {"merge_float64": "merged/direct", "merge_working": "merged_working/direct"}
    merges = speedups[(speedups["group"] == "merging") & speedups["way"].isin(ways)]
    merges = merges[[*keys, "way", "seconds", "baseline_seconds", *RATIO]]
    calls = speedups[(speedups["group"] == "stacks") & speedups["way"].isin(ways.values())]
    calls = calls[[*keys, "way", "ratio", "verdict"]].rename(columns={"ratio": "call_ratio"})
    rows = merges.assign(merged=merges["way"].map(ways)).merge(
        calls.rename(columns={"way": "merged"}), on=[*keys, "merged"], how="left"
    )
    pays = rows["verdict"] == "faster"
    rows["break_even"] = (rows["ratio"] / (1 - rows["call_ratio"])).where(pays)
    return rows.drop(columns="merged")


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    return Content(tables=(merging_table(scope, frames["merging"]),)) if len(frames["merging"]) else None


def merging_table(scope: Scope, rows: Frame) -> Table:
    """What merging the kernels costs, in calls of the unmerged stack, and when it has paid."""
    rows = ordered(rows)
    order = {name: place for place, name in enumerate(problems_in_order(rows["problem"]))}
    rows = rows.assign(_order=rows["problem"].map(order)).sort_values("_order", kind="stable")
    ends = ("ratio_lower", "ratio_upper")
    columns: Mapping[str, Any] = {
        "problem": lambda row: row.problem,
        "dtype": lambda row: row.dtype,
        "merge": lambda row: row.way,
        "time of a merge": lambda row: show.seconds(row.seconds),
        "calls of the stack": lambda row: Text(
            show.number(row.ratio, *(getattr(row, end) for end in ends)),
            show.interval(row.ratio, *(getattr(row, end) for end in ends)),
        ),
        "pays after": lambda row: _break_even(row),
    }
    caption = f"The time to merge a stack's kernels, in calls of the unmerged stack, {scope.label}; and after how "
    caption += f"many calls one merge has paid, where the merged stack is faster by verdict. {intervals(rows)}"
    return table(slug("merging", scope.machine, scope.device), caption, rows, columns, "merging", (0, 1, 2))


def _break_even(row: Any) -> Text:
    if row.break_even == row.break_even:
        return Text(show.plural(math.ceil(row.break_even), "call"))
    verdict = row.verdict if isinstance(row.verdict, str) else ""
    reasons = {"slower": "never", "tie": "never", "undecided": "undecided"}
    return Text(reasons.get(verdict, show.DASH), kind="zero")


SECTION = Section(
    "merging",
    "What merging costs",
    per_scope(part),
    lambda data: {"merging": merging(data.speedups)},
    intro="A stack is merged once and then used often, or merged anew for every call, as in training. "
    "This is the time of the merge alone.",
    empty="No merge was timed.",
    files={"merging": "What merging a stack's kernels costs."},
    columns={
        "call_ratio": "time of the merged call / time of the stack's call",
        "break_even": "calls after which one merge has paid; empty where merging is not faster by verdict",
    },
)
