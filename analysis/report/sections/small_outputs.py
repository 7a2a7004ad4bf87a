"""The experiment `small_outputs`: what transforms lose beside a bright spot, output by output and on the whole."""

from __future__ import annotations

from typing import Any

from analysis.data.frames import Frame, dtypes_in_order, usable, ways_in_order
from analysis.data.over_seeds import PLACE, over_seeds
from analysis.data.study_data import Scope
from analysis.precision.families import INPUTS as FAMILIES
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
    styled,
)
from analysis.report.section import Content, Frames, Plot, plot
from analysis.report.sections.findings import section
from analysis.report.style import looks
from analysis.report.tables import Table, slug, wide_table, with_interval

MEASURES = {
    "error_u": "relative L2 error",
    "relative_q50_u": "median output’s error",
    "relative_q99_u": "99 % quantile",
    "scale_u": "too large on the whole",
}
DRAWN = ("error_u", "relative_q50_u")
INPUTS = {"normal": "white noise", "spot": "bright spot"}
DEPTH = 4  # the depth that the table is of, where it was measured; else the largest


def sizes(rows: Frame) -> Frame:
    """The median of every measure, in u, with its interval, per place, dtype, family of inputs, depth and way."""
    keys = [*PLACE, "dtype", "signs", "inputs", "depth", "way"]
    measured = [name for name in MEASURES if name in rows]
    long = usable(rows).melt([*keys, "seed"], measured, "measure").dropna(subset="value")
    return over_seeds(long.astype({"value": float}), [*keys, "measure"], "value")


def main(found: Frame) -> Frame:
    """Of one dtype: float32, or else the narrowest."""
    dtypes = dtypes_in_order(found["dtype"])
    return found[found["dtype"] == ("float32" if "float32" in dtypes else dtypes[0])]


@styled
def figure(found: Frame) -> Drawing:
    """Errors against depth, both logarithmic: on the whole and of the median output, a column per family of inputs."""
    found = choosing.shown(found)
    families = [name for name in INPUTS if name in set(found["inputs"])] or sorted(set(found["inputs"]))
    panels_of = [(measure, inputs) for measure in DRAWN for inputs in families]
    names = [f"{MEASURES[measure]}, {INPUTS.get(inputs, inputs)}" for measure, inputs in panels_of]
    drawing, panels = facets([name[0].upper() + name[1:] for name in names])
    drawn = found[found["inputs"].isin(families) & found["measure"].isin(DRAWN)]
    limits, known = log_range(ends(drawn)), looks(drawn["way"])
    for panel, (measure, inputs) in zip(panels, panels_of, strict=True):
        own = drawn[(drawn["measure"] == measure) & (drawn["inputs"] == inputs)]
        lines(panel, own, "depth", known, "u")
        measured_ticks(panel, drawn["depth"])
        panel.set_yscale("log")
        panel.set_ylim(limits)
        decimal_ticks(panel.yaxis)
        panel.set(xlabel="depth (layers)", ylabel="error (u)")
    legend(drawing, ways_in_order(drawn["way"]), known=known)
    return drawing


def measure_table(name: str, found: Frame) -> Table:
    """Families of inputs and methods by measures, at one depth. found: `sizes` of one place."""
    depth = DEPTH if DEPTH in set(found["depth"]) else int(found["depth"].max())
    rows = found[found["depth"] == depth]
    caption = f"Errors at depth {depth}, in units of the dtype’s u: relative L2; of single outputs, each relative to "
    caption += "itself, the median and the 99 % quantile over outputs; and by how much of itself the whole result is "
    caption += f"too large. Median over {wording.seeds(rows)}. {wording.TABLE}"
    labels = {"dtype": "dtype", "inputs": "inputs", "way": "method"}
    places = {name: place for names in (MEASURES, FAMILIES) for place, name in enumerate(names)}
    rows = rows.assign(measure=rows["measure"].map(places), _place=rows["inputs"].map(places))
    rows = rows.sort_values("_place", kind="stable")
    heading: Any = lambda place: list(MEASURES.values())[place]  # noqa: E731
    return wide_table(name, caption, rows, labels, "measure", with_interval, "small_outputs", heading)


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    found = frames["small_outputs"]
    if not len(found):
        return None
    name = slug("small-outputs", scope.machine, scope.device)
    return Content((_plot(scope, name, main(found)),), (measure_table(name, found),), scaled(found))


def _plot(scope: Scope, name: str, found: Frame) -> Plot:
    caption = f"Errors against depth, {found['dtype'].iloc[0]} ({scope.label}), both axes logarithmic: relative L2, "
    caption += "and of the median output, relative to itself; without and with a spot that is 10,000 times "
    caption += f"as bright. {wording.band(found)}{choosing.others(found)}"
    lost = choosing.shown(found)
    lost = lost[lost["measure"] == "relative_q50_u"]
    worst = lost.loc[lost["median"].idxmax()]
    alt = "Lines on logarithmic axes, four panels. The largest error of a median output is "
    alt += f"{show.significant(worst['median'])} u, {worst['way']}, {worst['inputs']}, depth {worst['depth']}."
    return plot(f"fig-{name}", caption, alt, "small_outputs", figure(found))


def scaled(found: Frame) -> str:
    """What FFT's results are too large by, at the least and the largest depth, on white noise."""
    own = found[(found["measure"] == "scale_u") & (found["way"] == "fft") & (found["inputs"] == "normal")]
    own = main(own).sort_values("depth") if len(own) else own
    if own["depth"].nunique() < 2:
        return ""
    first, *_, last = own.itertuples(index=False)
    text = f"FFT scales the whole result, in {first.dtype} on white noise, by 1 + e with e = {wording.median(first)} u "
    return f"{text}at depth {first.depth} and {wording.median(last)} u at depth {last.depth}."


SECTION = section(
    "small_outputs",
    "What transforms lose beside large outputs",
    name="small-outputs",
    frames=lambda rows: {"small_outputs": sizes(rows)},
    part=part,
    files={"small_outputs": "Errors of transforms by inputs and depth, over seeds."},
    columns={"measure": "the measure of error: a column of `small_outputs_rows`, in units of u"},
)
