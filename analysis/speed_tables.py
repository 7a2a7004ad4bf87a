"""The tables of time, memory and errors of the trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis import formatting as show
from analysis import statistics
from analysis.findings import Findings, Scope
from analysis.frames import Frame
from analysis.style import dtypes_in_order, problems_in_order, ways_in_order
from analysis.tables import Table, Text, table

INTERVALS = "In brackets: 95 % interval for the median over blocks."
VERDICTS_READ = "Bold: faster. Plain: slower. “=”: tie. “?”: undecided."


def slug(*parts: str) -> str:
    """An anchor from names."""
    return "-".join("".join(c if c.isalnum() else "-" for c in part).strip("-") for part in parts).lower()


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
        rows = tuple(
            (Text(problem), Text(baselines.get(problem, show.DASH)), *(shown.get((problem, w), Text("")) for w in ways))
            for problem in problems_in_order(here["problem"])
        )
        baseline = ways_in_order(here.loc[here["baseline"], "way"])
        caption = (
            f"Speedup over {_named(baseline)}, {group}, {dtype}, {findings.label(scope)}; n = {len(rows)} problems. "
        )
        name = slug("speedups", group, scope.machine, scope.device, dtype)
        head = ("problem", "baseline's time", *ways)
        yield Table(name, caption + f"{INTERVALS} {VERDICTS_READ}", head, rows, "speedups")


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
        **{verdict: _count(verdict) for verdict in statistics.VERDICTS},
    }
    caption = f"Speedups over the problems of {group}, {findings.label(scope)}, and how often each verdict fell. "
    caption += "Least and most are the range over problems, not an interval."
    return table(slug("summary", group, scope.machine, scope.device), caption, rows, columns, "summary", (0, 1))


def _count(column: str) -> Any:
    return lambda row: Text(str(getattr(row, column)), kind="" if getattr(row, column) else "zero")


def ordered(rows: Frame) -> Frame:
    """By dtype and way in the suite's order."""
    ways = {way: place for place, way in enumerate(ways_in_order(rows["way"]))}
    dtypes = {dtype: place for place, dtype in enumerate(dtypes_in_order(rows["dtype"]))}
    keys = rows.assign(_dtype=rows["dtype"].map(dtypes), _way=rows["way"].map(ways))
    by = [name for name in ("group", "machine", "device") if name in rows]
    return keys.sort_values([*by, "_dtype", "_way"], kind="stable").drop(columns=["_dtype", "_way"])


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
    name = slug("totals", scope.machine, scope.device)
    return table(name, caption + INTERVALS, rows, columns, "totals", (0, 1, 2))


def _total_speedup(row: Any) -> Text:
    ends = (row.speedup_lower, row.speedup_upper)
    return Text("1") if row.baseline else Text(show.number(row.speedup, *ends), show.interval(row.speedup, *ends))


def wins(findings: Findings, scope: Scope) -> Table:
    """Where each way is fastest alone, or among the fastest."""
    rows = ordered(statistics.wins(scope.of(findings.winners), ["group", "dtype"]))
    columns = {
        "group": lambda row: row.group,
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way or Text("no single fastest way", kind="undecided-way"),
        "fastest alone": lambda row: _share(row.alone, row.trials),
        "among the fastest": lambda row: _share(row.among, row.trials) if row.way else Text(""),
        "problems": lambda row: str(row.trials),
    }
    caption = (
        f"On how many problems each way is fastest, {findings.label(scope)}. Alone: faster than every other way by "
    )
    caption += "verdict. Among the fastest: not slower, by verdict, than the one with the least time."
    return table(slug("wins", scope.machine, scope.device), caption, rows, columns, "wins", (0, 1, 2))


def _share(count: int, of: int) -> Text:
    return Text(str(count), f"{100 * count / of:.0f} %", "" if count else "zero")


def costs(findings: Findings, scope: Scope) -> Table:
    """Error and memory per group, dtype and way."""
    rows = scope.of(findings.costs)
    grouped = rows.groupby(["group", "dtype", "way"], sort=True)
    found = grouped.agg(
        trials=("way", "size"),
        error=("error_u", "median"),
        most_error=("error_u", "max"),
        memory=("peak_ratio", "median"),
        most_memory=("peak_ratio", "max"),
        best=("best", "sum"),
    ).reset_index()
    columns = {
        "group": lambda row: row.group,
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way,
        "trials": lambda row: str(row.trials),
        "error, median (u)": lambda row: show.significant(row.error),
        "error, largest (u)": lambda row: show.significant(row.most_error),
        "memory, median": lambda row: show.significant(row.memory),
        "memory, largest": lambda row: show.significant(row.most_memory),
        "not bettered in both": lambda row: _share(row.best, row.trials),
    }
    caption = (
        f"Relative L2 error in units of u, and memory as a multiple of the baseline's, {findings.label(scope)}. Last "
    )
    caption += "column: on how many problems no other way has both a smaller time and a smaller error (by estimates)."
    name = slug("costs", scope.machine, scope.device)
    return table(name, caption, ordered(found), columns, "costs", (0, 1, 2))


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
        return Text(f"{show.significant(row.break_even)} calls")
    verdict = row.verdict if isinstance(row.verdict, str) else ""
    reasons = {"slower": "never", "tie": "never", "undecided": "undecided"}
    return Text(reasons.get(verdict, show.DASH), kind="zero")
