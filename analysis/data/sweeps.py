"""Sweeps: times along an axis, how they grow, and where another way takes the lead. Records in, tidy frames out.

The process is the unit, as it is of all intervals of times: the k-th processes of the trials of an axis, which were
timed next to each other, give one exponent and one crossover; what is told is their median, with its interval between
processes (`intervals.process_interval`). With fewer processes than an interval needs nothing is decided.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple, TypeAlias

from analysis.data.frames import Frame, framed
from analysis.data.records import Records
from analysis.data.speedups import control_log_ratio
from linear_lasagna.intervals import LEAST_PROCESSES, MARGIN, process_interval, verdict
from linear_lasagna.sweeps import PLACES, THREADS
from linear_lasagna.timing import Comparison, Timing, compare
from linear_lasagna.trial import Trial
from linear_lasagna.vocabulary import BASELINE, TRANSFORMS

UNFOLD = "unfold_matmul"
LEAST_VALUES = 3  # fewer give no exponent worth its name
ONE_THREAD = "onethread"

SERIES = ["machine", "device", "dtype", "axis"]
SWEEPS = [*SERIES, "swept", "problem", "way", "macs", "seconds", "seconds_lower", "seconds_upper", "processes", "leads"]
EXPONENTS = [*SERIES, "way", "exponent", "exponent_lower", "exponent_upper", "half", "half_lower", "half_upper"]
EXPONENTS += ["operations", "least_value", "most_value", "values", "processes"]
CROSSOVERS = [*SERIES, "first", "second", "crossing", "before", "after", "at", "at_lower", "at_upper", "decided"]
CROSSOVERS += ["values", "processes"]
AGAINST = [*SERIES, "swept", "problem", "way", "ratio", "ratio_lower", "ratio_upper", "verdict", "processes", "blocks"]
SCALING = ["machine", "device", "dtype", "problem", "way", "threads", "seconds", "speedup", "speedup_lower"]
SCALING += ["speedup_upper", "verdict", "processes"]

Axes: TypeAlias = dict[tuple[str, str, str, str], list[tuple[int, Trial]]]


class Median(NamedTuple):
    """The median over processes and its interval between them; NaN where there is none."""

    median: float
    lower: float
    upper: float


class Crossing(NamedTuple):
    """first_after: whether the first of the two leads after it; at: on the axis."""

    first_after: bool
    at: Median


def axes(records: Records) -> Axes:
    """The trials of every sweep, by machine, device, dtype and axis, each in the order of its values."""
    found: Axes = {}
    for record in records:
        place = PLACES.get(record.trial.problem.name)
        if place is not None:
            axis, value = place
            key = (record.machine, record.trial.device, record.trial.dtype, axis)
            found.setdefault(key, []).append((value, record.trial))
    return {key: sorted(found[key], key=lambda point: point[0]) for key in sorted(found)}


def over_processes(values: Sequence[float]) -> Median:
    """NaN, NaN, NaN for none."""
    ends = process_interval(values) or (math.nan, math.nan)
    return Median(median(values) if values else math.nan, *ends)


def times(records: Records) -> Frame:
    """One row per sweep, value and way that was timed. seconds: per call, with their interval between processes; macs:
    of the layers as they are defined; leads: whether the way is faster, by verdict, than every other.
    """
    rows = []
    for key, points in axes(records).items():
        for value, trial in points:
            timings, leader = trial.timings(), leader_of(trial)
            for way in _ways(trial):
                seconds = [timing.seconds(way) for timing in timings if way in timing.samples]
                logs = over_processes([math.log(each) for each in seconds])
                place = (*key, value, trial.problem.name, way, trial.problem.macs)
                rows.append((*place, *map(math.exp, logs), len(seconds), way == leader))
    return framed(rows, SWEEPS)


def _ways(trial: Trial) -> list[str]:
    return [way for way in trial.timing().samples if way != trial.control]


def leader_of(trial: Trial) -> str:
    """The way that is faster, by verdict, than every other; "" where there is none."""
    timings, ways = trial.timings(), _ways(trial)
    if len(ways) < 2:
        return ""
    fastest = min(ways, key=trial.seconds)
    against = compare(timings, fastest, control=None, noise=abs(control_log_ratio(trial)))
    return fastest if all(against[way].verdict == "slower" for way in ways if way != fastest) else ""


def exponents(records: Records) -> Frame:
    """One row per sweep and way with at least three values: e in time ∝ value^e, and of the upper half of the values,
    where calls are long: NaN where that holds fewer than three. operations: the same of `Problem.macs`.
    """
    rows = []
    for key, points in axes(records).items():
        for way in dict.fromkeys(way for _, trial in points for way in _ways(trial)):
            timed = [(value, trial, seconds) for value, trial in points if (seconds := _seconds(trial, way))]
            enough = [each for each in timed if len(each[2]) >= LEAST_PROCESSES]
            timed = enough if len(enough) >= LEAST_VALUES else timed
            values, seconds = [value for value, _, _ in timed], [each for _, _, each in timed]
            if len(values) >= LEAST_VALUES:
                half = len(values) // 2
                operations = slope(values, [trial.problem.macs for _, trial, _ in timed])
                fits = (*exponent(values, seconds), *exponent(values[half:], seconds[half:]))
                counts = (operations, values[0], values[-1], len(values), min(map(len, seconds)))
                rows.append((*key, way, *fits, *counts))
    return framed(rows, EXPONENTS)


def _seconds(trial: Trial, way: str) -> list[float]:
    return [timing.seconds(way) for timing in trial.timings() if way in timing.samples]


def exponent(values: Sequence[float], seconds: Sequence[Sequence[float]]) -> Median:
    """The median over processes of the slope of log seconds against log value. seconds: of every value, by process."""
    if len(values) < LEAST_VALUES:
        return Median(math.nan, math.nan, math.nan)
    return over_processes([slope(values, of_process) for of_process in zip(*seconds, strict=False)])


def slope(values: Sequence[float], sizes: Sequence[float]) -> float:
    """The least-squares slope of log size against log value."""
    x, y = ([math.log(number) for number in numbers] for numbers in (values, sizes))
    middle_x, middle_y = fmean(x), fmean(y)
    products = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return products / sum((a - middle_x) ** 2 for a in x)


def crossovers(records: Records) -> Frame:
    """One row per sweep and crossover of two ways, one of them the baseline or unfold and product; of two that do not
    cross one row with an empty `at`.

    crossing: yes; no (one of them, `after`, leads wherever there is a verdict); undecided (there is none). decided: at
    how many values there is one.
    """
    rows = []
    for key, points in axes(records).items():
        ways = list(dict.fromkeys(way for _, trial in points for way in _ways(trial)))
        for first, second in _pairs(ways):
            timed = [(value, trial, paired(trial.timings(), first, second)) for value, trial in points]
            timed = [each for each in timed if len(each[2]) >= LEAST_PROCESSES]
            if timed:
                rows += [(*key, first, second, *row) for row in _outcomes(first, second, timed)]
    return framed(rows, CROSSOVERS)


def _pairs(ways: Sequence[str]) -> Iterator[tuple[str, str]]:
    for first in (BASELINE, UNFOLD):
        yield from ((first, way) for way in ways if first in ways and way not in (BASELINE, first))


def paired(timings: Sequence[Timing], first: str, second: str) -> list[float]:
    """log(second's time / the first's) in every process that timed both: the median over its blocks."""
    both = [timing for timing in timings if {first, second} <= timing.samples.keys()]
    return [median(logs) for timing in both if (logs := timing.log_ratios(second, first))]


def _outcomes(first: str, second: str, timed: list[tuple[int, Trial, list[float]]]) -> Iterator[tuple[Any, ...]]:
    common = min(len(logs) for _, _, logs in timed)
    logs = [logs[:common] for _, _, logs in timed]
    signs = [sign(each, abs(control_log_ratio(trial))) for each, (_, trial, _) in zip(logs, timed, strict=True)]
    counts = (sum(map(abs, signs)), len(timed), common)
    found = crossings([value for value, _, _ in timed], logs, signs)
    for crossing in found:
        ways = (second, first) if crossing.first_after else (first, second)
        yield ("yes", *ways, *crossing.at, *counts)
    if not found:
        leader = {1: first, -1: second, 0: ""}[next((each for each in signs if each), 0)]
        yield ("no" if leader else "undecided", "", leader, *(math.nan,) * 3, *counts)


def sign(logs: Sequence[float], noise: float = 0.0) -> int:
    """By the verdict on the processes' log ratios, second / first: 1 where the first leads, -1 where the second does, 0
    where it is a tie or undecided.
    """
    judged = verdict(*over_processes(logs), MARGIN, noise)
    return {"slower": 1, "faster": -1}.get(judged, 0)


def crossings(values: Sequence[float], logs: Sequence[Sequence[float]], signs: Sequence[int]) -> list[Crossing]:
    """Where the lead changes between two values at which it is decided and between which it is not.

    logs: of every value the log ratios second / first, by process, as many for each; signs: of every value, as `sign`.
    Each process's ratio is interpolated between the values, linearly in both logarithms. The interval stays between the
    two values: at either no more processes contradict the verdict than lie outside of an interval.
    """
    decided = [place for place, each in enumerate(signs) if each]
    found = []
    for left, right in itertools.pairwise(decided):
        if signs[left] != signs[right]:
            x = [math.log(value) for value in values[left : right + 1]]
            paths = zip(*logs[left : right + 1], strict=True)
            at = over_processes([_zero(x, path, signs[right]) for path in paths])
            found.append(Crossing(signs[right] > 0, Median(*map(math.exp, at))))
    return found


def _zero(x: Sequence[float], path: Sequence[float], rising: int) -> float:
    """Where a piecewise linear path passes zero, in the middle of an odd number of places; an end of x where it does so
    before or after.
    """
    y = [rising * each for each in path]
    if y[0] >= 0:
        return x[0]
    if y[-1] <= 0:
        return x[-1]
    steps = zip(itertools.pairwise(x), itertools.pairwise(y), strict=True)
    return median(a + (b - a) * low / (low - high) for (a, b), (low, high) in steps if (low < 0) != (high < 0))


def against_unfold(records: Records) -> Frame:
    """One row per sweep, value and transform: its time / that of unfold and product, with the verdict on it."""
    rows = []
    for key, points in axes(records).items():
        for value, trial in points:
            for way, found in _against_unfold(trial):
                ends = (found.ratio, found.lower, found.upper, found.verdict, found.processes, found.blocks)
                rows.append((*key, value, trial.problem.name, way, *ends))
    return framed(rows, AGAINST)


def _against_unfold(trial: Trial) -> Iterator[tuple[str, Comparison]]:
    if UNFOLD in trial.timing().samples:
        compared = compare(trial.timings(), UNFOLD, control=None, noise=abs(control_log_ratio(trial)))
        yield from ((way, compared[way]) for way in TRANSFORMS if way in compared)


def scaling(records: Records) -> Frame:
    """One row per problem and way that was timed on one thread and on more: how many times as fast it is on these.

    threads: that were used. The k-th processes with one thread and with more are compared, which were timed next to
    each other; of two groups with equally many threads the one that asked for all is told.
    """
    trials: dict[tuple[str, ...], dict[str, Trial]] = {}
    for record in records:
        if record.group in THREADS:
            key = (record.machine, record.trial.device, record.trial.dtype, record.trial.problem.name)
            trials.setdefault(key, {})[record.group] = record.trial
    rows = []
    for key in sorted(trials):
        one = trials[key].get(ONE_THREAD)
        if one is None:
            continue
        more = {threads_of(trial, group): trial for group in THREADS if (trial := trials[key].get(group)) is not None}
        for number in sorted(number for number in more if number > 1):
            rows += [(*key, *row) for row in _scaled(one, more[number], number)]
    return framed(rows, SCALING)


def threads_of(trial: Trial, group: str) -> int:
    """With how many threads it was timed; asv's own results tell no more than the group."""
    return trial.threads or THREADS[group] or int(trial.environment.get("threads") or 0)


def _scaled(one: Trial, more: Trial, number: int) -> Iterator[tuple[Any, ...]]:
    noise = max(abs(control_log_ratio(trial)) for trial in (one, more))
    for way in _ways(more):
        pairs = list(zip(_seconds(one, way), _seconds(more, way), strict=False))
        if pairs:
            logs = over_processes([math.log(after / before) for before, after in pairs])
            ends = (math.exp(-logs.median), math.exp(-logs.upper), math.exp(-logs.lower))
            yield way, number, more.seconds(way), *ends, verdict(*logs, MARGIN, noise), len(pairs)
