"""The samples behind the headlines: every block of every process of the trials that are spoken of, none left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, framed, ways_in_order
from analysis.data.records import PLACE, Record
from analysis.data.study_data import Scope, StudyData
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import Drawing, facets, legend, log_range, marks, rows_named, speedup_axis, styled
from analysis.report.section import Content, Frames, Plot, Section, per_scope, plot
from analysis.report.sections.speed import DECIDED
from analysis.report.style import look
from analysis.report.tables import slug
from linear_lasagna.vocabulary import MERGED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAMPLES = [*PLACE, "way", "process", "block", "speedup"]
MOST = 6  # trials
SPOKEN = (("stacks", MERGED, DECIDED), ("networks", "", ("faster",)))  # group, way ("" for any), extremes by verdict
PROCESS_ROOM, NAME_ROOM = 3.4, 13.0  # points; a way has room for its name, however few processes


def headlined(rows: Frame) -> list[tuple[str, ...]]:
    """The trials of one scope with the largest decided difference of their kind, as values of `PLACE`, no more than
    `MOST`.
    """
    found: dict[tuple[str, ...], None] = {}
    for dtype in wording.main_dtypes(rows["dtype"]):
        for group, way, verdicts in SPOKEN:
            of_kind = rows[(rows["group"] == group) & (rows["dtype"] == dtype) & ~rows["control"].astype(bool)]
            of_kind = of_kind[of_kind["way"] == way] if way else of_kind
            for verdict in verdicts:
                decided = of_kind[of_kind["verdict"] == verdict]["ratio"]
                if len(decided):
                    row = decided.idxmin() if verdict == "faster" else decided.idxmax()
                    found[tuple(rows.loc[row, PLACE])] = None
    return list(found)[:MOST]


def frames(data: StudyData) -> Frames:
    """samples: the blocks of the headlined trials' ways, as speedups over the baseline's of the same block."""
    records = {tuple(record.place.values()): record for record in data.judged}
    places = [
        place
        for _, rows in data.speedups.groupby(["machine", "device"], sort=True)
        for place in headlined(rows)
        if place in records
    ]
    return {"samples": framed((row for place in places for row in _samples(records[place])), SAMPLES)}


def _samples(record: Record) -> Iterator[tuple[object, ...]]:
    trial = record.trial
    for number, timing in enumerate(record.timings, 1):
        for way in timing.samples:
            if way in (trial.baseline, trial.control) or trial.baseline not in timing.samples:
                continue
            for block, ratio in enumerate(timing.log_ratios(way, trial.baseline), 1):
                yield (*record.place.values(), way, number, block, math.exp(-ratio))


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    rows = frames["samples"]
    groups = [group for group, _, _ in SPOKEN if group in set(rows["group"])]
    plots = [_plot(scope, group, rows[rows["group"] == group], data.speedups) for group in groups]
    return Content(tuple(plots)) if plots else None


def _plot(scope: Scope, group: str, rows: Frame, speedups: Frame) -> Plot:
    n = wording.span(rows.groupby(PLACE)["process"].nunique(), "process")
    judged = _judged(rows, speedups)
    caption = f"The samples of the trials with the largest decided differences, {group}, {scope.label}: a strip per "
    caption += f"process and way, {n}; in it a stroke per block, the median over its rounds, each paired with the "
    caption += "baseline’s in the same round, and a mark at the median of the blocks. Nothing is left out. Right of 1: "
    caption += f"faster than the baseline.{choosing.others(judged, 'The CSV has')}"
    alt = f"Strips of strokes and marks on a logarithmic axis, one panel per trial, {show.plural(len(rows), 'block')}."
    name = slug("fig-samples", group, scope.machine, scope.device)
    return plot(name, caption, alt, "samples", figure(rows, judged))


def _judged(rows: Frame, speedups: Frame) -> Frame:
    """The speedups of the trials of the rows, by which ways are chosen."""
    return speedups[~speedups["control"].astype(bool)].merge(rows[PLACE].drop_duplicates(), on=PLACE)


@styled
def figure(rows: Frame, judged: Frame) -> Drawing:
    """A strip per process, one panel per trial. rows: of `frames`; judged: the trials' speedups."""
    rows = rows[rows["way"].isin(choosing.chosen(judged))]
    places = list(dict.fromkeys(rows[["problem", "dtype"]].itertuples(index=False, name=None)))
    own = {place: _of_trial(rows, place) for place in places}
    names = [f"{problem}, {dtype}" for problem, dtype in places]
    drawing, panels = facets(names, [_height(own[place]) for place in places])
    for panel, place in zip(panels, places, strict=True):
        ways = ways_in_order(own[place]["way"])
        _strips(panel, own[place], ways)
        rows_named(panel, ways)
        speedup_axis(panel, log_range(own[place]["speedup"]))
    legend(drawing, ways_in_order(rows["way"]))
    return drawing


def _height(rows: Frame) -> float:
    """Of a trial's panel, whose ways have equal rooms."""
    most = int(rows.groupby("way")["process"].nunique().max())
    return rows["way"].nunique() * max(NAME_ROOM, PROCESS_ROOM * most)


def _of_trial(rows: Frame, place: tuple[str, str]) -> Frame:
    return rows[(rows["problem"] == place[0]) & (rows["dtype"] == place[1])]


def _strips(panel: Axes, rows: Frame, ways: list[str]) -> None:
    """Every way's processes below each other, in the order of their time."""
    for place, way in enumerate(ways):
        blocks = rows[rows["way"] == way]
        numbers = sorted(set(blocks["process"]))
        step = 0.8 / len(numbers)
        heights = {number: place - 0.4 + step * (strip + 0.5) for strip, number in enumerate(numbers)}
        at = blocks["process"].map(heights)
        panel.vlines(
            blocks["speedup"], at - 0.45 * step, at + 0.45 * step, colors=look(way)[0], linewidth=0.8, alpha=0.6
        )
        each = blocks.groupby("process", sort=True)["speedup"].agg(["median", "min", "max", "size"])
        marks(panel, each["median"], heights.values(), [_said(way, row) for row in each.itertuples()], way, size=3.6)


def _said(way: str, row: Any) -> str:
    blocks = f"{show.plural(int(row.size), 'block')} from {show.times(row.min)} to {show.times(row.max)}"
    return f"{way}, process {row.Index}: {show.times(row.median)}, {blocks}"


SECTION = Section(
    "samples",
    "The samples behind the headlines",
    per_scope(part),
    frames,
    intro="Of the stacks that gain and lose most by merging, and of the layers on which another way gains most.",
    empty="No trial of these kinds has a decided difference.",
    files={"samples": "One row per block of the trials that are spoken of, their ways and processes."},
    columns={"block": "which of the process’s blocks, in the order of their time"},
)
