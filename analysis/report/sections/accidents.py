"""The experiment `accidents`: in how many predictions of ordinary stacks rounding is seen."""

from __future__ import annotations

import itertools
from typing import Any

from analysis.data.frames import Frame, dtypes_in_order
from analysis.data.over_seeds import PLACE, over_seeds
from analysis.data.study_data import Scope
from analysis.precision.accidents import KINDS
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import Drawing, course, facets, in_per_cent, key, measured_ticks, styled, told
from analysis.report.section import Content, Frames, plot
from analysis.report.sections.findings import section
from analysis.report.style import MARKERS, PALETTE
from analysis.report.tables import Table, Text, slug, table

KEYS = [*PLACE, "dtype", "kind", "depth", "gain"]


def changes(rows: Frame) -> Frame:
    """Per kind, dtype, depth and gain, over seeds: the share of images whose predicted class is not float64's (median,
    lower, upper, and most of any seed), mistakes more than float64's, and in how many seeds an output is not finite.
    """
    known = rows[rows["status"].isin(["ok", "overflow"])]
    known = known[known["changed"].notna() & known["kind"].isin(KINDS)] if "changed" in known else known[:0]
    if not len(known):
        return rows[:0].reindex(columns=[*KEYS, "median", "lower", "upper", "seeds", "cells", "changed_most"])
    worse = (known["lost"] - known["gained"]) / (known["outputs"] / 2)  # two outputs per image
    known = known.assign(worse=worse, overflowed=known["status"] == "overflow")
    found = over_seeds(known, KEYS, "changed")
    grouped = known.groupby(KEYS, sort=True)
    more = grouped.agg(
        changed_most=("changed", "max"),
        worse=("worse", "median"),
        overflowed=("overflowed", "sum"),
        distance=("relative_l2", "median"),
    )
    return found.merge(more.reset_index(), on=KEYS)


def _changing(found: Frame) -> Frame:
    """The kinds and dtypes in which some prediction changes; all where none does."""
    changing = found.groupby(["kind", "dtype"])["changed_most"].transform("max") > 0
    return found[changing] if changing.any() else found


def _places(found: Frame) -> list[tuple[str, str]]:
    there = set(zip(found["kind"], found["dtype"], strict=True))
    return [place for place in itertools.product(KINDS, dtypes_in_order(found["dtype"])) if place in there]


def _unchanged(found: Frame) -> str:
    """What a caption says of the kinds and dtypes without a panel; "" for none."""
    left = [f"{kind}, {dtype}" for kind, dtype in _places(found) if (kind, dtype) not in _places(_changing(found))]
    return f" No prediction changes, and there is no panel, in: {'; '.join(left)}." if left else ""


@styled
def figure(found: Frame) -> Drawing:
    """The share of changed predictions against depth: a panel per kind and dtype, a line per gain."""
    places = _places(found)
    looks = dict(zip(sorted(set(found["gain"])), zip(PALETTE, MARKERS, strict=True), strict=False))
    drawing, panels = facets([f"{kind}, {dtype}" for kind, dtype in places])
    for panel, (kind, dtype) in zip(panels, places, strict=True):
        own = in_per_cent(found[(found["kind"] == kind) & (found["dtype"] == dtype)])
        for place, (gain, look) in enumerate(looks.items()):
            line = own[own["gain"] == gain]
            titles = [
                told(f"{kind}, {dtype}, gain {gain:g}", f"depth {r['depth']}", r, "%") for r in line.to_dict("records")
            ]
            course(panel, line.assign(title=titles), "depth", look, size=6.2 - place)
        measured_ticks(panel, own["depth"])
        panel.set_yscale("symlog", linthresh=0.1)
        panel.set_ylim(-0.02, 130)
        panel.set_yticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
        panel.set(xlabel="depth (layers)", ylabel="changed (%)")
    drawing.handles += [key(f"gain {gain:g}", *look, line="-") for gain, look in looks.items()]
    return drawing


def change_table(name: str, found: Frame) -> Table:
    """A row per kind, dtype and gain: the shallowest stacks whose predictions change, and how much changes at most."""
    rows = []
    for (kind, dtype, gain), own in found.groupby(["kind", "dtype", "gain"], sort=True):
        seen = own[own["median"] > 0]
        worst = own.loc[own["changed_most"].idxmax()]
        rows.append((kind, dtype, gain, seen["depth"].min(), worst["depth"], worst["changed_most"], own))
    order = dtypes_in_order(found["dtype"])
    rows.sort(key=lambda row: (row[0], order.index(row[1]), row[2]))
    import pandas

    frame = pandas.DataFrame(rows, columns=["kind", "dtype", "gain", "first", "depth", "most", "own"])
    columns: dict[str, Any] = {
        "stack": lambda row: row.kind,
        "dtype": lambda row: row.dtype,
        "gain": lambda row: f"{row.gain:g}",
        "median above 0 from depth": lambda row: Text(show.DASH) if row.first != row.first else f"{int(row.first)}",
        "changed at most (%)": lambda row: show.significant(100 * row.most, 2),
        "at depth": lambda row: f"{int(row.depth)}" if row.most > 0 else Text(show.DASH),
        "more mistakes (%), deepest": lambda row: show.number(100 * _deepest(row.own)["worse"]),
        "overflow, deepest": lambda row: f"{int(_deepest(row.own)['overflowed'])} of {int(_deepest(row.own)['seeds'])}",
    }
    caption = (
        "Predicted classes that are not those of the same numbers in float64. Median above 0: in half of the seeds "
    )
    caption += "at least one image; changed at most: of any seed and depth; more mistakes: median over seeds, of all "
    caption += "test images; overflow: seeds in which an output is not finite, which counts as changed. A dash: none."
    return table(name, caption, frame, columns, "accidents", (0, 1))


def _deepest(own: Frame) -> Any:
    return own.loc[own["depth"].idxmax()]


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    found = frames["accidents"]
    if not len(found):
        return None
    name = slug("accidents-changes", scope.machine, scope.device)
    caption = (
        "The share of test images whose predicted class is not that of the same numbers in float64, against depth "
    )
    caption += f"({scope.label}); linear below 0.1 %, logarithmic above. A gain multiplies every layer’s weights. "
    caption += f"{wording.band(found)}{_unchanged(found)}"
    alt = "Lines over depth, a panel per kind of stack and dtype. " + answer(found)
    drawn = plot(f"fig-{name}", caption, alt, "accidents", figure(_changing(found)))
    return Content((drawn,), (change_table(name, found),), answer(found))


def answer(found: Frame) -> str:
    """The most that changes where weights are as they were drawn or trained, and where they were scaled."""
    finite = found[found["overflowed"] == 0]
    plain, scaled = finite[finite["gain"] == 1], finite[finite["gain"] != 1]
    text = ""
    if len(plain):
        text = f"With a gain of 1, at most so many predictions change in any stack and seed: {_most(plain)}."
    if len(scaled):
        text += f" With other gains, where no output overflows: {_most(scaled)}."
    lost = found[found["overflowed"] > 0].groupby(["dtype", "gain"])["depth"].min().reset_index()
    if len(lost):
        told = "; ".join(f"{row.dtype} with gain {row.gain:g} from depth {row.depth:g}" for row in _by_dtype(lost))
        text += f" Outputs overflow in {told}."
    return text.strip()


def _most(found: Frame) -> str:
    most = found.groupby("dtype")["changed_most"].max().reset_index()
    return "; ".join(f"{row.dtype} {show.percent(row.changed_most)}" for row in _by_dtype(most))


def _by_dtype(rows: Frame) -> list[Any]:
    order = dtypes_in_order(rows["dtype"])
    return sorted(rows.itertuples(index=False), key=lambda row: order.index(row.dtype))


SECTION = section(
    "accidents",
    "Is an ordinary stack non-linear by accident?",
    frames=lambda rows: {"accidents": changes(rows)},
    part=part,
    files={"accidents": "How many predictions of ordinary stacks change with the dtype, over seeds."},
    columns={
        "kind": "random: weights as drawn; trained: on the digits",
        "changed_most": "the largest share of changed predictions in any seed",
        "worse": "mistakes more than in float64, as a share of the test images: the median over seeds",
        "overflowed": "seeds in which an output is not finite",
        "distance": "median relative L2 distance of outputs from those in float64",
    },
)
