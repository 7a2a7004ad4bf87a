"""What sections about classifiers share: images that are classified wrongly, drawn and in per cent; p-values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame
from analysis.report import formatting as show
from analysis.report.drawing import facets, styled
from analysis.report.style import FAINT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def mistakes_figure(
    found: Frame, rows: Frame, column: str, titles: Mapping[str, str], models: Mapping[str, str], colours: Mapping
) -> Figure:
    """A line per model, a panel per value of a column: the median with its interval, and every seed as a faint mark.

    titles: of the panels, by value; models, colours: by way.
    """
    ways = [way for way in models if way in set(found["way"])]
    drawing, panels = facets(list(titles.values()), 0.33 * len(ways) + 0.6, sharex=True, sharey=True)
    for panel, value in zip(panels, titles, strict=True):
        for place, way in enumerate(ways):
            colour = colours[way]
            seeds = rows[(rows[column] == value) & (rows["way"] == way)]["wrong"]
            panel.plot(100 * seeds, [place] * len(seeds), "|", color=colour, alpha=0.35, markersize=9)
            for row in found[(found[column] == value) & (found["way"] == way)].itertuples(index=False):
                panel.plot([100 * row.lower, 100 * row.upper], [place, place], color=colour, linewidth=2)
                panel.plot([100 * row.median], [place], "o", color=colour, markersize=6)
        panel.set_yticks(range(len(ways)), [models[way] for way in ways])
        panel.grid(axis="x", color=FAINT, alpha=0.2)
        panel.set_xlabel("test images classified wrongly (%)")
    panels[0].set_xlim(left=0)  # of all, when all is drawn: else the first one's data say where all end
    panels[0].invert_yaxis()
    return drawing


def in_percent(row: Any) -> Any:
    """A row with its median and interval times 100."""
    return row._replace(median=100 * row.median, lower=100 * row.lower, upper=100 * row.upper)


def p_value(p: float) -> str:
    """As in "0.03" and "4e-12"."""
    return f"{p:.0e}".replace("e-0", "e-") if p < 0.001 else show.significant(p, 2)
