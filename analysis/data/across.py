"""The same cells on several machines and devices: on which the verdict is the same, and on which it is the opposite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analysis.data.frames import Frame, framed, ordered, problems_in_order
from analysis.data.study_data import Scope
from linear_lasagna.vocabulary import MERGED

CELL = ["group", "problem", "dtype", "way"]
MEASURED = ["speedup", "speedup_lower", "speedup_upper", "verdict", "processes"]
COLUMNS = [*CELL, "machine", "device", *MEASURED, "scopes", "agreement", "headline"]
KINDS = ("same", "opposite", "differs", "undecided")
TOTAL = "network"  # the group of a network's total, which the catalogue has no group of
# Which cells stand for all, and in which order, was fixed before any data: named stacks merged, then whole networks.
STACKS = {
    "stacks/sesr_x1": "sesr_x1 (expands)",
    "stacks/plain_x4": "plain_x4",
    "stacks/separable_late": "separable_late",
}
NETWORKS = {"resnet50": "ResNet-50", "vgg16": "VGG-16", "mobilenet": "MobileNet-V1"}
WAYS = ("im2col_numpy", "unfold_matmul", "direct_channels_last")
DTYPE = "float32"
HEADLINES = [("stacks", stack, DTYPE, MERGED) for stack in STACKS]
HEADLINES += [(TOTAL, network, DTYPE, way) for network in NETWORKS for way in WAYS]
NONE = len(HEADLINES)  # the place of what is no headline


class Counts(NamedTuple):
    """Cells that every scope has, and on how many of them the verdicts agree, and how."""

    cells: int
    same: int
    opposite: int
    differs: int
    undecided: int


def across(speedups: Frame, totals: Frame) -> Frame:
    """One row per cell and scope, of the cells that two scopes or more have; whole networks' totals are cells too.

    scopes: how many have the cell; agreement: as `agreement` has it; headline: the cell's place among `HEADLINES`, or
    `NONE`. speedups, totals: as `speedups.speedups` and `networks.totals` have them.
    """
    rows = _together(speedups, totals)
    found = rows.groupby(CELL, sort=False)["verdict"]
    rows = rows.assign(scopes=found.transform("size"))
    rows = rows[rows["scopes"] > 1]
    if not len(rows):
        return framed([], COLUMNS)
    said = rows.groupby(CELL, sort=False)["verdict"].agg(lambda each: agreement(list(each))).rename("agreement")
    rows = rows.join(said, on=CELL)
    places = {cell: place for place, cell in enumerate(HEADLINES)}
    rows["headline"] = [places.get(cell, NONE) for cell in rows[CELL].itertuples(index=False, name=None)]
    return _sorted(rows)[COLUMNS].reset_index(drop=True)


def _together(speedups: Frame, totals: Frame) -> Frame:
    """The cells of both, without controls and baselines; of networks those of which every layer was timed."""
    import pandas

    timed = speedups[~speedups["control"].astype(bool)][[*CELL, "machine", "device", *MEASURED]]
    whole = totals[(totals["layers"] == totals["catalogued"]) & ~totals["baseline"].astype(bool)]
    whole = whole.rename(columns={"network": "problem"}).assign(group=TOTAL)[timed.columns]
    if not len(whole):
        return timed
    return pandas.concat([timed, whole], ignore_index=True) if len(timed) else whole


def agreement(verdicts: Sequence[str]) -> str:
    """Of one cell's verdicts: "opposite", faster on one and slower on another; "differs", two are decided and not the
    same, as a tie and faster; "same", all are decided, and alike; else "undecided".
    """
    decided = set(verdicts) - {"undecided", ""}
    if {"faster", "slower"} <= decided:
        return "opposite"
    if len(decided) > 1:
        return "differs"
    return "same" if decided and decided == set(verdicts) else "undecided"


def _sorted(rows: Frame) -> Frame:
    """Headlines first, then by problem, dtype, way, machine and device."""
    places = {name: place for place, name in enumerate(problems_in_order(rows["problem"]))}
    rows = ordered(rows).assign(_place=lambda each: each["problem"].map(places))
    by = ["headline", "_place", "problem", "group"]
    order = rows[["dtype", "way"]].drop_duplicates()
    order = {key: place for place, key in enumerate(order.itertuples(index=False, name=None))}
    rows["_pair"] = [order[key] for key in zip(rows["dtype"], rows["way"], strict=True)]
    return rows.sort_values([*by, "_pair", "machine", "device"], kind="stable")


def cells(rows: Frame, scopes: int) -> Frame:
    """One row per cell that so many scopes have, in the order of `across`. unsure: whether one of them is undecided."""
    found = rows[rows["scopes"] == scopes]
    unsure = found["verdict"].eq("undecided").groupby([found[name] for name in CELL], sort=False).transform("any")
    return found.assign(unsure=unsure).drop_duplicates(CELL)


def counts(rows: Frame, scopes: int) -> Counts:
    """Of the cells that all of so many scopes have."""
    found = cells(rows, scopes)["agreement"].value_counts()
    numbers = [int(found.get(kind, 0)) for kind in KINDS]
    return Counts(sum(numbers), *numbers)


def among(rows: Frame, kind: str) -> Frame:
    """One row per cell of which two scopes or more say this, headlines first."""
    return rows[rows["agreement"] == kind].drop_duplicates(CELL)


def by_scope(rows: Frame, scopes: Sequence[Scope]) -> Iterator[tuple[Scope, Frame]]:
    """The rows of each scope."""
    for scope in scopes:
        yield scope, scope.of(rows)
