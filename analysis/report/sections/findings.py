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
from analysis.data.over_seeds import PLACE
from analysis.data.study_data import Scope
from analysis.precision.averaging import DTYPES, averaged
from analysis.precision.unit import plain
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import facets, log_ticks, styled
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Section, plot
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
    """title: a few words; hypothesis: as it was fixed; claims: its numbers, of one experiment, in every dtype.

    told: the places of the claims whose numbers the sentence on it gives.
    """

    title: str
    hypothesis: str
    experiment: str
    claims: tuple[Claim, ...]
    told: tuple[int, ...]


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
        (2, 4, 5),
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
        (0, 4, 5),
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
        (4, 5),
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


def outcomes(rows: Frame, experiment: str) -> Frame:
    """Per place, claim and dtype the median ratio over seeds, its interval, and the outcome."""
    found = []
    for place, own in usable(rows).groupby(PLACE, sort=True):
        for number, finding in enumerate(FINDINGS, 1):
            for claim in finding.claims if finding.experiment == experiment else ():
                for dtype in DTYPES:
                    if ratios := paired(own, claim, dtype):
                        named = (*place, number, claim.about, dtype, claim.low, claim.high)
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


def claim_table(name: str, data: str, claims: Frame) -> Table:
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
    return table(name, caption, claims, columns, data, (0, 1, 2, 6))


def _claimed(row: Any) -> str:
    if row.high == ANY:
        return f"at least {row.low:g}"
    return f"at most {row.high:g}" if row.low == 0 else f"{show.significant(row.low)} to {show.significant(row.high)}"


def part(scope: Scope, claims: Frame, data: str) -> Content | None:
    """What is shown of one place's claims. data: the name of their CSV."""
    if not len(claims):
        return None
    name = slug(data, scope.machine, scope.device)
    caption = "Claimed ranges (bands) and what was measured: mark, median over seeds; line, its interval "
    caption += f"({scope.label}); n = {wording.span(claims['seeds'], 'seed')}."
    counts = claims["outcome"].value_counts()
    alt = f"Marks on bands: {wording.listed([f'{counts.get(each, 0)} {each}' for each in OUTCOMES])} of {len(claims)}."
    figures = (plot(f"fig-{name}", caption, alt, data, figure(claims)),)
    return Content(figures, (claim_table(name, data, claims),), " ".join(sentences(claims)), (RULE,))


def sentences(claims: Frame) -> Iterator[str]:
    """Every hypothesis with its outcome."""
    for number in sorted(set(claims["finding"])):
        own = claims[claims["finding"] == number]
        agreed = int((own["outcome"] == "confirmed").sum())
        finding, outcome = FINDINGS[number - 1], overall(own).capitalize()
        text = f"{number}. {finding.hypothesis} {outcome}: {agreed} of {show.plural(len(own), 'claim')} confirmed"
        told = [(name, own[own["claim"] == name]) for name in (finding.claims[place].about for place in finding.told)]
        ratios = [f"{name}: {wording.by_dtype(rows, wording.median)}" for name, rows in told if len(rows)]
        yield f"{text}. Ratios, {'; '.join(ratios)}." if ratios else f"{text}."


def section(experiment: str, title: str) -> Section:
    """The section about an experiment's hypotheses."""
    data = f"{experiment}_claims"
    return experiment_section(
        experiment,
        experiment,
        title,
        lambda rows: {data: outcomes(rows, experiment)},
        lambda scope, rows, frames: part(scope, frames[data], data),
        files={data: "Every claim of its hypotheses, what was measured, and the outcome."},
        columns={
            "finding": "the hypothesis’s number",
            "claim": "which errors are divided, of which inputs or at which depth",
            "low": "lower end of the claimed range",
            "high": "upper end of the claimed range; inf: none",
            "outcome": "confirmed, refuted or undecided, by the rule in the section",
        },
    )


AVERAGING = section("averaging", "What an average over positions leaves of merging’s error")
CASTING = section("casting", "Merging before and after weights are cast to 16 bits")
