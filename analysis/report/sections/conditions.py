"""Conditions: the same trials with cold caches, isolated turns, one thread and so on, beside the usual ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.data.conditions import DECIDED, conditions, summary
from analysis.data.frames import Frame, ordered, problems_in_order, ways_in_order
from analysis.data.study_data import Scope, StudyData
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import (
    ROW,
    Drawing,
    between,
    facets,
    legend,
    log_range,
    marks,
    rows_named,
    speedup_axis,
    styled,
)
from analysis.report.section import Content, Frames, Plot, Section, per_scope, plot
from analysis.report.sections.speed import VERDICTS_READ
from analysis.report.style import look
from analysis.report.tables import Table, Text, place_in, slug, table, wide_table
from linear_lasagna.factors import FACTORS, named, one_at_a_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDER = one_at_a_time()
LABELS = {"problem": "problem", "dtype": "dtype", "way": "way"}
SPEEDUP = ("speedup", "speedup_lower", "speedup_upper", "verdict")
MOST_NAMED = 3  # differing verdicts of a condition that a sentence names


def frames(data: StudyData) -> Frames:
    found = conditions(data.everywhere)
    return {"conditions": in_order(found), "conditions_summary": summary(in_order(found))} if len(found) else {}


def in_order(rows: Frame) -> Frame:
    """By group, problem, dtype, condition and way."""
    problems = {name: place for place, name in enumerate(problems_in_order(rows["problem"]))}
    rows = ordered(rows)
    keys = rows.assign(_problem=rows["problem"].map(problems), _place=[_place(each) for each in rows["conditions"]])
    by = ["machine", "device", "_problem", "dtype", "_place", "conditions"]
    return keys.sort_values(by, kind="stable").drop(columns=["_problem", "_place"]).reset_index(drop=True)


def _place(text: str) -> int:
    return place_in(ORDER, text)


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    if not frames or not len(rows := frames["conditions"]):
        return None
    counted = frames["conditions_summary"]
    timed = rows[rows["status"] == "ok"]
    plots = (_plot(scope, timed),) if len(timed) else ()
    tables = (summary_table(scope, counted), change_table(scope, rows), speedup_table(scope, rows))
    return Content(plots, tuple(each for each in tables if each.rows), answer(rows), notes(rows))


def answer(rows: Frame) -> str:
    """Which condition changes which verdicts."""
    parts = [_differing(str(text), rows[rows["conditions"] == text]) for text in dict.fromkeys(rows["conditions"])]
    trials = show.plural(len(rows[["problem", "dtype"]].drop_duplicates()), "trial")
    return " ".join([f"Of verdicts against the baseline, in {trials}: {'; '.join(parts)}.", *_own_times(rows)])


def _own_times(rows: Frame) -> list[str]:
    """Under which conditions ways take another time than usual, by verdict."""
    parts = []
    for text in dict.fromkeys(rows["conditions"]):
        verdicts = rows.loc[(rows["conditions"] == text) & (rows["status"] == "ok"), "change_verdict"]
        counts = [f"{count} {word}" for word in ("slower", "faster") if (count := int((verdicts == word).sum()))]
        if counts:
            parts.append(f"{text} ({' and '.join(counts)} of {show.plural(len(verdicts), 'cell')})")
    return [f"Times themselves are not the usual ones, by verdict, under {wording.listed(parts)}."] if parts else []


def _differing(text: str, rows: Frame) -> str:
    """As in "threads=1 changes 1 of 2 decided with and without it (…)"."""
    both = int((rows["verdict"].isin(DECIDED) & rows["usual_verdict"].isin(DECIDED)).sum())
    differing = rows[rows["differs"].astype(bool)]
    told = f"{text} changes {len(differing) or 'none'} of {both} decided with and without it"
    if not both:
        return f"none is decided with and without {text}"
    if not len(differing):
        return told
    named = [
        f"`{row.way}` on {row.problem}, {row.usual_verdict} → {row.verdict}"
        for row in differing.head(MOST_NAMED).itertuples(index=False)
    ]
    named += ["…"] if len(differing) > MOST_NAMED else []
    return f"{told} ({'; '.join(named)})"


def notes(rows: Frame) -> tuple[str, ...]:
    """What could not be timed, and what the levels mean."""
    lost = rows[rows["status"] != "ok"]
    reasons = lost.groupby(["conditions", "status", "reason"], sort=True).size()
    told = [
        f"{text}: {show.plural(int(count), 'cell')} {status}: {reason}."
        for (text, status, reason), count in reasons.items()
    ]
    names = {word.partition("=")[0] for text in rows["conditions"] for word in text.split(",")}
    return (*told, *(f"{name}: {FACTORS[name].meaning}." for name in FACTORS if name in names))


def _plot(scope: Scope, rows: Frame) -> Plot:
    drawn = choosing.shown(rows)
    slowest = drawn.loc[drawn["change"].idxmax()]
    caption = f"How fast a way is under a condition, as a multiple of itself under the usual ones, {scope.label}; one "
    caption += f"panel per problem, n = {show.plural(len(drawn), 'cell')}. Right of 1: faster than usual. Line: 95 % "
    caption += f"interval between processes, where both sides have six.{choosing.others(rows)}"
    alt = f"Dots left of 1 take longer than usual. The longest time is {show.times(slowest['change'])} the usual one, "
    alt += f"{slowest['way']} on {slowest['problem']} under {slowest['conditions']}."
    return plot(slug("fig-conditions", scope.machine, scope.device), caption, alt, "conditions", figure(rows))


@styled
def figure(rows: Frame) -> Drawing:
    """rows: `conditions.conditions` of one scope, timed."""
    rows = choosing.shown(rows)
    rows = rows.assign(speed=1 / rows["change"], lower=1 / rows["change_upper"], upper=1 / rows["change_lower"])
    texts = list(dict.fromkeys(sorted(rows["conditions"], key=_place)))
    panels_of = list(dict.fromkeys(zip(rows["problem"], rows["dtype"], strict=True)))
    names, ways = [f"{problem}, {dtype}" for problem, dtype in panels_of], ways_in_order(rows["way"])
    drawing, panels = facets(names, 1.8 * ROW * len(texts))
    limits = log_range([*rows["speed"], *rows["lower"], *rows["upper"]])
    for panel, (problem, dtype) in zip(panels, panels_of, strict=True):
        _dots(panel, rows[(rows["problem"] == problem) & (rows["dtype"] == dtype)], texts, ways)
        rows_named(panel, texts)
        speedup_axis(panel, limits, "slower  ←  than usual  →  faster")
    legend(drawing, ways)
    return drawing


def _dots(panel: Axes, rows: Frame, texts: list[str], ways: list[str]) -> None:
    for number, way in enumerate(ways):
        mine = rows[rows["way"] == way]
        height = [texts.index(text) + 0.66 * ((number + 0.5) / len(ways) - 0.5) for text in mine["conditions"]]
        between(panel, height, mine["lower"], mine["upper"], look(way)[0])
        marks(panel, mine["speed"], height, map(_said, mine.to_dict("records")), way)


def _said(row: Any) -> str:
    times = show.with_interval(row["speed"], row["lower"], row["upper"])
    place = f"{row['problem']}, {row['dtype']}, {row['way']}, {row['conditions']}"
    n = show.plural(int(row["processes"]), "process")
    return f"{place}: {times} times as fast as usual, {row['change_verdict']}, {n}"


def summary_table(scope: Scope, rows: Frame) -> Table:
    columns = {
        "conditions": lambda row: row.conditions,
        "cells": lambda row: str(row.cells),
        "not timed": lambda row: str(row.lost),
        "time / usual": lambda row: show.significant(row.mean_change),
        "slower": lambda row: str(row.changed_slower),
        "faster": lambda row: str(row.changed_faster),
        "verdicts": lambda row: str(row.compared),
        "that differ": lambda row: str(row.differing),
    }
    caption = (
        f"What each condition changes, all others usual, {scope.label}. time / usual: the geometric mean over the "
    )
    caption += "cells; slower, faster: cells whose own time changed, by verdict. verdicts: against the baseline under "
    caption += "the same condition; that differ: both decided, and not the same. The problems are a list, no sample."
    name = slug("conditions-summary", scope.machine, scope.device)
    return table(name, caption, rows, columns, "conditions_summary", (0,))


def change_table(scope: Scope, rows: Frame) -> Table:
    caption = f"Time of every way under a condition / its time under the usual ones, {scope.label}: a ratio of two "
    caption += "medians over processes, taken for independent. In brackets: 95 % intervals, "
    caption += f"{wording.process_kind(_timed(rows))}. {VERDICTS_READ}"
    name = slug("conditions-change", scope.machine, scope.device)
    return wide_table(name, caption, rows, LABELS, "conditions", _change, "conditions", _heading)


def speedup_table(scope: Scope, rows: Frame) -> Table:
    """The usual speedups are a column of their own."""
    import pandas

    compared = rows[rows["usual_verdict"] != ""]
    usual = compared.drop_duplicates([*LABELS]).drop(columns=[*SPEEDUP, "status"])
    usual = usual.rename(columns={f"usual_{name}": name for name in SPEEDUP}).assign(conditions="", status="ok")
    shown = pandas.concat([usual, compared], ignore_index=True)
    caption = f"Speedup of every way over direct under the same conditions, {scope.label}. In brackets: 95 % "
    caption += f"intervals, {wording.process_kind(_timed(rows))}. {VERDICTS_READ}"
    name = slug("conditions", scope.machine, scope.device)
    return wide_table(name, caption, shown, LABELS, "conditions", _speedup, "conditions", _heading)


def _timed(rows: Frame) -> Any:
    return rows.loc[rows["status"] == "ok", "processes"]


def _heading(text: str) -> str:
    """With spaces, at which it may be broken."""
    return named(text).replace("=", " = ").replace(",", ", ")


def _change(row: Any) -> Text:
    return _ratio(row, (row.change, row.change_lower, row.change_upper), row.change_verdict)


def _speedup(row: Any) -> Text:
    return _ratio(row, (row.speedup, row.speedup_lower, row.speedup_upper), row.verdict)


def _ratio(row: Any, values: tuple[float, float, float], told: str) -> Text:
    if row.status != "ok":
        return Text(row.status, kind=row.status, note=row.reason)
    return Text(show.number(*values), show.interval(*values) or f"n = {row.processes}", told, told)


def headline(data: StudyData, frames: Frames) -> str:
    """Which condition changes which verdicts."""
    return answer(frames["conditions"]) if frames and len(frames["conditions"]) else ""


SECTION = Section(
    "conditions",
    "Do conditions change what is faster?",
    per_scope(part),
    frames,
    intro="All other sections are about trials under the same conditions, mostly the usual ones. Some trials were "
    "timed under others too, mostly one factor at a time.",
    empty="No trial was timed under other conditions than the usual ones beside them.",
    headlines={"Conditions": headline},
    files={
        "conditions": "One row per way and condition, of trials that were timed under the usual conditions too.",
        "conditions_summary": "What each condition changes together.",
    },
    columns={
        "conditions": "what is not usual, such as cache=cold,threads=1; empty for the usual conditions",
        "usual_seconds": "seconds under the usual conditions",
        "change": "seconds / usual_seconds",
        "change_lower": "lower end of its 95 % interval, made from both sides’ intervals between processes",
        "change_upper": "upper end of the same",
        "change_verdict": "faster, slower, tie or undecided: the rule of all verdicts on `change`",
        "usual_processes": "processes in which the way was timed under the usual conditions",
        "usual_speedup": "baseline’s time / time, under the usual conditions",
        "usual_speedup_lower": "lower end of its 95 % interval",
        "usual_speedup_upper": "upper end of the same",
        "usual_verdict": "the verdict under the usual conditions",
        "differs": "whether both verdicts are faster, slower or tie, and not the same",
        "cells": "number of cells",
        "lost": "of these, under the condition skipped or failed",
        "mean_change": "geometric mean of `change`",
        "changed_slower": "cells with the change_verdict slower",
        "changed_faster": "cells with the change_verdict faster",
        "compared": "cells with a verdict against the baseline",
        "differing": "cells whose verdicts differ",
    },
)
