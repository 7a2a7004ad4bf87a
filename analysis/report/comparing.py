"""A page of what changed between two measurements: self-contained, without a script."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import atomic
from analysis.data.comparison import ACCURATE, SIDES, UNTIMED, counts, kind_of, of_both, summary
from analysis.data.frames import Frame
from analysis.data.machines import plain
from analysis.data.records import Records
from analysis.report import formatting as show
from analysis.report import labels, markup, svg, wording
from analysis.report.drawing import (
    LONGEST_NAME,
    Drawing,
    between,
    by_dtype,
    facets,
    log_range,
    marks,
    row_height,
    rows_in_lines,
    speedup_axis,
    styled,
)
from analysis.report.section import Plot, plot
from analysis.report.style import BLUE, GREY
from analysis.report.tables import Table, Text, table

MOST_MARKS, MOST_ROWS = 15, 100  # changes in a panel, rows in a table; the rest are counted
OURS = ("<title>Changes: ", "<h1>What changed: ")  # in every page; no title of another makes both
INTERVAL = ("ratio", "ratio_lower", "ratio_upper")
MARKED = {"faster": (BLUE, "D"), "slower": (BLUE, "s")}  # decided changes are filled, by shape; others are hollow


@dataclass(frozen=True)
class Side:
    """name: what was given; machines, commits: of its trials; date: of the last of them."""

    name: str
    machines: tuple[str, ...]
    commits: tuple[str, ...]
    date: str
    trials: int


def side(name: str, records: Records) -> Side:
    """What a page tells of one side."""
    machines = tuple(sorted({record.machine for record in records}))
    commits = tuple(sorted({record.commit[:12] for record in records if record.commit}))
    started = max((record.trial.started for record in records), default="")
    return Side(name, machines, commits, started.partition("T")[0], len(records))


def write(path: Path, frame: Frame, before: Side, after: Side, tolerance: float) -> Path:
    """Write the page. frame: as `comparison.compared` has it; tolerance: a share that a change in speed must exceed."""
    atomic.write(path, html(frame, before, after, tolerance))
    return path


def check_page(path: Path) -> None:
    """Raise ValueError where another file would be lost."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if not all(part in text for part in OURS):
        raise ValueError(f"{path} is there, and no page of compare's; --page needs another name")


def html(frame: Frame, before: Side, after: Side, tolerance: float) -> str:
    """The page."""
    moved = beyond(frame, tolerance)
    plots = (_plot(moved, tolerance, frame),) if len(moved) else ()
    tables = tuple(each.numbered(number) for number, each in enumerate(_tables(frame), 1))
    style = (markup.TEMPLATES / "style.css").read_text(encoding="utf-8")
    style += svg.rules(each.of_page for each in plots) + labels.rules(tables)
    template = markup.environment().get_template("compare.html")
    return template.render(
        sides=(before, after),
        title=_title(before, after),
        sentence=sentence(frame, tolerance),
        lines=list(summary(frame)),
        changed=bool(len(moved) or tables),
        tolerance=show.percent(tolerance),
        plots=plots,
        tables=tables,
        marks=markup.MARKS,
        style=style,
        policy=markup.policy(style, ""),
    )


def _title(before: Side, after: Side) -> str:
    """What tells the sides apart: the machines, of the same ones commits and dates, or else the names given."""
    sides = (before, after)
    if before.machines == after.machines:
        times = [", ".join(part for part in (*side.commits[:1], side.date) if part) for side in sides]
        told = times if times[0] != times[1] and all(times) else [side.name for side in sides]
        return f"{_machine(before, plain)}, {' → '.join(told)}"
    levels = ([_machine(side, written) for side in sides] for written in (plain, str))
    return " → ".join(next((each for each in levels if each[0] != each[1]), [side.name for side in sides]))


def _machine(side: Side, written: Callable[[str], str]) -> str:
    """The machine of a side, or how many it has."""
    return written(side.machines[0]) if len(side.machines) == 1 else show.plural(len(side.machines), "machine")


def sentence(frame: Frame, tolerance: float) -> str:
    """How many cells changed, and how: a speedup over its own side's baseline, not one machine against the other."""
    cells = of_both(frame)
    found = counts(cells)
    told = [f"{count} {name}" for name, count in found.items() if name not in MARKED]
    text = f"Against its own side’s baseline, a way became faster in {found['faster']} and slower in {found['slower']} "
    text += f"of {show.plural(sum(found.values()), 'cell')} on both sides; {wording.listed(told)}. "
    timed = cells[cells["change"] > 0]
    kept = len(timed) - len(beyond(cells, tolerance))
    flips, to_undecided = len(judged_again(frame)), len(to_or_from_undecided(frame))
    text += f"Verdicts against the baseline that changed: {flips}, and {to_undecided} to or from undecided. "
    return f"{text}Speedups that moved by at most {show.percent(tolerance)}: {kept} of {len(timed)} timed on both."


def beyond(frame: Frame, tolerance: float) -> Frame:
    """The cells whose speed changed by more, the largest change first."""
    rows = frame[frame["change"] > 0]
    sizes = rows["change"].map(math.log).abs()
    kept = sizes[sizes > math.log1p(tolerance) * (1 + 1e-9)].sort_values(ascending=False, kind="stable")
    return rows.loc[kept.index]


def judged_again(frame: Frame) -> Frame:
    """The cells whose verdict against the baseline is another, both decided."""
    rows = _judged(frame)
    return rows[(rows["verdict_before"] != rows["verdict_after"]) & ~_undecided(rows)]


def to_or_from_undecided(frame: Frame) -> Frame:
    """The cells whose verdict is another, one of the two undecided."""
    rows = _judged(frame)
    return rows[(rows["verdict_before"] != rows["verdict_after"]) & _undecided(rows)]


def _judged(frame: Frame) -> Frame:
    return frame[(frame["verdict_before"] != "") & (frame["verdict_after"] != "")]


def _undecided(rows: Frame) -> Any:
    return (rows["verdict_before"] == "undecided") | (rows["verdict_after"] == "undecided")


def _plot(moved: Frame, tolerance: float, frame: Frame) -> Plot:
    panels = _panels(moved)
    shown, drawn = sum(len(rows) for _, rows in panels), sum(_decided(rows) for _, rows in panels)
    caption = f"Speedup after / speedup before, where it changed by more than {show.percent(tolerance)}, with 95 % "
    caption += "intervals made from those of both sides: " + "; ".join(
        f"{side} {kind_of(frame, side)}" for side in SIDES
    )
    caption += f". At most {MOST_MARKS} in a panel: first what is faster (diamond) or slower (square) by verdict, the "
    caption += "largest change first" + ("; then, hollow, what is undecided or a tie." if drawn < shown else ".")
    if len(moved) > shown:
        decided = _decided(moved) - drawn
        caption += f" Not shown: {decided} more that are decided, {len(moved) - shown - decided} that are not."
    alt = f"{show.plural(shown, 'change')} in speedup, {drawn} of them decided."
    return plot("fig-changes", caption, alt, "", _drawn(panels))


def _panels(moved: Frame) -> list[tuple[str, Frame]]:
    """By dtype, and by machine and device where there are several: first what is decided, each in the given order."""
    several = _several(moved)
    ordered = moved.assign(hollow=~moved["verdict"].isin(MARKED)).sort_values("hollow", kind="stable")
    return [
        (", ".join([dtype, *mine[several].iloc[0]]), mine.head(MOST_MARKS))
        for dtype, rows in by_dtype(ordered)
        for _, mine in rows.groupby(["machine", "device"], sort=True)
    ]


def _several(rows: Frame) -> list[str]:
    """Which of machine and device the rows are told apart by."""
    return [name for name in ("machine", "device") if rows[name].nunique() > 1]


def _decided(rows: Frame) -> int:
    return int(rows["verdict"].isin(MARKED).sum())


@styled
def _drawn(panels: list[tuple[str, Frame]]) -> Drawing:
    values = [
        rows.assign(speedup=1 / rows["change"], lower=1 / rows["change_upper"], upper=1 / rows["change_lower"])
        for _, rows in panels
    ]
    named = [[_name(row) for row in rows.itertuples(index=False)] for rows in values]
    drawing, axes = facets([title for title, _ in panels], [row_height(names) * len(names) for names in named])
    ends = [float(v) for rows in values for name in ("speedup", "lower", "upper") for v in rows[name]]
    for panel, rows, names in zip(axes, values, named, strict=True):
        rows_in_lines(panel, names)
        _panel(panel, rows.assign(at=range(len(rows))))
        speedup_axis(panel, log_range(ends), "slower  ←  after / before  →  faster")
    return drawing


def _name(row: Any) -> list[str]:
    """Problem and way, a line each; one that is too long for its line is broken after "/"."""
    names = (row.problem, row.way)
    return [line for name in names for line in ([name] if len(name) <= LONGEST_NAME else re.split("(?<=/)", name))]


def _panel(panel: Any, rows: Frame) -> None:
    between(panel, rows["at"], rows["lower"], rows["upper"], GREY)
    for verdict, mine in rows.groupby("verdict", sort=True):
        titles = [_told(row) for row in mine.itertuples(index=False)]
        look = MARKED.get(str(verdict), (BLUE, "o"))
        marks(panel, mine["speedup"], mine["at"], titles, look, verdict in MARKED)


def _told(row: Any) -> str:
    """What a mark says: as in "resnet50/conv1, float32, cpu, fft: 1.2× [1.1, 1.3], faster"."""
    value = f"{show.number(row.speedup, row.lower, row.upper)}× {show.interval(row.speedup, row.lower, row.upper)}"
    return f"{row.problem}, {row.dtype}, {row.device}, {row.way}: {value.strip()}, {row.verdict}"


def _tables(frame: Frame) -> Iterator[Table]:
    """Those that have rows."""
    cells = of_both(frame)
    apart = cells[cells["disjoint"].fillna(False).astype(bool)]
    errors = cells[cells["accuracy"].isin(["more accurate", "less accurate"])]
    speed = {f"speedup {side}": _speedup(side) for side in SIDES}
    verdicts = {**speed, "change": _change}
    flips = judged_again(frame)
    for name, caption, rows in (
        ("verdicts", f"Verdicts against the baseline that changed {_turned(flips)}.", flips),
        ("undecided", "Verdicts against the baseline to or from undecided.", to_or_from_undecided(frame)),
        ("disjoint", "Cells whose intervals before and after share no number.", apart),
    ):
        yield from _table(name, f"{caption} {_key(rows)}", rows, verdicts)
    caption = f"Errors that changed by more than a factor of {ACCURATE:g}, in unit roundoffs."
    accuracy = {
        **{side: lambda row, side=side: show.significant(getattr(row, f"error_u_{side}")) for side in SIDES},
        "after / before": lambda row: Text(_ratio(row.error_u_after, row.error_u_before), row.accuracy),
    }
    yield from _table("accuracy", caption, errors, accuracy)
    statuses = {side: lambda row, side=side: getattr(row, f"status_{side}") for side in SIDES}
    yield from _table("lost", "Ways that passed before and do not now.", cells[cells["verdict"] == "lost"], statuses)
    untimed = cells[cells["verdict"] == UNTIMED]
    yield from _table("untimed", "Ways that were timed with their baselines before and are not now.", untimed, statuses)
    alone = frame[(frame["status_before"] == "") != (frame["status_after"] == "")]
    place = {"only": lambda row: SIDES[0] if row.status_after == "" else SIDES[1]}
    yield from _table("alone", "Cells of one side alone.", alone, place)


def _turned(flips: Frame) -> str:
    """Between which decided verdicts."""
    ties = (flips[["verdict_before", "verdict_after"]] == "tie").any(axis=None)
    return "from faster to slower or back" + (", or to or from a tie" if ties else "")


def _key(rows: Frame) -> str:
    """What the numbers and marks of a table of speedups are."""
    text = "Speedups over the baseline of their side, and their change, after / before; in brackets 95 % intervals, "
    text += "; ".join(f"{side} {kind_of(rows, side)}" for side in SIDES)
    return f"{text}. {wording.VERDICTS}, without brackets for lack of an interval."


def _table(name: str, caption: str, rows: Frame, more: dict[str, Any]) -> Iterator[Table]:
    if not len(rows):
        return
    labels = ["problem", "dtype", "way", *_several(rows)]
    columns = {label: lambda row, label=label: str(getattr(row, label)) for label in labels}
    if len(rows) > MOST_ROWS:
        caption += f" The first {MOST_ROWS} of {len(rows)}; "
        caption += "`python -m analysis compare BEFORE AFTER --out rows.json` writes all."
    sizes = rows["change"].map(lambda change: abs(math.log(change)) if change > 0 else -1.0)
    rows = rows.loc[sizes.sort_values(ascending=False, kind="stable").index].head(MOST_ROWS)
    yield table(name, caption, rows, columns | more, "", range(len(labels)))


def _speedup(side: str) -> Any:
    """Of one side, with its verdict."""

    def cell(row: Any) -> Text:
        ratio, lower, upper = (getattr(row, f"{name}_{side}") for name in INTERVAL)
        if not ratio > 0:
            return Text(show.DASH)
        value, ends = 1 / ratio, (1 / upper, 1 / lower)
        verdict = getattr(row, f"verdict_{side}")
        return Text(show.number(value, *ends), show.interval(value, *ends), verdict, verdict)

    return cell


def _change(row: Any) -> Text:
    if not row.change > 0:
        return Text(show.DASH)
    value, ends = 1 / row.change, (1 / row.change_upper, 1 / row.change_lower)
    return Text(show.number(value, *ends), show.interval(value, *ends), row.verdict, row.verdict)


def _ratio(after: float, before: float) -> str:
    return show.times(after / before) if before > 0 else "∞" if after > 0 else show.DASH
