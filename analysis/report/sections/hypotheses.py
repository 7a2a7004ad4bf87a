"""Hypotheses from an earlier measurement, against what was measured here.

The rule, for each claimed number. The measured 95 % interval over seeds is widened by 10 % of the median, that of an
exponent by 0.05; both widths were chosen after data had been seen.
confirmed: the claimed number or range touches the widened interval; a claim of "more than" lies below the interval; a
claimed tolerance holds all of the interval, which is not widened.
narrowed: not so, but the whole interval lies on the claimed side of no effect (ratio 1, exponent 0).
refuted: neither. undecided: there is no interval, or one that holds the end of a tolerance or of "more than".
A hypothesis is confirmed where all its numbers are, refuted where none is confirmed or narrowed, undecided where none
is decided, and else narrowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from analysis.data.frames import Frame, framed
from analysis.data.over_seeds import SERIES
from analysis.data.study_data import StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.section import Content, Frames, Section
from analysis.report.sections import bounds, depth, fan_in, merged_error
from analysis.report.tables import Table, Text, table
from linear_lasagna.vocabulary import BASELINE, DTYPES, MERGED

DEPTH = 8
HYPOTHESES = {
    1: "At depth 8, merging in float64 makes errors smaller in 16 bits and larger in float32 and float64.",
    2: "The error of a stack grows with the square root of its depth for random signs, hardly for positive numbers.",
    3: "On the CPU, 16-bit errors do not depend on the fan-in; float32 errors grow with it, then reach a plateau.",
    4: "The variance recursion predicts the error of a stack in 16 bits within 8 %.",
}
ANY = math.inf  # the upper end of a claim that only says "more than"
RELATIVE = 0.1  # by how much of the measured median an interval is widened
ABSOLUTE = 0.05  # by how much the interval of an exponent is widened: 10 % of the exponent of a square root
COLUMNS = ["machine", "device", "lead", "claim", "dtype", "signs", "claimed_low", "claimed_high"]
MEASURED = ["median", "lower", "upper", "seeds", "cells"]
SUMMARY = ["dtype", "signs", *MEASURED]
OUTCOMES = ("confirmed", "narrowed", "refuted", "undecided")
FEW_NAMES = 3  # more numbers than these are counted, not named
INTRO = (
    "A small earlier measurement, on one machine with 2 cores, left four hypotheses, E1 to E4; nothing of the kind was "
    "found in print. Each of their numbers stands here against what was measured, by one rule for all, more lenient "
    "than that of the other hypotheses."
)
RULE = (
    "The rule for a number: the measured interval is widened by 10 % of the median, that of an exponent by 0.05. "
    "Confirmed: the claimed number or range touches it. Narrowed: it does not, but the whole interval lies on the "
    "claimed side of no effect. Refuted: neither. A claimed tolerance (within 8 %) is confirmed where it holds "
    "the whole interval, which is not widened. A hypothesis is confirmed where all its numbers are, and refuted "
    "where none is confirmed or narrowed."
)
ORIGIN = (
    "How the rule was chosen: after a first measurement with this code had been seen, not before it. The widths stand "
    "for the few seeds, 4 or 5, that the hypotheses themselves rest on; other widths would move some numbers between "
    "confirmed and narrowed or refuted. Judge by the measured numbers and their intervals, which no rule touches."
)


@dataclass(frozen=True)
class Claim:
    """One number of a hypothesis: of the quantity `about` (as `measured` names it) in a dtype, for a sign structure.

    low, high: the claimed range, or the claimed number twice; high = ANY: more than low. neutral: what parts the two
    directions that the number may take, 1 for a ratio, None where there is none. tolerance: the range is itself the
    largest deviation that the hypothesis allows, so nothing is widened, and all of the interval must lie in it.
    """

    hypothesis: int
    about: str
    dtype: str
    signs: str
    low: float
    high: float
    neutral: float | None = None
    tolerance: bool = False

    @property
    def exponent(self) -> bool:
        return "exponent" in self.about


RATIO, DEPTH_EXPONENT = "error merged / stacked, depth 8", "exponent in depth"

LEAST, LARGEST = "least median error over fan-ins (u)", "largest median error over fan-ins (u)"
WHOLE, LOWER, UPPER = "exponent in fan-in", "exponent in fan-in, lower half", "exponent in fan-in, upper half"
LOW, HIGH = "least predicted / measured error over depths", "largest predicted / measured error over depths"

RATIOS = {"float16": 0.50, "bfloat16": 0.54, "float32": 1.92, "float64": 1.24}
SIGNS = ("random", "positive")

CLAIMS = (
    *(Claim(1, RATIO, dtype, "random", ratio, ratio, 1.0) for dtype, ratio in RATIOS.items()),
    Claim(1, RATIO, "float32", "positive", 8.1, 8.1, 1.0),
    *(Claim(2, DEPTH_EXPONENT, dtype, "random", 0.48, 0.52, 0.0) for dtype in DTYPES),
    *(Claim(2, DEPTH_EXPONENT, dtype, "positive", 0.03, 0.03) for dtype in DTYPES),
    *(Claim(3, about, d, s, 0.4, 0.5) for about in (LEAST, LARGEST) for d in DTYPES[:2] for s in SIGNS),
    *(Claim(3, WHOLE, dtype, signs, 0.0, 0.0) for dtype in DTYPES[:2] for signs in SIGNS),
    *(Claim(3, LOWER, "float32", signs, 0.0, ANY) for signs in SIGNS),
    *(Claim(3, UPPER, "float32", signs, 0.0, 0.0) for signs in SIGNS),
    *(Claim(4, about, d, s, 0.92, 1.08, tolerance=True) for about in (LOW, HIGH) for d in DTYPES[:2] for s in SIGNS),
)


def _merge_ratio(rows: Frame) -> Frame:
    """From the experiment depth, else from merging: the same stacks and seeds."""
    by_depth = depth.observed(rows)
    if {BASELINE, MERGED} <= set(by_depth.loc[by_depth["depth"] == DEPTH, "way"]):
        ratios = depth.merge_ratios(rows)
    elif "part" in rows:
        ratios = merged_error.parts(rows[rows["experiment"] == "merging"])
        ratios = ratios[ratios["quantity"] == "ratio"]
    else:
        return framed([], SUMMARY)
    return ratios[(ratios["depth"] == DEPTH) & (ratios["way"] == MERGED)]


def _depth_exponent(rows: Frame) -> Frame:
    if not len(depth.observed(rows)):
        return framed([], SUMMARY)
    fits = depth.growths(rows)
    return fits[fits["way"] == BASELINE]


def _single_layers(rows: Frame) -> dict[str, Frame]:
    """Of single layers computed with the baseline: the median errors at the fan-ins where they are least and largest,
    and the exponents.
    """
    single_layers = rows[rows["experiment"] == "fan_in"]
    single_layers = single_layers[(single_layers["way"] == BASELINE) & (single_layers["depth"] == 1)]
    if not len(single_layers):
        return {}
    errors, growths = fan_in.errors(single_layers), fan_in.growths(single_layers)
    medians = errors.groupby(SERIES)["median"]
    reaches = {WHOLE: "whole", LOWER: "lower", UPPER: "upper"}
    return {
        LEAST: errors.loc[medians.idxmin()],
        LARGEST: errors.loc[medians.idxmax()],
        **{about: growths[growths["reach"] == reach] for about, reach in reaches.items() if len(growths)},
    }


def _predictions(rows: Frame) -> dict[str, Frame]:
    """Of the baseline: the median ratios predicted / measured at the depths where they are least and largest."""
    baseline = rows[(rows["experiment"] == "bounds") & (rows["way"] == BASELINE)]
    ratios = bounds.ratios(baseline) if len(baseline) else baseline
    if not len(ratios):
        return {}
    medians = ratios.groupby(SERIES)["median"]
    return {LOW: ratios.loc[medians.idxmin()], HIGH: ratios.loc[medians.idxmax()]}


def measured(rows: Frame) -> dict[str, Frame]:
    """What was measured, by quantity; those that were not are left out."""
    quantities = {
        RATIO: _merge_ratio(rows),
        DEPTH_EXPONENT: _depth_exponent(rows),
        **_single_layers(rows),
        **_predictions(rows),
    }
    return {about: frame for about, frame in quantities.items() if len(frame)}


def outcomes(data: StudyData) -> Frame:
    """Per scope and claimed number what was measured, with its interval over seeds, and the outcome by the rule above.

    Numbers that were not measured have no row; those of hypothesis 3 are about the CPU alone.
    """
    claims = []
    for scope in data.scopes:
        rows = data.within(scope).rows
        quantities = {} if rows is None else measured(rows)
        for claim in CLAIMS:
            row = _row_of(quantities, claim)
            if row is not None and (claim.hypothesis != 3 or scope.device == "cpu"):
                named = (scope.machine, scope.device, claim.hypothesis, claim.about, claim.dtype, claim.signs)
                numbers = (row.median, row.lower, row.upper, int(row.seeds), int(row.cells))
                claims.append((*named, claim.low, claim.high, *numbers, outcome(claim, *numbers[:3])))
    return framed(claims, [*COLUMNS, *MEASURED, "outcome"])


def outcome(claim: Claim, median: float, lower: float, upper: float) -> str:
    """The outcome by the module's rule."""
    if lower != lower or upper != upper:
        return "undecided"
    if claim.high == ANY:
        return "confirmed" if lower > claim.low else "refuted" if upper <= claim.low else "undecided"
    if claim.tolerance:
        outside = upper < claim.low or lower > claim.high
        return "confirmed" if claim.low <= lower <= upper <= claim.high else "refuted" if outside else "undecided"
    slack = ABSOLUTE if claim.exponent else RELATIVE * abs(median)
    if lower - slack <= claim.high and claim.low <= upper + slack:
        return "confirmed"
    if claim.neutral is not None:
        above = claim.low > claim.neutral
        return "narrowed" if (lower > claim.neutral if above else upper < claim.neutral) else "refuted"
    return "refuted"


def verdicts(claims: Frame) -> Frame:
    """The outcome of each hypothesis per place, and how many of its numbers have which. claims: of `outcomes`."""
    by = ["machine", "device", "lead"]
    counts = claims.groupby([*by, "outcome"], sort=True).size().unstack("outcome", fill_value=0)
    counts = counts.reindex(columns=list(OUTCOMES), fill_value=0).reset_index().rename_axis(columns=None)
    return counts.assign(outcome=[overall(row) for row in counts.itertuples(index=False)])


def overall(row: Any) -> str:
    """The outcome of a hypothesis from the counts of its numbers'."""
    decided = row.confirmed + row.narrowed + row.refuted
    if not decided:
        return "undecided"
    if not row.confirmed + row.narrowed:
        return "refuted"
    return "confirmed" if row.confirmed == decided + row.undecided else "narrowed"


def _row_of(quantities: dict[str, Frame], claim: Claim) -> Any:
    """The measured row that the claim is about, or None."""
    if claim.about not in quantities:
        return None
    frame = quantities[claim.about]
    rows = frame[(frame["dtype"] == claim.dtype) & (frame["signs"] == claim.signs)]
    return next(rows.itertuples(index=False), None)


def _several(claims: Frame) -> bool:
    return len(claims[["machine", "device"]].drop_duplicates()) > 1


def _sentence(row: Any, claims: Frame) -> str:
    """The hypothesis, its outcome, and which of its numbers were not confirmed. row: of `verdicts`."""
    where = f" ({row.machine}, {row.device})" if _several(claims) else ""
    of_hypothesis = claims[
        (claims["machine"] == row.machine) & (claims["device"] == row.device) & (claims["lead"] == row.lead)
    ]
    text = f"E{row.lead}: “{HYPOTHESES[row.lead]}” {row.outcome.capitalize()}{where}: "
    text += f"{row.confirmed} of {show.plural(len(of_hypothesis), 'number')} confirmed"
    for name in OUTCOMES[1:]:
        of_outcome = of_hypothesis[of_hypothesis["outcome"] == name].itertuples(index=False)
        names = [f"{lost.claim} ({lost.dtype}, {wording.signs(lost.signs)})" for lost in of_outcome]
        text += f"; {name}: {wording.listed(names) if len(names) <= FEW_NAMES else len(names)}" if names else ""
    return text + "."


def _table(claims: Frame) -> Table:
    where = {"place": lambda row: f"{row.machine}, {row.device}"} if _several(claims) else {}
    columns: dict[str, Any] = {
        "hypothesis": lambda row: f"E{row.lead}",
        **where,
        "quantity": lambda row: row.claim,
        "dtype, signs": lambda row: f"{row.dtype}, {row.signs}",
        "claimed": _claimed,
        "measured": lambda row: Text(_number(row), show.interval(row.median, row.lower, row.upper)),
        "seeds": lambda row: str(row.seeds),
        "outcome": lambda row: Text(row.outcome, kind="zero" if row.outcome == "undecided" else ""),
    }
    caption = "The numbers of the hypotheses against those measured here. Ratios are paired by seed; exponents are "
    caption += f"least-squares slopes, one per seed; errors are those of `{BASELINE}` in units of u, single layers "
    caption += "for the fan-in, whose halves meet at the middle one. A claimed 0 of an exponent is confirmed by an "
    caption += f"interval that comes within 0.05 of it. {wording.TABLE}"
    wide = (0, 1, 2, len(columns) - 1) if not where else (0, 1, 2, 3, len(columns) - 1)
    return table("leads", caption, claims, columns, "leads", wide)


def _number(row: Any) -> str:
    return show.number(row.median, row.lower, row.upper)


def _claimed(row: Any) -> str:
    if row.claimed_high == ANY:
        return f"> {row.claimed_low:g}"
    ends = [f"{row.claimed_low:g}", f"{row.claimed_high:g}"]
    return " to ".join(dict.fromkeys(ends))


def content(data: StudyData, frames: Frames) -> Content | None:
    """The hypotheses with their outcomes and the table of numbers; None where none of those was measured."""
    claims = frames["leads"]
    if not len(claims):
        return None
    sentences = [_sentence(row, claims) for row in verdicts(claims).itertuples(index=False)]
    return Content((), (_table(claims),), " ".join(sentences), (RULE, ORIGIN, *wording.few(data.rows)))


SECTION = Section(
    "leads",
    "Hypotheses from an earlier measurement",
    content,
    lambda data: {"leads": outcomes(data)},
    intro=INTRO,
    files={"leads": "The numbers of the hypotheses against those measured here."},
    columns={
        "lead": "the hypothesis's number: 1 is E1",
        "claim": "the quantity that the hypothesis speaks of",
        "claimed_low": "lower end of what it claims",
        "claimed_high": "upper end of what it claims; inf: it claims more than the lower end",
        "outcome": "confirmed, narrowed, refuted or undecided, by the rule in the section",
    },
)
