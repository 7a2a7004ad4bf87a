"""What a study measured, as frames that more than one section of a report reads: no sentences, no figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from operator import or_
from typing import NamedTuple

from analysis.data import machines, speedups
from analysis.data.frames import Frame, Series, framed, in_fixed_order, ordered, whole
from analysis.data.records import Record, Records, cells, problems
from analysis.gaps import STRICT, Gaps
from analysis.precision.probing import PROBES
from linear_lasagna import catalog, own
from linear_lasagna.plurals import plural
from linear_lasagna.trial.fields import NO_TEXT

GROUPS = (*(n for n, group in catalog.GROUPS.items() if not group.own_section and n != own.GROUP), own.GROUP)
APART = tuple(name for name, group in catalog.GROUPS.items() if group.own_section)
NEEDED = ["experiment", "machine", "device", "dtype", "signs", "problem", "depth", "fan_in", "way", "seed", "status"]
NEEDED += ["relative_l2", "error_u"]
TEXTS = ["experiment", "machine", "device", "dtype", "signs", "problem", "way", "status"]
NUMBERS, ERRORS = ["depth", "fan_in", "seed"], ["relative_l2", "error_u"]
ANSWERS = ["machine", "device", "threads", "dtype", "way", "probe", "result", "ok", "note"]


@dataclass(frozen=True, order=True)
class Scope:
    """Where something was measured: never compared across scopes.

    label: the device, and the machine where a device has several; several: whether there are other scopes.
    """

    machine: str
    device: str
    label: str = field(default="", compare=False)
    several: bool = field(default=False, compare=False)

    def of(self, frame: Frame) -> Frame:
        """The rows of this scope; a frame without machine or device as it is."""
        return of_several((self,), frame)


def of_several(scopes: Sequence[Scope], frame: Frame) -> Frame:
    """The rows of these scopes; a frame without machine or device as it is."""
    if not {"machine", "device"} <= set(frame):
        return frame
    machine, device = frame["machine"], frame["device"]
    among = [(machine == scope.machine) & (device == scope.device) for scope in scopes]
    return frame[reduce(or_, among)]


class Expected(NamedTuple):
    """A trial that the study was meant to run, on one machine."""

    group: str
    problem: str
    dtype: str
    device: str
    conditions: str = ""


@dataclass(frozen=True, eq=False)
class StudyData:
    """records: of the conditions that the page is about; everywhere: of all. speedups: of all groups; costs: of those
    not in `APART`. rows: of all experiments, in a fixed order, None where there are none that can be used; probes: what
    was asked of the machine, one row per answer. missing: expected trials without a record.
    """

    records: Records
    everywhere: Records
    scopes: tuple[Scope, ...]
    cells: Frame
    problems: Frame
    speedups: Frame
    costs: Frame
    rows: Frame | None
    probes: Frame
    missing: Frame
    messages: tuple[str, ...]
    notes: tuple[str, ...]

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The groups of problems whose speed was measured, in the order of `GROUPS`, others by name."""
        order = {group: place for place, group in enumerate(GROUPS)}
        return tuple(sorted({r.group for r in self.judged}, key=lambda group: (order.get(group, 9), group)))

    @cached_property
    def judged(self) -> Records:
        """The records without those of the groups `APART`."""
        return Records(tuple(record for record in self.records if record.group not in APART))

    @cached_property
    def compared(self) -> Frame:
        """The speedups without those of the groups `APART`."""
        return self.speedups[~self.speedups["group"].isin(APART)].reset_index(drop=True)

    def experiment(self, name: str) -> Frame | None:
        """The rows of one experiment, None where there are none."""
        if self.rows is None:
            return None
        rows = self.rows[self.rows["experiment"] == name].reset_index(drop=True)
        return rows if len(rows) else None

    def within(self, scope: Scope) -> StudyData:
        """The data of one scope alone."""
        return self._parts[scope]

    @cached_property
    def _parts(self) -> dict[Scope, StudyData]:
        return {scope: self.among((scope,)) for scope in self.scopes}

    def among(self, scopes: tuple[Scope, ...]) -> StudyData:
        """The data of several scopes."""
        if self.scopes == scopes:
            return self
        mine = {name: replace(records, entries=_of(scopes, records)) for name, records in self._records.items()}
        names = ("cells", "speedups", "costs", "probes")
        frames = {name: of_several(scopes, getattr(self, name)).reset_index(drop=True) for name in names}
        rows = None if self.rows is None else of_several(scopes, self.rows).reset_index(drop=True)
        kept = {"scopes": scopes, "rows": rows if rows is not None and len(rows) else None}
        return replace(self, **mine, **frames, **kept)

    @property
    def _records(self) -> dict[str, Records]:
        return {"records": self.records, "everywhere": self.everywhere}


def _of(scopes: Sequence[Scope], records: Records) -> tuple[Record, ...]:
    wanted = {(scope.machine, scope.device) for scope in scopes}
    return tuple(r for r in records if (r.machine, r.trial.device) in wanted)


def study_data(
    records: Records,
    rows: Frame | None,
    expected: Sequence[Sequence[str]] = (),
    gaps: Gaps = STRICT,
    conditions: str = "",
) -> StudyData:
    """The newest record of every trial under the conditions, and the precision rows, as frames. rows: as a store is
    read; None for none.

    Rows without the columns that all need are left out, with a message. gaps: takes what raises.
    """
    everywhere = records.latest()
    records = everywhere.timed_under(conditions)
    nothing = parted(None)
    divided = lambda: parted(machines.adopted(rows, records))  # noqa: E731
    probes, usable, messages = gaps.attempt("The data of the precision rows", divided, nothing)

    def made(name: str, make: Callable[[Records], Frame], of: Records) -> Frame:
        frame = gaps.attempt(f"The data of {name}", partial(make, of), None)
        return make(Records()) if frame is None else frame

    judged = Records(tuple(record for record in records if record.group not in APART))
    found = made("speedups", speedups.speedups, records)
    compared = found[~found["group"].isin(APART)]
    return StudyData(
        records=records,
        everywhere=everywhere,
        scopes=scopes_of(records, usable, probes),
        cells=made("cells", cells, records),
        problems=made("problems", problems, records),
        speedups=found,
        costs=made("costs", partial(speedups.costs, compared=compared), judged),
        rows=usable,
        probes=probes,
        missing=missing(everywhere, expected),
        messages=(*records.messages, *messages),
        notes=records.notes,
    )


def scopes_of(records: Records, *frames: Frame | None) -> tuple[Scope, ...]:
    """Machine and device of everything that was found, sorted."""
    places = {(record.machine, record.trial.device) for record in records}
    for frame in frames:
        if frame is not None:
            places |= set(zip(frame["machine"], frame["device"], strict=True))
    mixed = machines.mixed(places)
    labels = {place: ", ".join(place) if mixed else place[1] for place in places}
    return tuple(Scope(*place, labels[place], len(places) > 1) for place in sorted(places))


def parted(rows: Frame | None) -> tuple[Frame, Frame | None, tuple[str, ...]]:
    """The probes' answers, the rows of all experiments (None where there are none), and what is wrong with them."""
    if rows is None or not len(rows):
        return framed([], ANSWERS), None, ()
    lacking = [name for name in NEEDED if name not in rows.columns]
    if lacking:
        text = f"the precision rows lack the columns {', '.join(lacking)}; they are left out"
        return framed([], ANSWERS), None, (text,)
    kept, messages = sound(rows)
    probes = kept["experiment"] == PROBES.name
    others = kept[~probes].drop(columns=[name for name in ("probe", "result", "ok", "note") if name in kept])
    return answers(kept[probes]), (in_fixed_order(whole(others)) if len(others) else None), messages


def sound(rows: Frame) -> tuple[Frame, tuple[str, ...]]:
    """The rows whose texts are texts and whose numbers are numbers, an ok error finite; and what is wrong with others.

    Probes have no numbers.
    """
    import pandas

    messages = []
    measured = rows["experiment"] != PROBES.name
    for name in (*TEXTS, *NUMBERS, *ERRORS):
        values = rows[name]
        if name in TEXTS:
            wrong = ~values.map(lambda value: isinstance(value, str) and not NO_TEXT.search(value)).astype(bool)
        else:
            numbers: Series = pandas.to_numeric(values, errors="coerce")
            rows = rows.assign(**{name: numbers})
            wrong = numbers.isna() & (values.notna() | (name in NUMBERS)) & measured
            wrong |= numbers.abs().eq(math.inf) & ((rows["status"] == "ok") | (name in NUMBERS))
        if wrong.any():
            kind = "no text" if name in TEXTS else "no finite number"
            messages.append(f"{plural(int(wrong.sum()), 'precision row')} left out: {name} is {kind}")
            rows, measured = rows[~wrong], measured[~wrong]
    return rows, tuple(messages)


def answers(rows: Frame) -> Frame:
    """What the probes found, sorted."""
    if "probe" not in rows or not len(rows):
        return framed([], ANSWERS)
    probed = rows[ANSWERS].astype({"threads": "int64"}).fillna({"note": ""})
    probed = probed.sort_values(["machine", "device", "threads", "probe"], kind="stable")
    return ordered(probed).reset_index(drop=True)


def missing(records: Records, expected: Sequence[Sequence[str]]) -> Frame:
    """The expected trials of which no record was found."""
    present = {Expected(r.group, r.trial.problem.name, r.trial.dtype, r.trial.device, r.under) for r in records}
    return framed(sorted({Expected(*key) for key in expected} - present), list(Expected._fields))
