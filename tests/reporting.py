"""A study as the report sees it, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from xml.etree import ElementTree

import pandas
import pytest

from analysis.data.records import Records
from analysis.data.study_data import StudyData
from analysis.report import page, svg
from analysis.report.answers import Answer, answers
from analysis.report.section import Section, within
from analysis.report.shown import Shown


@dataclass
class Study:
    """data and results: as `page.derive` gives them."""

    data: StudyData
    results: page.Results

    @cached_property
    def frames(self) -> dict[str, Any]:
        """Every section's frames by name."""
        return {name: frame for _, frames in self.results for name, frame in frames.items()}

    @cached_property
    def sections(self) -> dict[str, Shown]:
        """The sections that the page shows, by their anchors."""
        return {section.anchor: section for section in page.contents(self.data, self.results)}

    def section(self, section: Section) -> Shown | None:
        """One section, as the page shows it."""
        [frames] = [frames for each, frames in self.results if each is section]
        return page.shown_section(section, self.data, frames)

    @cached_property
    def headlines(self) -> list[page.Headline]:
        return page.headlines(self.data, self.results)

    @cached_property
    def answers(self) -> list[Answer]:
        """The first screen's, of the first scope."""
        if not self.data.scopes:
            return []
        scope = self.data.scopes[0]
        return answers(self.data.within(scope), within(scope, page.all_frames(self.results)))

    @cached_property
    def files(self) -> dict[str, pandas.DataFrame]:
        """The CSVs by name."""
        return page.csv_frames(self.data, self.results)


def study(records: Records = Records(), rows: Any = None, expected: Sequence[Sequence[str]] = ()) -> Study:  # noqa: B008
    return Study(*page.derive(records, rows, expected))


@contextmanager
def undrawn() -> Iterator[None]:
    """Inside, figures are made and not drawn, which takes a third of a report's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "raw", lambda drawing, name: svg.Drawn(""))
        patch.setattr(svg, "pdf", lambda drawing: b"%PDF")
        yield


def marks_of(figure: ElementTree.Element) -> list[ElementTree.Element]:
    """What stands for a value in a figure, by itself or in a group of one look."""
    of_class = [each for each in figure.iter() if svg.MARK in str(each.get("class")).split()]
    return [mark for each in of_class for mark in (each if each.tag == "g" else [each])]
