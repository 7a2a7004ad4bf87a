"""How near the predicted error comes to the measured one: summaries, table and statements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis import formatting as show
from analysis.accounts import wording
from analysis.accounts.account import usable
from analysis.accounts.summaries import SERIES, over_seeds
from analysis.accounts.wide import wide_table, with_interval
from analysis.frames import Frame
from analysis.style import dtypes_in_order
from analysis.tables import Table

KEYS = [*SERIES, "problem", "depth", "fan_in", "way"]
TARGETS = {"float16": 0.10, "bfloat16": 0.10, "float32": 0.25, "float64": 0.25}  # set before the model was written


def ratios(rows: Frame) -> Frame:
    """predicted / measured error, over seeds, per series, problem and way."""
    known = usable(rows)
    known = known[(known["predicted"] > 0) & (known["relative_l2"] > 0)]
    return over_seeds(known.assign(ratio=known["predicted"] / known["relative_l2"]), KEYS, "ratio")


def farthest(found: Frame, by: list[str]) -> Frame:
    """The rows whose median ratio is farthest from 1, as a factor, one per combination of the columns."""
    distance = found["median"].map(lambda ratio: max(ratio, 1 / ratio))
    rows = found.assign(_distance=distance).sort_values("_distance", ascending=False, kind="stable")
    return rows.drop_duplicates(by).drop(columns="_distance").sort_values(by, kind="stable")


def missed(found: Frame) -> Frame:
    """The rows whose median ratio is farther from 1 than the dtype's target."""
    return found[(found["median"] - 1).abs() > found["dtype"].map(TARGETS)]


def answer(found: Frame) -> str:
    """The worst median ratio of each dtype, over all that was measured."""
    worst = farthest(found, ["dtype"])
    text = "Predicted / measured error, where its median is farthest from 1: "
    text += wording.by_dtype(worst, wording.median)
    reach = f"depths {found['depth'].min()} to {found['depth'].max()}, fan-ins {_listed(found['fan_in'])}"
    return f"{text} ({reach}, both sign structures, {show.plural(len(set(found['way'])), 'way')}, {_counts(found)})."


def _listed(values: Any) -> str:
    return wording.listed([str(value) for value in sorted(set(values))])


def _counts(found: Frame) -> str:
    return wording.counts(found)


def details(found: Frame) -> Iterator[str]:
    """In how many cases the target is met, and what is farthest from it where it is not."""
    beyond = missed(found)
    for dtype in dtypes_in_order(found["dtype"]):
        here, lost = found[found["dtype"] == dtype], beyond[beyond["dtype"] == dtype]
        text = f"The prediction's target in {dtype}, a median within {show.percent(TARGETS[dtype])} of the measured "
        text += f"error, is met in {len(here) - len(lost)} of {show.plural(len(here), 'case')} of way, depth, fan-in "
        text += f"and signs ({wording.seeds(here)})"
        for row in farthest(lost, ["dtype"]).itertuples(index=False):
            text += f"; farthest: {wording.median(row)}, {row.way}, depth {row.depth}, fan-in {row.fan_in}, "
            text += wording.signs(row.signs)
        yield f"{text}."


def ratio_table(name: str, found: Frame) -> Table:
    """The ratio of each way where it is farthest from 1, one column per dtype. found: `ratios` of one place."""
    worst = farthest(found, ["fan_in", "signs", "way", "dtype"])
    caption = "Predicted / measured error at the depth where its median is farthest from 1, of depths "
    caption += f"{found['depth'].min()} to {found['depth'].max()}; median over {wording.seeds(found)}. {wording.TABLE} "
    caption += "Nothing in the prediction is fitted. The fan-in is that of one layer, also for merged ways."
    labels = {"fan_in": "fan-in", "signs": "signs", "way": "way"}
    return wide_table(name, caption, worst, labels, "dtype", with_interval, "predictions")
