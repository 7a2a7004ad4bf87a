"""The experiment `merging`: what a merged stack's error is made of, and how large it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, dtypes_in_order, usable, ways_in_order
from analysis.data.over_seeds import SERIES, over_seeds, paired
from analysis.data.study_data import Scope
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import Drawing, facets, in_per_cent, legend, lines, measured_ticks, sign_handles, styled
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import looks
from analysis.report.tables import Table, Text, slug, wide_table, with_interval
from linear_lasagna.vocabulary import BASELINE, MERGED, Signs

KEYS = [*SERIES, "depth", "way"]
DEPTH = 8  # the depth that is spoken of, where it was measured; else the largest
SPOKEN_OF: Signs = "random"
TINY = 1e-4  # shares below it are not told apart
VALUES = {"share": "share of the kernel's rounding (%)", "ratio": "error merged / stacked"}


def frames(rows: Frame) -> Frames:
    return {"merging_parts": parts(rows)}


def parts(rows: Frame) -> Frame:
    """Per series, depth and merged way, over seeds; quantity: share, of the kernel's rounding in the squared error,
    kernel² / (kernel² + sum²), between 0 and 1; ratio, the total error / the stacked way's on the same seed.

    Total = kernel + sum as vectors; their squares add up to the total's where they are uncorrelated.
    """
    import pandas

    whole = usable(rows)
    totals = whole[whole["part"] == "total"]
    shares = over_seeds(kernel_shares(whole), KEYS, "share").assign(quantity="share")
    ratios = over_seeds(paired(totals, "way", BASELINE), KEYS, "ratio").assign(quantity="ratio")
    return pandas.concat([shares, ratios], ignore_index=True)


def kernel_shares(rows: Frame) -> Frame:
    """Per cell of a merged way the share of the kernel's rounding in the squared error. rows: usable ones."""
    keys = [*KEYS, "problem", "seed"]
    sizes = rows[rows["part"].isin(["kernel", "sum"])].pivot_table(index=keys, columns="part", values="error_u")
    sizes = sizes.reindex(columns=["kernel", "sum"])
    squares = sizes**2
    share = (squares["kernel"] / (squares["kernel"] + squares["sum"])).rename("share")
    return share.dropna().reset_index()


@styled
def figure(summary: Frame) -> Drawing:
    """The share of the kernel's rounding against depth, one panel per dtype. summary: `parts` of one place."""
    summary = choosing.shown(in_per_cent(summary[summary["quantity"] == "share"]))
    dtypes, known = dtypes_in_order(summary["dtype"]), looks(summary["way"])
    drawing, panels = facets(dtypes)
    for panel, dtype in zip(panels, dtypes, strict=True):
        lines(panel, summary[summary["dtype"] == dtype], "depth", known, "%")
        measured_ticks(panel, summary["depth"])
        panel.set_ylim(-5, 105)
        panel.set(xlabel="depth (layers)", ylabel="share (%)")
    legend(drawing, ways_in_order(summary["way"]), sign_handles(summary["signs"]), known)
    return drawing


def part_table(name: str, summary: Frame) -> Table:
    """Share and ratio at the depth that is spoken of, one column per dtype. summary: `parts` of one place."""
    shown = at_depth(summary)
    labels = {"quantity": "quantity", "signs": "signs", "way": "way"}
    caption = "Share: of the kernel's rounding in the merged way's squared error, the rest being the longer sum's. "
    caption += "Ratio: error merged / stacked on the same seed; below 1 merging is more accurate. Depth "
    caption += f"{_depth(shown)}, median over {wording.seeds(shown)}. {wording.TABLE} Other depths are in the CSV."
    return wide_table(name, caption, shown, labels, "dtype", _cell, "merging_parts")


def _cell(row: Any) -> Text:
    if row.quantity == "ratio":
        return with_interval(row)
    if row.upper < TINY:
        return Text(f"< {100 * TINY:g} %")
    scaled = (100 * row.median, 100 * row.lower, 100 * row.upper)
    return Text(show.number(*scaled) + " %", show.interval(*scaled))


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    summary = frames["merging_parts"]
    if not len(summary):
        return None
    caption = "The share of the merged kernel's rounding in the squared error of a merged stack, against depth "
    caption += f"({scope.label}); the rest is the longer sum's. {wording.band(summary)}"
    caption += choosing.others(summary)
    drawn = choosing.shown(summary[summary["quantity"] == "share"])["median"]
    alt = "Lines against depth, one panel per dtype. The median shares lie from "
    alt += f"{show.percent(float(drawn.min()))} to {show.percent(float(drawn.max()))}."
    name = slug("merge-parts", scope.machine, scope.device)
    figures = (plot(f"fig-{name}", caption, alt, "merging_parts", figure(summary)),)
    sentences = f"{answer(summary)} {shares(summary)}".strip()
    return Content(figures, (part_table(name, summary),), sentences, tuple(details(summary)))


def at_depth(summary: Frame) -> Frame:
    """The summaries at depth 8, where it was measured; else at the largest depth."""
    depths = set(summary["depth"])
    return summary[summary["depth"] == (DEPTH if DEPTH in depths else max(depths, default=0))]


def _depth(summary: Frame) -> int:
    return int(summary["depth"].max())


def spoken_of(summary: Frame, value: str, signs: str = SPOKEN_OF) -> Frame:
    """The summary of one value of merging in float64 on random signs, one row per dtype."""
    return at_depth(summary[(summary["quantity"] == value) & (summary["signs"] == signs) & (summary["way"] == MERGED)])


def answer(summary: Frame) -> str:
    """Whether merging reverses with precision, on random signs."""
    ratios = spoken_of(summary, "ratio")
    if not len(ratios):
        return ""
    text = f"At depth {_depth(ratios)}, on random signs, a kernel merged in float64 multiplies the error by "
    text += (
        f"{wording.by_dtype(ratios, wording.median)} ({wording.counts(ratios)}; relative L2 error over single outputs, "
    )
    text += "against the exact result of the weights as the dtype has rounded them)"
    sides = {
        "gains accuracy in": ratios["upper"] < 1,
        "loses it in": ratios["lower"] > 1,
        "is undecided in": ~((ratios["upper"] < 1) | (ratios["lower"] > 1)),
    }
    clauses = [
        f"{verb} {wording.listed(dtypes_in_order(ratios[side]['dtype']))}" for verb, side in sides.items() if side.any()
    ]
    return f"{text}: the merged stack {wording.listed(clauses)}."


def shares(summary: Frame) -> str:
    """The share of the kernel's rounding, on random signs."""
    merged = spoken_of(summary, "share")
    if not len(merged):
        return ""
    text = f"Rounding the merged kernel accounts for {wording.by_dtype(merged, percent)} of the squared error of "
    text += f"`{MERGED}`, the longer sum for the rest"
    return f"{text} (depth {_depth(merged)}, random signs, {wording.counts(merged)})."


def details(summary: Frame) -> Iterator[str]:
    """What merging does to the error of positive numbers."""
    positive = at_depth(
        summary[(summary["quantity"] == "ratio") & (summary["signs"] == "positive") & (summary["way"] == MERGED)]
    )
    if len(positive):
        text = f"On positive numbers, at depth {_depth(positive)}, a kernel merged in float64 multiplies the error by "
        yield f"{text}{wording.by_dtype(positive, wording.median)} ({wording.counts(positive)})."


def percent(row: Any) -> str:
    """A share with its interval, as in "49.7 % [49.2, 50.1]"."""
    text = _cell(row)
    return f"{text.main} {text.detail}".strip()


SECTION = experiment_section(
    "merging",
    "merge-parts",
    "What a merged stack's error is made of",
    frames,
    part,
    headlines={"What merging loses": lambda data, frames: shares(frames["merging_parts"])},
    files={
        "merging_parts": "What a merged stack's error is made of, and how it compares with the stacked one's, over "
        "seeds.",
    },
    columns={
        "part": "total: the error; kernel: what rounding the merged kernel does; sum: what computing with it adds"
    },
)
