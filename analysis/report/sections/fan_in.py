"""The experiments `fan_in` and `kernel_size`: how the error grows with the number of products summed for one output.

The fan-in is that of one layer as it is computed; a merged layer sums more products than its column says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, dtypes_in_order, ordered_by_dtype, usable, ways_in_order
from analysis.data.over_seeds import PLACE, SERIES, exponents, halves, over_seeds
from analysis.data.study_data import Scope, StudyData
from analysis.precision.kernel_size import CHANNELS
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import (
    Drawing,
    decimal_ticks,
    ends,
    facets,
    legend,
    lines,
    log_range,
    measured_ticks,
    sign_handles,
    styled,
)
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import looks
from analysis.report.tables import Table, Text, slug, wide_table
from linear_lasagna.vocabulary import BASELINE

KEYS = [*SERIES, "depth", "way"]
CHANNELS_GROW = "3×3 layers with as many channels in as out"
KERNEL_GROWS = f"square kernels of growing size, {CHANNELS} channels"
TRENDS = {
    "none": "shows no growth with the fan-in",
    "grows": "grows with the fan-in",
    "falls": "falls with the fan-in",
    "undecided": "may grow with the fan-in or not",
}
BENDS = "grows with the fan-in, more slowly in its upper half"
ELSEWHERE = "The fan-in grows with the {} here; what it does to the error need not be what it does in “{}”."


def errors(rows: Frame) -> Frame:
    """The median error in u per series, depth, way and fan-in."""
    return over_seeds(usable(rows), [*KEYS, "fan_in"], "error_u")


def growths(rows: Frame) -> Frame:
    """The exponent e in error ∝ fan-in^e per series, depth and way, over all fan-ins and over either half of them.

    reach: whole, lower (up to the middle fan-in of the place and depth) or upper (from it on).
    """
    import pandas

    usable_rows = usable(rows)
    fits = []
    for _, group in usable_rows.groupby([*PLACE, "depth"], sort=True):
        lower, upper = halves(group["fan_in"])
        for reach, fan_ins in (("whole", lower + upper), ("lower", lower), ("upper", upper)):
            within = group[group["fan_in"].isin(fan_ins)]
            fits.append(exponents(within, "fan_in", KEYS).assign(reach=reach))
    return pandas.concat(fits, ignore_index=True) if fits else exponents(usable_rows, "fan_in", KEYS).assign(reach="")


@styled
def figure(summary: Frame, label: str, ticks: dict[float, str] | None = None) -> Drawing:
    """Error against fan-in, both logarithmic: one panel per depth and dtype.

    summary: `errors` of one place; label, ticks: of the x axis.
    """
    dtypes, depths = dtypes_in_order(summary["dtype"]), sorted(set(summary["depth"]))
    names = [f"{dtype}, depth {depth}" for depth in depths for dtype in dtypes]
    drawing, panels = facets(names)
    known = looks(summary["way"])
    for index, panel in enumerate(panels):
        depth, dtype = depths[index // len(dtypes)], dtypes[index % len(dtypes)]
        row = summary[summary["depth"] == depth]
        lines(panel, row[row["dtype"] == dtype], "fan_in", known, "u", "fan-in")
        measured_ticks(panel, row["fan_in"], ticks)
        panel.set_yscale("log")
        panel.set_ylim(log_range(ends(row)))
        decimal_ticks(panel.yaxis)
        panel.set(xlabel=label, ylabel="relative L2 error (u)")
    legend(drawing, ways_in_order(summary["way"]), sign_handles(summary["signs"]), known)
    return drawing


def exponent_table(name: str, fits: Frame, data: str, where: str) -> Table:
    """The exponents over all fan-ins, one column per dtype. fits: `growths` of one place."""
    whole = fits[fits["reach"] == "whole"]
    caption = f"The exponent e in error ∝ fan-in^e, {where}: least-squares slope of log error against log fan-in, "
    caption += f"one per seed; their median over {wording.seeds(whole)}. {wording.TABLE} Grey: the interval holds 0. "
    caption += "Of a bent line it is the slope of the whole; the CSV has each half's. "
    caption += "The fan-in is that of one layer of the stack, also for merged ways."
    labels = {"depth": "depth", "signs": "signs", "way": "way"}
    return wide_table(name, caption, whole, labels, "dtype", exponent, data)


def exponent(row: Any) -> Text:
    """An exponent with its interval, in grey where no trend is seen."""
    ends = (row.lower, row.upper)
    return Text(show.number(row.median, *ends), show.interval(row.median, *ends), "zero" if row.trend == "none" else "")


def answer(fits: Frame) -> str:
    """Whether the error of the baseline on random signs grows, at the least depth; where growth slows down, the
    exponents of both halves, because one for all would be the slope of a bent line. fits: `growths`.
    """
    baseline = _baseline(fits)
    whole, bent = baseline[baseline["reach"] == "whole"], _bent(baseline)
    straight = whole[~whole["dtype"].isin(bent["dtype"])]
    told = [(straight[straight["trend"] == kind], text, wording.median) for kind, text in TRENDS.items()]
    told.append((bent, BENDS, _halves))
    parts = [
        f"in {wording.listed(dtypes_in_order(rows['dtype']))} it {text}, exponent {wording.by_dtype(rows, number)}"
        for rows, text, number in told
        if len(rows)
    ]
    if not parts:
        return "Too few fan-ins for an exponent."
    first, *others = parts
    first = f"I{first[1:]}".replace(" it ", f" the error of `{BASELINE}` ", 1)
    return f"{'; '.join([first, *others])} ({_conditions(whole)}, weights drawn uniformly)."


def _bent(fits: Frame) -> Frame:
    """The dtypes in which the exponent of the upper half lies below the lower half's, by their intervals."""
    both = _grown(fits)
    return both[both["upper_upper"] < both["lower"]]


def _halves(row: Any) -> str:
    upper = show.with_interval(row.median_upper, row.lower_upper, row.upper_upper)
    return f"{wording.median(row)} up to a fan-in of {row.most_fan_in} and {upper} from there on"


def details(fits: Frame, summary: Frame) -> Iterator[str]:
    """Where growth slows down, and the sizes of the error. fits: `growths`; summary: `errors`."""
    for row in ordered_by_dtype(_grown(_baseline(fits))).itertuples(index=False):
        yield _plateau(row)
    errors = _baseline(summary)
    ends = errors.groupby("dtype", sort=True)["median"].agg(["min", "max"]).reset_index()
    if len(ends):
        text = wording.by_dtype(ends, lambda row: f"{show.significant(row.min, 2)} to {show.significant(row.max, 2)} u")
        yield f"Median errors of {BASELINE} at depth {errors['depth'].min()}, random signs: {text}."


def _baseline(frame: Frame) -> Frame:
    rows = frame[(frame["way"] == BASELINE) & (frame["signs"] == "random")]
    return rows[rows["depth"] == rows["depth"].min()]


def _conditions(frame: Frame) -> str:
    depth, least, most = (int(frame.iloc[0][name]) for name in ("depth", "least_fan_in", "most_fan_in"))
    return f"depth {depth}, random signs, fan-ins {least} to {most}, {wording.counts(frame)}"


def _grown(fits: Frame) -> Frame:
    """The dtypes in which the error grows over the lower half of the fan-ins, with both halves' exponents in a row."""
    lower, upper = (fits[fits["reach"] == reach] for reach in ("lower", "upper"))
    both = lower.merge(upper, on=KEYS, suffixes=("", "_upper"))
    return both[both["trend"] == "grows"]


def _plateau(row: Any) -> str:
    text = f"In {row.dtype} the exponent of {BASELINE} on random signs is {_halves(row)}: {course(row)} "
    return f"{text}({wording.seeds_of(row)})."


def course(row: Any) -> str:
    """How growth goes on in the upper half. row: lower, upper, and trend_upper, lower_upper, upper_upper."""
    if row.trend_upper == "grows":
        return "growth slows down, but goes on" if row.upper_upper < row.lower else "growth goes on"
    return {"none": "a plateau", "falls": "beyond it the error falls"}.get(row.trend_upper, "undecided")


def worst(summary: Frame) -> str:
    """The largest median error, for those who cannot see the figure."""
    row = summary.loc[summary["median"].idxmax()]
    text = f"The largest median error is {show.significant(row['median'])} u, of {row['way']} in {row['dtype']} on "
    return text + f"{wording.signs(row['signs'])} at depth {row['depth']} and fan-in {row['fan_in']}."


def fan_in_frames(rows: Frame) -> Frames:
    """fan_in: errors; fan_in_exponents: their"""
    return {"fan_in": errors(rows), "fan_in_exponents": growths(rows)}


def fan_in_part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    summary, exponents = frames["fan_in"], frames["fan_in_exponents"]
    if not len(summary):
        return None
    caption = (
        f"Relative L2 error in units of u against the fan-in of one layer, {CHANNELS_GROW} ({scope.label}), both axes "
    )
    caption += f"logarithmic, one panel per depth and dtype. {wording.band(summary)} Where marks "
    caption += f"cover each other, the ways lose the same.{choosing.others(summary)}{choosing.other_dtypes(summary)}"
    drawn = choosing.shown(choosing.main(summary))
    alt = f"Lines on two logarithmic axes, one panel per dtype and depth. {worst(drawn)}"
    name = slug("fan-in", scope.machine, scope.device)
    figures = (plot(f"fig-{name}", caption, alt, "fan_in", figure(drawn, "fan-in of one layer")),)
    tables = (exponent_table(name, exponents, "fan_in_exponents", CHANNELS_GROW),) if len(exponents) else ()
    elsewhere = ELSEWHERE.format("channels", "Error by kernel size")
    return Content(figures, tables, answer(exponents), (*details(exponents, summary), elsewhere))


def kernel_size_frames(rows: Frame) -> Frames:
    """kernel_sizes: errors by fan-in and kernel size; kernel_size_exponents: their growth with the fan-in."""
    sizes = errors(rows)
    return {
        "kernel_sizes": sizes.assign(kernel_size=[size(fan_in) for fan_in in sizes["fan_in"]]),
        "kernel_size_exponents": growths(rows),
    }


def size(fan_in: int) -> int:
    """The kernel's edge: the experiment's fan-in is channels × its square."""
    return math.isqrt(int(fan_in) // CHANNELS)


def kernel_size_part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    summary, exponents = frames["kernel_sizes"], frames["kernel_size_exponents"]
    if not len(summary):
        return None
    caption = f"Relative L2 error in units of u against the size of the kernel, {CHANNELS} channels ({scope.label}), "
    caption += "both axes logarithmic, one panel per depth and dtype. The axis is the fan-in of one layer, channels × "
    caption += f"area, named by the kernel's size. {wording.band(summary)}{choosing.others(summary)}"
    caption += choosing.other_dtypes(summary)
    drawn = choosing.shown(choosing.main(summary))
    alt = f"Lines on two logarithmic axes, one panel per dtype and depth. {worst(drawn)}"
    name = slug("kernel-size", scope.machine, scope.device)
    ticks = {fan_in: f"{size(fan_in)}×{size(fan_in)}" for fan_in in set(summary["fan_in"])}
    figures = (plot(f"fig-{name}", caption, alt, "kernel_sizes", figure(drawn, "kernel", ticks)),)
    tables = (exponent_table(name, exponents, "kernel_size_exponents", KERNEL_GROWS),) if len(exponents) else ()
    elsewhere = ELSEWHERE.format("kernel", "Error by fan-in")
    return Content(figures, tables, answer(exponents), (*details(exponents, summary), elsewhere))


def headline(data: StudyData, frames: Frames) -> str:
    """Whether the error grows with the fan-in."""
    return answer(frames["fan_in_exponents"]) if len(frames["fan_in_exponents"]) else ""


FAN_IN = experiment_section(
    "fan_in",
    "fan-in",
    "Error by fan-in",
    fan_in_frames,
    fan_in_part,
    headlines={"Error by fan-in": headline},
    files={
        "fan_in": "The error by fan-in, over seeds.",
        "fan_in_exponents": "How the error grows with the fan-in, over seeds.",
    },
    columns={
        "least_fan_in": "the least fan-in that the slope rests on",
        "most_fan_in": "the largest fan-in that the slope rests on",
        "reach": "which fan-ins: whole, all; lower, up to the middle one; upper, from it on",
    },
)
KERNEL_SIZE = experiment_section(
    "kernel_size",
    "kernel-size",
    "Error by kernel size",
    kernel_size_frames,
    kernel_size_part,
    files={
        "kernel_sizes": "The error by the kernel's size, over seeds.",
        "kernel_size_exponents": "How the error grows with the fan-in that comes with the kernel's size, over seeds.",
    },
    columns={"kernel_size": "edge of the square kernel"},
)
