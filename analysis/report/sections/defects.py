"""The experiment `defects`: how non-linear stacks of linear layers are, and borders that no linear model has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, framed, usable
from analysis.data.over_seeds import PLACE, over_seeds
from analysis.data.study_data import Scope
from analysis.precision.defects import DIGITS, GRID, MEASURES, TWINS, XOR
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import Drawing, facets, patch_key, styled
from analysis.report.section import Content, Frames, Plot, plot
from analysis.report.sections.findings import section
from analysis.report.style import BLUE, INK, ORANGE
from analysis.report.tables import Table, Text, slug, table, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEYS = [*PLACE, "dtype", "problem", "way"]
ORDER = ("ordinary", "constructed", "relu")  # networks on images, before those of so many bits
SAID = {
    "constructed": "built to round",
    "ordinary": "ordinary",
    "relu": "with ReLU",
    "by_hand": "by hand",
}
TASKS = {"exclusive_or": "exclusive or", "disk": "a disk"}
BORDERS = ("boundary", "float64_boundary")
RADIUS = 0.6  # of the disk, `by_hand.RADIUS`, which would import torch


def summary(rows: Frame) -> Frame:
    """Per network and measure the median over seeds, in its dtype and (measure float64_…) in float64."""
    own = usable(rows)
    found = []
    for measure in (*MEASURES, *TWINS):
        given = own[own[measure].notna()] if measure in own else own[:0]
        if len(given):
            found.append(over_seeds(given, KEYS, measure).assign(measured=measure))
    if not found:
        return framed([], [*KEYS, "median", "lower", "upper", "seeds", "cells", "measured"])
    import pandas

    return pandas.concat(found, ignore_index=True)


@styled
def borders(rows: Frame) -> Drawing:
    """Classes on the plane: a row of two panels per task, in 16 bits and in float64. rows: one per task."""
    import numpy

    titles = [f"{TASKS[row.problem]}, {dtype}" for row in rows.itertuples() for dtype in (row.dtype, "float64")]
    drawing, panels = facets(titles, 190.0)
    texts = [getattr(row, column) for row in rows.itertuples() for column in BORDERS]
    problems = [row.problem for row in rows.itertuples() for _ in BORDERS]
    for panel, text, problem in zip(panels, texts, problems, strict=True):
        classes = numpy.array(list(text), dtype=float).reshape(GRID, GRID)[::-1]
        panel.contourf(classes, levels=[-0.5, 0.5, 1.5], colors=[BLUE, ORANGE], alpha=0.75)
        _plane(panel, problem)
        panel.set(xlabel="first coordinate", ylabel="second coordinate")
    drawing.handles += [patch_key(f"class {place}", colour) for place, colour in enumerate((BLUE, ORANGE))]
    return drawing


def _plane(panel: Axes, problem: str) -> None:
    """Coordinates, and the border that is asked for. The grid's points are the middles of its cells."""
    from matplotlib.patches import Circle

    least, middle, ends = 0 if problem == XOR.name else -1, (GRID - 1) / 2, [-0.5, GRID - 0.5]
    look: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": ":"}
    if problem == XOR.name:
        panel.plot([middle, middle], ends, **look)
        panel.plot(ends, [middle, middle], **look)
    else:
        panel.add_patch(Circle((middle, middle), RADIUS * GRID / 2, fill=False, **look))
    ticks = [f"{least}".replace("-", "−"), f"{(least + 1) / 2:g}", "1"]
    panel.set(aspect="equal", xlim=ends, ylim=ends)
    panel.set_xticks([ends[0], middle, ends[1]], ticks)
    panel.set_yticks([ends[0], middle, ends[1]], ticks)


def drawn(rows: Frame) -> Frame:
    """Rows that have a border, one per task: the first dtype's."""
    if "boundary" not in rows:
        return rows[:0]
    given = usable(rows)
    texts = given["boundary"].map(lambda text: isinstance(text, str))
    given = given[texts & given["problem"].isin(TASKS)]
    given = given.assign(_place=[list(TASKS).index(name) for name in given["problem"]])
    first = {dtype: place for place, dtype in enumerate(("float16", "bfloat16"))}
    given = given.assign(_dtype=given["dtype"].map(first)).sort_values(["_place", "_dtype"], kind="stable")
    return given.drop_duplicates("problem").drop(columns=["_place", "_dtype"])


def measure_table(name: str, found: Frame) -> Table:
    """A row per network, its measures on its machine, and those in float64 that are worth a column."""
    wide = {(row.problem, row.dtype, row.way, row.measured): row for row in found.itertuples(index=False)}
    rows = found.drop_duplicates(["problem", "dtype", "way"])
    dtypes = dtypes_in_order(rows["dtype"])
    order = [
        (row.problem != DIGITS.name, row.problem, _place(row.way), dtypes.index(row.dtype)) for row in rows.itertuples()
    ]
    rows = rows.assign(_order=order).sort_values("_order", kind="stable").drop(columns="_order")
    columns: dict[str, Any] = {
        "task": lambda row: TASKS.get(row.problem, "digits"),
        "network": lambda row: SAID.get(row.way, f"through {row.way}"),
        "arithmetic": lambda row: "simulated" if row.way not in SAID else row.dtype,
        "wrong (%)": _cell(wide, "wrong", 100),
        "wrong in float64 (%)": _cell(wide, "float64_wrong", 100),
        "additivity": _cell(wide, "additivity"),
        "homogeneity": _cell(wide, "homogeneity"),
        "pieces": _cell(wide, "pieces"),
        "pieces in float64": _cell(wide, "float64_pieces"),
    }
    caption = f"{wording.medians(found).capitalize()}. Additivity, homogeneity: relative L2 size of what an affine map "
    caption += "makes zero, f((x + z) / 2) + f(0) − f(x / 2) − f(z / 2) and f(x) − f(0) − 2 (f(x / 2) − f(0)), on test "
    caption += "images; in float64 those of stacks without ReLU are below 1e-9. Pieces: linear pieces that follow the "
    caption += "difference of the two outputs along a line between two test images, at 2048 samples and within 1 % of "
    caption += f"its range. Digits: convolutions of {wording.listed([str(n) for n in DIGITS.channels[1:]])} channels."
    return table(name, caption, rows, columns, "defects", (0, 1, 2))


def _place(way: str) -> tuple[int, int]:
    return (ORDER.index(way), 0) if way in ORDER else (len(ORDER), int(way.split()[0]) if way.endswith("bits") else 0)


def _cell(wide: dict[Any, Any], measure: str, times: float = 1.0) -> Any:
    def shown(row: Any) -> Text:
        found = wide.get((row.problem, row.dtype, row.way, measure))
        if found is None:
            return Text(show.DASH)
        return with_interval(
            found._replace(**{end: times * getattr(found, end) for end in ("median", "lower", "upper")})
        )

    return shown


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    found = frames["defects"]
    if not len(found):
        return None
    name = slug("defects-measures", scope.machine, scope.device)
    tables = (measure_table(name, found),)
    shown = drawn(rows)
    plots = (_plot(scope, shown, found),) if len(shown) else ()
    return Content(plots, tables, answer(found))


def _plot(scope: Scope, rows: Frame, found: Frame) -> Plot:
    caption = f"Where three 1×1 convolutions, one after the other and nothing else, see which class ({scope.label}): "
    caption += (
        f"exclusive or of two coordinates above ½, by numbers chosen by hand; and a disk of radius {RADIUS:g}, by "
    )
    caption += "training; dotted: the border that is asked for. Beside each the same weights and biases in float64, "
    caption += f"where they are one linear function. {GRID} × {GRID} points of the first seed, which need not be "
    caption += f"typical: the table has the medians, n = {wording.seeds(found)}."
    alt = "Panels of two colours. " + " ".join(
        f"{TASKS[row.problem]}: {show.percent(row.wrong)} of the points wrong in {row.dtype}, "
        f"{show.percent(row.float64_wrong)} in float64."
        for row in rows.itertuples()
    )
    return plot(slug("fig-borders", scope.machine, scope.device), caption, alt, "defects_rows", borders(rows))


def answer(found: Frame) -> str:
    """How far from linear, and what by-hand numbers do."""
    parts = []
    images = found[(found["problem"] == DIGITS.name) & (found["measured"] == "additivity")]
    for way in ("ordinary", "constructed"):
        own = images[images["way"] == way]
        if len(own):
            parts.append(f"{SAID[way]}: {wording.by_dtype(own, wording.median)}")
    text = f"Defects of additivity, {'; '.join(parts)}." if parts else ""
    hand = found[(found["problem"] == XOR.name) & found["measured"].isin(["wrong", "float64_wrong"])]
    if len(hand):
        sizes = hand.groupby("measured")["median"].max()
        text += f" Exclusive or, by hand: {show.percent(sizes['wrong'])} of the points wrong, in float64 "
        text += f"{show.percent(sizes['float64_wrong'])}."
    return text.strip()


SECTION = section(
    "defects",
    "How non-linear is a stack of linear layers?",
    frames=lambda rows: {"defects": summary(rows)},
    part=part,
    files={"defects": "How non-linear each network is, over seeds."},
    columns={
        "measured": "what the median is of: a column of `defects_rows`; float64_…: of the same numbers in float64",
        "additivity": "relative L2 size of f((x + z) / 2) + f(0) − f(x / 2) − f(z / 2) over test images",
        "homogeneity": "relative L2 size of f(x) − f(0) − 2 (f(x / 2) − f(0)) over test images",
        "pieces": "linear pieces that follow the difference of the outputs along a line between two test images, "
        "within 1 % of its range: the median over lines",
        **{f"float64_{name}": f"{name} of the same numbers in float64" for name in MEASURES[1:]},
        "boundary": "the predicted class, 0 or 1, at each of 48 × 48 points of the plane, row by row from the top left",
        "float64_boundary": "the same in float64",
    },
)
