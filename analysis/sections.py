"""The report's sections of evidence in the order of the page, their figures and tables numbered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from analysis import accounts, other_sections, planned_sections, speed_sections
from analysis.findings import GROUPS, Findings
from analysis.gaps import STRICT, Gaps
from analysis.parts import Section, attempted

Writers: TypeAlias = dict[str, tuple[str, Callable[[Findings], Section]]]  # by anchor: title, and what writes it

COSTS: Writers = {
    "plans": ("Plans: which layers to merge", planned_sections.plans),
    "breakeven": ("When merging a pair pays", planned_sections.break_even),
    "training": ("Training steps", planned_sections.training),
    "merging": ("What merging costs", speed_sections.merging),
    "wins": ("Where each way wins", speed_sections.wins),
    "accuracy": ("Accuracy against speed", speed_sections.accuracy),
    "memory": ("Memory", speed_sections.memory),
    "depth": ("Error by depth", other_sections.depth),
}
CLOSING: Writers = {
    "validity": ("Validity: what passed, what was skipped, what failed", other_sections.validity),
    "noise": ("Noise floor", other_sections.noise),
    "probes": ("What the machine does with numbers", other_sections.probes),
    "machine": ("The machine", other_sections.machine),
    "problems": ("What was computed", other_sections.problems),
}

OF_THE_PAGE = ("answer", "reading", "limitations", "cite", "reproduce", "data")  # ids in the templates


def sections(findings: Findings, gaps: Gaps = STRICT) -> list[Section]:
    """All sections in the order of the page, their figures and tables numbered; gaps takes those that raise."""
    extra = [group for group in findings.groups if group not in GROUPS]
    found = [
        attempted(
            gaps,
            speed_sections.anchor(group),
            speed_sections.title(group),
            partial(speed_sections.speed, findings, group),
        )
        for group in (*GROUPS, *extra)
    ]
    found += _written(COSTS, findings, gaps)
    found += accounts.sections(findings.experiments, gaps)
    return list(_numbered(distinct([*found, *_written(CLOSING, findings, gaps)])))


def _written(writers: Writers, findings: Findings, gaps: Gaps) -> list[Section]:
    return [attempted(gaps, anchor, title, partial(write, findings)) for anchor, (title, write) in writers.items()]


def distinct(found: Iterable[Section]) -> Iterator[Section]:
    """The sections with ids and files of their own: where names make one slug, the second is numbered 2, and so on."""
    taken: set[str] = set(OF_THE_PAGE)

    def free(name: str, prefix: str = "") -> str:
        candidates = itertools.chain([name], (f"{name}-{count}" for count in itertools.count(2)))
        chosen = next(each for each in candidates if prefix + each not in taken)
        taken.add(prefix + chosen)
        return chosen

    for section in found:
        anchor = free(section.anchor)
        plots = tuple(replace(plot, name=free(plot.name)) for plot in section.plots)
        tables = tuple(replace(table, name=free(table.name, "table-")) for table in section.tables)
        yield replace(section, anchor=anchor, plots=plots, tables=tables)


def _numbered(found: Iterable[Section]) -> Iterator[Section]:
    figure, table = 0, 0
    for section in found:
        plots = tuple(replace(p, number=figure + i) for i, p in enumerate(section.plots, 1))
        tables = tuple(t.numbered(table + i) for i, t in enumerate(section.tables, 1))
        figure, table = figure + len(plots), table + len(tables)
        yield replace(section, plots=plots, tables=tables)
