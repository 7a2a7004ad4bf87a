"""Whole models, merged and by others: committed numbers of the zoo, the same in every report."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from analysis.data import zoo
from analysis.data.frames import Frame
from analysis.data.study_data import StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.section import Content, Frames, Section
from analysis.report.sections.speed import DECIDED, VERDICTS_READ
from analysis.report.tables import Table, Text, table
from linear_lasagna.intervals import VERDICTS
from linear_lasagna.plurals import plural

OWN = "designs"
PAIRED = "A ratio is the median of those of calls that were timed one after another, not of the times shown."


def frames(data: StudyData) -> Frames:
    """models: the committed rows; none for a study without trials."""
    return {"models": zoo.committed()} if len(data.records) else {}


def content(data: StudyData, frames: Frames) -> Content | None:
    if "models" not in frames:
        return None
    rows = frames["models"]
    tables = [_designs(rows), _packages(rows), _changed(rows), _refused(rows)]
    return Content(tables=tuple(each for each in tables if each.rows), answer=answer(rows))


def answer(rows: Frame) -> str:
    """How many architectures are accepted, and what merging makes of those that it changes."""
    found = zoo.summary(rows)
    built, accepted = int(found["built"].sum()), int(found["accepted"].sum())
    changed = zoo.changed(rows)
    # No rate: what was tried so far, or within some limits, is no sample of all.
    text = f"These are numbers of {machine(rows)}, the same on every page; it was busy while they were timed, so times "
    text += f"are rough. Of {plural(built, 'architecture')} tried so far that can be built without weights {accepted} "
    text += f"are accepted; in {len(changed)} of these "
    text += f"something is merged or folded. {f'Merged these are {told}.' if (told := verdicts(changed)) else ''}"
    both = changed[changed["status_authors"] == "ok"] if "status_authors" in changed else changed[:0]
    if len(both):
        fewer = [int((both[f"{what}_merged"] <= both[f"{what}_authors"]).sum()) for what in ("convolutions", "norms")]
        text += f" Of {len(both)} that their authors re-parametrise, the merged model has at most the authors' "
        text += f"convolutions in {fewer[0]}, and at most their norms in {fewer[1]}."
    return text


def verdicts(changed: Frame) -> str:
    """As in "4 faster and 1 undecided, by intervals between processes; 15 faster and 54 undecided, by intervals within
    one process, which need not hold in the next; 118 have no interval". changed: `zoo.changed`.
    """
    judged = changed[changed["verdict_merged"].isin(VERDICTS)] if len(changed) else changed
    if not len(judged):
        return ""
    bare = int(judged["ratio_lower_merged"].isna().sum())
    judged = judged[judged["ratio_lower_merged"].notna()]
    several = judged["processes_merged"] > 1
    one = f"{wording.WITHIN}, which need not hold in the next"
    kinds = ((judged[several], wording.BETWEEN), (judged[~several], one))
    told = [f"{_counted(rows)}, by intervals {kind}" for rows, kind in kinds if len(rows)]
    return "; ".join([*told, *([f"{bare} {'has' if bare == 1 else 'have'} no interval"] if bare else [])])


def _counted(judged: Frame) -> str:
    counts = judged["verdict_merged"].value_counts()
    return wording.listed([f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts])


def _designs(rows: Frame) -> Table:
    """This suite's own models, a row each."""
    own = zoo.changed(rows[rows["package"] == OWN])
    columns: dict[str, Callable[[Any], str | Text]] = {
        "model": lambda row: row.architecture,
        "time given": lambda row: show.seconds(row.seconds_given),
        **{f"{way} / given": _ratio(way) for way in ("merged", "authors", "fused", "frozen")},
        "convolutions": _counts("convolutions"),
        "norms": _counts("norms"),
        "error": lambda row: show.significant(row.relative_l2_merged, 2),
    }
    caption = (
        f"Models written by this suite, {machine(rows)}, float32: times as they are given, merged by `merge_model`, "
    )
    caption += "by their authors' formulas, by torch.fx's `fuse`, and frozen by Inductor. In brackets: 95 % interval, "
    kind = wording.process_kind(own["processes_merged"].dropna()) if len(own) else ""
    caption += (
        f"{kind or wording.BETWEEN}. Below 1 is faster. {VERDICTS_READ} Then how many convolutions and BatchNorms "
    )
    caption += "are called, given → merged. Error: relative L2 of the merged model's outputs against the given one in "
    caption += f"float64. A dash: nothing to change. {PAIRED}"
    return table("models-designs", caption, own, columns, "models", (0,))


def _ratio(way: str) -> Callable[[Any], Text]:
    """The time of a way / the given model's, with its interval and verdict. Of rows of `zoo.changed`."""

    def shown(row: Any) -> Text:
        value, *ends = (getattr(row, f"ratio{end}_{way}", math.nan) for end in ("", "_lower", "_upper"))
        if value != value:
            return Text(show.DASH)
        verdict = getattr(row, f"verdict_{way}")
        return Text(show.number(value, *ends), show.interval(value, *ends), verdict, verdict)

    return shown


def _counts(what: str) -> Callable[[Any], Text]:
    """How many of them the given model calls and the merged one; and the authors'. Of rows of `zoo.changed`."""

    def shown(row: Any) -> Text:
        given, merged, theirs = (getattr(row, f"{what}_{way}", None) for way in ("given", "merged", "authors"))
        known = theirs is not None and theirs == theirs
        return Text(f"{given:.0f} → {merged:.0f}", f"authors {theirs:.0f}" if known else "")

    return shown


def _packages(rows: Frame) -> Table:
    """What is accepted of each package."""
    columns: dict[str, Callable[[Any], str | Text]] = {
        "package": lambda row: Text(row.package, row.version),
        **{
            name: (lambda row, name=name: f"{getattr(row, name)}")
            for name in ("families", "built", "accepted", "refused", "failed", "changed")
        },
        "largest difference": lambda row: show.significant(row.difference, 2),
        "faster, slower": lambda row: f"{row.faster}, {row.slower}",
    }
    caption = f"Of every family of architectures the smallest that can be built without weights, {machine(rows)}. "
    caption += "Changed: something is merged or folded. Difference: of the model merged in float64 from the given one, "
    caption += "as a part of its largest output. Faster, slower: merged, of those changed."
    return table("models-packages", caption, zoo.summary(rows), columns, "models")


def _changed(rows: Frame) -> Table:
    """Architectures in which something is merged or folded, those with a re-parametrisation of their own first."""
    columns: dict[str, Callable[[Any], str | Text]] = {
        "package": lambda row: row.package,
        "architecture": lambda row: row.architecture,
        "runs merged": lambda row: f"{row.merged_merged:.0f} of {row.runs_merged:.0f}",
        "convolutions": _counts("convolutions"),
        "norms": _counts("norms"),
        "time given": lambda row: show.seconds(row.seconds_given),
        **{f"{way} / given": _ratio(way) for way in ("merged", "authors")},
    }
    changed = zoo.changed(rows[rows["package"] != OWN])
    told = changed
    if len(changed):
        told = changed[changed["verdict_merged"].isin(DECIDED) | (changed["status_authors"] == "ok")]
    kind = wording.process_kind(told["processes_merged"].dropna()) if len(told) else wording.WITHIN
    caption = "Architectures in which something is merged or folded, those that their authors re-parametrise and those "
    caption += (
        f"with a verdict; the CSV has {len(changed) - len(told)} others. How many convolutions and BatchNorms are "
    )
    caption += f"called, and times. {PAIRED} In brackets: 95 % interval, {kind}. Bold: faster. Plain: slower. "
    caption += "“?”: undecided, without brackets for lack of an interval."
    return table("models-changed", caption, told, columns, "models", (0, 1))


def _refused(rows: Frame) -> Table:
    columns: dict[str, Callable[[Any], str | Text]] = {
        "package": lambda row: row.package,
        "architecture": lambda row: row.architecture,
        "status": lambda row: row.status,
        "reason": lambda row: show.shortened(row.reason, 120),
    }
    left = rows[(rows["way"] == "merged") & (rows["status"] != "ok")]
    return table("models-refused", "Architectures that are not accepted.", left, columns, "models", (0, 1, 2, 3))


def machine(rows: Frame) -> str:
    """Where the rows were measured, as in "AMD EPYC, 2 threads"."""
    return " or ".join(dict.fromkeys(rows["processor"]))


SECTION = Section(
    "models",
    "Real models",
    content,
    frames,
    intro="Whole models with random numbers, in eval mode: `python -m analysis zoo` builds, merges and times them.",
    files={"models": "One row per architecture of the zoo and way; the committed ones, of one machine."},
    columns={
        "package": "where the architecture comes from; designs: this suite",
        "version": "the package's",
        "torch": "the version of torch",
        "processor": "on which it was timed, and with how many threads",
        "family": "architectures of which the smallest was tried",
        "architecture": "the one that was tried",
        "others": "the names of the family's others",
        "shape": "of the inputs",
        "parameters": "how many numbers the given model has",
        "runs": "linear runs that were found",
        "merged": "runs that were merged",
        "notes": "what the report notes",
        "difference": "largest, of the outputs merged in float64 from those given, as a part of the largest output",
        "convolutions": "how many are called",
        "norms": "how many BatchNorms are called",
        "additions": "how many additions and subtractions are called",
        "operations": "multiply-accumulates",
        "made_s": "seconds that it took to make it",
    },
)
