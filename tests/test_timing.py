"""Measuring and comparing: structure on a clock of its own, statistics on samples with known answers.

No test looks at how long anything really takes: `VirtualClock` replaces the clock that `timing` reads.
"""

import gc
import itertools
import math
import statistics
from collections import Counter
from types import SimpleNamespace

import numpy
import pytest

from linear_lasagna import devices, intervals, timing
from linear_lasagna.timing import Timing, compare, measure

MS = 1e-3
SIGMAS = 3


class VirtualClock:
    """Time that passes only in calls, as long as they are said to take. Records who was called when."""

    def __init__(self, monkeypatch, **seconds):
        self.now, self.seconds, self.first, self.built, self.calls = 0.0, seconds, {}, [], []
        for module in (timing, devices):
            monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def build(self, block):
        self.built.append(block)
        return {name: self.call(name, block) for name in self.seconds}

    def call(self, name, block):
        def run():
            seconds = self.seconds[name]
            if callable(seconds):
                seconds = seconds(sum(1 for called, _ in self.calls if called == name))
            self.calls.append((name, block))
            self.now += seconds

        return run

    def of_block(self, block):
        return [name for name, where in self.calls if where == block]


def visits(clock, block, number):
    """The visits of a block in order, each `number[name]` calls of one name; untimed first calls left out."""
    names = clock.of_block(block)[len(number) :]
    order = []
    while names:
        order.append(names[0])
        assert names[: number[names[0]]] == [names[0]] * number[names[0]]
        names = names[number[names[0]] :]
    return order


@pytest.fixture
def clock(monkeypatch):
    return VirtualClock(monkeypatch, direct=1 * MS, unfold=2 * MS, control=1 * MS)


def test_structure(clock):
    measured = measure(clock.build, budget_s=1.0)
    assert list(measured.samples) == list(clock.seconds)
    for name, seconds in clock.seconds.items():
        blocks = measured.samples[name]
        assert len(blocks) == timing.BLOCKS == 12
        assert {len(rounds) for rounds in blocks} == {20}  # 12 x 20 rounds of 4 ms are 0.96 s
        assert all(sample == pytest.approx(seconds, rel=1e-9) for rounds in blocks for sample in rounds)
        assert measured.seconds(name) == pytest.approx(seconds, rel=1e-9)
        assert len(measured.medians(name)) == 12
    assert measured.calls_per_sample == measured.every == dict.fromkeys(clock.seconds, 1)
    assert measured.elapsed_s == pytest.approx(clock.now)


def test_every_block_is_built_anew_and_uses_its_own_calls(clock):
    measure(clock.build, budget_s=1.0)
    assert clock.built == list(range(12))
    for block in range(1, 12):
        assert Counter(clock.of_block(block)) == dict.fromkeys(clock.seconds, 21)  # one untimed, 20 rounds
    assert [block for _, block in clock.calls] == sorted(block for _, block in clock.calls)


def test_every_round_has_every_call_once_in_a_fresh_order(clock):
    measured = measure(clock.build, budget_s=1.0)
    orders = []
    for block in range(1, 12):
        order = visits(clock, block, measured.calls_per_sample)
        orders += [tuple(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert all(sorted(order) == sorted(clock.seconds) for order in orders)
    assert set(orders) == set(itertools.permutations(clock.seconds))
    repeated = sum(a == b for a, b in itertools.pairwise(orders))
    # One order in six repeats the one before, by chance.
    assert abs(repeated / len(orders) - 1 / 6) < 5 * math.sqrt(5 / 36 / len(orders))


def test_seed_fixes_the_order(monkeypatch):
    called = {}
    for key, seed in (("a", 1), ("b", 1), ("c", 2)):
        clock = VirtualClock(monkeypatch, direct=MS, unfold=MS, control=MS)
        measure(clock.build, budget_s=0.2, seed=seed)
        called[key] = clock.calls
    assert called["a"] == called["b"] != called["c"]


def test_without_interleaving_each_call_has_its_rounds_in_one_go(clock):
    measured = measure(clock.build, budget_s=1.0, interleaved=False)
    orders = set()
    for block in range(1, 12):
        order = visits(clock, block, measured.calls_per_sample)
        groups = [(name, len(list(group))) for name, group in itertools.groupby(order)]
        assert sorted(groups) == [("control", 20), ("direct", 20), ("unfold", 20)]
        orders.add(tuple(name for name, _ in groups))
    assert len(orders) > 1


def test_the_first_call_is_recorded_apart(monkeypatch):
    """A first call of 100 ms, as if it compiled something; all later ones take 1 ms."""
    clock = VirtualClock(monkeypatch, direct=lambda before: 1 * MS if before else 100 * MS, control=1 * MS)
    measured = measure(clock.build, budget_s=1.0)
    assert measured.first_call_s["direct"] == pytest.approx(100 * MS)
    assert max(map(max, measured.samples["direct"])) == pytest.approx(1 * MS)
    assert len(measured.samples["direct"][0]) == len(measured.samples["control"][0])


def test_short_calls_are_averaged_over_a_visit(monkeypatch):
    clock = VirtualClock(monkeypatch, direct=1e-5, unfold=3e-5, control=1e-5)
    measured = measure(clock.build, budget_s=0.1)
    for name, number in measured.calls_per_sample.items():
        assert number == math.ceil(timing.VISIT_S / clock.seconds[name] * (1 - 1e-9))
        assert measured.samples[name][0][0] == pytest.approx(clock.seconds[name], rel=1e-6)
    order = visits(clock, 1, measured.calls_per_sample)
    assert len(order) == 3 * len(measured.samples["direct"][1])


@pytest.mark.parametrize("slow", [50, 100, 400])
def test_slow_calls_join_every_kth_round(monkeypatch, slow):
    clock = VirtualClock(monkeypatch, direct=MS, slow=slow * MS, control=MS)
    measured = measure(clock.build, budget_s=20.0)
    k = measured.every["slow"]
    assert k == max(1, round(slow / timing.SLOW_RATIO))
    assert measured.every["direct"] == measured.every["control"] == 1
    fast = [len(rounds) for rounds in measured.samples["direct"]]
    assert len(set(fast)) == 1
    joined = [sum(1 for r in range(fast[0]) if (b * fast[0] + r) % k == 0) for b in range(len(fast))]
    assert [len(rounds) for rounds in measured.samples["slow"]] == joined
    assert min(joined) >= 1


@pytest.mark.parametrize("budget_s", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("slow", [2, 30, 200])
def test_budget_is_kept(monkeypatch, budget_s, slow):
    """Over it by no more than a round per block and the calls before the first block."""
    clock = VirtualClock(monkeypatch, direct=MS, slow=slow * MS, control=MS)
    measured = measure(clock.build, budget_s=budget_s)
    one_round = (2 + slow) * MS
    assert measured.timed_s <= budget_s + (3 + timing.BLOCKS) * one_round
    assert measured.timed_s <= measured.elapsed_s * (1 + 1e-9)
    assert all(rounds for blocks in measured.samples.values() for rounds in blocks[:1])


def test_what_outlasts_the_budget_is_observed_once(monkeypatch):
    clock = VirtualClock(monkeypatch, direct=MS, slow=700 * MS, slower=5000 * MS, setup=lambda n: MS if n else 1)
    observed = []

    def observe(name, timed):
        observed.append(name)
        clock.now += 1.0  # what it takes to look does not count
        return timed(clock.call(name, 0))

    measured = measure(clock.build, budget_s=0.5, observe=observe)
    assert observed == ["slow", "slower", "setup"]
    assert measured.samples["slow"] == [[pytest.approx(0.7)]]
    assert measured.samples["slower"] == [[pytest.approx(5.0)]]
    assert len(measured.samples["setup"]) == len(measured.samples["direct"])


@pytest.mark.parametrize("slow", [20, 700, 5000])  # over the budget; and beyond what is called again
def test_every_visit_of_the_clock_counts_once(monkeypatch, slow):
    clock = VirtualClock(monkeypatch, direct=20 * MS, slow=slow * MS)  # longer than calls that are made untimed
    assert measure(clock.build, budget_s=0.5).timed_s == pytest.approx(clock.now)


@pytest.mark.parametrize("budget_s", [0.25, 0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("slow", [1, 3, 30, 60, 200])
@pytest.mark.parametrize("others", [0, 9])
def test_every_call_gets_its_blocks_where_one_round_fits_the_budget(monkeypatch, budget_s, slow, others):
    """However slow a call is beside the others, and however many there are."""
    seconds = {"direct": MS, "control": MS, "slow": slow * MS} | {f"way{i}": slow * MS / 2 for i in range(others)}
    clock = VirtualClock(monkeypatch, **seconds)
    measured = measure(clock.build, budget_s=budget_s)
    fits = sum(seconds.values()) <= budget_s
    for name in seconds:
        if fits:
            assert sum(map(bool, measured.samples[name])) >= intervals.LEAST_BLOCKS
            assert all(measured.samples[name])
    assert measured.timed_s <= timing.OVER_BUDGET * budget_s + 4 * sum(seconds.values())  # 4: before the first block


def test_the_least_number_of_blocks_is_not_forced_where_it_would_explode(monkeypatch):
    """11 calls of 0.9 s and a budget of 1 s: 8 blocks would take 79 s, so there are none beyond the first."""
    clock = VirtualClock(monkeypatch, **{f"way{i}": 0.9 for i in range(11)})
    measured = measure(clock.build, budget_s=1.0)
    assert {len(blocks) for blocks in measured.samples.values()} == {1}
    clock = VirtualClock(monkeypatch, direct=0.3, control=0.3)
    assert len(measure(clock.build, budget_s=1.0, least_blocks=1).samples["direct"]) == 1


@pytest.mark.parametrize(("endless", "calls"), [(2.0, 2), (1000.0, 1)])
def test_a_call_longer_than_the_budget_is_one_sample_without_a_verdict(monkeypatch, endless, calls):
    """Called once more to see whether only the first call was so long, unless it was far too long."""
    clock = VirtualClock(monkeypatch, direct=MS, endless=endless, control=MS)
    measured = measure(clock.build, budget_s=1.0)
    assert measured.samples["endless"] == [[pytest.approx(endless)]]
    assert sum(1 for name, _ in clock.calls if name == "endless") == calls
    assert (measured.calls_per_sample["endless"], measured.every["endless"]) == (1, 1)
    assert len(measured.samples["direct"]) == timing.BLOCKS
    found = compare(measured)["endless"]
    assert found.verdict == "undecided"
    assert found.ratio == pytest.approx(1000 * endless)
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)


def test_a_first_call_longer_than_the_budget_is_not_held_against_the_others(monkeypatch):
    clock = VirtualClock(monkeypatch, direct=MS, compiled=lambda before: MS if before else 1.5)
    measured = measure(clock.build, budget_s=1.0)
    assert measured.first_call_s["compiled"] == pytest.approx(1.5)
    assert len(measured.samples["compiled"]) == timing.BLOCKS
    assert max(map(max, measured.samples["compiled"])) == pytest.approx(MS)


def test_the_first_call_is_no_sample_where_there_is_a_second(monkeypatch):
    """Setting up is not what a call takes, however long the call itself."""
    clock = VirtualClock(monkeypatch, direct=MS, setting_up=lambda before: 2.0 if before else 3.0)
    measured = measure(clock.build, budget_s=1.0)
    assert measured.first_call_s["setting_up"] == pytest.approx(3.0)
    assert measured.samples["setting_up"] == [[pytest.approx(2.0)]]


@pytest.mark.parametrize("seconds", [5 * MS, 20 * MS, 300 * MS])
def test_what_sets_up_for_every_block_is_timed_after_that(monkeypatch, seconds):
    """As a method does that transforms its kernels in its first call; also in the next process, by the plan."""
    clock = VirtualClock(monkeypatch, direct=MS)

    def build(block):
        made = iter([10 * seconds])

        def lazy():
            clock.now += next(made, seconds)

        return {"direct": clock.call("direct", block), "lazy": lazy}

    measured = measure(build, budget_s=1.0)
    again = measure(build, budget_s=1.0, plan=measured.plan)
    for blocks in (measured.samples["lazy"], again.samples["lazy"]):
        assert len(blocks) >= intervals.LEAST_BLOCKS
        assert all(sample == pytest.approx(seconds) for block in blocks for sample in block)
    assert measured.first_call_s["lazy"] == pytest.approx(10 * seconds)


def test_all_calls_longer_than_the_budget(monkeypatch):
    clock = VirtualClock(monkeypatch, direct=2.0, control=3.0)
    measured = measure(clock.build, budget_s=1.0)
    assert measured.samples == {"direct": [[pytest.approx(2.0)]], "control": [[pytest.approx(3.0)]]}
    assert clock.built == [0]
    assert compare(measured)["control"].verdict == "undecided"


@pytest.mark.parametrize("budget_s", [0, -1.0, math.nan])
def test_budget_must_be_positive(budget_s):
    with pytest.raises(ValueError, match="budget_s must be positive"):
        measure(lambda block: {"direct": int}, budget_s=budget_s)


def test_there_must_be_calls():
    with pytest.raises(ValueError, match="no calls"):
        measure(lambda block: {})


def test_garbage_is_not_collected_inside_and_is_afterwards(monkeypatch):
    seen = []
    clock = VirtualClock(monkeypatch, direct=lambda before: seen.append(gc.isenabled()) or MS)
    measure(clock.build, budget_s=0.1)
    assert not any(seen[3:])
    assert gc.isenabled()


def test_garbage_collection_returns_after_an_exception(monkeypatch):
    def fails_later(before):
        if before > 20:
            raise RuntimeError("broken")
        return MS

    clock = VirtualClock(monkeypatch, direct=fails_later)
    with pytest.raises(RuntimeError, match="broken"):
        measure(clock.build, budget_s=0.1)
    assert gc.isenabled()


def test_on_the_real_clock():
    """Something is measured; how long it takes is nobody's business."""
    data = list(range(50))
    measured = measure(lambda block: {"direct": data.copy, "control": data.copy}, budget_s=0.05)
    for blocks in measured.samples.values():
        assert len(blocks) >= 1
        assert all(math.isfinite(sample) and sample > 0 for rounds in blocks for sample in rounds)


# What comparisons make of samples with known answers


def timing_of(samples):
    """A Timing of the given samples."""
    once = dict.fromkeys(samples, 1)
    return Timing(samples, dict.fromkeys(samples, 1.0), once, once, 1.0, 1.0)


def constant(*ratios, blocks=12):
    """Blocks of three rounds; the baseline takes 1 s and drifts by 30 %, the others the same times a ratio."""
    drift = [1 + 0.1 * (b % 4) for b in range(blocks)]
    names = ["direct", *(f"way{i}" for i in range(len(ratios)))]
    return timing_of({n: [[r * d] * 3 for d in drift] for n, r in zip(names, (1.0, *ratios), strict=True)})


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.0, "tie"),
        (1.009, "tie"),
        (0.992, "tie"),
        (1.02, "slower"),
        (0.98, "faster"),
        (20.0, "slower"),
        (0.01, "faster"),
    ],
)
def test_ratio_and_verdict(ratio, verdict):
    found = compare(constant(ratio))["way0"]
    assert found.ratio == pytest.approx(ratio)
    assert found.lower == pytest.approx(ratio)
    assert found.upper == pytest.approx(ratio)
    assert (found.verdict, found.blocks, found.margin) == (verdict, 12, intervals.MARGIN)


def test_every_other_call_is_compared():
    assert list(compare(constant(1.0, 2.0, 3.0))) == ["way0", "way1", "way2"]
    assert list(compare(constant(2.0, 4.0), baseline="way1")) == ["direct", "way0"]
    assert compare(constant(2.0, 4.0), baseline="way1")["way0"].ratio == pytest.approx(0.5)


@pytest.mark.parametrize(("blocks", "verdict"), [(1, "undecided"), (7, "undecided"), (8, "slower"), (12, "slower")])
def test_fewer_than_8_blocks_have_no_verdict(blocks, verdict):
    found = compare(constant(2.0, blocks=blocks))["way0"]
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(2.0)
    assert math.isnan(found.lower) == math.isnan(found.upper) == (blocks < 8)
    assert found.blocks == blocks


def test_missing_baseline():
    with pytest.raises(KeyError, match="'einsum' was not timed; timed: direct, way0"):
        compare(constant(2.0), baseline="einsum")


@pytest.mark.parametrize("name", ["control", None, "nothing"])
def test_without_a_control_the_margin_stays(name):
    assert compare(constant(1.02), control=name)["way0"].verdict == "slower"


@pytest.mark.parametrize(
    ("noise", "verdict"), [(1.0, "slower"), (1.02, "slower"), (1.04, "undecided"), (1 / 1.04, "undecided")]
)
def test_what_the_control_shows_is_the_margin(noise, verdict):
    """A 3 % difference beside a control that differs by 0, 2, 4 % from its twin: no tie, ever."""
    samples = constant(1.03, noise).samples
    found = compare(timing_of({"direct": samples["direct"], "way": samples["way0"], "control": samples["way1"]}))
    assert found["way"].verdict == verdict
    assert found["way"].margin == pytest.approx(max(intervals.MARGIN, abs(math.log(noise))))


@pytest.mark.parametrize("noise", [1.0, 1.04])
def test_a_restless_control_undoes_no_tie(noise):
    """A difference of 0.5 % is one whatever the control shows."""
    found = compare(constant(1.005, noise), control="way1")["way0"]
    assert found.verdict == "tie"


@pytest.mark.parametrize("true", [1.05, 1.1])
def test_a_difference_between_processes_is_no_tie(true):
    """Control and way are each off by 5 %, as from one process to the next: of 300, none that differs is called a tie,
    though the margin that such a control sets often exceeds the difference."""
    generator = numpy.random.default_rng(2)
    widest = 0.0
    for _ in range(300):
        off, noise = numpy.exp(generator.normal(0, 0.05, 2))
        found = compare(constant(true * off, noise), control="way1")["way0"]
        assert (found.verdict == "tie") == (abs(math.log(true * off)) <= intervals.MARGIN)
        widest = max(widest, found.margin - abs(math.log(true * off)))
    assert widest > 0


def test_an_interval_around_zero_is_undecided():
    """Block ratios of -3 % and +6 %: the median exceeds the margin, the interval does not exclude zero."""
    blocks = [[math.exp(0.06 + 0.001 * b if b % 2 or b == 0 else -0.03)] for b in range(12)]
    found = compare(timing_of({"direct": [[1.0]] * 12, "way": blocks}))["way"]
    assert found.verdict == "undecided"
    assert found.lower < 1 < found.ratio < found.upper


@pytest.mark.parametrize("processes", [1, 6])
def test_some_are_compared_as_among_all(processes):
    """Of one process, how its blocks depend on each other is estimated from all calls."""
    timings = [constant(0.5, 1.5, 2.0)] * processes
    every = compare(timings)
    some = compare(timings, only={"way0", "way2", "never timed"})
    assert list(some) == ["way0", "way2"]
    assert [repr(each) for each in some.values()] == [repr(every[name]) for name in some]


def test_a_block_is_the_median_over_rounds():
    """One outlier per block changes nothing, and a drift that both share cancels round by round."""
    drift = [1.0, 2.0, 400.0, 8.0, 16.0]
    direct = [drift] * 8
    way = [[300.0, *(3 * d for d in drift[1:])]] * 8
    assert timing_of({"direct": direct, "way": way}).log_ratios("way", "direct") == pytest.approx([math.log(3)] * 8)


def test_a_call_that_joined_fewer_rounds_is_compared_by_medians():
    direct, way = [[1.0, 2.0, 3.0, 2.0]] * 8, [[8.0, 4.0, 6.0]] * 8
    measured = timing_of({"direct": direct, "way": way})
    assert measured.log_ratios("way", "direct") == pytest.approx([math.log(3)] * 8)


def test_blocks_without_a_sample_are_left_out():
    measured = timing_of({"direct": [[1.0]] * 10, "way": [[2.0], []] * 5})
    assert measured.log_ratios("way", "direct") == pytest.approx([math.log(2)] * 5)
    assert compare(measured)["way"].verdict == "undecided"
    assert measured.medians("way") == [2.0] * 5


def test_nothing_to_compare():
    found = compare(timing_of({"direct": [[1.0]], "way": []}))["way"]
    assert (found.verdict, found.blocks) == ("undecided", 0)
    assert math.isnan(found.ratio)


# Statistics of the verdicts

REPEATS = 250
ROUNDS = 20


def noisy(generator, ratios, noise, correlation, shared=0.2):
    """12 blocks of 20 rounds, log-normal: AR(1) of standard deviation `noise` per call, and a shared drift."""
    rounds = timing.BLOCKS * ROUNDS

    def series(deviation, correlation):
        steps = generator.normal(0, deviation * math.sqrt(1 - correlation**2), rounds)
        values = [generator.normal(0, deviation)]
        for step in steps[1:]:
            values.append(correlation * values[-1] + step)
        return numpy.array(values)

    drift = series(shared, 0.9)
    samples = {}
    for name, ratio in ratios.items():
        times = ratio * numpy.exp(drift + series(noise, correlation))
        samples[name] = times.reshape(timing.BLOCKS, ROUNDS).tolist()
    return timing_of(samples)


def compared(ratios, noise, correlation, repeats=REPEATS):
    """Comparisons by name, one per repeat; the same at every run."""
    generator = numpy.random.default_rng([round(100 * noise), round(10 * correlation)])
    found = [compare(noisy(generator, ratios, noise, correlation)) for _ in range(repeats)]
    return {name: [each[name] for each in found] for name in found[0]}


def monte_carlo(rate, repeats=REPEATS):
    """How far a true rate's estimate from so many repeats may be off."""
    return SIGMAS * math.sqrt(rate * (1 - rate) / repeats)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_intervals_cover(ratio, correlation):
    found = compared({"direct": 1.0, "way": ratio}, 0.05, correlation)["way"]
    found = [each for each in found if not math.isnan(each.lower)]  # too dependent blocks have no interval
    assert len(found) > 0.8 * REPEATS
    coverage = statistics.mean(each.lower <= ratio <= each.upper for each in found)
    assert coverage >= intervals.CONFIDENCE - monte_carlo(intervals.CONFIDENCE), f"coverage {coverage}"
    width = statistics.median(math.log(each.upper / each.lower) for each in found)
    assert width < 0.15, "an interval that says nothing"


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2])
def test_equal_calls_are_rarely_told_apart(noise, correlation):
    """False verdicts, with a control beside: at most 5 %."""
    found = compared({"direct": 1.0, "way": 1.0, "control": 1.0}, noise, correlation)["way"]
    false = statistics.mean(each.verdict in ("faster", "slower") for each in found)
    assert false <= 0.05, f"{false:.1%} false verdicts"


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
@pytest.mark.parametrize(("ratio", "verdict"), [(1.05, "slower"), (1 / 1.05, "faster")])
def test_five_percent_are_found_at_one_percent_noise(ratio, verdict, correlation):
    found = compared({"direct": 1.0, "way": ratio, "control": 1.0}, 0.01, correlation, repeats=200)["way"]
    assert statistics.mean(each.verdict == verdict for each in found) >= 0.9


def test_equal_calls_are_ties_at_low_noise():
    found = compared({"direct": 1.0, "way": 1.0}, 0.005, 0.0, repeats=100)["way"]
    assert statistics.mean(each.verdict == "tie" for each in found) >= 0.9


@pytest.mark.parametrize("interleaved", [True, False])
def test_caches_are_flushed_before_every_visit_outside_of_what_is_timed(clock, interleaved):
    """A flush takes 3 ms, a call 1 or 2: no sample may hold any of it, and a visit is one call, however short."""
    told = []

    def flush():
        told.append("flush")
        clock.now += 3 * MS

    def timed(call, number):
        told.append("clock")
        return devices.device_named("cpu").seconds(call, number)

    turn = lambda name: told.append("turn")  # noqa: E731
    measured = measure(clock.build, budget_s=0.2, clock=timed, flush=flush, turn=turn, interleaved=interleaved)
    for name, seconds in clock.seconds.items():
        assert all(sample == pytest.approx(seconds) for block in measured.samples[name] for sample in block)
    assert measured.calls_per_sample == dict.fromkeys(clock.seconds, 1)
    visits = [place for place, what in enumerate(told) if what == "clock"]
    assert all(told[place - 2 : place] == ["flush", "turn"] for place in visits)
    assert told.count("flush") == len(visits)
    # 4 times 0.2 s for rounds of 4 + 9 ms.
    assert sum(map(len, measured.samples["direct"])) == 60


def test_short_calls_are_single_where_caches_are_flushed(monkeypatch):
    clock = VirtualClock(monkeypatch, direct=1e-6, control=1e-6)
    measured = measure(clock.build, budget_s=0.01, flush=lambda: None)
    assert measured.calls_per_sample == {"direct": 1, "control": 1}
    assert len(clock.calls) == 2 * (2 + 12 + sum(map(len, measured.samples["direct"])))


def test_a_repeated_plan_flushes_too(clock):
    plan = measure(clock.build, budget_s=0.1, flush=lambda: None).plan
    told = []
    measured = measure(clock.build, budget_s=0.1, plan=plan, flush=lambda: told.append(1))
    assert len(told) == len(measured.first_call_s) + sum(len(b) for blocks in measured.samples.values() for b in blocks)
