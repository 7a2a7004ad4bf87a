"""When merging a pair pays: the break-even map, against what the operation count promises."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, framed
from analysis.data.records import PLACE, Records
from analysis.data.study_data import Scope, StudyData
from analysis.report import extremes, wording
from analysis.report import formatting as show
from analysis.report.drawing import Drawing, cell_ticks, cells, compared, facets, patch_key, styled
from analysis.report.section import Content, Frames, Plot, Section, per_scope, plot
from analysis.report.sections.plans import MERGED, against, main_dtype
from analysis.report.sections.speed import VERDICTS_READ, intervals, over
from analysis.report.style import INK, PAPER, STEPS
from analysis.report.tables import Table, Text, slug, table
from linear_lasagna.problems import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    "speedup",
    "speedup_lower",
    "speedup_upper",
    "way",
    "verdict",
    "processes",
    "blocks",
]
SHOWN = 3
BOUNDS = (2, 4)  # by how many times faster or slower a verdict has a stronger colour


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
    caption = f"Speedup of merging pairs of layers, from C channels to C_mid and back to C, {dtype}, {scope.label}; "
    caption += f"n = {show.plural(len(rows), 'pair')}, median over {over(rows)}. Colour: the verdict "
    caption += f"{wording.by_intervals(rows)}, stronger the further from 1. "
    caption += "Line: as many multiply-accumulates; above it, merging saves some."
    least, most = rows.loc[rows["speedup"].idxmin()], rows.loc[rows["speedup"].idxmax()]
    alt = "Heat maps, one per kernel, C across and C_mid upwards. By verdict merging is faster on "
    alt += f"{show.plural(counts.get('faster', 0), 'pair')} and slower on {counts.get('slower', 0)}. "
    alt += f"The estimated speedup goes from {show.significant(least['speedup'])} ({least['problem']}) to "
    alt += f"{show.significant(most['speedup'])} ({most['problem']})."
    name = slug("fig-break-even", scope.machine, scope.device, dtype)
    return plot(name, caption, alt, "pairs", figure(rows))


@styled
def figure(frame: Frame) -> Drawing:
    """Speedup of merging over C and C_mid, one panel per kernel. frame: `pairs` of one dtype.

    The line is where both take equally many multiply-accumulates: above it merging saves some.
    """
    kernels = sorted(set(frame["kernel"]))
    drawing, panels = facets([f"{k}×{k} kernels" for k in kernels], 17.0 * len(_doublings(frame["middle"])))
    for panel, kernel in zip(panels, kernels, strict=True):
        _map(panel, frame[frame["kernel"] == kernel])
    parts = ["slower", "undecided (?) or a tie", "faster"]
    drawing.handles += [patch_key(part, STEPS[place]) for part, place in zip(parts, (1, 3, 5), strict=True)]
    drawing.handles.append(_line_key())
    return drawing


def _doublings(values: Any) -> list[int]:
    """The least value, and its doublings up to the largest."""
    steps = round(math.log2(max(values) / min(values)))
    return [int(min(values)) * 2**step for step in range(steps + 1)]


def _map(panel: Axes, rows: Frame) -> None:
    outer, middle = _doublings(rows["outer"]), _doublings(rows["middle"])[::-1]
    grid = [
        (outer.index(row["outer"]), middle.index(row["middle"]), _colour(row), _text(row), compared(row))
        for row in rows.to_dict("records")
    ]
    cells(panel, grid, (len(outer), len(middle)), lined=True)
    cell_ticks(panel, [str(c) for c in outer], [str(c) for c in middle])
    _theory(panel, rows, outer, middle)
    panel.set(xlabel="C, channels of input and output", ylabel="C_mid, channels between")


def _colour(row: Any) -> str:
    """Of seven steps, from slower to faster: by the verdict, and by the estimate how dark."""
    side = {"faster": 1, "slower": -1}.get(row["verdict"], 0)
    times = max(row["speedup"], 1 / row["speedup"])
    return STEPS[len(STEPS) // 2 + side * (1 + sum(times > bound for bound in BOUNDS))]


def _text(row: Any) -> str:
    speedup = row["speedup"]
    return (f"{speedup:.2f}" if speedup < 2 else show.significant(speedup, 2)) + "?" * (row["verdict"] == "undecided")


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3.6, foreground=PAPER[0])]


def _line_key() -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=INK, linewidth=1.6, label="equally many multiply-accumulates")


def _theory(panel: Axes, rows: Frame, outer: list[int], middle: list[int]) -> None:
    """The break-even by operation count; both axes are logarithmic, one cell a doubling."""
    thresholds = rows.drop_duplicates("outer").set_index("outer")["break_even_middle"]
    places = [0.0, *(outer.index(c) + 0.5 for c in thresholds.index), float(len(outer))]
    places = sorted(places)
    logs = [math.log2(thresholds[c]) for c in sorted(thresholds.index)]
    logs = [logs[0] - 0.5, *logs, logs[-1] + 0.5]  # in proportion to C, to the edges of the outer cells
    heights = [len(middle) - 0.5 - (log - math.log2(min(middle))) for log in logs]
    panel.plot(places, heights, color=INK, linewidth=1.6, path_effects=_halo())
    panel.set_xlim(0, len(outer))
    panel.set_ylim(len(middle), 0)


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
    saves, faster = rows["saves"].astype(bool), rows["verdict"] == "faster"
    gain, loss = rows[saves], rows[~saves]
    won = {"gain": (gain, int((saves & faster).sum())), "loss": (loss, int((~saves & faster).sum()))}
    parts = [
        f"on {count} of the {len(pairs)} where it promises a {kind}"
        for kind, (pairs, count) in won.items()
        if len(pairs)
    ]
    told = ", and ".join(parts).replace("where it", "where the operation count", 1)
    text = f"In {dtype}, {show.of_these(len(rows), 'pair', 'the')} C → C_mid → C merging is, "
    text += f"{wording.by_intervals(decided)}, faster {told}{_furthest(gain, loss)}. "
    right = int((saves == faster)[decided.index].sum())
    text += f"Of the {len(decided)} with a verdict the count is right on {right}; to merge always would be right on "
    return f"{text}{int(faster.sum())}. {_rules(rows)}".strip()


def _furthest(gain: Frame, loss: Frame) -> str:
    """The pairs on which the count is furthest off, each way."""
    parts = [_cases(gain[gain["verdict"] == "slower"], True), _cases(loss[loss["verdict"] == "faster"], False)]
    parts = [part for part in parts if part]
    return f" (the most unforeseen: {'; '.join(parts)})" if parts else ""


def _cases(rows: Frame, slower: bool) -> str:
    """The pairs on which it is furthest off."""
    worst = rows.sort_values(["ratio", "problem"], ascending=[not slower, True]).head(SHOWN)
    cases = [
        f"{r['kernel']}×{r['kernel']}, {r['outer']} → {r['middle']} → {r['outer']}, {extremes.speedup(r)}"
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
