"""The table of what the trials recorded of the machine."""

from __future__ import annotations

from typing import Any

from analysis import formatting as show
from analysis.findings import Findings
from analysis.frames import Frame, framed
from analysis.tables import Table, Text, table


def environment(findings: Findings) -> Frame:
    """One row per machine, device and property; what differs between trials is given as a range or a list."""
    seen: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in findings.records:
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


def environment_table(findings: Findings, rows: Frame) -> Table:
    """One column per machine and device."""
    names = list(dict.fromkeys(rows["property"]))
    shown = {(r.machine, r.device, r.property): r.value for r in rows.itertuples(index=False)}
    columns: dict[str, Any] = {"": lambda row: row.property.replace("_", " ")}
    for scope in findings.scopes:
        columns[f"{scope.machine}, {scope.device}"] = lambda row, scope=scope: Text(
            shown.get((scope.machine, scope.device, row.property), show.DASH), kind="prose"
        )
    caption = "What the trials recorded of the machine. Several values, or a range: it differed between trials."
    wide = range(len(columns))
    return table("environment", caption, framed([(n,) for n in names], ["property"]), columns, "environment", wide)
