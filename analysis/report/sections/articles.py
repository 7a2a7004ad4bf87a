"""What the two articles that the suite starts from claim, each against what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from analysis.data.frames import Frame, dtypes_in_order, framed
from analysis.data.study_data import Scope, StudyData
from analysis.precision.rounded import LINEAR
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.section import Content, Frames, Section, per_scope
from analysis.report.sections import bitwise, rounded
from analysis.report.tables import Text, slug, table
from linear_lasagna.catalog import CATALOG, MERGING_ARTICLE, UNFOLD_ARTICLE
from linear_lasagna.vocabulary import BASELINE, MERGED

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
MERGE, UNFOLD, PATCHES = (CATALOG[f"sources/{name}"] for name in ("merge", "unfold", "patches"))
PATCHED = "patch_matmul"
SUMMED = 28  # parameters of the merged kernel, in the article's words
KINDS: dict[str, str] = {HOLDS: "faster", FAILS: "failed"}  # how outcomes are set
ARTICLES = ["machine", "device", "article", "claim", "measured", "outcome", "evidence"]


class Claim(NamedTuple):
    """judge: what was measured of it in one scope, as (measured, outcome), or None where nothing was. evidence: the
    anchor of the section that shows more.
    """

    article: str
    text: str
    judge: Callable[[StudyData], tuple[str, str] | None]
    evidence: str


def equals(data: StudyData) -> tuple[str, str] | None:
    """Of the article's own example, in the widest dtype."""
    rows = _of(data.costs, MERGE.name, MERGED)
    if not len(rows):
        return None
    dtype = dtypes_in_order(rows["dtype"])[-1]
    row = rows[rows["dtype"] == dtype].iloc[0]
    return f"in {dtype} up to an error of {row['relative_l2']:.1e}, {show.significant(row['error_u'], 2)} u", HOLDS


def parameters(data: StudyData) -> tuple[str, str] | None:
    """By arithmetic: the merged kernel's shape."""
    if not len(_of(data.costs, MERGE.name, MERGED)):
        return None
    taps = [
        sum(k - 1 for k in sizes) + 1 for sizes in zip(*(layer.kernel_size for layer in MERGE.expanded), strict=True)
    ]
    shape = (MERGE.channels[-1], MERGE.channels[0], *taps)
    count = math.prod(shape)
    return f"{count}: the kernel is {'×'.join(map(str, shape))}", HOLDS if count == SUMMED else FAILS


def saves_time(data: StudyData) -> tuple[str, str] | None:
    """Of the article's own example."""
    return _faster(_of(data.speedups, MERGE.name, MERGED), BASELINE)


def saves_memory(data: StudyData) -> tuple[str, str] | None:
    """Of the same, by allocated bytes."""
    rows = _of(data.costs, MERGE.name, MERGED)
    rows = rows[rows["peak_ratio"] > 0]
    if not len(rows):
        return None
    ratio = float(rows["peak_ratio"].median())
    return f"{show.significant(ratio, 2)} times {BASELINE}’s bytes at once", HOLDS if ratio < 1 else FAILS


def profits(data: StudyData) -> tuple[str, str] | None:
    """Whether a stack of linear layers does what no linear function does, because it rounds."""
    rows = data.experiment("rounded")
    found = rounded.mistakes(rows) if rows is not None else None
    if found is None or not {BASELINE, LINEAR} <= set(found["way"]):
        return None
    by = {(row.dtype, row.way): row for row in found.itertuples(index=False)}
    dtypes = [d for d in dtypes_in_order(found["dtype"]) if {(d, BASELINE), (d, LINEAR)} <= by.keys()]
    parts = [
        f"{show.percent(by[d, BASELINE].median)} against {show.percent(by[d, LINEAR].median)} in {d}" for d in dtypes
    ]
    better = [by[d, BASELINE].upper < by[d, LINEAR].lower for d in dtypes]
    told = f"wrong images, stack against best linear classifier: {wording.listed(parts)}"
    return told, HOLDS if all(better) else UNDECIDED


def equal(data: StudyData) -> tuple[str, str] | None:
    """Bit for bit, on the article's own problem."""
    rows = data.experiment("methods")
    row = bitwise.claim(bitwise.compared(rows)) if rows is not None else None
    if row is None:
        return None
    text = f"in {row.dtype} {show.percent(row.median)} of outputs are equal bit for bit; others differ by "
    text += f"{show.significant(row.largest_difference, 2)} at most"
    return ("all outputs, bit for bit", HOLDS) if row.equal_seeds == row.seeds else (text, FAILS)


def takes_memory(data: StudyData) -> tuple[str, str] | None:
    """That of the patches, kernel area times the channels at every output position."""
    rows = _of(data.costs, UNFOLD.name, "unfold_matmul")
    rows = rows[(rows["peak_bytes"] > 0) & (rows["dtype"] == "float32")]
    if not len(rows):
        return None
    (layer,) = UNFOLD.expanded
    batch, channels, *_ = UNFOLD.shapes[0]
    outputs = math.prod(UNFOLD.sizes[-1])
    patches, inputs = (4 * batch * channels * count for count in (layer.taps * outputs, math.prod(UNFOLD.size)))
    peak = float(rows["peak_bytes"].iloc[0])
    shares = (show.significant(each / inputs, 2) for each in (peak, patches))
    told = "{} times the input’s bytes at once, of which patches are {}".format(*shares)
    return told, HOLDS if peak >= patches else FAILS


def needs_no_unfold(data: StudyData) -> tuple[str, str] | None:
    """Before it is timed, a way must give the exact result of integers."""
    trials = [record.trial for record in data.records if record.trial.problem.name == PATCHES.name]
    found = {trial.dtype: trial.cells[PATCHED].status for trial in trials if PATCHED in trial.cells}
    exact = dtypes_in_order([dtype for dtype, status in found.items() if status == "ok"])
    failed = dtypes_in_order([dtype for dtype, status in found.items() if status == "failed"])
    if failed:
        return f"it failed in {wording.listed(failed)}", FAILS
    return (f"exact on integers in {wording.listed(exact)}", HOLDS) if exact else None


def _main(rows: Frame) -> str:
    return wording.main_dtypes(rows["dtype"])[0]


def _of(frame: Frame, problem: str, way: str) -> Frame:
    return frame[(frame["problem"] == problem) & (frame["way"] == way)]


def _faster(rows: Frame, baseline: str) -> tuple[str, str] | None:
    if not len(rows):
        return None
    row = rows[rows["dtype"] == _main(rows)].iloc[0]
    values = [row[name] for name in ("speedup", "speedup_lower", "speedup_upper")]
    times = f"{show.number(*values)}× {show.interval(*values)}".strip()
    told = f"{times} as fast as {baseline} in {row['dtype']}"
    return told, {"faster": HOLDS, "slower": FAILS}.get(row["verdict"], UNDECIDED)


CLAIMS = (
    Claim(MERGING_ARTICLE, "A stack of linear convolutions equals one convolution.", equals, "precision"),
    Claim(MERGING_ARTICLE, f"The example’s merged kernel has {SUMMED} parameters.", parameters, "merge"),
    Claim(MERGING_ARTICLE, "Merging saves time (its example).", saves_time, "merge"),
    Claim(MERGING_ARTICLE, "Merging saves memory (its example).", saves_memory, "memory"),
    Claim(MERGING_ARTICLE, "Stacked linear layers could profit from rounding (its question).", profits, "non-linear"),
    Claim(UNFOLD_ARTICLE, "Unfold and product gives completely equal values.", equal, "bitwise"),
    Claim(UNFOLD_ARTICLE, "Unfold costs the memory of all patches.", takes_memory, "memory"),
    Claim(UNFOLD_ARTICLE, "Where kernel equals stride, a reshape gives the patches.", needs_no_unfold, "sources"),
)


def outcomes(data: StudyData) -> Frame:
    """One row per scope and claim that was measured there."""
    return framed([row for scope in data.scopes for row in _outcomes(scope, data.within(scope))], ARTICLES)


def _outcomes(scope: Scope, data: StudyData) -> Iterator[tuple[Any, ...]]:
    for claim in CLAIMS:
        judged = claim.judge(data)
        if judged is not None:
            yield (scope.machine, scope.device, claim.article, claim.text, *judged, claim.evidence)


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    rows = frames["articles"]
    if not len(rows):
        return None
    columns: dict[str, Callable[[Any], str | Text]] = {
        "claim": lambda row: row.claim,
        "measured": lambda row: row.measured,
        "outcome": lambda row: Text(row.outcome, kind=KINDS.get(str(row.outcome), str(row.outcome))),
        "article": lambda row: row.article,
    }
    caption = f"What the two articles claim, on their own examples, {scope.label}. In brackets: 95 % intervals."
    drawn = table(slug("articles", scope.machine, scope.device), caption, rows, columns, "articles", (0, 1, 2, 3))
    return Content(tables=(drawn,))


SECTION = Section(
    "articles",
    "Claims of the articles",
    per_scope(part),
    lambda data: {"articles": outcomes(data)},
    files={"articles": "What the two articles claim, and what was measured of it."},
    columns={"article": "which of the two", "evidence": "the anchor on the page that shows more"},
)
