"""The figures of time, memory and noise: a tidy frame in, a matplotlib Figure out. Nothing here reads or writes a file.

Every way has one colour and marker (`style.look`); hollow marks are comparisons without a verdict of faster or
slower. Lines through marks are intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.drawing import WIDTH, decimal_ticks, facets, legend, log_range, log_ticks, styled
from analysis.formatting import shortened
from analysis.frames import Frame
from analysis.style import FAINT, INK, dtypes_in_order, look, problems_in_order, ways_in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECIDED = ("faster", "slower")


def _dodged(places: Sequence[str], ways: Sequence[str], spread: float = 0.62) -> dict[tuple[str, str], float]:
    """The height of every (place, way): one row per place, its ways slightly apart."""
    step = spread / max(1, len(ways) - 1)
    offsets = {way: (i - (len(ways) - 1) / 2) * step for i, way in enumerate(ways)}
    return {(place, way): row + offsets[way] for row, place in enumerate(places) for way in ways}


def _dots(panel: Axes, frame: Frame, ways: Sequence[str], heights: dict[tuple[str, str], float], place: str) -> None:
    """Dot and interval for every row of frame, at the height of its place and way."""
    for way in ways:
        colour, marker = look(way)
        rows = frame[frame["way"] == way]
        height = [heights[key] for key in zip(rows[place], rows["way"], strict=True)]
        panel.hlines(height, rows["speedup_lower"], rows["speedup_upper"], colors=colour, linewidth=1.3)
        for decided in (True, False):
            some = rows["verdict"].isin(DECIDED) == decided
            y = [h for h, use in zip(height, some, strict=True) if use]
            face = colour if decided else "none"
            panel.plot(
                rows["speedup"][some], y, marker, mfc=face, mec=colour, mew=0.9, markersize=4.6, linestyle="none"
            )


def _short(names: Sequence[str]) -> list[str]:
    """The names without the folder that all have in common."""
    folders = {name.rpartition("/")[0] for name in names}
    return [name.rpartition("/")[2] for name in names] if len(folders) == 1 else list(names)


def _rows(panel: Axes, names: Sequence[str], labels: bool = True) -> None:
    """One named row per name, from above, with faint lines between rows."""
    panel.set_yticks(range(len(names)), [shortened(name) for name in _short(names)] if labels else [])
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    for line in range(1, len(names)):
        panel.axhline(line - 0.5, color=FAINT, linewidth=0.5, zorder=0)


@styled
def speedups(frame: Frame) -> Figure:
    """Speedup over the baseline per problem and way, one panel per dtype. frame: `statistics.speedups` of a group."""
    frame = frame[~frame["control"].astype(bool)]
    ways, dtypes = ways_in_order(frame["way"]), dtypes_in_order(frame["dtype"])
    names = problems_in_order(frame["problem"])
    row = 0.2 + 0.035 * len(ways)
    figure, panels = facets(dtypes, max(1.5, row * len(names) + 0.6), sharex=True)
    heights = _dodged(names, ways)
    for index, (panel, dtype) in enumerate(zip(panels, dtypes, strict=True)):
        _dots(panel, frame[frame["dtype"] == dtype], ways, heights, "problem")
        _rows(panel, names, labels=index % 2 == 0)
        _speedup_axis(panel, log_range(frame["speedup"]))
    legend(figure, ways, [_hollow()])
    return figure


def _speedup_axis(panel: Axes, limits: tuple[float, float]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xlim(limits)
    log_ticks(panel.xaxis, *limits)
    panel.tick_params(axis="x", labelbottom=True)
    panel.grid(axis="x")
    panel.axvline(1, color=INK, linewidth=0.9)
    panel.set_xlabel("slower  ←  speedup over the baseline  →  faster")


def _hollow() -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=INK, marker="o", mfc="none", linestyle="none", markersize=5, label="tie or undecided")


@styled
def wins(frame: Frame) -> Figure:
    """The share of problems on which each way is fastest alone. frame: `statistics.wins` by group and dtype."""
    from matplotlib.figure import Figure

    bars = frame[["group", "dtype", "trials"]].drop_duplicates()
    bars = bars.assign(rank=bars["dtype"].map({d: i for i, d in enumerate(dtypes_in_order(bars["dtype"]))}))
    bars = bars.sort_values(["group", "rank"]).reset_index(drop=True)
    figure = Figure(figsize=(WIDTH, 0.34 * len(bars) + 1.1), layout="constrained")
    panel = figure.subplots()
    for row, (group, dtype, trials) in enumerate(zip(bars["group"], bars["dtype"], bars["trials"], strict=True)):
        here = frame[(frame["group"] == group) & (frame["dtype"] == dtype)]
        _stacked_bar(panel, row, dict(zip(here["way"], here["alone"], strict=True)), trials)
    labels = [
        f"{shortened(g)}, {d} (n = {n})" for g, d, n in zip(bars["group"], bars["dtype"], bars["trials"], strict=True)
    ]
    panel.set_yticks(range(len(bars)), labels)
    panel.set_ylim(len(bars) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.set_xlim(0, 100)
    panel.set_xlabel("problems (%)")
    _bar_legend(figure, ways_in_order(way for way in frame.loc[frame["alone"] > 0, "way"] if way))
    return figure


def _stacked_bar(panel: Axes, row: int, counts: dict[str, int], trials: int) -> None:
    left = 0.0
    for way in [*ways_in_order(way for way in counts if way), ""]:
        width = 100 * counts.get(way, 0) / trials
        if not width:
            continue
        if way:
            panel.barh(row, width, left=left, height=0.68, color=look(way)[0])
        else:
            panel.barh(row, width, left=left, height=0.68, facecolor="none", edgecolor=INK, linewidth=0.6, hatch="////")
        if width > 3 and way:
            middle = left + width / 2
            panel.text(
                middle, row, str(counts[way]), ha="center", va="center", fontsize=8, color="white", weight="bold"
            )
        left += width


def _is_dark(colour: str) -> bool:
    """Whether white text is read better on it than black: relative luminance below 0.18 (WCAG 2.1)."""
    from matplotlib.colors import to_rgb

    linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.18


def _bar_legend(figure: Figure, ways: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=look(way)[0], label=way) for way in ways]
    handles.append(Patch(facecolor="none", edgecolor=INK, hatch="////", linewidth=0.6, label="no single fastest way"))
    figure.legend(handles=handles, loc="outside upper left", ncols=min(5, len(handles)), borderaxespad=0.2)


@styled
def accuracy_against_speed(frame: Frame) -> Figure:
    """Error against time, one mark per cell; filled where no other way of the trial is better in both.

    frame: `statistics.costs` of one group.
    """
    dtypes, ways = dtypes_in_order(frame["dtype"]), ways_in_order(frame["way"])
    figure, panels = facets(dtypes, 3.2, sharex=True)
    for panel, dtype in zip(panels, dtypes, strict=True):
        here = frame[(frame["dtype"] == dtype) & (frame["error_u"] > 0)]
        for way in ways:
            colour, marker = look(way)
            for best in (False, True):
                rows = here[(here["way"] == way) & (here["best"] == best)]
                face = colour if best else "none"
                panel.plot(
                    rows["ratio"], rows["error_u"], marker, mfc=face, mec=colour, mew=0.9, markersize=5, alpha=0.9
                )
        _error_against_time_axes(panel, log_range(frame["ratio"]))
    legend(figure, ways)
    return figure


def _error_against_time_axes(panel: Axes, limits: tuple[float, float]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlim(limits)
    log_ticks(panel.xaxis, *limits)
    decimal_ticks(panel.yaxis)
    panel.axvline(1, color=INK, linewidth=0.7)
    panel.grid(axis="both")
    panel.tick_params(axis="x", labelbottom=True)
    panel.set_xlabel("time / baseline's time")
    panel.set_ylabel("relative L2 error (u)")


@styled
def memory(frame: Frame) -> Figure:
    """Memory of one call / the baseline's, one mark per trial, one panel per group. frame: `statistics.costs`."""
    import seaborn

    frame = frame[~frame["baseline"] & (frame["peak_ratio"] > 0)]
    groups, ways = sorted(set(frame["group"])), ways_in_order(frame["way"])
    height = 0.24 * max([len(set(frame.loc[frame["group"] == g, "way"])) for g in groups] or [1]) + 0.8
    figure, panels = facets(groups, height, columns=min(3, max(1, len(groups))))
    for panel, group in zip(panels, groups, strict=True):
        here = frame[frame["group"] == group]
        order = [way for way in ways if way in set(here["way"])]
        panel.set_xscale("log", base=2)
        colours = {way: look(way)[0] for way in order}
        seaborn.stripplot(
            here,
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
        limits = log_range(here["peak_ratio"])
        panel.set_xlim(limits)
        log_ticks(panel.xaxis, *limits)
        panel.grid(axis="x")
        panel.axvline(1, color=INK, linewidth=0.9)
        panel.set(xlabel="memory / baseline's memory", ylabel="")
    return figure


@styled
def noise(frame: Frame, margin: float) -> Figure:
    """Every control's difference from the baseline in per cent, in order, with its interval. frame: `statistics.noise`.

    margin: the |log ratio| below which no difference counts, drawn as a band.
    """
    from matplotlib.figure import Figure

    frame = frame.sort_values(["ratio", "problem", "dtype"]).reset_index(drop=True)
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    panel = figure.subplots()
    percent = {name: 100 * (frame[name] - 1) for name in ("ratio", "ratio_lower", "ratio_upper")}
    panel.axhspan(100 * math.expm1(-margin), 100 * math.expm1(margin), color=INK, alpha=0.1, linewidth=0)
    panel.axhline(0, color=INK, linewidth=0.7)
    panel.vlines(frame.index, percent["ratio_lower"], percent["ratio_upper"], colors=look("control")[0], linewidth=0.9)
    false = frame["verdict"].isin(DECIDED)
    panel.plot(frame.index[~false], percent["ratio"][~false], "o", color=look("control")[0], markersize=3)
    panel.plot(frame.index[false], percent["ratio"][false], "D", color=look("merged/direct")[0], markersize=4.5)
    _difference_axis(panel, max(percent["ratio"].abs().max(), 100 * math.expm1(margin)))
    panel.set_xlim(-1, len(frame))
    panel.set_xticks([])
    panel.set_xlabel(f"the controls of {len(frame)} trials, in order")
    panel.set_ylabel("control against baseline (%)")
    panel.grid(axis="y")
    return figure


def _difference_axis(panel: Axes, largest: float) -> None:
    """Per cent: in proportion up to 1, logarithmic beyond, so that the margin and the outliers are both seen."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    steps = [value for value in (1, 2, 5, 10, 20, 50, 100, 1000) if value <= 2.5 * largest]
    panel.set_yscale("symlog", linthresh=1.0, linscale=0.7)
    panel.yaxis.set_major_locator(FixedLocator([-value for value in steps] + [0, *steps]))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    panel.set_ylim(-2.5 * largest, 2.5 * largest)
