"""What the machine does with numbers: the probes' answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from analysis.data.frames import Frame, dtypes_in_order, framed, ways_in_order
from analysis.data.study_data import StudyData
from analysis.report import formatting as show
from analysis.report.section import Content, Frames, Section
from analysis.report.tables import Table, Text, table

CANARIES = ("ones", "powers", "operands")
KEPT = "kept"
MOST_WARNINGS = 5
Answers = dict[tuple[str, str], str]  # (dtype, probe) -> what is said


class Asked(NamedTuple):
    """What was asked, and the numbers of threads that gave the same answers."""

    place: str
    way: str
    threads: str
    answers: Answers


def failed(answers: Frame) -> Frame:
    """The canaries that do not hold."""
    return answers[[value is not None and value == False for value in answers["ok"]]]  # noqa: E712


def warnings(answers: Frame) -> Iterator[str]:
    """One line per failed canary, for the top of the page."""
    lost = failed(answers)
    for row in lost.head(MOST_WARNINGS).itertuples(index=False):
        text = f"A canary failed on {row.machine}, {row.device}: {row.probe}, {row.way} in {row.dtype} with "
        text += f"{show.plural(row.threads, 'thread')}: {row.note}. "
        yield text + "Believe nothing that this machine computes there, neither time nor error."
    if len(lost) > MOST_WARNINGS:
        yield f"{len(lost) - MOST_WARNINGS} more canaries failed; all are in the section on the probes."


def _asked(answers: Frame) -> list[Asked]:
    """Per place and method, numbers of threads with the same answers together."""
    several = len(answers[["machine", "device"]].drop_duplicates()) > 1
    asked: list[Asked] = []
    named = answers[answers["way"] != ""]
    for (machine, device), of_place in named.groupby(["machine", "device"], sort=True):
        place = f"{machine}, {device}" if several else ""
        for way in ways_in_order(of_place["way"]):
            asked += _by_threads(place, way, of_place[of_place["way"] == way])
    return asked


def _by_threads(place: str, way: str, rows: Frame) -> list[Asked]:
    together: list[tuple[list[str], Answers]] = []
    for threads, of_threads in rows.groupby("threads", sort=True):
        answers = {(row.dtype, row.probe): _said(row) for row in of_threads.itertuples(index=False)}
        same = next((counts for counts, other in together if other == answers), None)
        if same is None:
            together.append(([str(threads)], answers))
        else:
            same.append(str(threads))
    return [Asked(place, way, ", ".join(counts), answers) for counts, answers in together]


def _said(row: Any) -> str:
    """The answer, with the note where only part of the outputs is flushed: it says which threads."""
    return f"{row.result}: {row.note}" if row.result == "partly flushed" else row.result


def sums(answers: Frame) -> Table:
    """How wide the accumulator is and in which order 576 products are added."""

    def cell(answers: Answers, dtype: str) -> Text:
        if (dtype, "accumulator") not in answers:
            return Text(show.DASH)
        parts = [_short(answers[dtype, probe]) for probe in ("order", "products") if (dtype, probe) in answers]
        return Text(answers[dtype, "accumulator"], ", ".join(parts))

    caption = "How each method adds the 576 products of one output of a 3×3 layer with 64 channels: significand bits "
    caption += "of the running sum; 36 × ≤ 16: 36 running sums take up 16 products each, at most; products are rounded "
    caption += "before they are added, or not (fused), or held exactly by the accumulator. Found by calling the method."
    return _table("probes-sums", caption, answers, cell)


def _short(answer: str) -> str:
    return answer.replace(" running sums of up to ", " × ≤ ").replace("one after another", "in a row")


def subnormals(answers: Frame) -> Table:
    """Whether subnormal numbers are replaced by zero, and by which threads."""

    def cell(answers: Answers, dtype: str) -> Text:
        inputs, results = (answers.get((dtype, f"subnormal {what}"), show.DASH) for what in ("inputs", "results"))
        if inputs == results:
            return Text(inputs, kind="zero" if inputs == KEPT else "")
        return Text(f"inputs {inputs}", f"results {results}")

    caption = "Are subnormal numbers kept, or flushed to zero? Asked of images that are large enough for every thread "
    caption += "to get a part: “partly flushed” says that threads differ. Grey: inputs and results are both kept."
    return _table("probes-subnormals", caption, answers, cell)


def _table(name: str, caption: str, answers: Frame, cell: Callable[[Answers, str], Text]) -> Table:
    """One row per method and set of threads, one column per dtype."""
    asked = _asked(answers)
    columns: dict[str, Any] = {"place": lambda row: row.place} if any(each.place for each in asked) else {}
    columns |= {"method": lambda row: row.way, "threads": lambda row: row.threads}
    wide = range(len(columns))
    for dtype in dtypes_in_order(answers["dtype"]):
        columns[dtype] = lambda row, dtype=dtype: cell(row.answers, dtype)
    return table(name, caption, framed(asked, list(Asked._fields)), columns, "probes", wide)


def canaries(answers: Frame) -> Table:
    """How many of the methods, with any number of threads, pass what must hold."""
    asked = answers[answers["probe"].isin(CANARIES)]
    passed = {key: (int(group.sum()), len(group)) for key, group in asked["ok"].astype(bool).groupby(_keys(asked))}

    def count(row: Any, dtype: str) -> Text:
        held, of = passed.get((row.machine, row.device, row.probe, dtype), (0, 0))
        return Text(f"{held} of {of}", kind="failed" if held < of else "") if of else Text(show.DASH)

    places = asked[["machine", "device", "probe"]].drop_duplicates()
    several = len(places[["machine", "device"]].drop_duplicates()) > 1
    columns: dict[str, Any] = {"place": lambda row: f"{row.machine}, {row.device}"} if several else {}
    columns["canary"] = lambda row: row.probe
    wide = range(len(columns))
    for dtype in dtypes_in_order(asked["dtype"]):
        columns[dtype] = lambda row, dtype=dtype: count(row, dtype)
    caption = "Canaries that hold, over methods and numbers of threads. ones: a convolution of ones counts; powers: "
    caption += "1 + 2 + 4 + … is exact; operands: a factor keeps its last bit, which TF32 would lose."
    return table("probes-canaries", caption, places, columns, "probes", wide)


def _keys(answers: Frame) -> list[Any]:
    return [answers[name] for name in ("machine", "device", "probe", "dtype")]


def tf32(answers: Frame) -> str:
    """One sentence on TF32, per place where places differ."""
    rows = answers[answers["probe"] == "tf32"].drop_duplicates(["machine", "device", "result"])
    several = len(rows[["machine", "device"]].drop_duplicates()) > 1
    where = {row: f"{row.machine}, {row.device}" if several else row.device for row in rows.itertuples(index=False)}
    clauses = [f"{row.result} on {where[row]} ({row.note})" for row in rows.itertuples(index=False)]
    return f"TF32 for float32 operands: {'; '.join(clauses)}." if clauses else ""


def content(data: StudyData, frames: Frames) -> Content:
    rows = frames["probes"]
    if not len(rows):
        return Content()
    lost = len(failed(rows))
    text = (
        f"{show.plural(lost, 'canary', 'canaries')} failed: see the top of the page." if lost else "All canaries hold."
    )
    return Content(tables=(sums(rows), subnormals(rows), canaries(rows)), answer=f"{text} {tf32(rows)}".strip())


SECTION = Section(
    "probes",
    "What the machine does with numbers",
    content,
    lambda data: {"probes": data.probes},
    intro="Before any experiment the machine is asked how its libraries compute, under the switches that the "
    "experiments have, with one thread, as in the experiments, and with all.",
    empty="The machine was not probed.",
    warnings=lambda data, frames: warnings(frames["probes"]),
    files={
        "probes": "What the machine does with numbers, one row per question, method, dtype and number of threads.",
    },
    columns={
        "probe": "what was asked: canaries (ones, powers, operands), accumulator (its significand's bits), order (of "
        "576 products), products (rounded before they are added?), subnormal inputs and results (flushed?), tf32",
        "result": "the answer",
        "ok": "whether a canary holds; empty where there is no right answer",
        "note": "more about the answer",
    },
)
