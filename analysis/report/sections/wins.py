"""Where each way is the fastest, alone or among others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, framed, ordered, ways_in_order
from analysis.data.records import PLACE, Record, Records
from analysis.data.speedups import control_log_ratio, is_partial
from analysis.data.study_data import Scope, StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.choosing import SAME_CALL
from analysis.report.section import Content, Frames, Section, per_scope
from analysis.report.tables import Table, Text, slug, table
from linear_lasagna.timing import Comparison, compare, log_ratio
from linear_lasagna.trial import Trial

CLEARLY = 2.0  # times the least time: more is slower even without an interval
WINNERS = [*PLACE, "way", "among", "ways", "processes"]


def winners(records: Records) -> Frame:
    """One row per trial with at least two timed ways, the control not counted.

    way: the one that is faster, by verdict, than every other; "" where there is none. among: the fastest and all
    that are not slower than it by verdict. In a trial with intervals, a way without one is slower, too, if it takes
    over `CLEARLY` times as long. ways: how many were compared; processes: in how many.
    Of two ways that make the same call, with other numbers (`SAME_CALL`) or because a plan chose what another way does,
    only one is compared.
    """
    return framed([row for record in records for row in _winner(record)], WINNERS)


def _winner(record: Record) -> Iterator[tuple[Any, ...]]:
    trial, timings, timed = record.trial, record.timings, record.trial.timing().samples
    ways = [way for way in timed if way != trial.control and not _twins(way, trial) & timed.keys()]
    ways = [way for way in ways if not is_partial(way)]
    if trial.baseline not in ways or len(ways) < 2:
        return
    estimates = {way: log_ratio(timings, way, trial.baseline) for way in ways}
    fastest = min(estimates, key=lambda way: estimates[way])
    against = compare(timings, fastest, control=None, noise=abs(control_log_ratio(trial, timings)))
    others = [way for way in ways if way != fastest]
    decided = any(not math.isnan(against[way].lower) for way in others)
    rivals = [way for way in others if not (against[way].verdict == "slower" or (decided and _far(against[way])))]
    yield (*record.place.values(), "" if rivals else fastest, ", ".join((fastest, *rivals)), len(ways), len(timings))


def _far(found: Comparison) -> bool:
    """Whether it is without an interval, as one that was too slow to be timed again, and takes much longer."""
    return math.isnan(found.lower) and found.ratio > CLEARLY


def _twins(way: str, trial: Trial) -> set[str]:
    """The ways before it that make the same call: one whose kernel has other numbers, or what the way's plan chose."""
    schedule, _, method = way.partition("/")
    if schedule in SAME_CALL:
        return {f"{SAME_CALL[schedule]}/{method}"}
    runs, depth = trial.cells[way].runs, trial.problem.depth
    if runs is None:
        return set()
    twins = {other for other, cell in trial.cells.items() if cell.runs == runs and other.partition("/")[2] == method}
    twins = {min(twins)} - {way}
    if len(runs) == depth:
        twins.add(method)
    elif len(runs) == 1:
        twins |= {f"merged/{method}", f"border_exact/{method}"}
    return twins


def each_among(frame: Frame) -> Frame:
    """One row per way that is among the fastest."""
    return frame.assign(among=frame["among"].str.split(", ")).explode("among")


def wins(frame: Frame, by: list[str]) -> Frame:
    """Per way: on how many trials it is fastest alone (`alone`) and among the fastest (`among`), of `trials`.

    The row whose way is "" counts the trials without a single fastest way.
    """
    exploded = each_among(frame)
    trials = frame.groupby(by, sort=True).size().rename("trials")
    alone = frame.groupby([*by, "way"], sort=True).size().rename("alone")
    among = exploded.groupby([*by, "among"], sort=True).size().rename("among").rename_axis([*by, "way"])
    counts = alone.to_frame().join(among, how="outer").fillna(0).astype(int).reset_index()
    return counts.merge(trials.reset_index(), on=by)


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    winners = frames["winners"]
    if not len(winners):
        return None
    rows = wins(winners, ["group", "dtype"])
    return Content((), (wins_table(scope, rows, wording.process_kind(winners["processes"])),))


def wins_table(scope: Scope, rows: Frame, kind: str) -> Table:
    """Where each way is fastest alone, or among the fastest: a row per group and dtype, a column per way."""
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
    caption = f"On how many problems each way is fastest alone, {scope.label}: faster than every other way by "
    caption += (
        f"verdict {kind}. After the slash: tied for fastest, not slower by verdict than the one with the least time."
    )
    places = ordered(rows.assign(way="")[["group", "dtype", "trials", "way"]].drop_duplicates())
    return table(slug("wins", scope.machine, scope.device), caption, places, columns, "wins", (0, 1))


def _won(row: Any, alone_only: bool = False) -> Text:
    if row is None:
        return Text("")
    return Text(str(row.alone), "" if alone_only else f"/ {row.among}", "" if row.alone else "zero")


def headline(data: StudyData, frames: Frames) -> str:
    """Which way is fastest on the layers of networks."""
    rows = frames["winners"]
    rows = rows[rows["group"] == "networks"]
    return " ".join(_fastest(rows[rows["dtype"] == dtype], dtype) for dtype in wording.main_dtypes(rows["dtype"]))


def _fastest(rows: Frame, dtype: str) -> str:
    counts = rows["way"].value_counts()
    alone = sorted((way for way in counts.index if way), key=lambda way: (-counts[way], ways_in_order([way]), way))
    parts = [f"`{way}` on {counts[way]}" for way in alone[:3]]
    if len(alone) > 3:
        parts.append(f"another on {sum(int(counts[way]) for way in alone[3:])}")
    layers = show.plural(len(rows), "layer")
    kind = f"by verdict {wording.process_kind(rows['processes'])}, "
    settled = (
        f"the fastest way of all is {wording.listed(parts)} of {layers}"
        if parts
        else f"there is no single fastest way on any of {layers}"
    )
    return f"In {dtype}, {kind}{settled}{_among(rows)}."


def _among(rows: Frame) -> str:
    """The ways that are most often among the fastest, where some layers have no single fastest way."""
    if not (rows["way"] == "").any():
        return ""
    counts = each_among(rows)["among"].value_counts()
    ways = sorted(counts.index, key=lambda way: (-counts[way], ways_in_order([way]), way))[:2]
    parts = wording.listed([f"`{way}` on {counts[way]}" for way in ways])
    return f"; not slower by verdict than the way with the least time are {parts}"


def frames(data: StudyData) -> Frames:
    """winners: of every trial; wins: how often each way is fastest."""
    fastest = winners(data.judged)
    by = ["machine", "device", "group", "dtype"]
    return {"winners": fastest, "wins": wins(fastest, by) if len(fastest) else fastest}


SECTION = Section(
    "wins",
    "Where each way wins",
    per_scope(part),
    frames,
    intro="A way is fastest alone where it is faster, by verdict, than every other way of the trial. Where others have "
    f"an interval, a way without one is slower if it takes over {CLEARLY:g} times as long as the fastest. Ways that "
    "differ only in the dtype of the merge make the same call; one of them is compared.",
    empty="No trial timed two ways.",
    headlines={"Layers of networks": headline},
    files={
        "winners": "One row per trial: the fastest way and its rivals.",
        "wins": "How often each way is fastest.",
    },
    columns={
        "among": "the fastest way and all not slower by verdict; in `wins`, on how many trials the way is among them",
        "alone": "on how many trials the way is faster, by verdict, than every other",
    },
)
