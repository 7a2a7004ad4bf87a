"""The experiment `evolved`: mistakes of linear layers that evolved where subnormal numbers are flushed, and others."""

from __future__ import annotations

from typing import Any

from analysis.data.frames import Frame
from analysis.data.over_seeds import PLACE, over_seeds
from analysis.data.study_data import Scope
from analysis.precision.evolved import CONTROL, CONVOLUTIONS, DENSE, FLUSHED, KEPT, LINEAR, TINY, WIDE
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.mistakes import in_percent, mistakes_figure, p_value
from analysis.report.section import Content, Frames, plot
from analysis.report.sections.findings import section
from analysis.report.style import BLUE, GREEN, INK, VERMILION
from analysis.report.tables import Table, slug, table, with_interval

KEYS = [*PLACE, "problem", "way"]
SAID = {
    FLUSHED: "evolved with flushing",
    KEPT: "same numbers, unflushed",
    WIDE: "same numbers, float64",
    CONTROL: "evolved without flushing",
    LINEAR: "best linear classifier",
}
COLOURS = {FLUSHED: VERMILION, KEPT: BLUE, WIDE: BLUE, CONTROL: GREEN, LINEAR: INK}
NETS = {DENSE.name: "64-32-2, dense", CONVOLUTIONS.name: "two convolutions", TINY.name: "tiny, hardly evolved"}
SIGNIFICANT = 0.05


def mistakes(rows: Frame) -> Frame:
    """Per problem and way the median share of wrong test images; train_wrong, zeroed: their medians; gained, lost: over
    all seeds; significant: seeds in which `flushed` is better than this by McNemar's test.
    """
    own = rows[rows["status"] == "ok"]
    better = (own["p_value"] < SIGNIFICANT) & (own["gained"] > own["lost"])
    more = own.assign(significant=better).groupby(KEYS, sort=True)
    found = more.agg(
        train_wrong=("train_wrong", "median"),
        zeroed=("zeroed", "median"),
        gained=("gained", "sum"),
        lost=("lost", "sum"),
        least_p=("p_value", "min"),
        significant=("significant", "sum"),
    )
    return over_seeds(own, KEYS, "wrong").merge(found.reset_index(), on=KEYS)


def nets(found: Frame) -> list[str]:
    """The problems that there are, in order."""
    return [name for name in NETS if name in set(found["problem"])]


def mistakes_table(name: str, found: Frame) -> Table:
    """The networks, what they are compared with, and the tests."""
    places = {way: place for place, way in enumerate(SAID)}
    order = found.assign(_net=found["problem"].map(list(NETS).index), _place=found["way"].map(places))
    shown = order.sort_values(["_net", "_place"]).drop(columns=["_net", "_place"])
    columns: dict[str, Any] = {
        "network": lambda row: NETS[row.problem],
        "model": lambda row: SAID[row.way],
        "wrong (%)": lambda row: with_interval(in_percent(row)),
        "of those it saw (%)": lambda row: "" if row.way == LINEAR else show.significant(100 * row.train_wrong),
        "zero between layers": lambda row: "" if row.way == LINEAR else show.percent(row.zeroed),
        "gained / lost": lambda row: "" if row.way == FLUSHED else f"{int(row.gained)} / {int(row.lost)}",
        "better, p < 5 %": lambda row: "" if row.way == FLUSHED else f"{row.significant} of {row.seeds}",
        "least p": lambda row: "" if row.way == FLUSHED else p_value(row.least_p),
    }
    caption = f"Test images classified wrongly, {wording.medians(found)}; of the images it evolved on; and the "
    caption += (
        "share of the first layer’s outputs that are zero when the second reads them. Gained / lost: test images, "
    )
    caption += "over all seeds, that the network that evolved flushing classifies rightly and this does not, and the "
    caption += "reverse; better: in how many seeds it is so by McNemar’s exact test of the same images, with the least "
    caption += "p-value of any seed."
    return table(name, caption, shown, columns, "evolved", (0, 1))


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    found = frames["evolved"]
    if not len(found):
        return None
    name = slug("evolved-mistakes", scope.machine, scope.device)
    caption = f"Test images that are classified wrongly ({scope.label}): two linear layers that evolved where the "
    caption += "processor takes subnormal numbers for zero; the same numbers where it does not, and in float64; layers "
    caption += "that evolved where it does not; and a linear classifier. Faint marks: seeds; dot and line: "
    caption += f"{wording.medians(found)}; n = {wording.seeds(found)}."
    alt = f"Marks on lines, a line per model. {answer(found)}"
    titles = {net: NETS[net] for net in nets(found)}
    figure = mistakes_figure(found, rows, "problem", titles, SAID, COLOURS)
    drawn = plot(f"fig-{name}", caption, alt, "evolved", figure)
    return Content((drawn,), (mistakes_table(f"{name}-models", found),), answer(found))


def answer(found: Frame) -> str:
    """What is wrong of each, per network."""
    texts = []
    for name in nets(found):
        own = found[found["problem"] == name].set_index("way")["median"]
        shares = [f"{SAID[way]} {show.significant(100 * own[way])}" for way in SAID if way in own]
        texts.append(f"{NETS[name]}: {', '.join(shares)}")
    return f"Wrong, in per cent: {'; '.join(texts)}."


SECTION = section(
    "evolved",
    "Underflow that evolution finds",
    frames=lambda rows: {"evolved": mistakes(rows)},
    part=part,
    files={"evolved": "Shares of images classified wrongly, by network and model, over seeds, and tests."},
    columns={
        "train_wrong": "share of the images that it evolved on that are classified wrongly",
        "zeroed": "share of the first layer’s outputs that are zero when the second layer reads them",
        "least_p": "the least of the seeds’ p-values of McNemar’s exact test, two-sided",
    },
)
