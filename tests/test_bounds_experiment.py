"""The experiments `bounds` and `switches`: bounds that hold, a prediction that is near, switches put back."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from statistics import median

import pytest
import torch

from analysis import precision
from analysis.precision import bounds as experiment
from analysis.precision import switches
from analysis.precision.case import Case
from analysis.precision.unit import Unit, plain
from linear_lasagna import Kernel, Layer, Problem
from linear_lasagna.exact import convolve
from linear_lasagna.formats import accumulator, unit_roundoff
from linear_lasagna.metrics import magnitudes
from linear_lasagna.rounding.bounds import failure, probabilistic_sum_bound
from linear_lasagna.rounding.way_bounds import (
    BOUNDS,
    DOUBT,
    confidence,
    deterministic_bound,
    probabilistic_bound,
    wide_accumulator_bound,
)
from linear_lasagna.switches import SWITCHES, coarse, state, switched
from linear_lasagna.ways import way_named

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
dtypes = pytest.mark.parametrize("dtype", DTYPES)
TARGET = {"float16": 0.1, "bfloat16": 0.1, "float32": 0.25, "float64": 0.25}


def fractions(tensor: torch.Tensor) -> list[Fraction]:
    return [Fraction(value) for value in tensor.flatten().tolist()]


# --- bounds ---------------------------------------------------------------------------------------------------------


@dtypes
def test_bounds_of_a_stack_by_hand(dtype):
    """Two layers of fan-in 9 and 36, the second with a bias: formulas written out in rational numbers."""
    problem = Problem("two", 1, 1, (9, 9), (Layer(4, 3), Layer(4, 3, bias=True)))
    way, kind = way_named("direct"), DTYPES[dtype]
    u, wide = Fraction(unit_roundoff(kind)), Fraction(unit_roundoff(accumulator(kind)))
    certain = math.prod(1 + n * u / (1 - n * u) for n in (9, 38)) - 1  # 37 products and the bias' rounding
    assert deterministic_bound(problem, way, kind) == pytest.approx(float(certain), rel=1e-6)
    if accumulator(kind) is kind:
        usual = math.prod(1 + n * u for n in (10, 39)) - 1
    else:
        usual = math.prod((1 + u) ** times * (1 + n * wide) for n, times in ((9, 1), (37, 2))) - 1
    assert wide_accumulator_bound(problem, way, kind) == pytest.approx(float(usual), rel=1e-6)


@dtypes
def test_a_merged_way_pays_for_its_kernel(dtype):
    problem, kind = plain(3, channels=4, output=3), DTYPES[dtype]
    merged, working = way_named("merged/direct"), way_named("merged_working/direct")
    for bound in BOUNDS.values():
        single = Problem("single", 1, 4, (9, 9), (Layer(4, 7),))
        assert bound(problem, merged, kind) >= bound(single, way_named("direct"), kind) + unit_roundoff(kind)
        assert bound(problem, working, kind) >= bound(problem, merged, kind)


def test_where_gamma_does_not_exist():
    assert deterministic_bound(plain(1, channels=64), way_named("direct"), torch.bfloat16) == math.inf  # 576 / 256 > 1
    assert wide_accumulator_bound(plain(1, channels=64), way_named("direct"), torch.bfloat16) < 0.01


@dtypes
def test_some_sum_exceeds_the_likely_bound_with_the_stated_probability(dtype):
    """The failure probabilities of all sums, 36 and 16 per channel, add up to DOUBT."""
    problem, way = Problem("two", 1, 1, (8, 8), (Layer(4, 3), Layer(5, 3))), way_named("direct")
    sums = accumulator(DTYPES[dtype])
    lam = confidence(problem, way, DTYPES[dtype])
    total = 4 * 36 * failure(9, sums, lam) + 5 * 16 * failure(36, sums, lam)
    assert total == pytest.approx(DOUBT, rel=1e-6)
    steps = [1 + probabilistic_sum_bound(n, sums, lam) for n in (9, 36)]
    stored = (1 + unit_roundoff(DTYPES[dtype])) ** 2 if sums is not DTYPES[dtype] else 1.0
    assert probabilistic_bound(problem, way, DTYPES[dtype]) == pytest.approx(stored * math.prod(steps) - 1, rel=1e-9)


@pytest.mark.parametrize("way", ["direct", "unfold_matmul", "merged/direct", "merged_working/unfold_matmul"])
@dtypes
def test_no_output_exceeds_a_bound(dtype, way):
    """Output by output, in rational numbers: |computed - exact| <= bound * |W2| * |W1| * |x|."""
    for signs, seed in itertools.product(("random", "positive"), range(3)):
        case = Case.of(Unit(plain(2, channels=3, output=3), dtype, signs, seed))
        y, exact = fractions(case.compute(way)), case.exact.fractions()
        sizes = [Kernel(kernel.weight.abs()) for kernel in case.kernels]
        largest = convolve(case.x.abs(), sizes, case.problem.layers).fractions()
        worst = max(abs(a - b) / c for a, b, c in zip(y, exact, largest, strict=True))
        for name, bound in BOUNDS.items():
            assert worst <= Fraction(bound(case.problem, way_named(way), DTYPES[dtype])), name


@dtypes
def test_rows_hold_what_is_known_before(dtype):
    unit = Unit(plain(2, channels=4, output=4), dtype, "random", seed=3)
    case = Case.of(unit)
    found = {row["way"]: row for row in experiment.rows(unit)}
    assert list(found) == [way for way in experiment.WAYS if case.supports(way)]
    exact = case.exact.fractions()
    sizes = fractions(magnitudes(case.x, case.kernels, unit.problem.layers))
    condition = math.sqrt(sum(v * v for v in sizes) / sum(v * v for v in exact))
    for way, row in found.items():
        assert row["condition"] == pytest.approx(condition, rel=1e-9)
        known = {name: condition * bound(unit.problem, way_named(way), DTYPES[dtype]) for name, bound in BOUNDS.items()}
        for name, relative in known.items():
            assert relative <= row[name] <= relative * (1.1 if dtype == "float16" else 1 + 1e-8)  # what underflow adds
            assert row["relative_l2"] < row[name]
        assert row["underflow"] == pytest.approx(1 - known["chain"] / row["chain"], abs=1e-12)
        assert row["predicted"] == pytest.approx(row["relative_l2"], rel=0.5)  # of one draw, of 64 outputs


def test_sums_that_are_too_long_have_no_row():
    unit = Unit(plain(8, channels=8, output=2), "float32", "random", seed=0)  # merged: 17 x 17 x 8 = 2312 products
    assert [row["way"] for row in experiment.rows(unit)] == ["direct", "unfold_matmul"]


@pytest.mark.parametrize("signs", ["random", "positive"])
@dtypes
def test_prediction_on_other_seeds(dtype, signs):
    """The target, on draws that no experiment has: every way of a stack of 4."""
    ratios: dict[str, list[float]] = {}
    for seed in range(7001, 7006):
        for row in experiment.rows(Unit(plain(4, channels=8), dtype, signs, seed)):
            ratios.setdefault(row["way"], []).append(row["predicted"] / row["relative_l2"])
    assert set(ratios) == set(experiment.WAYS)
    for way, found in ratios.items():
        assert abs(median(found) - 1) < TARGET[dtype], way


# --- switches -------------------------------------------------------------------------------------------------------


def test_without_cuda_every_cell_is_skipped_with_the_reason():
    found = switches.rows(Unit(plain(4), "float32", "random", seed=0))
    assert [row["way"] for row in found] == list(switches.WAYS)
    assert {(row["status"], row["reason"]) for row in found} == {("skipped", switches.ABSENT)}


@pytest.mark.parametrize("dtype", SWITCHES)
def test_switches_are_put_back(dtype):
    before = state()
    with pytest.raises(RuntimeError, match="left early"), switched(SWITCHES[dtype], True):
        raise RuntimeError("left early")
    assert state() == before


def test_both_settings_are_measured(monkeypatch):
    """On a device that has the switches; here the CPU is taken for one."""
    seen: list[bool] = []
    unit = Unit(plain(4, channels=2, output=2), "float32", "random", seed=0, device="cuda")
    on_cpu = Case.of(Unit(unit.problem, unit.dtype, unit.signs, unit.seed))

    def compute(self: Case, way: str) -> torch.Tensor:
        seen.append(coarse("cudnn.conv.fp32_precision"))
        return way_named(way).prepare(self.problem, self.kernels)(self.x)

    monkeypatch.setattr(Case, "of", lambda unit: on_cpu)
    monkeypatch.setattr(Case, "compute", compute)
    found = switches.rows(unit)
    assert [(row["way"], row["switches"]) for row in found] == [(w, s) for s in ("off", "on") for w in switches.WAYS]
    assert seen == [False] * 3 + [True] * 3
    assert {row["status"] for row in found} == {"ok"}


def test_both_are_experiments():
    assert {"bounds", "switches"} <= set(precision.EXPERIMENTS)
