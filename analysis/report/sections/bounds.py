"""The experiment `bounds`: measured errors under three bounds, and beside the prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, dtypes_in_order, usable
from analysis.data.over_seeds import SERIES, over_seeds
from analysis.data.study_data import Scope, StudyData
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import Drawing, course, decimal_ticks, facets, key, measured_ticks, styled, told
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import BLUE, GREEN, INK, ORANGE, VERMILION
from analysis.report.tables import Table, Text, slug, wide_table, with_interval
from linear_lasagna.vocabulary import BASELINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CASE = [*SERIES, "problem", "depth", "fan_in", "way"]
KEYS = [*CASE, "quantity"]
TARGETS = {"float16": 0.10, "bfloat16": 0.10, "float32": 0.25, "float64": 0.25}  # set before the model was written
MEASURED, PREDICTED = "measured", "predicted"
PLAIN = 1e4  # larger factors are powers of ten
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
KINDS = {
    "certain": "γ of the dtype",
    "chain": "chain bound",
    "likely": "probabilistic bound",
}
LOOKS = {  # label, colour, marker and dashes
    "certain": (KINDS["certain"], VERMILION, "v", "-"),
    "chain": (KINDS["chain"], ORANGE, "s", "-"),
    "likely": (KINDS["likely"], GREEN, "D", "-"),
    MEASURED: ("measured", INK, "o", "-"),
    PREDICTED: ("predicted", BLUE, "X", "--"),
}


def frames(rows: Frame) -> Frames:
    """bounds: all sizes over seeds; predictions: predicted / measured."""
    return {"bounds": sizes(rows), "predictions": ratios(rows)}


def sizes(rows: Frame) -> Frame:
    """Measured, predicted and bounded relative L2 errors over seeds, and `over`, the median of each / the measured one;
    vacuous: the share of cells in which it is 1 or more. A bound that does not exist is infinite.
    """
    import pandas

    known = usable(rows)
    known = known[known["relative_l2"] > 0].rename(columns={"relative_l2": MEASURED})
    sides = [known.assign(quantity=name, size=known[name].fillna(math.inf)) for name in LOOKS if name in known]
    whole = pandas.concat(sides, ignore_index=True)
    whole = whole.assign(over=whole["size"] / whole[MEASURED], vacuous=(whole["size"] >= 1).astype(float))
    more = whole.groupby(KEYS, sort=True).agg(over=("over", "median"), vacuous=("vacuous", "mean")).reset_index()
    return over_seeds(whole, KEYS, "size").merge(more, on=KEYS)


def ratios(rows: Frame) -> Frame:
    """predicted / measured error, over seeds, per series, problem and way."""
    known = usable(rows)
    known = known[(known["predicted"] > 0) & (known["relative_l2"] > 0)]
    return over_seeds(known.assign(ratio=known["predicted"] / known["relative_l2"]), CASE, "ratio")


def farthest(predictions: Frame, by: list[str]) -> Frame:
    """The rows whose median ratio is farthest from 1, as a factor, one per combination of the columns."""
    distance = predictions["median"].map(lambda ratio: max(ratio, 1 / ratio))
    rows = predictions.assign(_distance=distance).sort_values("_distance", ascending=False, kind="stable")
    return rows.drop_duplicates(by).drop(columns="_distance").sort_values(by, kind="stable")


def missed(predictions: Frame) -> Frame:
    """The rows whose median ratio is farther from 1 than the dtype's target."""
    return predictions[(predictions["median"] - 1).abs() > predictions["dtype"].map(TARGETS)]


def prediction_answer(predictions: Frame) -> str:
    """The worst median ratio of each dtype, over all that was measured."""
    worst = farthest(predictions, ["dtype"])
    most = show.percent(float((worst["median"] - 1).abs().max()))
    text = f"The median prediction is within {most} of the measured error in every case: predicted / measured is, "
    text += f"where farthest from 1, {wording.by_dtype(worst, wording.median)}"
    cases = wording.span(predictions.groupby("dtype").size(), "case")
    reach = f"depth {_listed(predictions['depth'])}, fan-in {_listed(predictions['fan_in'])}"
    return f"{text} ({cases} per dtype, of {reach}, not all combined; {wording.counts(predictions)})."


def covered(rows: Frame) -> Iterator[str]:
    """How often predictions' intervals hold, and how wide they are; nothing where the rows do not say."""
    known = usable(rows)
    known = known[known["predicted_upper"].notna()] if "predicted_upper" in known else known[:0]
    for dtype in dtypes_in_order(known["dtype"]):
        own = known[known["dtype"] == dtype]
        inside = own["relative_l2"].between(own["predicted_lower"], own["predicted_upper"])
        ends = [(own[f"predicted_{end}"] / own["predicted"]).median() for end in ("lower", "upper")]
        text = f"The measured error lies in the prediction’s interval of 95 % in {int(inside.sum())} of "
        text += f"{show.plural(len(own), 'cell')} in {dtype}; it reaches from {show.significant(ends[0])} to "
        yield f"{text}{show.significant(ends[1])} times the prediction, in the median."


def _listed(values: Any) -> str:
    return wording.listed([str(value) for value in sorted(set(values))])


def prediction_details(predictions: Frame) -> Iterator[str]:
    """In how many cases the target is met, and what is farthest from it where it is not."""
    beyond = missed(predictions)
    for dtype in dtypes_in_order(predictions["dtype"]):
        of_dtype, lost = predictions[predictions["dtype"] == dtype], beyond[beyond["dtype"] == dtype]
        text = f"The prediction's target in {dtype}, a median within {show.percent(TARGETS[dtype])} of the measured "
        text += f"error, is met in {len(of_dtype) - len(lost)} of {show.plural(len(of_dtype), 'case')} of way, depth, "
        text += f"fan-in and signs ({wording.seeds(of_dtype)})"
        for row in farthest(lost, ["dtype"]).itertuples(index=False):
            text += f"; farthest: {wording.median(row)}, {row.way}, depth {row.depth}, fan-in {row.fan_in}, "
            text += wording.signs(row.signs)
        yield f"{text}."


def ratio_table(name: str, predictions: Frame) -> Table:
    """The ratio of each way where it is farthest from 1, one column per dtype. predictions: `ratios` of one place."""
    worst = farthest(predictions, ["fan_in", "signs", "way", "dtype"])
    caption = "Predicted / measured error at the depth where its median is farthest from 1, of those measured; "
    caption += f"median over {wording.seeds(predictions)}. {wording.TABLE} "
    caption += "Nothing in the prediction is fitted. The fan-in is that of one layer, also for merged ways."
    labels = {"fan_in": "fan-in", "signs": "signs", "way": "way"}
    return wide_table(name, caption, worst, labels, "dtype", with_interval, "predictions")


def spoken_of(sizes: Frame) -> Frame:
    """Of the baseline and the fan-in of which most depths were measured. sizes: `sizes`."""
    baseline = sizes[sizes["way"] == BASELINE]
    depths = baseline.groupby("fan_in")["depth"].nunique()
    return baseline[baseline["fan_in"] == depths.idxmax()] if len(baseline) else baseline


@styled
def figure(sizes: Frame) -> Drawing:
    """All sizes against depth, a panel per sign structure and dtype. sizes: `spoken_of`."""
    dtypes, signs = dtypes_in_order(sizes["dtype"]), sorted(set(sizes["signs"]), reverse=True)
    places = [(sign, dtype) for sign in signs for dtype in dtypes]
    drawing, panels = facets([f"{dtype}, {wording.signs(sign)}" for sign, dtype in places])
    for panel, (sign, dtype) in zip(panels, places, strict=True):
        _sizes(panel, sizes[(sizes["signs"] == sign) & (sizes["dtype"] == dtype)])
        panel.set(xlabel="depth (layers)", ylabel="relative L2 error")
    for name in (name for name in LOOKS if name in set(sizes["quantity"])):
        label, colour, marker, dashes = LOOKS[name]
        drawing.handles.append(key(label, colour, marker, dashes))
    drawing.handles.append(key("1: no information", line=":"))
    return drawing


def _sizes(panel: Axes, rows: Frame) -> None:
    panel.set_yscale("log")
    panel.axhline(1, color=INK, linewidth=0.9, linestyle=":")
    for place, (name, (label, colour, marker, dashes)) in enumerate(LOOKS.items()):
        line = rows[(rows["quantity"] == name) & (rows["median"] < math.inf)]
        titles = [told(f"{label}, {row['dtype']}", f"depth {row['depth']}", row) for row in line.to_dict("records")]
        course(panel, line.assign(title=titles, lower=math.nan), "depth", (colour, marker), dashes, 7.2 - place)
    if len(rows):
        measured_ticks(panel, rows["depth"])
        decimal_ticks(panel.yaxis)


def bound_table(name: str, sizes: Frame) -> Table:
    """How far each bound lies above the error at the largest depth, and from which depth on it is vacuous."""
    deepest = sizes[(sizes["depth"] == sizes["depth"].max()) & sizes["quantity"].isin(KINDS)]
    deepest = deepest.assign(kind=deepest["quantity"].map(KINDS))
    starts = vacuous_from(sizes)

    def cell(row: Any) -> Text:
        start = starts.get((row.quantity, row.dtype, row.signs))
        return Text(factor(row.over), "" if start is None else f"from {start}")

    depth = int(sizes["depth"].max())
    caption = f"Bound / measured error of `{BASELINE}` at depth {depth}, fan-in {sizes['fan_in'].max()}, median over "
    caption += (
        f"{wording.seeds(deepest)}. From d: vacuous from depth d on, the bound on the relative L2 error being 1 or "
    )
    caption += "more in at least one seed. "
    caption += "None: γ of the dtype does not exist. " if deepest["over"].map(math.isinf).any() else ""
    caption += "γ of the dtype: γ = nu / (1 − nu) with "
    caption += (
        "the dtype's u in every layer; chain bound: nu with the u of the usual accumulator, times the rounding to "
    )
    caption += (
        "storage; probabilistic bound: the same with λ√n u, which some sum exceeds with a probability of 1 %, if "
    )
    caption += (
        "the mean of every rounding error is zero given all errors before it (Connolly, Higham, Mary 2021), which "
    )
    caption += "rounding to nearest does not grant. Overflow is left out."
    labels = {"kind": "bound", "signs": "signs"}
    return wide_table(name, caption, deepest, labels, "dtype", cell, "bounds")


def vacuous_from(sizes: Frame) -> dict[tuple[str, str, str], int]:
    """(bound, dtype, signs) -> the least depth from which on some seed's bound is 1 or more; absent where none is."""
    starts = {}
    for case, line in sizes.groupby(["quantity", "dtype", "signs"], sort=True):
        fine = line.loc[line["vacuous"] == 0, "depth"].max()
        later = line[(line["vacuous"] > 0) & ~(line["depth"] <= fine)]
        if len(later):
            starts[case] = int(later["depth"].min())
    return starts


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    shown, predicted = spoken_of(frames["bounds"]), frames["predictions"]
    if not len(shown):
        return None
    caption = f"Relative L2 error of `{BASELINE}` against depth, fan-in {shown['fan_in'].max()} ({scope.label}), both "
    caption += "axes logarithmic: measured, predicted, and under three bounds. Mark: median over seeds; n = "
    caption += f"{wording.seeds(shown)}. Dotted: bound = 1, no information. Of marks on each "
    caption += "other the larger is behind: predicted and measured errors where the prediction holds, bounds that "
    caption += "agree."
    caption += choosing.other_dtypes(shown)
    alt = "Lines on two logarithmic axes, one panel per sign structure and dtype. "
    alt += f"The bounds lie above the measured error, by up to {_largest(choosing.main(shown))} where they are finite."
    name = slug("bounds", scope.machine, scope.device)
    figures = (plot(f"fig-{name}", caption, alt, "bounds", figure(choosing.main(shown))),)
    tables = [bound_table(name, shown)]
    if len(predicted):
        tables.insert(0, ratio_table(slug("predictions", scope.machine, scope.device), predicted))
    sentences = prediction_answer(predicted) if len(predicted) else ""
    notes = (*prediction_details(predicted), *covered(rows), *details(shown), *underflow(rows))
    return Content(figures, tuple(tables), f"{sentences} {answer(shown)}".strip(), notes)


def _largest(sizes: Frame) -> str:
    finite = sizes[sizes["quantity"].isin(KINDS) & (sizes["over"] < math.inf)]
    return factor(finite["over"].max()) if len(finite) else show.DASH


def answer(sizes: Frame) -> str:
    """By how much the chain bound exceeds the error, on either sign structure, at the largest depth."""
    deepest = sizes[(sizes["quantity"] == "chain") & (sizes["depth"] == sizes["depth"].max())]
    parts = []
    for signs in sorted(set(deepest["signs"]), reverse=True):
        factors = wording.by_dtype(deepest[deepest["signs"] == signs], lambda row: factor(row.over))
        parts.append(f"{factors} on {wording.signs(signs)}")
    if not parts:
        return ""
    text = f"At depth {sizes['depth'].max()} the chain bound is a multiple of the error of `{BASELINE}`: "
    return f"{text}{'; '.join(parts)} (fan-in {sizes['fan_in'].max()}, {wording.seeds(deepest)})."


def factor(value: float) -> str:
    """As in "35×" and "1.5·10¹⁷×"; "none" for an infinite one."""
    if math.isinf(value):
        return "none"
    if value < PLAIN:
        return show.times(value)
    exponent = math.floor(math.log10(value))
    return f"{value / 10**exponent:.1f}·10{str(exponent).translate(RAISED)}×"


def details(sizes: Frame) -> Iterator[str]:
    """Bounds that were exceeded, of which the certain ones never may be; and what condition numbers do."""
    for name, label in KINDS.items():
        broken = sizes[(sizes["quantity"] == name) & (sizes["over"] < 1)]
        for row in broken.itertuples(index=False):
            yield f"Exceeded in the median: {label}, {row.dtype}, {wording.signs(row.signs)}, depth {row.depth}."


def underflow(rows: Frame) -> Iterator[str]:
    """How much of the chain bound underflow adds at most; nothing where the rows do not say: it was left out there."""
    if "underflow" in rows and rows["underflow"].notna().any():
        largest = rows.loc[rows["underflow"].idxmax()]
        text = f"The bounds count what underflow can add: at most {show.percent(largest['underflow'])} of the chain "
        yield f"{text}bound, in {largest['dtype']} by {largest['way']} at depth {largest['depth']}."


def headline(data: StudyData, frames: Frames) -> str:
    """How near predictions come."""
    return prediction_answer(frames["predictions"]) if len(frames["predictions"]) else ""


SECTION = experiment_section(
    "bounds",
    "bounds",
    "Bounds and prediction",
    frames,
    part,
    headlines={"Predicting the error": headline},
    files={
        "bounds": "Measured and predicted errors and their bounds, over seeds.",
        "predictions": "Predicted / measured error, over seeds.",
    },
    columns={
        "certain": "bound: γ = nu / (1 − nu) with the dtype's own u in every layer, × condition, and what underflow "
        "can add; empty or inf: none exists",
        "chain": "bound: nu with the u of the usual accumulator, and the roundings to storage, × condition, and what "
        "underflow can add",
        "likely": "bound: as chain, with λ√n u; some sum exceeds it with a probability of 1 %, if the mean of every "
        "rounding error is zero given all errors before it",
        "underflow": "the share of `chain` that underflow adds",
        "predicted": "the predicted relative L2 error",
        "predicted_lower": "lower end of the interval in which the measured error should lie with 95 %",
        "predicted_upper": "its upper end",
        "independent": "parts of the error that scatter independently; empty where the error is known",
        "condition": "‖|W_L| ∗ … ∗ |W_1| ∗ |x|‖₂ / ‖exact‖₂",
        "over": "median over seeds of the quantity / the measured error",
        "vacuous": "share of cells in which it is 1 or more",
    },
)
