"""Sweeps: how times grow with channels, size, kernel, batch, stride and depth, and where another way takes the lead."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.data import sweeps
from analysis.data.frames import Frame, dtypes_in_order, ordered, problems_in_order, ways_in_order
from analysis.data.study_data import Scope, StudyData
from analysis.report import choosing, extremes, wording
from analysis.report import formatting as show
from analysis.report.drawing import Drawing, course, decimal_ticks, facets, legend, measured_ticks, styled
from analysis.report.section import Content, Frames, Plot, Section, per_scope, plot
from analysis.report.sections.plans import main_dtype
from analysis.report.sections.speed import VERDICTS_READ, speedup_text
from analysis.report.style import look
from analysis.report.tables import Table, Text, slug, table
from linear_lasagna.sweeps import PLACES, SWEEPS
from linear_lasagna.vocabulary import BASELINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MS = 1e3  # per second
ENDS = {"median": "", "lower": "_lower", "upper": "_upper"}
EXPONENT = ("exponent", "exponent_lower", "exponent_upper")
HALF = ("half", "half_lower", "half_upper")
AT = ("at", "at_lower", "at_upper")
BY_PROCESSES = "In brackets: 95 % interval for the median over processes, between them; none for fewer than 6."


def in_axes_order(rows: Frame) -> list[str]:
    """The axes of the rows, in the order of the sweeps."""
    return [axis for axis in SWEEPS if axis in set(rows["axis"])]


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    times = frames["sweeps"]
    if not len(times):
        return None
    plots = tuple(_plot(scope, dtype, times[times["dtype"] == dtype]) for dtype in wording.main_dtypes(times["dtype"]))
    return Content(plots, tuple(_tables(scope, frames)), answer(frames), tuple(notes(data)))


def _plot(scope: Scope, dtype: str, rows: Frame) -> Plot:
    caption = f"Time of one call, {dtype}, against what varies, {scope.label}; both axes logarithmic. n = "
    caption += f"{show.plural(rows['problem'].nunique(), 'problem')}. Mark: median over "
    caption += f"{wording.span(rows['processes'], 'process')}. Band: 95 % interval for that median, between "
    caption += "processes; none where there are fewer than 6. Winograd is for 3×3 kernels with stride 1. Down is "
    caption += "better."
    caption += choosing.others(rows, "The CSV has")
    drawn = choosing.shown(rows)
    slowest = drawn.loc[drawn["seconds"].idxmax()]
    counts = rows.loc[rows["leads"], "way"].value_counts()
    alt = "Lines on two logarithmic axes, one panel per number that varies. The longest call takes "
    alt += f"{show.seconds(slowest['seconds'])}, {slowest['way']} with {slowest['axis']} {slowest['swept']}. Faster "
    alt += "than every other way, by verdict, is "
    alt += wording.listed([f"{way} on {counts[way]}" for way in ways_in_order(counts.index)] or ["none"]) + "."
    return plot(slug("fig-sweeps", scope.machine, scope.device, dtype), caption, alt, "sweeps", figure(rows))


@styled
def figure(rows: Frame) -> Drawing:
    """Time against the value, one panel per axis. rows: `sweeps.times` of one dtype."""
    names, shown = in_axes_order(rows), choosing.shown(rows)
    drawing, panels = facets([SWEEPS[axis].what for axis in names])
    for panel, axis in zip(panels, names, strict=True):
        of_axis = shown[shown["axis"] == axis]
        _lines(panel, of_axis, axis)
        panel.set_yscale("log")
        measured_ticks(panel, of_axis["swept"])
        decimal_ticks(panel.yaxis)
        panel.set(xlabel=axis, ylabel="time (ms)")
    legend(drawing, ways_in_order(shown["way"]))
    return drawing


def _lines(panel: Axes, rows: Frame, axis: str) -> None:
    for way in ways_in_order(rows["way"]):
        line = rows[rows["way"] == way]
        titles = [_said(row, axis) for row in line.to_dict("records")]
        ends = {name: MS * line[f"seconds{end}"] for name, end in ENDS.items()}
        course(panel, line.assign(title=titles, **ends), "swept", look(way), size=4.6)


def _said(row: Any, axis: str) -> str:
    return f"{row['way']}, {row['dtype']}, {axis} {row['swept']}: {show.seconds(row['seconds'])}, " + show.plural(
        int(row["processes"]), "process"
    )


def _tables(scope: Scope, frames: Frames) -> Iterator[Table]:
    fits, changes, scaled = frames["sweep_exponents"], frames["crossovers"], frames["scaling"]
    if len(fits):
        yield exponent_table(scope, fits)
    if len(changes[changes["crossing"] == "yes"]):
        yield crossover_table(scope, changes[changes["crossing"] == "yes"])
    if len(scaled):
        yield scaling_table(scope, scaled)


def exponent_table(scope: Scope, fits: Frame) -> Table:
    """How fast times grow: a row per axis and way, a column per dtype, of the upper half of the values too where they
    are enough. fits: of one scope.
    """
    shown = {(row.axis, row.way, row.dtype): row for row in fits.itertuples(index=False)}
    columns: dict[str, Any] = {"axis": lambda row: row.axis, "way": lambda row: row.way}
    halves = set(fits.loc[fits["half"].notna(), "dtype"])
    for dtype in dtypes_in_order(fits["dtype"]):
        columns[dtype] = lambda row, dtype=dtype: _fit(shown.get((row.axis, row.way, dtype)), EXPONENT)
        if dtype in halves:
            columns[f"{dtype}, upper half"] = lambda row, dtype=dtype: _fit(shown.get((row.axis, row.way, dtype)), HALF)
    caption = (
        f"e in time ∝ value^e, {scope.label}: least-squares slope of log time against log value, one per process; "
    )
    caption += "their median, over all values of the sweep, and over the upper half of them, where calls are longer: "
    caption += (
        f"where the two differ, no power law holds. {BY_PROCESSES} Multiply-accumulates, counted layer by layer, "
    )
    caption += f"have the exponents {_operations(fits)}."
    name = slug("sweep-exponents", scope.machine, scope.device)
    rows = in_order(fits.drop_duplicates(["axis", "way"]))
    return table(name, caption, rows, columns, "sweep_exponents", range(2))


def in_order(rows: Frame) -> Frame:
    """By axis, then by dtype and way, in the suite's order."""
    places = {axis: place for place, axis in enumerate(SWEEPS)}
    return ordered(rows).sort_values("axis", key=lambda axes: axes.map(places), kind="stable")


def _operations(fits: Frame) -> str:
    """The exponents of the operation count, as in "channels 2.00, batch 1.00"."""
    finest = fits.sort_values("values", kind="stable").drop_duplicates("axis", keep="last").set_index("axis")
    return ", ".join(f"{axis} {show.signed(f'{finest.operations[axis]:.2f}')}" for axis in in_axes_order(fits))


def _fit(row: Any, names: tuple[str, ...]) -> Text:
    values = [getattr(row, name) for name in names] if row is not None else [math.nan]
    return Text(show.number(*values), show.interval(*values) if len(values) > 1 else "")


def crossover_table(scope: Scope, rows: Frame) -> Table:
    """Where one way overtakes another. rows: of one scope."""
    columns = {
        "axis": lambda row: row.axis,
        "dtype": lambda row: row.dtype,
        "less time before": lambda row: row.before,
        "less time after": lambda row: row.after,
        "at": lambda row: Text(show.number(*_at(row)), show.interval(*_at(row))),
        "decided": lambda row: f"{row.decided} of {row.values}",
    }
    caption = f"Where one of two ways overtakes the other, `{BASELINE}` or `{sweeps.UNFOLD}` among them, "
    caption += f"{scope.label}. In each process the ratio of their times is interpolated linearly, in both logarithms, "
    caption += "between the two values next to it at which there is a verdict; told is the median of where it is 1. "
    caption += f"{BY_PROCESSES} Decided: values with a verdict. The CSV has the pairs that do not cross as well."
    rows = in_order(rows.assign(way=rows["after"]))
    return table(slug("crossovers", scope.machine, scope.device), caption, rows, columns, "crossovers", range(4))


def _at(row: Any) -> list[float]:
    return [getattr(row, name) for name in AT]


def scaling_table(scope: Scope, rows: Frame) -> Table:
    """How much faster more threads are. rows: of one scope."""
    columns: dict[str, Any] = {
        "problem": lambda row: row.problem,
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way,
        "threads": lambda row: str(row.threads),
        "time": lambda row: show.seconds(row.seconds),
        "speedup over one thread": speedup_text,
    }
    caption = f"How many times as fast a layer is on several threads as on one, {scope.label}: 32 → 32 channels, 3×3, "
    caption += "images of the width in the name. One thread and several are timed in processes of their "
    caption += f"own; the k-th of either are compared, which run soon after each other. {BY_PROCESSES} {VERDICTS_READ}"
    places = {name: place for place, name in enumerate(problems_in_order(rows["problem"]))}
    rows = ordered(rows).sort_values("problem", key=lambda names: names.map(places), kind="stable")
    return table(slug("scaling", scope.machine, scope.device), caption, rows, columns, "scaling", range(3))


def notes(data: StudyData) -> Iterator[str]:
    """What is not in the figures: cells that failed."""
    cells = data.cells[data.cells["problem"].isin(PLACES) & (data.cells["status"] == "failed")]
    if len(cells):
        first = cells.iloc[0]
        text = f"{show.plural(len(cells), 'cell')} of the sweeps failed, left out; the first: {first['way']} on "
        yield f"{text}{first['problem']} in {first['dtype']}, {first['reason']}."


def answer(frames: Frames) -> str:
    """Who leads where, in the first of the dtypes that matter; and the transforms."""
    times = frames["sweeps"]
    dtype = main_dtype(times)
    of_dtype = {name: rows[rows["dtype"] == dtype] for name, rows in frames.items()}
    parts = (_leaders(of_dtype["sweeps"]), _overtaken(of_dtype["crossovers"]), transforms(of_dtype["transforms"]))
    return f"In {dtype}, " + " ".join(text for text in parts if text)


def _leaders(times: Frame) -> str:
    """On how many problems each way is faster than every other, and at which values."""
    problems, led = times["problem"].nunique(), times[times["leads"]]
    text = f"{show.of_these(problems, 'problem', 'the')} one way is faster than every other, by intervals "
    text += f"{wording.process_kind(times['processes'])}, on {len(led)}"
    shares = [f"`{way}` on {_where(led[led['way'] == way])}" for way in ways_in_order(led["way"])]
    return f"{text}{': ' if shares else ''}{'; '.join(shares)}."


def _where(rows: Frame) -> str:
    """As in "9 (kernel 9 to 15; batch 32)": runs of neighbouring values, by axis."""
    parts = []
    for axis in in_axes_order(rows):
        values = sorted(rows.loc[rows["axis"] == axis, "swept"])
        parts.append(f"{axis} {_runs(values, SWEEPS[axis].values)}")
    return f"{len(rows)} ({'; '.join(parts)})"


def _runs(values: list[int], all_values: tuple[int, ...]) -> str:
    """As in "8, 32 to 128": those next to each other among all values together."""
    runs: list[list[int]] = []
    for value in values:
        after = bool(runs) and all_values.index(value) == all_values.index(runs[-1][-1]) + 1
        runs = [*runs[:-1], [*runs[-1], value]] if after else [*runs, [value]]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _overtaken(rows: Frame) -> str:
    """Where the baseline loses its lead, or takes it."""
    crossed = in_order(rows[rows["crossing"] == "yes"].assign(way=lambda each: each["after"]))
    crossed = crossed[crossed["first"] == BASELINE]
    parts = [
        f"from {row.axis} {show.with_interval(*_at(row))} on `{row.after}` takes less time than `{row.before}`"
        for row in crossed.itertuples(index=False)
    ]
    alone = _unbeaten(rows[rows["first"] == BASELINE])
    if alone:
        parts.append(f"along {wording.listed(alone)} `{BASELINE}` leads every other way wherever there is a verdict")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _unbeaten(rows: Frame) -> list[str]:
    """The axes along which no way overtakes the baseline, or leads it."""
    found = []
    for axis in in_axes_order(rows):
        pairs = rows[rows["axis"] == axis]
        crossed, leading = (pairs["crossing"] == "yes").any(), set(pairs["after"]) - {""}
        found += [axis] if not crossed and leading == {BASELINE} else []
    return found


def transforms(rows: Frame) -> str:
    """Whether a transform beats unfold and product anywhere: by how much at most, or how little it loses at least."""
    parts = [_against(way, rows[rows["way"] == way]) for way in ways_in_order(rows["way"])]
    return f"Against `{sweeps.UNFOLD}`, {'; '.join(parts)}." if parts else ""


def _against(way: str, rows: Frame) -> str:
    counts = rows["verdict"].value_counts()
    text = f"`{way}` is faster on {counts.get('faster', 0)} and slower on {counts.get('slower', 0)} of the "
    text += f"{show.plural(len(rows), 'problem')} that it can compute"
    if counts.get("faster", 0):
        return f"{text} ({extremes.most(rows, 'faster')})"
    slower = rows[rows["verdict"] == "slower"]
    if not len(slower):
        return text
    row = slower.loc[slower["ratio"].idxmin()].to_dict()
    return f"{text} (least on {extremes.short(row['problem'])}: {extremes.factor(row, 'slower')} the time)"


def headline(data: StudyData, frames: Frames) -> str:
    """Who leads where."""
    return answer(frames) if len(frames["sweeps"]) else ""


SECTION = Section(
    "sweeps",
    "How times grow, and which way leads where",
    per_scope(part),
    lambda data: {
        "sweeps": sweeps.times(data.records),
        "sweep_exponents": sweeps.exponents(data.records),
        "crossovers": sweeps.crossovers(data.records),
        "transforms": sweeps.against_unfold(data.records),
        "scaling": sweeps.scaling(data.records),
    },
    intro="One number of a layer varies (32 → 32 channels, 3×3, padded, one image of 28×28; 112×112 where the stride "
    "varies), or the depth of a stack (3×3 layers of 16 channels, 32×32 outputs), all others stay. The transforms are "
    "written in the library’s own tensor operations: they multiply less, but read and write what they transform, so "
    "where they lose, that costs more than they save; in 16 bits they compute in float32 and round once. What is true "
    "of this layer need not be of others.",
    empty="No sweep was timed.",
    headlines={"Sweeps": headline},
    files={
        "sweeps": "Times along every sweep: one row per value and way.",
        "sweep_exponents": "How fast times grow: one row per sweep and way.",
        "crossovers": "Where a way takes the lead from another: one row per sweep, pair of ways and crossover.",
        "transforms": "Transforms against unfold and product: one row per value and transform.",
        "scaling": "Several threads against one: one row per problem, way and number of threads.",
    },
    columns={
        "axis": "what varies: channels, size (of the image), kernel, batch, stride, depth",
        "swept": "the value of what varies",
        "seconds_lower": "lower end of the 95 % interval for the seconds, between processes",
        "seconds_upper": "upper end of the same",
        "leads": "whether the way is faster, by verdict, than every other",
        "exponent": "e in time ∝ value^e: median over processes of the least-squares slope in both logarithms",
        "exponent_lower": "lower end of its 95 % interval, between processes",
        "exponent_upper": "upper end of the same",
        "half": "the same of the upper half of the values",
        "half_lower": "lower end of its 95 % interval, between processes",
        "half_upper": "upper end of the same",
        "operations": "the same of macs, over all values",
        "least_value": "the least value that was timed",
        "most_value": "the largest of them",
        "values": "how many values were timed",
        "first": "the first of two ways",
        "second": "the second of two ways",
        "crossing": "yes; no: one of the two, `after`, leads wherever there is a verdict; undecided: there is none",
        "before": "the way that takes less time below `at`; empty where the two do not cross",
        "after": "the way that takes less time above `at`, or wherever there is a verdict",
        "at": "where the two take equally long, interpolated linearly in both logarithms: median over processes",
        "at_lower": "lower end of its 95 % interval, between processes",
        "at_upper": "upper end of the same",
        "decided": "values at which there is a verdict",
    },
)
