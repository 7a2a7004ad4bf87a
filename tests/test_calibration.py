"""What a padded stack costs here: curves, what is remembered, budgets, and the decisions that follow."""

import ctypes
import json
import logging
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from linear_lasagna import Layer, Problem, calibration
from linear_lasagna.calibration import Costs, Curve, budget, costs, measured, pays
from linear_lasagna.merging import merge
from linear_lasagna.merging.border.kernels import block_kernels
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.border.plan import plan, stack_macs
from linear_lasagna.merging.chain import Link, chained
from linear_lasagna.timing import Timing

PAIR = chained(Problem("pair", 1, 2, (8, 8), (Layer(16, 3, padding=1), Layer(2, 3, padding=1))).expanded)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A machine and a process on which nothing was timed, and a budget to do so."""
    monkeypatch.setenv("LASAGNA_CACHE", str(tmp_path))
    monkeypatch.setenv("LASAGNA_CALIBRATION_S", "5")
    monkeypatch.setattr(calibration, "_known", {})
    return tmp_path / "costs"


# Curves

POINTS = st.dictionaries(st.integers(1, 10**9), st.floats(1e-6, 10.0), min_size=1, max_size=6)


@given(POINTS, st.lists(st.integers(1, 10**10), min_size=2, max_size=2))
def test_a_curve_goes_through_its_points_and_never_falls(points, asked):
    rising = calibration._rising(sorted(points.items()))
    assert [rising.at(work) for work in rising.work] == pytest.approx(list(rising.seconds))
    assert all(seconds <= points[work] for work, seconds in zip(rising.work, rising.seconds, strict=True))
    assert rising.seconds[-1] == points[rising.work[-1]]
    low, high = map(rising.at, sorted(asked))
    assert low <= high * (1 + 1e-12)


def test_a_curve_is_a_power_law_between_points():
    curve = Curve((100, 10_000), (1.0, 10.0))
    assert [curve.at(work) for work in (1, 100, 1000, 10_000)] == pytest.approx([1, 1, math.sqrt(10), 10])


@pytest.mark.parametrize(
    ("curve", "beyond"),
    [
        (Curve((10,), (2.0,)), 8.0),  # in proportion, where nothing else is known
        (Curve((10, 20), (3.0, 5.0)), 9.0),  # 1 that stays, and 0.2 per work
        (Curve((5, 10, 20), (1.0, 5.0, 5.0)), 5.0),  # all of it stays
        (Curve((10, 20), (1.0, 4.0)), 8.0),  # more than in proportion: from here on in proportion
    ],
)
def test_beyond_its_points_a_curve_grows_as_at_their_end(curve, beyond):
    assert curve.at(2 * curve.work[-1] if len(curve.work) > 1 else 40) == pytest.approx(beyond)


# Decisions from costs


def flat(seconds):
    return Curve((1.0, 1e15), (seconds, seconds))


@pytest.mark.parametrize(
    ("layers", "merged", "border", "doubt", "merging"),
    [
        (1.0, 0.4, 0.4, 0.0, True),
        (1.0, 0.4, 0.7, 0.0, False),
        (1.0, 0.5, 0.5, 0.0, False),
        (1.0, 0.4, 0.4, 0.3, False),
        (1.0, 0.4, 0.4, 0.2, True),
    ],
)
def test_merging_pays_where_it_is_faster_by_more_than_the_doubt(layers, merged, border, doubt, merging, monkeypatch):
    found = Costs(flat(layers), flat(merged), flat(border), doubt)
    ratio = found.log_ratio(PAIR, 2, plan(PAIR, 2, (24, 24)), (24, 24), 3)
    assert ratio == pytest.approx(math.log((merged + border) / layers))
    monkeypatch.setattr(calibration, "costs", lambda *_: found)
    assert pays(PAIR, 2, (24, 24), 3, torch.float32) is merging
    assert not pays(PAIR, 2, (2, 2), 3, torch.float32)  # every output is border


def test_work_counts_the_whole_batch():
    small, large = (calibration._work(PAIR, 2, plan(PAIR, 2, size), size, 2) for size in ((16, 16), (32, 32)))
    assert small.layers == 2 * stack_macs(PAIR, 2, (16, 16)) == 2 * 256 * 16 * 2 * 2 * 9
    assert small.merged == 2 * 256 * 2 * 2 * 25
    assert large.layers == 4 * small.layers
    assert small.border < large.border < 4 * small.border  # a border, not an area


def test_without_costs_the_layers_run(monkeypatch):
    monkeypatch.setattr(calibration, "costs", lambda *_: None)
    assert not pays(PAIR, 2, (240, 240), 16, torch.float32)


# Timing


def timing_of(layers, merged, border):
    """Blocks of one sample each."""
    samples = {n: [[s] for s in v] for n, v in {"layers": layers, "merged": merged, "border": border}.items()}
    ones = dict.fromkeys(samples, 1)
    return Timing(samples, dict.fromkeys(samples, 1.0), ones, ones, 0.1, 0.1)


def points_of(before, after):
    """Two images, one four times as large."""
    works = [calibration._Work(100, 100, 10), calibration._Work(400, 400, 20)]
    return list(zip(works, [timing_of([s], [s], [0.0001]) for s in (before, after)], strict=True))


def bent(*ratios: float) -> Costs:
    """Layers that take a second, timed at works 1, 4, 16, …; merged: these times as long, half of it for the border."""
    works = tuple(4.0**place for place in range(len(ratios)))
    halves = Curve(works, tuple(ratio / 2 for ratio in ratios))
    return Costs(Curve(works, (1.0,) * len(works)), halves, halves, 0.0)


@pytest.mark.parametrize(
    ("ratios", "work", "doubt"),
    [
        ((1.0, 2.0, 4.0), 8.0, 0.0),  # a power law: nothing is wrong between its points
        ((1.0, 1.0, 4.0), 4.0, 0.0),  # nor at a point, however bent
        ((1.0, 1.0, 4.0), 2.0, math.log(2) / 2),  # leaving out the middle one gets a factor of two wrong
        ((1.0, 1.0, 4.0), 8.0, math.log(2) / 2),
        ((1.0, 1.0, 4.0), 0.5, 0.0),
        ((1.0, 1.0, 4.0), 64.0, math.log(4)),  # the first two say 1 of the last
        ((1.0, 1.0, 4.0), 1e9, math.log(4)),
        ((1.0, 1.0, 4.0), 32.0, math.log(4) / 2),
        ((1.0, 4.0), 2.0, 0.0),
    ],
)
def test_what_lies_between_points_is_in_doubt_as_a_left_out_point_would_be(ratios, work, doubt):
    assert bent(*ratios)._doubt_between(work) == pytest.approx(doubt)


def test_the_least_of_the_samples_counts_and_blocks_tell_the_doubt():
    work = calibration._Work(100, 50, 10)
    found = calibration._costs([(work, timing_of([2.0, 1.0], [0.5, 0.6], [0.5, 0.4]))])
    curves = [(100, 1.0), (50, 0.5), (10, 0.4)]
    assert [found.layers, found.merged, found.border] == [Curve((work,), (seconds,)) for work, seconds in curves]
    assert found.doubt == pytest.approx(math.log(2) / 2)  # standard error of two: half of what they differ by


@pytest.mark.parametrize(
    ("before", "after", "enough"),
    [
        (0.001, 0.004, False),  # short
        (0.002, 0.008, True),  # long, in proportion
        (0.007, 0.008, False),  # long, but mostly for something else
        (0.012, 0.013, True),  # the next would be too long
    ],
)
def test_larger_images_are_timed_until_time_follows_work(before, after, enough):
    points, larger = points_of(before, after), calibration._Work(1600, 1600, 40)
    assert calibration._is_enough(points, larger, 10.0) is enough
    assert calibration._is_enough(points, larger, 0.3)  # the last took 0.1 s, this one would take 0.4


def test_a_second_image_is_timed_if_the_first_was_quick_enough():
    larger = calibration._Work(400, 400, 20)
    for seconds, left_s, enough in ((0.04, 1.0, False), (0.06, 1.0, True), (0.04, 0.3, True)):
        assert calibration._is_enough(points_of(seconds, 0.1)[:1], larger, left_s) is enough


@pytest.mark.parametrize(("jump_at", "between"), [(1000, []), (100, [91]), (20, [23])])
def test_where_time_jumps_an_image_between_is_timed_too(jump_at, between, monkeypatch):
    asked = []

    def timed(bench, extent, smaller):
        asked.append(extent)
        seconds = 1e-6 * extent**2 / 4 * (3 if extent >= jump_at else 1)
        return bench.work(extent), timing_of([seconds], [seconds / 2], [1e-4])

    monkeypatch.setattr(calibration._Bench, "timed", timed)
    found = measured(PAIR, 2, torch.float32, "cpu", 1)
    usual = [extent for extent in asked if extent in calibration.EXTENTS]
    assert usual == list(calibration.EXTENTS[: len(usual)])
    assert asked == usual + between
    assert list(found.layers.work) == sorted(found.layers.work)
    assert len(found.layers.work) == len(asked)


@pytest.mark.parametrize("timed", [0, 1, 2])
def test_no_timing_goes_on_when_the_time_is_over(timed, monkeypatch):
    """What has been timed by then is taken."""
    sizes = iter(range(timed))

    def quick(build, *args, turn, **names):
        turn("layers")
        if next(sizes, None) is None:
            times.append(100.0)
            turn("merged")
        return timing_of([0.001], [0.001], [0.001])

    times = [0.0]
    monkeypatch.setattr(calibration, "measure", quick)
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: times[-1])
    found = measured(PAIR, 2, torch.float32, "cpu", 1, 5.0)
    assert (found is None) if timed == 0 else (len(found.layers.work) == timed)


@pytest.mark.parametrize("groups", [1, 4])
def test_kernels_of_the_true_shapes_are_timed(groups):
    layers = (Layer(16, 3, padding=1, groups=groups, bias=True), Layer(8, (5, 3), stride=2, padding=2, groups=groups))
    chain = chained(Problem("stack", 1, 8, (24, 24), layers).expanded)
    place, found = (8, torch.float32, "cpu"), plan(chain, 8, (24, 24))
    kernels = [
        calibration._kernel(link.layer, channels, *place[1:]) for link, channels in zip(chain, (8, 16), strict=True)
    ]
    assert found.blocks
    shapes = [block.shape for block in found.blocks]
    for block, right in zip(found.blocks, block_kernels(kernels, chain, shapes, torch.float64), strict=True):
        drawn = calibration._block_kernel(block, found, *place)
        assert [each.shape for each in drawn] == [each.shape for each in right]


ALLOCATED = """
import ctypes, torch
from linear_lasagna import conditions
class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Info
def mapped():
    before = mallinfo2().hblks
    kept.append(torch.empty(2**24, dtype=torch.uint8))  # freed, it would settle the allocator itself
    return mallinfo2().hblks - before
kept = []
first = mapped()
conditions.settle_allocator()
print(first, mapped())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or newer")
def test_large_blocks_are_kept_before_anything_is_timed():
    ran = subprocess.run([sys.executable, "-c", ALLOCATED], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1", "0"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_stack_is_timed(dtype, monkeypatch):
    monkeypatch.setattr(calibration, "EXTENTS", (4, 8, 16))
    uneven = (PAIR[0], Link(PAIR[1].layer, (2, 1)))
    for chain in (PAIR, uneven):
        found = measured(chain, 2, dtype, "cpu", 4)
        for curve in (found.layers, found.merged, found.border):
            assert list(curve.work) == sorted(curve.work)
            assert all(0 < seconds < 10 for seconds in curve.seconds)


def test_a_stack_whose_every_output_is_border_is_not_timed():
    huge = chained(Problem("huge", 1, 1, (8,), (Layer(1, 301, padding=150), Layer(1, 301, padding=150))).expanded)
    assert measured(huge, 1, torch.float32, "cpu", 1) is None


# What is kept


def test_costs_are_timed_once_per_machine_and_said_to_be(fresh, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, logger="linear_lasagna"):
        found = costs(PAIR, 2, torch.float32)
    assert "timed a padded stack of 2 layers" in caplog.text
    assert len(list(fresh.iterdir())) == 1
    monkeypatch.setattr(calibration, "measured", None)  # from now on nothing must be timed
    assert costs(PAIR, 2, torch.float32) is found
    monkeypatch.setattr(calibration, "_known", {})  # the next process
    assert costs(PAIR, 2, torch.float32) == found


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": torch.float64},
        {"images": "several"},
        {"in_channels": 4},
        {"device": "mps"},
        {"chain": (PAIR[0], Link(PAIR[1].layer, (2, 1)))},
    ],
    ids=str,
)
def test_another_stack_dtype_or_device_has_costs_of_its_own(change):
    usual = {"chain": PAIR, "in_channels": 2, "dtype": torch.float32, "device": "cpu", "images": "one"}
    assert calibration._key(**usual) == calibration._key(**usual) != calibration._key(**usual | change)


def test_another_machine_has_costs_of_its_own(fresh, monkeypatch):
    monkeypatch.setattr(calibration, "measured", lambda *_: Costs(flat(2.0), flat(1.0), flat(0.5), 0.1))
    costs(PAIR, 2, torch.float32)
    monkeypatch.setattr(calibration, "_known", {})
    monkeypatch.setattr(calibration, "fingerprint", lambda device: {"cpu": "another"})
    costs(PAIR, 2, torch.float32)
    assert len(list(fresh.iterdir())) == 2


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ({"curves": [[[1], [1.0]]] * 2, "doubt": 0.1}, "missing"),
        ({"curves": [[[2, 1], [1.0, 2.0]]] * 3, "doubt": 0.1}, "work must rise"),
        ({"curves": [[[1], [-1.0]]] * 3, "doubt": 0.1}, "seconds be positive"),
        ({"curves": [[[1], []]] * 3, "doubt": 0.1}, "as many seconds"),
        ({"curves": [[[1], ["x"]]] * 3, "doubt": 0.1}, "could not convert"),
        ({"curves": [[[1], [1.0]]] * 3, "doubt": -1.0}, "doubt"),
        ({"curves": [[[1], [1.0]]] * 3}, "doubt"),
        ([], "list"),
    ],
)
def test_a_spoilt_file_is_ignored_with_one_line(fresh, monkeypatch, spoilt, reason):
    anew = Costs(flat(2.0), flat(1.0), flat(0.5), 0.1)
    monkeypatch.setattr(calibration, "measured", lambda *_: anew)
    costs(PAIR, 2, torch.float32)
    (path,) = fresh.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"found": spoilt}))
    monkeypatch.setattr(calibration, "_known", {})
    with pytest.warns(RuntimeWarning, match=rf"ignored .*, measuring anew: not a stack's costs: .*{reason}"):
        assert costs(PAIR, 2, torch.float32) == anew


# Budgets


def test_a_spent_budget_times_nothing_more_and_remembers_no_refusal(fresh, monkeypatch):
    found, given = Costs(flat(2.0), flat(1.0), flat(0.5), 0.1), []
    monkeypatch.setattr(calibration, "measured", lambda *case: given.append(case[-1]) or found)
    times = iter([0.0, 4.0, 10.0, 14.0])
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(times))
    with budget() as spent:
        assert costs(PAIR, 2, torch.float32) is found
        assert costs(PAIR, 2, torch.float64) is found
        before = calibration.state()
        assert costs(PAIR, 2, torch.bfloat16) is None
        assert calibration.state() == before
    assert (spent.stacks, spent.spent_s, given) == ({PAIR}, 8.0, [5.0, 1.0])
    times = iter([0.0, 1.0])
    assert costs(PAIR, 2, torch.bfloat16) is found
    assert calibration.state() != before


@pytest.mark.parametrize("text", ["-1", "inf", "nan", "soon"])
def test_a_budget_must_be_a_number_of_seconds(fresh, monkeypatch, text):
    monkeypatch.setenv("LASAGNA_CALIBRATION_S", text)
    with pytest.raises(ValueError, match=f"LASAGNA_CALIBRATION_S must be a number of seconds, .* not {text}"):
        costs(PAIR, 2, torch.float32)


def test_none_is_timed_without_a_budget(fresh, monkeypatch):
    monkeypatch.setenv("LASAGNA_CALIBRATION_S", "0")
    assert costs(PAIR, 2, torch.float32) is None
    assert not fresh.exists()


# Modules


def padded_pair(dtype=torch.float32):
    return nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.Conv2d(16, 2, 3, padding=1)).to(dtype)


def test_merge_calibrates_and_a_module_follows_its_costs(fresh, monkeypatch):
    """Merging is faster here for one image, slower for several; another dtype is not known until it is timed."""

    def timed(chain, in_channels, dtype, device, batch, left_s):
        return Costs(flat(1.0), flat(0.1), flat(0.1 if batch == 1 else 10.0), 0.0)

    monkeypatch.setattr(calibration, "measured", timed)
    merged = merge(padded_pair())
    assert isinstance(merged, BorderExact)
    assert [merged.plan((24, 24), batch) is not None for batch in (1, 2)] == [True, False]
    assert merged.double().plan((24, 24)) is None
    assert merged.calibrate()
    assert merged.plan((24, 24)) is not None
    assert merged.plan((2, 2)) is None
    assert merged.settle((24, 24), batch=2)
    assert merged.plan((24, 24), batch=2) is not None


def test_an_uncalibrated_module_runs_its_layers():
    torch.manual_seed(0)
    modules = padded_pair()
    merged = merge(modules)
    assert not merged.calibrate()  # the tests' budget is 0
    x = torch.randn(2, 2, 250, 250)
    assert torch.equal(merged(x), modules(x))
