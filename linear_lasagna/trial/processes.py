"""Which trial is timed in which process, and when enough are: every trial's first process, every trial's second, …

The processes of a trial are spread over the whole run, so that what changes from minute to minute is in its interval.
Each after the first visits many trials, drawn anew; what their interval says decides how many there are.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from linear_lasagna.catalog import GROUPS, problem_named
from linear_lasagna.installed import needed
from linear_lasagna.intervals import LEAST_PROCESSES, Stop, settled
from linear_lasagna.timing import FLUSHING, Comparison, compare
from linear_lasagna.trial import files
from linear_lasagna.trial.files import Key
from linear_lasagna.trial.record import Trial

Ended: TypeAlias = Literal["verdict", "precise", "most", "time"]

MOST_PROCESSES = 18
VISITS = 100  # trials that one process repeats, at most
# Seconds, only to guess whether the time suffices: to start a process, to validate a small trial, to visit one again.
STARTING_S, VALIDATING_S, VISITING_S = 2.5, 1.2, 0.2
COMPILING_S = 40.0  # the same, of a trial for which other runtimes are loaded and compile
LEARNED_S = 10.0  # of guesses, before what they came to corrects the next
CALLS = 2 + LEAST_PROCESSES  # of a way on the whole problem: the first process makes a few that are no samples


@dataclass(frozen=True)
class Limits:
    """most: processes of one trial; until: when to end, by the monotonic clock. fork: as `files.first` takes it.
    starting_s: seconds that a fresh process takes to start.
    """

    most: int = MOST_PROCESSES
    until: float = math.inf
    fork: bool = False
    starting_s: float = STARTING_S

    def left_s(self) -> float:
        return self.until - time.monotonic()

    def starts_s(self, rounds: int, trials: int) -> float:
        """Seconds that starting the processes takes which visit all trials so many times."""
        return rounds * math.ceil(trials / VISITS) * self.starting_s


def run(keys: Sequence[Key], limits: Limits = Limits()) -> Iterator[Key]:
    """Validate all trials and time them until all are settled, or the limits are reached; each key as it has been
    visited.

    Where time is limited, the trials that take least per way come first, and none is begun without the time for as many
    processes as an interval needs: what the machine is slow at is left out.
    """
    if math.isfinite(limits.until):
        yield from _first_in_time(keys, limits)
    else:
        for key in keys:
            files.first(key, limits.fork)
            yield key
    yield from further(keys, limits)


def _first_in_time(keys: Sequence[Key], limits: Limits) -> Iterator[Key]:
    known = {key: trial for key in keys if (trial := files.read(key)) is not None}
    yield from known
    costs = guessed_seconds([key for key in keys if key not in known], limits.fork)
    # Seconds that the trials so far need for their processes.
    owed = limits.starts_s(LEAST_PROCESSES - 1, len(keys)) + sum(map(_still_s, known.values()))
    taken = supposed = 0.0  # seconds: what trials took beside the constant part, and what they were guessed to
    whole = VALIDATING_S + LEAST_PROCESSES * VISITING_S
    for key in sorted(costs, key=lambda key: costs[key] / len(GROUPS[key.group].ways)):
        constant = whole + COMPILING_S * any(map(needed, GROUPS[key.group].ways))
        guess = constant + costs[key] * (taken / supposed if supposed > LEARNED_S else 1.0)
        if limits.left_s() < owed + guess:
            continue
        trial = files.first(key, limits.fork)
        owed += _still_s(trial)
        taken, supposed = taken + max(0.0, trial.elapsed_s + _still_s(trial) - constant), supposed + costs[key]
        yield key


def _still_s(trial: Trial) -> float:
    """Seconds that a trial needs until as many processes have timed it as an interval needs."""
    return max(0, LEAST_PROCESSES - attempts(trial)) * _visit_s(trial)


def _still(trial: Trial) -> int:
    """Processes that a trial needs until it has as many as an interval needs, or one."""
    return max(1, LEAST_PROCESSES - attempts(trial))


def _visit_s(trial: Trial) -> float:
    """Seconds that one more process will take for a trial: as many as the last, or as long as the first timed it."""
    took = [repeat.elapsed_s for repeat in trial.repeats if not repeat.reason]
    flushing_s = FLUSHING * trial.budget_s if trial.under.get("cache") == "cold" else 0.0
    return took[-1] if took else max(trial.visit_s(), flushing_s) + VISITING_S


def guessed_seconds(keys: Sequence[Key], fork: bool = False) -> dict[Key, float]:
    """A guess at the seconds that each trial takes beside a constant: the multiply-accumulates of all calls that are
    made of its ways, over what a matrix product does here.
    """
    from linear_lasagna.trial.isolation import rates

    if not keys:
        return {}
    known = rates({(key.dtype, key.device) for key in keys}, "fork" if files.forkable(fork) else "spawn")
    return {key: CALLS * _operations(key) / known[key.dtype, key.device] for key in keys}


def _operations(key: Key) -> int:
    """Multiply-accumulates of one call of every way, as if all that plan had merged the whole stack."""
    from linear_lasagna.merging import not_mergeable
    from linear_lasagna.planning.operations import run_operations
    from linear_lasagna.trial.isolation import WORKS

    problem, group = problem_named(key.problem), GROUPS[key.group]
    merged = problem.macs if not_mergeable(problem.expanded) else run_operations(problem, (0, problem.depth))
    forward = [WORKS[key.work].way(name) for name in group.ways]
    apart = sum(way is None or (way.schedule.merges is None and way.schedule.plans is None) for way in forward)
    return apart * problem.macs + (len(forward) - apart) * merged


def further(keys: Sequence[Key], limits: Limits = Limits()) -> Iterator[Key]:
    """The processes after the first, of trials that have a record.

    Where there is no time for all, those with the most cells to settle in a second come first.
    """
    trials = {key: trial for key in keys if (trial := files.read(key)) is not None}
    for number in range(2, limits.most + 1):
        due = [key for key, trial in trials.items() if attempts(trial) < number and not finished(trial)]
        due.sort(key=lambda key: _visit_s(trials[key]) / unsettled(trials[key]))
        for chunk in _chunks(_in_time(due, trials, limits), number):
            visited = _in_time(chunk, trials, limits)  # the chunks before may have taken longer than was supposed
            if visited:
                yield from (key for key, _ in files.repeat({key: trials[key] for key in visited}))


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


def unsettled(trial: Trial) -> int:
    """How many cells need further processes: all, before as many have timed them as an interval needs."""
    if attempts(trial) < LEAST_PROCESSES:
        return len(trial.named("ok"))
    return sum(reason is None for reason in reasons(trial).values())


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
    processes, or after those that there was time for or that a lower limit allowed.
    """
    reason = _settled(comparison, noise)
    if reason is not None:
        return reason
    return "most" if comparison.processes >= most else "time"


def _chunks(keys: Sequence[Key], number: int) -> Iterator[list[Key]]:
    """The trials that each process visits, those of a device, drawn anew for every number."""
    order = random.Random(number)
    for device in dict.fromkeys(key.device for key in keys):
        members = [key for key in keys if key.device == device]
        order.shuffle(members)
        count = math.ceil(len(members) / VISITS)
        yield from (members[place::count] for place in range(count))


def _in_time(keys: Sequence[Key], trials: Mapping[Key, Trial], limits: Limits) -> list[Key]:
    """Those that can probably be timed before the end by as many processes as an interval needs, or by one more; the
    first ones first.
    """
    rounds = max((_still(trials[key]) for key in keys), default=1)
    left_s, chosen = limits.left_s() - limits.starts_s(rounds, len(keys)), list[Key]()
    for key in keys:
        if (cost_s := _still(trials[key]) * _visit_s(trials[key])) <= left_s:
            left_s, chosen = left_s - cost_s, [*chosen, key]
    return chosen
