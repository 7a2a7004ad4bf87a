"""How much of what the machine can attain a way makes of it: ceilings and shares of them, from the records.

Ceilings are measured in the processes that repeat trials, once per device and dtype in each, and kept among the
conditions of the first repeat there. The operations of a cell are counted where it was validated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

from analysis.data.frames import Frame, framed
from analysis.data.records import PLACE, Record, Records
from analysis.data.speedups import is_partial
from linear_lasagna.intervals import median_interval, process_interval
from linear_lasagna.problems import Problem
from linear_lasagna.roofline import MEMORY, Ceilings, attainable, place_of
from linear_lasagna.timing import Timing

PRODUCT, LAUNCH = "matrix product", "launch"
UNITS = {PRODUCT: ("GFLOP/s", 1e9), LAUNCH: ("µs", 1e-6)}  # anything else is a copy
COPY = ("GB/s", 1e9)
CEILINGS = ["machine", "device", "dtype", "ceiling", "by", "rate", "rate_lower", "rate_upper", "unit", "processes"]
LIMITS = [
    *PLACE,
    "way",
    "seconds",
    "processes",
    "operations",
    "computed_in",
    "least_bytes",
    "intensity",
    "gflops",
    "gbytes_per_s",
    "held_by",
    "limit",
    "attainable_seconds",
    "share",
    "share_lower",
    "share_upper",
    "above",
]
ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
LIBRARY = ("direct", "direct_channels_last")  # methods whose algorithm the library chooses

Spot: TypeAlias = tuple[str, str, str]  # machine, device, dtype


def ceilings(records: Records) -> Frame:
    """One row per machine, device, dtype and ceiling: a matrix product, a copy in memory and in each cache, a launch.

    rate: in its unit, the median over processes of what each could attain, with its interval between processes; by: the
    product that was fastest in most of them.
    """
    return framed([row for spot, seen in _seen(records).items() for row in _ceilings(spot, seen)], CEILINGS)


def _seen(records: Records) -> dict[Spot, list[Mapping[str, Any]]]:
    """What each process measured, in the order of their time."""
    found: dict[Spot, list[tuple[str, Mapping[str, Any]]]] = {}
    for record in records:
        for repeat in record.trial.repeats:
            if (told := repeat.conditions.get("ceilings")) and told.get("products"):
                spot = (record.machine, record.trial.device, record.trial.dtype)
                found.setdefault(spot, []).append((repeat.started, told))
    return {spot: [told for _, told in sorted(seen, key=lambda each: each[0])] for spot, seen in sorted(found.items())}


def _ceilings(spot: Spot, seen: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    best = [max(told["products"], key=told["products"].__getitem__) for told in seen]
    products = [told["products"][name] for told, name in zip(seen, best, strict=True)]
    yield _ceiling(spot, PRODUCT, Counter(best).most_common(1)[0][0], products)
    for place in dict.fromkeys(place for told in seen for place in told["copies"]):
        yield _ceiling(spot, place, "copy", [told["copies"][place] for told in seen if place in told["copies"]])
    launches = [told["launch_s"] for told in seen if told.get("launch_s")]
    if launches:
        yield _ceiling(spot, LAUNCH, "one number added to another", launches)


def _ceiling(spot: Spot, ceiling: str, by: str, values: list[float]) -> tuple[Any, ...]:
    unit, size = UNITS.get(ceiling, COPY)
    lower, upper = process_interval(values) or (math.nan, math.nan)
    return (*spot, ceiling, by, median(values) / size, lower / size, upper / size, unit, len(values))


def of_spots(frame: Frame) -> dict[Spot, Ceilings]:
    """The ceilings of each machine, device and dtype that has a product and a copy. frame: `ceilings`."""
    found = {}
    for spot, rows in frame.groupby(["machine", "device", "dtype"], sort=False):
        rates = {row.ceiling: row.rate * UNITS.get(row.ceiling, COPY)[1] for row in rows.itertuples(index=False)}
        copies = {name: rate for name, rate in rates.items() if name not in UNITS}
        if MEMORY in copies:
            found[spot] = Ceilings(rates[PRODUCT], copies, rates.get(LAUNCH, 0.0))
    return found


def limits(records: Records, known: Mapping[Spot, Ceilings]) -> Frame:
    """One row per timed cell but the controls whose operations were counted, where ceilings are known for the dtype
    that it computes in.

    share: of what is attainable, attainable_seconds / seconds; its interval is the seconds' alone. held_by: the
    smallest cache that the least bytes fit, else "memory"; above: why it may be over 1, where it is, by its interval.
    """
    return framed([row for record in records for row in _limits(record, known)], LIMITS)


def _limits(record: Record, known: Mapping[Spot, Ceilings]) -> Iterator[tuple[Any, ...]]:
    trial, timings = record.trial, record.timings
    caches = trial.environment.get("cache_bytes") or {}
    least_bytes = trial.problem.least_bytes(ITEMSIZE[trial.dtype])
    for way, cell in trial.cells.items():
        ceiling = known.get((record.machine, trial.device, cell.computed_in))
        if way == trial.control or not cell.counted or not cell.samples or ceiling is None:
            continue
        place = place_of(least_bytes, {name: caches[name] for name in caches if name in ceiling.bytes_per_s})
        operations, launches = cell.counted["operations"], int(cell.counted["launches"])
        bound = attainable(operations, least_bytes, ceiling, place, launches)
        seconds, (lower, upper) = record.seconds(way), seconds_interval(timings, way)
        share = (bound.seconds / seconds, bound.seconds / upper, bound.seconds / lower)
        over = (share[1] if share[1] == share[1] else share[0]) > 1
        rates = (operations / least_bytes, operations / seconds / 1e9, least_bytes / seconds / 1e9)
        processes = sum(way in timing.samples for timing in timings)
        above = reason(way, trial.problem, bound.limit) if over else ""
        yield (
            *(*record.place.values(), way, seconds, processes, operations, cell.computed_in, least_bytes, *rates),
            *(place, bound.limit, bound.seconds, *share, above),
        )


def seconds_interval(timings: Sequence[Timing], way: str) -> tuple[float, float]:
    """For a way's median seconds, between processes; of one process alone over its blocks; NaN where it has none."""
    timed = [timing for timing in timings if way in timing.samples]
    if len(timed) > 1:
        found = process_interval([timing.seconds(way) for timing in timed])
    else:
        found = median_interval([median(block) for timing in timed for block in timing.samples[way] if block])
    return found or (math.nan, math.nan)


def reason(way: str, problem: Problem, limit: str) -> str:
    """Why a cell may take less time than its ceiling allows, as far as its numbers tell."""
    if limit == "bytes":
        return "part of its data stays in a nearer cache from one call to the next"
    if limit == "launches":
        return "its launches overlap, or are shorter than the one that was measured"
    method = way.rpartition("/")[2]
    if method in LIBRARY and any(layer.taps > 1 for layer in problem.expanded):
        return "the library may transform, with fewer operations than were counted"
    return "its products are faster than those that were measured"


def fastest(frame: Frame) -> Frame:
    """The fastest way of every trial, by estimates, of those that compute all outputs. frame: `limits`."""
    whole = frame[~frame["way"].map(is_partial).astype(bool)]
    return whole.loc[whole.groupby(PLACE, sort=False)["seconds"].idxmin()].reset_index(drop=True)
