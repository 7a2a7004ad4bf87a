"""The report: one self-contained HTML page, its numbers as CSV, its tables as LaTeX, its figures as SVG.

The same records, rows and context give the same bytes. It renders from whatever there is and says what is missing.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from analysis.data.frames import Frame, ordered
from analysis.data.records import Record, Records
from analysis.data.study_data import Scope, StudyData, study_data
from analysis.gaps import STRICT, Gaps, reason
from analysis.report import dictionary, wording
from analysis.report import formatting as show
from analysis.report.section import Frames, Plot, Section, within
from analysis.report.sections import SECTIONS, sections
from analysis.report.tables import MARKS, Table, latex
from linear_lasagna import vocabulary

T = TypeVar("T")
TEMPLATES = Path(__file__).parent / "templates"
OF_THE_PAGE = ("answer", "reading", "limitations", "cite", "reproduce", "data")  # ids in the templates
MOST_SCOPES = 2  # more machines and devices than these have their sections, but no headlines
FILES = dictionary.FILES | {name: meaning for section in SECTIONS for name, meaning in section.files.items()}
COLUMNS = dictionary.COLUMNS | {name: meaning for section in SECTIONS for name, meaning in section.columns.items()}


@dataclass(frozen=True)
class Context:
    """What the data cannot know. date: of the study, passed in so that a page can be rendered again.

    selection: the name of what should have run; expected: its trials as (group, problem, dtype, device), of which
    those without a record are listed. commands: to reproduce, one per line.
    conditions: that the page is about, as `factors.written` writes them.
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
    conditions: str = ""


@dataclass(frozen=True)
class Headline:
    """title: what it is about; text: the answer, names of ways in backticks; anchor: the section with the evidence."""

    title: str
    text: str
    anchor: str


@dataclass(frozen=True)
class Shown:
    """A section as the page shows it. empty: what to say where there is nothing else."""

    anchor: str
    title: str
    intro: str = ""
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    empty: str = ""
    notes: tuple[str, ...] = ()


class Report(NamedTuple):
    """What was rendered: the page's path, and its headlines."""

    page: Path
    headlines: list[Headline]


Results = list[tuple[Section, Frames | None]]  # every section with its frames, None where they could not be made


def render(records: Records, rows: Frame | None, out: Path, context: Context) -> Report:
    """Write report.html, data/ and figures/ below out. rows: of the precision study, as a store is read, or None.

    What cannot be made leaves a gap, which the page and a line on stderr name.
    """
    gaps = Gaps()
    data, results = derive(records, rows, context.expected, gaps, context.conditions)
    shown = list(numbered(distinct(contents(data, results, gaps))))
    files = csv_frames(data, results, gaps)
    lines = headlines(data, results, gaps)
    for name, frame in files.items():
        _write(out / "data" / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    for section in shown:
        for table in section.tables:
            text = gaps.attempt(f"{table.name}.tex", partial(latex, table), "% could not be made\n")
            _write(out / "data" / f"{table.name}.tex", text)
        for plot in section.plots:
            _write(out / "figures" / f"{plot.name}.svg", plot.standalone)
    page = out / "report.html"
    told: dict[str, Any] = {"conditions": gaps.attempt("The conditions", partial(conditions, data), [])}
    if context.conditions:
        told["conditions"] = [f"{line}, under {context.conditions}" for line in told["conditions"]]
    told["times"] = gaps.attempt("What the intervals are", partial(times, data), "")
    told |= {"partial": missing(data, context), "warnings": warnings(data, results, context, gaps)}
    _write(page, _page(data, shown, lines, files, context, told))
    for line in gaps.lines:
        print(line, file=sys.stderr)
    return Report(page, lines)


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
    return data, [(each, _attempt(each, gaps, partial(each.frames, data), None)) for each in sections(data)]


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


def contents(data: StudyData, results: Results, gaps: Gaps = STRICT) -> Iterator[Shown]:
    """The sections of the page; one that raises says where to read why there is nothing."""
    for section, frames in results:
        gap = Shown(section.name, section.title, empty="This section could not be made; the top of the page says why.")
        made = gap if frames is None else _attempt(section, gaps, partial(shown_section, section, data, frames), gap)
        if made is not None:
            yield made


def shown_section(section: Section, data: StudyData, frames: Frames) -> Shown | None:
    """The section as the page shows it, or None where it has no place there."""
    content = section.content(data, frames)
    if content is None:
        return None
    if not content:
        return Shown(section.name, section.title, empty=section.empty)
    intro = f"{section.intro} {content.answer}".strip()
    return Shown(section.name, section.title, intro, content.plots, content.tables, section.empty, content.notes)


def distinct(sections: Iterable[Shown]) -> Iterator[Shown]:
    """The sections with ids and files of their own: where names make one slug, the second is numbered 2, and so on."""
    taken: set[str] = set(OF_THE_PAGE)

    def free(name: str, prefix: str = "") -> str:
        candidates = itertools.chain([name], (f"{name}-{count}" for count in itertools.count(2)))
        chosen = next(each for each in candidates if prefix + each not in taken)
        taken.add(prefix + chosen)
        return chosen

    for section in sections:
        anchor = free(section.anchor)
        plots = tuple(replace(plot, name=free(plot.name)) for plot in section.plots)
        tables = tuple(replace(table, name=free(table.name, "table-")) for table in section.tables)
        yield replace(section, anchor=anchor, plots=plots, tables=tables)


def numbered(sections: Iterable[Shown]) -> Iterator[Shown]:
    """The sections with their figures and tables numbered in the order of the page."""
    figure, table = 0, 0
    for section in sections:
        plots = tuple(replace(p, number=figure + i) for i, p in enumerate(section.plots, 1))
        tables = tuple(t.numbered(table + i) for i, t in enumerate(section.tables, 1))
        figure, table = figure + len(plots), table + len(tables)
        yield replace(section, plots=plots, tables=tables)


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


def csv_frames(data: StudyData, results: Results, gaps: Gaps = STRICT) -> dict[str, Frame]:
    """Every CSV by name, in the order of names; those without rows are left out, and those that raise."""
    by_name = {name: gaps.attempt(f"{name}.csv", partial(make, data), []) for name, make in dictionary.FRAMES.items()}
    by_name |= {name: frames[name] for section, frames in results if frames for name in section.files if name in frames}
    return {
        name: ordered(by_name[name]) if {"dtype", "way"} <= set(by_name[name]) else by_name[name]
        for name in sorted(by_name)
        if len(by_name[name])
    }


def _page(
    data: StudyData,
    shown: list[Shown],
    lines: list[Headline],
    files: dict[str, Frame],
    context: Context,
    told: dict[str, Any],
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
        data=data,
        sections=shown,
        headlines=lines,
        marks=MARKS,
        methods=methods(data),
        schedules=vocabulary.SCHEDULES,
        files={name: (FILES[name], list(frame.columns), len(frame)) for name, frame in files.items()},
        columns=COLUMNS,
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        **told,
    )


def methods(data: StudyData) -> dict[str, str]:
    """The suite's methods, and those that were timed without being one, with a sentence each."""
    timed = {way.rpartition("/")[2] for record in data.judged for way in record.trial.cells}
    others = sorted(timed - vocabulary.METHODS.keys() - vocabulary.RUNTIMES.keys() - {vocabulary.CONTROL})
    apart = {way.rpartition("/")[2] for record in data.records for way in record.trial.cells}
    runtimes = {name: text for name, text in vocabulary.RUNTIMES.items() if name in apart}
    return vocabulary.METHODS | runtimes | dict.fromkeys(others, "given by a problems file or an installed package.")


def _code(text: str) -> Any:
    """Names in backticks as <code>; everything else escaped."""
    import markupsafe

    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def _breakable(name: str) -> Any:
    """A way's name that may be broken after "_" and "/"."""
    import markupsafe

    return markupsafe.Markup(re.sub(r"([_/])", r"\1<wbr>", str(markupsafe.escape(name))))


def conditions(data: StudyData) -> list[str]:
    """Under which conditions the numbers hold, one line per machine and device with trials."""
    lines = []
    for scope in data.scopes:
        records = data.within(scope).records.entries
        if not records:
            continue
        described = records[-1].trial.environment
        chip = described.get("accelerator") if scope.device != "cpu" else described.get("cpu")
        threads = f"{show.plural(int(described['threads']), 'thread')}, " if described.get("threads") else ""
        torch = f"torch {described['torch']}, " if described.get("torch") else ""
        trials = f"{show.plural(len(records), 'trial')}, {_timed(records)}"
        chip = "" if chip and str(chip) in scope.machine else f"{chip or 'processor not recorded'}, "
        lines.append(f"{scope.machine}, {scope.device}: {chip}{threads}{torch}{trials}")
    return lines


def _timed(records: Sequence[Record]) -> str:
    return f"each timed in {wording.span([len(r.trial.timings()) or 1 for r in records], 'process', 'processes')}"


def times(data: StudyData) -> str:
    """What the intervals of times on the page are, as in "between processes"."""
    return wording.process_kind(data.speedups.loc[data.speedups["ratio_lower"].notna(), "processes"])


def warnings(data: StudyData, results: Results, context: Context, gaps: Gaps = STRICT) -> list[str]:
    """What a reader must know before believing a number."""
    lines: list[str] = []
    for section, frames in results:
        if frames is not None:
            lines += _attempt(section, gaps, partial(_told, section, data, frames), [])
    if context.dirty:
        lines.append("The working tree differed from the commit: these numbers belong to no commit.")
    dirty = sum(record.dirty for record in data.records)
    if dirty:
        count = show.plural(len(data.records), "trial")
        lines.append(f"{dirty} of {count} ran in a working tree that differed from the commit.")
    commits = {record.commit for record in data.records}
    if len(commits) > 1:
        lines.append(f"The trials come from {len(commits)} commits.")
    codes = {r.trial.environment["code"] for r in data.records if "code" in r.trial.environment}
    if len(codes) > len(commits):
        lines.append(f"The trials were computed by {len(codes)} versions of the code.")
    return [*gaps.lines, *lines, *(f"Left out: {message}" for message in data.messages)]


def _told(section: Section, data: StudyData, frames: Frames) -> list[str]:
    return list(section.warnings(data, frames))


def missing(data: StudyData, context: Context) -> list[str]:
    """What is missing."""
    lines = []
    if not len(data.records):
        lines.append("There are no trial records yet.")
    elif len(data.missing):
        of = f"{len(data.missing)} {show.of_these(len(set(map(tuple, context.expected))), 'trial', 'the')}"
        lines.append(f"{of} of the selection{f' “{context.selection}”' if context.selection else ''} left no record.")
    if data.rows is None:
        lines.append("There are no rows of the precision experiment yet.")
    return lines


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
