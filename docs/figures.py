"""Draws the figures of the pages here: `PYTHONPATH=. python docs/figures.py study/precision.sqlite [STORE …]`.

Those of experiments are the report's, of all rows of the stores; what they hold nothing of is left as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import pandas

from analysis.data.records import Records
from analysis.data.store import read
from analysis.precision.digits.construction import OFFSETS
from analysis.report import page, svg
from analysis.report.drawing import Drawing, facets, key, styled
from analysis.report.style import BLUE, INK, VERMILION

FOLDER = Path(__file__).parent / "figures"
SECTIONS = ("rounded", "coarse", "defects", "accidents", "evolved")  # those that the pages show, where they are known
WHITE = '<rect width="100%" height="100%" fill="#ffffff"/>'


@styled
def staircase() -> Drawing:
    """What is stored of x + offset, offset taken back, by torch itself; and what takes its place in training."""
    import torch

    drawing, (values, slopes) = facets(["float16 stores x + 1536", "the derivative used in training"], 190.0)
    x = numpy.linspace(-2.6, 2.6, 1041)
    (dtype, offset) = next(iter(OFFSETS.items()))
    stored = (torch.from_numpy(x).float() + offset).to(dtype).double().numpy() - offset
    values.plot(x, x, color=BLUE, linewidth=1, label="x")
    values.plot(
        x, x - numpy.sin(2 * numpy.pi * x) / (2 * numpy.pi), color=INK, alpha=0.6, linestyle=":", label="smooth"
    )
    values.plot(x, stored, color=VERMILION, linewidth=1.6, label="stored − 1536")
    values.set(xlabel="x: what a layer sums up", ylabel="what the next layer sees of it")
    drawing.handles += [key("x", BLUE, line="-"), key("stored − 1536", VERMILION, line="-")]
    drawing.handles.append(key("smooth, for training", line=":"))
    slopes.plot(x, 1 - numpy.cos(2 * numpy.pi * x), color=INK, alpha=0.6, linestyle=":")
    slopes.set(xlabel="x", ylabel="1 − cos 2πx")
    for panel in (values, slopes):
        panel.grid(axis="both")
    return drawing


def of_experiments(stores: list[str]) -> dict[str, str]:
    """File name to drawing: every figure of the experiments' sections but those of claims."""
    rows = pandas.concat([read(store) for store in stores], ignore_index=True)
    drawn = {}
    for shown in page.contents(*page.derive(Records(), rows)):
        plots = [plot for plot in shown.plots if not plot.data.endswith("_claims")] if shown.anchor in SECTIONS else []
        for number, plot in enumerate(plots, 1):
            drawn[f"{shown.anchor}-{number}" if number > 1 else shown.anchor] = plot.standalone
    return drawn


def write(name: str, text: str) -> None:
    """On white, for pages that are shown in the dark, too."""
    end = text.index(">", text.index("<svg")) + 1
    path = FOLDER / f"{name}.svg"
    path.write_text(text[:end] + WHITE + text[end:], encoding="utf-8")
    print(path)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    drawn = svg.raw(staircase(), "staircase")
    for name, text in {"staircase": svg.standalone(drawn), **of_experiments(sys.argv[1:])}.items():
        write(name, text)
