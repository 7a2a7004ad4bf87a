"""A rendering as HTML: the templates, their filters, the styles and script, and the policy that admits no others."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, framed
from analysis.data.machines import after_on, plain
from analysis.report import (
    answers,
    attached,
    chapters,
    citing,
    dictionary,
    glossary,
    labels,
    miniature,
    results,
    svg,
    wording,
)
from analysis.report import formatting as show
from analysis.report.citing import Cited
from analysis.report.sections import SECTIONS
from analysis.report.tables import MARKS
from linear_lasagna import vocabulary

if TYPE_CHECKING:
    from analysis.data.study_data import StudyData
    from analysis.report.page import Rendering

TEMPLATES = Path(__file__).parent / "templates"
FIXED = (
    "answer",
    "reference",
    "glossary",
    "limitations",
    "cite",
    "reproduce",
    "data",
    "attached",
    "empty",
    "filters",
    "all",
    "none",
)
TABLES = ("table-results",)
OF_THE_PAGE = (*FIXED, *TABLES, *(chapter.name for chapter in chapters.CHAPTERS))  # ids that no section may take
FILES = dictionary.FILES | {name: meaning for section in SECTIONS for name, meaning in section.files.items()}
FILES |= {"results": results.MEANING, **answers.FILES, dictionary.NAME: dictionary.MEANING}
COLUMNS = dictionary.COLUMNS | {name: meaning for section in SECTIONS for name, meaning in section.columns.items()}
COLUMNS |= {**results.FIELDS, **answers.COLUMNS, **dictionary.FIELDS}
UNITS = re.compile(r"(?<=\d) (?=(?:%|ns|µs|ms|s|u|kB|MB|GB|KiB|MiB|GiB|GFLOP/s|GB/s)(?!\w))")


def html(made: Rendering, files: Mapping[str, str]) -> str:
    """The page. files: the texts of the files that it carries, by their paths."""
    rules = svg.rules(plot.of_page for plot in chapters.plots(made.anatomy))
    shown = [table for table in chapters.tables(made.anatomy) if not table.apart]
    rules += labels.rules(shown, results.LABELS)
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8") + rules
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    csvs = {name: (FILES[name], list(frame.columns), len(frame)) for name, frame in made.files.items()}
    return (
        environment()
        .get_template("report.html")
        .render(
            made=made,
            context=made.context,
            data=made.data,
            title=title(made),
            citing=citing,
            cited=cited(made),
            machines=machines(made.data),
            times=times(made.data),
            marks=MARKS,
            glossary=glossary.TERMS,
            methods=methods(made.data),
            schedules=vocabulary.SCHEDULES,
            table=made.files.get("results"),
            results=results,
            by_question=answers.by_question,
            csvs=csvs,
            style=style,
            script=script,
            policy=policy(style, script),
            archive=attached.archive(files),
        )
    )


def with_dictionary(files: Mapping[str, Frame]) -> dict[str, Frame]:
    """The CSVs, and among them the one that tells what their columns mean."""
    names = sorted({*dictionary.FIELDS, *(column for frame in files.values() for column in frame.columns)})
    told = framed([(name, COLUMNS.get(name, dictionary.UNKNOWN)) for name in names], list(dictionary.FIELDS))
    return dict(sorted({**files, dictionary.NAME: told}.items())) if files else {}


def environment() -> Any:
    """Of the templates."""
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    made = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    used: set[str] = set()  # terms that were explained, each where it first occurs
    made.filters |= {"code": code, "breakable": breakable, "terms": partial(terms, used), "chart": chart}
    made.filters |= {"labelled": labels.name}
    made.globals["plural"] = show.plural
    return made


def policy(style: str, script: str) -> str:
    """The page's content security policy: its own style and script, and nothing else, from nowhere."""
    scripts = f"script-src '{_sha256(script)}'; " if script else ""
    return (
        f"default-src 'none'; style-src '{_sha256(style)}'; {scripts}img-src data:; base-uri 'none'; form-action 'none'"
    )


def _sha256(text: str) -> str:
    """Of what stands in the element, newlines included, as the policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(f"\n{text}\n".encode()).digest()).decode()


def title(made: Rendering) -> str:
    """The machine, what this is about, and the date."""
    if made.context.title:
        return made.context.title
    named = machines(made.data)
    machine = f"{len(named)} machines" if len(named) > 1 else after_on(named[0]) if named else "no machine yet"
    return f"Linear convolutions on {machine}"


def cited(made: Rendering) -> Cited:
    """What is shown, as it is cited: the edition, or the study by its day."""
    told = made.context
    name = told.edition or f"study-{told.date}"
    return Cited(title(made), name, told.date, told.commit, told.version, told.address)


def machines(data: StudyData) -> list[str]:
    """The machines and their accelerators, without what only tells them apart."""
    names = dict.fromkeys(scope.machine for scope in data.scopes)
    short = {name: plain(name) for name in names}
    several = len(set(short.values())) < len(short)
    return list(names) if several else list(short.values())


def times(data: StudyData) -> str:
    """What the intervals of times on the page are, as in "between processes"."""
    return wording.process_kind(data.speedups.loc[data.speedups["ratio_lower"].notna(), "processes"])


def methods(data: StudyData) -> dict[str, str]:
    """The suite's methods, and those that were timed without being one, with a sentence each."""
    timed = {way.rpartition("/")[2] for record in data.judged for way in record.trial.cells}
    others = sorted(timed - vocabulary.METHODS.keys() - vocabulary.RUNTIMES.keys() - {vocabulary.CONTROL})
    apart = {way.rpartition("/")[2] for record in data.records for way in record.trial.cells}
    runtimes = {name: text for name, text in vocabulary.RUNTIMES.items() if name in apart}
    return vocabulary.METHODS | runtimes | dict.fromkeys(others, "given by a problems file or an installed package.")


def code(text: str) -> Any:
    """Names in backticks as <code>, numbers on one line with their units; everything else escaped."""
    import markupsafe

    kept = UNITS.sub("\u00a0", str(markupsafe.escape(show.breakable(text))))
    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", kept))


def terms(used: set[str], text: str) -> Any:
    """The same, and every term of the glossary explained where it first occurs on the page."""
    import markupsafe

    marked = str(code(text))
    for name, term in glossary.TERMS.items():
        found = None if name in used else re.search(rf"(?<![\w/`>-])({term.pattern})(?![\w/-])", marked)
        if found and not _inside_tag(marked, found.start()):
            used.add(name)
            button = f'<dfn><button type="button" class="term" popovertarget="term-{name}">{found[1]}</button></dfn>'
            marked = marked[: found.start(1)] + _with_stop(button, marked[found.end(1) :])
    return markupsafe.Markup(marked)


def _with_stop(button: str, rest: str) -> str:
    """The button and what follows, no line broken before a stop, as there would be after a button."""
    stop = rest[: len(rest) - len(rest.lstrip(".,:;)"))]
    return f'<span class="kept">{button}{stop}</span>{rest[len(stop) :]}' if stop else button + rest


def _inside_tag(text: str, place: int) -> bool:
    """Whether the place is in a tag, in code or in another term."""
    before = text[:place]
    return any(
        before.rfind(start) > before.rfind(end) for start, end in (("<", ">"), ("<code", "</code"), ("<dfn", "</dfn"))
    )


def breakable(name: str) -> Any:
    """A way's name that may be broken after "_" and "/"."""
    import markupsafe

    return markupsafe.Markup(re.sub(r"([_/])", r"\1<wbr>", str(markupsafe.escape(show.breakable(name)))))


def chart(answer: Any) -> Any:
    """An answer's small chart."""
    import markupsafe

    return markupsafe.Markup(miniature.chart(answer.bars, answer.scale)) if answer.bars else ""
