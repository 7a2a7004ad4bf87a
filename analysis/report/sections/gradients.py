"""The experiment `gradients`: how the errors of a stack's gradients grow with depth, beside its output's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from analysis.data.frames import Frame, dtypes_in_order
from analysis.data.over_seeds import PLACE, SERIES, exponents, over_seeds
from analysis.data.study_data import Scope, StudyData
from analysis.findings.instructions import CPU, label
from analysis.precision.gradients import INPUT, OUTPUT, PARTS
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import Drawing, course, decimal_ticks, facets, key, measured_ticks, styled, told
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, Plot, plot
from analysis.report.style import MARKERS, PALETTE
from analysis.report.tables import Table, slug, wide_table, with_interval
from linear_lasagna.vocabulary import BASELINE, MERGED

KEYS = [*SERIES, "inputs", "way", "part"]
SHOWN = ["dtype", "signs", "inputs", "way", "part"]
SHARED = ["machine", "device", "dtype", "signs", "inputs", "way", "depth", "seed"]
TOLD = (INPUT, "first weight")  # in the sentence
CONSTANT = "last bias"  # a sum over the given gradient alone, whatever the depth


def frames(rows: Frame) -> Frames:
    """gradients: errors; gradient_ratios: over the output's; gradient_exponents: their growth."""
    own = observed(rows)
    return {
        "gradients": over_seeds(own, [*KEYS, "depth"], "error_u"),
        "gradient_ratios": over_seeds(over_output(own), [*KEYS, "depth"], "ratio"),
        "gradient_exponents": exponents(own, "depth", KEYS),
    }


def observed(rows: Frame) -> Frame:
    """The rows that have a positive error."""
    return rows[(rows["status"] == "ok") & (rows["error_u"] > 0) & rows["part"].notna()]


def over_output(own: Frame) -> Frame:
    """The gradients, with ratio: the error / that of the same way's output in the same draw."""
    output = own[own["part"] == OUTPUT][[*SHARED, "error_u"]].rename(columns={"error_u": "partner"})
    others = own[own["part"] != OUTPUT].merge(output, on=SHARED)
    return others.assign(ratio=others["error_u"] / others["partner"]).drop(columns="partner")


def main(found: Frame) -> Frame:
    """Of ReLU-like inputs, where there are any, as behind the layers of a network."""
    families = set(found["inputs"])
    return found[found["inputs"] == ("relu" if "relu" in families else sorted(families)[0])]


@styled
def figure(found: Frame) -> Drawing:
    """Error against depth, both logarithmic, a line per part, one panel per dtype. found: of one way and family."""
    dtypes, names = dtypes_in_order(found["dtype"]), [part for part in PARTS if part in set(found["part"])]
    looks = dict(zip(PARTS, zip(PALETTE, MARKERS, strict=False), strict=False))
    labels = {part: part if part == OUTPUT else f"gradient: {part}" for part in names}
    drawing, panels = facets(dtypes)
    for panel, dtype in zip(panels, dtypes, strict=True):
        for place, part in enumerate(names):
            line = found[(found["dtype"] == dtype) & (found["part"] == part)]
            titles = [told(f"{labels[part]}, {dtype}", f"depth {r['depth']}", r, "u") for r in line.to_dict("records")]
            course(panel, line.assign(title=titles), "depth", looks[part], size=6.4 - 0.6 * place)
        measured_ticks(panel, found["depth"])
        panel.set_yscale("log")
        decimal_ticks(panel.yaxis)
        panel.set(xlabel="depth (layers)", ylabel="relative L2 error (u)")
    drawing.handles += [key(labels[part], *looks[part], line="-") for part in names]
    return drawing


def exponent_table(name: str, fits: Frame) -> Table:
    """How fast each part's error grows with depth, one column per dtype. fits: of one place."""
    caption = "The exponent e in error ∝ depth^e of the output and of the gradients of input and layers: least-squares "
    caption += f"slope of log error against log depth, one per seed; their median over {wording.seeds(fits)}, "
    caption += f"{wording.depths(fits)}. {wording.TABLE} Merged beforehand, layers have no gradients of their own."
    rows = fits[fits["part"] != CONSTANT]
    labels = {"inputs": "inputs", "way": "way", "part": "part"}
    return wide_table(name, caption, rows, labels, "dtype", with_interval, "gradient_exponents")


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    found, ratios, fits = frames["gradients"], frames["gradient_ratios"], frames["gradient_exponents"]
    if not len(found):
        return None
    name = slug("gradients", scope.machine, scope.device)
    plain = main(found[found["way"] == BASELINE])
    plots = (_plot(scope, name, plain),) if len(plain) else ()
    tables = (exponent_table(f"{name}-exponents", fits),) if len(fits) else ()
    return Content(plots, tables, answer(ratios, fits))


def _plot(scope: Scope, name: str, found: Frame) -> Plot:
    caption = (
        f"Relative L2 error against depth ({scope.label}), `{BASELINE}`, both axes logarithmic: of the output and "
    )
    caption += "of the gradients of a random functional of it, each against its exact value; inputs: "
    caption += f"{found['inputs'].iloc[0]}. {wording.band(found)}"
    worst = found.loc[found["median"].idxmax()]
    alt = "Lines on logarithmic axes, one panel per dtype. The largest median error is "
    alt += f"{show.significant(worst['median'])} u, {worst['part']}, {worst['dtype']}, depth {worst['depth']}."
    return plot(f"fig-{name}", caption.replace("`", ""), alt, "gradients", figure(found))


def answer(ratios: Frame, fits: Frame) -> str:
    """How much larger the gradients' errors are than the output's, at the largest depth; how the input's grows."""
    own = main(ratios[ratios["way"] == BASELINE]) if len(ratios) else ratios
    if not len(own):
        return ""
    depth = int(own["depth"].max())
    deepest = own[own["depth"] == depth]
    parts = [name for name in TOLD if name in set(deepest["part"])]
    told = [f"{name} {wording.by_dtype(deepest[deepest['part'] == name], wording.median)}" for name in parts]
    text = f"At depth {depth} the error of a gradient / that of the output is, with `{BASELINE}` on "
    text += f"{deepest['inputs'].iloc[0]} inputs: {'; '.join(told)} ({wording.seeds(deepest)})."
    return f"{text} {growth(fits)}".strip()


def growth(fits: Frame) -> str:
    """The exponents of the input's gradient, stacked and merged."""
    own = main(fits[fits["part"] == INPUT]) if len(fits) else fits
    told = [(way, own[own["way"] == way]) for way in (BASELINE, MERGED) if len(own)]
    texts = [f"`{way}` {wording.by_dtype(rows, wording.median)}" for way, rows in told if len(rows)]
    return f"The input’s gradient has an error ∝ depth^e with e: {'; '.join(texts)}." if texts else ""


def dependence(rows: Frame, fits: Frame) -> Iterator[str]:
    """Whether exponents depend on the instruction set: whose intervals have nothing in common. fits: of all places."""
    labels = {place: label(own) for place, own in rows[rows["device"] == CPU].groupby(PLACE)}
    fits = fits[[place in labels for place in zip(fits["machine"], fits["device"], strict=True)]]
    sets = wording.listed([f"under {name}" for name in sorted(set(labels.values()))])
    whole = fits[fits["part"] != CONSTANT].dropna(subset=["lower", "upper"])
    groups = [own for _, own in whole.groupby(SHOWN, sort=True) if len(own) > 1]
    if len(set(labels.values())) < 2 or not groups:
        return
    apart = [own for own in groups if own["lower"].max() > own["upper"].min()]
    text = f"The intervals of {len(apart)} of {show.plural(len(groups), 'exponent')} do not meet {sets}"
    yield f"{text}; farthest apart: {_farthest(apart, labels)}." if apart else f"{text}."


def _farthest(apart: list[Frame], labels: Mapping[tuple[str, str], str]) -> str:
    """The exponent whose medians are farthest apart, under each set."""
    own = max(apart, key=lambda own: own["median"].max() - own["median"].min())
    each = sorted((labels[row.machine, row.device], wording.median(row)) for row in own.itertuples(index=False))
    told, first = wording.listed([f"{median} under {name}" for name, median in each]), own.iloc[0]
    return f"{first['part']}, `{first['way']}`, {first['dtype']}, {first['inputs']} inputs, {told}"


EXPERIMENT = experiment_section(
    "gradients",
    "gradients",
    "Errors of gradients by depth",
    frames,
    part,
    files={
        "gradients": "Errors of gradients, and of the output, by depth, over seeds.",
        "gradient_ratios": "Error of a gradient / that of the output of the same draw, over seeds.",
        "gradient_exponents": "How the errors of gradients grow with depth, over seeds.",
    },
    columns={
        "part": "in `gradients…`: the output, or which gradient (of the input; of weight or bias of the first or last "
        "layer); in `merging…`: total: the error; kernel: what rounding the merged kernel does; sum: what computing "
        "with it adds",
    },
)


def content(data: StudyData, frames: Frames) -> Content | None:
    """With what no place shows alone."""
    shown, rows = EXPERIMENT.content(data, frames), data.experiment("gradients")
    if shown is None or rows is None or not len(frames["gradient_exponents"]):
        return shown
    answer = " ".join([shown.answer, *dependence(rows, frames["gradient_exponents"])])
    return replace(shown, answer=answer)


SECTION = replace(EXPERIMENT, content=content)
