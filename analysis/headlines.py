"""The answer first: a few sentences with numbers, intervals, n and conditions, computed from the findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from analysis import formatting as show
from analysis import growth, statistics
from analysis.findings import Findings, Scope
from analysis.frames import Frame
from analysis.style import dtypes_in_order, ways_in_order

MOST = 9
MERGED = "merged/direct"


@dataclass(frozen=True)
class Headline:
    """One sentence or two; names of ways stand in backticks. anchor: the section with the evidence."""

    text: str
    anchor: str


def headlines(findings: Findings) -> list[Headline]:
    """The sentences for which there is data, in a fixed order."""
    per_scope = [
        sentence
        for scope in findings.scopes
        for write in (_layers, _networks, _unfold, _merging)
        for sentence in write(findings, scope)
    ]
    return [*per_scope[: MOST - 3], *_growth(findings), *_merge_ratio(findings), *_noise(findings)]


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
        yield Headline(f"Single layers ({findings.label(scope)}): {'; '.join(sentences)}.", "wins")


def _fastest(rows: Frame, dtype: str) -> str:
    counts = rows["way"].value_counts()
    alone = sorted((way for way in counts.index if way), key=lambda way: (-counts[way], ways_in_order([way]), way))
    unsettled = int(counts.get("", 0))
    parts = [f"`{way}` on {counts[way]}" for way in alone[:3]]
    if len(alone) > 3:
        parts.append(f"others on {sum(int(counts[way]) for way in alone[3:])}")
    settled = f"the fastest way is {_and(parts)}" if parts else "no way is fastest alone on any"
    first = f"in {dtype}, of {show.plural(len(rows), 'network layer')}, {settled}"
    return first + (f"; {unsettled} have no single fastest way" if unsettled and parts else "")


def _networks(findings: Findings, scope: Scope) -> Iterator[Headline]:
    """What another way than the baseline brings a whole network: the best one, where all its layers were run."""
    rows = scope.of(findings.totals)
    rows = rows[(rows["layers"] == rows["catalogued"]) & ~rows["baseline"].astype(bool)]
    parts = []
    for dtype in _main_dtypes(rows["dtype"]):
        for network in sorted(set(rows["network"])):
            here = rows[(rows["dtype"] == dtype) & (rows["network"] == network)]
            if len(here):
                best = here.loc[here["speedup"].idxmax()]
                parts.append(f"{network} in {dtype} `{best['way']}`, {_times(best, 'speedup')}")
    if parts:
        text = "One way for all convolutions of a network, the best speedup over `direct`: "
        yield Headline(f"{text}{'; '.join(parts)} ({findings.label(scope)}).", "networks")


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
        parts.append(f"in {dtype} {show.times(ratio)} the time of `direct`, {verdicts} of {len(here)}")
    if parts:
        text = f"`unfold_matmul` takes, as a geometric mean over network layers, {'; '.join(parts)}"
        yield Headline(f"{text} ({findings.label(scope)}).", "networks")


def _merging(findings: Findings, scope: Scope) -> Iterator[Headline]:
    """When merging a stack beforehand pays: the extremes and the number of stacks."""
    rows = scope.of(findings.speedups)
    rows = rows[(rows["group"] == "stacks") & (rows["way"] == MERGED)]
    dtypes = _main_dtypes(rows["dtype"])
    if not dtypes:
        return
    here = rows[rows["dtype"] == dtypes[0]]
    counts = here["verdict"].value_counts()
    text = f"Merging a stack beforehand (`{MERGED}`, {dtypes[0]}, {findings.label(scope)}) is faster on "
    text += f"{counts.get('faster', 0)} of {show.plural(len(here), 'stack')} and slower on {counts.get('slower', 0)}"
    best, worst = _extreme(here, "faster", "speedup"), _extreme(here, "slower", "ratio")
    ends = [part for part in (_case(best, "speedup", "faster"), _case(worst, "ratio", "slower")) if part]
    yield Headline(f"{text}{': ' if ends else ''}{', but '.join(ends)}.", "stacks")


def _extreme(rows: Frame, verdict: str, by: str) -> Any:
    some = rows[rows["verdict"] == verdict]
    return some.loc[some[by].idxmax()] if len(some) else None


def _case(row: Any, name: str, verdict: str) -> str:
    return "" if row is None else f"{row['problem']} runs {_times(row, name)} {verdict} merged"


def _depth_parts(rows: Frame, say: Callable[[Any], str], most: int = 4) -> list[str]:
    """One part per dtype, from the narrowest; the first machine and device, if there are several."""
    first = rows[["machine", "device"]].min()
    here = rows[(rows["machine"] == first["machine"]) & (rows["device"] == first["device"])]
    parts = []
    for dtype in dtypes_in_order(here["dtype"])[:most]:
        parts += [f"{say(row)} in {dtype}" for row in here[here["dtype"] == dtype].itertuples(index=False)]
    return parts


def _growth(findings: Findings) -> Iterator[Headline]:
    """How fast the error of the unmerged stack grows with depth."""
    if findings.precision is None:
        return
    rows = growth.exponents(findings.precision)
    rows = rows[rows["way"] == growth.BASELINE]
    for signs in ("random", "positive"):
        here = rows[rows["signs"] == signs]
        if len(here):
            parts = _depth_parts(here, lambda row: f"depth^{show.with_interval(row.median, row.lower, row.upper)}")
            reach = f"depths {here['least_depth'].min()} to {here['most_depth'].max()}, {_seeds(here)}"
            text = (
                f"The error of the stack computed layer by layer (`direct`) grows, on {signs} signs, as {_and(parts)}"
            )
            yield Headline(f"{text} ({reach}).", "depth")


def _seeds(rows: Frame) -> str:
    least, most = int(rows["seeds"].min()), int(rows["seeds"].max())
    return show.plural(least, "seed") if least == most else f"{least} to {most} seeds"


def _merge_ratio(findings: Findings) -> Iterator[Headline]:
    """What merging does to the error, at depth 8 where it was measured."""
    if findings.precision is None:
        return
    rows = growth.merge_ratios(findings.precision)
    rows = rows[(rows["way"] == MERGED) & (rows["signs"] == "random") & (rows["depth"] > 1)]
    if not len(rows):
        return
    depth = 8 if 8 in set(rows["depth"]) else int(rows["depth"].max())
    here = rows[rows["depth"] == depth]
    parts = _depth_parts(here, lambda row: show.with_interval(row.median, row.lower, row.upper))
    text = f"At depth {depth}, merging in float64 (`{MERGED}`) multiplies the error by {_and(parts)}"
    yield Headline(f"{text} (random signs, {_seeds(here)}).", "depth")


def _noise(findings: Findings) -> Iterator[Headline]:
    """How far two timings of the same call lie apart."""
    if not len(findings.noise):
        return
    rows = statistics.noise_floor(findings.noise.assign(all=0), ["all"]).iloc[0]
    text = f"Two timings of the same call differ by {show.percent(rows['median'])} in the median and "
    text += f"{show.percent(rows['p90'])} at the 90th percentile of {show.plural(int(rows['controls']), 'control')}; "
    text += f"{show.plural(int(rows['false_verdicts']), 'control')} got a false verdict."
    yield Headline(text, "noise")
