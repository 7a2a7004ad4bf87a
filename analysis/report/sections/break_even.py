"""When merging a pair pays: the break-even map, against what the operation count promises."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, framed
from analysis.data.records import PLACE, Records
from analysis.data.study_data import Scope, StudyData
from analysis.report import extremes, wording
from analysis.report import formatting as show
from analysis.report.drawing import facets, styled
from analysis.report.section import Content, Frames, Plot, Section, per_scope, plot
from analysis.report.sections.plans import MERGED, against, main_dtype
from analysis.report.sections.speed import VERDICTS_READ, intervals, over
from analysis.report.tables import Table, Text, slug, table
from linear_lasagna.problems import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PAIRS = [
    *PLACE,
    "kernel",
    "outer",
    "middle",
    "break_even_middle",
    "saves",
    "seconds",
    "baseline_seconds",
    "ratio",
    "ratio_lower",
    "ratio_upper",
    "verdict",
    "processes",
    "blocks",
]
SHOWN = 3
LINE = {"color": "#15181c", "linewidth": 1.6}  # with its halo it is seen on every cell and on every page
LEAST_RANGE = 1.0  # of log2(ratio): colours never stand for less than a factor of two


def pairs(records: Records, speedups: Frame) -> Frame:
    """One row per pair of the break-even map and dtype. kernel: its width; outer, middle: C and C_mid.

    ratio: time merged / time stacked; break_even_middle: the C_mid from which on merging saves multiply-accumulates;
    saves: whether it does so here.
    """
    problems = {r.trial.problem.name: r.trial.problem for r in records if r.group == "breakeven"}
    rows = speedups[(speedups["group"] == "breakeven") & (speedups["way"] == MERGED[0])]
    pair_rows = []
    for row in rows.to_dict("records"):
        problem = problems[row["problem"]]
        outer, middle, _ = problem.channels
        threshold = break_even_middle(problem)
        shape = {"kernel": problem.expanded[0].kernel_size[0], "outer": outer, "middle": middle}
        shape |= {"break_even_middle": threshold, "saves": middle > threshold}
        pair_rows.append(tuple((row | shape)[name] for name in PAIRS))
    return framed(pair_rows, PAIRS)


def break_even_middle(problem: Problem) -> float:
    """The channels between a pair's layers at which merged and stacked take equally many multiply-accumulates.

    For equal kernels and sizes it is (2k - 1)² Cin Cout / (k² (Cin + Cout)).
    """
    first, second = problem.expanded
    inputs, _, outputs = problem.channels
    between, out = (math.prod(size) for size in problem.sizes[1:])
    merged_taps = math.prod(a + b - 1 for a, b in zip(first.kernel_size, second.kernel_size, strict=True))
    return merged_taps * inputs * outputs * out / (first.taps * inputs * between + second.taps * outputs * out)


def part(scope: Scope, data: StudyData, frames: Frames) -> Content:
    rows = frames["pairs"]
    by_dtype = [(dtype, rows[rows["dtype"] == dtype]) for dtype in dtypes_in_order(rows["dtype"])]
    plots = tuple(_plot(scope, dtype, rows_of_dtype) for dtype, rows_of_dtype in by_dtype)
    return Content(plots, tuple(pair_table(scope, dtype, rows_of_dtype) for dtype, rows_of_dtype in by_dtype))


def _plot(scope: Scope, dtype: str, rows: Frame) -> Plot:
    counts = rows["verdict"].value_counts()
    caption = f"Time merged / time stacked for pairs C → C_mid → C, {dtype}, {scope.label}; n = "
    caption += (
        f"{show.plural(len(rows), 'pair')}, median over {over(rows)}. Blue: less time merged, by estimate. Line: as "
    )
    caption += "many multiply-accumulates; above it, merging saves some. Intervals and verdicts stand in the table."
    least, most = rows.loc[rows["ratio"].idxmin()], rows.loc[rows["ratio"].idxmax()]
    alt = "Heat maps, one per kernel, C across and C_mid upwards. By verdict merging is faster on "
    alt += f"{show.plural(counts.get('faster', 0), 'pair')} and slower on {counts.get('slower', 0)}. "
    alt += f"The estimated ratio goes from {show.significant(least['ratio'])} ({least['problem']}) to "
    alt += f"{show.significant(most['ratio'])} ({most['problem']})."
    name = slug("fig-break-even", scope.machine, scope.device, dtype)
    return plot(name, caption, alt, "pairs", figure(rows))


@styled
def figure(frame: Frame) -> Figure:
    """Time merged / time stacked over C and C_mid, one panel per kernel. frame: `pairs` of one dtype.

    The line is where both take equally many multiply-accumulates: above it merging saves some.
    """
    kernels = sorted(set(frame["kernel"]))
    drawing, panels = facets([f"{k}×{k}" for k in kernels], 4.4)
    most = max(LEAST_RANGE, max(abs(math.log2(ratio)) for ratio in frame["ratio"]))
    for panel, kernel in zip(panels, kernels, strict=True):
        _map(panel, frame[frame["kernel"] == kernel], most)
    _colours(drawing, panels, most)
    return drawing


def _doublings(values: Any) -> list[int]:
    """The least value, and its doublings up to the largest."""
    steps = round(math.log2(max(values) / min(values)))
    return [int(min(values)) * 2**step for step in range(steps + 1)]


def _map(panel: Axes, rows: Frame, most: float) -> None:
    import numpy
    import seaborn

    outer, middle = _doublings(rows["outer"]), _doublings(rows["middle"])[::-1]
    ratios = rows.pivot(index="middle", columns="outer", values="ratio").reindex(index=middle, columns=outer)
    seaborn.heatmap(
        numpy.log2(ratios),
        annot=ratios,
        fmt=".2g",
        cmap="vlag",
        vmin=-most,
        vmax=most,
        cbar=False,
        linewidths=0.5,
        annot_kws={"size": 8},
        ax=panel,
    )
    _theory(panel, rows, outer, middle)
    panel.tick_params(length=0)
    panel.tick_params(axis="y", rotation=0)
    panel.set(xlabel="C, channels of input and output", ylabel="C_mid, channels between")


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3.4, foreground="white")]


def _theory(panel: Axes, rows: Frame, outer: list[int], middle: list[int]) -> None:
    """The break-even by operation count; both axes are logarithmic, one cell a doubling."""
    thresholds = rows.drop_duplicates("outer").set_index("outer")["break_even_middle"]
    places = [0.0, *(outer.index(c) + 0.5 for c in thresholds.index), float(len(outer))]
    places = sorted(places)
    logs = [math.log2(thresholds[c]) for c in sorted(thresholds.index)]
    logs = [logs[0] - 0.5, *logs, logs[-1] + 0.5]  # in proportion to C, to the edges of the outer cells
    heights = [len(middle) - 0.5 - (log - math.log2(min(middle))) for log in logs]
    panel.plot(places, heights, path_effects=_halo(), **LINE)
    panel.set_xlim(0, len(outer))
    panel.set_ylim(len(middle), 0)


def _colours(figure: Figure, panels: list[Axes], most: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter
    from seaborn import color_palette

    colours = ScalarMappable(Normalize(-most, most), color_palette("vlag", as_cmap=True))
    bar = figure.colorbar(colours, ax=panels, fraction=0.04, pad=0.02)
    step = max(1, math.ceil(most / 3))
    whole = range(-int(most), int(most) + 1)
    bar.ax.yaxis.set_major_locator(FixedLocator([e for e in whole if e % step == 0]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{2.0**e:g}" if e >= 0 else f"1/{2.0**-e:g}"))
    bar.set_label("time merged / time stacked")
    bar.outline.set_visible(False)  # type: ignore[operator]
    line = Line2D([], [], path_effects=_halo(), label="equally many multiply-accumulates", **LINE)
    figure.legend(handles=[line], loc="outside upper left", borderaxespad=0.2)


def pair_table(scope: Scope, dtype: str, rows: Frame) -> Table:
    """The map in numbers: one row per kernel and C, one column per C_mid / C."""
    shown = {(row.kernel, row.outer, row.middle / row.outer): row for row in rows.itertuples(index=False)}
    multiples = sorted({multiple for _, _, multiple in shown})
    places = rows[["kernel", "outer", "break_even_middle"]].drop_duplicates(["kernel", "outer"])
    columns: dict[str, Any] = {
        "kernel": lambda row: f"{row.kernel}×{row.kernel}",
        "channels C": lambda row: str(row.outer),
        "even by count at C_mid": lambda row: show.significant(row.break_even_middle),
    }
    for multiple in multiples:
        columns[_multiple(multiple)] = lambda row, m=multiple: _cell(shown.get((row.kernel, row.outer, m)))
    caption = f"Speedup of merging a pair C → C_mid → C beforehand, by C_mid, {dtype}, {scope.label}; n = "
    caption += f"{show.plural(len(rows), 'pair')}. {intervals(rows)} {VERDICTS_READ}"
    name = slug("break-even", scope.machine, scope.device, dtype)
    return table(name, caption, places.sort_values(["kernel", "outer"]), columns, "pairs", (0,))


def _multiple(multiple: float) -> str:
    names = {0.5: "C / 2", 1: "C"}
    return f"C_mid = {names.get(multiple, f'{multiple:g} C')}"


def _cell(row: Any) -> Text:
    return Text("") if row is None else against(row)


def headline(data: StudyData, frames: Frames) -> str:
    """Where the operation count and the clock disagree about merging a pair."""
    rows = frames["pairs"]
    dtype = main_dtype(rows)
    rows = rows[rows["dtype"] == dtype]
    decided = rows[rows["verdict"].isin(["faster", "slower"])]
    if not len(decided):
        return ""
    saves, faster = decided["saves"].astype(bool), decided["verdict"] == "faster"
    gain, loss = decided[saves], decided[~saves]
    right = int((saves == faster).sum())
    won = [int((pairs["verdict"] == "faster").sum()) for pairs in (gain, loss)]
    text = f"In {dtype}, {show.of_these(len(decided), 'pair', 'the')} C → C_mid → C with a verdict "
    text += f"{wording.by_intervals(decided)}, merging is faster on "
    text += (
        f"{won[0]} of the {len(gain)} where the operation count promises a gain, and on {won[1]} of the {len(loss)} "
    )
    text += f"where it promises a loss{_furthest(gain, loss)}. The count is right on {right}; to merge always would be "
    text += f"right on {sum(won)}. {_rules(rows)}"
    return text.strip()


def _furthest(gain: Frame, loss: Frame) -> str:
    """The pairs on which the count is furthest off, each way."""
    parts = [_cases(gain[gain["verdict"] == "slower"], True), _cases(loss[loss["verdict"] == "faster"], False)]
    parts = [part for part in parts if part]
    return f" (the most unforeseen: {'; '.join(parts)})" if parts else ""


def _cases(rows: Frame, slower: bool) -> str:
    """The pairs on which it is furthest off."""
    worst = rows.sort_values(["ratio", "problem"], ascending=[not slower, True]).head(SHOWN)
    cases = [
        f"{r['kernel']}×{r['kernel']}, {r['outer']} → {r['middle']}, {extremes.speedup(r)}"
        for r in worst.to_dict("records")
    ]
    more = len(rows) - len(worst)
    return "; ".join(cases) + (f"; and {more} more" if more else "")


def _rules(rows: Frame) -> str:
    """Per kernel, from which C_mid / C on every pair that is no longer undecided is faster merged."""
    known, rules = rows[rows["verdict"] != "undecided"], []
    for kernel, group in known.groupby("kernel", sort=True):
        multiple = group["middle"] / group["outer"]
        above = multiple[multiple > max(multiple[group["verdict"] != "faster"], default=0.0)]
        if len(above):
            rules.append(f"every {kernel}×{kernel} pair with C_mid ≥ {above.min():g} C ({len(above)} of {len(group)})")
    return f"Undecided ones left out, it is faster on {wording.listed(rules)}." if rules else ""


SECTION = Section(
    "breakeven",
    "When merging a pair pays",
    per_scope(part),
    lambda data: {"pairs": pairs(data.records, data.speedups)},
    intro="Two k×k layers C → C_mid → C merge into one of 2k − 1. That saves multiply-accumulates only if C_mid is "
    "above (2k − 1)² C / 2k²: 1.39 C for k = 3, 1.62 C for k = 5, where all images are equally large.",
    empty="No pair was timed.",
    headlines={"Break-even": headline},
    files={"pairs": "The break-even map: one row per pair of layers."},
    columns={
        "kernel": "the kernels' width: k of k×k",
        "outer": "channels of the pair's input and output",
        "middle": "channels between the pair's layers",
        "break_even_middle": "the channels between at which merged and stacked take equally many multiply-accumulates",
        "saves": "whether the merged pair takes fewer multiply-accumulates",
    },
)
