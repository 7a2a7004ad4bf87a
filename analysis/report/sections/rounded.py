"""The experiment `rounded`: mistakes of convolutions that compute by rounding, beside those of all that does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.data.frames import Frame, dtypes_in_order
from analysis.data.over_seeds import PLACE, over_seeds
from analysis.data.study_data import Scope
from analysis.precision.rounded import BASELINES, CONTROLS, HINDSIGHT, LINEAR, RELU, THREE, TINY
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.mistakes import in_percent, mistakes_figure, p_value
from analysis.report.section import Content, Frames, plot
from analysis.report.sections.findings import section
from analysis.report.style import BLUE, GREEN, INK, VERMILION
from analysis.report.tables import Table, Text, arranged, slug, table, with_interval
from linear_lasagna.vocabulary import BASELINE

KEYS = [*PLACE, "dtype", "way"]
SAID: Mapping[str, str] = {
    BASELINE: "the stack, as it is",
    "float32": "same numbers, float32",
    "float64": "same numbers, float64",
    "merged": "merged into one kernel",
    "merged_float64": "merged, in float64",
    "exact": "exact result",
    LINEAR: "best linear classifier",
    HINDSIGHT: "linear, by test images",
    RELU: "with ReLU, float32",
}
COLOURS = {BASELINE: VERMILION, **dict.fromkeys(CONTROLS, BLUE), LINEAR: INK, HINDSIGHT: INK, RELU: GREEN}
SIGNIFICANT = 0.05


def mistakes(rows: Frame) -> Frame:
    """Per dtype and way the median share of wrong images; changed, rounded: their medians; gained, lost: over all
    seeds; largest_p; significant: seeds in which the stack is better than this by McNemar's test.
    """
    own = rows[rows["status"] == "ok"]
    better = (own["p_value"] < SIGNIFICANT) & (own["gained"] > own["lost"])
    counts = own.assign(significant=better).groupby(KEYS, sort=True)
    more = counts.agg(
        changed=("changed", "median"),
        rounded=("rounded", "median"),
        gained=("gained", "sum"),
        lost=("lost", "sum"),
        largest_p=("p_value", "max"),
        significant=("significant", "sum"),
    )
    return over_seeds(own, KEYS, "wrong").merge(more.reset_index(), on=KEYS)


def mistakes_table(name: str, found: Frame) -> Table:
    """The stack, what it is compared with, and the tests."""
    places = {way: place for place, way in enumerate(SAID)}
    shown = found[found["way"].isin(SAID)]
    shown = shown.assign(_place=shown["way"].map(places)).sort_values(["dtype", "_place"], ascending=[False, True])
    columns: dict[str, Any] = {
        "dtype": lambda row: row.dtype,
        "model": lambda row: SAID[row.way],
        "wrong (%)": lambda row: with_interval(in_percent(row)),
        "gained / lost": lambda row: "" if row.way == BASELINE else f"{int(row.gained)} / {int(row.lost)}",
        "better, p < 5 %": lambda row: "" if row.way == BASELINE else f"{int(row.significant)} of {row.seeds}",
        "largest p": lambda row: "" if row.way == BASELINE else p_value(row.largest_p),
    }
    caption = f"Test images classified wrongly, {wording.medians(found)}. Gained / lost: images, over all "
    caption += "seeds, that the stack as it is classifies rightly and this does not, and the reverse; better: in how "
    caption += "many seeds it is so by McNemar’s exact test of the same images, with the largest p-value of any seed. "
    caption += "Best linear classifier: of those fitted to the training images."
    return table(name, caption, shown.drop(columns="_place"), columns, "rounded", (0, 1))


def methods_table(name: str, found: Frame) -> Table:
    """The same stack by every method."""
    shown = arranged(found[~found["way"].isin([*CONTROLS, *BASELINES])], ["dtype", "way"])
    columns: dict[str, Any] = {
        "dtype": lambda row: row.dtype,
        "method": lambda row: row.way,
        "wrong (%)": lambda row: with_interval(in_percent(row)),
        "predictions changed": lambda row: Text(show.percent(row.changed), kind="" if row.changed else "zero"),
        "rounded to the integer": lambda row: _share(row.rounded),
    }
    caption = f"The stack as it is, by every method: mistakes, {wording.medians(found)}; the share of "
    caption += "predictions, in the median over seeds, that are not `direct`’s; and the share of stored outputs that "
    caption += "are the exact sum rounded to an integer. Layers that a method cannot compute are computed by `direct`."
    return table(name, caption.replace("`", ""), shown, columns, "rounded", (0, 1))


def _share(value: float) -> str:
    """Never 100 % of what is not all."""
    return "> 99.9 %" if 0.999 < value < 1 else f"{100 * value:.1f} %" if value < 1 else "100 %"


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    found = frames["rounded"]
    if not len(found):
        return None
    name = slug("rounded-mistakes", scope.machine, scope.device)
    caption = (
        f"Test images that are classified wrongly ({scope.label}): three convolutions with bias and nothing else, of "
    )
    caption += f"{_channels(rows)} channels, "
    caption += "whose stored outputs are rounded to integers, and what else is made of the same numbers or data. "
    seeds = wording.seeds(found)
    caption += f"Faint marks: seeds; dot and line: {wording.medians(found)}; n = {seeds}."
    dtypes = {dtype: dtype for dtype in dtypes_in_order(found["dtype"])}
    figure = mistakes_figure(found, rows, "dtype", dtypes, SAID, COLOURS)
    drawn = plot(f"fig-{name}", caption, f"Marks on lines, a line per model. {answer(found)}", "rounded", figure)
    tables = (mistakes_table(f"{name}-models", found), methods_table(f"{name}-methods", found))
    return Content((drawn,), tables, answer(found))


def _channels(rows: Frame) -> str:
    """As in "32, 32 and 2"."""
    net = TINY if TINY.name in set(rows["problem"]) else THREE
    return wording.listed([str(each) for each in net.channels[1:]])


def answer(found: Frame) -> str:
    """What is wrong of the stack, of its merged kernel, and of other models, a sentence per dtype."""
    dtypes = dtypes_in_order(found[found["way"] == BASELINE]["dtype"])
    return " ".join(_told(dtype, found[found["dtype"] == dtype]) for dtype in dtypes)


def _told(dtype: str, found: Frame) -> str:
    """As in "In float16 the stack classifies 2.4 % of the images wrongly; merged into one kernel 16 %."."""
    wrong = {row.way: f"{show.significant(100 * row.median, 2)} %" for row in found.itertuples(index=False)}
    others = [f"{SAID[way]} {wrong[way]}" for way in ("merged", LINEAR, RELU) if way in wrong]
    return "; ".join([f"In {dtype} the stack classifies {wrong[BASELINE]} of the images wrongly", *others]) + "."


SECTION = section(
    "rounded",
    "Rounding as the only non-linearity",
    frames=lambda rows: {"rounded": mistakes(rows)},
    part=part,
    files={"rounded": "Shares of images classified wrongly, by dtype and model or method, over seeds, and tests."},
    columns={
        "wrong": "share of the test images that are classified wrongly",
        "linear_wrong": "that of the best linear classifier",
        "changed": "share of the test images whose predicted class is not that of what they are compared with",
        "gained": "images that the stack, as it is, classifies rightly and what it is compared with wrongly",
        "lost": "the reverse of gained",
        "p_value": "McNemar’s exact test of gained against lost, two-sided",
        "largest_p": "the largest of the seeds’ p-values of McNemar’s exact test, two-sided",
        "significant": "seeds in which the stack is better with a p-value below 5 %",
        "rounded": "of a method, the share of stored outputs that are the exact sum, rounded to an integer",
        "flush_denormal": "whether subnormal numbers were flushed to zero",
        "onednn": "whether oneDNN was in use",
    },
)
