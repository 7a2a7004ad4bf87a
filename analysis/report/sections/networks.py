"""Whole networks: the sum over a network's layers of occurrences × median time, beside the speed of its layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame, framed, ordered
from analysis.data.records import Record, Records
from analysis.data.study_data import Scope, StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.section import Frames
from analysis.report.sections.speed import VERDICTS_READ, speed_section, unfold_headline
from analysis.report.tables import Table, Text, slug, table
from linear_lasagna.catalog import GROUPS
from linear_lasagna.intervals import CONFIDENCE, LEAST_BLOCKS, LEAST_PROCESSES, MARGIN, verdict
from linear_lasagna.timing import Timing

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


GROUP = "networks"
NETWORKS = (GROUP, "mobilenet")  # the groups of which a network is all problems with its name
RESAMPLES = 2000
SEED = 0  # of the resampling: the same records give the same interval
TOTALS = [
    "machine",
    "dtype",
    "device",
    "network",
    "way",
    "baseline",
    "seconds",
    "speedup",
    "speedup_lower",
    "speedup_upper",
    "verdict",
    "processes",
    "layers",
    "catalogued",
]


def totals(records: Records) -> Frame:
    """One row per network, dtype, device and way that was timed on all layers that were run.

    layers: the distinct layers that were run; catalogued: how many the network has. processes: of the layer that was
    timed in the fewest. speedup: the baseline's total / the
    way's, of which the verdict is by the rule of all verdicts; the control's total is the noise.
    """
    networks: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        if record.group in NETWORKS:
            trial = record.trial
            network = trial.problem.name.partition("/")[0]
            networks.setdefault((record.machine, trial.dtype, trial.device, network), []).append(record)
    rows = [row for key in sorted(networks) for row in _network(key, networks[key])]
    return framed(rows, TOTALS)


def _network(key: tuple[str, str, str, str], layers: list[Record]) -> Iterator[tuple[Any, ...]]:
    known = (problem.name.partition("/")[0] for group in NETWORKS for problem in GROUPS[group].problems)
    catalogued = sum(name == key[3] for name in known)
    layers = sorted(layers, key=lambda layer: layer.trial.problem.name)
    timings = [(layer.trial.problem.occurrences, layer.timings) for layer in layers]
    baseline, control = layers[0].trial.baseline, layers[0].trial.control
    everywhere = set.intersection(*(set(each[0].samples) if each else set() for _, each in timings))
    if baseline not in everywhere:
        return
    seconds = {way: sum(r.trial.problem.occurrences * r.seconds(way) for r in layers) for way in everywhere}
    logs = {way: math.log(seconds[way] / seconds[baseline]) for way in everywhere}
    noise = abs(logs.get(control, 0.0))
    for way in sorted(everywhere - {control}):
        lower, upper = (math.nan, math.nan) if way == baseline else interval(timings, way, baseline)
        outcome = "" if way == baseline else verdict(logs[way], lower, upper, MARGIN, noise)
        speedup = (math.exp(-logs[way]), math.exp(-upper), math.exp(-lower))
        counts = (min(_processes(each, way, baseline) for _, each in timings), len(layers), catalogued)
        yield (*key, way, way == baseline, seconds[way], *speedup, outcome, *counts)


def interval(layers: list[tuple[int, list[Timing]]], way: str, baseline: str) -> tuple[float, float]:
    """A 95 % interval for log(total time / the baseline's), over processes: a percentile bootstrap. Where a layer was
    timed in one process alone, over its blocks.

    Layers were timed apart, so processes are drawn for each by itself; a drawn one counts for both ways, which shared
    it. layers: (occurrences, timings). NaN, NaN where a layer has too few processes, or blocks, with both ways.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapters 8 and 13.
    """
    import numpy

    mine, theirs = numpy.zeros(RESAMPLES), numpy.zeros(RESAMPLES)
    for number, (count, timings) in enumerate(layers):
        units, least = _shared(timings, way, baseline)
        if len(units) < least:
            return math.nan, math.nan
        of_way, of_baseline = zip(*units, strict=True)
        mine, theirs = mine + count * _resampled(of_way, number), theirs + count * _resampled(of_baseline, number)
    tail = (1 - CONFIDENCE) / 2
    lower, upper = numpy.quantile(numpy.log(mine / theirs), [tail, 1 - tail])
    return float(lower), float(upper)


@lru_cache(256)
def _resampled(values: tuple[float, ...], layer: int) -> Array:
    """The medians of the resamples; which values are drawn depends on their number and the layer's alone."""
    import numpy

    n = len(values)
    drawn = numpy.array(values)[_drawn(n, layer)]
    drawn.sort(axis=1)
    return (drawn[:, (n - 1) // 2] + drawn[:, n // 2]) / 2


@lru_cache(64)
def _drawn(count: int, layer: int) -> Array:
    import numpy

    return numpy.random.default_rng((SEED, layer)).integers(count, size=(RESAMPLES, count))


def _shared(timings: list[Timing], way: str, baseline: str) -> tuple[list[tuple[float, float]], int]:
    """The seconds of either way, by process that timed both, or by block of a single one; and the least number of them
    for an interval.
    """
    both = [timing for timing in timings if {way, baseline} <= timing.samples.keys()]
    if len(both) > 1:
        return [(timing.seconds(way), timing.seconds(baseline)) for timing in both], LEAST_PROCESSES
    pairs = [zip(each.samples[way], each.samples[baseline], strict=False) for each in both]
    return [(median(a), median(b)) for each in pairs for a, b in each if a and b], LEAST_BLOCKS


def _processes(timings: list[Timing], way: str, baseline: str) -> int:
    return sum({way, baseline} <= timing.samples.keys() for timing in timings)


def totals_table(scope: Scope, rows: Frame) -> Table:
    """Whole networks: the sum over layers of occurrences × median time."""
    rows = ordered(rows).sort_values("network", kind="stable")
    columns = {
        "network": lambda row: row.network,
        "dtype": lambda row: row.dtype,
        "way": lambda row: row.way,
        "layers": lambda row: f"{row.layers} of {row.catalogued}",
        "total time": lambda row: show.seconds(row.seconds),
        "speedup": lambda row: _total_speedup(row),
    }
    caption = (
        "All convolutions of a network: the sum over its distinct layers of occurrences × median time, for ways that "
    )
    caption += f"were timed on every layer that was run, {scope.label}. Other work of the network is not in it. "
    ways = rows[~rows["baseline"].astype(bool)]
    kind = wording.process_kind(ways.loc[ways["speedup_lower"].notna(), "processes"])
    caption += "Speedup: the baseline's total / the way's. "
    if kind:
        unit = "blocks" if kind == wording.WITHIN else "processes"
        caption += f"In brackets: 95 % interval {kind}, by a bootstrap that draws {unit} for each layer "
        caption += "by itself, because ways were timed together only within a layer. "
    caption += VERDICTS_READ
    name = slug("totals", scope.machine, scope.device)
    return table(name, caption, rows, columns, "totals", (0, 1, 2))


def _total_speedup(row: Any) -> Text:
    ends = (row.speedup_lower, row.speedup_upper)
    if row.baseline:
        return Text("1")
    return Text(show.number(row.speedup, *ends), show.interval(row.speedup, *ends), row.verdict, row.verdict)


def networks_headline(data: StudyData, frames: Frames) -> str:
    """What one other way than the baseline brings a whole network, where all its layers were run."""
    rows = frames["totals"]
    rows = rows[(rows["layers"] == rows["catalogued"]) & ~rows["baseline"].astype(bool)]
    parts = []
    for network in sorted(set(rows["network"])):
        for dtype in wording.main_dtypes(rows["dtype"]):
            of_network = rows[(rows["dtype"] == dtype) & (rows["network"] == network)]
            if len(of_network):
                best = f"best of {show.plural(len(of_network), 'way')} {wording.by_intervals(of_network)}"
                parts.append(f"{network} in {dtype}, {best}: {_best(of_network)}")
    if not parts:
        return ""
    text = "Speedup over `direct` of all convolutions together, where one other way computes them all: "
    return f"{text}{'; '.join(parts)}."


def _best(rows: Frame) -> str:
    """The largest speedup of those that are faster, by verdict, or else of all."""
    faster = rows[rows["verdict"] == "faster"]
    row = max((faster if len(faster) else rows).to_dict("records"), key=lambda row: row["speedup"])
    return f"`{row['way']}` {_times(row, 'speedup')}, {row['verdict']}"


def _times(row: Any, name: str) -> str:
    ends = (row[f"{name}_lower"], row[f"{name}_upper"])
    value = show.number(row[name], *ends)
    return f"{value}× {show.interval(row[name], *ends)}".strip()


def tables(scope: Scope, frames: Frames) -> Iterator[Table]:
    """The totals, where there are any."""
    if len(frames["totals"]):
        yield totals_table(scope, frames["totals"])


SECTION = speed_section(
    GROUP,
    tables,
    frames=lambda data: {"totals": totals(data.records)},
    headlines={"Whole networks": networks_headline, "Unfold and matmul": unfold_headline},
    files={"totals": "Whole networks: the sum over layers of occurrences × median time."},
    columns={
        "network": "the network",
        "layers": "distinct layers that were run",
        "catalogued": "distinct layers that the network has in the catalogue",
    },
)
