"""Several machines and devices beside each other: what holds on all of them, and what differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from analysis.data import across
from analysis.data.across import CELL, DTYPE, HEADLINES, NONE, TOTAL, counts
from analysis.data.frames import Frame, framed
from analysis.data.machines import brief, plain
from analysis.data.study_data import Scope, StudyData, of_several
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import (
    ROW,
    Drawing,
    between,
    facets,
    key,
    log_range,
    rows_named,
    speedup_axis,
    styled,
)
from analysis.report.section import Content, Frames, Plot, Section, plot
from analysis.report.sections.networks import totals
from analysis.report.sections.speed import doubtful, speedup_marks
from analysis.report.style import MARKERS, PALETTE
from analysis.report.tables import Table, Text, table

NAME, FILE = "across", "across"
MOST_COLUMNS = 5  # machines beside each other, and in the figure
MOST_ROWS = 30  # cells in the table
MOST_NAMED = 3  # cells in a sentence
LONGEST = 40  # characters of a machine in a heading


def frames(data: StudyData) -> Frames:
    """Every cell that two scopes or more have, where there are two or more."""
    if len(data.scopes) < 2:
        return {NAME: framed([], across.COLUMNS)}
    return {NAME: across.across(data.compared, _totals(data))}


def _totals(data: StudyData) -> Frame:
    """Of the networks that headlines are about."""
    names = {problem for group, problem, *_ in HEADLINES if group == TOTAL}
    kept = tuple(r for r in data.judged if r.trial.dtype == DTYPE and _network(r.trial.problem.name) in names)
    return totals(type(data.records)(kept))


def _network(problem: str) -> str:
    return problem.partition("/")[0]


def content(data: StudyData, frames: Frames) -> Content | None:
    """None where there is one scope only."""
    if len(data.scopes) < 2:
        return None
    rows, scopes = frames[NAME], data.scopes
    if not len(rows):
        return Content(answer="No cell was timed on two of them.", notes=tuple(_notes(data, rows)))
    heads = rows[rows["headline"] < NONE]
    plots = (_plot(heads, scopes[:MOST_COLUMNS]),) if len(heads) else ()
    return Content(plots, (_table(rows, scopes),), notes=tuple(_notes(data, rows)))


def sentence(rows: Frame, scopes: Sequence[Scope]) -> str:
    """On how many cells all agree, and which are the opposite: each cell is counted once. "" without rows."""
    every, number = counts(rows, len(scopes)), len(scopes)
    all_of = "both" if number == 2 else f"all {number}"
    if not every.cells:
        return f"No cell was timed on {all_of}." if len(rows) else ""
    found = across.cells(rows, number)
    opposite = found[found["agreement"] == "opposite"]
    text = f"Of {show.plural(every.cells, 'cell')} timed on {all_of}, the verdict is the same on {every.same}. "
    text += f"Faster on one and slower on another: {every.opposite}{_examples(opposite)}{_third(opposite)}. "
    text += f"Otherwise a tie on one, faster or slower on another: {every.differs}. "
    return f"{text}Undecided on one or more, alike on the rest: {every.undecided}."


def _examples(opposite: Frame) -> str:
    """The first of them, those that are decided everywhere before others, then headlines, in the catalogue's order."""
    shown = opposite.sort_values("unsure", kind="stable").head(MOST_NAMED)
    named = [f"{row.problem} {row.dtype} `{row.way}`" for row in shown.itertuples(index=False)]
    if not named:
        return ""
    more = len(opposite) - len(named)
    return f" ({'; '.join(named)}{f'; and {more} more' if more else ''})"


def _third(opposite: Frame) -> str:
    """How many of them are undecided on a third machine."""
    unsure = int(opposite["unsure"].sum())
    return f", {unsure} of these undecided on a third" if unsure else ""


def _notes(data: StudyData, rows: Frame) -> Iterator[str]:
    """What the intervals are of, per scope; and what is not shown."""
    for scope, mine in across.by_scope(rows, data.scopes):
        known = mine[mine["speedup_lower"].notna()] if len(mine) else mine
        if len(known):
            yield f"{scope.label}: intervals {wording.process_kind(known['processes'])}."
        else:
            yield f"{scope.label}: no cell with an interval that another has too."
    if len(data.scopes) > MOST_COLUMNS:
        left = len(data.scopes) - MOST_COLUMNS
        yield f"The table and the figure show the first {MOST_COLUMNS} by name; {left} more are in the CSV."


def _shown(rows: Frame) -> Frame:
    """The cells of the table: headlines, then what is opposite, in the catalogue's order."""
    return rows[(rows["headline"] < NONE) | (rows["agreement"] == "opposite")].drop_duplicates(CELL)


def _table(rows: Frame, scopes: Sequence[Scope]) -> Table:
    found = _shown(rows)
    cells = found.head(MOST_ROWS)
    by_cell = {
        (*key, row.machine, row.device): row
        for row in rows[rows["problem"].isin(set(cells["problem"]))].itertuples(index=False)
        if (key := tuple(getattr(row, name) for name in CELL))
    }
    columns: dict[str, Any] = {
        "problem": lambda row: row.problem,
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way,
    }
    for scope, name in zip(scopes[:MOST_COLUMNS], names(scopes[:MOST_COLUMNS]), strict=True):
        columns[name] = lambda row, scope=scope: _of(by_cell, row, scope)
    columns["verdicts"] = lambda row: Text(row.agreement, kind="undecided" if row.agreement == "undecided" else "")
    caption = "The same cells on all machines and devices that timed them: speedups over the baseline there, in "
    caption += "brackets 95 % intervals. "
    caption += "First named stacks, merged, and all convolutions of named networks where every layer was timed, fixed "
    caption += "before the data; then every cell that is faster on one and slower on another. "
    caption += f"{wording.VERDICTS}."
    if len(found) > MOST_ROWS:
        caption += f" {len(found) - MOST_ROWS} more are in the CSV."
    return table("across", caption, cells, columns, FILE, (0, 1, 2))


def names(scopes: Sequence[Scope]) -> list[str]:
    """Headings of scopes, none twice: the least of a label that no other has, shortened where it is long, with a
    number where two are alike.
    """
    levels = [[written(scope.label) for scope in scopes] for written in (brief, plain, str)]
    told = [_least(place, levels) for place in range(len(scopes))]
    short = [show.shortened(name, LONGEST) for name in told]
    return [name if short.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(short, 1)]


def _least(place: int, levels: Sequence[Sequence[str]]) -> str:
    """The first level's that no other place has; the last level's where there is none."""
    return next((level[place] for level in levels if level.count(level[place]) == 1), levels[-1][place])


def _of(by_cell: dict[tuple[Any, ...], Any], row: Any, scope: Scope) -> Text:
    """A cell on one scope."""
    mine = by_cell.get((*(getattr(row, name) for name in CELL), scope.machine, scope.device))
    if mine is None:
        return Text(show.DASH)
    ends = (mine.speedup_lower, mine.speedup_upper)
    return Text(show.number(mine.speedup, *ends), show.interval(mine.speedup, *ends), mine.verdict, mine.verdict)


def _plot(rows: Frame, scopes: Sequence[Scope]) -> Plot:
    caption = "The same cells on all machines and devices that timed them: speedup over the baseline there, with "
    caption += "its 95 % interval. A "
    caption += "machine has a place in the row, from above, and a shape. " + "; ".join(
        f"{name}: {kind}" for name, kind in zip(names(scopes), _kinds(rows, scopes), strict=True) if kind
    )
    alt = f"Speedups of {show.plural(rows[CELL].drop_duplicates().shape[0], 'cell')} on {len(scopes)} machines."
    return plot("fig-across", caption.rstrip(".") + ".", alt, FILE, figure(rows, scopes))


def _kinds(rows: Frame, scopes: Sequence[Scope]) -> list[str]:
    found = (mine[mine["speedup_lower"].notna()] for _, mine in across.by_scope(rows, scopes))
    kinds = (wording.process_kind(mine["processes"]) for mine in found)
    return [f"intervals {kind}" if kind else "" for kind in kinds]


@styled
def figure(rows: Frame, scopes: Sequence[Scope]) -> Drawing:
    """A row per headline, a mark per scope in it. rows: `across.across` of headlines."""
    cells = list(rows.drop_duplicates("headline")[["headline", *CELL]].itertuples(index=False))
    places = {row.headline: place for place, row in enumerate(cells)}
    step = 0.7 / max(len(scopes) - 1, 1)
    drawing, [panel] = facets([""], max(ROW, 9.0 * len(scopes)) * 1.15 * len(cells))
    rows_named(panel, [f"{row.problem.rpartition('/')[2]}, {row.way}" for row in cells])
    for number, (scope, mine) in enumerate(across.by_scope(rows, scopes)):
        look = (PALETTE[number], MARKERS[number])
        at = [places[value] - 0.35 + step * number if len(scopes) > 1 else places[value] for value in mine["headline"]]
        between(panel, at, mine["speedup_lower"], mine["speedup_upper"], look[0])
        titles = [_told(row, scope) for row in mine.itertuples(index=False)]
        speedup_marks(panel, mine.assign(height=at, title=titles), look)
        drawing.handles.append(key(names(scopes)[number], *look))
    drawing.handles += doubtful(of_several(scopes, rows))
    ends = (value for name in ("speedup", "speedup_lower", "speedup_upper") for value in rows[name])
    speedup_axis(panel, log_range([float(value) for value in ends if math.isfinite(value)]))
    return drawing


def _told(row: Any, scope: Scope) -> str:
    """What a mark says: as in "resnet50, float32, fft on Xeon, cpu: 1.1× [1.0, 1.2], faster"."""
    ends = (row.speedup_lower, row.speedup_upper)
    value = f"{show.number(row.speedup, *ends)}× {show.interval(row.speedup, *ends)}".strip()
    return f"{row.problem}, {row.dtype}, {row.way} on {scope.label}: {value}, {row.verdict}"


SECTION = Section(
    "across-cells",  # the chapter has the plain name
    "The same cells on every machine and device",
    content,
    frames,
    intro="Same: every verdict is decided, and alike. Opposite: faster on one, slower on another, whatever it is "
    "on a third. Differs: otherwise a tie on one, faster or slower on another. Undecided: on one or more, alike on the "
    "rest.",
    everywhere=True,
    files={FILE: "Every cell that two machines or devices have, beside each other: one row per cell and machine."},
    columns={
        "scopes": "how many machines and devices have the cell",
        "agreement": "same; opposite: faster on one, slower on another, whatever it is on a third; differs: otherwise "
        "a tie on one, faster or slower on another; undecided: on one or more, alike on the rest",
        "headline": f"the cell's place among those that stand for all, fixed before the data; {NONE} for the others",
    },
)
