"""What an account of an experiment is: its rows in; tidy frames, a section of the report and statements out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from analysis import growth
from analysis.accounts import wording
from analysis.frames import Frame
from analysis.parts import Plot, Section
from analysis.precision import EXPERIMENTS
from analysis.tables import Table

ORDER = ["experiment", "machine", "device", "dtype", "signs", "problem", "depth", "fan_in", "gain", "way"]
ORDER += ["part", "order", "property", "switches", "seed"]
Frames: TypeAlias = Mapping[str, Frame]


class Place(NamedTuple):
    """One machine and device: accounts never compare across places. several: whether there are others."""

    machine: str
    device: str
    several: bool = False

    def of(self, rows: Frame) -> Frame:
        return rows[(rows["machine"] == self.machine) & (rows["device"] == self.device)]

    @property
    def label(self) -> str:
        """The device, and the machine where there are several places."""
        return f"{self.machine}, {self.device}" if self.several else self.device


class Part(NamedTuple):
    """What an account shows of one place, all of it computed from the frames.

    answer: a sentence or two, names of ways in backticks; details: more of them, without any markup.
    """

    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]
    answer: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Account:
    """experiment: its name, in EXPERIMENTS; anchor, title: the section's.

    frames: the experiment's rows to its CSVs by name, the figure's first; part: a place, its rows and frames, to what
    is shown of them, None where nothing can be.
    """

    experiment: str
    anchor: str
    title: str
    frames: Callable[[Frame], Frames]
    part: Callable[[Place, Frame, Frames], Part | None]

    @property
    def question(self) -> str:
        return EXPERIMENTS[self.experiment].question

    def rows(self, rows: Frame) -> Frame:
        """The experiment's own of all precision rows, in a fixed order, with all columns that its rows have."""
        return in_fixed_order(whole(rows[rows["experiment"] == self.experiment]))

    def section(self, rows: Frame) -> Section:
        """The question, the answer, and per place a figure, a table and details. rows: of any experiments."""
        rows = self.rows(rows)
        parts = [(place, self.at(place, rows)) for place in places(rows)]
        found = [(place, part) for place, part in parts if part is not None]
        intro = " ".join([self.question, *(_placed(place, part.answer) for place, part in found)]) if found else ""
        plots = tuple(plot for _, part in found for plot in part.plots)
        tables = tuple(table for _, part in found for table in part.tables)
        details = tuple(_placed(place, detail) for place, part in found for detail in part.details)
        notes = (*details, *wording.notes(rows)) if found else ()
        empty = f"No observation of the experiment {self.experiment} gave a result."
        return Section(self.anchor, self.title, intro, plots, tables, empty, notes)

    def at(self, place: Place, rows: Frame) -> Part | None:
        here = place.of(rows)
        return self.part(place, here, self.frames(here))


def _placed(place: Place, text: str) -> str:
    """The text after the place that it is about, where there are several."""
    return f"{place.label}: {text}" if place.several and text else text


def places(rows: Frame) -> list[Place]:
    """The machines and devices of the rows, sorted."""
    found = sorted(set(zip(rows["machine"], rows["device"], strict=True)))
    return [Place(machine, device, len(found) > 1) for machine, device in found]


def in_fixed_order(rows: Frame) -> Frame:
    """The rows sorted by what they are about, so that sums over them have the same bits whatever order they came in."""
    return rows.sort_values([name for name in ORDER if name in rows.columns], kind="stable", ignore_index=True)


def whole(rows: Frame) -> Frame:
    """The rows with all columns that their experiments have: those of failures alone may lack some."""
    wanted = [column for name in EXPERIMENTS for column in EXPERIMENTS[name].columns if name in set(rows["experiment"])]
    return rows.reindex(columns=list(dict.fromkeys([*rows.columns, *wanted])))


def usable(rows: Frame) -> Frame:
    """The rows that gave a finite error, which may be zero."""
    return rows[(rows["status"] == "ok") & (rows["error_u"] >= 0)]


def missing_columns(rows: Frame) -> list[str]:
    """The columns without which no account can be given."""
    return [name for name in (*growth.NEEDED, "problem", "fan_in") if name not in rows.columns]
