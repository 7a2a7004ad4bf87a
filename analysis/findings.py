"""Everything that the report says, as frames: computed once from the records and the precision rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

from analysis import growth, machines, networks, planned, probe_tables, statistics
from analysis.frames import Frame, framed
from analysis.gaps import STRICT, Gaps, reason
from analysis.records import Records, cells, problems
from analysis.style import dtypes_in_order
from linear_lasagna import catalog

GROUPS = tuple(name for name, group in catalog.GROUPS.items() if not group.own_section)
MERGING = "merging"
APART = tuple(name for name in catalog.GROUPS if name not in GROUPS)


class Scope(NamedTuple):
    """Where trials were run: never compared across scopes."""

    machine: str
    device: str

    def of(self, frame: Frame) -> Frame:
        """The rows of this scope."""
        return frame[(frame["machine"] == self.machine) & (frame["device"] == self.device)]


class Expected(NamedTuple):
    """A trial that the study was meant to run, on one machine."""

    group: str
    problem: str
    dtype: str
    device: str


@dataclass(frozen=True)
class Findings:
    """speedups, winners, costs: without the groups `APART`. precision: rows of the experiment `depth`; experiments:
    those of all experiments; None where absent. probes: what was asked of the machine, as `probe_tables` gives it.
    """

    records: Records
    scopes: tuple[Scope, ...]
    groups: tuple[str, ...]
    cells: Frame
    problems: Frame
    speedups: Frame
    winners: Frame
    costs: Frame
    noise: Frame
    totals: Frame
    merging: Frame
    plans: Frame
    pairs: Frame
    training: Frame
    precision: Frame | None
    experiments: Frame | None
    probes: Frame
    missing: Frame
    messages: tuple[str, ...]
    notes: tuple[str, ...]

    def label(self, scope: Scope) -> str:
        """The device, and the machine where a device has several."""
        return f"{scope.machine}, {scope.device}" if machines.mixed(self.places) else scope.device

    def within(self, scope: Scope) -> Findings:
        """The records, speedups and controls of one scope alone; the rest as it is."""
        records = tuple(r for r in self.records if (r.machine, r.trial.device) == scope)
        own = {"noise": scope.of(self.noise), "speedups": scope.of(self.speedups)}
        return replace(self, records=replace(self.records, found=records), **own)

    @cached_property
    def places(self) -> set[tuple[str, str]]:
        """Machine and device of everything that was found, without a trial too."""
        frames = [f for f in (self.experiments, self.probes) if f is not None and {"machine", "device"} <= set(f)]
        rows = {(machine, device) for f in frames for machine, device in zip(f["machine"], f["device"], strict=True)}
        return {(scope.machine, scope.device) for scope in self.scopes} | rows

    def dtypes(self, frame: Frame) -> list[str]:
        return dtypes_in_order(frame["dtype"])


def find(
    records: Records, precision: Frame | None, expected: Sequence[Sequence[str]] = (), gaps: Gaps = STRICT
) -> Findings:
    """Analyse the newest record of every trial. precision: rows as `growth` takes them; unusable ones are named.

    gaps: takes what raises; a record that does so on its own is left out, and named.
    """
    records, found = _analysed(records.latest(), gaps)
    nothing = probe_tables.parted(None)
    parted = lambda: probe_tables.parted(machines.adopted(precision, records))  # noqa: E731
    answers, precision = gaps.attempt("The data of the precision rows", parted, nothing)
    rows, messages = _usable(precision)
    order = {group: place for place, group in enumerate(GROUPS)}
    return Findings(
        records=records,
        scopes=tuple(sorted({Scope(r.machine, r.trial.device) for r in records})),
        groups=tuple(sorted({r.group for r in _judged(records)}, key=lambda group: (order.get(group, 9), group))),
        **found,
        precision=rows,
        experiments=precision,
        probes=answers,
        missing=_missing(records, expected),
        messages=(*records.messages, *messages),
        notes=records.notes,
    )


def _analysed(records: Records, gaps: Gaps) -> tuple[Records, dict[str, Frame]]:
    """The records, without those whose own frames cannot be made, and their frames by the names that Findings has."""
    if gaps.strict:
        return records, _frames(records, gaps)
    try:
        return records, _frames(records, STRICT)
    except Exception:
        kept, messages = [], list(records.messages)
        for record in records:
            try:
                _frames(Records((record,)), STRICT)
                kept.append(record)
            except Exception as error:
                messages.append(f"{record.source or record.trial.problem.name}: cannot be analysed: {reason(error)}")
        if kept:  # else it is no record's fault
            records = Records(tuple(kept), tuple(messages), records.notes)
        return records, _frames(records, gaps)


def _frames(records: Records, gaps: Gaps) -> dict[str, Frame]:
    """The frames of trials, by the names that Findings has."""

    def made(name: str, make: Callable[..., Frame], *of: Any) -> Frame:
        nothing = (Records() if isinstance(each, Records) else each[:0] for each in of)
        return gaps.attempt(f"The data of {name}", partial(make, *of), make(*nothing))

    judged = _judged(records)
    everything = made("speedups", statistics.speedups, records)
    return {
        "cells": made("cells", cells, records),
        "problems": made("problems", problems, records),
        "speedups": everything[~everything["group"].isin(APART)].reset_index(drop=True),
        "winners": made("winners", statistics.winners, judged),
        "costs": made("costs", statistics.costs, judged),
        "noise": made("noise", statistics.noise, records),
        "totals": made("totals", networks.totals, records),
        "merging": made("merging", _merging, everything),
        "plans": made("plans", planned.plans, judged),
        "pairs": made("pairs", planned.pairs, records, everything),
        "training": made("training", _training, everything),
    }


def _judged(records: Records) -> Records:
    return Records(tuple(record for record in records if record.group not in APART))


def _usable(precision: Frame | None) -> tuple[Frame | None, tuple[str, ...]]:
    """The precision rows where they hold the depth experiment, else None; and what is wrong with them."""
    if precision is None or not len(precision):
        return None, ()
    lacking = growth.missing_columns(precision)
    if lacking:
        return None, (f"the precision rows lack the columns {', '.join(lacking)}; they are left out",)
    usable = precision[precision["experiment"] == "depth"]
    return (usable.reset_index(drop=True), ()) if len(usable) else (None, ())


def _missing(records: Records, expected: Sequence[Sequence[str]]) -> Frame:
    """The expected trials of which no record was found."""
    found = {(r.group, r.trial.problem.name, r.trial.dtype, r.trial.device) for r in records}
    return framed(sorted(tuple(key) for key in expected if tuple(key) not in found), list(Expected._fields))


def _training(speedups: Frame) -> Frame:
    """Training steps that merge, against the stack's: as `speedups`."""
    rows = speedups[(speedups["group"] == planned.TRAINING) & ~speedups["control"].astype(bool)]
    return rows.reset_index(drop=True)


def _merging(speedups: Frame) -> Frame:
    """What merging costs: one row per problem, dtype and merge. calls: the merge's time in calls of the unmerged stack.

    break_even: calls after which a kernel merged once has paid, where merging makes the stack faster by verdict.
    """
    keys = ["machine", "problem", "dtype", "device"]
    ways = {"merge_float64": "merged/direct", "merge_working": "merged_working/direct"}
    merges = speedups[(speedups["group"] == MERGING) & speedups["way"].isin(ways)]
    merges = merges[[*keys, "way", "seconds", "baseline_seconds", "ratio", "ratio_lower", "ratio_upper"]]
    calls = speedups[(speedups["group"] == "stacks") & speedups["way"].isin(ways.values())]
    calls = calls[[*keys, "way", "ratio", "verdict"]].rename(columns={"ratio": "call_ratio"})
    rows = merges.assign(merged=merges["way"].map(ways)).merge(
        calls.rename(columns={"way": "merged"}), on=[*keys, "merged"], how="left"
    )
    pays = rows["verdict"] == "faster"
    rows["break_even"] = (rows["ratio"] / (1 - rows["call_ratio"])).where(pays)
    return rows.drop(columns="merged")
