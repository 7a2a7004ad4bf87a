"""The report's sections of evidence in the order of the page, their figures and tables numbered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from analysis import accounts, other_sections, planned_sections, speed_sections
from analysis.findings import GROUPS, Findings
from analysis.parts import Section

OF_THE_PAGE = ("answer", "reading", "limitations", "cite", "reproduce", "data")  # ids in the templates


def sections(findings: Findings) -> list[Section]:
    """All sections in the order of the page, their figures and tables numbered."""
    extra = [group for group in findings.groups if group not in GROUPS]
    found = [speed_sections.speed(findings, group) for group in (*GROUPS, *extra)]
    costs: tuple[Callable[[Findings], Section], ...] = (
        planned_sections.plans,
        planned_sections.break_even,
        planned_sections.training,
        speed_sections.merging,
        speed_sections.wins,
        speed_sections.accuracy,
        speed_sections.memory,
        other_sections.depth,
    )
    closing: tuple[Callable[[Findings], Section], ...] = (
        other_sections.validity,
        other_sections.noise,
        other_sections.probes,
        other_sections.machine,
        other_sections.problems,
    )
    found += [write(findings) for write in costs]
    found += accounts.sections(findings.experiments)
    return list(_numbered(distinct([*found, *(write(findings) for write in closing)])))


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
