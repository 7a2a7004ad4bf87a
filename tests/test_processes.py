"""Trials timed in several processes: which is timed when, when enough are, and what a process that dies costs."""

from __future__ import annotations

import gc
import itertools
import math
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import fields

import pytest
import torch
from children import START

from linear_lasagna import METHODS, Layer, Problem
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.conditions import Watch, page_faults
from linear_lasagna.intervals import LEAST_PROCESSES
from linear_lasagna.methods import Method
from linear_lasagna.planning import fresh
from linear_lasagna.planning.measure import Bench
from linear_lasagna.planning.runs import separate
from linear_lasagna.timing import compare
from linear_lasagna.trial import Cell, Trial, files, isolation, processes, run
from linear_lasagna.trial.files import Key
from linear_lasagna.trial.processes import Limits
from linear_lasagna.trial.record import Repeat
from tests import synthetic

SMALL = Problem("small", 2, 4, (8, 8), (Layer(4, 3, padding=1, bias=True),))
WAYS = ["direct", "control", "shifted_matmul"]
KEYS = [Key("breakeven", problem.name, "float32", "cpu") for problem in GROUPS["breakeven"].problems[:4]]


def process(ratio: float, seconds: float = 1e-3, blocks: int = 4) -> dict[str, list[list[float]]]:
    """Samples of one process in which the way takes so many times as long as the baseline."""
    times = {"direct": 1.0, "control": 1.0, "merged/direct": ratio}
    return {way: [[seconds * each] * 2] * blocks for way, each in times.items()}


def trial(ratios: list[float], problem: Problem = SMALL, **settings: float) -> Trial:
    """Timed in as many processes as there are ratios."""
    first, *others = [process(ratio, **settings) for ratio in ratios]
    cells = {way: Cell(samples=samples, calls_per_sample=1, every=1) for way, samples in first.items()}
    repeats = [Repeat(samples=samples, elapsed_s=0.1) for samples in others]
    return Trial(problem, "float32", "cpu", 1.0, 0, cells, {}, repeats=repeats)


class Disk:
    """Records in memory, in place of `files`; what was done, in order. ratio(key, process) -> the way's ratio."""

    def __init__(self, monkeypatch, ratio=lambda key, number: 2.0, second=0.0):
        self.trials: dict[Key, Trial] = {}
        self.visits: list[tuple[int, Key]] = []
        self.processes: list[list[Key]] = []
        self.ratio, self.now, self.second = ratio, 0.0, second
        for name in ("first", "read", "repeat"):
            monkeypatch.setattr(files, name, getattr(self, name))
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(isolation, "rates", lambda asked, *_: dict.fromkeys(asked, 1e12))

    def first(self, key, fork=False):
        if key not in self.trials:
            self.now += self.second
            self.visits.append((1, key))
            self.trials[key] = trial([self.ratio(key, 1)])
        return self.trials[key]

    def read(self, key):
        return self.trials.get(key)

    def repeat(self, keys):
        self.processes.append(list(keys))
        for key in keys:
            self.now += self.second
            number = 2 + len(self.trials[key].repeats)
            self.visits.append((number, key))
            self.trials[key].repeats.append(Repeat(samples=process(self.ratio(key, number)), elapsed_s=self.second))
            yield key, self.trials[key].repeats[-1]


def test_every_trial_has_its_first_process_before_any_has_its_second(monkeypatch):
    disk = Disk(monkeypatch)
    assert Counter(processes.run(KEYS)) == dict.fromkeys(KEYS, LEAST_PROCESSES)
    numbers = [number for number, _ in disk.visits]
    assert numbers == sorted(numbers)
    assert Counter(numbers) == dict.fromkeys(range(1, LEAST_PROCESSES + 1), len(KEYS))


def test_a_process_visits_some_trials_in_an_order_of_its_own(monkeypatch):
    monkeypatch.setattr(processes, "VISITS", 2)
    disk = Disk(monkeypatch)
    list(processes.run(KEYS))
    assert {len(keys) for keys in disk.processes} == {2}
    assert len({tuple(keys) for keys in disk.processes}) > LEAST_PROCESSES


@pytest.mark.parametrize("seed", range(5))
def test_processes_are_added_until_all_ways_are_settled(monkeypatch, seed):
    """One trial's way is twice as slow in every process, another's a little faster or slower: 3 % either way."""
    rng = random.Random(seed)
    noisy = KEYS[0]
    disk = Disk(monkeypatch, lambda key, number: math.exp(rng.choice((-0.03, 0.03))) if key == noisy else 2.0)
    list(processes.run(KEYS))
    counts = {key: processes.attempts(disk.trials[key]) for key in KEYS}
    assert {counts[key] for key in KEYS[1:]} == {LEAST_PROCESSES}
    assert LEAST_PROCESSES <= counts[noisy] <= processes.MOST_PROCESSES
    found = compare(disk.trials[noisy].timings())["merged/direct"]
    reason = processes.ended(found, 0.0)
    assert reason == ("most" if counts[noisy] == processes.MOST_PROCESSES else "verdict")
    assert processes.finished(disk.trials[noisy]) == (reason == "verdict")


def test_a_run_that_was_stopped_goes_on_where_it_was(monkeypatch):
    disk = Disk(monkeypatch)
    list(itertools.islice(processes.run(KEYS), 7))
    before = list(disk.visits)
    list(processes.run(KEYS))
    assert disk.visits[: len(before)] == before
    assert Counter(disk.visits) == Counter(itertools.product(range(1, LEAST_PROCESSES + 1), KEYS))


def test_no_trial_is_begun_without_the_time_for_its_processes(monkeypatch):
    """Every visit takes 5 s and there are 70: two trials can have six processes each, and a third could not."""
    monkeypatch.setattr(processes, "VISITING_S", 5.0)
    monkeypatch.setattr(processes, "VALIDATING_S", 5.0)
    disk = Disk(monkeypatch, second=5.0)
    list(processes.run(KEYS, Limits(until=76.0, starting_s=0.1)))
    assert sorted(processes.attempts(each) for each in disk.trials.values()) == [LEAST_PROCESSES] * 2
    assert disk.now <= 76.0


def test_some_trials_get_all_their_processes_where_time_is_short(monkeypatch):
    """Every visit takes 5 s; of 60 s, four trials that one process timed could have three each, and no verdict."""
    disk = Disk(monkeypatch, second=5.0)
    disk.trials = {key: trial([2.0]) for key in KEYS}
    for each in disk.trials.values():
        monkeypatch.setattr(each, "visit_s", lambda: 5.0 - processes.VISITING_S)
    list(processes.run(KEYS, Limits(until=60.0, starting_s=0.1)))
    assert sorted(processes.attempts(each) for each in disk.trials.values()) == [1, 1, *[LEAST_PROCESSES] * 2]


def test_starting_processes_takes_time_of_the_run(monkeypatch):
    """Of 76 s, six processes that take 6 s each to start leave enough for one trial alone."""
    monkeypatch.setattr(processes, "VISITING_S", 5.0)
    monkeypatch.setattr(processes, "VALIDATING_S", 5.0)
    disk = Disk(monkeypatch, second=5.0)
    list(processes.run(KEYS, Limits(until=76.0, starting_s=6.0)))
    assert list(disk.trials) == KEYS[:1]


def test_what_does_not_fit_leaves_the_time_to_what_does(monkeypatch):
    long, short = trial([2.0], seconds=10.0), trial([2.0])
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    fit = processes._in_time(KEYS[:2], {KEYS[0]: long, KEYS[1]: short}, Limits(until=20.0))
    assert fit == [KEYS[1]]


def test_a_visit_is_supposed_to_take_as_long_as_the_last(monkeypatch):
    """The first process timed for 0.03 s; each after it took 5 s in all, so that of 45 s left two fit, four times."""
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    trials = {key: trial([2.0, 2.0]) for key in KEYS}
    for each in trials.values():
        each.repeats[-1].elapsed_s = 5.0
    assert processes._in_time(KEYS, trials, Limits(until=45.0, starting_s=0.0)) == KEYS[:2]


def test_the_trial_with_most_to_settle_gets_the_time_that_is_left(monkeypatch):
    """All had six processes; one more visit fits: not of the settled trial, nor of the slow one."""
    settled, slow, noisy = KEYS[:3]
    unsettled = [1.0, 1.1, 0.9, 1.2, 0.8, 1.05]
    disk = Disk(monkeypatch)
    disk.trials = {settled: trial([2.0] * 6), slow: trial(unsettled, seconds=0.1), noisy: trial(unsettled)}
    for each, seconds in ((slow, 9.0), (noisy, 2.0)):
        disk.trials[each].repeats[-1].elapsed_s = seconds
    disk.second = 10.0
    list(processes.run(KEYS[:3], Limits(until=10.0 + processes.STARTING_S)))
    assert disk.visits == [(7, noisy)]


def test_no_trial_is_begun_in_the_time_that_earlier_ones_still_need(monkeypatch):
    """Three were begun by a run that was stopped: of 100 s they need 3 × 5 × 5, and a fourth would need 30."""
    monkeypatch.setattr(processes, "VISITING_S", 5.0)
    disk = Disk(monkeypatch)
    list(itertools.islice(processes.run(KEYS[1:]), 3))
    list(processes.run(KEYS, Limits(until=100.0)))
    assert Counter(map(processes.attempts, disk.trials.values())) == {LEAST_PROCESSES: 3}


def test_quick_trials_come_first_where_time_is_limited(monkeypatch):
    disk = Disk(monkeypatch)
    keys = [Key("networks", f"vgg16/{name}", "float32", "cpu") for name in ("conv1_2", "conv1_1", "conv5")]
    list(processes.run(keys, Limits(until=1000.0)))
    macs = [CATALOG[key.problem].macs for number, key in disk.visits if number == 1]
    assert macs == sorted(macs)


def test_what_is_slower_by_far_and_long_is_timed_once():
    slow = trial([20.0], seconds=0.1)
    assert slow.hopeless("merged/direct")
    assert not slow.hopeless("direct")
    assert not trial([20.0], seconds=0.01).hopeless("merged/direct")  # 0.2 s
    assert not trial([8.0], seconds=0.1).hopeless("merged/direct")
    assert slow.visit_s() == pytest.approx(2 * 0.1 * 8)


def test_a_trial_without_a_baseline_needs_no_further_process():
    failed = trial([2.0])
    failed.cells["direct"].fail("is wrong")
    assert processes.finished(failed)


def test_a_lost_repeat_counts_as_tried_and_not_as_timed():
    lost = trial([2.0] * LEAST_PROCESSES)
    lost.repeats.append(Repeat(reason="was killed"))
    assert processes.attempts(lost) == LEAST_PROCESSES + 1
    assert len(lost.timings()) == LEAST_PROCESSES


# In real processes


class Text(str):
    """JSON that, where it is unpickled, breaks shifted_matmul."""

    __slots__ = ()

    def __reduce__(self):
        return sabotage, (str(self),)


class Sabotaged(Trial):
    def to_json(self):
        return Text(super().to_json())


def sabotage(text):
    def act(x):
        os.kill(os.getpid(), signal.SIGKILL)

    METHODS["shifted_matmul"] = Method("shifted_matmul", lambda kernel, layer: act)
    return text


@pytest.fixture(scope="module")
def first():
    return run(SMALL, WAYS, budget_s=0.02, blocks=4)


def test_a_repeat_times_the_same_calls_by_the_same_plan(first):
    repeats = list(isolation.repeat_isolated([("forward", first), ("forward", first)], seed=3, start_method=START))
    assert not multiprocessing.active_children()
    assert [repeat.reason for repeat in repeats] == ["", ""]
    for repeat in repeats:
        assert list(repeat.samples) == list(first.timing().samples)
        for way, blocks in repeat.samples.items():
            assert len(blocks) <= 4
            assert all(seconds > 0 for block in blocks for seconds in block)
            assert max(map(len, blocks)) == max(map(len, first.cells[way].samples))
        assert repeat.seed == 3
        assert 0 < repeat.timed_s < repeat.elapsed_s
        assert {"allocator", "steal", "mhz", "preempted"} <= repeat.conditions.keys()
    first = Trial.from_json(first.to_json())
    first.repeats += repeats
    assert Trial.from_json(first.to_json()) == first
    assert compare(first.timings())["shifted_matmul"].processes == 3


def test_a_process_that_dies_costs_the_visit_alone(first):
    values = {each.name: getattr(first, each.name) for each in fields(Trial)}
    works = [("forward", first), ("forward", Sabotaged(**values)), ("forward", first)]
    repeats = list(isolation.repeat_isolated(works, seed=1, start_method=START))
    assert not multiprocessing.active_children()
    # All records are unpickled when a process starts: the first of them sabotages what comes before it, too.
    assert [bool(repeat.samples) for repeat in repeats] == [False, False, True]
    assert "was killed by SIGKILL" in repeats[1].reason


def test_a_process_that_does_not_start_is_nobody_s_fault(first):
    with pytest.raises(RuntimeError, match="did not start"):
        list(isolation.repeat_isolated([("forward", first)], seed=1, timeout_s=0.0, start_method=START))


TWO_CUTS = {"stacked": separate(3), "time": ((0, 1), (1, 3))}


def ask_for_cuts(send, watch):
    """Sends what fresh processes timed, and whether this one looks through all objects of its libraries for garbage."""
    bench = Bench(CATALOG["stacks/plain_x3"].reduced(), "cpu", torch.float64, "direct")
    timed, refused = (fresh.fresh_timing(bench, TWO_CUTS, 0.01) for _ in range(2))
    send("answer", {"samples": timed and timed.samples, "refused": refused, "frozen": gc.get_freeze_count()})


def test_the_parent_starts_the_fresh_process_in_which_a_plan_is_confirmed(monkeypatch):
    """It may have all libraries at hand, which another Python would have to import."""
    answered, answer = [], isolation._Child._fresh

    def once(self, task):
        answered.append(task["cuts"])
        return answer(self, task) if len(answered) == 1 else "was killed"

    monkeypatch.setattr(isolation._Child, "_fresh", once)
    child = isolation._Child(multiprocessing.get_context(START), (), ask_for_cuts, ())
    end = child.result(30.0)
    child.end()
    assert not multiprocessing.active_children()
    assert answered == [TWO_CUTS, TWO_CUTS]
    assert list(end["samples"]) == list(TWO_CUTS)
    assert end["refused"] is None
    assert end["frozen"] > 10_000


def test_page_faults_are_counted_per_call():
    """Memory that is touched for the first time costs a fault per page."""
    before = page_faults()
    if before is None:
        pytest.skip("this system does not tell")
    bytearray(b"x") * (1 << 26)
    assert page_faults() > before


def test_the_conditions_are_plain_data():
    seen = Watch().seen()
    assert seen["allocator"] == "keep"
    assert 0 <= (seen["steal"] or 0) <= 1
    assert (seen["preempted"] or 0) >= 0


def test_an_unknown_allocator_is_named(monkeypatch):
    monkeypatch.setenv("LASAGNA_ALLOCATOR", "jemalloc")
    with pytest.raises(ValueError, match="LASAGNA_ALLOCATOR must be one of keep, default"):
        Watch().seen()


def test_emptying_caches_is_counted_before_it_is_known_how_long_a_visit_takes():
    def visit_s(under: dict[str, str]) -> float:
        return processes._visit_s(synthetic.trial("vgg16/conv5", {}, seconds=1e-6, several=False, under=under))

    assert visit_s({}) == pytest.approx(processes.VISITING_S, rel=0.01)
    assert visit_s({"cache": "cold"}) == pytest.approx(processes.VISITING_S + 4.0)  # of a budget of a second
