"""What was measured of the quantities that the leads speak of: a place's precision rows in, one row per series out.

Every frame has the columns dtype, signs, median, lower, upper, seeds and cells.
"""

from __future__ import annotations

from analysis import growth
from analysis.accounts import fan_in_growth, predictions
from analysis.accounts.claims import DEPTH_EXPONENT, HIGH, LARGEST, LEAST, LOW, LOWER, RATIO, UPPER, WHOLE
from analysis.accounts.merging import MERGED, parts
from analysis.accounts.summaries import SERIES
from analysis.frames import Frame, framed

BASELINE = growth.BASELINE
DEPTH = 8
COLUMNS = ["dtype", "signs", "median", "lower", "upper", "seeds", "cells"]


def _merge_ratio(rows: Frame) -> Frame:
    """From the experiment depth, else from merging: the same stacks and seeds."""
    by_depth = growth.observed(rows)
    if {BASELINE, MERGED} <= set(by_depth.loc[by_depth["depth"] == DEPTH, "way"]):
        found = growth.merge_ratios(rows)
        found = found.assign(cells=found["seeds"])
    elif "part" in rows:
        found = parts(rows[rows["experiment"] == "merging"])
        found = found[found["quantity"] == "ratio"]
    else:
        return framed([], COLUMNS)
    return found[(found["depth"] == DEPTH) & (found["way"] == MERGED)]


def _depth_exponent(rows: Frame) -> Frame:
    if not len(growth.observed(rows)):
        return framed([], COLUMNS)
    found = growth.exponents(rows)
    cells = growth.observed(rows).groupby([*SERIES, "way"], sort=True).size().rename("cells").reset_index()
    found = found.merge(cells, on=[*SERIES, "way"])
    return found[found["way"] == BASELINE]


def _fan_in(rows: Frame) -> dict[str, Frame]:
    """Of single layers computed with the baseline: the median errors at the fan-ins where they are least and largest,
    and the exponents.
    """
    own = rows[rows["experiment"] == "fan_in"]
    own = own[(own["way"] == BASELINE) & (own["depth"] == 1)]
    if not len(own):
        return {}
    errors, growths = fan_in_growth.errors(own), fan_in_growth.growths(own)
    medians = errors.groupby(SERIES)["median"]
    reaches = {WHOLE: "whole", LOWER: "lower", UPPER: "upper"}
    return {
        LEAST: errors.loc[medians.idxmin()],
        LARGEST: errors.loc[medians.idxmax()],
        **{about: growths[growths["reach"] == reach] for about, reach in reaches.items() if len(growths)},
    }


def _predictions(rows: Frame) -> dict[str, Frame]:
    """Of the baseline: the median ratios predicted / measured at the depths where they are least and largest."""
    own = rows[(rows["experiment"] == "bounds") & (rows["way"] == BASELINE)]
    found = predictions.ratios(own) if len(own) else own
    if not len(found):
        return {}
    medians = found.groupby(SERIES)["median"]
    return {LOW: found.loc[medians.idxmin()], HIGH: found.loc[medians.idxmax()]}


def measured(rows: Frame) -> dict[str, Frame]:
    """What was measured, by quantity; those that were not are left out."""
    found = {RATIO: _merge_ratio(rows), DEPTH_EXPONENT: _depth_exponent(rows), **_fan_in(rows), **_predictions(rows)}
    return {about: frame for about, frame in found.items() if len(frame)}
