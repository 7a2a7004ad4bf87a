"""The experiment `methods`: whether methods give the same numbers, bit for bit.

"The unfold function" says that the values of Unfold + matmul and of Conv2d are completely equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, dtypes_in_order, usable, ways_in_order
from analysis.data.over_seeds import SERIES, largest, over_seeds
from analysis.data.study_data import Scope, StudyData
from analysis.precision.methods import UNFOLD
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames
from analysis.report.tables import Table, Text, arranged, slug, wide_table
from linear_lasagna.vocabulary import BASELINE

KEYS = [*SERIES, "problem", "way"]
CLAIMED = "unfold_matmul"
NO_BREAK = "\u00a0"  # a space at which no line is broken


def frames(rows: Frame) -> Frames:
    return {"bitwise": compared(rows)}


def compared(rows: Frame) -> Frame:
    """Per series, problem and method other than direct: the share of outputs that equal direct's bit for bit (median
    over seeds, with its interval); equal_seeds, in how many of them every output is equal; and over all seeds the
    largest ulps, absolute difference, and distance (relative L2, in u).
    """
    others = usable(rows)
    others = others[others["way"] != BASELINE]
    grouped = others.groupby(KEYS, sort=True)
    more = grouped.agg(
        equal_seeds=("equal", lambda shares: int((shares == 1).sum())),
        largest_ulps=("largest_ulps", "max"),
        largest_difference=("largest_difference", "max"),
        largest_distance_u=("distance_u", "max"),
    )
    return over_seeds(others, KEYS, "equal").merge(more.reset_index(), on=KEYS)


def share(row: Any) -> str:
    """The share in per cent; "all" only where every output of every seed is equal, 0 only where none is."""
    if row.equal_seeds == row.seeds:
        return "all"
    if row.median > 0.999:
        return "> 99.9 %"
    return show.percent(row.median) if row.median == 0 or row.median >= 0.001 else "< 0.1 %"


def bitwise_table(name: str, shares: Frame) -> Table:
    """How equal and how far apart, one column per method. shares: `compared` of one place."""
    shares = arranged(shares, ["problem", "dtype", "signs"])
    pairs = zip(shares["dtype"], shares["signs"], strict=True)
    shares = shares.assign(inputs=[f"{dtype},{NO_BREAK}{signs}" for dtype, signs in pairs])
    labels = {"problem": "problem", "inputs": "dtype, signs"}
    caption = f"The share of outputs that equal {BASELINE}'s bit for bit, all images together, median over "
    caption += f"{wording.seeds(shares)}; in brackets the largest distance, relative L2 in units of u. All: every "
    caption += "output of every seed. The largest differences, in ulps and absolute, and the intervals over seeds "
    caption += "are in the CSV."
    return wide_table(name, caption, shares, labels, "way", _cell, "bitwise")


def _cell(row: Any) -> Text:
    exact = row.equal_seeds == row.seeds
    return Text(share(row), "" if exact else f"[{show.significant(row.largest_distance_u, 2)}]")


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    shares = frames["bitwise"]
    if not len(shares):
        return None
    name = slug("bitwise", scope.machine, scope.device)
    return Content((), (bitwise_table(name, shares),), answer(shares), tuple(details(shares)))


def answer(shares: Frame) -> str:
    """How the article's claim fares on its own problem, and all methods on all problems."""
    row = claim(shares)
    text = sentence(row) + " " if row is not None else ""
    equal = int((shares["equal_seeds"] == shares["seeds"]).sum())
    text += f"Of {show.plural(len(shares), 'comparison')} (method, problem, dtype, signs) "
    return text + f"{show.plural(equal, 'is', 'are')} equal in every output of every seed ({wording.counts(shares)})."


def claim(shares: Frame) -> Any:
    """The row of the article's own example, unfold_matmul on its problem in float32, random signs; or None."""
    rows = shares[(shares["way"] == CLAIMED) & (shares["problem"] == UNFOLD.name)]
    rows = rows[(rows["dtype"] == "float32") & (rows["signs"] == "random")]
    return next(rows.itertuples(index=False), None)


def sentence(row: Any) -> str:
    """The answer to the article's claim, in two sentences. row: of `claim`."""
    where = f"on the article's own problem in {row.dtype} ({wording.seeds_of(row)})"
    if row.equal_seeds == row.seeds:
        return f"All outputs of `{row.way}` equal `{BASELINE}`'s bit for bit {where}."
    scaled = (100 * row.median, 100 * row.lower, 100 * row.upper)
    percent = f"{show.number(*scaled)} % {show.interval(*scaled)}".strip()
    text = f"{percent} of the outputs of `{row.way}` equal `{BASELINE}`'s bit for bit {where}: not completely equal. "
    text += f"The largest difference is {show.significant(row.largest_difference, 2)}, the relative L2 distance at "
    return text + f"most {show.significant(row.largest_distance_u, 2)} u."


def details(shares: Frame) -> Iterator[str]:
    """Per method, how often it equals the baseline in all outputs of all seeds, and where least."""
    for way in ways_in_order(shares["way"]):
        of_way = shares[shares["way"] == way]
        least = largest(of_way, -of_way["median"])
        parts = [_equal(of_way[of_way["dtype"] == dtype], dtype) for dtype in dtypes_in_order(of_way["dtype"])]
        yield (
            f"{way}: every output of every seed is equal for {wording.listed(parts)} pairs of problem and signs; the "
            f"fewest are equal on {least.problem} in {least.dtype}, {wording.signs(least.signs)}: {share(least)}."
        )


def _equal(rows: Frame, dtype: str) -> str:
    return f"{int((rows['equal_seeds'] == rows['seeds']).sum())} of {len(rows)} in {dtype}"


def headline(data: StudyData, frames: Frames) -> str:
    """The answer to the article's claim."""
    row = claim(frames["bitwise"])
    return "" if row is None else sentence(row)


SECTION = experiment_section(
    "methods",
    "bitwise",
    "Methods against each other, bit for bit",
    frames,
    part,
    headlines={"Bit for bit": headline},
    files={"bitwise": "How far each method's result is from direct's, over seeds."},
    columns={
        "equal_seeds": "in how many seeds every output is equal",
        "largest_ulps": "largest number of steps from one number of the dtype to the next between two outputs",
        "largest_difference": "largest absolute difference of two outputs",
        "distance_u": "relative L2 distance from direct's result, in units of u",
        "largest_distance_u": "the largest distance_u over seeds",
    },
)
