"""What a padded stack costs here: curves, what is remembered, budgets, and the decisions that follow."""

import json
import logging
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from linear_lasagna import Layer, Problem, calibration
from linear_lasagna.calibration import Costs, Curve, budget, costs, measured, pays
from linear_lasagna.merging import merge
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


def test_a_curve_is_a_power_law_between_points_and_in_proportion_beyond():
    curve = Curve((100, 10_000), (1.0, 10.0))
    assert [curve.at(work) for work in (1, 100, 1000, 10_000, 30_000)] == pytest.approx([1, 1, math.sqrt(10), 10, 30])


# Decisions from costs


def flat(seconds):
    return Curve((1.0, 1e15), (seconds, seconds))


@pytest.mark.parametrize(
    ("layers", "merged", "faces", "doubt", "merging"),
    [
        (1.0, 0.4, 0.4, 0.0, True),
        (1.0, 0.4, 0.7, 0.0, False),
        (1.0, 0.5, 0.5, 0.0, False),
        (1.0, 0.4, 0.4, 0.3, False),
        (1.0, 0.4, 0.4, 0.2, True),
    ],
)
def test_merging_pays_where_it_is_faster_by_more_than_the_doubt(layers, merged, faces, doubt, merging, monkeypatch):
    found = Costs(flat(layers), flat(merged), flat(faces), doubt)
    ratio = found.log_ratio(PAIR, 2, plan(PAIR, 2, (24, 24)), (24, 24), 3)
    assert ratio == pytest.approx(math.log((merged + faces) / layers))
    monkeypatch.setattr(calibration, "costs", lambda *_: found)
    assert pays(PAIR, 2, (24, 24), 3, torch.float32) is merging
    assert not pays(PAIR, 2, (2, 2), 3, torch.float32)  # every output is border


def test_work_counts_the_whole_batch():
    small, large = (calibration._work(PAIR, 2, plan(PAIR, 2, size), size, 2) for size in ((16, 16), (32, 32)))
    assert small.layers == 2 * stack_macs(PAIR, 2, (16, 16)) == 2 * 256 * 16 * 2 * 2 * 9
    assert small.merged == 2 * 256 * 2 * 2 * 25
    assert large.layers == 4 * small.layers
    assert small.faces < large.faces < 4 * small.faces  # a border, not an area


def test_without_costs_the_layers_run(monkeypatch):
    monkeypatch.setattr(calibration, "costs", lambda *_: None)
    assert not pays(PAIR, 2, (240, 240), 16, torch.float32)


# Timing


def timing_of(layers, merged, faces):
    """Blocks of one sample each."""
    samples = {n: [[s] for s in v] for n, v in {"layers": layers, "merged": merged, "faces": faces}.items()}
    ones = dict.fromkeys(samples, 1)
    return Timing(samples, dict.fromkeys(samples, 1.0), ones, ones, 1.0, 1.0)


def test_the_least_of_the_samples_counts_and_blocks_tell_the_doubt():
    work = calibration._Work(100, 50, 10)
    found = calibration._costs([(work, timing_of([2.0, 1.0], [0.5, 0.6], [0.5, 0.4]))])
    curves = [(100, 1.0), (50, 0.5), (10, 0.4)]
    assert [found.layers, found.merged, found.faces] == [Curve((work,), (seconds,)) for work, seconds in curves]
    assert found.doubt == pytest.approx(math.log(2) / 2)  # standard error of two: half of what they differ by


@pytest.mark.parametrize(
    ("before", "after", "enough"),
    [
        (0.001, 0.004, False),  # short
        (0.002, 0.008, True),  # long, in proportion
        (0.007, 0.008, False),  # long, but mostly for something else
        (0.05, 0.06, True),  # too long
    ],
)
def test_larger_images_are_timed_until_time_follows_work(before, after, enough):
    works = [calibration._Work(100, 100, 10), calibration._Work(400, 400, 20)]
    timings = [timing_of([s], [s], [0.0001]) for s in (before, after)]
    assert calibration._is_enough(list(zip(works, timings, strict=True))) is enough


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_stack_is_timed(dtype, monkeypatch):
    monkeypatch.setattr(calibration, "EXTENTS", (4, 8, 16))
    uneven = (PAIR[0], Link(PAIR[1].layer, (2, 1)))
    for chain in (PAIR, uneven):
        found = measured(chain, 2, dtype, "cpu", 4)
        for curve in (found.layers, found.merged, found.faces):
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
    found = Costs(flat(2.0), flat(1.0), flat(0.5), 0.1)
    monkeypatch.setattr(calibration, "measured", lambda *_: found)
    times = iter([0.0, 4.0, 10.0, 14.0])
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(times))
    with budget() as spent:
        assert costs(PAIR, 2, torch.float32) is found
        assert costs(PAIR, 2, torch.float64) is found
        before = calibration.state()
        assert costs(PAIR, 2, torch.bfloat16) is None
        assert calibration.state() == before
    assert (spent.stacks, spent.spent_s) == ({PAIR}, 8.0)
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

    def timed(chain, in_channels, dtype, device, batch):
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
