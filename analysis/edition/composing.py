"""An edition's files from what was measured: the same measurements and context give the same bytes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from analysis.data import records
from analysis.data.frames import Frame
from analysis.edition import crate, headlines, raw
from analysis.report import chapters, citing, markup, page
from analysis.report import formatting as show
from analysis.report.citing import Cited
from analysis.report.page import Context, Rendering

SCHEMA = 1
MANIFEST, ENVIRONMENT = "edition.json", "environment.json"
GENERATED = "README.md"
SHAPE: dict[str, Any] = {  # of edition.json: examples of what its entries must be
    "name": "",
    "title": "",
    "date": "",
    "machines": [""],
    "devices": [""],
    "trials": {"count": 0, "commits": [""]},
    "precision": {"rows": 0},
    "answers": [{"question": "", "answer": "", "condition": ""}],
    "context": {"version": "", "edition": "", "expected": [[""]]},
}
OUTDATED = {"citation", "bibtex"}  # of a context: what earlier versions told and a page now finds itself


@dataclass(frozen=True)
class Measured:
    """What an edition is made from. trials: the texts of trial records by path; rows: of the precision study; notes:
    Markdown for readers; others: files that are kept as they are, by path.
    """

    trials: Mapping[str, bytes]
    rows: Frame | None
    notes: str = ""
    others: Mapping[str, bytes] | None = None


def compose(measured: Measured, context: Context) -> dict[str, bytes]:
    """All files of the edition by path. context: with the edition's name and its address."""
    made, files = _rendered(measured, context)
    files[raw.TRIALS] = raw.packed(measured.trials)
    if measured.rows is not None:
        files[raw.ROWS] = raw.as_parquet(measured.rows)
    files |= measured.others or {}
    files[ENVIRONMENT] = _json(environments(made))
    cited = markup.cited(made)
    abstract = summary(made)
    files["CITATION.cff"] = citing.cff(cited, abstract).encode()
    files["citation.bib"] = (citing.bibtex(cited) + "\n").encode()
    files["LICENSE.txt"] = citing.LICENCE.encode()
    files[GENERATED] = readme(made, cited, measured.notes).encode()
    told = {path: hashed(content) for path, content in sorted(files.items())}
    files[MANIFEST] = _json(manifest(made, context, cited, told))
    told[MANIFEST] = hashed(files[MANIFEST])
    files[crate.NAME] = crate.crate(cited, abstract, dict(sorted(told.items()))).encode()
    return dict(sorted(files.items()))


def _rendered(measured: Measured, context: Context) -> tuple[Rendering, dict[str, bytes]]:
    """The page, its data, tables and figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, content in measured.trials.items():
            (folder / "trials" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "trials" / path).write_bytes(content)
        out = folder / "out"
        loaded = records.load(folder / "trials")
        loaded = replace(loaded, messages=(*context.left_out, *loaded.messages))
        made = page.render(loaded, measured.rows, out, context, pdf=True).made
        files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for plot in chapters.plots(made.anatomy):
        if plot.pdf:
            files[f"figures/{plot.name}.pdf"] = plot.pdf
    return made, files


def hashed(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def environments(made: Rendering) -> dict[str, Any]:
    """What was recorded of every machine and device, by the last of its trials."""
    found = {}
    for scope in made.data.scopes:
        own = made.data.within(scope).records.entries
        if own:
            found[f"{scope.machine}, {scope.device}"] = own[-1].trial.environment
    return found


def summary(made: Rendering) -> str:
    """What it holds, and its answers."""
    told = [f"{answer.question} {answer.text}" for _, each in made.answered for answer in each]
    rows = 0 if made.data.rows is None else len(made.data.rows)
    counts = f"{show.plural(len(made.data.records), 'trial')} and {show.plural(rows, 'row')} on rounding error."
    return " ".join([markup.title(made) + ":", counts, *told]).replace("`", "")


def manifest(made: Rendering, context: Context, cited: Cited, files: Mapping[str, Any]) -> dict[str, Any]:
    """edition.json."""
    data = made.data
    own = data.records
    return {
        "schema": SCHEMA,
        "name": context.edition,
        "title": cited.title,
        "date": context.date,
        "machines": sorted({scope.machine for scope in data.scopes}),
        "devices": sorted({scope.device for scope in data.scopes}),
        "trials": {"count": len(own), "commits": sorted({record.commit for record in own if record.commit})},
        "precision": {
            "rows": 0 if data.rows is None else len(data.rows),
            "versions": sorted(set(data.rows["version"])) if data.rows is not None and "version" in data.rows else [],
        },
        "licences": {"data": citing.DATA_LICENCE, "code": citing.CODE_LICENCE},
        "answers": [
            {"question": a.question, "answer": a.text, "condition": a.condition, "place": scope.label}
            for scope, each in made.answered
            for a in each
        ],
        "warnings": list(made.fitness.bad),
        "headlines": [asdict(headline) for headline in headlines.chosen(made)],
        "context": {**asdict(replace(context, expected=())), "expected": [list(key) for key in context.expected]},
        "files": files,
    }


def context_of(told: Mapping[str, Any]) -> Context:
    """The context that edition.json tells. Raises ValueError where it lacks something."""
    known = {each.name: each.default for each in fields(Context)}
    given = {name: value for name, value in told["context"].items() if name not in OUTDATED}
    if others := sorted(given.keys() - known.keys()):
        by = f"version {given['version']}, by which alone its page can be rendered"
        raise ValueError(f"{MANIFEST} tells of {', '.join(others)}, which this version does not know; it is of {by}")
    texts = {name for name, value in given.items() if isinstance(known[name], str) and not isinstance(value, str)}
    lines = {name for name in ("commands", "notes", "left_out") if not _lines(given.get(name, []))}
    if wrong := sorted(texts | lines):
        raise ValueError(f"{MANIFEST} is damaged: {', '.join(wrong)} of its context is no text")
    if any(len(key) < 4 for key in given["expected"]):
        raise ValueError(
            f"{MANIFEST} is damaged: a trial that was expected is not told by group, problem, dtype, device"
        )
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    expected = tuple(tuple(key) for key in given["expected"])
    return Context(**{**given, **lists, "expected": expected})


def _lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def readme(made: Rendering, cited: Cited, notes: str) -> str:
    """For those who find the folder."""
    data, bad = made.data, made.fitness.bad
    lines: Sequence[str] = (
        f"# {' '.join(cited.title.split())}",
        "",
        f"Edition `{cited.name}` of [Linear Lasagna]({cited.address}): {show.plural(len(data.records), 'trial')}"
        + ("" if data.rows is None else f" and {show.plural(len(data.rows), 'row')} on rounding error")
        + f", measured on {cited.date or 'an unknown day'}"
        + (f" by commit `{cited.commit[:12]}`." if cited.commit else "."),
        "",
        *(f"- **{a.question}** {a.text} ({a.condition})" for _, each in made.answered for a in each),
        "",
        *(["Read before you cite:", "", *(f"- {' '.join(line.split())}" for line in bad), ""] if bad else []),
        "`report.html` is the page, one file with its data in it; `trials.tar.gz` has every sample, "
        "`precision.parquet` "
        "every row on rounding error, `data/` the page's numbers and LaTeX tables, `figures/` its figures. "
        "`edition.json` has the SHA-256 of every file but itself and the crate, which has that of `edition.json`.",
        "",
        "```console",
        f"$ python -m analysis verify {cited.name}       # hashes, and the same bytes rendered again",
        f"$ python -m analysis reproduce {cited.name}    # its headlines, measured again here",
        "```",
        "",
        *([notes.strip(), ""] if notes.strip() else []),
        f"Data {citing.DATA_LICENCE}; cite by `citation.bib` or `CITATION.cff`.",
        "",
    )
    return "\n".join(lines)
