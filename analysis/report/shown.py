"""A section as the page shows it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from analysis.report.section import Plot
from analysis.report.tables import Table


@dataclass(frozen=True)
class Shown:
    """name: the section's; anchor: its id on the page. answers: its headlines, one per scope; empty: what to say where
    there is nothing else.
    """

    name: str
    anchor: str
    title: str
    answers: tuple[str, ...] = ()
    intro: str = ""
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    empty: str = ""
    notes: tuple[str, ...] = ()

    @property
    def bare(self) -> bool:
        """Whether there is nothing to show but why there is nothing."""
        return not (self.answers or self.intro or self.plots or self.tables or self.notes)


def distinct(sections: Iterable[Shown], reserved: Iterable[str] = ()) -> Iterator[Shown]:
    """The sections with ids and files of their own: where names make one slug, the second is numbered 2, and so on.

    reserved: ids that are taken.
    """
    taken: set[str] = set(reserved)

    def free(name: str, prefix: str = "") -> str:
        candidates = itertools.chain([name], (f"{name}-{count}" for count in itertools.count(2)))
        chosen = next(each for each in candidates if prefix + each not in taken)
        taken.add(prefix + chosen)
        return chosen

    for section in sections:
        anchor = free(section.anchor)
        plots = tuple(plot.renamed(free(plot.name)) for plot in section.plots)
        tables = tuple(replace(table, name=free(table.name, "table-")) for table in section.tables)
        yield replace(section, anchor=anchor, plots=plots, tables=tables)
