"""What a whole network costs in one way: the sum over its layers of occurrences × median time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median
from typing import Any

from analysis.frames import Frame, framed
from analysis.records import Record, Records
from linear_lasagna.catalog import GROUPS
from linear_lasagna.timing import LEAST_BLOCKS, median_interval

GROUP = "networks"
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
    "layers",
    "catalogued",
]


def totals(records: Records) -> Frame:
    """One row per network, dtype, device and way that was timed on all layers that were run.

    layers: the distinct layers that were run; catalogued: how many the network has. The speedup is the median over
    blocks, with its interval: a block's total is the sum of its layers' block medians, each × occurrences.
    """
    networks: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        if record.group == GROUP:
            trial = record.trial
            network = trial.problem.name.partition("/")[0]
            networks.setdefault((record.machine, trial.dtype, trial.device, network), []).append(record)
    rows = [row for key in sorted(networks) for row in _network(key, networks[key])]
    return framed(rows, TOTALS)


def _network(key: tuple[str, str, str, str], layers: list[Record]) -> Iterable[tuple[Any, ...]]:
    catalogued = sum(problem.name.partition("/")[0] == key[3] for problem in GROUPS[GROUP])
    timings = [(layer.trial.problem.occurrences, layer.trial.timing()) for layer in layers]
    baseline, control = layers[0].trial.baseline, layers[0].trial.control
    everywhere = set.intersection(*(set(timing.samples) for _, timing in timings)) - {control}
    if baseline not in everywhere:
        return
    blocks = {way: _block_totals([(count, timing.medians(way)) for count, timing in timings]) for way in everywhere}
    seconds = {way: sum(count * timing.seconds(way) for count, timing in timings) for way in everywhere}
    for way in sorted(everywhere):
        speedup, *ends = _speedup(blocks[baseline], blocks[way])
        ends = (math.nan, math.nan) if way == baseline else ends
        yield (*key, way, way == baseline, seconds[way], speedup, *ends, len(layers), catalogued)


def _block_totals(layers: list[tuple[int, list[float]]]) -> list[float]:
    """Seconds per block, over as many blocks as every layer has."""
    blocks = min(len(medians) for _, medians in layers)
    return [sum(count * medians[block] for count, medians in layers) for block in range(blocks)]


def _speedup(baseline: list[float], way: list[float]) -> tuple[float, float, float]:
    """The median over blocks of the ratio, and its interval: NaN where there are too few blocks."""
    ratios = [theirs / mine for theirs, mine in zip(baseline, way, strict=False)]
    interval = median_interval(ratios) if len(ratios) >= LEAST_BLOCKS else None
    return (median(ratios), *(interval or (math.nan, math.nan)))
