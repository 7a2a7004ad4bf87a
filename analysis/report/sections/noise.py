"""The noise floor: what the controls, and calls that are the same under two names, say about intervals and verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from analysis.data.frames import Frame, Series, framed, ordered
from analysis.data.records import PLACE, Records
from analysis.data.study_data import Scope, StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import Drawing, by_dtype, decimal_ticks, facets, key, marks, styled
from analysis.report.section import Content, Frames, Plot, Section, joined, plot, within
from analysis.report.sections.speed import over, with_interval
from analysis.report.style import INK, MARKERS, PALETTE
from analysis.report.tables import Table, count_of, table
from linear_lasagna.intervals import MARGIN
from linear_lasagna.timing import compare

NOISE = [*PLACE, "ratio", "ratio_lower", "ratio_upper", "verdict", "processes", "blocks", "between", "within"]
DECIDED = ("faster", "slower")
SHARES = (50, 90)  # per cent of the controls, that have a mark
LEAST_SHOWN = 0.01  # per cent of difference: a logarithmic axis has no 0
STRONG = 0.5  # an autocorrelation with which an interval covers far less than it says


def controls(records: Records) -> Frame:
    """One row per control, judged as if it were another way: by its interval and the fixed margin alone."""
    rows = []
    for record in records:
        timings, trial = record.timings, record.trial
        if timings and {trial.baseline, trial.control} <= timings[0].samples.keys():
            found = compare(timings, trial.baseline, control=None, only={trial.control})[trial.control]
            counts = (found.processes, found.blocks, found.between, found.within)
            rows.append((*record.place.values(), found.ratio, found.lower, found.upper, found.verdict, *counts))
    return framed(rows, NOISE)


def same_calls(records: Records, speedups: Frame) -> Frame:
    """The speedups, with published verdicts, of planned ways whose plan left every layer alone: the baseline's own call
    under another name, which no verdict of faster or slower should tell from it.
    """
    same = {
        (*record.place.values(), way)
        for record in records
        for way, cell in record.trial.cells.items()
        if cell.runs is not None
        and len(cell.runs) == record.trial.problem.depth
        and way.partition("/")[2] == record.trial.baseline
    }
    keys = speedups[[*PLACE, "way"]].itertuples(index=False, name=None)
    return speedups[[key in same for key in keys]].reset_index(drop=True)


def noise_floor(frame: Frame, by: list[str]) -> Frame:
    """By how much the longer of control and baseline takes longer: median, 90th percentile, largest; and how many the
    interval and the fixed margin alone would call faster or slower. The published rule calls none so: the control sets
    its margin.
    """
    sizes = frame.assign(size=apart(frame["ratio"]))
    sizes["false"] = sizes["verdict"].isin(["faster", "slower"])
    grouped = sizes.groupby(by, sort=True)
    floor = grouped["size"].agg(controls="size", median="median", p90=lambda v: v.quantile(0.9), largest="max")
    return floor.join(grouped["false"].sum().rename("false_verdicts")).reset_index()


def apart(ratios: Series) -> Series:
    """By how much the longer of two times is longer, as a share of the shorter."""
    import numpy

    return numpy.maximum(ratios, 1 / ratios) - 1


def frames(data: StudyData) -> Frames:
    """noise: the controls; noise_floor: what they show together; same_calls: one call under two names."""
    control_times = controls(data.records)
    floor = noise_floor(control_times, ["machine", "device", "dtype"]) if len(control_times) else control_times
    return {"noise": control_times, "noise_floor": floor, "same_calls": same_calls(data.records, data.compared)}


def content(data: StudyData, frames: Frames) -> Content:
    def part(scope: Scope) -> Content:
        scoped = within(scope, frames)
        sentences = (note for note in notes(scoped, data.within(scope).compared) if note)
        return Content((_noise_plot(scope, scoped["noise"]),), answer=reach(scoped["noise"]), notes=tuple(sentences))

    if not len(frames["noise"]):
        return Content()
    scopes = [scope for scope in data.scopes if len(scope.of(frames["noise"]))]
    return replace(joined((scope, part(scope)) for scope in scopes), tables=(noise_table(frames),))


def _noise_plot(scope: Scope, rows: Frame) -> Plot:
    differences = apart(rows["ratio"])
    caption = f"By how much the control's time differs from the baseline's, {scope.label}: the share of the controls "
    caption += (
        f"that differ by less, one line per dtype; n = {show.plural(len(rows), 'control')}, each the median over "
    )
    caption += f"{over(rows)}. Marks: half of the controls, and nine of ten. Vertical line: the margin of "
    caption += f"{100 * MARGIN:g} %, within which no difference counts. Up is better; logarithmic across."
    alt = "Rising lines on a logarithmic axis of differences. Half of the controls differ by less than "
    alt += f"{show.percent(float(differences.median()))}, nine of ten by less than "
    alt += f"{show.percent(float(differences.quantile(0.9)))}, all by {show.percent(float(differences.max()))} at most."
    return plot("fig-noise", caption, alt, "noise", figure(rows, MARGIN))


@styled
def figure(frame: Frame, margin: float) -> Drawing:
    """What share of the controls differs from the baseline by less than so much, a line per dtype. frame: `controls`;
    margin: the |log ratio| below which no difference counts.
    """
    drawing, [panel] = facets([""])
    for (dtype, rows), colour, marker in zip(by_dtype(frame), PALETTE, MARKERS, strict=False):
        differences = (100 * apart(rows["ratio"])).clip(lower=LEAST_SHOWN).sort_values()
        shares = [100 * (place + 1) / len(rows) for place in range(len(rows))]
        panel.step(differences, shares, where="post", color=colour, linewidth=1.2)
        ends = [float(differences.quantile(share / 100)) for share in SHARES]
        titles = [
            f"{dtype}: {share} % of {show.plural(len(rows), 'control')} differ by less than {show.significant(end)} %"
            for share, end in zip(SHARES, ends, strict=True)
        ]
        marks(panel, ends, SHARES, titles, (colour, marker))
        drawing.handles.append(key(dtype, colour, marker, "-"))
    panel.set_xscale("log")
    decimal_ticks(panel.xaxis)
    panel.axvline(100 * math.expm1(margin), color=INK, linewidth=0.9, zorder=1)
    panel.set(ylim=(0, 103), xlabel="difference (%)", ylabel="controls that differ by less (%)")
    panel.grid(axis="both")
    return drawing


def noise_table(frames: Frames) -> Table:
    """What the controls show, per machine, device and dtype."""
    rows, kind = frames["noise_floor"].assign(way=""), wording.process_kind(with_interval(frames["noise"])["processes"])
    columns = {
        "machine": lambda row: row.machine,
        "device": lambda row: row.device,
        "dtype": lambda row: row.dtype,
        "controls": lambda row: str(row.controls),
        "median": lambda row: show.percent(row.median),
        "90th percentile": lambda row: show.percent(row.p90),
        "largest": lambda row: show.percent(row.largest),
        "false verdicts": count_of("false_verdicts"),
    }
    caption = "How far two timings of the same call, control and baseline, lie apart: the longer / the shorter − 1. "
    if kind:
        caption += f"False verdicts: the interval, {kind}, and the fixed margin of 1 % alone would call the control "
        caption += "faster or slower. The published rule calls none so, because the control sets its margin."
    else:
        caption += "No control has an interval, so that there are no false verdicts to count."
    caption += plans_told(frames["same_calls"])
    return table("noise-floor", caption, ordered(rows), columns, "noise", (0, 1, 2))


def false_verdicts(rows: Frame, same: Frame) -> str:
    """How often a call was told from itself: controls, by interval alone; and by the very rule of all verdicts, plans
    that leave the stack as it is. It ends a sentence.
    """
    rows = with_interval(rows)
    if not len(rows):
        return "none has an interval." + plans_told(same)
    false = rows.loc[rows["verdict"].isin(DECIDED), "verdict"].value_counts()
    share = f" ({show.percent(false.sum() / len(rows))})" if len(false) else ""
    sides = ", ".join(f"{count} {verdict}" for verdict, count in sorted(false.items()))
    kind = wording.process_kind(rows["processes"])
    text = f"by interval {kind} and a margin of {100 * MARGIN:g} % alone, {false.sum() or 'none'} of the "
    text += f"{len(rows)} with an interval{share} would be told apart{f': {sides}' if sides else ''}."
    return text + plans_told(same)


def plans_told(same: Frame) -> str:
    """How often the rule of all verdicts tells plans that leave the stack as it is from the stack; "" for no plan."""
    if not len(same):
        return ""
    told = int(same["verdict"].isin(DECIDED).sum())
    text = " By the rule of all verdicts the baseline's own call under another name, that of a plan that merges "
    return f"{text}nothing, was told from it on {told or 'none'} of {len(same)}."


def notes(frames: Frames, speedups: Frame) -> Iterator[str]:
    """What the section says below its table."""
    yield sides(frames["noise"])
    yield serial_dependence(speedups)


def sign_test(less: int, count: int) -> float:
    """The exact two-sided p-value of `less` of `count` signs, where either sign has probability 1/2."""
    tail = sum(math.comb(count, k) for k in range(min(less, count - less) + 1))
    return min(1.0, 2 * tail / 2**count)


def sides(controls: Frame) -> str:
    """Whether the order in which a block is built favours the control, by a two-sided sign test."""
    unequal = controls.loc[controls["ratio"] != 1, "ratio"]
    less = int((unequal < 1).sum())
    if not len(unequal):
        return ""
    chance = sign_test(less, len(unequal))
    text = (
        f"By estimates the control took less time than the baseline in {less} of {show.plural(len(unequal), 'trial')}; "
    )
    return text + f"if order favoured neither, a split so uneven would have a probability of {chance:.2g}."


def serial_dependence(speedups: Frame) -> str:
    """Whether the blocks of trials of one process follow each other by chance."""
    rows = speedups[speedups["autocorrelation"].notna() & (speedups["processes"] == 1)]
    if not len(rows):
        return ""
    mean = show.signed(f"{rows['autocorrelation'].mean():.3f}")
    strong = show.percent(float((rows["autocorrelation"] > STRONG).mean()))
    text = "Within one process blocks may depend on each other. The lag-1 autocorrelation of their log ratios is "
    text += (
        f"{mean} in the mean of {show.plural(len(rows), 'cell')}, where independent blocks would show about 0; it is "
    )
    text += f"above {STRONG:g} in {strong}. Where the blocks of a trial show more than chance could, its intervals are "
    return text + "wider for it."


def reach(rows: Frame) -> str:
    """What the controls' intervals hold for."""
    kind = wording.process_kind(with_interval(rows)["processes"])
    if kind in ("", wording.WITHIN):
        return "All was timed within one process per trial: what differs from one to the next is in no number here."
    return f"Ratios and intervals are {kind}."


def headline(data: StudyData, frames: Frames) -> str:
    """How far two timings of the same call lie apart."""
    if not len(frames["noise"]):
        return ""
    row = noise_floor(frames["noise"].assign(all=0), ["all"]).iloc[0]
    several = int((frames["noise"]["processes"] > 1).sum())
    text = "The same call under two names, each one's ratio the median over its processes, differs"
    text = text if several else "Two timings of the same call in one process differ"
    text += f" by {show.percent(row['median'])} in the median and by "
    text += f"{show.percent(row['p90'])} at the 90th percentile of {show.plural(int(row['controls']), 'control')}; "
    return text + false_verdicts(frames["noise"], frames["same_calls"]) + spread(data.compared, frames["noise"])


def spread(speedups: Frame, controls: Frame) -> str:
    """How far the processes of a cell lie apart, beside the blocks of one: of other ways, and of the control."""
    ways = speedups[~speedups["control"].astype(bool)]
    found = {"ways": deviations(ways), "the control": deviations(controls)}
    told = [f"of {who} {text}" for who, text in found.items() if text]
    return f" Standard deviations of the ratio to the baseline: {'; '.join(told)}." if told else ""


def deviations(rows: Frame) -> str:
    """As in "5.8 % between processes and 9.8 % between blocks of one (medians of 387 cells with both)"; "" for none."""
    known = rows[rows["between"].notna() & rows["within"].notna()]
    if not len(known):
        return ""
    between, within = (show.percent(float(known[name].median())) for name in ("between", "within"))
    cells = show.plural(len(known), "cell")
    return f"{between} between processes and {within} between blocks of one (medians of {cells} with both)"


SECTION = Section(
    "noise",
    "Noise floor",
    content,
    frames,
    intro="The control is the baseline a second time, timed like any other way in the same processes.",
    empty="No control was timed.",
    headlines={"Noise floor": headline},
    files={"noise": "One row per control.", "noise_floor": "What the controls show together."},
    columns={
        "controls": "number of controls",
        "p90": "90th percentile of (longer / shorter − 1), of control and baseline",
        "largest": "the largest of the same",
        "false_verdicts": "controls that the interval and the fixed margin alone would call faster or slower",
    },
)
