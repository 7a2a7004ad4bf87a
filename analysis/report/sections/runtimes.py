"""Other runtimes beside torch: time, memory, error and order of summation of the same layers, judged alike."""

from __future__ import annotations

import math
from typing import Any

from analysis.data import runtimes
from analysis.data.frames import Frame, problems_in_order, ways_in_order
from analysis.data.study_data import Scope, StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.section import Content, Frames, Section, per_scope
from analysis.report.sections.memory import MB
from analysis.report.sections.plans import main_dtype
from analysis.report.sections.speed import VERDICTS_READ, intervals
from analysis.report.tables import Table, Text, arranged, slug, table
from linear_lasagna.vocabulary import BASELINE

OTHER = 1.5  # times the baseline's is an error that differs from it
PREFIX = f"{runtimes.GROUP}/"


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    rows = frames["runtimes"]
    if not len(rows):
        return None
    timed = rows[(rows["status"] == "ok") & rows["seconds"].notna()]
    tables = [way_table(scope, rows)]
    if len(timed):
        tables.insert(0, cell_table(scope, timed))
    return Content((), tuple(tables), answer(timed), tuple(notes(rows)))


def cell_table(scope: Scope, rows: Frame) -> Table:
    """Every timed cell. rows: of one scope."""
    columns = {
        "dtype": lambda row: row.dtype,
        "problem": lambda row: _short(row.problem),
        "way": lambda row: row.way,
        "time": lambda row: show.seconds(row.seconds),
        f"time / {BASELINE}’s": _ratio,
        "memory": _memory,
        "error (u)": lambda row: show.significant(row.error_u),
        "accumulator": lambda row: row.accumulator or show.DASH,
        "order, as probed": _order,
    }
    caption = f"The same layers by all ways that can compute them, {scope.label}. {intervals(rows)} {VERDICTS_READ} "
    caption += "Memory: beyond input, kernel and output, by how much a fresh process grew during its first call, "
    caption += "compiled before; “<”: below what a call shows that needs none. Error: relative L2 against the exact "
    caption += "result. Accumulator: significand bits of the running sum. Order: in how many running sums the products "
    caption += "of an output are added, and how many the longest takes up, asked of this layer in the process that "
    caption += "timed it; fused: products are not rounded before they are added."
    name = slug("runtimes", scope.machine, scope.device)
    rows = arranged(rows, ["dtype", "problem", "way"])
    return table(name, caption, rows, columns, "runtimes", (0, 1, 2, 8))


def _short(problem: str) -> str:
    return problem.removeprefix(PREFIX)


def _ratio(row: Any) -> Text:
    if row.way == BASELINE:
        return Text("1")
    values = (row.ratio, row.ratio_lower, row.ratio_upper)
    return Text(show.number(*values), show.interval(*values), row.verdict)


def _memory(row: Any) -> str:
    if math.isnan(row.beyond_bytes):
        return show.DASH
    size = row.floor_bytes if row.below_floor else row.beyond_bytes
    return f"{'< ' if row.below_floor else ''}{show.significant(size / MB, 2)} MB"


def _order(row: Any) -> str:
    """As in "8 running sums of up to 72, fused"; a transform's says so."""
    parts = ["no sum of products" if row.order == "none" else row.order or show.DASH]
    parts += [row.products] if row.products in ("fused", "rounded") else []
    parts += [f"asked on {row.image}"] if row.image else []
    parts += ["as a transform"] if row.finding else []
    return ", ".join(parts)


def way_table(scope: Scope, rows: Frame) -> Table:
    """What computed every way, in which version, and why it did not. rows: of one scope."""
    shown = []
    for way in ways_in_order(rows["way"]):
        of_way = rows[rows["way"] == way]
        counts = of_way["status"].value_counts()
        told = "; ".join(dict.fromkeys(text for text in of_way["version"] if text)) or show.DASH
        shown.append((way, told, *(int(counts.get(status, 0)) for status in ("ok", "skipped", "failed")), _why(of_way)))
    columns = {
        "way": lambda row: row.way,
        "computed by": lambda row: row.version,
        "cells": lambda row: str(row.ok),
        "skipped": lambda row: str(row.skipped),
        "failed": lambda row: Text(str(row.failed), kind="failed" if row.failed else ""),
        "because": lambda row: row.why,
    }
    caption = f"What computed each way, {scope.label}, and why it did not compute some cells."
    name = slug("runtimes-ways", scope.machine, scope.device)
    frame = runtimes.framed(shown, ["way", "version", "ok", "skipped", "failed", "why"])
    return table(name, caption, frame, columns, "runtimes", (0, 1, 5))


def _why(rows: Frame) -> str:
    """Every reason once, with the dtypes that it is about where others were computed."""
    parts = []
    for reason, alike in rows[rows["reason"] != ""].groupby("reason", sort=False):
        dtypes = sorted(set(alike["dtype"]))
        parts.append(str(reason) if len(alike) == len(rows) else f"{wording.listed(dtypes)}: {reason}")
    return "; ".join(parts) or show.DASH


def answer(rows: Frame) -> str:
    """Which way is fastest where, and whose error differs, in the first of the dtypes that matter."""
    if not len(rows):
        return ""
    dtype = main_dtype(rows)
    of_dtype = rows[rows["dtype"] == dtype]
    fastest = of_dtype.loc[of_dtype.groupby("problem", sort=False)["seconds"].idxmin()]
    places = {name: place for place, name in enumerate(problems_in_order(fastest["problem"]))}
    fastest = fastest.sort_values("problem", key=lambda names: names.map(places), kind="stable")
    told = [f"`{row.way}` on {_short(row.problem)}{_against(row)}" for row in fastest.itertuples(index=False)]
    return f"In {dtype} the fastest is, by estimate, {wording.listed(told)}. {_errors(of_dtype)}"


def _against(row: Any) -> str:
    if row.way == BASELINE or math.isnan(row.ratio):
        return ""
    return f" ({show.times(row.ratio)} {BASELINE}’s time{f', {row.verdict}' if row.verdict else ''})"


def _errors(rows: Frame) -> str:
    """The ways whose error is another than the baseline's, with the problem on which it differs most."""
    baselines = rows[rows["way"] == BASELINE].set_index("problem")["error_u"]
    compared = rows[(rows["way"] != BASELINE) & rows["problem"].isin(baselines.index) & (rows["error_u"] > 0)]
    least, most = (show.significant(rows["error_u"].agg(end), 2) for end in ("min", "max"))
    text = f"Errors lie between {least} and {most} u"
    if not len(compared):
        return f"{text}."
    factors = compared["error_u"] / compared["problem"].map(baselines)
    compared = compared.assign(factor=factors, far=factors.map(lambda factor: abs(math.log(factor))))
    other = compared[compared["far"] > math.log(OTHER)]
    if not len(other):
        return f"{text}; no way’s differs from `{BASELINE}`’s by a factor of {OTHER:g}."
    furthest = other.loc[other.groupby("way", sort=False)["far"].idxmax()].set_index("way")
    told = [
        f"`{way}` ({show.times(furthest['factor'][way])} on {_short(furthest['problem'][way])})"
        for way in ways_in_order(furthest.index)
    ]
    return f"{text}; by over a factor of {OTHER:g} they differ from `{BASELINE}`’s for {wording.listed(told)}."


def notes(rows: Frame) -> list[str]:
    """What is odd about ways that passed."""
    found = rows[rows["finding"] != ""].drop_duplicates(["way", "finding"])
    return [f"{row.way} on {_short(row.problem)} in {row.dtype}: {row.finding}." for row in found.itertuples()]


def headline(data: StudyData, frames: Frames) -> str:
    rows = frames["runtimes"]
    return answer(rows[(rows["status"] == "ok") & rows["seconds"].notna()])


SECTION = Section(
    "runtimes",
    "Other runtimes",
    per_scope(part),
    lambda data: {"runtimes": runtimes.runtimes(data.records)},
    intro="Other libraries, and torch’s own compiler, compute the same layers from the same numbers, with as many "
    "threads (scipy_correlate: one), at full precision, timed in turn with torch in one process. They pass the same "
    "tests before and after. What they compile is compiled before they are timed; what takes numbers from torch to "
    "them and back is in the time.",
    empty="No other runtime was timed.",
    headlines={"Runtimes": headline},
    files={"runtimes": "One row per cell but the controls of the layers that other runtimes compute too."},
    columns={
        "version": "what computed the cell, with its version; empty where that is unknown",
        "beyond_bytes": "bytes beyond input, kernels and output",
        "accumulator": "significand bits of the running sum; empty where it was not asked",
        "order": "in how many running sums the products of an output are added, and how many the longest takes up; "
        "none: it adds up no products; unknown: no order gives its bits",
        "products": "fused: not rounded before they are added; rounded; exact: the accumulator holds any",
        "image": "the size of the image that was asked, where that was not the problem’s own",
        "note": "more about the answer",
    },
)
