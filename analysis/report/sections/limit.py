"""The limit: how much of what the machine can attain every way makes of it, with a roofline per dtype."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.data import limits
from analysis.data.frames import Frame, dtypes_in_order, ordered, ordered_by_dtype, problems_in_order, ways_in_order
from analysis.data.limits import PRODUCT, UNITS
from analysis.data.study_data import Scope, StudyData
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import Drawing, decimal_ticks, facets, key, legend, marks, styled
from analysis.report.section import Content, Frames, Plot, Section, per_scope, placed, plot
from analysis.report.style import INK
from analysis.report.tables import Table, Text, slug, table
from linear_lasagna.catalog import CATALOG
from linear_lasagna.roofline import MEMORY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENOUGH = 0.6  # of what is attainable
NETWORK, TAPS = "resnet50/", 9


def frames(data: StudyData) -> Frames:
    found = limits.ceilings(data.records)
    return {"ceilings": found, "limits": limits.limits(data.judged, limits.of_spots(found))}


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    found, rows = frames["ceilings"], frames["limits"]
    if not len(rows):
        return None
    tables = [ceiling_table(scope, found), way_table(scope, rows)]
    tables += [problem_table(group, scope, rows[rows["group"] == group]) for group in data.groups]
    return Content((_plot(scope, found, _main(rows)),), tuple(each for each in tables if each.rows), above(rows))


def _main(rows: Frame) -> Frame:
    """Those that compute in the dtypes that a figure shows."""
    return rows[rows["computed_in"].isin(wording.main_dtypes(rows["computed_in"]))]


def above(rows: Frame) -> str:
    """What lies above its ceiling, and why it may."""
    over = rows[rows["above"] != ""]
    told = f"Without sweeps and the like, {len(over) or 'none'} of {show.plural(len(rows), 'cell')} "
    told += f"{'lies' if len(over) < 2 else 'lie'} above "
    told += "the ceiling, by the interval of the times alone"
    if not len(over):
        return f"{told}."
    counts = over["above"].value_counts(sort=False).sort_index()
    most = over.loc[over["share"].idxmax()]
    told += f", by {show.times(most['share'])} at most (`{most['way']}` on {most['problem']} in {most['dtype']}). "
    return told + f"Possible reasons: {'; '.join(f'{text} ({count})' for text, count in counts.items())}."


def _plot(scope: Scope, found: Frame, rows: Frame) -> Plot:
    drawn = _drawn(rows)
    best = drawn.loc[drawn["share"].idxmax()]
    problems = drawn["computed_in"].value_counts()
    caption = f"Roofline, {scope.label}, one panel per dtype; one mark per problem: the fastest of the ways shown, by "
    caption += f"estimate; n = {_counted(problems)}. Across: the way's own operations per byte "
    caption += "that any way must move (input, kernels and output once); up: operations per second. Line: what a copy "
    caption += "in memory and the best matrix product attain here, each the median over processes; dotted: copies in "
    caption += "caches. Hollow: the data fit a cache, whose line then holds. Up is better; both axes are logarithmic. "
    caption += "Possible reasons for marks above the line are in the text."
    caption += choosing.others(rows, "The CSV has", _won_of(rows))
    alt = "Scatter plots on logarithmic axes below a roof. The largest share of what is attainable is "
    alt += f"{show.percent(best['share'])}, of {best['way']} on {best['problem']} in {best['dtype']}."
    return plot(slug("fig-limit", scope.machine, scope.device), caption, alt, "limits", figure(found, rows))


def _counted(problems: Frame) -> str:
    """As in "80 problems in float32 and 48 in bfloat16". problems: how many by dtype."""
    first, *others = dtypes_in_order(problems.index)
    parts = [f"{show.plural(int(problems[first]), 'problem')} in {first}"]
    return wording.listed([*parts, *(f"{problems[dtype]} in {dtype}" for dtype in others)])


@styled
def figure(found: Frame, rows: Frame) -> Drawing:
    """One panel per dtype that is computed in. found: `limits.ceilings`; rows: `limits.limits`, both of one scope."""
    rows = _drawn(rows)
    dtypes, ways = dtypes_in_order(rows["computed_in"]), ways_in_order(rows["way"])
    drawing, panels = facets(dtypes, 170.0)
    for panel, dtype in zip(panels, dtypes, strict=True):
        of_dtype = rows[rows["computed_in"] == dtype]
        for way in ways:
            for cached in (False, True):
                drawn = of_dtype[(of_dtype["way"] == way) & ((of_dtype["held_by"] != MEMORY) == cached)]
                titles = map(_said, drawn.to_dict("records"))
                marks(panel, drawn["intensity"], drawn["gflops"], titles, way, not cached, 4.6)
        _roof(panel, found[found["dtype"] == dtype], of_dtype)
    legend(drawing, ways, [key("memory and product", line="-"), key("a cache", line=":")])
    drawing.handles.append(key("data fit a cache", marker="o", filled=False))
    return drawing


def _drawn(rows: Frame) -> Frame:
    """Of every problem and dtype the fastest of the chosen ways."""
    return limits.fastest(rows[rows["way"].isin(choosing.chosen(rows, _won_of(rows)))])


def _won_of(rows: Frame) -> dict[str, float]:
    """On how many problems each way is the fastest."""
    return limits.fastest(rows)["way"].value_counts().to_dict()


def _said(row: Any) -> str:
    place = f"{row['problem']}, {row['dtype']}, {row['way']}"
    return f"{place}: {show.significant(row['gflops'])} GFLOP/s, {show.percent(row['share'])} of what is attainable"


def _roof(panel: Axes, found: Frame, rows: Frame) -> None:
    intensities = rows["intensity"]
    rates = {row.ceiling: row.rate for row in found.itertuples(index=False)}
    left, right = intensities.min() / 1.5, intensities.max() * 1.5
    top = rates[PRODUCT]
    for place, rate in rates.items():
        if place not in UNITS:
            ridge = min(max(top / rate, left), right)
            style = "-" if place == MEMORY else ":"
            panel.plot([left, ridge, right], [left * rate, ridge * rate, top], style, color=INK, linewidth=0.9)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(left, right)
    panel.set_ylim(rows["gflops"].min() / 1.5, 1.5 * max(top, rows["gflops"].max()))
    decimal_ticks(panel.xaxis)
    decimal_ticks(panel.yaxis)
    panel.grid(axis="both")
    panel.set_xlabel("operations / byte")
    panel.set_ylabel("GFLOP/s")


def ceiling_table(scope: Scope, found: Frame) -> Table:
    columns = {
        "dtype": lambda row: row.dtype,
        "ceiling": lambda row: row.ceiling if row.ceiling in UNITS else f"copy, {row.ceiling}",
        "by": lambda row: row.by,
        "rate": lambda row: _rate(row.rate, row.rate_lower, row.rate_upper, row.unit),
        "processes": lambda row: str(row.processes),
    }
    caption = f"What is attainable, {scope.label}: medians over the processes that measured it, in each over a few "
    caption += "visits. In brackets: 95 % interval between processes. Copies count the bytes read and written."
    name = slug("ceilings", scope.machine, scope.device)
    return table(name, caption, ordered_by_dtype(found), columns, "ceilings", (0, 1, 2))


def _rate(value: float, lower: float, upper: float, unit: str) -> Text:
    return Text(f"{show.number(value, lower, upper)} {unit}", show.interval(value, lower, upper))


def way_table(scope: Scope, rows: Frame) -> Table:
    """Shares over all problems, per dtype and way."""
    summary = rows.groupby(["dtype", "way"], sort=False).agg(
        cells=("share", "size"),
        median=("share", "median"),
        least=("share", "min"),
        most=("share", "max"),
        gflops=("gflops", "max"),
        above=("above", lambda texts: int((texts != "").sum())),
    )
    columns = {
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way,
        "cells": lambda row: str(row.cells),
        "median share": lambda row: show.percent(row.median),
        "least": lambda row: show.percent(row.least),
        "most": lambda row: show.percent(row.most),
        "most GFLOP/s": lambda row: show.significant(row.gflops),
        "above its ceiling": lambda row: str(row.above),
    }
    caption = f"Shares of what is attainable, over all problems, {scope.label}. Operations are the way’s own: a "
    caption += "transform does fewer, a merged stack others than its layers; merging itself is not counted. The "
    caption += "problems are a list, no sample."
    name = slug("limits", scope.machine, scope.device)
    return table(name, caption, ordered(summary.reset_index()), columns, "limits", (0, 1))


def problem_table(group: str, scope: Scope, rows: Frame) -> Table:
    """The fastest way of every problem of a group, for papers."""
    order = {name: place for place, name in enumerate(problems_in_order(rows["problem"]))}
    best = limits.fastest(rows) if len(rows) else rows
    best = ordered_by_dtype(best.assign(_order=best["problem"].map(order)).sort_values("_order", kind="stable"))
    columns = {
        "dtype": lambda row: row.dtype,
        "problem": lambda row: row.problem,
        "fastest way": lambda row: row.way,
        "GFLOP/s": lambda row: show.significant(row.gflops),
        "GB/s": lambda row: show.significant(row.gbytes_per_s),
        "limited by": lambda row: Text(row.limit, "" if row.held_by == MEMORY else f"in {row.held_by}"),
        "share": _share,
    }
    caption = (
        f"The fastest way by estimate, {group}, {scope.label}, and its share of what is attainable; of all ways in "
    )
    caption += "the CSV. GB/s: of the least bytes that any way must move. In brackets: 95 % interval for the median of "
    caption += f"times, {wording.process_kind(best['processes'])}. “in L2”: the data fit that cache."
    name = slug("limits", group, scope.machine, scope.device)
    found = table(name, caption, best, columns, "limits", (0, 1, 2, 5))
    return replace(found, apart=placed(scope, f"the fastest ways of {group}"))


def _share(row: Any) -> Text:
    values = (100 * row.share, 100 * row.share_lower, 100 * row.share_upper)
    return Text(f"{show.number(*values)} %", show.interval(*values))


def headline(data: StudyData, frames: Frames) -> str:
    """The fastest way's share on ResNet-50's 3×3 layers."""
    rows = frames["limits"]
    layers = rows[(rows["group"] == "networks") & rows["problem"].map(_is_3x3).astype(bool)]
    if not len(layers):
        return ""
    best = limits.fastest(layers)
    parts = [f"in {dtype} {_together(best[best['dtype'] == dtype])}" for dtype in wording.main_dtypes(best["dtype"])]
    text = "The fastest ways of ResNet-50’s 3×3 layers, all together, reach of what a matrix product and a copy attain "
    return f"{text}here: {'; '.join(parts)}."


def _is_3x3(name: str) -> bool:
    return name.startswith(NETWORK) and name in CATALOG and CATALOG[name].expanded[0].taps == TAPS


def _together(rows: Frame) -> str:
    """The share of all layers' time, and by layer; what is under `ENOUGH`, with what limits it."""
    counts = rows["problem"].map(lambda name: CATALOG[name].occurrences)
    share = (counts * rows["attainable_seconds"]).sum() / (counts * rows["seconds"]).sum()
    text = f"{show.percent(share)} ({show.plural(len(rows), 'layer')} as often as they occur, each alone "
    least, most = (show.significant(100 * share) for share in (rows["share"].min(), rows["share"].max()))
    text += f"{least} % to {most} %; "
    under = rows[rows["share"] < ENOUGH].sort_values("share", kind="stable")
    if not len(under):
        return f"{text}none under {show.percent(ENOUGH)})"
    if len(under) == len(rows) > 1:
        return f"{text}all under {show.percent(ENOUGH)})"
    named = [f"{row.problem.removeprefix(NETWORK)} by `{row.way}`" for row in under.itertuples(index=False)]
    return f"{text}under {show.percent(ENOUGH)}: {wording.listed(named)})"


SECTION = Section(
    "limit",
    "How far from the limit?",
    per_scope(part),
    frames,
    intro="The limit of a call is the longest of three times: of its operations at the rate of the best matrix "
    "product, of the bytes of its input, kernels and output at the rate of a copy, and of its launches. All three "
    "rates are measured, in processes that time the trials, with the same switches and threads: a call may lie above "
    "them. A share is the limit / the time.",
    empty="No ceiling was measured, or no cell’s operations were counted: older records have neither.",
    headlines={"Limit": headline},
    files={
        "ceilings": "What is attainable on the machine: rates of products, copies and launches.",
        "limits": "One row per timed cell but the controls whose operations were counted, without the groups that have "
        "sections of their own: its rates, and its share of what is attainable.",
    },
    columns={
        "ceiling": "matrix product; memory, or a cache: a copy there; launch",
        "by": "what gave the rate; of the products the one that was fastest in most processes",
        "rate": "the median over processes, in `unit`",
        "rate_lower": "lower end of the 95 % interval for the rate, between processes; empty for fewer than 6",
        "rate_upper": "upper end of the same",
        "unit": "GFLOP/s, GB/s or µs",
        "operations": "floating-point operations of the way’s own algorithm; a multiply-accumulate is two",
        "computed_in": "the dtype of these operations",
        "least_bytes": "bytes of input, kernels and output, once each",
        "intensity": "operations / least_bytes",
        "gflops": "operations / seconds / 1e9",
        "gbytes_per_s": "least_bytes / seconds / 1e9",
        "held_by": "the smallest cache that holds the least bytes, else memory: whose copies limit the bytes",
        "limit": "what makes attainable_seconds the largest: operations, bytes or launches",
        "attainable_seconds": "seconds that the ceilings allow",
        "share": "attainable_seconds / seconds",
        "share_lower": "lower end of the share’s 95 % interval: of the seconds’ alone, the ceilings taken as they are",
        "share_upper": "upper end of the same",
        "above": "why the share may be over 1, where its interval is (or it is, without one)",
    },
)
