"""The planner: no cut is cheaper than its, and the rule for two layers is its special case."""

import dataclasses
import itertools
import json
import math
import random
from unittest import mock

import pytest
import torch
from checks import check_bound
from exactly import assert_equals, stack
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, integer_numbers, mergeable_problems, problems

from linear_lasagna import METHODS, SCHEDULES, Layer, Problem, calibration, remembered
from linear_lasagna.catalog import CATALOG
from linear_lasagna.merging import border_macs, not_mergeable
from linear_lasagna.merging.chain import Link
from linear_lasagna.planning import Plan, plan, planner
from linear_lasagna.planning import measure as measure_module
from linear_lasagna.planning.compute import prepare_runs, unsupported_run
from linear_lasagna.planning.fresh import fresh_timing
from linear_lasagna.planning.measure import Bench, Measured, decide, hopeful_runs, is_close, run_seconds, worth_timing
from linear_lasagna.planning.operations import operations, price, run_operations
from linear_lasagna.planning.runs import all_runs, cheapest, part, separate, whole
from linear_lasagna.problems import Kernel
from linear_lasagna.timing import Timing
from linear_lasagna.validation import TileReference
from linear_lasagna.ways import way_named


def groupings(depth):
    """Every way to cut `depth` layers into runs: one for each choice of borders."""
    for borders in itertools.product((False, True), repeat=depth - 1):
        edges = [0, *(i for i, cut in enumerate(borders, 1) if cut), depth]
        yield tuple(itertools.pairwise(edges))


def total(costs, runs):
    """None where one of the runs is impossible."""
    prices = [costs[run] for run in runs]
    return None if None in prices else sum(prices)


@st.composite
def run_costs(draw):
    """A cost for every run of up to 8 layers; runs of several layers may be impossible. Small, so that many tie."""
    depth = draw(st.integers(1, 8))
    prices = st.integers(0, 12)
    return depth, {
        (start, stop): draw(prices if stop == start + 1 else st.none() | prices) for start, stop in all_runs(depth)
    }


@given(run_costs())
def test_no_grouping_is_cheaper(case):
    depth, costs = case
    possible = [runs for runs in groupings(depth) if total(costs, runs) is not None]
    found = cheapest(depth, costs.__getitem__)
    assert found in possible
    least = min(total(costs, runs) for runs in possible)
    assert total(costs, found) == least
    assert len(found) == max(len(runs) for runs in possible if total(costs, runs) == least)


def test_groupings_are_all_groupings():
    assert len(set(groupings(8))) == 2**7
    assert len(all_runs(8)) == 36


def test_single_layers_that_are_impossible_alone():
    costs = {(0, 1): None, (1, 2): 1, (0, 2): 9, (2, 3): 1, (1, 3): 5, (0, 3): None}
    assert cheapest(3, costs.__getitem__) == ((0, 2), (2, 3))
    with pytest.raises(ValueError, match="no way to cut 3 layers"):
        cheapest(3, (costs | {(0, 2): None}).__getitem__)


def merged_macs(problem, run):
    """From the definition: batch × outputs × (out × in / groups × taps), the kernel sizes adding up."""
    start, stop = run
    layers = problem.expanded[start:stop]
    groups = math.gcd(*(layer.groups for layer in layers))
    axes = zip(*(layer.kernel_size for layer in layers), strict=True)
    taps = math.prod(1 + sum(k - 1 for k in axis) for axis in axes)
    return math.prod(problem.shapes[stop]) * problem.channels[start] // groups * taps


@given(mergeable_problems(depths=(1, 4)))
def test_plan_by_operations_is_the_cheapest_of_all_groupings(problem):
    costs = {run: merged_macs(problem, run) for run in all_runs(problem.depth)}
    found = plan(problem)
    assert found.planned == min(total(costs, runs) for runs in groupings(problem.depth))
    assert found.planned == total(costs, found.runs)
    assert found.stacked == total(costs, separate(problem.depth)) == problem.macs
    assert found.merged == (costs[0, problem.depth] if problem.depth > 1 else None)


@given(problems(depths=(1, 4)))
def test_any_stack_has_a_plan_that_covers_it(problem):
    found = plan(problem)
    assert [index for start, stop in found.runs for index in range(start, stop)] == list(range(problem.depth))
    assert found.planned <= found.stacked == problem.macs
    # A border on images as small as these costs more than merging saves: such a run is no choice.
    assert (
        found.merged is None
        or price(problem, whole(problem.depth)[0], torch.float32, "cpu") is None
        or found.planned <= found.merged
    )
    assert operations(problem, found.runs) == found.planned


@given(st.integers(1, 4), st.integers(1, 64), st.integers(1, 64), st.integers(1, 512))
def test_the_rule_for_two_layers(k, inputs, outputs, middle):
    """Merging saves operations only if C_mid > (2k-1)² Cin Cout / (k² (Cin + Cout)).

    That holds where all three sizes are equal: nearly so on a large unpadded image. Within what the wider middle
    makes of it the count itself decides, and the test above holds it to that.
    """
    size = 10**6
    problem = Problem("pair", 1, inputs, (size, size), (Layer(middle, k), Layer(outputs, k)))
    saved = middle * k**2 * (inputs + outputs) - (2 * k - 1) ** 2 * inputs * outputs
    # The first layer's output is k - 1 wider than the second's: its part of the saving is that much larger.
    border = middle * inputs * k**2 * ((size - k + 1) ** 2 / (size - 2 * k + 2) ** 2 - 1)
    if abs(saved) > border:
        assert plan(problem).runs == (whole(2) if saved > 0 else separate(2))


@pytest.mark.parametrize(("middle", "merges"), [(11, False), (12, True)])
def test_the_rule_for_two_layers_of_equal_width(middle, merges):
    """k = 3, Cin = Cout = C: from 25 / 18 C = 1.39 C on; for C = 8 that is 11.1."""
    problem = Problem("pair", 1, 8, (10**6, 10**6), (Layer(middle, 3), Layer(8, 3)))
    assert bool(plan(problem).merges) == merges


def test_sesr_is_merged_block_by_block():
    found = plan(CATALOG["stacks/sesr_x5"])
    assert found.runs == ((0, 2), (2, 4), (4, 6), (6, 8), (8, 10))
    assert found.merges == found.runs
    assert found.planned * 10 < found.stacked
    assert found.planned < found.merged


def test_text_names_the_merged_layers():
    text = str(plan(CATALOG["stacks/expandnet"]))
    assert text.startswith("stacks/expandnet: 0–2: ")
    assert "MAC" in text
    assert "\n" not in text
    padded = Problem("padded", 1, 8, (16, 16), (Layer(8, 3, stride=2, padding=1), Layer(8, 3, padding=1)))
    assert "0, 1: " in str(plan(padded)) or "0–1: " in str(plan(padded))


def test_a_plan_is_frozen_data():
    found = plan(CATALOG["stacks/plain_x2"])
    assert isinstance(found, Plan)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.runs = ()


def test_part_is_what_reaches_the_run():
    problem = CATALOG["stacks/sesr_x3"]
    here = part(problem, (2, 5))
    assert here.shapes == problem.shapes[2:6]
    assert here.expanded == problem.expanded[2:5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": "flops"}, "unknown cost 'flops'; known: operations"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"device": "cuda:99"}, "cannot plan for cuda:99: this machine has"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        plan(CATALOG["stacks/plain_x2"], **arguments)
    assert "\n" not in str(caught.value)


# Padding between the layers


PADDED = Problem("padded", 2, 8, (24, 24), (Layer(32, 3, padding=1), Layer(8, 3, padding=1)))


def test_a_padded_run_costs_its_border_too():
    assert not_mergeable(PADDED.expanded) is not None
    count = run_operations(PADDED, (0, 2))
    assert count == 2 * border_macs(PADDED.expanded, 8, (24, 24))
    inside = 2 * 22 * 22 * 8 * 8 * 25
    assert inside < count < PADDED.macs
    assert plan(PADDED).merged == count


@pytest.mark.parametrize(
    ("batch", "size", "runs"),
    [(2, 24, separate(2)), (2, 240, whole(2)), (1, 32, separate(2)), (16, 32, whole(2)), (10**6, 2, separate(2))],
)
def test_a_padded_run_is_merged_by_count_where_that_saves_more_than_the_border_costs(
    batch, size, runs, counting_machine
):
    """The border costs calls, however small the image; they are shared by a batch. Of 2×2 outputs all are border."""
    problem = dataclasses.replace(PADDED, batch=batch, size=(size, size))
    assert plan(problem).runs == runs
    priced = price(problem, (0, 2), torch.float32, "cpu")
    assert priced == (run_operations(problem, (0, 2)) if runs == whole(2) else None)
    assert plan(problem).planned == operations(problem, runs)


def test_a_padded_run_that_was_not_timed_is_left():
    assert plan(dataclasses.replace(PADDED, batch=16, size=(240, 240))).runs == separate(2)


def test_a_plan_by_count_heeds_what_is_calibrated_later(monkeypatch):
    """Also in a process that has planned the problem before."""
    problem = dataclasses.replace(PADDED, size=(241, 241))
    assert plan(problem).runs == separate(2)
    monkeypatch.setattr(calibration, "pays", lambda *_: True)
    monkeypatch.setattr(calibration, "_known", {"more": None})
    assert plan(problem).runs == whole(2)


def test_a_padded_run_is_timed_only_where_it_saves_operations(monkeypatch):
    monkeypatch.setattr(calibration, "pays", None)
    dearer = Problem("dearer", 1, 8, (24, 24), (Layer(8, 3, padding=1), Layer(8, 3, padding=1)))
    assert price(dearer, (0, 2), torch.float32, "cpu") is None


@given(problems(depths=(2, 4)))
def test_a_padded_run_has_a_price_where_it_saves_operations_its_border_included(problem):
    """Most are told from their inside alone: that must not change which have one."""
    with mock.patch.object(calibration, "pays", return_value=True):
        for run in all_runs(problem.depth):
            here = part(problem, run)
            if here.depth > 1 and not_mergeable(here.expanded) is not None:
                count = here.batch * border_macs(here.expanded, here.in_channels, here.size)
                expected = count if count < here.macs else None
                assert price(problem, run, torch.float32, "cpu") == expected


# Computing a cut


def random_cut(problem, method, dtype, seed):
    """One of the groupings that can be computed, at random."""
    possible = {
        run for run in all_runs(problem.depth) if unsupported_run(problem, run, METHODS[method], dtype, "cpu") is None
    }
    found = [runs for runs in groupings(problem.depth) if possible.issuperset(runs)]
    return random.Random(seed).choice(found)


@given(problems(depths=(2, 4)), SEEDS)
def test_every_cut_computes_what_the_stack_does(problem, seed):
    x, kernels = integer_numbers(problem, seed)
    expected = stack(x, kernels, problem.layers)
    runs = random_cut(problem, "direct", torch.float64, seed)
    assert_equals(prepare_runs(problem, kernels, runs, METHODS["direct"])(x), expected, f"{runs}: {problem!r}")


def least_result(problem, x, kernels):
    """The least positive number that a layer gives, in float64."""
    y, least = x.double(), math.inf
    for kernel, layer in zip(kernels, problem.expanded, strict=True):
        wide = Kernel(*(None if each is None else each.double() for each in kernel))
        y = METHODS["direct"](y, wide, layer)
        least = min(least, float(y.where(y > 0, math.inf).min()))
    return least


@given(mergeable_problems(), SEEDS, st.sampled_from(DTYPES))
def test_every_cut_meets_the_bound_of_a_planned_way(problem, seed, dtype):
    runs = random_cut(problem, "direct", dtype, seed)
    draw = problem.draw(dtype, seed=seed, signs="positive")
    assume(least_result(problem, *draw) >= torch.finfo(dtype).tiny)  # the bound leaves out underflow in results
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "_measured", lambda *_: Measured(runs, 1.0, 1.0, None))
        check_bound(problem, way_named("planned/direct"), dtype, draw, TileReference.of(problem, *draw))


@settings(max_examples=6)
@given(problems(ranks=(1, 2), depths=(2, 3)), SEEDS)
def test_planned_ways_compute_what_the_stack_does(problem, seed):
    x, kernels = integer_numbers(problem, seed)
    expected = stack(x, kernels, problem.layers)
    for name in ("planned", "planned_operations"):
        assert_equals(SCHEDULES[name](problem, kernels)(x), expected, f"{name}: {problem!r}, seed {seed}")


def test_a_single_layer_has_no_plan():
    problem = CATALOG["resnet50/conv2_3x3"]
    for name in ("planned", "planned_operations"):
        reason = SCHEDULES[name].unsupported(problem, "direct", torch.float32, "cpu")
        assert reason == "a single layer has nothing to merge"


def test_planning_asks_the_method_about_every_layer():
    problem = Problem("patches", 1, 1, (8, 8), (Layer(2, 2, stride=2), Layer(2, 3)))
    reason = SCHEDULES["planned"].unsupported(problem, "patch_matmul", torch.float32, "cpu")
    assert "kernel size = stride" in reason
    with pytest.raises(ValueError, match=r"cannot plan patches with patch_matmul: layer 1: .*kernel size = stride"):
        plan(problem, method="patch_matmul")


# Measured time


def timing(**seconds):
    """Calls that took so long in each of 12 blocks."""
    samples = {name: [[s]] * 12 for name, s in seconds.items()}
    return Timing(samples, dict(seconds), dict.fromkeys(seconds, 1), dict.fromkeys(seconds, 1), 1.0, 1.0)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"stacked": 1.0}, "stacked"),
        ({"stacked": 1.0, "merged": 0.999}, "merged"),
        ({"stacked": 1.0, "merged": 1.001}, "stacked"),
        ({"stacked": 1.0, "time": 0.985}, "stacked"),
        ({"stacked": 1.0, "time": 0.975}, "time"),
        ({"stacked": 1.0, "merged": 0.9, "time": 0.89, "operations": 0.91}, "merged"),
        ({"stacked": 1.0, "merged": 0.9, "time": 0.87, "operations": 0.86}, "operations"),
        ({"stacked": 1.0, "operations": 1.2}, "stacked"),
        ({"merged": 1.0, "operations": 0.99, "time": 0.97}, "time"),
        ({"merged": 1.0, "operations": 0.99}, "merged"),
        ({"operations": 1.0, "time": 0.99}, "time"),
    ],
)
def test_a_plan_replaces_stacked_and_merged_only_by_the_margin(seconds, chosen):
    assert decide([timing(**seconds)]) == chosen


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ({"stacked": 1.0, "time": 0.9}, {"stacked": 1.0, "time": 0.95}, "time"),
        ({"stacked": 1.0, "time": 0.8}, {"stacked": 1.0, "time": 0.99}, "stacked"),
        ({"stacked": 1.0, "merged": 0.9}, {"stacked": 1.0, "merged": 1.2}, "stacked"),
        ({"stacked": 1.0, "merged": 0.7}, {"stacked": 1.0, "merged": 1.2}, "merged"),
        ({"stacked": 1.0, "merged": 2.0, "time": 0.9}, {"stacked": 1.0, "merged": 0.9, "time": 0.95}, "time"),
    ],
)
def test_another_cut_must_win_in_every_process(first, second, chosen):
    assert decide([timing(**first), timing(**second)]) == chosen


@pytest.mark.parametrize(
    ("seconds", "chosen", "close"),
    [
        ({"stacked": 1.0}, "stacked", False),
        ({"stacked": 1.0, "merged": 1.6}, "stacked", False),
        ({"stacked": 1.0, "merged": 1.4}, "stacked", True),
        ({"stacked": 3.0, "merged": 1.4, "time": 1.0}, "time", True),
    ],
)
def test_a_close_choice_is_made_again(seconds, chosen, close):
    assert is_close(timing(**seconds), chosen) is close


@pytest.mark.parametrize(
    ("again", "runs"),
    [
        ({"stacked": 1.0, "time": 0.9}, ((0, 2), (2, 4))),
        ({"stacked": 1.0, "time": 1.1}, separate(4)),
        (None, separate(4)),  # the fresh process died
    ],
)
def test_a_plan_that_is_not_confirmed_in_a_fresh_process_is_dropped(again, runs, monkeypatch):
    bench = Bench(CATALOG["stacks/plain_x4"], "cpu", torch.float32, "direct")
    seconds = {run: float(run[1] - run[0]) for run in all_runs(4)} | {(0, 2): 1.8, (2, 4): 1.8, (0, 4): 9.0}
    monkeypatch.setattr(measure_module, "worth_timing", lambda bench: list(seconds))
    monkeypatch.setattr(measure_module, "run_seconds", lambda *_: seconds)
    monkeypatch.setattr(measure_module, "cut_timing", lambda *_: timing(stacked=1.0, time=0.8))
    asked = []

    def fresh(bench, cuts, budget_s):
        asked.append(cuts)
        return None if again is None else timing(**again)

    assert measure_module.plan_by_time(bench, 0.01, fresh).runs == runs
    assert asked == [{"stacked": separate(4), "time": ((0, 2), (2, 4))}]


def test_cuts_are_timed_in_a_fresh_process():
    """With this one's threads; what cannot be timed there gives no times."""
    bench = Bench(CATALOG["stacks/plain_x3"].reduced(), "cpu", torch.float64, "unfold_matmul")
    cuts = {"stacked": separate(3), "time": ((0, 1), (1, 3))}
    found = fresh_timing(bench, cuts, 0.01)
    assert list(found.samples) == ["stacked", "time"]
    assert all(0 < found.seconds(name) < 10 for name in cuts)
    assert fresh_timing(bench._replace(method="patch_matmul"), cuts, 0.01) is None


def test_runs_are_timed_once_each_and_none_that_is_hopeless():
    bench = Bench(CATALOG["stacks/sesr_x3"].reduced(), "cpu", torch.float32, "direct")
    runs = worth_timing(bench)
    assert set(separate(6)) <= set(runs)
    assert (0, 6) in runs
    assert (1, 3) not in runs  # 16 -> 256 -> 16 -> 256: 14 times the operations
    seconds = run_seconds(bench, runs, 0.002)
    assert set(separate(6)) <= set(seconds) <= set(runs)
    assert all(s > 0 for s in seconds.values())


@pytest.mark.parametrize(
    ("rate", "called"),
    [
        (lambda length: 1.0, [(0, 1), (1, 2), (2, 3), (3, 4)]),  # every run of several layers takes 2 times the layers
        (lambda length: 1.0 * length, [(0, 1), (1, 2), (2, 3), (3, 4)]),  # nobody knows that two layers are as fast
        (lambda length: 4.0 if length == 1 else 0.5, [(0, 1), (1, 2), (2, 3), (3, 4)]),
    ],
)
def test_no_run_is_called_that_must_be_far_faster_than_all_shorter_ones(rate, called):
    counts = {run: 2 * (run[1] - run[0]) if run[1] - run[0] > 1 else 1 for run in all_runs(4)}
    looks = []

    def look(run):
        looks.append(run)
        return counts[run] / rate(run[1] - run[0])

    assert list(hopeful_runs(list(counts), counts.__getitem__, look)) == looks == called


def test_a_run_is_called_where_shorter_ones_are_fast_enough():
    """Two layers as one run take 1.4 times their operations, at 1.4 times the rate: four may well pay, and are tried;
    at half the rate they may not.
    """
    counts = {run: round(100 * 1.4 ** (run[1] - run[0] - 1)) * (run[1] - run[0]) for run in all_runs(4)}
    quick = {run: counts[run] / 1.4 ** (run[1] - run[0] - 1) for run in counts}
    assert hopeful_runs(list(counts), counts.__getitem__, quick.__getitem__) == quick
    slow = {run: counts[run] * 2 ** (run[1] - run[0] - 1) for run in counts}
    hopeful = hopeful_runs(list(counts), counts.__getitem__, slow.__getitem__)
    assert list(hopeful) == [*separate(4), (0, 2), (1, 3), (2, 4)]


def test_a_hopeless_cut_is_not_timed_as_a_whole(monkeypatch):
    """Three SESR blocks: the stack's runs add up to 20 times those of the plan, and only that sum is known of it."""
    bench = Bench(CATALOG["stacks/sesr_x3"], "cpu", torch.float32, "direct")
    seconds = {run: 10.0 * (run[1] - run[0]) for run in worth_timing(bench)}
    seconds |= {(0, 2): 1.0, (2, 4): 1.0, (4, 6): 1.0, (0, 6): 5.0}
    timed = {}

    def cut_timing(bench, cuts, budget_s):
        timed.update(cuts)
        return timing(**{name: sum(seconds[run] for run in runs) for name, runs in cuts.items()})

    monkeypatch.setattr(measure_module, "run_seconds", lambda *_: seconds)
    monkeypatch.setattr(measure_module, "cut_timing", cut_timing)
    found = measure_module.plan_by_time(bench, 0.01, lambda *_: None)
    assert set(timed) == {"merged", "operations"}
    assert found == Measured(((0, 2), (2, 4), (4, 6)), 3.0, 60.0, 5.0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a process that has planned nothing yet."""
    monkeypatch.setenv("LASAGNA_CACHE", str(tmp_path))
    planner._measured.cache_clear()
    return tmp_path / "plans"


SMALL = CATALOG["stacks/plain_x3"].reduced()


def unmeasured(monkeypatch):
    """Planning from now on must not time anything."""
    planner._measured.cache_clear()
    monkeypatch.setattr(planner, "plan_by_time", None)


def test_a_measured_plan_is_remembered(cache, monkeypatch):
    found = plan(SMALL, cost="measured")
    assert found.unit == "s"
    assert len(list(cache.iterdir())) == 1
    unmeasured(monkeypatch)
    assert plan(SMALL, cost="measured") == found
    renamed = dataclasses.replace(SMALL, name="renamed")
    assert plan(renamed, cost="measured").runs == found.runs


def test_one_process_keeps_to_one_plan(cache):
    found = plan(SMALL, cost="measured")
    next(cache.iterdir()).unlink()
    assert plan(SMALL, dtype=torch.float32, cost="measured") == found
    assert not list(cache.iterdir())


@pytest.mark.parametrize("change", [{"dtype": "float64"}, {"method": "unfold_matmul"}, {"budget_s": 0.003}], ids=str)
def test_another_setting_is_another_plan(cache, change):
    plan(SMALL, cost="measured")
    plan(SMALL, cost="measured", **change)
    assert len(list(cache.iterdir())) == 2


def spoilt(text):
    """What might stand in the file instead of a plan, and a word of the reason."""
    data = json.loads(text)
    whole_run = data["found"] | {"runs": [[0, 3]]}
    return [
        ("", "Expecting value"),
        (text[: len(text) // 2], ""),
        ("[]", "list indices"),
        (json.dumps({"key": data["key"]}), "found"),
        (json.dumps(data | {"key": {}}), "belongs to another"),
        (json.dumps(data | {"found": whole_run | {"runs": [[0, 2]]}}), "do not cover 3 layers"),
        (json.dumps(data | {"found": whole_run | {"runs": [[0, 0], [0, 3], [3, 3]]}}), "do not cover"),
        (json.dumps(data | {"found": whole_run | {"planned": -1.0}}), "are not positive"),
        (json.dumps(data | {"found": whole_run | {"stacked": None}}), "not a plan"),
        (json.dumps(data | {"found": []}), "not a plan"),
    ]


def test_a_spoilt_file_is_ignored_with_one_line(cache, monkeypatch):
    anew = Measured(((0, 1), (1, 3)), 1.0, 2.0, 3.0)
    monkeypatch.setattr(planner, "plan_by_time", lambda *_: anew)
    plan(SMALL, cost="measured")
    (path,) = cache.iterdir()
    good = path.read_text()
    for text, reason in spoilt(good):
        path.write_text(text)
        planner._measured.cache_clear()
        with pytest.warns(RuntimeWarning, match=rf"ignored .*{path.name}, measuring anew: .*{reason}") as caught:
            assert plan(SMALL, cost="measured").runs == anew.runs
        assert len(caught) == 1
        assert "\n" not in str(caught[0].message)
        assert json.loads(path.read_text())["key"] == json.loads(good)["key"]
    assert [each.suffix for each in cache.iterdir()] == [".json"]


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LASAGNA_CACHE", str(tmp_path / "file"))
    planner._measured.cache_clear()
    with pytest.warns(RuntimeWarning) as caught:
        assert plan(SMALL, cost="measured").runs
    assert "cannot remember what was measured" in str(caught[-1].message)


@pytest.mark.parametrize(
    ("platform", "variables", "path"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/linear-lasagna"),
        ("linux", {"HOME": "/home/a"}, "/home/a/.cache/linear-lasagna"),
        ("darwin", {"HOME": "/Users/a"}, "/Users/a/Library/Caches/linear-lasagna"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/linear-lasagna"),
    ],
)
def test_the_cache_lies_where_the_platform_keeps_caches(monkeypatch, platform, variables, path):
    for name in ("LASAGNA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remembered.sys, "platform", platform)
    assert remembered.folder().as_posix() == path


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "soon"])
def test_a_budget_must_be_a_positive_number_of_seconds(monkeypatch, text):
    monkeypatch.setenv("LASAGNA_PLANNING_S", text)
    with pytest.raises(ValueError, match=f"LASAGNA_PLANNING_S must be a positive number of seconds, not {text}"):
        plan(SMALL, cost="measured")
    with pytest.raises(ValueError, match="budget_s must be a positive number of seconds, not 0"):
        plan(SMALL, cost="measured", budget_s=0)


def test_planning_a_deep_stack_folds_every_run_once(monkeypatch):
    """Merged layers are found once per run, from the run before it: depth squared / 2 steps."""
    steps = []
    followed_by = Link.followed_by
    monkeypatch.setattr(Link, "followed_by", lambda self, other: steps.append(1) or followed_by(self, other))
    for depth in (8, 16, 32):
        steps.clear()
        plan(Problem(f"deep{depth}", 1, 4, (9, 9), (Layer(4, 1),) * depth))
        assert depth * (depth - 1) / 2 <= len(steps) <= depth * (depth - 1) / 2 + depth


def test_a_remembered_plan_is_one_machine_s(monkeypatch):
    """Of one processor's name with other instructions, the times are others."""
    bench = Bench(CATALOG["stacks/plain_x2"], "cpu", torch.float32, "direct")
    key = planner._key(bench, 1.0, 2)
    changed = planner.fingerprint("cpu") | {"instruction_sets": {"aten": "DEFAULT"}}
    monkeypatch.setattr(planner, "fingerprint", lambda device: changed)
    assert planner._key(bench, 1.0, 2) == key | {"machine": changed}
    assert remembered._path("plans", key) != remembered._path("plans", planner._key(bench, 1.0, 2))
