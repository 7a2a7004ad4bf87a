"""The parts of the page: each answers a question, shows the evidence that matters most, and folds the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.data.study_data import StudyData
from analysis.report import openings
from analysis.report.section import Frames, Plot
from analysis.report.shown import Shown
from analysis.report.tables import Table
from linear_lasagna import own


@dataclass(frozen=True)
class Chapter:
    """name: its anchor; short: its name in the list of contents. opening: its first sentences, of one scope's data and
    frames (all sections' by name). sections: those that it folds, in order; figures, tables: those of them whose first
    figure, or first table, stands open.
    """

    name: str
    title: str
    short: str
    opening: Callable[[StudyData, Frames], str]
    sections: tuple[str, ...]
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


ERRORS = (
    *("depth", "merge-parts", "averaging", "casting", "outlier", "summation", "fan-in", "kernel-size", "gain"),
    *("gradients", "small-outputs", "tails", "scatter", "order", "bitwise", "reproducibility", "emulation"),
    *("linearity", "bounds", "switches"),
)
RESULTS = Chapter("results", "Every result", "All results", lambda data, frames: "", ())  # one table, of no section
METHOD = Chapter(
    "method",
    "Which method for one convolution?",
    "Methods",
    openings.method,
    ("networks", "sources", "mobilenet", "transforms", "wins", "memory"),
    (),
    ("networks",),
)
ACROSS = Chapter(
    "across",
    "What holds on every machine, and what differs?",
    "Every machine",
    lambda data, frames: "",  # it is about all scopes at once: `sections.across.sentence`
    ("across-cells",),
    ("across-cells",),
    ("across-cells",),
)
CHAPTERS = (
    ACROSS,
    Chapter("your-own", "Your own problems", "Your own", openings.own, (own.GROUP,), (own.GROUP,)),
    Chapter(
        "merge",
        "Should I merge my stack?",
        "Merging",
        openings.merge,
        ("breakeven", "stacks", "borders", "throughput", "plans", "training", "merging"),
        ("stacks",),
    ),
    METHOD,
    RESULTS,
    Chapter(
        "scaling",
        "How do times grow, and how near are they to the limit?",
        "Scaling and the limit",
        openings.scaling,
        ("sweeps", "limit", "conditions"),
        ("sweeps", "limit"),
    ),
    Chapter(
        "precision",
        "What do rounding and merging cost in accuracy?",
        "Accuracy",
        openings.precision,
        ERRORS,
        ("depth",),
    ),
    Chapter(
        "trade-off",
        "What does speed cost in accuracy?",
        "Speed against accuracy",
        openings.trade_off,
        ("accuracy",),
        ("accuracy",),
    ),
    Chapter(
        "real-models",
        "What does merging do to real models?",
        "Real models",
        openings.real_models,
        ("models",),
        (),
        ("models",),
    ),
    Chapter(
        "other-runtimes",
        "How do other runtimes compare?",
        "Runtimes",
        openings.other_runtimes,
        ("runtimes",),
        (),
        ("runtimes",),
    ),
    Chapter(
        "non-linear",
        "Can rounding be the non-linearity?",
        "Rounding as non-linearity",
        openings.non_linear,
        ("rounded", "coarse", "defects", "accidents", "evolved"),
        ("rounded",),
    ),
    Chapter(
        "trust",
        "How far can I trust this?",
        "Trust",
        openings.trust,
        ("noise", "processes", "samples", "validity", "characteristics", "probes", "machine"),
        ("samples",),
        ("noise",),
    ),
    Chapter(
        "claims",
        "Do the claims of the source articles hold?",
        "Claims",
        openings.claims,
        ("articles", "leads"),
        (),
        ("articles",),
    ),
)
REFERENCE = ("problems",)  # sections among the reference, at the end
MAIN = "float32"
HEROES = ("breakeven", own.GROUP, "stacks", "networks", "sources", "sweeps", "depth")  # whose figure comes first


@dataclass(frozen=True)
class Part:
    """A chapter as the page shows it. answers: its first sentences; folded: its sections."""

    chapter: Chapter
    answers: tuple[str, ...]
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]
    folded: tuple[Shown, ...]

    def __bool__(self) -> bool:
        return bool(self.plots or self.tables or self.folded or self.chapter is RESULTS)


@dataclass(frozen=True)
class Anatomy:
    """The page's parts. hero: the figure beside the answer; reference: sections at the end; empty: what could not be
    shown, (title, why).
    """

    hero: Plot | None
    parts: tuple[Part, ...]
    reference: tuple[Shown, ...]
    empty: tuple[tuple[str, str], ...]


def anatomy(sections: Iterable[Shown], answers: Mapping[str, tuple[str, ...]]) -> Anatomy:
    """The page's parts from its sections, figures and tables numbered in the order of the page.

    answers: by chapter.
    """
    by_name = {each.anchor: each for each in sections}
    empty = tuple((each.title, each.empty) for each in by_name.values() if each.bare)
    by_name = {name: each for name, each in by_name.items() if not each.bare}
    chosen = next((name for name in HEROES if name in by_name and by_name[name].plots), "")
    hero, by_name = _taken(by_name, chosen) if chosen else (None, by_name)
    known = {name for chapter in CHAPTERS for name in chapter.sections} | set(REFERENCE)
    others = [name for name in by_name if name not in known]
    parts = tuple(
        _part(chapter, answers.get(chapter.name, ()), by_name, others if chapter is METHOD else ())
        for chapter in CHAPTERS
    )
    reference = tuple(by_name[name] for name in REFERENCE if name in by_name)
    return _numbered(Anatomy(hero, tuple(part for part in parts if part), reference, empty))


def _taken(by_name: dict[str, Shown], name: str) -> tuple[Plot, dict[str, Shown]]:
    """A section's foremost figure, and the sections without it."""
    chosen = _foremost(by_name[name].plots)
    rest = tuple(each for each in by_name[name].plots if each is not chosen)
    return chosen, {**by_name, name: replace(by_name[name], plots=rest)}


def _foremost(plots: Sequence[Plot]) -> Plot:
    """The one about the main dtype, where there is one per dtype; else the first."""
    return next((plot for plot in plots if plot.name.endswith(f"-{MAIN}")), plots[0])


def _part(chapter: Chapter, answers: tuple[str, ...], by_name: dict[str, Shown], others: Sequence[str]) -> Part:
    """others: sections that no chapter names."""
    mine = [by_name[name] for name in (*chapter.sections, *others) if name in by_name]
    plots = tuple(_foremost(each.plots) for each in mine if each.anchor in chapter.figures and each.plots)
    shown = {each.anchor: [table for table in each.tables if not table.apart] for each in mine}
    tables = tuple(found[0] for anchor, found in shown.items() if anchor in chapter.tables and found)
    left = (_without(each, plots, tables) for each in mine)
    return Part(chapter, answers, plots, tables, tuple(each for each in left if not each.bare))


def _without(shown: Shown, plots: Sequence[Plot], tables: Sequence[Table]) -> Shown:
    """What is left to fold of a section."""
    return replace(
        shown,
        plots=tuple(each for each in shown.plots if each not in plots),
        tables=tuple(each for each in shown.tables if each not in tables),
    )


def _numbered(page: Anatomy) -> Anatomy:
    """Figures and tables numbered in the order of the page."""
    figures, tables = iter(range(1, 1_000_000)), iter(range(1, 1_000_000))

    def plots_of(plots: tuple[Plot, ...]) -> tuple[Plot, ...]:
        return tuple(replace(each, number=next(figures)) for each in plots)

    def tables_of(each: tuple[Table, ...]) -> tuple[Table, ...]:
        return tuple(table if table.apart else table.numbered(next(tables)) for table in each)

    def folded(shown: Shown) -> Shown:
        return replace(shown, plots=plots_of(shown.plots), tables=tables_of(shown.tables))

    def part(each: Part) -> Part:
        numbered = replace(each, plots=plots_of(each.plots), tables=tables_of(each.tables))
        return replace(numbered, folded=tuple(map(folded, each.folded)))

    hero = None if page.hero is None else plots_of((page.hero,))[0]
    return replace(page, hero=hero, parts=tuple(map(part, page.parts)), reference=tuple(map(folded, page.reference)))


def every(page: Anatomy) -> Iterator[Shown | Part]:
    """All that has figures and tables, in the order of the page."""
    for part in page.parts:
        yield part
        yield from part.folded
    yield from page.reference


def plots(page: Anatomy) -> list[Plot]:
    """All figures, in the order of the page."""
    first = [] if page.hero is None else [page.hero]
    return first + [plot for each in every(page) for plot in each.plots]


def tables(page: Anatomy) -> list[Table]:
    """All tables, those for papers alone included, in the order of the page."""
    return [table for each in every(page) for table in each.tables]
