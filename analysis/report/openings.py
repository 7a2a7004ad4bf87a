"""The first sentences of the page's chapters: what their evidence says, "" where it says nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

from analysis.data import zoo
from analysis.data.frames import Frame, ways_in_order
from analysis.data.limits import fastest
from analysis.data.speedups import is_partial
from analysis.data.study_data import StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.section import Frames
from analysis.report.sections import articles, models, noise, rounded, runtimes, wins
from analysis.report.sections.depth import merging_headline
from analysis.report.sections.plans import COUNTED, MEASURED, itself, main_dtype, slower
from analysis.report.sections.speed import own_headline
from linear_lasagna.intervals import LEAST_PROCESSES
from linear_lasagna.vocabulary import BASELINE, MERGED

OUTCOMES: dict[str, Callable[[int], str]] = {
    articles.HOLDS: lambda count: "holds" if count == 1 else "hold",
    articles.FAILS: lambda count: "does not" if count == 1 else "do not",
    articles.UNDECIDED: lambda count: "is undecided" if count == 1 else "are undecided",
}
WORSE = 1.1  # times the baseline's error, from which on a way loses accuracy


def own(data: StudyData, frames: Frames) -> str:
    return own_headline(data, frames)


def merge(data: StudyData, frames: Frames) -> str:
    """How a stack merged whole, and one cut by a plan, do against the stack as it is."""
    parts = [_whole(data.speedups), _planned(frames.get("plans", ()))]
    return " ".join(part for part in parts if part)


def _whole(speedups: Frame) -> str:
    rows = speedups[speedups["group"].isin(["stacks", "borders", "throughput"]) & (speedups["way"] == MERGED)]
    return " ".join(_wholly(rows[rows["dtype"] == dtype], dtype) for dtype in wording.main_dtypes(rows["dtype"]))


def _wholly(rows: Frame, dtype: str) -> str:
    text = f"In {dtype}, merging the whole stack is {_verdicts(rows)} {show.of_these(len(rows), 'stack', 'the')}"
    far = rows[rows["speedup_lower"].isna() & (rows["ratio"] > wins.CLEARLY)]
    least = math.floor(far["ratio"].min()) if len(far) else 0
    take = "takes" if len(far) == 1 else "take"
    more = f"; of the others {len(far)} without an interval {take} over {least} times as long as stacked"
    return f"{text}{more if len(far) else ''}."


def _planned(plans: Frame) -> str:
    if not len(plans):
        return ""
    rows = plans[plans["dtype"] == main_dtype(plans)]
    measured, counted = rows[rows["way"] == MEASURED], rows[rows["way"] == COUNTED]
    if not len(measured):
        return ""
    text = f"Merging only the runs of layers that were measured to pay (`{MEASURED}`) is "
    text += f"{_verdicts(measured[~itself(measured)])} "
    padded = int((measured["group"] == "borders").sum())
    text += f"of {show.plural(len(measured), 'stack')}{f', {padded} of them padded' if padded else ''}, against the "
    text += "better of both"
    return f"{text}; deciding by operation count is slower on {slower(counted)}." if len(counted) else f"{text}."


def _verdicts(rows: Frame) -> str:
    """As in "faster on 7 and slower on 3"."""
    counts = rows["verdict"].value_counts()
    return f"faster on {counts.get('faster', 0)} and slower on {counts.get('slower', 0)}"


def method(data: StudyData, frames: Frames) -> str:
    """Which way is clearly fastest on how many layers of networks."""
    winners = frames.get("winners", ())
    rows = winners[winners["group"] == "networks"] if len(winners) else winners
    if not len(rows):
        return ""
    return " ".join(_clearly(rows[rows["dtype"] == dtype], dtype) for dtype in wording.main_dtypes(rows["dtype"]))


def _clearly(rows: Frame, dtype: str) -> str:
    """As in "Single layers, float32: `fft` is clearly fastest on 10 of 32 layers, others on 7; on 15 none is."."""
    counts = rows.loc[rows["way"] != "", "way"].value_counts()
    layers, none = show.plural(len(rows), "layer"), int((rows["way"] == "").sum())
    if not len(counts):
        few = rows["processes"].between(2, LEAST_PROCESSES - 1).all()
        why = f", for intervals need {LEAST_PROCESSES} processes" if few else ""
        return f"Single layers, {dtype}: no way is clearly fastest on any of {layers}{why}."
    ways = sorted(counts.index, key=lambda way: (-counts[way], ways_in_order([way]), way))
    others = int(counts.sum() - counts[ways[0]])
    text = f"Single layers, {dtype}: `{ways[0]}` is clearly fastest on {counts[ways[0]]} of {layers}"
    text += f", others on {others}" if others else ""
    return f"{text}; on {none} none is." if none else f"{text}."


def scaling(data: StudyData, frames: Frames) -> str:
    """Who leads the sweeps, and what share of the attainable the fastest ways reach."""
    parts = [_leaders(frames.get("sweeps", ())), _shares(frames.get("limits", ()))]
    return " ".join(part for part in parts if part)


def _leaders(times: Frame) -> str:
    if not len(times):
        return ""
    dtype = main_dtype(times)
    times = times[times["dtype"] == dtype]
    led, problems = times[times["leads"]], times["problem"].nunique()
    counts = [(way, int((led["way"] == way).sum())) for way in ways_in_order(led["way"])]
    if not counts:
        told = show.plural(problems, "problem")
        return f"Along the sweeps in {dtype}, no way is clearly fastest on any of {told}."
    (first, most), *others = sorted(counts, key=lambda each: -each[1])
    ways = show.of_these(times["way"].nunique(), "way", "the")
    text = f"Along the sweeps in {dtype}, `{first}` is clearly fastest {ways} timed there on {most} "
    text += f"of {show.plural(problems, 'problem')}"
    return wording.listed([text, *(f"`{way}` on {count}" for way, count in others)]) + "."


def _shares(limits: Frame) -> str:
    if not len(limits):
        return ""
    best = fastest(limits)
    parts = []
    for dtype in wording.main_dtypes(best["dtype"]):
        shares = best.loc[best["dtype"] == dtype, "share"]
        ends = f"{show.percent(float(shares.min()))} to {show.percent(float(shares.max()))}"
        problems = show.plural(len(shares), "problem")
        parts.append(f"{show.percent(float(shares.median()))} ({ends}, {problems}) in {dtype}")
    text = "Of what products and copies attain here, the fastest way of a problem reaches in the median "
    return f"{text}{wording.listed(parts)}."


def precision(data: StudyData, frames: Frames) -> str:
    """How the error grows with depth, and what merging makes of it."""
    parts = [_growth(frames.get("exponents", ()))]
    parts += [merging_headline(data, frames)] if "merge_ratios" in frames else []
    return " ".join(part for part in parts if part)


def _growth(fits: Frame) -> str:
    if not len(fits):
        return ""
    rows = fits[(fits["way"] == BASELINE) & (fits["signs"] == "random")]
    if not len(rows):
        return ""
    exponents = wording.by_dtype(rows, wording.median)
    text = "Layer by layer, with weights and inputs of random sign, the error of a plain stack grows as depth^e: e is "
    return (
        f"{text}{exponents} (depths {rows['least_depth'].min()} to {rows['most_depth'].max()}, {wording.seeds(rows)})."
    )


def trade_off(data: StudyData, frames: Frames) -> str:
    """On how many trials the fastest way errs more than the baseline, and on how many less."""
    costs = data.costs
    if not len(costs):
        return ""
    parts = [part for dtype in wording.main_dtypes(costs["dtype"]) if (part := _loses(costs[costs["dtype"] == dtype]))]
    if not parts:
        return ""
    text = f"The error of the fastest way, by estimate, against that of `{BASELINE}`: by a factor of over {WORSE:g} "
    return f"{text}{wording.listed(parts)}."


def _loses(costs: Frame) -> str:
    keys = ["machine", "device", "group", "problem", "dtype"]
    known = costs[(costs["error_u"] >= 0) & ~costs["way"].map(is_partial).astype(bool)]
    best = known.loc[known.groupby(keys, sort=False)["ratio"].idxmin()]
    errors = known[known["baseline"]].set_index(keys)["error_u"].rename("baseline_error")
    both = best.join(errors, on=keys).dropna(subset=["baseline_error"])
    if not len(both):
        return ""
    worse = int((both["error_u"] > WORSE * both["baseline_error"]).sum())
    better = int((WORSE * both["error_u"] < both["baseline_error"]).sum())
    return (
        f"larger on {worse} and smaller on {better} of {show.plural(len(both), 'problem')} in {both.iloc[0]['dtype']}"
    )


def real_models(data: StudyData, frames: Frames) -> str:
    """How many architectures are accepted and changed."""
    if "models" not in frames:
        return ""
    rows = frames["models"]
    found, changed = zoo.summary(rows), zoo.changed(rows)
    text = f"On {models.machine(rows)}: of {int(found['built'].sum())} architectures by others and this suite, tried "
    text += "so far without weights, "
    text += f"{int(found['accepted'].sum())} are accepted; in {len(changed)} something is merged or folded"
    told = models.verdicts(changed)
    return f"{text}: {told}." if told else f"{text}."


def other_runtimes(data: StudyData, frames: Frames) -> str:
    """The fastest runtime of every problem that several computed."""
    return runtimes.headline(data, frames) if "runtimes" in frames else ""


def non_linear(data: StudyData, frames: Frames) -> str:
    """What a stack that computes by rounding classifies wrongly, and its merged kernel."""
    found = frames.get("rounded", ())
    return rounded.answer(found) if len(found) else ""


def trust(data: StudyData, frames: Frames) -> str:
    """How far apart the same call under two names lies, and processes of one way."""
    parts = [_same_call(frames["noise"])] if len(frames.get("noise", ())) else []
    told = noise.deviations(data.compared[~data.compared["control"].astype(bool)])
    parts += [f"A way's ratio to the baseline has a standard deviation of {told}."] if told else []
    return " ".join(parts)


def _same_call(controls: Frame) -> str:
    row = noise.noise_floor(controls.assign(all=0), ["all"]).iloc[0]
    text = f"The same call timed twice differs by {show.percent(row['median'])} in the median, and by at most "
    return f"{text}{show.percent(row['p90'])} in nine of ten of {show.plural(int(row['controls']), 'control')}."


def claims(data: StudyData, frames: Frames) -> str:
    """How many of the articles' claims hold."""
    rows = frames.get("articles", ())
    if not len(rows):
        return ""
    counts = rows["outcome"].value_counts()
    told = [f"{counts[name]} {say(counts[name])}" for name, say in OUTCOMES.items() if name in counts]
    return (
        f"Of {show.plural(len(rows), 'claim')} of the two articles that this study could test: {wording.listed(told)}."
    )
