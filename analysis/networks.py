"""What a whole network costs in one way: the sum over its layers of occurrences × median time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.frames import Frame, framed
from analysis.records import Record, Records
from linear_lasagna.catalog import GROUPS
from linear_lasagna.timing import CONFIDENCE, LEAST_BLOCKS, MARGIN, Timing, verdict

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

GROUP = "networks"
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
    "layers",
    "catalogued",
]


def totals(records: Records) -> Frame:
    """One row per network, dtype, device and way that was timed on all layers that were run.

    layers: the distinct layers that were run; catalogued: how many the network has. speedup: the baseline's total / the
    way's, of which the verdict is by the rule of all verdicts; the control's total is the noise.
    """
    networks: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        if record.group == GROUP:
            trial = record.trial
            network = trial.problem.name.partition("/")[0]
            networks.setdefault((record.machine, trial.dtype, trial.device, network), []).append(record)
    rows = [row for key in sorted(networks) for row in _network(key, networks[key])]
    return framed(rows, TOTALS)


def _network(key: tuple[str, str, str, str], layers: list[Record]) -> Iterator[tuple[Any, ...]]:
    catalogued = sum(problem.name.partition("/")[0] == key[3] for problem in GROUPS[GROUP].problems)
    layers = sorted(layers, key=lambda layer: layer.trial.problem.name)
    timings = [(layer.trial.problem.occurrences, layer.trial.timing()) for layer in layers]
    baseline, control = layers[0].trial.baseline, layers[0].trial.control
    everywhere = set.intersection(*(set(timing.samples) for _, timing in timings))
    if baseline not in everywhere:
        return
    seconds = {way: sum(count * timing.seconds(way) for count, timing in timings) for way in everywhere}
    logs = {way: math.log(seconds[way] / seconds[baseline]) for way in everywhere}
    noise = abs(logs.get(control, 0.0))
    for way in sorted(everywhere - {control}):
        lower, upper = (math.nan, math.nan) if way == baseline else interval(timings, way, baseline)
        found = "" if way == baseline else verdict(logs[way], lower, upper, MARGIN, noise)
        speedup = (math.exp(-logs[way]), math.exp(-upper), math.exp(-lower))
        yield (*key, way, way == baseline, seconds[way], *speedup, found, len(layers), catalogued)


def interval(layers: list[tuple[int, Timing]], way: str, baseline: str) -> tuple[float, float]:
    """A 95 % interval for log(total time / the baseline's), over blocks: a percentile bootstrap.

    Layers were timed apart, so blocks are drawn for each by itself; a drawn block counts for both ways, which shared
    it. layers: (occurrences, timing). NaN, NaN where a layer has fewer than 8 blocks with both ways.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapters 8 and 13.
    """
    import numpy

    generator = numpy.random.default_rng(SEED)
    mine, theirs = numpy.zeros(RESAMPLES), numpy.zeros(RESAMPLES)
    for count, timing in layers:
        blocks = _shared_blocks(timing, way, baseline)
        if len(blocks) < LEAST_BLOCKS:
            return math.nan, math.nan
        drawn = blocks[generator.integers(len(blocks), size=(RESAMPLES, len(blocks)))]
        medians = numpy.median(drawn, axis=1)
        mine, theirs = mine + count * medians[:, 0], theirs + count * medians[:, 1]
    tail = (1 - CONFIDENCE) / 2
    lower, upper = numpy.quantile(numpy.log(mine / theirs), [tail, 1 - tail])
    return float(lower), float(upper)


def _shared_blocks(timing: Timing, way: str, baseline: str) -> Array:
    """The median seconds of either way, one row per block in which both were timed."""
    import numpy

    pairs = zip(timing.samples[way], timing.samples[baseline], strict=False)
    return numpy.array([(numpy.median(a), numpy.median(b)) for a, b in pairs if a and b])
