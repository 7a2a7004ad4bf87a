"""Which trial is timed in which process, and when enough are: every trial's first process, every trial's second, …

The processes of a trial are spread over the whole run, so that what changes from minute to minute is in its interval.
Each after the first visits many trials, drawn anew; what their interval says decides for how long.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from linear_lasagna.intervals import LEAST_PROCESSES, Stop, settled
from linear_lasagna.timing import Comparison, compare
from linear_lasagna.trial import files
from linear_lasagna.trial.files import Key
from linear_lasagna.trial.record import Trial

Ended: TypeAlias = Literal["verdict", "precise", "most", "time"]

MOST_PROCESSES = 18
VISITS = 24  # trials that one process repeats, at most
STARTING_S = 2.0  # what a process needs before it times; only to guess whether the time suffices


@dataclass(frozen=True)
class Limits:
    """most: processes of one trial; until: when to end, by the monotonic clock. fork: as `files.first` takes it."""

    most: int = MOST_PROCESSES
    until: float = math.inf
    fork: bool = False

    def left_s(self) -> float:
        return self.until - time.monotonic()


def run(keys: Sequence[Key], limits: Limits = Limits()) -> Iterator[Key]:
    """Validate all trials and time them until all are settled, or the limits are reached; each key as it has been
    visited. Nothing begins that would hardly end in time.
    """
    slowest = 0.0
    for key in keys:
        if limits.left_s() < slowest:
            return
        trial = files.first(key, limits.fork)
        slowest = max(slowest, trial.elapsed_s)
        yield key
    yield from further(keys, limits)


def further(keys: Sequence[Key], limits: Limits = Limits()) -> Iterator[Key]:
    """The processes after the first, of trials that have a record."""
    for number in range(2, limits.most + 1):
        trials = {key: trial for key in keys if (trial := files.read(key)) is not None}
        due = [key for key, trial in trials.items() if attempts(trial) < number and not finished(trial)]
        for chunk in _chunks(due, number):
            chunk = _in_time(chunk, trials, limits)
            if chunk:
                yield from (key for key, _ in files.repeat(chunk))


def attempts(trial: Trial) -> int:
    """Processes that have timed it, or tried to."""
    return 1 + len(trial.repeats)


def finished(trial: Trial) -> bool:
    """Whether no further process of the trial is needed."""
    if not trial.named("ok") or trial.baseline not in trial.timing().samples:
        return True
    if attempts(trial) < LEAST_PROCESSES:
        return False
    return all(reason is not None for reason in reasons(trial).values())


def reasons(trial: Trial) -> dict[str, Stop | None]:
    """As `intervals.settled` has it, for every way but the baseline and the control that several processes timed."""
    compared = compare(trial.timings(), trial.baseline, trial.control)
    noise = abs(math.log(compared[trial.control].ratio)) if trial.control in compared else 0.0
    return {
        way: _settled(comparison, noise)
        for way, comparison in compared.items()
        if way != trial.control and comparison.processes > 1
    }


def _settled(comparison: Comparison, noise: float) -> Stop | None:
    estimate, lower, upper = (math.log(end) for end in (comparison.ratio, comparison.lower, comparison.upper))
    return settled(estimate, lower, upper, noise)


def ended(comparison: Comparison, noise: float, most: int = MOST_PROCESSES) -> Ended:
    """Why no further process timed a cell: its verdict is clear, its interval narrow, or it is neither after the most
    processes, or after those that there was time for.
    """
    reason = _settled(comparison, noise)
    if reason is not None:
        return reason
    return "most" if comparison.processes >= most else "time"


def _chunks(keys: Sequence[Key], number: int) -> Iterator[list[Key]]:
    """Trials of one group and device, drawn anew for every process."""
    order = random.Random(number)
    chunks = []
    for group in dict.fromkeys((key.group, key.device) for key in keys):
        members = [key for key in keys if (key.group, key.device) == group]
        order.shuffle(members)
        count = math.ceil(len(members) / VISITS)
        chunks += [members[place::count] for place in range(count)]
    order.shuffle(chunks)
    yield from chunks


def _in_time(keys: list[Key], trials: dict[Key, Trial], limits: Limits) -> list[Key]:
    """The trials of a chunk that can probably be timed before the end."""
    left, chosen = limits.left_s() - STARTING_S, []
    for key in keys:
        trial = trials[key]
        left -= max((repeat.elapsed_s for repeat in trial.repeats), default=2 * trial.timed_s)
        if left > 0:
            chosen.append(key)
    return chosen
