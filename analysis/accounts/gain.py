"""The account of the experiment `gain`: where stacks and merged kernels leave the range of a dtype.

Gains are powers of two: as long as nothing leaves the range, the relative error is the same number at every gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from analysis import formatting as show
from analysis.accounts import wording
from analysis.accounts.account import Account, Frames, Part, Place
from analysis.accounts.gain_ranges import by_gain, leaving, ranges
from analysis.accounts.panels import ends, lines, sign_handles
from analysis.accounts.wide import arranged
from analysis.drawing import decimal_ticks, facets, legend, log_range, styled
from analysis.frames import Frame
from analysis.parts import plot
from analysis.style import dtypes_in_order, ways_in_order
from analysis.tables import Table, Text, slug, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MERGED = "merged/direct"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TITLES = {"error": "error", "lost": "lost outputs", "subnormal": "subnormal outputs"}


def frames(rows: Frame) -> Frames:
    """gain: error and shares of outputs by gain; gain_ranges: where each way leaves the range."""
    return {"gain": by_gain(rows), "gain_ranges": ranges(rows)}


@styled
def figure(summary: Frame) -> Figure:
    """Error, lost and subnormal outputs against the gain, one row of panels per dtype. summary: `by_gain`."""
    dtypes = dtypes_in_order(summary["dtype"])
    titles = [f"{dtype}: {what}" for dtype in dtypes for what in TITLES.values()]
    drawing, panels = facets(titles, 2.6, columns=len(TITLES))
    for index, panel in enumerate(panels):
        value, dtype = list(TITLES)[index % len(TITLES)], dtypes[index // len(TITLES)]
        column = summary[summary["quantity"] == value]
        here = column[column["dtype"] == dtype]
        lines(panel, here if value == "error" else _percent(here), "gain")
        _axes(panel, value, column)
        gain_axis(panel, summary["gain"])
    legend(drawing, ways_in_order(summary["way"]), sign_handles(summary["signs"]))
    return drawing


def _percent(rows: Frame) -> Frame:
    return rows.assign(**{name: 100 * rows[name] for name in ("median", "lower", "upper")})


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


def range_table(name: str, found: Frame) -> Table:
    """Where each way leaves the range. found: `ranges` of one place."""
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
    caption += f"Dash: at no gain tried. n = {wording.seeds(found)}."
    return table(name, caption, arranged(found, ["dtype", "signs", "way"]), columns, "gain_ranges", range(3))


def span(row: Any) -> str:
    """The gains at which the error is kept."""
    return show.DASH if row.kept_from != row.kept_from else f"{power(row.kept_from)} to {power(row.kept_to)}"


def _gain(gain: float) -> Text:
    return Text(power(gain), kind="zero" if gain != gain else "")


def part(place: Place, rows: Frame, found: Frames) -> Part | None:
    summary, reach = found["gain"], found["gain_ranges"]
    if not len(summary):
        return None
    shown = leaving(reach) or dtypes_in_order(reach["dtype"])
    summary, listed = summary[summary["dtype"].isin(shown)], reach[reach["dtype"].isin(shown)]
    name = slug("gain", place.machine, place.device)
    drawn = plot(f"fig-{name}", _caption(place, rows, summary), _alt(reach), "gain", figure(summary))
    return Part((drawn,), (range_table(name, listed),), answer(reach), tuple(details(summary, reach)))


def _caption(place: Place, rows: Frame, summary: Frame) -> str:
    depth = wording.listed([str(depth) for depth in sorted(set(rows["depth"]))])
    text = f"What happens when each layer's weights are multiplied by a gain, stacks of depth {depth} "
    text += f"({place.label}); the gain axis is logarithmic. Left: relative L2 error in units of u, logarithmic, "
    text += "where all outputs of all seeds are finite; an error of 1/u loses everything. Middle: lost outputs are "
    text += f"not finite, or zero though the exact ones are not. Right: subnormal outputs. {wording.band(summary)} "
    return text + f"{wording.STYLES} Dtypes whose range no gain tried leaves are not shown."


def _alt(found: Frame) -> str:
    left = leaving(found)
    text = "Lines against the gain on a logarithmic axis. "
    return text + (f"Outputs are subnormal or lost in {wording.listed(left)}." if left else "No output is lost.")


def answer(found: Frame) -> str:
    """Up to where the ways keep their error on random signs, dtype by dtype; and which dtypes no gain leaves."""
    parts = []
    for dtype in leaving(found):
        here = arranged(found[(found["dtype"] == dtype) & (found["signs"] == "random")], ["way"])
        spans = [f"from {span(row)} for `{row.way}`" for row in here.itertuples(index=False)]
        if spans:
            text = f"In {dtype}, on random signs, the error stays within 10 % of that at gain 1 {wording.listed(spans)}"
            parts.append(f"{text} ({wording.counts(here)}).")
    inside = [dtype for dtype in dtypes_in_order(found["dtype"]) if dtype not in leaving(found)]
    if inside:
        parts.append(f"In {wording.listed(inside)} no gain tried leaves the range.")
    return " ".join(parts)


def details(summary: Frame, found: Frame) -> Iterator[str]:
    """How large the error is at the first gain below the merged way's range, random signs; and what was tried."""
    errors = summary[(summary["quantity"] == "error") & (summary["signs"] == "random")]
    for dtype in leaving(found):
        here = errors[errors["dtype"] == dtype]
        gain = _first_loss(found, dtype, here["gain"])
        rows = arranged(here[here["gain"] == gain], ["way"]).itertuples(index=False)
        sizes = [f"{wording.median(row)} u of {row.way}" for row in rows]
        if sizes:
            yield f"In {dtype} at gain {power(gain)}, random signs, the median error is {wording.listed(sizes)}."
    yield f"Gains from {power(summary['gain'].min())} to {power(summary['gain'].max())} were tried."


def _first_loss(found: Frame, dtype: str, gains: Iterable[float]) -> float:
    """The largest gain tried below those at which the merged way keeps its error, random signs."""
    here = found[(found["dtype"] == dtype) & (found["signs"] == "random") & (found["way"] == MERGED)]
    return max((gain for gain in gains if len(here) and gain < here["kept_from"].iloc[0]), default=math.nan)


ACCOUNT = Account("gain", "gain", "Gain per layer: where the range ends", frames, part)
