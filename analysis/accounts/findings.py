"""Leads, confirmed or refuted: what a small earlier measurement claimed, against what was measured here.

The rule, for each claimed number. The measured 95 % interval over seeds is widened by 10 % of the median, that of an
exponent by 0.05; both widths were chosen after data had been seen.
confirmed: the claimed number or range touches the widened interval; a claim of "more than" lies below the interval; a
claimed tolerance holds all of the interval, which is not widened.
narrowed: not so, but the whole interval lies on the claimed side of no effect (ratio 1, exponent 0).
refuted: neither. undecided: there is no interval, or one that holds the end of a tolerance or of "more than".
A lead is confirmed where all its numbers are, refuted where none is confirmed or narrowed, undecided where none is
decided, and else narrowed.
"""

from __future__ import annotations

from typing import Any

from analysis import formatting as show
from analysis.accounts import wording
from analysis.accounts.account import in_fixed_order, missing_columns, places, whole
from analysis.accounts.claims import ABSOLUTE, ANY, CLAIMS, LEADS, RELATIVE, Claim
from analysis.accounts.measured import BASELINE, measured
from analysis.frames import Frame, framed
from analysis.parts import Section
from analysis.tables import Table, Text, table

COLUMNS = ["machine", "device", "lead", "claim", "dtype", "signs", "claimed_low", "claimed_high"]
FOUND = ["median", "lower", "upper", "seeds", "cells"]
OUTCOMES = ("confirmed", "narrowed", "refuted", "undecided")
FEW_NAMES = 3  # more numbers than these are counted, not named
TITLE = "Leads, confirmed or refuted"
INTRO = (
    "A small earlier measurement, on one machine with 2 cores, left four leads; nothing of the kind was found in "
    "print. Each of their numbers stands here against what was measured, by one rule for all."
)
RULE = (
    "The rule for a number: the measured interval is widened by 10 % of the median, that of an exponent by 0.05. "
    "Confirmed: the claimed number or range touches it. Narrowed: it does not, but the whole interval lies on the "
    "claimed side of no effect. Refuted: neither. A claimed tolerance (within 8 %) is confirmed where it holds "
    "the whole interval, which is not widened. A lead is confirmed where all its numbers are, and refuted where none "
    "is confirmed or narrowed."
)
ORIGIN = (
    "How the rule was chosen: after a first measurement with this code had been seen, not before it. The widths stand "
    "for the few seeds, 4 or 5, that the leads themselves rest on; other widths would move some numbers between "
    "confirmed and narrowed or refuted. Judge by the measured numbers and their intervals, which no rule touches."
)


def leads(rows: Frame | None) -> Frame:
    """Per place and claimed number what was measured, with its interval over seeds, and the outcome by the rule above.

    Numbers that were not measured have no row; those of lead 3 are about the CPU alone.
    """
    if rows is None or not len(rows) or missing_columns(rows):
        return framed([], [*COLUMNS, *FOUND, "outcome"])
    rows, found = in_fixed_order(whole(rows)), []
    for place in places(rows):
        here = measured(place.of(rows))
        for claim in CLAIMS:
            row = _row_of(here, claim)
            if row is not None and (claim.lead != 3 or place.device == "cpu"):
                named = (place.machine, place.device, claim.lead, claim.about, claim.dtype, claim.signs)
                numbers = (row.median, row.lower, row.upper, int(row.seeds), int(row.cells))
                found.append((*named, claim.low, claim.high, *numbers, outcome(claim, *numbers[:3])))
    return framed(found, [*COLUMNS, *FOUND, "outcome"])


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


def verdicts(found: Frame) -> Frame:
    """Per place and lead the outcome of the whole, and how many of its numbers have which. found: `leads`."""
    by = ["machine", "device", "lead"]
    counts = found.groupby([*by, "outcome"], sort=True).size().unstack("outcome", fill_value=0)
    counts = counts.reindex(columns=list(OUTCOMES), fill_value=0).reset_index().rename_axis(columns=None)
    return counts.assign(outcome=[overall(row) for row in counts.itertuples(index=False)])


def overall(row: Any) -> str:
    """The outcome of a lead from the counts of its numbers'."""
    decided = row.confirmed + row.narrowed + row.refuted
    if not decided:
        return "undecided"
    if not row.confirmed + row.narrowed:
        return "refuted"
    return "confirmed" if row.confirmed == decided + row.undecided else "narrowed"


def _row_of(found: dict[str, Frame], claim: Claim) -> Any:
    """The measured row that the claim is about, or None."""
    if claim.about not in found:
        return None
    frame = found[claim.about]
    here = frame[(frame["dtype"] == claim.dtype) & (frame["signs"] == claim.signs)]
    return next(here.itertuples(index=False), None)


def section(rows: Frame | None) -> Section | None:
    """The leads with their verdicts and the table of numbers; None where nothing that they speak of was measured."""
    found = leads(rows)
    if not len(found):
        return None
    said = [_said(row, found) for row in verdicts(found).itertuples(index=False)]
    notes = (RULE, ORIGIN, *wording.few(rows))
    return Section("leads", TITLE, " ".join([INTRO, *said]), (), (_table(found),), "", notes)


def _several(found: Frame) -> bool:
    return len(found[["machine", "device"]].drop_duplicates()) > 1


def _said(row: Any, found: Frame) -> str:
    """The lead, its outcome, and which of its numbers were not confirmed. row: of `verdicts`."""
    where = f" ({row.machine}, {row.device})" if _several(found) else ""
    here = found[(found["machine"] == row.machine) & (found["device"] == row.device) & (found["lead"] == row.lead)]
    text = f"{row.lead}. {LEADS[row.lead]} {row.outcome.capitalize()}{where}: "
    text += f"{row.confirmed} of {show.plural(len(here), 'number')} confirmed"
    for name in OUTCOMES[1:]:
        some = here[here["outcome"] == name].itertuples(index=False)
        names = [f"{lost.claim} ({lost.dtype}, {wording.signs(lost.signs)})" for lost in some]
        text += f"; {name}: {wording.listed(names) if len(names) <= FEW_NAMES else len(names)}" if names else ""
    return text + "."


def _table(found: Frame) -> Table:
    where = {"place": lambda row: f"{row.machine}, {row.device}"} if _several(found) else {}
    columns: dict[str, Any] = {
        "lead": lambda row: str(row.lead),
        **where,
        "quantity": lambda row: row.claim,
        "dtype, signs": lambda row: f"{row.dtype}, {row.signs}",
        "claimed": _claimed,
        "measured": lambda row: Text(_number(row), show.interval(row.median, row.lower, row.upper)),
        "seeds": lambda row: str(row.seeds),
        "outcome": lambda row: Text(row.outcome, kind="zero" if row.outcome == "undecided" else ""),
    }
    caption = "The numbers of the leads against those measured here. Ratios are paired by seed; exponents are "
    caption += f"least-squares slopes, one per seed; errors are those of `{BASELINE}` in units of u, single layers "
    caption += f"for the fan-in, whose halves meet at the middle one. {wording.TABLE}"
    wide = (0, 1, 2, len(columns) - 1) if not where else (0, 1, 2, 3, len(columns) - 1)
    return table("leads", caption, found, columns, "leads", wide)


def _number(row: Any) -> str:
    return show.number(row.median, row.lower, row.upper)


def _claimed(row: Any) -> str:
    if row.claimed_high == ANY:
        return f"> {row.claimed_low:g}"
    ends = [f"{row.claimed_low:g}", f"{row.claimed_high:g}"]
    return " to ".join(dict.fromkeys(ends))
