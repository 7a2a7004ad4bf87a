"""The experiment `reproducibility`: what changes an image's bits, and what it costs that nothing does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, Series, dtypes_in_order, ways_in_order
from analysis.data.study_data import Scope, StudyData
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import Drawing, cell_ticks, cells, facets, shade, styled
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.tables import Table, Text, in_order, slug, wide_table
from linear_lasagna.vocabulary import BASELINE, CONTROL, PERTURBATIONS, REMEDIES

PLACE = ["machine", "device", "dtype"]
KEYS = [*PLACE, "problem", "way", "remedy", "perturbation"]
RATIO = ["ratio", "ratio_lower", "ratio_upper"]
NAMED = {
    "batch": "the batch",
    "threads": "the number of threads",
    "layout": "the order in memory",
    "offset": "the address",
    "crop": "a crop",
    "stride": "the stride",
    "channels": "the number of output channels",
    "instructions": "the instruction set",
    "method": f"the method (`{BASELINE}` instead)",
}
INSTEAD = f"{BASELINE} instead"
FORCING = "float64"  # the remedy against all


def frames(rows: Frame) -> Frames:
    """reproducibility: equal bits; reproducibility_costs: what forces them costs."""
    return {"reproducibility": equalities(rows), "reproducibility_costs": costs(rows)}


def equalities(rows: Frame) -> Frame:
    """Per place, problem, method, remedy ("" for the method as it is) and perturbation: equal, the share of outputs
    with equal bits, in the setting and seed with the fewest, and mean_equal over all; the largest ulps; how many
    settings, seeds and outputs.
    """
    compared = rows[(rows["status"] == "ok") & rows["equal"].notna()]
    return (
        compared.groupby(KEYS, sort=True)
        .agg(
            equal=("equal", "min"),
            mean_equal=("equal", "mean"),
            largest_ulps=("largest_ulps", _largest),
            settings=("setting", "nunique"),
            seeds=("seed", "nunique"),
            outputs=("outputs", "sum"),
        )
        .reset_index()
    )


def _largest(steps: Series) -> float:
    """NaN where one of them is unknown, because an output is not finite."""
    return float(steps.max(skipna=False))


def costs(rows: Frame) -> Frame:
    """Time / the method's as it is, of its remedies; and / the baseline's, of the methods as they are (remedy "")."""
    timed = rows[(rows["status"] == "ok") & (rows["ratio"] > 0)]
    columns = [*PLACE, "problem", "way", "remedy"]
    return timed[[*columns, *RATIO]].sort_values(columns, kind="stable", ignore_index=True)


def plain(equal: Frame) -> Frame:
    """The methods as they are."""
    return equal[equal["remedy"] == ""]


def pooled(equal: Frame) -> Frame:
    """Over problems: the least share, and the largest ulps."""
    keys = [*PLACE, "way", "remedy", "perturbation"]
    found = equal.groupby(keys, sort=True).agg(equal=("equal", "min"), largest_ulps=("largest_ulps", _largest))
    return found.reset_index()


def share(row: Any) -> str:
    """The share in per cent; "all" only where no bit of any case changed. row: of `pooled`."""
    if row.equal == 1:
        return "all"
    return "> 99.9 %" if row.equal > 0.999 else "< 0.1 %" if 0 < row.equal < 0.001 else show.percent(row.equal)


@styled
def figure(equal: Frame) -> Drawing:
    """The share of outputs with equal bits: one panel per dtype, perturbations by methods. equal: of `pooled`."""
    equal = choosing.shown(equal)
    dtypes, ways = dtypes_in_order(equal["dtype"]), ways_in_order(equal["way"])
    tried = in_order("perturbation", equal["perturbation"])
    drawing, panels = facets(dtypes, 17.0 * len(tried))
    for panel, dtype in zip(panels, dtypes, strict=True):
        grid = [
            (
                ways.index(row.way),
                tried.index(row.perturbation),
                shade(row.equal),
                share(row).removesuffix(" %"),
                _said(row),
            )
            for row in equal[equal["dtype"] == dtype].itertuples(index=False)
        ]
        cells(panel, grid, (len(ways), len(tried)))
        cell_ticks(panel, ways, tried)
    return drawing


def _said(row: Any) -> str:
    return f"{row.way}, {row.dtype}, {row.perturbation}: {share(row)} of the outputs keep their bits"


def atlas_table(name: str, equal: Frame, seeds: str) -> Table:
    """Methods by perturbations. equal: of `pooled`; seeds: as in "3 seeds"."""
    again = equal["perturbation"] == "repeat"
    repeated = not (equal.loc[again, "equal"] == 1).all()
    if not repeated:  # a column that says nothing; a note says so
        equal = equal[~again]
    caption = (
        "The share of an image's outputs that keep their bits under another batch and place in it (1 to 32 images), "
    )
    caption += (
        "thread count (1 to 8), order in memory, address, crop, stride, part of the output channels, instruction "
    )
    caption += (
        f"set (emulated), and method (`{BASELINE}` instead), over all settings, problems and {seeds}; in brackets "
    )
    caption += "the largest distance in ulps. All: no output of any case has other bits. Shares: no interval, for "
    caption += f"settings are chosen, not drawn. {'repeat: the same call again. ' if repeated else ''}"
    caption += "A dash: nothing to change, or not here."
    labels = {"dtype": "dtype", "way": "method"}
    heading = lambda each: INSTEAD if each == "method" else each  # noqa: E731
    return wide_table(name, caption, equal, labels, "perturbation", _cell, "reproducibility", heading)


def _cell(row: Any) -> Text:
    if row.equal == 1:
        return Text(share(row), kind="zero")
    return Text(share(row), "[∞]" if math.isnan(row.largest_ulps) else f"[{int(row.largest_ulps)}]")


def cost_table(name: str, found: Frame) -> Table:
    """Methods by remedies. found: of `costs` for one place."""
    geometric = lambda ratios: math.exp(sum(map(math.log, ratios)) / len(ratios))  # noqa: E731
    grouped = found.groupby(["dtype", "way", "remedy"], sort=True)["ratio"]
    rows = grouped.agg(ratio=geometric, least="min", most="max", problems="size").reset_index()
    rows = rows.assign(remedy=rows["remedy"].replace("", f"as it is / {BASELINE}"))
    caption = "Time of a batch with a remedy / without, on all cores, and of the method as it is / "
    caption += (
        f"`{BASELINE}`'s: geometric mean over {wording.span(rows['problems'], 'problem')}, in brackets the least "
    )
    caption += "and the largest of them. Measured interleaved, in one process: another may find others. control: the "
    caption += "method as it is a second time, the noise. Intervals within the process are in the CSV."
    labels = {"dtype": "dtype", "way": "method"}
    return wide_table(name, caption, rows, labels, "remedy", _ratio, "reproducibility_costs")


def _ratio(row: Any) -> Text:
    ends = f"[{show.significant(row.least, 2)}, {show.significant(row.most, 2)}]" if row.problems > 1 else ""
    return Text(show.times(row.ratio), ends)


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    equal, cost = frames["reproducibility"], frames["reproducibility_costs"]
    if not len(plain(equal)):
        return None
    methods = pooled(plain(equal))
    name, seeds = slug("reproducibility", scope.machine, scope.device), wording.seeds(plain(equal))
    caption = f"The share of an image's outputs that keep their bits ({scope.label}): one panel per dtype, what is "
    caption += f"changed by methods, in per cent; over all settings and problems, n = {seeds}. All: no bit of any case "
    caption += f"changed. Empty: nothing to change, or the method cannot compute it.{choosing.others(methods)}"
    seen = choosing.shown(methods)
    alt = f"Heat maps of methods by perturbations. In {int((seen['equal'] == 1).sum())} of "
    alt += f"{show.plural(len(seen), 'square')} all bits are kept."
    drawn = plot(f"fig-{name}", caption, alt, "reproducibility", figure(methods))
    tables = [atlas_table(name, methods, seeds)]
    tables += [cost_table(slug("reproducibility-costs", scope.machine, scope.device), cost)] if len(cost) else []
    return Content((drawn,), tuple(tables), answer(equal, cost), tuple(details(equal, cost)))


def answer(equal: Frame, cost: Frame) -> str:
    """What changes bits, in how many cases, and what forces that nothing does."""
    return " ".join(filter(None, (sentence(equal), forced(equal, cost))))


def sentence(equal: Frame) -> str:
    """In one sentence, how often an image's bits change. equal: of `equalities`."""
    own = plain(equal)
    tried = [name for name in in_order("perturbation", own["perturbation"]) if name in NAMED]
    if not tried:
        return ""
    text = f"With these {show.plural(own['way'].nunique(), 'method')} an image's bits change with "
    parts = [f"{NAMED[name]} in {_changed(own[own['perturbation'] == name])}" for name in tried]
    return f"{text}{wording.listed(parts)} cases (method, problem, dtype; {wording.seeds(own)})."


def _changed(rows: Frame) -> str:
    return f"{int((rows['equal'] < 1).sum())} of {len(rows)}"


def forced(equal: Frame, cost: Frame) -> str:
    """Whether computing in float64 and rounding once keeps all bits, and what that takes."""
    rows = equal[equal["remedy"] == FORCING]
    if not len(rows):
        return ""
    kept = int((rows["equal"] == 1).sum())
    text = f"Computed in float64 and rounded once, {kept} of {show.plural(len(rows), 'case')} (method, problem, dtype, "
    text += "perturbation) keep all bits"
    times = cost[(cost["remedy"] == FORCING) & (cost["way"] == BASELINE)]
    if len(times):
        median = times.groupby("dtype")["ratio"].median().reset_index()
        ratios = wording.by_dtype(median, lambda row: show.times(row.ratio))
        text += f"; relative to its usual time in one process, `{BASELINE}` then takes {ratios}"
    return f"{text}."


def details(equal: Frame, cost: Frame) -> Iterator[str]:
    """Calls that differ from themselves; the remedies; the fastest method that the batch does not change, by dtype."""
    own = plain(equal)
    again = own[own["perturbation"] == "repeat"]
    if len(again):
        yield f"The same call again gives other bits in {_changed(again)} cases."
    for remedy, rows in equal[equal["remedy"] != ""].groupby("remedy", sort=True):
        names = wording.listed(in_order("perturbation", rows["perturbation"]))
        yield f"{remedy}, against {names}: other bits in {_changed(rows)} cases."
    for dtype in dtypes_in_order(cost["dtype"]):
        if text := fastest(own[own["dtype"] == dtype], cost[cost["dtype"] == dtype]):
            yield f"{dtype}: {text}"


def fastest(own: Frame, cost: Frame) -> str:
    """The fastest of the methods whose bits never change with the batch, or how often each one's do. Of one dtype."""
    rows = own[own["perturbation"] == "batch"]
    steady = [way for way, cases in rows.groupby("way") if bool((cases["equal"] == 1).all())]
    if not len(rows) or not steady:
        return ""
    named = wording.listed(ways_in_order(steady))
    times = cost[(cost["remedy"] == "") & cost["way"].isin(steady)].groupby("way")["ratio"].median()
    text = f"no bit changes with the batch for {named}"
    if BASELINE in steady or not len(times):
        return f"{text}."
    return f"{text}; of these {times.idxmin()} takes the least time, {show.times(times.min())} {BASELINE}'s."


def headline(data: StudyData, frames: Frames) -> str:
    return sentence(frames["reproducibility"])


SECTION = experiment_section(
    "reproducibility",
    "reproducibility",
    "Does an image keep its bits?",
    frames,
    part,
    headlines={"Reproducibility": headline},
    on_threads="Computed with {}, but for what is compared under other numbers; timed on all cores.",
    files={
        "reproducibility": "How many outputs of an image keep their bits under each perturbation.",
        "reproducibility_costs": "What it takes to force equal bits, by times within one process.",
    },
    columns={
        "remedy": f"what was to force equal bits: {'; '.join(f'{name}: {about}' for name, about in REMEDIES.items())}; "
        f"{CONTROL}: nothing, a second time; empty: nothing",
        "perturbation": f"what was changed: {'; '.join(f'{name}: {about}' for name, about in PERTURBATIONS.items())}",
        "setting": "to what it was changed",
        "settings": "to how many settings it was changed",
        "mean_equal": "the mean of `equal` over settings and seeds",
    },
)
