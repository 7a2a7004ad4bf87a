"""The experiment `coarse`: mistakes of stacks that were trained through their rounding, against significand bits."""

from __future__ import annotations

from typing import Any

from analysis.data.frames import Frame, framed, usable
from analysis.data.over_seeds import PLACE, over_seeds
from analysis.data.study_data import Scope
from analysis.precision.coarse import EIGHT_BITS, NARROWLY
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import Drawing, course, facets, in_per_cent, key, marks, styled, told
from analysis.report.section import Content, Frames, plot
from analysis.report.sections.findings import section
from analysis.report.style import BLUE, GREEN, INK, VERMILION
from analysis.report.tables import Table, Text, slug, table, with_interval

KEYS = [*PLACE, "problem", "format", "significand_bits"]
STACK, TWIN, LINEAR, RELU = "the stack", "the same numbers in float64", "best linear classifier", "with ReLU"
CURVES = {"wrong": STACK, "float64_wrong": TWIN, "linear_wrong": LINEAR, "relu_wrong": RELU}
LOOKS = {  # colour, marker and dashes
    STACK: (VERMILION, "o", "-"),
    TWIN: (BLUE, "s", "-"),
    LINEAR: (INK, "v", "--"),
    RELU: (GREEN, "^", ":"),
}


def mistakes(rows: Frame) -> Frame:
    """Per setting, format and model the median share of images that are classified wrongly."""
    own = usable(rows)
    known = {column: own[own[column].notna()] for column in CURVES if column in own}
    found = [over_seeds(each, KEYS, column).assign(model=CURVES[column]) for column, each in known.items() if len(each)]
    if not found:
        return framed([], [*KEYS, "model", "median", "lower", "upper", "seeds", "cells"])
    import pandas

    return pandas.concat(found, ignore_index=True)


def discordant(rows: Frame) -> Frame:
    """Per setting and format, over all seeds: how often the stack differs from the same numbers in float64."""
    own = usable(rows)
    if "p_value" not in own:
        own = own.reindex(columns=[*own.columns, "p_value", "gained", "lost"])
    own = own.assign(significant=(own["p_value"] < 0.05) & (own["gained"] > own["lost"]))
    sums = own.groupby(KEYS, sort=True).agg(
        gained=("gained", "sum"), lost=("lost", "sum"), significant=("significant", "sum"), seeds=("seed", "nunique")
    )
    return sums.reset_index()


def said(problem: str) -> str:
    """A setting, as in "biases 4"."""
    return "narrow sums" if problem == NARROWLY.name else problem.replace("_", " ")


@styled
def figure(found: Frame) -> Drawing:
    """Mistakes by significand bits, a panel per setting. The formats of 8 bits are marks without a line."""
    problems, found = sorted(set(found["problem"]), key=_place), in_per_cent(found)
    drawing, panels = facets([said(name) for name in problems], sharey=True)
    relu = found[found["model"] == RELU]
    relu = relu[relu["problem"] == next(iter(relu["problem"]), "")]  # of one setting, for all
    for panel, problem in zip(panels, problems, strict=True):
        own = found[found["problem"] == problem]
        for name, (colour, marker, dashes) in LOOKS.items():
            curve = relu if name == RELU else own[own["model"] == name]
            line = curve[~curve["format"].isin(EIGHT_BITS)]
            titles = [told(name, row["format"], row, "% wrong") for row in line.to_dict("records")]
            course(panel, line.assign(title=titles), "significand_bits", (colour, marker), dashes, 4.4)
        _eight_bits(panel, own)
        panel.grid(axis="y")
        panel.set(xlabel="significand bits", ylabel="wrong (%)")
        panel.set_xticks(sorted({*own["significand_bits"], *relu["significand_bits"]}))
    panels[0].set_ylim(bottom=0)  # of all, when all is drawn: else the first one's data say where all end
    drawing.handles += [key(name, *look) for name, look in LOOKS.items()]
    drawing.handles.append(key("formats of 8 bits", VERMILION, "D", filled=False))
    return drawing


def _eight_bits(panel: Any, own: Frame) -> None:
    """The stack's mistakes in formats of 8 bits."""
    points = own[own["format"].isin(EIGHT_BITS) & (own["model"] == STACK)]
    titles = [told(STACK, row["format"], row, "% wrong") for row in points.to_dict("records")]
    marks(panel, points["significand_bits"], points["median"], titles, (VERMILION, "D"), filled=False)


def _place(problem: str) -> tuple[bool, float, str]:
    """Settings by their biases, narrow sums last."""
    number = problem.split("_")[1]
    return problem == NARROWLY.name, float(number) if number.isdigit() else 0.0, problem


def mistakes_table(name: str, found: Frame, counts: Frame) -> Table:
    """A row per setting and format: all models, and how often float64 differs."""
    keys = [*KEYS[2:]]
    wide = {(*(getattr(row, key) for key in keys), row.model): row for row in found.itertuples(index=False)}
    models = {model: _cell(wide, keys, model) for model in LOOKS}
    columns: dict[str, Any] = {
        "setting": lambda row: said(row.problem),
        "format": lambda row: row.format,
        **models,
        "gained / lost": lambda row: f"{int(row.gained)} / {int(row.lost)}",
        "p < 5 %": lambda row: f"{row.significant} of {row.seeds}",
    }
    caption = f"Images classified wrongly (%), {wording.medians(found)}. Gained / lost: images, over all "
    caption += "seeds, that the stack classifies rightly and the same numbers in float64 do not, and the reverse; "
    caption += "p < 5 %: in how many seeds the stack is better by McNemar’s exact test."
    rows = counts.assign(_place=[_place(name) for name in counts["problem"]])
    rows = rows.sort_values(["_place", "significand_bits", "format"]).drop(columns="_place")
    return table(name, caption, rows, columns, "coarse", (0, 1))


def _cell(wide: dict[Any, Any], keys: list[str], model: str) -> Any:
    def shown(row: Any) -> Any:
        found = wide.get((*(getattr(row, key) for key in keys), model))
        if found is None:
            return Text(show.DASH)
        ends = {end: 100 * getattr(found, end) for end in ("median", "lower", "upper")}
        return with_interval(found._replace(**ends))

    return shown


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    found, counts = frames["coarse"], frames["coarse_changes"]
    if not len(found):
        return None
    name = slug("coarse-mistakes", scope.machine, scope.device)
    caption = f"Images classified wrongly against the bits of the significand ({scope.label}): odd digits from even, "
    caption += "stacks of three linear layers, trained through the rounding of the format that they are stored in. A "
    caption += "panel per standard deviation that biases are drawn with; narrow sums: running sums, too, are rounded "
    caption += f"to the format. Diamonds: formats of 8 bits. {wording.band(found)}"
    best = found[found["model"] == STACK].sort_values("median").iloc[0]
    alt = f"Curves of mistakes over significand bits. The stack’s least are {show.percent(best['median'])}: "
    alt += f"{best['format']}, {said(best['problem'])}."
    drawn = plot(f"fig-{name}", caption, alt, "coarse", figure(found))
    return Content((drawn,), (mistakes_table(name, found, counts),), answer(found))


def answer(found: Frame) -> str:
    """In which formats a stack errs less than its float64 twin and the best linear classifier, for each setting."""
    known = found["lower"].notna().any()
    texts = []
    for problem in sorted(set(found["problem"]), key=_place):
        own = found[found["problem"] == problem]
        least, most = (_by_model(own, end if known else "median") for end in ("lower", "upper"))
        better = most[STACK] < least[[LINEAR, TWIN]].min(axis=1)
        texts.append(f"{said(problem)}: {wording.listed(sorted(better.index[better])) if better.any() else 'none'}")
    by = "its interval below theirs" if known else "by medians, too few seeds for intervals"
    text = "Formats in which the stack errs less than its float64 twin and the best linear classifier"
    return f"{text}, {by}: {'; '.join(texts)}."


def _by_model(own: Frame, value: str) -> Frame:
    """A row per format, a column per model."""
    values = own.groupby(["format", "model"])[value].median().unstack()
    return values.reindex(columns=[STACK, LINEAR, TWIN])


SECTION = section(
    "coarse",
    "How coarse must arithmetic be to serve as an activation?",
    frames=lambda rows: {"coarse": mistakes(rows), "coarse_changes": discordant(rows)},
    part=part,
    files={
        "coarse": "Shares of images classified wrongly, by setting, format and model, over seeds.",
        "coarse_changes": "How often stacks differ from the same numbers in float64, over all seeds.",
    },
    columns={
        "format": "the format that a stack is stored in: significand bits with float32’s exponents, or its name",
        "significand_bits": "of the format, the hidden bit included",
        "model": "what classifies",
        "float64_wrong": "that of the same weights, biases and inputs computed in float64",
        "relu_wrong": "that of the same layers with ReLU between them, which all settings with wide sums share",
    },
)
