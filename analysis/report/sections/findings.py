"""Findings about merging in 16 bits: hypotheses that were fixed before their experiments were run, and what came out.

A hypothesis is a list of claims: each says in which range a ratio of two errors of the same draw lies. The rule: a
claim is confirmed where the interval of the median over seeds lies in its range, refuted where it lies outside of it,
and else undecided; a hypothesis is confirmed where all its claims are, refuted where one is, else undecided. The
intervals of all claims hold together with 95 % (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, framed, usable
from analysis.data.study_data import Scope, StudyData
from analysis.precision.averaging import DTYPES, averaged
from analysis.precision.unit import plain
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import facets, log_ticks, styled
from analysis.report.section import Content, Frames, Section, per_scope, plot
from analysis.report.style import INK
from analysis.report.tables import Table, Text, slug, table
from linear_lasagna.intervals import CONFIDENCE, median_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANY = math.inf
DEPTHS = (2, 3, 4, 8)
OUTCOMES = ("confirmed", "undecided", "refuted")
STACKED, MERGED, TAPS = "direct", "merged/direct", "merged+tap_sums/direct"
ONCE, SPLIT = "merged+nearest/direct", "merged+split/direct"
PIXEL, POOLED = "error_u", "pooled_u"


@dataclass(frozen=True)
class Claim:
    """The ratio of two errors, each (way, measure), of the same draw lies between low and high, in these cells."""

    about: str
    over: tuple[str, str]
    under: tuple[str, str]
    low: float
    high: float
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Finding:
    """title: a few words; hypothesis: as it was fixed; claims: its numbers, of one experiment, in every dtype."""

    title: str
    hypothesis: str
    experiment: str
    claims: tuple[Claim, ...]


def _averaged(about: str, over: tuple[str, str], under: tuple[str, str], low: float, high: float, inputs: str) -> Claim:
    return Claim(
        f"{about}, {inputs}",
        over,
        under,
        low,
        high,
        {"inputs": inputs, "weights": "normal", "problem": averaged(3).name},
    )


FINDINGS = (
    Finding(
        "Merging’s error is coherent",
        "Averaged over positions, the error of a stack falls nearly as that of independent numbers where inputs have "
        "one sign, the error of the merged kernel hardly: its rounding is one fixed operator.",
        "averaging",
        (
            _averaged("stacked: averaged / single", (STACKED, POOLED), (STACKED, PIXEL), 0.0, 0.1, "relu"),
            _averaged("merged: averaged / single", (MERGED, POOLED), (MERGED, PIXEL), 0.4, ANY, "relu"),
            *(
                _averaged("averaged: merged / stacked", (MERGED, POOLED), (STACKED, POOLED), 5.0, ANY, inputs)
                for inputs in ("relu", "pink", "photograph")
            ),
            _averaged("averaged: merged / stacked", (MERGED, POOLED), (STACKED, POOLED), 0.5, 1.0, "normal"),
        ),
    ),
    Finding(
        "Merge first, cast once",
        "Against float32 weights, merging L layers first and rounding once leaves 1 / √L of the error of rounding "
        "each, within 10 %; split into two kernels less than half of it.",
        "casting",
        tuple(
            claim
            for depth in DEPTHS
            for claim in (
                Claim(
                    f"merged, then cast / cast, depth {depth}",
                    (ONCE, PIXEL),
                    (STACKED, PIXEL),
                    0.9 / math.sqrt(depth),
                    1.1 / math.sqrt(depth),
                    {"inputs": "relu", "problem": plain(depth).name},
                ),
                Claim(
                    f"split / cast, depth {depth}",
                    (SPLIT, PIXEL),
                    (STACKED, PIXEL),
                    0.0,
                    0.5,
                    {"inputs": "relu", "problem": plain(depth).name},
                ),
            )
        ),
    ),
    Finding(
        "Tap sums can be kept for nothing",
        "Rounding a merged kernel so that each kernel’s sum over its taps is kept leaves at most 35 % of the averaged "
        "error on images, and single outputs as they are, within 5 %.",
        "averaging",
        tuple(
            claim
            for inputs in ("relu", "pink", "photograph")
            for claim in (
                _averaged("averaged: sums kept / to nearest", (TAPS, POOLED), (MERGED, POOLED), 0.0, 0.35, inputs),
                _averaged("single: sums kept / to nearest", (TAPS, PIXEL), (MERGED, PIXEL), 0.95, 1.05, inputs),
            )
        ),
    ),
)
JOINT = 1 - (1 - CONFIDENCE) / (len(DTYPES) * sum(len(finding.claims) for finding in FINDINGS))
COLUMNS = ["machine", "device", "finding", "claim", "dtype", "low", "high"]
MEASURED = ["median", "lower", "upper", "seeds", "outcome"]
RULE = (
    "A claim is confirmed where the interval lies in the claimed range, refuted where it lies outside of it, else "
    "undecided; a hypothesis is confirmed where all its claims are, and refuted where one is. All intervals hold "
    "together with 95 % (Bonferroni over the claims). The claims were fixed before the experiments were run, after "
    "small trials by other code; a seed draws weights and image."
)


def outcomes(data: StudyData) -> Frame:
    """Per scope, claim and dtype the median ratio over seeds, its interval, and the outcome."""
    found = []
    for scope in data.scopes:
        for number, finding in enumerate(FINDINGS, 1):
            rows = data.within(scope).experiment(finding.experiment)
            for claim in () if rows is None else finding.claims:
                for dtype in DTYPES:
                    ratios = paired(usable(rows), claim, dtype)
                    if ratios:
                        named = (scope.machine, scope.device, number, claim.about, dtype, claim.low, claim.high)
                        found.append((*named, *_summary(ratios), len(ratios), _outcome(ratios, claim)))
    return framed(found, [*COLUMNS, *MEASURED])


def paired(rows: Frame, claim: Claim, dtype: str) -> list[float]:
    """The ratio of each seed, in order."""
    for name, value in {**claim.cells, "dtype": dtype}.items():
        rows = rows[rows[name] == value]
    over, under = (rows[rows["way"] == way].set_index("seed")[measure] for way, measure in (claim.over, claim.under))
    return (over / under).dropna().sort_index().tolist()


def _summary(ratios: list[float]) -> tuple[float, float, float]:
    from statistics import median

    return (median(ratios), *(median_interval(ratios, JOINT) or (math.nan, math.nan)))


def _outcome(ratios: list[float], claim: Claim) -> str:
    _, lower, upper = _summary(ratios)
    if claim.low <= lower <= upper <= claim.high:
        return "confirmed"
    return "refuted" if upper < claim.low or lower > claim.high else "undecided"


def overall(claims: Frame) -> str:
    """Of a hypothesis, by its claims."""
    found = set(claims["outcome"])
    return "refuted" if "refuted" in found else "confirmed" if found == {"confirmed"} else "undecided"


@styled
def figure(claims: Frame) -> Figure:
    """A panel per finding: every claimed range as a band, what was measured as a mark with its interval."""
    numbers = sorted(set(claims["finding"]))
    most = max(len(claims[claims["finding"] == number]) for number in numbers)
    drawing, panels = facets([FINDINGS[n - 1].title for n in numbers], 0.26 * most + 0.6, columns=1)
    for panel, number in zip(panels, numbers, strict=True):
        own = claims[claims["finding"] == number].reset_index(drop=True)
        ends = [end for end in (*own["low"], *own["high"], *own["median"]) if 0 < end < ANY]
        least, largest = min(ends) / 2, max(ends) * 2
        for place, row in enumerate(own.itertuples(index=False)):
            panel.plot([max(row.low, least), min(row.high, largest)], [place, place], color=INK, alpha=0.2, linewidth=9)
            panel.plot([row.lower, row.upper], [place, place], color=INK, linewidth=1.4)
            panel.plot([row.median], [place], "o", color=INK, markersize=4.5)
        panel.set_xscale("log", base=2)
        panel.set_xlim(least, largest)
        log_ticks(panel.xaxis, least, largest)
        panel.axvline(1, color=INK, linewidth=0.9)
        panel.set_yticks(range(len(own)), [f"{row.claim} ({row.dtype})" for row in own.itertuples(index=False)])
        panel.invert_yaxis()
        panel.set_xlabel("ratio of errors")
    return drawing


def claim_table(name: str, claims: Frame) -> Table:
    """All claims of one place."""
    columns: dict[str, Any] = {
        "finding": lambda row: f"{row.finding}",
        "ratio": lambda row: row.claim,
        "dtype": lambda row: row.dtype,
        "claimed": _claimed,
        "measured": lambda row: Text(
            show.number(row.median, row.lower, row.upper), show.interval(row.median, row.lower, row.upper)
        ),
        "seeds": lambda row: str(row.seeds),
        "outcome": lambda row: Text(row.outcome, kind="zero" if row.outcome == "undecided" else ""),
    }
    caption = "Claimed and measured ratios of errors, paired by draw: of single outputs (relative L2), or of their "
    caption += (
        "averages over all positions. Median over seeds with its interval; all intervals together hold with 95 %."
    )
    return table(name, caption, claims, columns, "findings", (0, 1, 2, 6))


def _claimed(row: Any) -> str:
    if row.high == ANY:
        return f"at least {row.low:g}"
    return f"at most {row.high:g}" if row.low == 0 else f"{show.significant(row.low)} to {show.significant(row.high)}"


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    claims = frames["findings"]
    if not len(claims):
        return None
    name = slug("findings", scope.machine, scope.device)
    caption = f"Claimed ranges (bands) and what was measured, median over seeds with its interval ({scope.label})."
    counts = claims["outcome"].value_counts()
    alt = f"Marks on bands: {wording.listed([f'{counts.get(each, 0)} {each}' for each in OUTCOMES])} of {len(claims)}."
    figures = (plot(f"fig-{name}", caption, alt, "findings", figure(claims)),)
    return Content(figures, (claim_table(name, claims),), " ".join(sentences(claims)), (RULE,))


def sentences(claims: Frame) -> Iterator[str]:
    """Every hypothesis with its outcome."""
    for number in sorted(set(claims["finding"])):
        own = claims[claims["finding"] == number]
        agreed = int((own["outcome"] == "confirmed").sum())
        finding, outcome = FINDINGS[number - 1], overall(own).capitalize()
        yield f"{number}. {finding.hypothesis} {outcome}: {agreed} of {show.plural(len(own), 'claim')} confirmed."


SECTION = Section(
    "findings",
    "Merging in 16 bits: hypotheses and outcomes",
    per_scope(part),
    lambda data: {"findings": outcomes(data)},
    intro="What rounding does to merged kernels on inputs that networks have.",
    empty="The experiments averaging and casting were not run.",
    files={"findings": "Every claim about merging in 16 bits, what was measured, and the outcome."},
    columns={
        "finding": "the hypothesis’s number",
        "claim": "which errors are divided, of which inputs or at which depth",
        "low": "lower end of the claimed range",
        "high": "upper end of the claimed range; inf: none",
        "outcome": "confirmed, refuted or undecided, by the rule in the section",
    },
)
