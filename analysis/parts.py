"""What a section of the page is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis import svg
from analysis.findings import Findings, Scope
from analysis.frames import Frame
from analysis.gaps import Gaps
from analysis.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """One figure. caption: readable without the text around it; alt: for those who cannot see it; data: its CSV.

    name: its id and the stem of its file; raw: as `svg.raw` drew it.
    """

    name: str
    caption: str
    alt: str
    data: str
    raw: str
    number: int = 0

    @property
    def inline(self) -> str:
        """For the page."""
        return svg.inline(self.raw, self.name, self.alt)

    @property
    def standalone(self) -> str:
        """For a file of its own."""
        return svg.standalone(self.raw)


@dataclass(frozen=True)
class Section:
    """empty: what to say where there is nothing to show."""

    anchor: str
    title: str
    intro: str
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    empty: str = ""
    notes: tuple[str, ...] = ()


def plot(name: str, caption: str, alt: str, data: str, figure: Figure) -> Plot:
    """Draw the figure once, for the page and for a file of its own."""
    return Plot(name, caption, alt, data, svg.raw(figure, name))


def with_rows(findings: Findings, frame: Frame) -> list[Scope]:
    """The scopes that the frame has rows of."""
    return [scope for scope in findings.scopes if len(scope.of(frame))]


def attempted(gaps: Gaps, anchor: str, title: str, make: Callable[[], Section]) -> Section:
    """The section, or one of that title that says where to read why there is none."""
    gap = Section(anchor, title, "", empty="This section could not be made; the top of the page says why.")
    return gaps.attempt(f"The section “{title}”", make, gap)
