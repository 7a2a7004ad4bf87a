"""The report: one self-contained HTML page, its numbers as CSV, its tables as LaTeX, its figures as SVG.

The same records, rows and context give the same bytes. It renders from whatever there is and says what is missing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from analysis import atomic
from analysis.data.frames import Frame, ordered
from analysis.data.records import Records
from analysis.data.study_data import Scope, StudyData, study_data
from analysis.gaps import STRICT, Gaps, reason
from analysis.report import answers, chapters, dictionary, forks, results
from analysis.report.answers import Answer
from analysis.report.chapters import ACROSS, CHAPTERS, Anatomy
from analysis.report.fitness import Fitness, conditions, fitness
from analysis.report.latex import latex
from analysis.report.markup import OF_THE_PAGE, html, with_dictionary
from analysis.report.section import Frames, Section, among, within
from analysis.report.sections import across as side_by_side
from analysis.report.sections import sections
from analysis.report.shown import Shown, distinct

T = TypeVar("T")
R = TypeVar("R")
SENTENCE = re.compile(r"(?<=[.?]) ")  # where one ends and another begins
MOST_SCOPES = 2  # more machines and devices than these have their sections, but no headlines
MOST_SECTIONS = 3  # more than these have no sections, but their place among the results and beside the others
OURS = "Rendered by Linear Lasagna"  # on every page
NUMBERS = "%.12g"  # digits of a CSV: the last ones of a float64 depend on the processor that summed it


@dataclass(frozen=True)
class Context:
    """What the data cannot know. date: of the study, passed in so that a page can be rendered again.

    selection: the names of what should have run; expected: its trials as (group, problem, dtype, device), of which
    those without a record are listed. commands: to reproduce, one per line. edition: its name, where the page is one's;
    address: where it stands; asv: that of asv's own site, from the page. left_out: files that were no trial records and
    that an edition does not keep, a line each.
    conditions: that the page is about, as `factors.written` writes them.
    """

    version: str
    commit: str = ""
    dirty: bool = False
    date: str = ""
    title: str = ""
    selection: str = ""
    expected: Sequence[Sequence[str]] = ()
    commands: tuple[str, ...] = ()
    licence: str = ""
    notes: tuple[str, ...] = ()
    conditions: str = ""
    edition: str = ""
    address: str = ""
    asv: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Headline:
    """title: what it is about; text: the answer, names of ways in backticks; anchor: the section with the evidence."""

    title: str
    text: str
    anchor: str


class Report(NamedTuple):
    """What was rendered: the page's path, its headlines (the first screen's answers, and the sections' own), and all
    that it is made of.
    """

    page: Path
    headlines: list[Headline]
    made: Rendering


Results = list[tuple[Section, Frames | None]]  # every section with its frames, None where they could not be made


@dataclass(frozen=True)
class Rendering:
    """All that a page is made of. answered: of every scope that has headlines; across: what holds on all, where
    there are several.
    """

    data: StudyData
    anatomy: Anatomy
    answered: tuple[tuple[Scope, tuple[Answer, ...]], ...]
    lines: list[Headline]
    files: dict[str, Frame]
    fitness: Fitness
    conditions: list[str]
    context: Context
    across: str = ""


def render(records: Records, rows: Frame | None, out: Path, context: Context, pdf: bool = False) -> Report:
    """Write report.html, data/ and figures/ below out. rows: of the precision study, as a store is read, or None; pdf:
    draw the figures as PDFs, too, for who takes them out of what is returned.

    What cannot be made leaves a gap, which the page and a line on stderr name.
    """
    gaps = Gaps()
    made = rendering(records, rows, context, gaps, pdf)
    files = texts(made, gaps)
    for path, text in files.items():
        atomic.write(out / path, text)
    page = out / "report.html"
    before = _carried(page)
    made = replace(made, fitness=replace(made.fitness, bad=(*gaps.lines, *made.fitness.bad)))
    atomic.write(page, html(made, files))
    for path in before - files.keys():
        (out / path).unlink(missing_ok=True)
    for line in gaps.lines:
        print(line, file=sys.stderr)
    return Report(page, [*first_lines(made.answered), *made.lines], made)


def texts(made: Rendering, gaps: Gaps) -> dict[str, str]:
    """The files beside the page by their paths from it: CSVs, tables as LaTeX, figures as SVG."""
    files = {f"data/{name}.csv": csv_text(frame) for name, frame in made.files.items()}
    for table in chapters.tables(made.anatomy):
        text = gaps.attempt(f"{table.name}.tex", partial(latex, table, source(made.context)), "% could not be made\n")
        files[f"data/{table.name}.tex"] = text
    return files | {f"figures/{plot.name}.svg": plot.standalone for plot in chapters.plots(made.anatomy)}


def csv_text(frame: Frame) -> str:
    """The frame as a CSV. pandas alone takes longer by half for numbers with so many digits."""
    numbers = {
        name: ["" if value != value else NUMBERS % value for value in frame[name].tolist()]
        for name in frame.select_dtypes("float")
    }
    return frame.assign(**numbers).to_csv(index=False, lineterminator="\n")


def source(context: Context) -> str:
    """What a table outside of its page must tell: which edition it is of, measured when and by what."""
    told = (context.edition and f"edition {context.edition}", context.date, f"Linear Lasagna {context.version}")
    commit = f"commit {context.commit[:12]}" + (" with changes" if context.dirty else "") if context.commit else ""
    return f"Source: {', '.join(part for part in (*told, commit) if part)}."


def rendering(records: Records, rows: Frame | None, context: Context, gaps: Gaps, pdf: bool = False) -> Rendering:
    """Everything that a page shows, and its figures' PDFs."""
    data, results = derive(records, rows, context.expected, gaps, context.conditions)
    lines = headlines(data, results, gaps)
    scopes = data.scopes[: side_by_side.MOST_COLUMNS]
    every = {scope: (data.within(scope), within(scope, all_frames(results))) for scope in scopes}
    answered = tuple(
        (scope, tuple(gaps.attempt("The answer", partial(answers.answers, *of), []))) for scope, of in every.items()
    )
    told = _across(data, results, gaps)
    shown = list(distinct(_with_answers(contents(data, results, gaps, lines, pdf), answered), OF_THE_PAGE))
    opened = openings({scope: every[scope] for scope in scopes[:MOST_SCOPES]}, gaps)
    anatomy = chapters.anatomy(shown, {**opened, ACROSS.name: (told,) if told else ()})
    controls = all_frames(results).get("noise", ())
    fit = partial(fitness, data, controls, context, warnings(data, results, gaps))
    return Rendering(
        data,
        anatomy,
        answered,
        lines,
        with_dictionary({**csv_frames(data, results, gaps), **answers.files(answered)}),
        gaps.attempt("What is wrong with the data", fit, Fitness((), ())),
        gaps.attempt("The conditions", partial(conditions, data, context.conditions), []),
        context,
        told,
    )


def _across(data: StudyData, results: Results, gaps: Gaps) -> str:
    """What holds on every machine and device, in a sentence; "" where there is one."""
    rows = all_frames(results).get(side_by_side.NAME, ())
    write = partial(side_by_side.sentence, rows, data.scopes)
    return gaps.attempt("What holds on every machine", write, "") if len(data.scopes) > 1 and len(rows) else ""


def _with_answers(shown: Iterator[Shown], answered: Sequence[tuple[Scope, Sequence[Answer]]]) -> Iterator[Shown]:
    """The sections, the one on several machines with the answers of each beside each other."""
    for each in shown:
        if each.name == side_by_side.SECTION.name and (found := answers.table_of(answered)):
            each = replace(each, tables=(*each.tables, found))
        yield each


def derive(
    records: Records,
    rows: Frame | None,
    expected: Sequence[Sequence[str]] = (),
    gaps: Gaps = STRICT,
    conditions: str = "",
) -> tuple[StudyData, Results]:
    """The data and every section's frames, computed once. A record that alone makes them fail is left out, and named;
    gaps takes what else raises.
    """
    if gaps.strict:
        return _derived(records, rows, expected, gaps, conditions)
    try:
        return _derived(records, rows, expected, STRICT, conditions)
    except Exception:
        return _derived(_sound(records), rows, expected, gaps, conditions)


def _derived(
    records: Records, rows: Frame | None, expected: Sequence[Sequence[str]], gaps: Gaps, conditions: str
) -> tuple[StudyData, Results]:
    data = study_data(records, rows, expected, gaps, conditions)
    every = sections(data)

    def frames(section: Section, gaps: Gaps) -> Frames | None:
        return _attempt(section, gaps, partial(section.frames, data), None)

    return data, list(zip(every, _apart(frames, every, gaps), strict=True))


def _apart(make: Callable[[T, Gaps], R], items: Sequence[T], gaps: Gaps) -> Iterator[R]:
    """make(item, gaps) for every item, shared among forks; what they lack is in the gaps."""

    def one(item: T) -> tuple[R, list[str]]:
        own = Gaps(gaps.strict)
        return make(item, own), own.lines

    for made, lines in forks.mapped(one, items):
        gaps.lines += lines
        yield made


def _attempt(section: Section, gaps: Gaps, make: Callable[[], T], instead: T) -> T:
    return gaps.attempt(f"The section “{section.title}”", make, instead)


def _sound(records: Records) -> Records:
    """The records without those that cannot be analysed on their own; all of them where none can."""
    kept, messages = [], list(records.messages)
    for record in records:
        try:
            _derived(Records((record,)), None, (), STRICT, record.under)
            kept.append(record)
        except Exception as error:
            messages.append(f"{record.source or record.trial.problem.name}: cannot be analysed: {reason(error)}")
    return replace(records, entries=tuple(kept), messages=tuple(messages)) if kept else records


def all_frames(results: Results) -> dict[str, Frame]:
    """Every section's frames, by their names, of which no two sections share one."""
    return {name: frame for _, frames in results for name, frame in (frames or {}).items()}


def openings(every: Mapping[Scope, tuple[StudyData, Frames]], gaps: Gaps) -> dict[str, tuple[str, ...]]:
    """The first sentences of every chapter, one per scope; what all of them say, once."""
    found: dict[str, tuple[str, ...]] = {}
    for chapter in CHAPTERS:
        told = [
            (scope, gaps.attempt(f"The opening of “{chapter.title}”", partial(chapter.opening, *of), ""))
            for scope, of in every.items()
        ]
        texts = {text for _, text in told}
        if len(told) > 1 and len(texts) == 1:  # as of real models, whose numbers come with the suite
            found[chapter.name] = tuple(text for text in texts if text)
        else:
            found[chapter.name] = tuple(f"{s.label}: {text}" if s.several else text for s, text in told if text)
    return found


def contents(
    data: StudyData, results: Results, gaps: Gaps = STRICT, lines: Sequence[Headline] = (), pdf: bool = False
) -> Iterator[Shown]:
    """The sections of the page; one that raises says where to read why there is nothing. lines: their headlines; pdf:
    with PDFs of the figures.
    """
    scopes = data.scopes[:MOST_SECTIONS]
    fewer = data.among(scopes)

    def drawn(result: tuple[Section, Frames | None], gaps: Gaps) -> Shown | None:
        section, found = result
        of = data if section.everywhere else fewer
        frames = found if section.everywhere or found is None or fewer is data else among(scopes, found)
        why = "This section could not be made; the top of the page says why."
        gap = Shown(section.name, section.name, section.title, empty=why)
        make = partial(shown_section, section, of, frames or {}, pdf)
        return gap if frames is None else _attempt(section, gaps, make, gap)

    for made in _apart(drawn, results, gaps):
        if made is not None and not made.bare:
            said = tuple(line.text for line in lines if line.anchor == made.name)
            made = replace(made, answers=said, intro=_without(made.intro, said))
        if made is not None:
            yield made


def _without(text: str, said: Sequence[str]) -> str:
    """The text without the sentences that were said before it."""
    known = {sentence for each in said for sentence in SENTENCE.split(each)}
    return " ".join(sentence for sentence in SENTENCE.split(text) if sentence not in known)


def shown_section(section: Section, data: StudyData, frames: Frames, pdf: bool = False) -> Shown | None:
    """The section as the page shows it, or None where it has no place there. pdf: with PDFs of its figures."""
    content = section.content(data, frames)
    if content is None:
        return None
    shown = Shown(section.name, section.name, section.title, empty=section.empty)
    if not content:
        return shown
    intro = f"{section.intro} {content.answer}".strip()
    plots = tuple(plot.finished(pdf) for plot in content.plots)
    return replace(shown, intro=intro, plots=plots, tables=content.tables, notes=content.notes)


def first_lines(answered: Sequence[tuple[Scope, Sequence[Answer]]]) -> list[Headline]:
    """The first screen's answers as headlines."""
    return [
        Headline(
            f"{a.question} ({scope.label})" if scope.several else a.question, f"{a.text} ({a.condition})", a.anchor
        )
        for scope, each in answered
        for a in each
    ]


def headlines(data: StudyData, results: Results, gaps: Gaps = STRICT) -> list[Headline]:
    """The sentences for which there is data, in the order of the sections; gaps takes those that raise."""
    entries = []
    for section, frames in results:
        if frames is None or (section.files and not frames):
            continue
        for title, write in section.headlines.items():
            for scope in data.scopes[:MOST_SCOPES]:
                one = partial(_sentence, write, data, frames, scope)
                if text := gaps.attempt(f"The headline “{title}”", one, ""):
                    entries.append(Headline(f"{title}, {scope.label}" if scope.several else title, text, section.name))
    return entries


def _sentence(write: Callable[[StudyData, Frames], str], data: StudyData, frames: Frames, scope: Scope) -> str:
    return write(data.within(scope), within(scope, frames))


def csv_frames(data: StudyData, found: Results, gaps: Gaps = STRICT) -> dict[str, Frame]:
    """Every CSV by name, in the order of names; those without rows are left out, and those that raise."""
    by_name = {name: gaps.attempt(f"{name}.csv", partial(make, data), []) for name, make in dictionary.FRAMES.items()}
    by_name |= {name: frames[name] for section, frames in found if frames for name in section.files if name in frames}
    by_name = {
        name: ordered(by_name[name]) if {"dtype", "way"} <= set(by_name[name]) else by_name[name]
        for name in sorted(by_name)
        if len(by_name[name])
    }
    table = gaps.attempt("results.csv", partial(results.frame, data, all_frames(found)), [])
    return dict(sorted({**by_name, **({"results": table} if len(table) else {})}.items()))


def warnings(data: StudyData, results: Results, gaps: Gaps = STRICT) -> list[str]:
    """What sections have to say before a reader believes a number."""
    lines: list[str] = []
    for section, frames in results:
        if frames is not None:
            lines += _attempt(section, gaps, lambda s=section, f=frames: list(s.warnings(data, f)), [])
    return lines


def _carried(page: Path) -> set[str]:
    """The files beside an earlier page of this suite that it links to: with it go those that the new one has not."""
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    return set(re.findall(r'href="((?:data|figures)/[^"/]+\.\w+)" download', text)) if OURS in text else set()
