"""The first screen: four questions, a sentence each with its number, interval and condition; "" where data are missing.

What is named is fixed here, before any data: the stacks, the network, the depth. Nothing is picked for its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.data.across import NETWORKS, STACKS
from analysis.data.frames import Frame, dtypes_in_order, framed
from analysis.data.study_data import Scope, StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.miniature import Bar
from analysis.report.section import Frames
from analysis.report.sections import merged_error, noise
from analysis.report.sections.across import names
from analysis.report.sections.plans import main_dtype
from analysis.report.tables import Table, Text, table
from linear_lasagna.vocabulary import BASELINE, MERGED

CLEAR = 0.9  # share of decided pairs from which on the answer is "yes"
WHOLE = ("stacks", "throughput")  # the groups of stacks that are merged whole: of one image, and in batches
MAIN, NARROW = "float32", ("float16", "bfloat16")
LONGER = 1.1  # times float32's time, from which on it is told


@dataclass(frozen=True)
class Answer:
    """text: a sentence, names of ways in backticks; condition: under which it holds; bars: its small chart, and what
    its `scale` is; anchor: the chapter with the evidence.
    """

    question: str
    text: str
    condition: str
    bars: tuple[Bar, ...]
    scale: str
    anchor: str


def answers(data: StudyData, frames: Frames) -> list[Answer]:
    """The answers of one scope that its data support, in the order of `QUESTIONS`. frames: of all sections, by name."""
    made = (make(data, frames) for make in QUESTIONS.values())
    return [answer for answer in made if answer is not None]


def merging(data: StudyData, frames: Frames) -> Answer | None:
    """Whether merging pays, where the operation count promises that and where it does not; and on three stacks."""
    pairs, dtype, stacks = frames.get("pairs", ()), _dtype(data, frames), named_stacks(data, frames)
    sentences = [_pairs(pairs[pairs["dtype"] == dtype])] if len(pairs) else []
    sentences += [_whole(data.speedups, dtype), *map(_named_stack, stacks[:1])]
    text = " ".join(sentence for sentence in sentences if sentence)
    if not text:
        return None
    bars = tuple(Bar(STACKS[row.problem], row.speedup, row.speedup_lower, row.speedup_upper) for row in stacks)
    return Answer(MERGE, text, _where(data, dtype), bars, "speedup, log; line: 1", "merge")


def _pairs(rows: Frame) -> str:
    """As in "Where merging saves operations, yes: faster on 33 of 35 pairs; else 9 of 20.", of all pairs."""
    if not rows["verdict"].isin(["faster", "slower"]).any():
        return ""
    saves, faster = rows["saves"].astype(bool), rows["verdict"] == "faster"
    gain, loss = (int(saves.sum()), int((saves & faster).sum())), (int((~saves).sum()), int((~saves & faster).sum()))
    if not gain[0]:
        return f"Where merging saves no operations, it is faster on {_of(loss, 'pair')}."
    told = "yes: " if gain[1] >= CLEAR * gain[0] else "" if gain[1] > gain[0] / 2 else "hardly: "
    text = f"Where merging saves operations, {told}faster on {_of(gain, 'pair')}"
    return f"{text}; else {_of(loss)}." if loss[0] else f"{text}."


def _whole(speedups: Frame, dtype: str) -> str:
    """As in "Stacks: 6 of 15 faster, 7 slower.", of those of the catalogue."""
    rows = speedups[speedups["group"].isin(WHOLE) & (speedups["way"] == MERGED) & (speedups["dtype"] == dtype)]
    counts = rows["verdict"].value_counts()
    faster, slower = (int(counts.get(verdict, 0)) for verdict in ("faster", "slower"))
    return f"Stacks: {faster} of {len(rows)} faster, {slower} slower." if len(rows) > 1 and faster + slower else ""


def _of(counts: tuple[int, int], one: str = "") -> str:
    """(all, some), as in "33 of 35 pairs", "all 35" and "the only pair"."""
    every, some = counts
    told = show.plural(every, one) if one else str(every)
    if every == some == 1:
        return f"the only {one or 'one'}"
    return f"all {told}" if every == some else f"{some} of {told}"


def named_stacks(data: StudyData, frames: Frames) -> list[Any]:
    """The speedups of merging the stacks that are named, in the dtype that is spoken of."""
    speedups, dtype = data.speedups, _dtype(data, frames)
    rows = speedups[(speedups["way"] == MERGED) & (speedups["dtype"] == dtype) & speedups["speedup_lower"].notna()]
    by_name = {row.problem: row for row in rows.itertuples(index=False)}
    return [by_name[name] for name in STACKS if name in by_name]


def _dtype(data: StudyData, frames: Frames) -> str:
    """The dtype in which merging is spoken of: the main one of pairs, or else of all that was timed; "" for none."""
    pairs = frames.get("pairs", ())
    return (main_dtype(pairs) if len(pairs) else None) or main_dtype(data.speedups) or ""


def _named_stack(row: Any) -> str:
    """As in "sesr_x1: 2.3× [2.1, 2.7], merged bound by launches.", where that is true of one of the two calls alone."""
    values = (row.speedup, row.speedup_lower, row.speedup_upper)
    told = f", {'merged' if row.bound == 'host' else 'stacked'} bound by launches" if row.bounds_differ else ""
    return f"{row.problem.rpartition('/')[2]}: {show.number(*values)}× {show.interval(*values)}{told}."


def methods(data: StudyData, frames: Frames) -> Answer | None:
    """Which other way computes all convolutions of a network faster than the baseline, if any does."""
    network, rows = of_network(frames)
    dtypes = wording.main_dtypes(rows["dtype"]) if network else []
    if not dtypes:
        return None
    best = [best_of(rows[rows["dtype"] == dtype]) for dtype in dtypes]
    totals = frames["totals"]
    text = " ".join(_best(row, rows[rows["dtype"] == row.dtype], totals) for row in best)
    bars = tuple(
        Bar(label, each.speedup, each.speedup_lower, each.speedup_upper)
        for row in best
        for label, each in _with_same_way(totals, row)
    )
    layers = rows.iloc[0]
    part = (
        ""
        if layers["layers"] == layers["catalogued"]
        else f", {layers['layers']} of {show.plural(int(layers['catalogued']), 'layer')}"
    )
    condition = f"over {BASELINE}, same dtype, {NETWORKS[network]}{part}"
    return Answer(METHOD, text, condition, bars, "speedup, log; line: 1", "method")


def _with_same_way(totals: Frame, best: Any) -> Iterator[tuple[str, Any]]:
    """The best way on the network that is spoken of, and what the same way makes of the others, as the chart's rows."""
    yield f"{NETWORKS[best.network]} {best.dtype}", best
    yield from ((f"same way, {NETWORKS[row.network]}", row) for row in _same_way(totals, best))


def _same_way(totals: Frame, best: Any) -> list[Any]:
    """What the way that is best on the network that is spoken of makes of the others, where it ran all their layers."""
    same = totals[(totals["way"] == best.way) & (totals["dtype"] == best.dtype) & (totals["network"] != best.network)]
    same = same[(same["layers"] == same["catalogued"]) & same["speedup_lower"].notna()]
    by_name = {row.network: row for row in same.itertuples(index=False)}
    return [by_name[name] for name in NETWORKS if name in by_name]


def of_network(frames: Frames) -> tuple[str, Frame]:
    """The network that is spoken of, and all its ways with an interval but the baseline; "" where there is none."""
    totals = frames.get("totals", ())
    network = next((name for name in NETWORKS if len(totals) and name in set(totals["network"])), "")
    if not network:
        return "", totals
    of_it = (totals["network"] == network) & ~totals["baseline"].astype(bool)
    return network, totals[of_it & totals["speedup_lower"].notna()]


def best_of(rows: Frame) -> Any:
    """The way with the largest speedup."""
    return next(rows.loc[[rows["speedup"].idxmax()]].itertuples(index=False))


def _best(best: Any, rows: Frame, totals: Frame) -> str:
    """As in "float32: `im2col_numpy`, best of 5: 1.07× [1.03, 1.09] (VGG-16: 0.80×)."; where it is slower elsewhere."""
    values = (best.speedup, best.speedup_lower, best.speedup_upper)
    number = f"{_ratio(best)} {show.interval(*values)}"
    of = f"best of {len(rows)}" if len(rows) > 1 else "the only other"
    told = f"`{best.way}`, {of}: {number}{_longer(best, totals)}."
    if best.verdict == "faster":
        elsewhere = _same_way(totals, best)
        lost = [f"{NETWORKS[row.network]}: {_ratio(row)}" for row in elsewhere if row.verdict == "slower"]
        told = f"{told[:-1]} ({', '.join(lost)})." if lost else told
        return f"{best.dtype}: {told}"
    if (rows["verdict"] == "slower").all():
        return f"{best.dtype}: keep `{BASELINE}`; {told}"
    return f"{best.dtype}: none beats `{BASELINE}`; {told}"


def _longer(best: Any, totals: Frame) -> str:
    """As in ", in 3.3× float32 `direct`’s time", where a narrow dtype at its best takes longer than float32."""
    same = (totals["network"] == best.network) & (totals["layers"] == best.layers) & totals["baseline"].astype(bool)
    plain = totals.loc[same & (totals["dtype"] == MAIN), "seconds"]
    if best.dtype not in NARROW or not len(plain) or best.seconds < LONGER * plain.iloc[0]:
        return ""
    return f", in {show.times(best.seconds / plain.iloc[0])} {MAIN} `{BASELINE}`’s time"


def _ratio(row: Any) -> str:
    return f"{show.number(row.speedup, row.speedup_lower, row.speedup_upper)}×"


def error(data: StudyData, frames: Frames) -> Answer | None:
    """By how much merging multiplies the error, and whether that is decided; the chart is of all dtypes."""
    summary = frames.get("merging_parts", ())
    ratios = merged_error.spoken_of(summary, "ratio") if len(summary) else summary
    if not len(ratios):
        return None
    rows = {row.dtype: row for row in ratios.itertuples(index=False)}
    order = dtypes_in_order(rows)
    told = [_direction(rows[dtype]) for dtype in dtypes_in_order(wording.main_dtypes(order))]
    bars = tuple(Bar(dtype, rows[dtype].median, rows[dtype].lower, rows[dtype].upper) for dtype in order)
    condition = f"merged / stacked, depth {int(ratios['depth'].max())}, {wording.seeds(ratios)}"
    text = f"Random signs: {'; '.join(told)}.{_positive(summary, ratios)}"
    return Answer(ERROR, text, condition, bars, "error ratio, log; line: 1", "precision")


def _positive(summary: Frame, random: Frame) -> str:
    """As in " Positive numbers: float32 9.5 [7.5, 10.3].", where they lose more than all of random signs do."""
    rows = merged_error.spoken_of(summary, "ratio", "positive")
    rows = rows[rows["lower"] > random["upper"].max()]
    if not len(rows):
        return ""
    worst = next(rows.sort_values("median", ascending=False).itertuples(index=False))
    return f" Positive numbers: {worst.dtype} {wording.median(worst)}."


def _direction(row: Any) -> str:
    """As in "bfloat16 smaller, 0.52 [0.50, 0.53]"."""
    told = "smaller" if row.upper < 1 else "larger" if row.lower > 1 else "undecided"
    return f"{row.dtype} {told}, {wording.median(row)}"


def reliability(data: StudyData, frames: Frames) -> Answer | None:
    """How far the same call under two names lies apart, and how many cells of the table of results have no verdict."""
    controls = frames.get("noise", ())
    if not len(controls):
        return None
    floor = noise.noise_floor(controls.assign(all=0), ["all"]).iloc[0]
    judged = data.speedups[~data.speedups["control"].astype(bool)]
    undecided = int((judged["verdict"] == "undecided").sum())
    text = f"Same call twice: {show.percent(floor['median'])} apart, 90 % within {show.percent(floor['p90'])}; "
    text += f"{undecided} of {show.plural(len(judged), 'comparison')} undecided."
    kind = wording.process_kind(data.speedups.loc[data.speedups["speedup_lower"].notna(), "processes"])
    condition = ", ".join(part for part in (show.plural(len(controls), "control"), kind) if part)
    bars = tuple(Bar(label, 100 * float(floor[name])) for name, label in (("median", "median"), ("p90", "90 %")))
    return Answer(TRUST, text, condition, bars, "difference, %", "trust")


def _where(data: StudyData, dtype: str) -> str:
    """As in "float32, cpu"."""
    devices = ", ".join(dict.fromkeys(scope.device for scope in data.scopes))
    return ", ".join(part for part in (dtype, devices) if part)


MERGE, METHOD = "Should I merge my stack?", "Which method for single convolutions?"
ERROR, TRUST = "What does merging do to the error?", "How far can I trust this?"
QUESTIONS: Mapping[str, Callable[[StudyData, Frames], Answer | None]] = {
    MERGE: merging,
    METHOD: methods,
    ERROR: error,
    TRUST: reliability,
}

FILE = "answers"
MOST_SCOPES = 3  # have their answers on the first screen; more of them have a table below it
FILES = {FILE: "The first screen’s answers, one row per question, machine and device, where there are several."}
COLUMNS = {
    "question": "the first screen’s question",
    "answer": "the sentence that answers it, names of ways in backticks",
    "condition": "under which the answer holds",
}
Answered = Sequence[tuple[Scope, Sequence[Answer]]]


def files(answered: Answered) -> dict[str, Frame]:
    """The answers of several scopes as a CSV, by its name; none where there is one scope."""
    rows = [(a.question, scope.machine, scope.device, a.text, a.condition) for scope, each in answered for a in each]
    columns = ["question", "machine", "device", "answer", "condition"]
    return {FILE: framed(rows, columns)} if len(answered) > 1 and rows else {}


def table_of(answered: Answered) -> Table | None:
    """The answers of several scopes beside each other; None where there is one scope, or nothing to answer."""
    if len(answered) < 2 or not files(answered):
        return None
    known = {(scope, a.question): a for scope, each in answered for a in each}
    questions = [(question,) for question in QUESTIONS if any((scope, question) in known for scope, _ in answered)]
    columns: dict[str, Callable[[Any], str | Text]] = {"question": lambda row: row.question}
    for (scope, _), name in zip(answered, names([scope for scope, _ in answered]), strict=True):
        columns[name] = lambda row, scope=scope: _shown(known.get((scope, row.question)))
    caption = "The first screen’s questions, and the answers of every machine and device."
    return table("across-answers", caption, framed(questions, ["question"]), columns, FILE, range(len(columns)))


def _shown(answer: Answer | None) -> Text:
    return Text(show.DASH) if answer is None else Text(answer.text, answer.condition)


def by_question(answered: Answered) -> Iterator[tuple[Answer, str, list[tuple[str, str, str]]]]:
    """For the first screen of several scopes: a question, by one of its answers; the condition that all its answers
    share, or ""; and every scope's name, the first sentence of its answer, and its own condition where they differ.
    Nothing where there are too many scopes to read.
    """
    if len(answered) > MOST_SCOPES:
        return
    called = dict(zip((scope for scope, _ in answered), names([scope for scope, _ in answered]), strict=True))
    for question in QUESTIONS:
        found = [(called[scope], a) for scope, each in answered for a in each if a.question == question]
        if found:
            first = found[0][1]
            shared = first.condition if {a.condition for _, a in found} == {first.condition} else ""
            told = [(name, first_sentence(a.text), "" if shared else a.condition) for name, a in found]
            yield first, shared, told


def first_sentence(text: str) -> str:
    """Up to the first full stop that a blank and another sentence follow."""
    return text.partition(". ")[0].rstrip(".") + "."
