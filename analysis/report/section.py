"""What a section of the report is: frames from the study's data in; figures, tables and sentences out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from analysis.data.frames import Frame
from analysis.data.study_data import Scope, StudyData, of_several
from analysis.report import svg
from analysis.report.drawing import Drawing
from analysis.report.tables import Table

Frames: TypeAlias = Mapping[str, Frame]


@dataclass(frozen=True)
class Plot:
    """One figure. caption: readable without the text around it; alt: for those who cannot see it; data: its CSV.

    name: its id and the stem of its file; drawn: as `svg.raw` drew it; drawing: what it drew, until `finished`; then
    made, for the page, with the classes of which `svg.rules` makes its CSS; and pdf, a file of its own, where it was
    asked for.
    """

    name: str
    caption: str
    alt: str
    data: str
    drawn: svg.Drawn
    drawing: Drawing | None = field(default=None, compare=False, repr=False)
    number: int = 0
    pdf: bytes = b""
    made: svg.Inline | None = None

    @property
    def of_page(self) -> svg.Inline:
        return self.made or svg.inline(self.drawn, self.name, self.alt)

    @property
    def inline(self) -> str:
        """For the page: HTML, a legend and one <svg> per panel."""
        return self.of_page.text

    @property
    def standalone(self) -> str:
        """For a file of its own: SVG."""
        return svg.standalone(self.drawn)

    def finished(self, pdf: bool = False) -> Plot:
        """Without its drawing, which no other process could take. pdf: with a PDF of it, where something was drawn."""
        printed = svg.pdf(self.drawing) if pdf and self.drawing else self.pdf
        return replace(self, drawing=None, pdf=printed, made=self.of_page)

    def renamed(self, name: str) -> Plot:
        return self if name == self.name else replace(self, name=name, made=None)


@dataclass(frozen=True)
class Content:
    """What a section shows. answer: sentences that follow the intro, names of ways in backticks; notes: more of them,
    without any markup, at the end.
    """

    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    answer: str = ""
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.plots or self.tables or self.answer)


@dataclass(frozen=True)
class Section:
    """A section of the page, with all that belongs to it.

    name: its anchor. frames: its frames by name, for all scopes; each scope's rows depend on that scope's data alone.
    content: what it shows of them; None leaves the section off the page. intro: before the answer; empty: what stands
    instead where there is nothing to show. headlines: title -> the sentence about the data and frames of one scope, ""
    for none. warnings: for the top of the page. files: which frames are CSVs, and what they hold; columns: what their
    columns mean, but for those that many CSVs share (`dictionary`). everywhere: it is about all scopes at once, however
    many there are.
    """

    name: str
    title: str
    content: Callable[[StudyData, Frames], Content | None]
    frames: Callable[[StudyData], Frames] = lambda data: {}
    intro: str = ""
    empty: str = ""
    headlines: Mapping[str, Callable[[StudyData, Frames], str]] = field(default_factory=dict)
    warnings: Callable[[StudyData, Frames], Iterable[str]] = lambda data, frames: ()
    files: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    everywhere: bool = False


def plot(name: str, caption: str, alt: str, data: str, drawing: Drawing) -> Plot:
    """Draw once, for the page and for files of their own."""
    return Plot(name, caption, alt, data, svg.raw(drawing, name), drawing)


def within(scope: Scope, frames: Frames) -> Frames:
    """The frames with the rows of one scope."""
    return {name: scope.of(frame) for name, frame in frames.items()}


def among(scopes: Sequence[Scope], frames: Frames) -> Frames:
    """The frames with the rows of several scopes."""
    return {name: of_several(scopes, frame) for name, frame in frames.items()}


def per_scope(
    part: Callable[[Scope, StudyData, Frames], Content | None],
) -> Callable[[StudyData, Frames], Content]:
    """The content of a section that shows each scope by itself. part: a scope, its data and its frames."""

    def content(data: StudyData, frames: Frames) -> Content:
        shown = [(scope, part(scope, data.within(scope), within(scope, frames))) for scope in data.scopes]
        return joined([(scope, each) for scope, each in shown if each is not None])

    return content


def joined(parts: Iterable[tuple[Scope, Content]]) -> Content:
    """The contents of several scopes one after another; sentences name their scope where there are others."""
    parts = list(parts)
    return Content(
        plots=tuple(plot for _, part in parts for plot in part.plots),
        tables=tuple(named(scope, table) for scope, part in parts for table in part.tables),
        answer=" ".join(text for scope, part in parts if (text := placed(scope, part.answer))),
        notes=tuple(placed(scope, note) for scope, part in parts for note in part.notes),
    )


def named(scope: Scope, table: Table) -> Table:
    """The table with its scope in the caption, where there are several."""
    told = scope.label in table.caption
    return table if told else replace(table, caption=placed(scope, table.caption))


def placed(scope: Scope, text: str) -> str:
    """The text after the scope that it is about, where there are several."""
    return f"{scope.label}: {text}" if scope.several and text else text
