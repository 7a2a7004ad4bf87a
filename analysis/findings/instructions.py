"""Whether findings depend on the instruction set: the same claims' outcomes wherever they were run."""

from __future__ import annotations

from analysis.data.frames import Frame, framed
from analysis.data.over_seeds import PLACE
from analysis.findings.statistics import STATISTICS

CPU = "cpu"
COLUMNS = ["finding", "claim", "dtype", "statistic", "instructions", "median", "outcome", "agreement"]
UNKNOWN = "unknown"  # of rows of older versions


def by_instructions(rows: Frame, claims: Frame) -> Frame:
    """One row per claim, dtype and instruction set of a processor, with whether the outcome is the same under all.

    rows: the experiment's; claims: their `outcomes`. agreement: "same"; "differs", where one is confirmed and another
    refuted; "undecided", where one is undecided, and not all are; "one set", where there is no other.
    """
    labels = {place: label(own) for place, own in rows.groupby(PLACE)}
    found = []
    for named, own in claims[claims["device"] == CPU].groupby(COLUMNS[:4], sort=True):
        each = [(labels[row.machine, row.device], row.median, row.outcome) for row in own.itertuples(index=False)]
        agreed = agreement({label for label, *_ in each}, {outcome for *_, outcome in each})
        found += [(*named, *of_set, agreed) for of_set in each]
    return framed(found, COLUMNS)


def agreement(sets: set[str], outcomes: set[str]) -> str:
    """Of one claim's outcomes under these sets."""
    if len(outcomes) == 1:
        return "same" if len(sets) > 1 else "one set"
    return "differs" if {"confirmed", "refuted"} <= outcomes else "undecided"


def label(rows: Frame) -> str:
    """The instruction sets in force where one place's rows were computed."""
    known = sorted(set(rows["instructions"].dropna())) if "instructions" in rows else []
    return " or ".join(known) or UNKNOWN


def shift(compared: Frame) -> float:
    """How far the medians of one kind are apart at most: relatively where its axis is logarithmic."""
    (kind,) = set(compared["statistic"])
    ends = compared.groupby(["claim", "dtype"])["median"].agg(["min", "max"])
    logarithmic = STATISTICS[kind].logarithmic
    return float((ends["max"] / ends["min"] - 1 if logarithmic else ends["max"] - ends["min"]).max())
