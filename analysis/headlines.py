"""The answer first: a few sentences with numbers, intervals, n and conditions, computed from the findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from analysis import accounts, extremes, growth, noise_sentences, planned_headlines, statistics
from analysis import formatting as show
from analysis.findings import Findings, Scope
from analysis.frames import Frame
from analysis.gaps import STRICT, Gaps
from analysis.precision.unit import PLAIN_CHANNELS
from analysis.style import dtypes_in_order, ways_in_order

MOST_SCOPES = 2  # more machines and devices than these have their sections, but no headlines
MERGED = "merged/direct"
DEPTH = 8


@dataclass(frozen=True)
class Headline:
    """title: what it is about; text: the answer, names of ways in backticks; anchor: the section with the evidence."""

    title: str
    text: str
    anchor: str


def headlines(findings: Findings, gaps: Gaps = STRICT) -> list[Headline]:
    """The sentences for which there is data, in a fixed order; gaps takes those that raise."""

    def said(write: Callable[..., Iterable[Any]], *about: Any) -> list[Any]:
        return gaps.attempt(f"The headline of {write.__name__.strip('_')}", lambda: list(write(*about)), [])

    scopes = findings.scopes[:MOST_SCOPES]
    found = [line for write in PER_SCOPE for scope in scopes for line in said(write, findings, scope)]
    found += [Headline(*line) for write in PLANNED for scope in scopes for line in said(write, findings, scope)]
    found += [*said(_growth, findings), *said(_merge_ratio, findings), *accounts.headlines(findings.experiments, gaps)]
    return found + [line for scope in scopes for line in said(_noise, findings, scope)]


def _main_dtypes(dtypes: Any, most: int = 2) -> list[str]:
    """float32 first, then the narrow ones."""
    order = ("float32", "bfloat16", "float16", "float64")
    present = dtypes_in_order(dtypes)
    return sorted(present, key=lambda dtype: (order.index(dtype) if dtype in order else 9, dtype))[:most]


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _layers(findings: Findings, scope: Scope) -> Iterator[Headline]:
    """Which way is fastest on the layers of networks."""
    rows = scope.of(findings.winners)
    rows = rows[rows["group"] == "networks"]
    sentences = [_fastest(rows[rows["dtype"] == dtype], dtype) for dtype in _main_dtypes(rows["dtype"])]
    if sentences:
        yield Headline(f"Layers of networks, {findings.label(scope)}", " ".join(sentences), "wins")


def _fastest(rows: Frame, dtype: str) -> str:
    counts = rows["way"].value_counts()
    alone = sorted((way for way in counts.index if way), key=lambda way: (-counts[way], ways_in_order([way]), way))
    parts = [f"`{way}` on {counts[way]}" for way in alone[:3]]
    if len(alone) > 3:
        parts.append(f"another on {sum(int(counts[way]) for way in alone[3:])}")
    layers = show.plural(len(rows), "layer")
    settled = (
        f"the fastest way of all is {_and(parts)} of {layers}" if parts else f"no way leads alone on any of {layers}"
    )
    return f"In {dtype} {settled}{_among(rows)}."


def _among(rows: Frame) -> str:
    """The ways that are most often among the fastest, where some layers have no single fastest way."""
    if not (rows["way"] == "").any():
        return ""
    counts = rows.explode("among")["among"].value_counts()
    ways = sorted(counts.index, key=lambda way: (-counts[way], ways_in_order([way]), way))[:2]
    said = _and([f"`{way}` on {counts[way]}" for way in ways])
    return f"; not slower by verdict than the way with the least time are {said}"


def _networks(findings: Findings, scope: Scope) -> Iterator[Headline]:
    """What one other way than the baseline brings a whole network, where all its layers were run."""
    rows = scope.of(findings.totals)
    rows = rows[(rows["layers"] == rows["catalogued"]) & ~rows["baseline"].astype(bool)]
    parts = []
    for network in sorted(set(rows["network"])):
        for dtype in _main_dtypes(rows["dtype"]):
            here = rows[(rows["dtype"] == dtype) & (rows["network"] == network)]
            if len(here):
                faster = here[here["verdict"] == "faster"]
                best = max((faster if len(faster) else here).to_dict("records"), key=lambda row: row["speedup"])
                said = f"`{best['way']}` {_times(best, 'speedup')}, {best['verdict']}"
                parts.append(f"{network} in {dtype}, best of {show.plural(len(here), 'way')}: {said}")
    if parts:
        text = "Speedup over `direct` of all convolutions together, where one other way computes them all: "
        text += f"{'; '.join(parts)}."
        yield Headline(f"Whole networks, {findings.label(scope)}", text, "networks")


def _times(row: Any, name: str) -> str:
    ends = (row[f"{name}_lower"], row[f"{name}_upper"])
    value = show.number(row[name], *ends)
    return f"{value}× {show.interval(row[name], *ends)}".strip()


def _unfold(findings: Findings, scope: Scope) -> Iterator[Headline]:
    """Unfold and matmul against the library's convolution."""
    rows = scope.of(findings.speedups)
    rows = rows[(rows["group"] == "networks") & (rows["way"] == "unfold_matmul")]
    parts = []
    for dtype in _main_dtypes(rows["dtype"]):
        here = rows[rows["dtype"] == dtype]
        counts = here["verdict"].value_counts()
        ratio = math.exp(float(here["ratio"].map(math.log).mean()))
        verdicts = f"slower on {counts.get('slower', 0)} and faster on {counts.get('faster', 0)}"
        parts.append(f"{show.times(ratio)} in {dtype} ({verdicts} of {show.plural(len(here), 'layer')})")
    if parts:
        text = (
            f"`unfold_matmul` takes {_and(parts)} the time of `direct`, as a geometric mean of estimates over layers."
        )
        yield Headline(f"Unfold and matmul, {findings.label(scope)}", text, "networks")


def _merging(findings: Findings, scope: Scope) -> Iterator[Headline]:
    """On which stacks merging beforehand pays, by name: the list was picked by hand, and its shares are no rates."""
    rows = scope.of(findings.speedups)
    rows = rows[(rows["group"] == "stacks") & (rows["way"] == MERGED)]
    dtypes = _main_dtypes(rows["dtype"])
    if not dtypes:
        return
    here = rows[rows["dtype"] == dtypes[0]]
    text = f"In {dtypes[0]}, of these {show.plural(len(here), 'stack')}, one merged beforehand (`{MERGED}`) is "
    text += _and(list(extremes.by_verdict(here)))
    ends = [end for end in (extremes.most(here, verdict) for verdict in ("faster", "slower")) if end]
    yield Headline(f"Merging, {findings.label(scope)}", f"{text}{': ' if ends else ''}{'; '.join(ends)}.", "stacks")


def _first_place(rows: Frame) -> Frame:
    """The rows of the first machine and device, if there are several."""
    if not len(rows):
        return rows
    first = rows.sort_values(["machine", "device"], kind="stable").iloc[0]
    return rows[(rows["machine"] == first["machine"]) & (rows["device"] == first["device"])]


def _per_dtype(rows: Frame, say: Callable[[Any], str]) -> list[str]:
    """One part per dtype, from the narrowest."""
    rows_of = {row.dtype: row for row in rows.itertuples(index=False)}
    return [f"{say(rows_of[dtype])} in {dtype}" for dtype in dtypes_in_order(rows_of)]


def _interval(row: Any) -> str:
    return show.with_interval(row.median, row.lower, row.upper)


def _growth(findings: Findings) -> Iterator[Headline]:
    """How fast the error of the unmerged stack grows with depth."""
    rows = growth.exponents(findings.precision) if findings.precision is not None else None
    if rows is None or not len(rows):
        return
    rows = _first_place(rows[rows["way"] == growth.BASELINE])
    random, positive = (rows[rows["signs"] == signs] for signs in ("random", "positive"))
    parts = []
    if len(random):
        parts.append(f"for numbers of random sign e is {_and(_per_dtype(random, _interval))}")
    if len(positive):
        ends = [show.signed(f"{positive['median'].agg(end):.2f}") for end in ("min", "max")]
        parts.append(f"for positive numbers it lies between {' and '.join(ends)}")
    if parts:
        reach = f"depths {rows['least_depth'].min()} to {rows['most_depth'].max()}, {_seeds(rows)}"
        text = f"The error of a plain stack of 3×3 layers with {PLAIN_CHANNELS} channels and weights drawn uniformly, "
        text += f"computed layer by layer (`direct`), grows as depth^e: {'; '.join(parts)} ({reach}, over which the "
        text += "intervals are). Other weights have other exponents."
        yield Headline(f"Error by depth{_where(findings, _first_scope(rows))}", text, "depth")


def _seeds(rows: Frame) -> str:
    least, most = int(rows["seeds"].min()), int(rows["seeds"].max())
    return show.plural(least, "seed") if least == most else f"{least} to {most} seeds"


def _merge_ratio(findings: Findings) -> Iterator[Headline]:
    """What merging does to the error, at depth 8 where it was measured."""
    rows = growth.merge_ratios(findings.precision) if findings.precision is not None else None
    if rows is None or not len(rows):
        return
    rows = _first_place(rows[(rows["way"] == MERGED) & (rows["signs"] == "random") & (rows["depth"] > 1)])
    if not len(rows):
        return
    depth = DEPTH if DEPTH in set(rows["depth"]) else int(rows["depth"].max())
    here = rows[rows["depth"] == depth]
    text = f"At depth {depth}, merging in float64 (`{MERGED}`) multiplies the error by "
    text += (
        f"{_and(_per_dtype(here, _interval))}. That is the relative L2 error over single outputs, against the exact "
    )
    text += f"result of the weights as the dtype has rounded them ({PLAIN_CHANNELS} channels, random signs, "
    text += f"{_seeds(here)}); averages over outputs, or another reference, compare otherwise."
    yield Headline(f"Error of merging{_where(findings, _first_scope(rows))}", text, "depth")


def _noise(findings: Findings, scope: Scope) -> Iterator[Headline]:
    """How far two timings of the same call lie apart."""
    where = _where(findings, scope)
    findings = findings.within(scope)
    if not len(findings.noise):
        return
    rows = statistics.noise_floor(findings.noise.assign(all=0), ["all"]).iloc[0]
    text = f"Two timings of the same call in one process differ by {show.percent(rows['median'])} in the median and by "
    text += f"{show.percent(rows['p90'])} at the 90th percentile of {show.plural(int(rows['controls']), 'control')}; "
    text += noise_sentences.false_verdicts(findings)
    yield Headline(f"Noise floor{where}", text, "noise")


def _where(findings: Findings, scope: Scope) -> str:
    """The scope's label for a title, where there are several places."""
    return f", {findings.label(scope)}" if len(findings.places) > 1 else ""


def _first_scope(rows: Frame) -> Scope:
    return min(Scope(row.machine, row.device) for row in rows.itertuples(index=False))


PER_SCOPE = (_layers, _networks, _unfold, _merging)
PLANNED = (planned_headlines.plans, planned_headlines.break_even, planned_headlines.training)
