"""Which machine a result is of: its own environment tells, not the name of a host or of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame
from linear_lasagna.environment import FINGERPRINT, fingerprint_of, machine_label, machine_named

if TYPE_CHECKING:
    from analysis.data.records import Record

DIGEST = re.compile(r" #[0-9a-f]{8}$")


def plain(text: str) -> str:
    """The text without the digests of machines in it."""
    return re.sub(r" #[0-9a-f]{8}\b", "", text)


def brief(text: str) -> str:
    """The text with its machines by their models alone, as in "Intel Xeon, cpu", or by their accelerators'."""
    left_out = r"\((?:R|TM)\)|\b(?:CPU|Processor)\b|(?: on .*)? \(\d+ cores?\b[^()]*\)"
    return re.sub(r" +(?=[ ,]|$)", "", re.sub(left_out, "", plain(text)))


def after_on(name: str) -> str:
    """The name of a machine as it reads after "on": an accelerator, and its host."""
    return re.sub(r" on (?=.*\(\d+ cores?\b)", ", host ", name, count=1)


def told(given: str, environment: Mapping[str, Any]) -> str:
    """The machine that an environment was recorded on, as `linear_lasagna.environment.machine_named` names machines.

    given: the name in the record. One with a digest was made, or chosen, when the record was written. Another is a
    host's, as older records have it: it is not shown, but tells apart what the environment cannot. Where nothing was
    recorded of the machine, it is all there is.
    """
    fingerprint = fingerprint_of(environment)
    if not any(environment.get(name) for name in FINGERPRINT):
        return given
    named = machine_named(fingerprint, _name(given, fingerprint))
    return named if DIGEST.search(given) else machine_label(fingerprint) + _digest(named)


def _name(given: str, fingerprint: Mapping[str, Any]) -> str:
    """What tells a machine apart beside its fingerprint: a name that was chosen, or a host's; else ""."""
    if not DIGEST.search(given):
        return given
    return "" if _digest(given) == _digest(machine_named(fingerprint)) else DIGEST.sub("", given)


def _digest(name: str) -> str:
    return name[-len(" #01234567") :]


def adopted(rows: Frame, records: Iterable[Record]) -> Frame:
    """The rows, those with a host's name under the machine that all records under that name are of, if it is one."""
    known: dict[tuple[str, str], set[str]] = {}
    for record in records:
        known.setdefault((record.given, record.trial.device), set()).add(record.machine)
    if rows is None or not {"machine", "device"} <= set(rows):
        return rows
    places = zip(rows["machine"], rows["device"], strict=True)
    only = {place: next(iter(machines)) for place, machines in known.items() if len(machines) == 1}
    return rows.assign(machine=[only.get(place, place[0]) for place in places])


def mixed(places: Iterable[tuple[str, str]]) -> bool:
    """Whether a device occurs with several machines. A machine is another one with its accelerator than without."""
    distinct = set(places)
    return len(distinct) > len({device for _, device in distinct})


def unaccelerated(record: Record) -> str:
    """What tells a machine apart, without its accelerator: trials on the CPU do not tell that."""
    fingerprint = fingerprint_of(record.trial.environment)
    return machine_named({**fingerprint, "accelerator": None}, _name(record.given, fingerprint))
