"""The machine: what the trials recorded of it, and a warning where there are several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from analysis.data.frames import Frame, framed
from analysis.data.machines import mixed, unaccelerated
from analysis.data.records import Record
from analysis.data.study_data import StudyData
from analysis.report import formatting as show
from analysis.report.section import Content, Frames, Section
from analysis.report.tables import Table, Text, table
from linear_lasagna.environment import FINGERPRINT, fingerprint_of

CALLED = {
    "os": "operating system",
    "os_release": "its release",
    "cpu": "CPU",
    "cpu_model": "CPU model",
    "cpu_capability": "ATen’s CPU capability",
    "cache_bytes": "caches (bytes)",
    "memory_gib": "memory (GiB)",
    "load_1min": "load, 1 min",
    "python": "Python",
    "numpy": "NumPy",
    "blas": "BLAS",
    "onednn": "oneDNN",
    "wait_policy": "OpenMP’s wait policy",
    "flush_denormal": "subnormal numbers flushed",
    "code": "source hash",
}  # properties whose names in the records are not words


def environment(records: Iterable[Record]) -> Frame:
    """One row per machine, device and property; what differs between trials is given as a range or a list."""
    seen: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in records:
        for name, value in record.trial.environment.items():
            value = "none" if name == "accelerator" and value is None else value
            key = (record.machine, record.trial.device, name)
            seen.setdefault(key, {})[_plain(value)] = value
    rows = [(*key, _together(list(values), list(values.values()))) for key, values in seen.items()]
    return framed(rows, ["machine", "device", "property", "value"])


def _together(texts: list[str], values: list[Any]) -> str:
    numbers = [value for value in values if isinstance(value, float)]
    if len(values) > 1 and len(numbers) == len(values):
        return f"{min(numbers):g} to {max(numbers):g}"
    return "; ".join(sorted(texts))


def _plain(value: Any) -> str:
    """A value for readers: libraries as "openblas 0.3 (2 threads)", switches as yes and no."""
    if isinstance(value, list):
        mark = " " if all(isinstance(item, str) for item in value) else "; "
        return mark.join(_plain(item) for item in value) or "none"
    if isinstance(value, dict) and not {"internal_api", "user_api"} & value.keys():
        return "; ".join(f"{name}: {_plain(item)}" for name, item in value.items()) or "none"
    if isinstance(value, dict):
        name = str(value.get("internal_api") or value.get("user_api"))
        version, architecture = value.get("version") or "", value.get("architecture") or ""
        threads = f"({show.plural(value['num_threads'], 'thread')})" if "num_threads" in value else ""
        return " ".join(part for part in (name, version, architecture, threads) if part)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not recorded" if value is None else str(value)


def environment_table(data: StudyData, rows: Frame) -> Table:
    """One column per machine and device."""
    names = list(dict.fromkeys(rows["property"]))
    shown = {(r.machine, r.device, r.property): r.value for r in rows.itertuples(index=False)}
    columns: dict[str, Any] = {"what": lambda row: CALLED.get(row.property, row.property.replace("_", " "))}
    for scope in data.scopes:
        columns[f"{scope.machine}, {scope.device}"] = lambda row, scope=scope: Text(
            shown.get((scope.machine, scope.device, row.property), show.DASH), kind="prose"
        )
    caption = "What the trials recorded of the machine. Several values, or a range: it differed between trials."
    wide = range(len(columns))
    return table("environment", caption, framed([(n,) for n in names], ["property"]), columns, "environment", wide)


def warning(records: Sequence[Record], places: Iterable[tuple[str, str]]) -> str:
    """One line for the top of the page where results of several machines are in one report, else "".

    places: machine and device of all results, rows without records too.
    """
    places = set(places)
    if not mixed(places) and len({unaccelerated(record) for record in records}) <= 1:
        return ""
    names = sorted({machine for machine, _ in places})
    text = f"These results are of {show.plural(len(names), 'machine')}, each shown apart, their times never compared: "
    return f"{text}{'; '.join(names)}. {_difference(records)}"


def _difference(records: Sequence[Record]) -> str:
    """In what the machines of the records differ, as far as was recorded."""
    fingerprints = {record.machine: fingerprint_of(record.trial.environment) for record in records}
    names = [name for name in FINGERPRINT if len({str(each[name]) for each in fingerprints.values()}) > 1]
    if len(fingerprints) < 2:
        return ""
    listed = ", ".join(name.replace("_", " ") for name in names) or "nothing but the names they were given"
    return f"Between the machines of the trials differ: {listed}."


def content(data: StudyData, frames: Frames) -> Content:
    rows = frames["environment"]
    return Content(tables=(environment_table(data, rows),) if len(rows) else ())


def warnings(data: StudyData, frames: Frames) -> Iterator[str]:
    """That there are several machines, if there are."""
    if text := warning(data.records.entries, {(scope.machine, scope.device) for scope in data.scopes}):
        yield text


SECTION = Section(
    "machine",
    "The machine",
    content,
    lambda data: {"environment": environment(data.records)},
    empty="No trial recorded a machine.",
    warnings=warnings,
    files={"environment": "What the trials recorded of the machine."},
    columns={
        "property": "the name of what was recorded",
        "value": "its value; several values, or a range, where it differed between trials",
    },
)
