"""Peak memory of every way, against the baseline's; and beyond input and output, beside what its algorithm needs."""

from __future__ import annotations

import math
from typing import Any

from analysis.data.footprints import footprints
from analysis.data.frames import Frame, ordered, ways_in_order
from analysis.data.study_data import Scope, StudyData
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import ROW, Drawing, facets, legend, log_range, log_ticks, marks, rows_named, styled
from analysis.report.section import Content, Frames, Plot, Section, per_scope, plot
from analysis.report.style import INK
from analysis.report.tables import Table, Text, slug, table

MB = 1e6


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    rows = data.costs[~data.costs["baseline"] & (data.costs["peak_ratio"] > 0)]
    beyond = frames["footprints"]
    tables = (footprint_table(scope, beyond),) if len(beyond) else ()
    return Content((_plot(scope, rows),) if len(rows) else (), tables) if len(rows) or tables else None


def _plot(scope: Scope, rows: Frame) -> Plot:
    dtype = wording.main_dtypes(rows["dtype"])[0]
    rows = rows[rows["dtype"] == dtype]
    drawn = choosing.shown(rows)
    caption = f"Memory of one call as a multiple of the baseline's, {dtype}, {scope.label}; one mark per trial, n = "
    caption += f"{show.plural(len(drawn), 'cell')}. Memory is what torch and NumPy allocated at once during the call, "
    caption += "its result included; scratch space that a library takes from the operating system is not seen. Right, "
    caption += f"less memory, is better.{choosing.others(rows, 'The CSV has')}"
    most = drawn.loc[drawn["peak_ratio"].idxmax()]
    alt = f"Dots on a logarithmic axis, one row per way. The most memory is {show.times(most['peak_ratio'])} the "
    alt += f"baseline's, by {most['way']} on {most['problem']}."
    return plot(slug("fig-memory", scope.machine, scope.device), caption, alt, "costs", figure(rows))


def footprint_table(scope: Scope, rows: Frame) -> Table:
    """Per dtype and way the problem on which it takes most beyond input, kernels and output, beside the formula."""
    grouped = rows.groupby(["dtype", "way"], sort=False)
    most = rows.loc[grouped["beyond_bytes"].idxmax()].set_index(["dtype", "way"])
    known = rows[(rows["buffer_bytes"] > 0) & ~rows["below_floor"].astype(bool)]
    times = (known["beyond_bytes"] / known["buffer_bytes"]).groupby([known["dtype"], known["way"]]).median()
    shown = most.assign(cells=grouped.size(), below=grouped["below_floor"].sum(), times=times).reset_index()
    columns = {
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way,
        "cells": lambda row: str(row.cells),
        "most": _megabytes,
        "there by formula": lambda row: show.DASH if math.isnan(row.buffer_bytes) else _mb(row.buffer_bytes),
        "on": lambda row: row.problem,
        "measured / formula": lambda row: show.DASH if math.isnan(row.times) else show.significant(row.times),
        "below the floor": lambda row: str(int(row.below)),
    }
    caption = (
        f"Memory beyond input, kernels and output, {scope.label}: the most of all problems, and the median of what "
    )
    caption += "was measured over the formula. Formula: the buffers of the algorithm, as im2col’s, which are the input "
    caption += "times the kernel’s area; a dash where nobody has counted them. “<”: below what a call shows that needs "
    caption += f"none. Measured is {_kinds(rows)}; kernels that a way transforms and keeps, as fft does, count."
    shown, name = ordered(shown.drop(columns="group")), slug("footprints", scope.machine, scope.device)
    return table(name, caption, shown, columns, "footprints", (0, 1, 5))


def _kinds(rows: Frame) -> str:
    told = {
        "resident": "by how much a fresh process grew during its first call, whoever took the memory",
        "allocator": "the peak of torch’s allocator",
    }
    return " or ".join(told[kind] for kind in sorted(set(rows["measured"])))


def _megabytes(row: Any) -> Text:
    return Text(f"< {_mb(row.floor_bytes)}" if row.below_floor else _mb(row.beyond_bytes))


def _mb(size: float) -> str:
    return f"{show.significant(size / MB, 2)} MB"


@styled
def figure(frame: Frame) -> Drawing:
    """Memory of one call / the baseline's, one mark per trial, one panel per group. frame: `speedups.costs`."""
    frame = choosing.shown(frame)
    groups, limits = sorted(set(frame["group"])), log_range(frame["peak_ratio"])
    ways = {group: ways_in_order(frame.loc[frame["group"] == group, "way"]) for group in groups}
    drawing, panels = facets(groups, [1.4 * ROW * len(ways[group]) for group in groups])
    for panel, group in zip(panels, groups, strict=True):
        for place, way in enumerate(ways[group]):
            rows = frame[(frame["group"] == group) & (frame["way"] == way)]
            marks(panel, rows["peak_ratio"], [place] * len(rows), map(_said, rows.to_dict("records")), way)
        rows_named(panel, ways[group])
        panel.set_xscale("log", base=2)
        panel.set_xlim(limits[1], limits[0])
        log_ticks(panel.xaxis, *limits)
        panel.grid(axis="x")
        panel.axvline(1, color=INK, linewidth=0.9, zorder=1)
        panel.set_xlabel("more  ←  memory / baseline's  →  less")
    legend(drawing, ways_in_order(frame["way"]))
    return drawing


def _said(row: Any) -> str:
    place = f"{row['problem']}, {row['dtype']}, {row['way']}"
    return f"{place}: {show.times(row['peak_ratio'])} the baseline’s memory, {_mb(row['peak_bytes'])}"


SECTION = Section(
    "memory",
    "Memory",
    per_scope(part),
    frames=lambda data: {"footprints": footprints(data.judged)},
    intro="Medians and largest values per way stand in the tables of “Accuracy against speed”.",
    empty="No memory was measured.",
    files={"footprints": "One row per cell but the controls: memory beyond input, kernels and output."},
    columns={
        "measured": "resident: by how much a fresh process grew during its first call, pages of files not counted; "
        "allocator: the peak of torch’s, on accelerators",
        "beyond_bytes": "bytes beyond input, kernels and output",
        "floor_bytes": "the most that was told wrongly of two calls, one that needs none and one that needs 8 MiB; "
        "empty for the allocator",
        "below_floor": "whether beyond_bytes is no more than that",
        "buffer_bytes": "bytes that the algorithm’s buffers need; empty where nobody has counted them",
    },
)
