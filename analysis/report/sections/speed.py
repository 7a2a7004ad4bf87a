"""Speed by group of problems: every way against the baseline, one section per group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, ordered, problems_in_order, ways_in_order
from analysis.data.speedups import VERDICTS, over_problems
from analysis.data.study_data import GROUPS, Scope, StudyData
from analysis.report import choosing, extremes, wording
from analysis.report import formatting as show
from analysis.report.drawing import (
    MARK,
    Drawing,
    between,
    by_dtype,
    compared,
    facets,
    key,
    legend,
    log_range,
    marks,
    rows_named,
    speedup_axis,
    styled,
    within,
)
from analysis.report.section import Content, Frames, Plot, Section, per_scope, placed, plot
from analysis.report.style import look
from analysis.report.tables import Table, Text, count_of, slug, table
from linear_lasagna import catalog, own
from linear_lasagna.vocabulary import MERGED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


DECIDED = ("faster", "slower")
FEW = 3  # problems; so few need no summary
BARE = 2.6  # points across, of a mark without an interval
MOST_NAMED = 4  # problems in a headline
VERDICTS_READ = f"{wording.VERDICTS}; “n = …”: too few processes, or blocks of a single one, for an interval."


def speed_section(
    group: str,
    tables: Callable[[Scope, Frames], Iterable[Table]] = lambda scope, frames: (),
    **rest: Any,
) -> Section:
    """The section on a group's speed. tables: of one scope, between its summary and speedups; rest: as `Section`."""

    def part(scope: Scope, data: StudyData, frames: Frames) -> Content:
        rows = data.speedups[data.speedups["group"] == group]
        plots = [_speedup_plot(group, scope, rows)] if len(rows[~rows["control"].astype(bool)]) else []
        shown = [summary_table(group, scope, rows)] if rows["problem"].nunique() > FEW else []
        shown += [*tables(scope, frames), *speedup_tables(data, group, scope)]
        return Content(tuple(plots), tuple(shown))

    return Section(
        group if group in GROUPS else slug("group", group),
        f"Speed: {catalog.title_of(group)}",
        per_scope(part),
        intro="A speedup is the baseline's time / the way's time: above 1 the way is faster.",
        empty=f"No trial of the group {group} was timed.",
        **rest,
    )


def intervals(rows: Frame) -> str:
    """What stands in brackets beside a time or a ratio of these cells. rows: with `processes`, and a ratio's ends."""
    known = with_interval(rows)
    kind = wording.process_kind(known["processes"])
    return f"In brackets: 95 % interval for the median over {over(known)}, {kind}." if len(known) else ""


def over(rows: Frame) -> str:
    """How many processes, or blocks of a single one, a median is over, as in "6 to 18 processes"."""
    several, single = rows[rows["processes"] > 1], rows[rows["processes"] == 1]
    spans = [wording.span(several["processes"], "process")] if len(several) else []
    if len(single):
        spans.append(wording.span(single["blocks"], "block") if "blocks" in single else "blocks of one")
    return " or ".join(spans)


def with_interval(rows: Frame) -> Frame:
    return rows[rows["ratio_lower"].notna()]


def _speedup_plot(group: str, scope: Scope, rows: Frame) -> Plot:
    every = rows[~rows["control"].astype(bool)]
    every = every[every["dtype"].isin(wording.main_dtypes(every["dtype"]))]
    ways = choosing.shown(every)
    known = ways[ways["speedup_lower"].notna()] if ways["speedup_lower"].notna().any() else ways
    best, worst = known.loc[known["speedup"].idxmax()], known.loc[known["speedup"].idxmin()]
    n = show.plural(ways["problem"].nunique(), "problem")
    caption = f"Speedup over the baseline, {group}, {scope.label}; n = {n}. Mark: median over {over(ways)}. Thin line: "
    caption += f"95 % interval for that median, {wording.process_kind(known['processes'])}; none: too few for one. "
    caption += "Thick: a standard deviation between the blocks of one process to either side. "
    caption += f"Right of 1: faster than the baseline.{choosing.others(every, 'The CSV has')}"
    caption += " Other dtypes are in the table of all results." if rows["dtype"].nunique() > 2 else ""
    alt = (
        f"Dots with intervals on a logarithmic axis, one row per problem of {group}, one panel per dtype. The largest "
    )
    alt += f"estimated speedup{'' if len(known) == len(ways) else ' with an interval'} is {_of_way(best)}; the least "
    alt += f"{_of_way(worst)}."
    name = slug("fig-speedups", group, scope.machine, scope.device)
    return plot(name, caption, alt, "speedups", figure(ways))


def _of_way(row: Any) -> str:
    return f"{show.significant(row['speedup'])}, of {row['way']} on {row['problem']} in {row['dtype']}"


@styled
def figure(frame: Frame) -> Drawing:
    """Speedup over the baseline per problem and way, one panel per dtype, all with the same rows. frame:
    `speedups.speedups` of a group.
    """
    frame = choosing.shown(frame[~frame["control"].astype(bool)])
    ways, limits = ways_in_order(frame["way"]), log_range(_reach(frame))
    names = problems_in_order(frame["problem"])
    drawing, panels = facets([dtype for dtype, _ in by_dtype(frame)], max(40.0, (5 + 3.2 * len(ways)) * len(names)))
    for panel, (_, rows) in zip(panels, by_dtype(frame), strict=True):
        _dots(panel, rows, dodged(names, ways))
        rows_named(panel, _short(names))
        for place in (names.index(name) for name in names if name not in set(rows["problem"])):
            panel.text(0.02, place, "not timed", transform=panel.get_yaxis_transform(), va="center", alpha=0.6)
        speedup_axis(panel, limits)
    legend(drawing, ways, doubtful(frame))
    return drawing


def doubtful(frame: Frame) -> list[Any]:
    """The legend's entries for the looks that `speedup_marks` gives to what is not decided, and has no interval."""
    extra = [key("tie or undecided", marker="o", filled=False)] if (~frame["verdict"].isin(DECIDED)).any() else []
    if frame["speedup_lower"].isna().any():
        extra.append(key("no interval", marker="o", filled=False, markersize=BARE))
    return extra


def _reach(frame: Frame) -> list[float]:
    """All that is drawn of the speedups, with the ends of both intervals."""
    factor = frame["within"].map(math.exp)
    sides = (frame["speedup"], frame["speedup_lower"], frame["speedup_upper"])
    return [value for side in (*sides, sides[0] / factor, sides[0] * factor) for value in side]


def dodged(places: Sequence[str], ways: Sequence[str], spread: float = 0.66) -> dict[tuple[str, str], float]:
    """The height of every (place, way): one row per place, its ways slightly apart."""
    step = spread / max(1, len(ways) - 1)
    offsets = {way: (i - (len(ways) - 1) / 2) * step for i, way in enumerate(ways)}
    return {(place, way): row + offsets[way] for row, place in enumerate(places) for way in ways}


def _dots(panel: Axes, frame: Frame, heights: dict[tuple[str, str], float]) -> None:
    """Mark and intervals for every row of frame, at the height of its problem and way."""
    frame = frame.assign(height=[heights[place] for place in zip(frame["problem"], frame["way"], strict=True)])
    colours = [look(way)[0] for way in frame["way"]]
    within(panel, frame["height"], frame["speedup"], frame["within"], colours)
    between(panel, frame["height"], frame["speedup_lower"], frame["speedup_upper"], colours)
    frame = frame.assign(title=[compared(row) for row in frame.to_dict("records")])
    for way, drawn in frame.groupby("way", sort=True):
        speedup_marks(panel, drawn, str(way))


def speedup_marks(panel: Axes, frame: Frame, way: str | tuple[str, str]) -> None:
    """A mark per speedup, hollow where it is a tie or undecided, small where it has no interval. frame: with the height
    and title of each; way: as `drawing.marks` has it.
    """
    kinds = [frame["verdict"].isin(DECIDED), frame["speedup_lower"].notna()]
    for (decided, known), drawn in frame.groupby(kinds, sort=True):
        size = MARK if known else BARE
        marks(panel, drawn["speedup"], drawn["height"], drawn["title"], way, bool(decided), size)


def _short(names: Sequence[str]) -> list[str]:
    """The names without the folder that all have in common."""
    folders = {name.rpartition("/")[0] for name in names}
    return [name.rpartition("/")[2] for name in names] if len(folders) == 1 else list(names)


def summary_table(group: str, scope: Scope, rows: Frame) -> Table:
    """Speedups over the group's problems, per dtype and way."""
    kind = wording.by_intervals(rows[~rows["control"].astype(bool)])
    rows = ordered(over_problems(rows, ["dtype", "way"]))
    columns = {
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way,
        "problems": lambda row: str(row.problems),
        "geometric mean": lambda row: show.significant(row.geometric_mean),
        "median": lambda row: show.significant(row.median),
        "least": lambda row: show.significant(row.least),
        "most": lambda row: show.significant(row.most),
        **{verdict: count_of(verdict) for verdict in VERDICTS},
    }
    caption = f"Speedups over the problems of {group}, {scope.label}, and how often each verdict fell, "
    caption += f"{kind}. "
    caption += (
        "Least and most are the range over problems with an interval, not an interval. The problems are a list, no "
    )
    caption += "sample: a share of them is no rate."
    return table(slug("summary", group, scope.machine, scope.device), caption, rows, columns, "summary", (0, 1))


def speedup_tables(data: StudyData, group: str, scope: Scope) -> Iterator[Table]:
    """One table per dtype, for papers: a row per problem, a column per way."""
    cells = data.cells[(data.cells["group"] == group) & ~data.cells["control"]]
    speedups = data.speedups[data.speedups["group"] == group]
    for dtype in dtypes_in_order(cells["dtype"]):
        of_dtype, times = cells[cells["dtype"] == dtype], speedups[speedups["dtype"] == dtype]
        ways = ways_in_order(of_dtype.loc[~of_dtype["baseline"], "way"])
        shown = {(row.problem, row.way): _unmeasured(row) for row in of_dtype.itertuples(index=False)}
        shown |= {(row.problem, row.way): speedup_text(row) for row in times.itertuples(index=False)}
        baselines = {row.problem: show.seconds(row.baseline_seconds) for row in times.itertuples(index=False)}
        counts = _details(data, of_dtype["problem"])
        rows = tuple(
            (
                Text(problem, counts.get(problem, "")),
                Text(baselines.get(problem, show.DASH)),
                *(shown.get((problem, w), Text("")) for w in ways),
            )
            for problem in problems_in_order(of_dtype["problem"])
        )
        baseline = ways_in_order(of_dtype.loc[of_dtype["baseline"], "way"])
        caption = f"Speedup over {_named(baseline)}, {group}, {dtype}, {scope.label}; n = "
        caption += f"{show.plural(len(rows), 'problem')}. "
        name = slug("speedups", group, scope.machine, scope.device, dtype)
        head = ("problem", "baseline's time", *ways)
        said = f"{intervals(times)} {VERDICTS_READ}".lstrip()
        yield Table(name, caption + said, head, rows, "speedups", apart=placed(scope, f"speedups in {dtype}"))


def _details(data: StudyData, names: Frame) -> dict[str, str]:
    """How often a problem stands in its network, where that is more than once; and that its numbers were given."""
    rows = data.problems[data.problems["problem"].isin(set(names))]
    return {
        row.problem: ", ".join(
            [f"× {row.occurrences}"] * (row.occurrences > 1) + ["given numbers"] * (row.numbers != "drawn")
        )
        for row in rows.itertuples(index=False)
    }


def _named(ways: list[str]) -> str:
    return " or ".join(f"`{way}`" for way in ways) or "the baseline"


def speedup_text(row: Any) -> Text:
    """Speedup and interval; without an interval there were too few processes, or too few blocks of a single one."""
    ends = (row.speedup_lower, row.speedup_upper)
    interval = show.interval(row.speedup, *ends) or f"n = {_units(row)}"
    return Text(show.number(row.speedup, *ends), interval, row.verdict, row.verdict)


def _units(row: Any) -> str:
    return str(row.processes) if row.processes > 1 else show.plural(row.blocks, "block")


def _unmeasured(row: Any) -> Text:
    return Text("", kind="ok") if row.status == "ok" else Text(row.status, kind=row.status, note=row.reason)


def unfold_headline(data: StudyData, frames: Frames) -> str:
    """Unfold and matmul against the library's convolution."""
    rows = data.speedups[(data.speedups["group"] == "networks") & (data.speedups["way"] == "unfold_matmul")]
    by_dtype = {dtype: rows[rows["dtype"] == dtype] for dtype in wording.main_dtypes(rows["dtype"])}
    if not by_dtype:
        return ""
    ratios = {dtype: math.exp(float(own["ratio"].map(math.log).mean())) for dtype, own in by_dtype.items()}
    times = wording.listed([f"{show.times(ratio)} in {dtype}" for dtype, ratio in ratios.items()])
    verdicts = wording.listed([f"{_slower_and_faster(own)} in {dtype}" for dtype, own in by_dtype.items()])
    text = f"`unfold_matmul` takes {times} the time of `direct`, as a geometric mean of estimates over layers; "
    if not rows["ratio_lower"].notna().any():
        return f"{text}nothing is decided, for no comparison has an interval."
    return f"{text}{wording.by_intervals(rows[rows['dtype'].isin(by_dtype)])}, it is {verdicts}."


def _slower_and_faster(rows: Frame) -> str:
    """As in "slower on 10 and faster on 3 of 32 layers"."""
    counts = rows["verdict"].value_counts()
    sides = [f"{side} on {counts.get(side, 0)}" for side in ("slower", "faster")]
    return f"{wording.listed(sides)} of {show.plural(len(rows), 'layer')}"


def merging_headline(data: StudyData, frames: Frames) -> str:
    """On which stacks merging beforehand pays, by name: the list was picked by hand, and its shares are no rates."""
    rows = data.speedups[(data.speedups["group"] == "stacks") & (data.speedups["way"] == MERGED)]
    dtypes = wording.main_dtypes(rows["dtype"])
    if not dtypes:
        return ""
    of_dtype = rows[rows["dtype"] == dtypes[0]]
    text = f"In {dtypes[0]}, {show.of_these(len(of_dtype), 'stack')}, one merged beforehand (`{MERGED}`) is, "
    text += f"{wording.by_intervals(of_dtype)}, "
    text += wording.listed(list(extremes.by_verdict(of_dtype)))
    ends = [end for end in (extremes.most(of_dtype, verdict) for verdict in ("faster", "slower")) if end]
    return f"{text}{': ' if ends else ''}{'; '.join(ends)}."


def own_headline(data: StudyData, frames: Frames) -> str:
    """The fastest way of each of the user's own problems, where one is faster than the baseline."""
    rows = data.speedups[(data.speedups["group"] == own.GROUP) & ~data.speedups["control"].astype(bool)]
    dtypes = wording.main_dtypes(rows["dtype"])
    if not dtypes:
        return ""
    rows = rows[rows["dtype"] == dtypes[0]]
    faster = rows[rows["verdict"] == "faster"]
    best = [faster.loc[of_problem["ratio"].idxmin()] for _, of_problem in faster.groupby("problem", sort=False)]
    best.sort(key=lambda row: row["ratio"])
    parts = [f"`{row['way']}` on {row['problem']} {extremes.speedup(row)}" for row in best[:MOST_NAMED]]
    parts += [f"and on {len(best) - MOST_NAMED} more"] if len(best) > MOST_NAMED else []
    n = show.plural(rows["problem"].nunique(), "problem")
    text = f"In {dtypes[0]}, on {len(best)} of {n}, {wording.by_intervals(rows)}, some way is faster than the baseline"
    return f"{text}{'; fastest: ' if parts else ''}{'; '.join(parts)}."
