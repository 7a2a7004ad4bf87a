"""The experiment `switches`: what TF32 and 16-bit reductions cost, where a device has them."""

from __future__ import annotations

from analysis.data.frames import Frame, dtypes_in_order, usable, ways_in_order
from analysis.data.over_seeds import SERIES, over_seeds
from analysis.data.study_data import Scope
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import (
    ROW,
    Drawing,
    between,
    ends,
    facets,
    key,
    legend,
    log_range,
    log_ticks,
    marks,
    rows_named,
    styled,
    told,
)
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import INK, look
from analysis.report.tables import Table, slug, wide_table, with_interval
from linear_lasagna.vocabulary import BASELINE

OFF, ON = "off", "on"
KEYS = [*SERIES, "problem", "depth", "fan_in", "way"]


def frames(rows: Frame) -> Frames:
    return {"switches": ratios(rows)}


def ratios(rows: Frame) -> Frame:
    """Error with the dtype's switches on / off, over seeds, per series, problem and way."""
    keys = [*KEYS, "seed"]
    known = usable(rows)
    known = known[known["error_u"] > 0]
    off = known[known["switches"] == OFF][[*keys, "error_u"]].rename(columns={"error_u": "partner"})
    both = known[known["switches"] == ON].merge(off, on=keys)
    return over_seeds(both.assign(ratio=both["error_u"] / both["partner"]), KEYS, "ratio")


@styled
def figure(ratios: Frame) -> Drawing:
    """The ratios with their intervals, one panel per dtype, a row per way, its signs apart. ratios: `ratios`."""
    ratios = choosing.shown(ratios)
    dtypes, ways, limits = dtypes_in_order(ratios["dtype"]), ways_in_order(ratios["way"]), log_range(ends(ratios))
    drawing, panels = facets(dtypes, 1.6 * ROW * len(ways))
    for panel, dtype in zip(panels, dtypes, strict=True):
        for row in ratios[ratios["dtype"] == dtype].to_dict("records"):
            y = ways.index(row["way"]) + (0.15 if row["signs"] == "positive" else -0.15)
            between(panel, [y], [row["lower"]], [row["upper"]], look(row["way"])[0])
            title = told(f"{row['way']}, {dtype}", wording.signs(row["signs"]), row)
            marks(panel, [row["median"]], [y], [title], row["way"], row["signs"] == "random")
        rows_named(panel, ways)
        panel.axvline(1, color=INK, linewidth=0.9, zorder=1)
        panel.set_xscale("log", base=2)
        panel.set_xlim(limits)
        log_ticks(panel.xaxis, *limits)
        panel.set_xlabel("error on / off")
    legend(drawing, ways, [key("random signs", marker="o"), key("positive numbers", marker="o", filled=False)])
    return drawing


def ratio_table(name: str, ratios: Frame) -> Table:
    """ratios: `ratios` of one place."""
    caption = (
        "Error with the dtype's switches on / off on the same seed: TF32 in cuDNN and matrix products for float32, "
    )
    caption += f"reduced-precision reductions for 16 bits. Median over {wording.seeds(ratios)}. {wording.TABLE}"
    labels = {"fan_in": "fan-in", "signs": "signs", "way": "way"}
    return wide_table(name, caption, ratios, labels, "dtype", with_interval, "switches")


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    ratio = frames["switches"]
    if not len(ratio):
        skipped = rows[rows["status"] == "skipped"]
        return Content((), (), f"Skipped: {skipped.iloc[0]['reason']}.") if len(skipped) else None
    caption = f"Error with the dtype's switches on / off on the same seed ({scope.label}), logarithmic. "
    caption += f"{wording.band(ratio, 'Line')} Filled: random signs; open: positive numbers.{choosing.others(ratio)}"
    drawn = choosing.shown(ratio)
    largest = drawn.loc[drawn["median"].idxmax()]
    alt = "Marks with intervals, one panel per dtype. The largest median ratio is "
    alt += f"{show.significant(largest['median'])}, of {largest['way']} in {largest['dtype']}."
    name = slug("switches", scope.machine, scope.device)
    figures = (plot(f"fig-{name}", caption, alt, "switches", figure(ratio)),)
    return Content(figures, (ratio_table(name, ratio),), answer(ratio))


def answer(ratios: Frame) -> str:
    """What the switches cost the baseline on random signs."""
    baseline = ratios[(ratios["way"] == BASELINE) & (ratios["signs"] == "random")]
    baseline = baseline[baseline["fan_in"] == baseline["fan_in"].min()]
    if not len(baseline):
        return ""
    text = f"Switched on, they multiply the error of `{BASELINE}` on random signs by "
    return f"{text}{wording.by_dtype(baseline, wording.median)} ({wording.counts(baseline)})."


SECTION = experiment_section(
    "switches",
    "switches",
    "TF32 and reduced-precision reductions",
    frames,
    part,
    files={"switches": "Errors with TF32 or 16-bit reductions on / off on the same seed, over seeds."},
    columns={"switches": "whether the dtype's switches (TF32, or 16-bit reductions) are on or off"},
)
