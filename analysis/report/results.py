"""The one table of results: every timed or failed cell, with all that was measured of it, each number with an id.

A body per trial names the problem and the dtype; what HTML lets leave out is left out, as this is half of a page.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.data.frames import Frame, framed, ordered, problems_in_order
from analysis.data.records import PLACE
from analysis.data.speedups import is_partial
from analysis.data.study_data import StudyData
from analysis.report import formatting as show
from analysis.report import miniature
from analysis.report.section import Frames
from analysis.report.tables import MARKS

KEY = ["machine", "device", "group", "problem", "dtype", "way"]
MEASURED = ["seconds", "speedup", "speedup_lower", "speedup_upper", "verdict", "error_u", "peak_bytes"]
COLUMNS = ["id", *KEY, "status", "baseline", *MEASURED, "of_best", "of_limit", "processes", "reason"]
MOST = 2500  # rows on the page; the CSV has all
MB = 1e6
OF_TRIALS = ("group", "dtype", "device", "machine")  # what can be filtered by, beside ways and verdicts
HEADINGS: Mapping[str, str] = {
    "way": "way",
    "speedup": "speedup",
    "interval": "interval",
    "drawn": "⅛ … 8×",
    "verdict": "verdict",
    "seconds": "time",
    "of_best": "of fastest",
    "of_limit": "of limit",
    "error_u": "error (u)",
    "peak_bytes": "memory",
    "processes": "processes",
}  # of columns, as the script sorts by them
LABELS = ["" if name in ("way", "interval", "drawn", "verdict") else heading for name, heading in HEADINGS.items()]
MEANING = "One row per cell that was timed or failed, but the controls: the page’s table of all results."
FIELDS: Mapping[str, str] = {
    "id": "its anchor on the page, the same in every edition of the machine",
    "of_best": "this way’s speedup / the largest of the trial’s ways that compute all outputs, by estimate; "
    "empty for one that does not",
    "of_limit": "the share of what the machine attains: `share` of `limits`, which tells why it may be over 1",
}


def frame(data: StudyData, frames: Frames) -> Frame:
    """One row per cell that was timed or failed, controls left out: what was measured, and `of_best`, `of_limit`."""
    cells = data.cells[~data.cells["control"] & (data.cells["status"] != "skipped")]
    cells = cells[(cells["processes"] > 0) | (cells["status"] != "ok")]
    if not len(cells):
        return framed([], COLUMNS)
    wanted = ["speedup", "speedup_lower", "speedup_upper", "verdict"]
    rows = cells.merge(data.speedups[[*PLACE, "way", *wanted, "seconds"]], on=[*PLACE, "way"], how="left")
    rows = _with_baselines(rows, data)
    whole = rows.assign(speedup=rows["speedup"].where(~rows["way"].map(is_partial).astype(bool)))
    rows["of_best"] = whole["speedup"] / whole.groupby(PLACE, sort=False)["speedup"].transform("max")
    limits = frames.get("limits", ())
    shares = limits[[*PLACE, "way", "share"]].rename(columns={"share": "of_limit"}) if len(limits) else None
    rows = rows.assign(of_limit=float("nan")) if shares is None else rows.merge(shares, on=[*PLACE, "way"], how="left")
    rows["verdict"] = rows["verdict"].fillna("")
    rows["id"] = [identity(key) for key in rows[KEY].itertuples(index=False, name=None)]
    order = {name: place for place, name in enumerate(problems_in_order(rows["problem"]))}
    rows = ordered(rows).assign(_place=lambda each: each["problem"].map(order))
    by = ["machine", "device", "_place"]
    return rows.sort_values(by, kind="stable").drop_duplicates("id")[COLUMNS].reset_index(drop=True)


def _with_baselines(rows: Frame, data: StudyData) -> Frame:
    """The baselines' own times: what the others of the trial were compared with."""
    known = data.speedups.drop_duplicates(PLACE).set_index(PLACE)["baseline_seconds"]
    places = list(rows[PLACE].itertuples(index=False, name=None))
    times = known.to_dict()
    own = [times.get(place, float("nan")) for place in places]
    rows["seconds"] = rows["seconds"].where(~rows["baseline"], own)
    rows["speedup"] = rows["speedup"].where(~rows["baseline"], 1.0)
    return rows


def identity(key: tuple[str, ...]) -> str:
    """A row's id, from what it is of: the same on every page."""
    return "r" + hashlib.sha256("\n".join(key).encode()).hexdigest()[:8]


def bodies(found: Frame, several: bool) -> Iterator[str]:
    """The bodies of the table as HTML, one per trial. several: whether machines or devices differ, so that trials name
    theirs.

    Of a problem that several groups have, each tells its group. The script filters by a body's data attributes.
    """
    shared = found.groupby("problem")["group"].transform("nunique") > 1
    found = found.assign(name=found["problem"].where(~shared, _in_group(found)), told=told(found))
    filters = [name for name in OF_TRIALS if name in choices(found)]
    for _, trial in found.head(MOST).groupby(KEY[:-1], sort=False):
        first = next(trial.itertuples(index=False))
        names = [first.name, first.dtype, *([first.device, first.machine] if several else [])]
        data = "".join(f' data-{name}="{html.escape(getattr(first, name))}"' for name in filters)
        head = f'<tr><th colspan="{len(HEADINGS)}" scope="rowgroup">{_breakable(", ".join(names))}'
        yield "\n".join([f"<tbody{data}>{head}", *(_row(row) for row in trial.itertuples(index=False))])


def told(found: Frame) -> Frame:
    """What the column of verdicts says: that a cell is the baseline, or has no interval, where it does."""
    bare = (found["verdict"] == "undecided") & found["speedup_lower"].isna()
    return found["verdict"].mask(bare, "no interval").mask(found["baseline"].astype(bool), "baseline")


def _in_group(found: Frame) -> list[str]:
    """As in "training: stacks/sesr_x1"; the group of that folder is told by the name."""
    pairs = zip(found["group"], found["problem"], strict=True)
    return [name if name.startswith(f"{group}/") else f"{group}: {name}" for group, name in pairs]


def _row(row: Any) -> str:
    head = f'<th scope="row">{_breakable(row.way)}'
    if row.status != "ok":
        reason = _escaped(f"{row.status}: {row.reason}")
        return f'<tr id="{row.id}" class="failed">{head}<td colspan="{len(HEADINGS) - 1}">{reason}'
    kind = f' class="{row.verdict}"' if row.verdict else ""
    return f'<tr id="{row.id}"{kind}>{head}{"".join(_cells(row))}'


def _cells(row: Any) -> Iterator[str]:
    ends = (row.speedup_lower, row.speedup_upper)
    yield _number(row, "s", row.speedup, show.number(row.speedup, *ends))
    yield _number(row, "i", ends[0], show.interval(row.speedup, *ends))
    bar = miniature.interval(ends[0], row.speedup, ends[1]) if ends[0] == ends[0] else ""
    yield f'<td><svg><path d="{bar}"/></svg>' if bar else "<td>"
    yield f"<td>{f'{row.told} {MARKS.get(row.told, str()).strip()}'.strip()}"
    yield _number(row, "t", row.seconds, show.seconds(row.seconds))
    yield _number(row, "b", row.of_best, show.percent(row.of_best))
    yield _number(row, "l", row.of_limit, show.percent(row.of_limit))
    yield _number(row, "e", row.error_u, show.significant(row.error_u))
    yield _number(row, "m", row.peak_bytes, _memory(row.peak_bytes))
    yield f"<td>{row.processes}"


def _number(row: Any, letter: str, value: float, text: str) -> str:
    return f'<td id="{row.id}-{letter}">{text}' if value == value else "<td>"


def _memory(value: float) -> str:
    return f"{show.significant(value / MB)} MB" if value >= MB / 10 else f"{show.significant(value / 1000)} kB"


def _breakable(name: str) -> str:
    return _escaped(name).replace("/", "/<wbr>").replace("_", "_<wbr>")


def _escaped(text: str) -> str:
    return html.escape(show.breakable(text))


def choices(found: Frame) -> dict[str, list[str]]:
    """What the table can be filtered by: column -> its values, of those with more than one."""
    shown = found.assign(verdict=told(found))
    values = {name: list(dict.fromkeys(shown[name])) for name in (*OF_TRIALS, "way", "verdict")}
    return {name: [value for value in each if value] for name, each in values.items() if len(each) > 1}
