"""What all figures share: panels, marks that say their values, legends, logarithmic axes with plain numbers on them.

A figure is a grid of panels of one width, each of which can be read alone: the page shows as many beside each other as
there is room for, a file of its own all of them (`svg`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from analysis.data.frames import Frame, Series, dtypes_in_order, ways_in_order
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.formatting import distinctly
from analysis.report.style import FAINT, FONT, INK, PAPER, RC, SHADES, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
POINTS = 72  # per inch
WIDTH = 345 * 0.75  # points of a panel: 345 CSS pixels
HEIGHT = 150.0  # points of a panel's axes, where nothing else is said
ROW, LINE = 15.0, 11.0  # points of a named row, and of each further line of its name
LONGEST_NAME, LONGEST_TITLE = 30, 42  # characters that a panel has room for
MOST_LEFT, LEAST_FONT = 0.6, 7.0  # of a panel for names beside it; points to which wide ones shrink
MARK, SMALL = 5.2, 4.0  # points across
STAR = 1.5  # a star is mostly points: so many times as wide, it looks as large as the others
MOST_TICKS = 5
MOST_BESIDE = 24  # characters of a heat map's columns in one line
SHORT_RANGE, WIDE_RANGE = 4.0, 1e6
SUPERSCRIPTS = str.maketrans("−0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FINE_RATIOS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5)


@dataclass
class Drawing:
    """A figure, its panels, their titles and heights in points, and the entries of its legend. boxes: once it is
    arranged, the panels' (left, top, width, height) in points from above.
    """

    figure: Figure
    panels: list[Axes]
    titles: list[Any]
    heights: list[float]
    handles: list[Any] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)


def styled(draw: Callable[P, Any]) -> Callable[P, Any]:
    """Draw with the suite's settings, without changing anybody else's."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Any:
        import matplotlib

        settings: Any = RC
        with matplotlib.rc_context(settings), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")  # a browser has others
            return draw(*args, **kwargs)

    return styled


def facets(
    names: Sequence[str], height: float | Sequence[float] = HEIGHT, sharex: bool = False, sharey: bool = False
) -> tuple[Drawing, list[Axes]]:
    """A drawing with one titled panel per name. height: of a panel's axes, or of each, in points."""
    from matplotlib.figure import Figure

    figure, panels, titles = Figure(), [], []
    for name in distinctly(names, LONGEST_TITLE):
        first = panels[0] if panels else None
        panel = figure.add_axes(
            (0, 0, 1, 1), label=str(len(panels)), sharex=first if sharex else None, sharey=first if sharey else None
        )
        titles.append(panel.set_title(name))
        panels.append(panel)
    heights = [float(height)] * len(panels) if isinstance(height, (int, float)) else list(height)
    return Drawing(figure, panels, titles, heights), panels


def marks(
    panel: Axes,
    x: Iterable[float],
    y: Iterable[float],
    titles: Iterable[str],
    way: str | tuple[str, str],
    filled: bool = True,
    size: float = MARK,
) -> None:
    """A mark for each point with finite numbers, which says its title to who points at it. The paper's edge around
    filled marks parts those that overlap.

    way: or a colour and a marker. size: points across.
    """
    colour, marker = look(way) if isinstance(way, str) else way
    points = [p for p in zip(x, y, titles, strict=True) if math.isfinite(p[0]) and math.isfinite(p[1])]
    if not points:
        return
    xs, ys, told = zip(*points, strict=True)
    halo = 0.6 if size > SMALL else 0.2  # wide ones around many small marks would hide them
    inside, edge, width = (colour, PAPER[0], halo) if filled else (PAPER[0], colour, 0.9)
    across = (size + (halo if filled else 0.0)) * (STAR if marker == "*" else 1.0)
    style: dict[str, Any] = {"edgecolors": edge, "facecolors": inside, "linewidths": width}
    panel.scatter(xs, ys, s=across**2, marker=marker, urls=list(told), zorder=3, **style)


def between(panel: Axes, at: Iterable[float], lower: Iterable[float], upper: Iterable[float], colours: Any) -> None:
    """Horizontal lines from lower to upper, for intervals. colours: one, or one for each."""
    panel.hlines(list(at), list(lower), list(upper), colors=colours, linewidth=1.1)


def within(panel: Axes, at: Iterable[float], middle: Series, spread: Series, colours: Any) -> None:
    """Thick horizontal lines on a logarithmic axis, a spread of logarithms to either side of the middle."""
    factor = spread.map(math.exp)
    panel.hlines(list(at), middle / factor, middle * factor, colors=colours, linewidth=3.2, alpha=0.45)


def cells(
    panel: Axes, grid: Iterable[tuple[int, int, str, str, str]], shape: tuple[int, int], lined: bool = False
) -> None:
    """A heat map: (column, row, colour, text, title) each, rows from above. shape: (columns, rows); lined: a line
    across it will be interrupted where a text stands.
    """
    from matplotlib.patches import Rectangle

    for column, row, colour, text, title in grid:
        panel.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor=FAINT, linewidth=0.6, url=title))
        behind = {"facecolor": colour, "edgecolor": "none", "pad": 0.5}
        panel.text(column + 0.5, row + 0.5, text, ha="center", va="center", bbox=behind if lined else None)
    panel.set_xlim(0, shape[0])
    panel.set_ylim(shape[1], 0)
    panel.tick_params(length=0)
    panel.spines[["left", "bottom"]].set_visible(False)


def shade(share: float) -> str:
    """The colour of a share in a heat map: one of four."""
    return SHADES[min(len(SHADES) - 1, int(share * len(SHADES)))]


def cell_ticks(panel: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    """The names of a heat map's columns and rows, at their middles."""
    panel.set_xticks([place + 0.5 for place in range(len(columns))], list(columns))
    if len(columns) * max(map(len, columns)) > MOST_BESIDE:
        for label in panel.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    panel.set_yticks([place + 0.5 for place in range(len(rows))], distinctly(rows, LONGEST_NAME))


def rows_named(panel: Axes, names: Sequence[str]) -> None:
    """One named row per name, from above, with faint lines between rows."""
    rows_in_lines(panel, [(name,) for name in names])


def rows_in_lines(panel: Axes, names: Sequence[Sequence[str]]) -> None:
    """The same for names of several lines each, in rows of `row_height`. Every line is a label of its own, so that all
    end at the axis in any font.
    """
    lines = [line for name in names for line in name]
    step = LINE / row_height(names)
    at = [row + step * (place - (len(name) - 1) / 2) for row, name in enumerate(names) for place in range(len(name))]
    panel.set_yticks(at, distinctly(lines, LONGEST_NAME))
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    for row in range(1, len(names)):
        panel.axhline(row - 0.5, color=FAINT, linewidth=0.5, zorder=0)


def row_height(names: Sequence[Sequence[str]]) -> float:
    """Points of a row, where all are as high as the name of most lines needs."""
    return ROW + LINE * (max(map(len, names), default=1) - 1)


def legend(
    drawing: Drawing, ways: Iterable[str], extra: Sequence[Any] = (), known: Mapping[str, tuple[str, str]] | None = None
) -> None:
    """An entry per way, and more of them: of `key`. known: their looks, where `style.looks` has them."""
    drawing.handles += [key(way, *(known[way] if known else look(way))) for way in ways]
    drawing.handles += extra


def key(label: str, colour: str = INK, marker: str = "", line: Any = "", filled: bool = True, **more: Any) -> Any:
    """An entry of a legend: a mark, a line, or both."""
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"markersize": MARK + 0.3, "markeredgewidth": 0.9, "linewidth": 1.4, **more}
    face = colour if filled else PAPER[0]
    return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, linestyle=line, label=label, **style)


def patch_key(label: str, colour: str) -> Any:
    """An entry of a legend: a cell."""
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, edgecolor=FAINT, linewidth=0.6, label=label)


def log_ticks(axis: Any, lower: float, upper: float) -> None:
    """Powers of two as plain numbers, at most seven; 1 is always among them."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    first, last = math.floor(math.log2(lower)), math.ceil(math.log2(upper))
    step = max(1, math.ceil((last - first) / 6))
    exponents = [e for e in range(first, last + 1) if e % step == 0]
    axis.set_major_locator(FixedLocator([2.0**e for e in exponents]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power_of_two(value)))


def _power_of_two(value: float) -> str:
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"


def log_range(values: Series, least: float = 1.15) -> tuple[float, float]:
    """A range around finite positive values that holds 1 and `least` on both sides of it, with some room."""
    finite = [float(v) for v in values if math.isfinite(v) and v > 0]
    lower, upper = min([*finite, 1 / least]), max([*finite, least])
    room = (upper / lower) ** 0.04
    return lower / room, upper * room


def decimal_ticks(axis: Any) -> None:
    """1, 2, 5 of every decade as plain numbers where the range is short, else the decades, every second or third of
    many; other round numbers where no two of these lie in the range.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    lower, upper = sorted(axis.get_view_interval())
    decades = range(math.floor(math.log10(lower)), math.ceil(math.log10(upper)) + 1)
    factors = (1, 2, 5) if upper / lower < 60 else (1, 3) if upper / lower < 500 else (1,)
    step = max(1, math.ceil(len(decades) / 7)) if len(factors) == 1 else 1
    chosen = [factor * 10.0**e for e in decades if e % step == 0 for factor in factors]
    chosen = [value for value in chosen if lower <= value <= upper]
    chosen = chosen if len(chosen) > 1 else [v for v in MaxNLocator(4).tick_values(lower, upper) if lower <= v <= upper]
    axis.set_major_locator(FixedLocator(chosen))
    axis.set_minor_locator(NullLocator())
    say = power_of_ten if upper / lower > WIDE_RANGE else "{:g}".format
    axis.set_major_formatter(FuncFormatter(lambda value, _: say(value)))


def power_of_ten(value: float) -> str:
    """As in "10⁻⁴"; 1 is 1."""
    exponent = round(math.log10(value))
    return f"10{show.signed(str(exponent)).translate(SUPERSCRIPTS)}" if exponent else "1"


def dash(signs: str) -> Any:
    """Solid for random signs, dashed for positive numbers."""
    return "-" if signs == "random" else "--"


def sign_handles(signs: Iterable[str]) -> list[Any]:
    """Entries of a legend."""
    return [key(wording.signs(s), line=dash(s)) for s in sorted(set(signs), reverse=True)]


def lines(
    panel: Axes, summary: Frame, x: str, known: Mapping[str, tuple[str, str]], unit: str = "", what: str = ""
) -> None:
    """One line per way and signs through the medians, with a mark for each and a band for the interval.

    Ways that are drawn first have larger marks, so that one that another one covers is still seen. unit: of the
    medians, what: the x, as the marks say them. known: `style.looks` of the figure's ways.
    """
    several = summary["signs"].nunique() > 1
    for place, way in enumerate(ways_in_order(summary["way"])):
        for signs, line in summary[summary["way"] == way].groupby("signs", sort=True):
            name = f"{way}, {wording.signs(str(signs))}" if several else way
            titles = [told(name, f"{what or x} {row[x]:g}", row, unit) for row in line.to_dict("records")]
            course(panel, line.assign(title=titles), x, known[way], dash(str(signs)), size=max(3.2, 6.2 - 1.1 * place))


def course(
    panel: Axes, line: Frame, x: str, way: tuple[str, str], dashes: Any = "-", size: float = MARK, filled: bool = True
) -> None:
    """One line through medians with a mark for each, and a band for the interval. line: with x, median, lower, upper
    and title.
    """
    line = line.sort_values(x)
    panel.plot(line[x], line["median"], dashes, color=way[0], linewidth=1.2)
    if line["lower"].notna().any():
        panel.fill_between(line[x], line["lower"], line["upper"], color=way[0], alpha=0.18, linewidth=0)
    if way[1]:
        marks(panel, line[x], line["median"], line["title"], way, filled, size)


def told(name: str, where: str, row: Any, unit: str = "") -> str:
    """What a mark says of a median over seeds: as in "direct, depth 8: 1.23 [1.21, 1.26] u, 10 seeds"."""
    seeds = f", {show.plural(int(row['seeds']), 'seed')}" if row.get("seeds") else ""
    value = show.with_interval(row["median"], row["lower"], row["upper"])
    return f"{name}, {where}: {value}{f' {unit}' if unit else ''}{seeds}"


def compared(row: Any) -> str:
    """What a mark says of a speedup: as in "sesr_x1, float32, merged/direct: 10.2× [9.6, 11.0], faster,
    12 processes".
    """
    ends = (row["speedup_lower"], row["speedup_upper"])
    value = f"{show.number(row['speedup'], *ends)}× {show.interval(row['speedup'], *ends)}".strip()
    verdict = "no interval" if math.isnan(ends[0]) and row["verdict"] == "undecided" else row["verdict"]
    counted = row["processes"] if row["processes"] > 1 else row["blocks"]
    n = show.plural(int(counted), "process" if row["processes"] > 1 else "block")
    place = f"{row['problem'].rpartition('/')[2]}, {row['dtype']}, {row['way']}"
    return f"{place}: {value}, {verdict}, {n}"


def measured_ticks(panel: Axes, values: Iterable[float], labels: dict[float, str] | None = None) -> None:
    """A tick at every measured value of a base-2 logarithmic x axis, or at every second or third of many."""
    from matplotlib.ticker import NullLocator

    panel.set_xscale("log", base=2)
    shown = thinned(sorted(set(values)))
    panel.set_xticks(shown, [(labels or {}).get(value, f"{value:g}") for value in shown])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(axis="both")


def thinned(values: Sequence[float]) -> list[float]:
    """Those of the sorted positive values that leave room for a label: the last, and what is far enough below."""
    shown: list[float] = []
    reach = math.log2(values[-1] / values[0])
    for value in reversed(values):
        if not shown or math.log2(shown[-1] / value) >= reach / MOST_TICKS:
            shown.append(value)
    return shown[::-1]


def ends(summary: Frame) -> list[float]:
    """All medians and ends of intervals, for the limits of an axis."""
    return [float(v) for name in ("median", "lower", "upper") for v in summary[name]]


def ratio_ticks(axis: Any, lower: float, upper: float) -> None:
    """Ticks of a logarithmic axis of ratios: plain numbers around 1 where the range is short, else powers of two."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if upper / lower > SHORT_RANGE:
        log_ticks(axis, lower, upper)
        return
    fine = [value for value in FINE_RATIOS if lower <= value <= upper]
    axis.set_major_locator(FixedLocator(fine[:: math.ceil(len(fine) / 7)] if 1 not in fine else around_one(fine)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def around_one(values: list[float], most: int = 7) -> list[float]:
    """Every second or third of the values, 1 among them."""
    step, place = math.ceil(len(values) / most), values.index(1.0)
    return values[place % step :: step]


def speedup_axis(panel: Axes, limits: tuple[float, float], label: str = "slower  ←  speedup  →  faster") -> None:
    """A logarithmic x axis of speedups: right is better."""
    panel.set_xscale("log", base=2)
    panel.set_xlim(limits)
    ratio_ticks(panel.xaxis, *limits)
    panel.grid(axis="x")
    panel.axvline(1, color=INK, linewidth=0.9, zorder=1)
    panel.set_xlabel(label)


def in_per_cent(rows: Frame) -> Frame:
    """Shares with their intervals, times 100."""
    return rows.assign(**{name: 100 * rows[name] for name in ("median", "lower", "upper")})


def by_dtype(frame: Frame) -> list[tuple[str, Frame]]:
    """The rows of every dtype, from the narrowest."""
    return [(dtype, frame[frame["dtype"] == dtype]) for dtype in dtypes_in_order(frame["dtype"])]


def arrange(drawing: Drawing) -> None:
    """Give every panel a box of `WIDTH`, and its axes the room that their labels leave: the same in all of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if drawing.boxes:
        return
    count = len(drawing.panels)
    columns = count if count < 4 else 2 if count == 4 else 3
    _place(drawing, columns, (WIDTH / 4, 8.0, 18.0, 30.0), 0.0)
    margins = _margins(drawing, FigureCanvasAgg(drawing.figure).get_renderer())
    drawing.boxes = _place(drawing, columns, margins, _legend(drawing, columns * WIDTH))


def _margins(drawing: Drawing, renderer: Any) -> tuple[float, float, float, float]:
    """Left, right, above and below the axes: what labels take, in points. The x axes are taken to be alike.

    All sides of the axes lie on whole points: between the digits that are written of a coordinate its last bit
    decides, in which processors differ.
    """
    above = 20.0 if any(title.get_text() for title in drawing.titles) else 4.0
    inner = [panel.get_window_extent(renderer) for panel in drawing.panels]
    boxes = [panel.yaxis.get_tightbbox(renderer) for panel in drawing.panels]
    left = max([10.0, *(axes.x0 - box.x0 + 3 for axes, box in zip(inner, boxes, strict=True) if box is not None)])
    across = drawing.panels[0].xaxis.get_tightbbox(renderer) if drawing.panels else None
    below = inner[0].y0 - across.y0 + 2 if across is not None else 2.0
    if left > MOST_LEFT * WIDTH:
        size = max(LEAST_FONT, math.floor(FONT * MOST_LEFT * WIDTH / left))  # as fonts are measured: whole points
        for panel in drawing.panels:
            panel.tick_params(axis="y", labelsize=size)
    return _whole(min(left, MOST_LEFT * WIDTH)), 11 + WIDTH % 1, above, _whole(below)


def _whole(points: float) -> float:
    """The next whole number of points. Texts are measured in parts of a point that are powers of two."""
    return float(math.ceil(round(256 * points) / 256))


def _place(
    drawing: Drawing, columns: int, margins: tuple[float, float, float, float], above: float
) -> list[tuple[float, float, float, float]]:
    """The panels' boxes. margins: left, right, top and bottom of each; above: all of them."""
    left, right, top, bottom = margins
    inner, heights, y = WIDTH - left - right, [float(round(height)) for height in drawing.heights], above
    tops = []
    for line in range(0, len(heights), columns):
        tops += [y] * len(heights[line : line + columns])
        y += max(heights[line : line + columns]) + top + bottom
    whole, found = (columns * WIDTH, y), []
    drawing.figure.set_size_inches(whole[0] / POINTS, whole[1] / POINTS)
    for place, (panel, title) in enumerate(zip(drawing.panels, drawing.titles, strict=True)):
        x, height = place % columns * WIDTH, heights[place]
        corner = ((x + left) / whole[0], 1 - (tops[place] + top + height) / whole[1])
        panel.set_position((*corner, inner / whole[0], height / whole[1]))
        title.set_x((3 - left) / inner)
        found.append((x, tops[place], WIDTH, height + top + bottom))
    return found


def _legend(drawing: Drawing, width: float) -> float:
    """Put the legend on top of the file; returned: its height in points."""
    if not drawing.handles:
        return 0.0
    longest = max(len(str(handle.get_label())) for handle in drawing.handles)
    columns = max(1, min(len(drawing.handles), int(width / (longest * FONT * 0.56 + 40))))
    drawn = drawing.figure.legend(
        handles=drawing.handles, loc="upper left", ncols=columns, borderaxespad=0.2, bbox_to_anchor=(0, 1)
    )
    for number, handle in enumerate(drawn.legend_handles):
        if handle is not None:
            handle.set_gid(f"key-{number}")
    return _whole(math.ceil(len(drawing.handles) / columns) * FONT * 1.65 + 12)
