"""What sections about classifiers share: images that are classified wrongly, drawn and in per cent; p-values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.data.frames import Frame
from analysis.report import formatting as show
from analysis.report.drawing import ROW, Drawing, between, facets, marks, rows_named, styled


@styled
def mistakes_figure(
    found: Frame, rows: Frame, column: str, titles: Mapping[str, str], models: Mapping[str, str], colours: Mapping
) -> Drawing:
    """A line per model, a panel per value of a column: the median with its interval, and every seed as a faint mark.

    titles: of the panels, by value; models, colours: by way.
    """
    ways = [way for way in models if way in set(found["way"])]
    drawing, panels = facets(list(titles.values()), 1.6 * ROW * len(ways), sharex=True)
    for panel, value in zip(panels, titles, strict=True):
        for place, way in enumerate(ways):
            seeds = rows[(rows[column] == value) & (rows["way"] == way)]["wrong"]
            panel.vlines(100 * seeds, place - 0.28, place + 0.28, colors=colours[way], alpha=0.4, linewidth=0.8)
            for row in map(in_percent, found[(found[column] == value) & (found["way"] == way)].itertuples(index=False)):
                between(panel, [place], [row.lower], [row.upper], colours[way])
                said = f"{models[way]}, {titles[value]}: {show.with_interval(row.median, row.lower, row.upper)} % wrong"
                marks(panel, [row.median], [place], [said], (colours[way], "o"))
        rows_named(panel, [models[way] for way in ways])
        panel.grid(axis="x")
        panel.set_xlabel("test images classified wrongly (%)")
    panels[0].set_xlim(left=0)  # of all, when all is drawn: else the first one's data say where all end
    return drawing


def in_percent(row: Any) -> Any:
    """A row with its median and interval times 100."""
    return row._replace(median=100 * row.median, lower=100 * row.lower, upper=100 * row.upper)


def p_value(p: float) -> str:
    """As in "0.03" and "4e-12"."""
    return f"{p:.0e}".replace("e-0", "e-") if p < 0.001 else show.significant(p, 2)
