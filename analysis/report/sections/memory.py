"""Peak memory of every way, against the baseline's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.data.frames import Frame, ways_in_order
from analysis.data.study_data import Scope, StudyData
from analysis.report import formatting as show
from analysis.report.drawing import facets, log_range, log_ticks, styled
from analysis.report.section import Content, Frames, Section, per_scope, plot
from analysis.report.style import INK, look
from analysis.report.tables import slug

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    rows = data.costs[~data.costs["baseline"] & (data.costs["peak_ratio"] > 0)]
    if not len(rows):
        return None
    caption = f"Memory of one call as a multiple of the baseline's, {scope.label}; one mark per trial, n = "
    caption += f"{show.plural(len(rows), 'cell')}. Memory is what torch and NumPy allocated at once during the call, "
    caption += "its result included; scratch space that a library takes from the operating system is not seen."
    most = rows.loc[rows["peak_ratio"].idxmax()]
    alt = f"Dots on a logarithmic axis, one row per way. The most memory is {show.times(most['peak_ratio'])} the "
    alt += f"baseline's, by {most['way']} on {most['problem']}."
    return Content((plot(slug("fig-memory", scope.machine, scope.device), caption, alt, "costs", figure(rows)),))


@styled
def figure(frame: Frame) -> Figure:
    """Memory of one call / the baseline's, one mark per trial, one panel per group. frame: `speedups.costs`."""
    import seaborn

    groups, ways = sorted(set(frame["group"])), ways_in_order(frame["way"])
    height = 0.24 * max([len(set(frame.loc[frame["group"] == g, "way"])) for g in groups] or [1]) + 0.8
    figure, panels = facets(groups, height, columns=min(3, max(1, len(groups))))
    for panel, group in zip(panels, groups, strict=True):
        of_group = frame[frame["group"] == group]
        order = [way for way in ways if way in set(of_group["way"])]
        panel.set_xscale("log", base=2)
        colours = {way: look(way)[0] for way in order}
        seaborn.stripplot(
            of_group,
            x="peak_ratio",
            y="way",
            order=order,
            hue="way",
            palette=colours,
            jitter=0,
            alpha=0.7,
            size=5,
            ax=panel,
        )
        limits = log_range(of_group["peak_ratio"])
        panel.set_xlim(limits)
        log_ticks(panel.xaxis, *limits)
        panel.grid(axis="x")
        panel.axvline(1, color=INK, linewidth=0.9)
        panel.set(xlabel="memory / baseline's memory", ylabel="")
    return figure


SECTION = Section(
    "memory",
    "Memory",
    per_scope(part),
    intro="Medians and largest values per way stand in the tables of the section before.",
    empty="No memory was measured.",
)
