"""The experiment `gain`: where stacks and merged kernels leave the range of a dtype.

Gains are powers of two: as long as nothing leaves the range, the relative error is the same number at every gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, framed, usable, ways_in_order
from analysis.data.over_seeds import SERIES, over_seeds
from analysis.data.study_data import Scope
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import (
    Drawing,
    decimal_ticks,
    ends,
    facets,
    in_per_cent,
    legend,
    lines,
    log_range,
    sign_handles,
    styled,
)
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import looks
from analysis.report.tables import Table, Text, arranged, slug, table
from linear_lasagna.vocabulary import MERGED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEYS = [*SERIES, "way"]
LIMITS = ["subnormal_up_to", "flushed_up_to", "not_finite_from"]
KEPT = 1.1  # the error counts as kept while the median ratio to that at gain 1 lies within this factor of 1
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TITLES = {"error": "error", "lost": "lost outputs", "subnormal": "subnormal outputs"}


def frames(rows: Frame) -> Frames:
    """gain: error and shares of outputs by gain; gain_ranges: where each way leaves the range."""
    return {"gain": by_gain(rows), "gain_ranges": ranges(rows)}


def by_gain(rows: Frame) -> Frame:
    """Per series, way and gain, over seeds. quantity: error (in u, of gains at which no seed overflows), lost (share of
    outputs that are not finite, or zero though the exact ones are not), subnormal (share of outputs).
    """
    import pandas

    computed = rows[rows["status"] != "failed"]
    shares = computed.assign(
        lost=(computed["not_finite"] + computed["flushed"]) / computed["outputs"],
        subnormal=computed["subnormal"] / computed["outputs"],
    )
    overflows = (computed["status"] != "ok").groupby([computed[name] for name in (*KEYS, "gain")]).transform("any")
    parts = {"error": (usable(computed[~overflows]), "error_u"), "lost": (shares, "lost")}
    parts["subnormal"] = (shares, "subnormal")
    by = [*KEYS, "gain"]
    summaries = [over_seeds(frame, by, column).assign(quantity=name) for name, (frame, column) in parts.items()]
    return pandas.concat(summaries, ignore_index=True)


def ranges(rows: Frame) -> Frame:
    """Per series and way: kept_from and kept_to, the gains around 1 at which the error is that at gain 1 on the same
    seed, within 10 % in the median; up to which gain some output is subnormal, or flushed to zero; from which on some
    is not finite. NaN: at no gain that was tried.
    """
    computed = rows[rows["status"] != "failed"]
    limits = []
    for key, group in computed.groupby(KEYS, sort=True):
        kept = _kept(group)
        low = [_extreme(group, name, max) for name in ("subnormal", "flushed")]
        high = _extreme(group, "not_finite", min)
        counts = (group["seed"].nunique(), len(group))
        limits.append((*key, min(kept, default=math.nan), max(kept, default=math.nan), *low, high, *counts))
    return framed(limits, [*KEYS, "kept_from", "kept_to", *LIMITS, "seeds", "cells"])


def _kept(group: Frame) -> list[float]:
    """The gains next to each other, 1 among them, at which the error is kept; an overflow keeps nothing."""
    at_one = group[group["gain"] == 1].set_index("seed")["error_u"]
    ratios = (group["error_u"] / group["seed"].map(at_one)).fillna(math.inf).groupby(group["gain"]).median()
    gains = sorted(ratios.index)
    held = [1 / KEPT <= ratios[gain] <= KEPT for gain in gains]
    if 1 not in gains or not held[gains.index(1)]:
        return []
    first = last = gains.index(1)
    while first > 0 and held[first - 1]:
        first -= 1
    while last + 1 < len(gains) and held[last + 1]:
        last += 1
    return gains[first : last + 1]


def _extreme(group: Frame, column: str, which: Callable[..., float]) -> float:
    return which(group.loc[group[column] > 0, "gain"], default=math.nan)


def leaving(limits: Frame) -> list[str]:
    """The dtypes in which some output is subnormal, flushed or not finite at some gain. limits: `ranges`."""
    return dtypes_in_order(limits.loc[limits[LIMITS].notna().any(axis=1), "dtype"])


@styled
def figure(summary: Frame) -> Drawing:
    """Error, lost and subnormal outputs against the gain, a panel each per dtype. summary: `by_gain`."""
    summary = choosing.shown(summary)
    dtypes = dtypes_in_order(summary["dtype"])
    titles = [f"{dtype}: {what}" for dtype in dtypes for what in TITLES.values()]
    drawing, panels = facets(titles)
    known = looks(summary["way"])
    for index, panel in enumerate(panels):
        value, dtype = list(TITLES)[index % len(TITLES)], dtypes[index // len(TITLES)]
        column = summary[summary["quantity"] == value]
        of_dtype = column[column["dtype"] == dtype]
        error = value == "error"
        lines(panel, of_dtype if error else in_per_cent(of_dtype), "gain", known, "u" if error else "%")
        _axes(panel, value, column)
        gain_axis(panel, summary["gain"])
    legend(drawing, ways_in_order(summary["way"]), sign_handles(summary["signs"]), known)
    return drawing


def _axes(panel: Axes, value: str, column: Frame) -> None:
    if value == "error":
        panel.set_yscale("log")
        panel.set_ylim(log_range(ends(column)))
        decimal_ticks(panel.yaxis)
        panel.set_ylabel("relative L2 error (u)")
    else:
        panel.set_ylim(-5, 105)
        panel.set_ylabel("outputs (%)")


def gain_axis(panel: Axes, gains: Iterable[float]) -> None:
    """Powers of two with their exponents, at most seven."""
    from matplotlib.ticker import NullLocator

    panel.set_xscale("log", base=2)
    first, last = (round(math.log2(end(gains))) for end in (min, max))
    step = max(1, math.ceil((last - first) / 6))
    exponents = [e for e in range(first, last + 1) if e % step == 0]
    panel.set_xticks([2.0**e for e in exponents], [power(2.0**e) for e in exponents])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlim(min(gains) / 1.5, max(gains) * 1.5)
    panel.grid(axis="both")
    panel.set_xlabel("gain per layer")


def power(gain: float) -> str:
    """As in "2⁻⁴"; a dash for no gain."""
    return show.DASH if gain != gain else "2" + str(round(math.log2(gain))).translate(SUPERSCRIPTS)


def range_table(name: str, limits: Frame) -> Table:
    """Where each way leaves the range. limits: `ranges` of one place."""
    columns: dict[str, Any] = {
        "dtype": lambda row: row.dtype,
        "signs": lambda row: row.signs,
        "way": lambda row: row.way,
        "error kept": lambda row: span(row),
        "subnormal up to": lambda row: _gain(row.subnormal_up_to),
        "flushed up to": lambda row: _gain(row.flushed_up_to),
        "not finite from": lambda row: _gain(row.not_finite_from),
    }
    caption = "Where each way leaves the range, by gain per layer, among the gains tried. Error kept: the gains "
    caption += "around 1 at which the error is that at gain 1 on the same seed, within 10 % in the median over "
    caption += "seeds. Subnormal, flushed: the largest gain at which some output of some seed is subnormal, or zero "
    caption += "though the exact one is not. Not finite: the least gain at which some output is infinite or NaN. "
    caption += f"Dash: at no gain tried. n = {wording.seeds(limits)}."
    return table(name, caption, arranged(limits, ["dtype", "signs", "way"]), columns, "gain_ranges", range(3))


def span(row: Any) -> str:
    """The gains at which the error is kept."""
    return show.DASH if row.kept_from != row.kept_from else f"{power(row.kept_from)} to {power(row.kept_to)}"


def _gain(gain: float) -> Text:
    return Text(power(gain), kind="zero" if gain != gain else "")


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    summary, reach = frames["gain"], frames["gain_ranges"]
    if not len(summary):
        return None
    shown = leaving(reach) or dtypes_in_order(reach["dtype"])
    summary, listed = summary[summary["dtype"].isin(shown)], reach[reach["dtype"].isin(shown)]
    name = slug("gain", scope.machine, scope.device)
    drawn = plot(f"fig-{name}", _caption(scope, rows, summary), _alt(reach), "gain", figure(summary))
    return Content((drawn,), (range_table(name, listed),), answer(reach), tuple(details(summary, reach)))


def _caption(scope: Scope, rows: Frame, summary: Frame) -> str:
    depth = wording.listed([str(depth) for depth in sorted(set(rows["depth"]))])
    text = f"What happens when each layer's weights are multiplied by a gain, stacks of depth {depth} "
    text += f"({scope.label}); the gain axis is logarithmic. Error: relative L2 in units of u, logarithmic, "
    text += "where all outputs of all seeds are finite; an error of 1/u loses everything. Lost outputs are "
    text += f"not finite, or zero though the exact ones are not. {wording.band(summary)}{choosing.others(summary)} "
    return text + "Dtypes whose range no gain tried leaves are not shown."


def _alt(limits: Frame) -> str:
    left = leaving(limits)
    text = "Lines against the gain on a logarithmic axis. "
    return text + (f"Outputs are subnormal or lost in {wording.listed(left)}." if left else "No output is lost.")


def answer(limits: Frame) -> str:
    """Up to where the ways keep their error on random signs, dtype by dtype; and which dtypes no gain leaves."""
    parts = []
    for dtype in leaving(limits):
        of_dtype = arranged(limits[(limits["dtype"] == dtype) & (limits["signs"] == "random")], ["way"])
        spans = [f"from {span(row)} for `{row.way}`" for row in of_dtype.itertuples(index=False)]
        if spans:
            text = f"In {dtype}, on random signs, the error stays within 10 % of that at gain 1 {wording.listed(spans)}"
            parts.append(f"{text} ({wording.counts(of_dtype)}).")
    inside = [dtype for dtype in dtypes_in_order(limits["dtype"]) if dtype not in leaving(limits)]
    if inside:
        parts.append(f"In {wording.listed(inside)} no gain tried leaves the range.")
    return " ".join(parts)


def details(summary: Frame, limits: Frame) -> Iterator[str]:
    """How large the error is at the first gain below the merged way's range, random signs; and what was tried."""
    errors = summary[(summary["quantity"] == "error") & (summary["signs"] == "random")]
    for dtype in leaving(limits):
        of_dtype = errors[errors["dtype"] == dtype]
        gain = _first_loss(limits, dtype, of_dtype["gain"])
        rows = arranged(of_dtype[of_dtype["gain"] == gain], ["way"]).itertuples(index=False)
        sizes = [f"{wording.median(row)} u of {row.way}" for row in rows]
        if sizes:
            yield f"In {dtype} at gain {power(gain)}, random signs, the median error is {wording.listed(sizes)}."
    yield f"Gains of {wording.listed([power(gain) for gain in sorted(set(summary['gain']))])} were tried."


def _first_loss(limits: Frame, dtype: str, gains: Iterable[float]) -> float:
    """The largest gain tried below those at which the merged way keeps its error, random signs."""
    merged = limits[(limits["dtype"] == dtype) & (limits["signs"] == "random") & (limits["way"] == MERGED)]
    return max((gain for gain in gains if len(merged) and gain < merged["kept_from"].iloc[0]), default=math.nan)


SECTION = experiment_section(
    "gain",
    "gain",
    "When do scaled weights leave the range?",
    frames,
    part,
    files={
        "gain": "Error, lost and subnormal outputs by the gain per layer, over seeds.",
        "gain_ranges": "At which gains each way leaves the range of the dtype.",
    },
    columns={
        "kept_from": "least gain at which the error is within 10 % of that at gain 1",
        "kept_to": "largest gain at which the error is within 10 % of that at gain 1",
        "subnormal_up_to": "largest gain at which some output of some seed is subnormal",
        "flushed_up_to": "largest gain at which some output of some seed is zero and the exact one is not",
        "not_finite_from": "least gain at which some output of some seed is infinite or NaN",
        "not_finite": "outputs that are infinite or NaN",
        "subnormal": "outputs that are subnormal",
        "flushed": "outputs that are zero and the exact ones are not",
    },
)
