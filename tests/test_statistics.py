"""Speedups, verdicts, winners, noise, totals and exponents, against values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median, stdev
from typing import Any

import numpy
import pandas
import pytest

from analysis.data import speedups as statistics
from analysis.data.records import Record, Records
from analysis.report.sections import depth, networks, noise, wins
from linear_lasagna.catalog import GROUPS
from linear_lasagna.trial import Cell, Trial
from tests import synthetic
from tests.reporting import study

WIDE = tuple(1 + 0.1 * (place - 5.5) for place in range(12))

NARROW = tuple(1 + (block - 5.5) * 1e-4 for block in range(12))


def records(*trials: Trial, group: str = "networks") -> Records:
    return Records(tuple(Record(trial, group, "synthetic") for trial in trials))


def one(ratios: Mapping[str, float | Cell], **extra: Any) -> Records:
    return records(synthetic.trial("resnet50/conv2_3x3", ratios, **extra))


def row(frame, way: str):
    (found,) = frame[frame["way"] == way].itertuples(index=False)
    return found


def test_ratio_and_interval_are_order_statistics_of_the_processes():
    # 12 processes: the interval runs from the second smallest to the second largest.
    found = row(statistics.speedups(one({"unfold_matmul": 2.0})), "unfold_matmul")
    assert found.ratio == pytest.approx(2.0)
    assert (found.ratio_lower, found.ratio_upper) == pytest.approx((2 * 0.99, 2 * 1.01))
    assert found.speedup == pytest.approx(0.5)
    assert (found.speedup_lower, found.speedup_upper) == pytest.approx((1 / 2.02, 1 / 1.98))
    assert (found.verdict, found.processes, found.blocks, found.ended) == ("slower", 12, 36, "verdict")
    logs = [math.log(off) for off in synthetic.DEVIATIONS]
    assert found.between == pytest.approx(stdev(logs))
    assert found.within == pytest.approx(stdev([math.log(off) for off in synthetic.WITHIN]))
    assert found.seconds == pytest.approx(2e-3)
    assert found.baseline_seconds == pytest.approx(1e-3)


def test_of_one_process_ratio_and_interval_are_order_statistics_of_the_blocks():
    # 12 blocks: the interval runs from the third smallest to the third largest.
    found = row(statistics.speedups(one({"unfold_matmul": 2.0}, several=False)), "unfold_matmul")
    assert found.ratio == pytest.approx(2.0)
    assert (found.ratio_lower, found.ratio_upper) == pytest.approx((2 * 0.995, 2 * 1.005))
    assert (found.verdict, found.processes, found.blocks, found.ended) == ("slower", 1, 12, "")
    assert math.isnan(found.between)


@pytest.mark.parametrize(
    ("ratio", "deviations", "verdict"),
    [
        (0.9, NARROW, "faster"),
        (1.1, NARROW, "slower"),
        (1.004, NARROW, "tie"),
        (1.004, synthetic.DEVIATIONS, "undecided"),
        (0.5, NARROW[:6], "faster"),
        (0.5, NARROW[:5], "undecided"),
    ],
)
def test_verdicts(ratio, deviations, verdict):
    ways = {"unfold_matmul": synthetic.cell(1e-3 * ratio, deviations)}
    assert row(statistics.speedups(one(ways)), "unfold_matmul").verdict == verdict


def test_one_process_gives_a_ratio_without_interval():
    once = synthetic.cell(5e-3, (1.0,), rounds=1)
    found = row(statistics.speedups(one({"unfold_matmul": once})), "unfold_matmul")
    assert found.speedup == pytest.approx(0.2)
    assert math.isnan(found.speedup_lower)
    assert math.isnan(found.speedup_upper)


def test_control_widens_the_margin_but_not_the_tie():
    trial = synthetic.trial("resnet50/conv1", {"unfold_matmul": synthetic.cell(1.04e-3, NARROW)})
    synthetic.put(trial, "control", synthetic.cell(1.05e-3, (1.0,) * 12))
    found = row(statistics.speedups(records(trial)), "unfold_matmul")
    assert found.margin == pytest.approx(math.log(1.05))
    assert found.verdict == "undecided"


def test_failed_baseline_gives_no_speedup():
    trial = synthetic.trial("resnet50/conv1", {"unfold_matmul": 2.0})
    trial.cells["direct"] = Cell("failed", "broken")
    assert len(statistics.speedups(records(trial))) == 0
    assert len(wins.winners(records(trial))) == 0
    assert len(noise.controls(records(trial))) == 0


def test_over_problems_counts_and_averages_geometrically():
    trials = [
        synthetic.trial(name, {"unfold_matmul": r}) for name, r in (("resnet50/conv1", 0.5), ("vgg16/conv5", 8.0))
    ]
    (found,) = statistics.over_problems(statistics.speedups(records(*trials)), ["way"]).itertuples(index=False)
    assert found.problems == 2
    assert found.geometric_mean == pytest.approx(math.sqrt(2 * 0.125))
    assert found.median == pytest.approx((2 + 0.125) / 2)
    assert (found.least, found.most) == pytest.approx((0.125, 2))
    assert (found.faster, found.slower, found.tie, found.undecided) == (1, 1, 0, 0)


def winner(ratios: dict[str, float]) -> tuple[str, set[str], int]:
    (found,) = wins.winners(one({w: synthetic.cell(1e-3 * r, NARROW) for w, r in ratios.items()})).itertuples()
    return found.way, set(found.among.split(", ")), found.ways


def test_winner_is_faster_than_every_other_way():
    assert winner({"unfold_matmul": 0.9, "im2col_numpy": 0.8}) == ("im2col_numpy", {"im2col_numpy"}, 3)
    assert winner({"unfold_matmul": 1.1, "im2col_numpy": 1.2}) == ("direct", {"direct"}, 3)


def test_equal_ways_share_the_first_place():
    assert winner({"unfold_matmul": 0.8, "im2col_numpy": 0.8}) == ("", {"unfold_matmul", "im2col_numpy"}, 3)


@pytest.mark.parametrize(("times", "tied"), [(0.9, True), (1.1, False), (45.0, False)])
def test_without_an_interval_only_a_way_that_takes_much_longer_is_out(times, tied):
    """As one that was too slow to be timed again."""
    slow = Cell("ok", "", [[1e-3 * times]])
    (found,) = wins.winners(one({"unfold_matmul": 0.5, "im2col_numpy": slow}, several=False)).itertuples()
    assert ("im2col_numpy" in found.among.split(", ")) == tied
    assert found.way == ("" if tied else "unfold_matmul")


def test_where_no_way_has_an_interval_none_is_out():
    few = {way: Cell("ok", "", [[1e-3 * times]]) for way, times in (("unfold_matmul", 0.5), ("im2col_numpy", 45.0))}
    (found,) = wins.winners(one(few, several=False)).itertuples()
    assert (found.way, set(found.among.split(", "))) == ("", {"unfold_matmul", "im2col_numpy", "direct"})


def test_scatter_between_and_within_processes_is_of_the_same_cells():
    frame = pandas.DataFrame({"between": [0.01, 0.02, 0.5], "within": [0.03, 0.04, math.nan]})
    assert noise.deviations(frame).startswith("1.5 % between processes and 3.5 % between blocks of one (medians of 2")
    assert noise.deviations(frame[2:]) == ""


def test_ways_that_make_the_same_call_are_compared_once():
    assert winner({"merged/direct": 0.5, "merged_working/direct": 0.5}) == ("merged/direct", {"merged/direct"}, 2)
    assert winner({"merged_working/direct": 0.5}) == ("merged_working/direct", {"merged_working/direct"}, 2)


def test_wins_add_up_to_the_trials():
    names = ("resnet50/conv1", "vgg16/conv5", "vgg16/conv4_2")
    ratios = (0.5, 2.0, 1.0)
    trials = [synthetic.trial(n, {"unfold_matmul": r}) for n, r in zip(names, ratios, strict=True)]
    found = wins.wins(wins.winners(records(*trials)), ["dtype"]).set_index("way")
    assert found["alone"].to_dict() == {"": 1, "direct": 1, "unfold_matmul": 1}
    assert found["among"].to_dict() == {"": 0, "direct": 2, "unfold_matmul": 2}
    assert set(found["trials"]) == {3}


def test_noise_judges_controls_by_the_fixed_margin():
    trials = []
    for name, ratio in (("resnet50/conv1", 1.05), ("vgg16/conv5", 1.0), ("vgg16/conv4_2", 0.999)):
        trial = synthetic.trial(name, {})
        synthetic.put(trial, "control", synthetic.cell(1e-3 * ratio, NARROW))
        trials.append(trial)
    (found,) = noise.noise_floor(noise.controls(records(*trials)), ["device"]).itertuples(index=False)
    least, largest = 1 / 0.999 - 1, 0.05
    assert (found.controls, found.false_verdicts) == (3, 1)
    assert found.median == pytest.approx(least, rel=1e-4)
    assert found.largest == pytest.approx(largest)
    assert found.p90 == pytest.approx(least + 0.8 * (largest - least), rel=1e-4)  # linear between second and third


def test_costs_mark_what_is_not_bettered_in_both():
    ways = {
        "unfold_matmul": synthetic.cell(2e-3, measures={"error_u": 0.1}, peak_bytes=3000),
        "shifted_matmul": synthetic.cell(3e-3, measures={"error_u": 0.2}),
        "im2col_numpy": synthetic.cell(0.5e-3, measures={"error_u": 0.9}),
    }
    found = statistics.costs(one(ways), statistics.speedups(one(ways))).set_index("way")
    assert found["pareto_optimal"].to_dict() == {
        "direct": True,
        "unfold_matmul": True,
        "shifted_matmul": False,
        "im2col_numpy": True,
    }
    assert found["peak_ratio"]["unfold_matmul"] == 3
    assert found["ratio"]["direct"] == 1


def test_network_totals_weigh_layers_by_their_occurrences():
    # resnet50/conv2_3x3 occurs 3 times, conv4_expand 6 times.
    layers = [
        synthetic.trial("resnet50/conv2_3x3", {"unfold_matmul": 2.0, "im2col_numpy": 1.0}, seconds=1e-3),
        synthetic.trial("resnet50/conv4_expand", {"unfold_matmul": 0.5}, seconds=2e-3),
    ]
    found = networks.totals(records(*layers)).set_index("way")
    assert set(found.index) == {"direct", "unfold_matmul"}
    assert found["seconds"]["direct"] == pytest.approx(3e-3 + 12e-3)
    assert found["seconds"]["unfold_matmul"] == pytest.approx(6e-3 + 6e-3)
    assert found["speedup"]["unfold_matmul"] == pytest.approx(1.25)
    assert 1.25 / 1.01 < found["speedup_lower"]["unfold_matmul"] < 1.25 < found["speedup_upper"]["unfold_matmul"]
    assert found["speedup_upper"]["unfold_matmul"] < 1.25 / 0.99
    assert (found["verdict"]["unfold_matmul"], found["verdict"]["direct"]) == ("faster", "")
    assert (found["layers"]["direct"], found["catalogued"]["direct"]) == (2, 23)


def network(
    seed: int, noise: float, ratio: float = 1.25, number: int = 12, restless: float = 0.0, several: bool = True
) -> list[Trial]:
    """All layers of VGG-16: every process of every way is off by `noise` at random, and the control by `restless`.

    number: of processes; of blocks in one where several is false.
    """
    generator = numpy.random.default_rng(seed)
    trials = []
    for problem in (problem for problem in GROUPS["networks"].problems if problem.name.startswith("vgg16/")):
        seconds = float(10 ** generator.uniform(-3, -1))
        ways = {}
        for way, factor in (("direct", 1.0), ("control", math.exp(restless)), ("unfold_matmul", ratio)):
            off = numpy.exp(generator.normal(0, noise, number))
            ways[way] = synthetic.cell(seconds * factor, tuple(map(float, off)))
        trials.append(synthetic.trial(problem.name, ways, seconds=seconds, several=several))
    return trials


def total(trials: list[Trial]) -> Any:
    return networks.totals(records(*trials)).set_index("way").loc["unfold_matmul"]


@pytest.mark.parametrize("seed", range(5))
def test_a_networks_speedup_is_the_ratio_of_the_totals_beside_it(seed):
    found = networks.totals(records(*network(seed, 0.3))).set_index("way")
    ratio = found["seconds"]["direct"] / found["seconds"]["unfold_matmul"]
    assert found["speedup"]["unfold_matmul"] == pytest.approx(ratio, rel=1e-12)
    assert found["speedup_lower"]["unfold_matmul"] <= ratio <= found["speedup_upper"]["unfold_matmul"]


def test_in_which_block_a_layer_was_slow_says_nothing_about_another_layer():
    """Layers were timed in processes of their own: what is said does not depend on which blocks stand beside which."""
    trials = network(1, 0.3, several=False)
    before = total(trials)
    for place, trial in enumerate(trials):
        for cell in trial.cells.values():
            cell.samples = cell.samples[place:] + cell.samples[:place]
    after = total(trials)
    assert after["speedup"] == pytest.approx(before["speedup"], rel=1e-12)
    ends = ["speedup_lower", "speedup_upper"]
    assert after[ends].tolist() == pytest.approx(before[ends].tolist(), rel=0.03)  # other draws of the bootstrap


def test_intervals_of_totals_cover():
    """Of 100 networks with a true speedup of 0.8, the interval of at least 90 holds it."""
    found = [total(network(seed, 0.1)[:3]) for seed in range(100)]
    held = sum(row["speedup_lower"] <= 0.8 <= row["speedup_upper"] for row in found)
    assert held >= 95 - 3 * math.sqrt(100 * 0.95 * 0.05)
    assert median([row["speedup_upper"] / row["speedup_lower"] for row in found]) < 1.3


def test_each_layer_s_processes_are_drawn_by_themselves():
    """Of sixteen layers alike, the total varies by a quarter of what one does; drawn together it would vary as much."""
    [layer] = records(synthetic.trial("vgg16/conv5", {"unfold_matmul": synthetic.cell(1e-3, WIDE)}))
    logs = [networks.interval([(1, layer.timings)] * layers, "unfold_matmul", "direct") for layers in (1, 16)]
    one, sixteen = (upper - lower for lower, upper in logs)
    assert one / 6 < sixteen < one / 2.5


def test_the_same_records_give_the_same_totals():
    trials = network(2, 0.1)
    assert networks.totals(records(*trials)).equals(networks.totals(records(*reversed(trials))))


@pytest.mark.parametrize(("several", "number"), [(True, 5), (False, 7)])
def test_a_layer_with_few_processes_or_blocks_leaves_the_total_undecided(several, number):
    trials = network(0, 0.0, several=several)
    trials[3] = network(0, 0.0, number=number, several=several)[3]
    found = total(trials)
    assert found["processes"] == (number if several else 1)
    assert found["speedup"] == pytest.approx(0.8)
    assert math.isnan(found["speedup_lower"])
    assert found["verdict"] == "undecided"


def test_the_controls_total_is_the_noise():
    assert total(network(0, 0.0, ratio=1.05))["verdict"] == "slower"
    assert total(network(0, 0.0, ratio=1.05, restless=0.06))["verdict"] == "undecided"


def test_a_cell_without_an_interval_is_no_extreme():
    """17 times as fast by 4 processes, twice by 12: the most is 2."""
    few = synthetic.cell(1e-3 / 17, (1.0,) * 4)
    trials = [synthetic.trial("stacks/sesr_x5", {"merged/direct": few})]
    trials.append(synthetic.trial("stacks/sesr_x1", {"merged/direct": 0.5}))
    frame = statistics.speedups(records(*trials, group="stacks"))
    (found,) = statistics.over_problems(frame, ["way"]).itertuples(index=False)
    assert (found.least, found.most) == pytest.approx((2, 2))
    assert (found.problems, found.undecided) == (2, 1)


def test_a_plan_that_merges_nothing_is_the_baselines_call():
    """Its verdict is the rule's own false one; a plan that merges is another call, as is one by another method."""
    alone = [[i, i + 1] for i in range(6)]
    runs = {"planned/direct": alone, "planned_operations/direct": [[0, 2], *alone[2:]], "planned/unfold_matmul": alone}
    ways = {way: synthetic.cell(0.9e-3, NARROW, runs=cut) for way, cut in runs.items()}
    trials = records(synthetic.trial("stacks/sesr_x3", ways), group="stacks")
    found = noise.same_calls(trials, statistics.speedups(trials))
    assert found[["way", "verdict"]].values.tolist() == [["planned/direct", "faster"]]


def test_exponents_of_exact_power_laws():
    found = depth.growths(synthetic.precision())
    for dtype in synthetic.UNITS:
        here = found[(found["dtype"] == dtype) & (found["signs"] == "random")].set_index("way")
        for way, exponent in (("direct", 0.5), ("merged/direct", 0.25), ("merged_working/direct", 0.75)):
            assert here["median"][way] == pytest.approx(exponent)
            # 8 seeds: the interval is the range, the seeds' exponents are 0.01 apart.
            assert here["lower"][way] == pytest.approx(exponent - 0.035)
            assert here["upper"][way] == pytest.approx(exponent + 0.035)
            assert here["seeds"][way] == 8


def test_overflowed_depths_are_left_out_of_the_slope_and_counted():
    rows = synthetic.precision()
    found = depth.growths(rows)
    lost = found[(found["dtype"] == "float16") & (found["signs"] == "positive")]
    assert set(lost["most_depth"]) == {8}
    counts = depth.statuses(rows)
    assert counts["overflow"].sum() == 3 * 8


def test_too_few_depths_give_no_slope_and_too_few_seeds_no_interval():
    rows = synthetic.precision()
    assert len(depth.each_slope(rows[rows["depth"] <= 2])) == 0
    few = depth.growths(rows[rows["seed"] < 5])
    assert few["lower"].isna().all()
    assert few["median"].notna().all()


def test_merge_ratio_is_paired_by_seed():
    found = depth.merge_ratios(synthetic.precision())
    here = found[(found["way"] == "merged/direct") & (found["signs"] == "random") & (found["dtype"] == "float32")]
    for layers, ratio, lower, upper in here[["depth", "median", "lower", "upper"]].itertuples(index=False):
        assert (ratio, lower, upper) == pytest.approx((layers**-0.25,) * 3)


@pytest.mark.parametrize("way", ["direct", "merged/direct"])
def test_nothing_to_compare_a_merged_stack_with_gives_no_ratio(way):
    """Merged stacks alone gave a result, or unmerged ones alone."""
    rows = synthetic.precision()
    found = depth.merge_ratios(rows[rows["way"] == way])
    assert len(found) == 0
    assert list(found) == list(depth.merge_ratios(rows))


def test_other_experiments_do_not_enter():
    rows = synthetic.precision()
    other = rows.assign(experiment="fan_in", relative_l2=1.0)
    import pandas

    both = pandas.concat([rows, other])
    assert depth.growths(both).equals(depth.growths(rows))


def test_missing_columns_are_named():
    found = study(rows=synthetic.precision().drop(columns=["seed", "signs"])).data
    assert found.messages == ("the precision rows lack the columns signs, seed; they are left out",)
    assert found.rows is None


def test_break_even_of_merging():
    stack = synthetic.trial("stacks/sesr_x1", {"merged/direct": 0.25, "merged_working/direct": 2.0})
    merge = synthetic.trial("stacks/sesr_x1", {"merge_float64": 3.0, "merge_working": 1.5})
    both = Records((*records(stack, group="stacks"), *records(merge, group="merging")))
    found = study(both)
    merging = found.frames["merging"].set_index("way")
    assert merging["break_even"]["merge_float64"] == pytest.approx(3.0 / 0.75)
    assert math.isnan(merging["break_even"]["merge_working"])
    assert set(found.frames["winners"]["group"]) == {"stacks"}
    assert set(found.data.compared["group"]) == {"stacks"}


def test_missing_trials_are_those_without_a_record():
    present = ("networks", "resnet50/conv2_3x3", "float32", "cpu", "")
    absent = ("networks", "resnet50/conv2_3x3", "float16", "cpu", "")
    cold = ("networks", "resnet50/conv2_3x3", "float32", "cpu", "cache=cold")
    found = study(one({}), None, [absent, present, cold]).data
    assert list(found.missing.itertuples(index=False, name=None)) == [absent, cold]


def test_nothing_is_found_in_nothing():
    found = study()
    assert found.data.scopes == ()
    assert all(len(frame) == 0 for frame in found.frames.values())


def test_a_way_that_is_wrong_at_the_border_wins_nothing():
    """It is timed and has a speedup, but is neither the fastest way nor a point of the Pareto front."""
    ratios = {"border_exact/direct": 0.5, "merged_summed/direct": 0.25}
    timed = Records((Record(synthetic.trial("borders/wide_pair_32", ratios), "borders", "m"),))
    found = study(timed)
    assert "merged_summed/direct" in set(found.data.speedups["way"])
    assert list(found.frames["winners"]["way"]) == ["border_exact/direct"]
    assert not found.data.costs.set_index("way")["pareto_optimal"]["merged_summed/direct"]
    assert found.data.groups == ("borders",)


@pytest.mark.parametrize(
    ("mine", "baseline", "expected"),
    [
        (0.5e-3, 0.95e-3, ("host", "device", True)),
        (1.9e-3, 0.5e-3, ("device", "host", True)),
        (1.9e-3, 0.95e-3, ("device", "device", False)),
        (1.6e-3, 0.8e-3, ("host", "host", False)),
        (None, 0.5e-3, ("", "host", False)),
    ],
)
def test_a_ratio_of_what_the_host_and_what_the_device_binds_is_marked(mine, baseline, expected):
    """1 ms and 2 ms a call; the host binds one that takes over 1.2 times what its graph does. The verdict stays."""
    trial = synthetic.trial("resnet50/conv2_3x3", {"unfold_matmul": 2.0})
    trial.cells["direct"].graphed_s, trial.cells["unfold_matmul"].graphed_s = baseline, mine
    found = row(statistics.speedups(records(trial)), "unfold_matmul")
    assert (found.bound, found.baseline_bound, found.bounds_differ) == expected
    assert found.verdict == "slower"


def test_what_ways_and_what_the_control_scatter_by_are_told_apart():
    ways = pandas.DataFrame({"between": [0.05, 0.06, 0.07], "within": [0.1, 0.1, 0.1], "control": [False] * 3})
    own = pandas.DataFrame({"between": [0.02, math.nan], "within": [0.03, math.nan]})
    same = ways.assign(between=9.0, control=True)
    told = noise.spread(pandas.concat([ways, same]), own)
    first, second = told.split("; ")
    cells = "(medians of {} with both)"
    assert first.endswith(f"of ways 6.0 % between processes and 10 % between blocks of one {cells.format('3 cells')}")
    same = f"of the control 2.0 % between processes and 3.0 % between blocks of one {cells.format('1 cell')}."
    assert second == same
    assert noise.spread(ways[:0], own[1:]) == ""
