"""The tables of time, memory and errors of the trials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from analysis import formatting as show
from analysis import statistics
from analysis.findings import Findings, Scope
from analysis.frames import Frame, framed, ordered
from analysis.style import dtypes_in_order, problems_in_order, ways_in_order
from analysis.tables import Table, Text, count_of, slug, table

INTERVALS = "In brackets: 95 % interval for the median over blocks, within one process."
VERDICTS_READ = "Bold: faster. Plain: slower. “=”: tie. “?”: undecided; “n = …”: too few blocks for an interval."


def speedups(findings: Findings, group: str, scope: Scope) -> Iterator[Table]:
    """One table per dtype: a row per problem, a column per way."""
    cells = scope.of(findings.cells)
    cells = cells[(cells["group"] == group) & ~cells["control"]]
    found = scope.of(findings.speedups)
    found = found[found["group"] == group]
    for dtype in dtypes_in_order(cells["dtype"]):
        here, times = cells[cells["dtype"] == dtype], found[found["dtype"] == dtype]
        ways = ways_in_order(here.loc[~here["baseline"], "way"])
        shown = {(row.problem, row.way): _unmeasured(row) for row in here.itertuples(index=False)}
        shown |= {(row.problem, row.way): speedup_text(row) for row in times.itertuples(index=False)}
        baselines = {row.problem: show.seconds(row.baseline_seconds) for row in times.itertuples(index=False)}
        counts = _occurrences(findings, here["problem"])
        rows = tuple(
            (
                Text(problem, counts.get(problem, "")),
                Text(baselines.get(problem, show.DASH)),
                *(shown.get((problem, w), Text("")) for w in ways),
            )
            for problem in problems_in_order(here["problem"])
        )
        baseline = ways_in_order(here.loc[here["baseline"], "way"])
        caption = (
            f"Speedup over {_named(baseline)}, {group}, {dtype}, {findings.label(scope)}; n = {len(rows)} problems. "
        )
        name = slug("speedups", group, scope.machine, scope.device, dtype)
        head = ("problem", "baseline's time", *ways)
        yield Table(name, caption + f"{INTERVALS} {VERDICTS_READ}", head, rows, "speedups")


def _occurrences(findings: Findings, names: Frame) -> dict[str, str]:
    """How often a problem stands in its network, where that is more than once."""
    rows = findings.problems[findings.problems["problem"].isin(set(names))]
    return {row.problem: f"× {row.occurrences}" for row in rows.itertuples(index=False) if row.occurrences > 1}


def _named(ways: list[str]) -> str:
    return " or ".join(f"`{way}`" for way in ways) or "the baseline"


def speedup_text(row: Any) -> Text:
    """Speedup and interval; without an interval there were too few blocks."""
    ends = (row.speedup_lower, row.speedup_upper)
    interval = show.interval(row.speedup, *ends) or f"n = {row.blocks}"
    return Text(show.number(row.speedup, *ends), interval, row.verdict, row.verdict)


def _unmeasured(row: Any) -> Text:
    return Text("", kind="ok") if row.status == "ok" else Text(row.status, kind=row.status, note=row.reason)


def summary(findings: Findings, group: str, scope: Scope) -> Table:
    """Speedups over the group's problems, per dtype and way."""
    rows = scope.of(findings.speedups)
    rows = ordered(statistics.over_problems(rows[rows["group"] == group], ["dtype", "way"]))
    columns = {
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way,
        "problems": lambda row: str(row.problems),
        "geometric mean": lambda row: show.significant(row.geometric_mean),
        "median": lambda row: show.significant(row.median),
        "least": lambda row: show.significant(row.least),
        "most": lambda row: show.significant(row.most),
        **{verdict: count_of(verdict) for verdict in statistics.VERDICTS},
    }
    caption = f"Speedups over the problems of {group}, {findings.label(scope)}, and how often each verdict fell. "
    caption += (
        "Least and most are the range over problems with an interval, not an interval. The problems are a list, no "
    )
    caption += "sample: a share of them is no rate."
    return table(slug("summary", group, scope.machine, scope.device), caption, rows, columns, "summary", (0, 1))


def totals(findings: Findings, scope: Scope) -> Table:
    """Whole networks: the sum over layers of occurrences × median time."""
    rows = scope.of(findings.totals)
    rows = ordered(rows).sort_values("network", kind="stable")
    columns = {
        "network": lambda row: row.network,
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way,
        "layers": lambda row: f"{row.layers} of {row.catalogued}",
        "total time": lambda row: show.seconds(row.seconds),
        "speedup": lambda row: _total_speedup(row),
    }
    caption = (
        "All convolutions of a network: the sum over its distinct layers of occurrences × median time, for ways that "
    )
    caption += (
        f"were timed on every layer that was run, {findings.label(scope)}. Other work of the network is not in it. "
    )
    caption += "Speedup: the baseline's total / the way's. In brackets: 95 % interval by a bootstrap over blocks, each "
    caption += f"layer's drawn by themselves, for the ways were timed together in a layer alone. {VERDICTS_READ}"
    name = slug("totals", scope.machine, scope.device)
    return table(name, caption, rows, columns, "totals", (0, 1, 2))


def _total_speedup(row: Any) -> Text:
    ends = (row.speedup_lower, row.speedup_upper)
    if row.baseline:
        return Text("1")
    return Text(show.number(row.speedup, *ends), show.interval(row.speedup, *ends), row.verdict, row.verdict)


def wins(findings: Findings, scope: Scope) -> Table:
    """Where each way is fastest alone, or among the fastest: a row per group and dtype, a column per way."""
    rows = statistics.wins(scope.of(findings.winners), ["group", "dtype"])
    ways = ways_in_order(way for way in rows["way"] if way)
    shown = {(row.group, row.dtype, row.way): row for row in rows.itertuples(index=False)}
    columns: dict[str, Any] = {
        "group": lambda row: row.group,
        "dtype": lambda row: row.dtype,
        "problems": lambda row: str(row.trials),
        "no single way": lambda row: _won(shown.get((row.group, row.dtype, "")), alone_only=True),
    }
    for way in ways:
        columns[way] = lambda row, way=way: _won(shown.get((row.group, row.dtype, way)))
    caption = (
        f"On how many problems each way is fastest alone, {findings.label(scope)}: faster than every other way by "
    )
    caption += "verdict. After the stroke: among the fastest, not slower by verdict than the one with the least time."
    places = ordered(rows.assign(way="")[["group", "dtype", "trials", "way"]].drop_duplicates())
    return table(slug("wins", scope.machine, scope.device), caption, places, columns, "wins", (0, 1))


def _won(row: Any, alone_only: bool = False) -> Text:
    if row is None:
        return Text("")
    return Text(str(row.alone), "" if alone_only else f"/ {row.among}", "" if row.alone else "zero")


def costs(findings: Findings, group: str, scope: Scope) -> Table:
    """Error per dtype, and memory, of every way of a group."""
    rows = scope.of(findings.costs)
    rows = rows[rows["group"] == group]
    ways = framed([(way,) for way in ways_in_order(rows["way"])], ["way"])
    columns: dict[str, Any] = {"way": lambda row: row.way}
    for dtype in dtypes_in_order(rows["dtype"]):
        here = rows[rows["dtype"] == dtype].groupby("way")["error_u"].agg(["median", "max"])
        columns[f"error, {dtype} (u)"] = lambda row, here=here: _median_and_most(here, row.way)
    memory = rows.groupby("way")["peak_ratio"].agg(["median", "max"])
    best = rows.groupby("way")["best"].agg(["sum", "size"])
    columns["memory / baseline's"] = lambda row: _median_and_most(memory, row.way)
    columns["not bettered"] = lambda row: Text(str(best["sum"][row.way]), f"of {best['size'][row.way]}")
    caption = (
        f"Error and memory, {group}, {findings.label(scope)}: the median over problems, and in brackets the largest. "
    )
    caption += "Not bettered: trials in which no other way has both a smaller time and a smaller error, by estimates."
    return table(slug("costs", group, scope.machine, scope.device), caption, ways, columns, "costs")


def _median_and_most(frame: Frame, way: str) -> Text:
    if way not in frame.index:
        return Text("")
    median, most = (float(frame[name][way]) for name in ("median", "max"))
    return Text(show.significant(median), f"[{show.significant(most)}]" if median == median else "")


def merging(findings: Findings, scope: Scope) -> Table:
    """What merging the kernels costs, in calls of the unmerged stack, and when it has paid."""
    rows = ordered(scope.of(findings.merging))
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
    caption = (
        f"The time to merge a stack's kernels, in calls of the unmerged stack, {findings.label(scope)}; and after how "
    )
    caption += f"many calls one merge has paid, where the merged stack is faster by verdict. {INTERVALS}"
    return table(slug("merging", scope.machine, scope.device), caption, rows, columns, "merging", (0, 1, 2))


def _break_even(row: Any) -> Text:
    if row.break_even == row.break_even:
        return Text(show.plural(math.ceil(row.break_even), "call"))
    verdict = row.verdict if isinstance(row.verdict, str) else ""
    reasons = {"slower": "never", "tie": "never", "undecided": "undecided"}
    return Text(reasons.get(verdict, show.DASH), kind="zero")
