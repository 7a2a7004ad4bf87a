"""The report: one self-contained HTML page, its numbers as CSV, its tables as LaTeX, its figures as SVG.

The same records, rows and context give the same bytes. It renders from whatever there is and says what is missing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from analysis import accounts, dictionary, growth, machine_tables, machines, other_tables, probe_tables, statistics
from analysis import formatting as show
from analysis.accounts import dictionary as accounts_dictionary
from analysis.findings import Findings, find
from analysis.frames import Frame, ordered
from analysis.gaps import STRICT, Gaps
from analysis.headlines import headlines
from analysis.parts import Section
from analysis.records import Records
from analysis.sections import sections
from analysis.tables import MARKS, latex
from linear_lasagna import vocabulary

TEMPLATES = Path(__file__).parent / "templates"
DOCUMENTED = dictionary.FILES | accounts_dictionary.FILES
PLACES = ["machine", "device", "group", "dtype"]
FRAMES: dict[str, Callable[[Findings], Frame]] = {
    "cells": lambda f: f.cells,
    "speedups": lambda f: f.speedups,
    "summary": lambda f: statistics.over_problems(f.speedups, [*PLACES, "way"]) if len(f.speedups) else [],
    "totals": lambda f: f.totals,
    "winners": lambda f: f.winners.assign(among=f.winners["among"].map(", ".join)),
    "wins": lambda f: statistics.wins(f.winners, PLACES) if len(f.winners) else [],
    "costs": lambda f: f.costs,
    "merging": lambda f: f.merging,
    "plans": lambda f: f.plans,
    "pairs": lambda f: f.pairs,
    "training": lambda f: f.training,
    "noise": lambda f: f.noise,
    "noise_floor": lambda f: statistics.noise_floor(f.noise, ["machine", "device", "dtype"]) if len(f.noise) else [],
    "probes": lambda f: f.probes,
    "reasons": lambda f: other_tables.reasons(f.cells),
    "oddities": lambda f: other_tables.oddities(f.cells),
    "missing": lambda f: f.missing,
    "problems": lambda f: f.problems,
    "environment": machine_tables.environment,
}


@dataclass(frozen=True)
class Context:
    """What the data cannot know. date: of the study, passed in so that a page can be rendered again.

    selection: the name of what should have run; expected: its trials as (group, problem, dtype, device), of which
    those without a record are listed. commands: to reproduce, one per line.
    """

    version: str
    commit: str = ""
    dirty: bool = False
    date: str = ""
    title: str = "Linear Lasagna: cost and accuracy of linear convolutions"
    selection: str = ""
    expected: Sequence[Sequence[str]] = ()
    commands: tuple[str, ...] = ()
    citation: str = ""
    bibtex: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()


def render(records: Records, precision: Frame | None, out: Path, context: Context) -> Path:
    """Write report.html, data/ and figures/ below out; return the page's path. precision: as `growth` takes it.

    What cannot be made leaves a gap, which the page and a line on stderr name.
    """
    gaps = Gaps()
    findings = find(records, precision, context.expected, gaps)
    found = sections(findings, gaps)
    data = frames(findings, gaps)
    for name, frame in data.items():
        _write(out / "data" / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    for section in found:
        for table in section.tables:
            text = gaps.attempt(f"{table.name}.tex", partial(latex, table), "% could not be made\n")
            _write(out / "data" / f"{table.name}.tex", text)
        for plot in section.plots:
            _write(out / "figures" / f"{plot.name}.svg", plot.standalone)
    page = out / "report.html"
    _write(page, _page(findings, found, data, context, gaps))
    for line in gaps.lines:
        print(line, file=sys.stderr)
    return page


def frames(findings: Findings, gaps: Gaps = STRICT) -> dict[str, Frame]:
    """Every CSV by name, as documented in `dictionary`; those without rows are left out, and those that raise."""
    found = {name: gaps.attempt(f"{name}.csv", partial(make, findings), []) for name, make in FRAMES.items()}
    found |= gaps.attempt("The data of the experiment depth", partial(_precision_frames, findings.precision), {})
    found |= accounts.frames(findings.experiments, gaps)
    return {
        name: ordered(found[name]) if {"dtype", "way"} <= set(found[name]) else found[name]
        for name in DOCUMENTED
        if name in found and len(found[name])
    }


def _precision_frames(rows: Frame | None) -> dict[str, Frame]:
    if rows is None:
        return {}
    columns = [name for name in (*growth.NEEDED, "reason", "threads") if name in rows]
    raw = rows[columns].sort_values([*growth.SERIES, "depth", "seed"], kind="stable")
    return {
        "precision": raw,
        "depth": growth.by_depth(rows),
        "slopes": growth.slopes(rows),
        "exponents": growth.exponents(rows),
        "merge_ratios": growth.merge_ratios(rows),
    }


def _page(
    findings: Findings, found: list[Section], data: dict[str, Frame], context: Context, gaps: Gaps = STRICT
) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["code"] = _code
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html").render(
        context=context,
        findings=findings,
        sections=found,
        headlines=headlines(findings, gaps),
        conditions=gaps.attempt("The conditions", partial(conditions, findings), []),
        warnings=warnings(findings, context, gaps),
        partial=missing(findings, context),
        marks=MARKS,
        methods=vocabulary.METHODS,
        schedules=vocabulary.SCHEDULES,
        files={name: (DOCUMENTED[name], list(frame.columns), len(frame)) for name, frame in data.items()},
        columns=dictionary.COLUMNS | accounts_dictionary.COLUMNS,
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
    )


def _code(text: str) -> Any:
    """Names in backticks as <code>; everything else escaped."""
    import markupsafe

    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def _breakable(name: str) -> Any:
    """A way's name that may be broken after "_" and "/"."""
    import markupsafe

    return markupsafe.Markup(re.sub(r"([_/])", r"\1<wbr>", str(markupsafe.escape(name))))


def conditions(findings: Findings) -> list[str]:
    """Under which conditions the numbers hold, one line per machine and device."""
    lines = []
    for scope in findings.scopes:
        records = [r for r in findings.records if (r.machine, r.trial.device) == scope]
        described = records[-1].trial.environment
        chip = described.get("accelerator") if scope.device != "cpu" else described.get("cpu")
        threads = f"{show.plural(int(described['threads']), 'thread')}, " if described.get("threads") else ""
        torch = f"torch {described['torch']}, " if described.get("torch") else ""
        trials = show.plural(len(records), "trial")
        chip = "" if chip and str(chip) in scope.machine else f"{chip or 'processor not recorded'}, "
        lines.append(f"{scope.machine}, {scope.device}: {chip}{threads}{torch}{trials}")
    return lines


def warnings(findings: Findings, context: Context, gaps: Gaps = STRICT) -> list[str]:
    """What a reader must know before believing a number."""
    found = [line for line in (machines.warning(findings.records.found, findings.places),) if line]
    found += gaps.attempt("The probes' warnings", lambda: list(probe_tables.warnings(findings.probes)), [])
    if context.dirty:
        found.append("The working tree differed from the commit: these numbers belong to no commit.")
    dirty = sum(record.dirty for record in findings.records)
    if dirty:
        count = show.plural(len(findings.records), "trial")
        found.append(f"{dirty} of {count} ran in a working tree that differed from the commit.")
    commits = {record.commit for record in findings.records}
    if len(commits) > 1:
        found.append(f"The trials come from {len(commits)} commits.")
    codes = {r.trial.environment["code"] for r in findings.records if "code" in r.trial.environment}
    if len(codes) > len(commits):
        found.append(f"The trials were computed by {len(codes)} versions of the code.")
    return [*gaps.lines, *found, *(f"Left out: {message}" for message in findings.messages)]


def missing(findings: Findings, context: Context) -> list[str]:
    """What is missing."""
    found = []
    if not len(findings.records):
        found.append("There are no trial records yet.")
    elif len(findings.missing):
        of = f"{len(findings.missing)} of the {len(set(map(tuple, context.expected)))} trials"
        found.append(f"{of} of the selection{f' “{context.selection}”' if context.selection else ''} left no record.")
    if findings.precision is None:
        found.append("There are no rows of the precision experiment yet.")
    return found


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
