"""The precision study: rows are right, and the same however often it is killed and whoever computes them."""

import contextlib
import importlib
import itertools
import math
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pandas
import psutil
import pytest
import torch
from flushing import flushing
from threadpoolctl import threadpool_info, threadpool_limits

from analysis import precision
from analysis.data.store import Store, StoreError, read
from analysis.precision import linear_defects, study
from analysis.precision.case import Case, draw
from analysis.precision.compute import Stamp, Task, compute
from analysis.precision.conditions import pinned
from analysis.precision.dispatch import dispatch
from analysis.precision.experiment import Experiment, sources
from analysis.precision.gain import out_of_range
from analysis.precision.linear_defects import computed, inputs
from analysis.precision.merge_orders import ORDERS, exact_weight
from analysis.precision.methods import compared
from analysis.precision.unit import Grid, Unit, plain
from linear_lasagna import Kernel
from linear_lasagna.devices import dtype_named
from linear_lasagna.exact import convolve
from linear_lasagna.merging import merge_stack
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.vocabulary import COMMON_METRICS, DTYPES, METRICS
from linear_lasagna.ways import way_named

ROOT = Path(__file__).parent.parent
FOLDER = "LASAGNA_TEST_FOLDER"  # where the fakes leave marks; workers inherit it
RUN = "import sys; from analysis.precision import run_study; run_study(['depth'], 'smoke', sys.argv[1], workers={})"
GUARDED = "if __name__ == '__main__':\n    "

TINY = Problem("tiny", 1, 1, (2, 2), (Layer(1, 1),))
SMALL = plain(3, channels=4, output=3)


def same_rows(first, second):
    """Equal in every column but those that tell who computed, and how long it took."""
    own = ["worker", "elapsed_s"]
    pandas.testing.assert_frame_equal(first.drop(columns=own), second.drop(columns=own))


def fake(name, rows, seeds=6):
    """An experiment with one unit per seed."""
    grid = (Grid((TINY,), seeds, dtypes=("float32",), signs=("random",)),)
    return Experiment(name, "none", ("direct", "other"), dict.fromkeys(precision.PRESETS, grid), rows)


def mark(what):
    """Count, in a file, how often something was done, in whatever process."""
    with (Path(os.environ[FOLDER]) / what).open("a") as file:
        file.write("x")


def marks(folder, what):
    path = folder / what
    return len(path.read_text()) if path.exists() else 0


def good_row(unit):
    return {"way": "direct", "status": "ok", "reason": "", "relative_l2": unit.seed / 7, "error_u": 0.0, "outputs": 4}


def steady_rows(unit):
    mark(f"seed{unit.seed}")
    return [good_row(unit)]


def raising_rows(unit):
    if unit.seed == 2:
        raise MemoryError("no room for it\nsecond line")
    return [good_row(unit)]


def deadly_rows(unit):
    """The worker dies of seed 2."""
    mark(f"seed{unit.seed}")
    if unit.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return [good_row(unit)]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path / "precision.sqlite"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The rows of the depth experiment's smoke preset, computed in this process."""
    path = tmp_path_factory.mktemp("undisturbed") / "precision.sqlite"
    precision.run_study(["depth"], "smoke", path)
    return read(path)


def register(monkeypatch, experiment):
    monkeypatch.setitem(precision.EXPERIMENTS, experiment.name, experiment)


def one_unit(name, unit):
    """The rows of one unit of a registered experiment, as they would be stored."""
    experiment = precision.EXPERIMENTS[name]
    return compute(Task(experiment, unit, Stamp.of(experiment, "here")))


# --- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_relative_l2_is_what_fractions_give(dtype):
    unit = Unit(Problem("hand-made", 1, 2, (3, 2), (Layer(2, 2),)), dtype, "random", seed=5)
    case = Case.of(unit)
    (row,) = case.rows(["direct"])
    x, weight = case.x[0], case.kernels[0].weight
    exact = [
        sum(
            Fraction(weight[o, c, i, j].item()) * Fraction(x[c, p + i, j].item())
            for c, i, j in itertools.product(range(2), repeat=3)
        )
        for o, p in itertools.product(range(2), repeat=2)
    ]
    y = [Fraction(value) for value in case.compute("direct").flatten().tolist()]
    squares = [sum((a - b) ** 2 for a, b in zip(y, exact, strict=True)), sum(b**2 for b in exact)]
    expected = math.sqrt(squares[0] / squares[1])
    assert row["relative_l2"] == pytest.approx(expected, rel=1e-12)
    assert row["error_u"] == pytest.approx(expected / (torch.finfo(dtype_named(dtype)).eps / 2), rel=1e-12)
    assert (row["outputs"], row["status"]) == (4, "ok")


def test_a_single_layer_has_no_merged_rows(undisturbed):
    ways = undisturbed.groupby("depth")["way"].unique().map(sorted)
    assert ways[1] == ["direct"]
    assert ways[2] == sorted(precision.EXPERIMENTS["depth"].ways)


def test_rows_carry_what_the_report_needs(undisturbed):
    columns = "experiment machine device dtype signs depth seed way status reason relative_l2 error_u fan_in outputs"
    assert set(f"{columns} threads worker code version torch elapsed_s".split()) <= set(undisturbed.columns)
    assert not undisturbed.duplicated(["dtype", "signs", "depth", "seed", "way"]).any()
    assert (undisturbed["status"] == "ok").all()
    assert (undisturbed["relative_l2"] > 0).all()
    assert set(undisturbed["threads"]) == {1}
    assert set(undisturbed["worker"]) == {f"local/{os.getpid()}"}
    assert set(undisturbed["outputs"]) == {16 * 8 * 8}
    assert set(undisturbed["fan_in"]) == {144}


def test_overflow_is_a_row():
    rows = one_unit("depth", Unit(SMALL, "float16", "positive", seed=0, gain=2.0**6))
    assert [row["status"] for row in rows] == ["overflow"] * 3
    assert all(row["reason"] == "36 of 36 outputs are not finite" for row in rows)
    assert all(row["relative_l2"] is row["error_u"] is None for row in rows)
    assert all(row["outputs"] == 36 for row in rows)


def test_an_experiment_asks_for_further_metrics():
    """They are columns of its rows, by the names of the registry; what is infinite of one output is no failed row."""
    more = tuple(name for name in METRICS if name not in COMMON_METRICS)
    case = Case.of(Unit(SMALL, "bfloat16", "random", 0, inputs="relu"), more)
    row, merged = case.rows(["direct", "merged/direct"])
    assert set(row) == {"way", "status", "reason", *METRICS, "outputs"}
    assert 0 < row["relative_q50_u"] < row["relative_q90_u"] < row["relative_q99_u"]
    assert 0 < row["backward_u"] < row["condition_q50"] * row["relative_q99_u"]
    assert 0 < row["ulps_q50"] <= row["ulps_max"]
    assert 0 < row["correctly_rounded"] < 1
    assert merged["status"] == "ok"
    zero = replace(case.exact, digits=case.exact.digits.clone().index_fill_(-1, torch.tensor([0]), 0))
    part = replace(case, exact=zero, values=zero.to(torch.float64)).rows(["direct"])[0]
    assert (part["status"], part["relative_q99_u"]) == ("ok", math.inf)
    lost = case.row("direct", lambda: torch.full((1, 4, 3, 3), math.nan))
    assert (lost["status"], lost["pooled_u"]) == ("overflow", None)


def test_a_way_that_raises_is_a_row():
    case = Case.of(Unit(TINY, "float32", "random", seed=0))
    row = case.row("direct", lambda: torch.ones(2) @ torch.ones(3))
    assert row["status"] == "failed"
    assert row["reason"].startswith("RuntimeError: ")
    assert "\n" not in row["reason"]


def test_gain_scales_the_weights_before_they_are_rounded():
    plain_unit, scaled = (Unit(SMALL, "float16", "random", 3, gain=gain) for gain in (1.0, 3.0))
    (x, before), (same_x, after) = draw(plain_unit), draw(scaled)
    assert torch.equal(x, same_x)
    exactly = SMALL.draw(torch.float64, seed=3)[1]
    for kernel, scaled_kernel, wide in zip(before, after, exactly, strict=True):
        assert torch.equal(kernel.weight, wide.weight.half())
        assert torch.equal(scaled_kernel.weight, (wide.weight * 3).half())


def test_draws_are_the_problem_s_own():
    x, kernels = SMALL.draw(torch.bfloat16, seed=4, signs="positive")
    own_x, own_kernels = draw(Unit(SMALL, "bfloat16", "positive", seed=4))
    assert torch.equal(x, own_x)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(kernels, own_kernels, strict=True))
    assert all(isinstance(kernel, Kernel) for kernel in own_kernels)


def test_rows_say_which_families_and_which_truth():
    unit = Unit(SMALL, "bfloat16", "random", 1, inputs="relu", weights="rank_one:0.5", truth="float32")
    assert {(row["inputs"], row["weights"], row["truth"]) for row in one_unit("depth", unit)} == {
        ("relu", "rank_one:0.5", "float32")
    }
    for row in one_unit("depth", Unit(plain(1, 33), "float32", "random", 1, weights="trained_digits")):
        assert row["status"] == "failed"
        assert "trained layers are 3 x 3 with up to 32 channels" in row["reason"]


@pytest.mark.parametrize("truth", ["float32", "float64"])
def test_the_truth_may_be_of_weights_that_were_not_rounded(truth):
    """In fractions: the input is the dtype's, the weights the truth's; what is computed with is these, rounded."""
    unit = Unit(plain(2, channels=2, output=2), "float16", "random", 3, truth=truth)
    case, wide = Case.of(unit), dtype_named(truth)
    x, kernels = unit.problem.draw(torch.float64, seed=3)
    given = [Kernel(kernel.weight.to(wide)) for kernel in kernels]
    assert all(torch.equal(a.weight, b.weight.half()) for a, b in zip(case.kernels, given, strict=True))
    exact = convolve(x.half().double(), [k.map(torch.Tensor.double) for k in given], unit.problem.layers).fractions()
    assert case.exact.fractions() == exact
    (row,) = case.rows(["direct"])
    errors = [a - b for a, b in zip(fractions(case.compute("direct")), exact, strict=True)]
    assert row["relative_l2"] == pytest.approx(norm(errors) / norm(exact), rel=1e-9)
    rounded = Case.of(replace(unit, truth="rounded"))
    assert torch.equal(rounded.compute("direct"), case.compute("direct"))
    assert rounded.exact.fractions() != exact


def test_identities_are_those_of_rounded_uniform_numbers():
    for changed in ({"inputs": "relu"}, {"truth": "float64"}):
        rows = one_unit("linearity", replace(Unit(SMALL, "float32", "random", 1), **changed))
        assert all("identities are those of uniform inputs and rounded weights" in row["reason"] for row in rows)


# --- what the experiments measure -----------------------------------------------------------------------------------


def fractions(tensor):
    return [Fraction(value) for value in tensor.flatten().tolist()]


def norm(values):
    return math.sqrt(sum(value**2 for value in values))


def test_powers_of_two_change_no_error_until_the_range_ends():
    stack = plain(2, channels=4, output=3)
    for dtype, gains in (("float32", (2.0**-9, 1.0, 2.0**9)), ("bfloat16", (2.0**-9, 1.0, 2.0**9))):
        found = [one_unit("gain", Unit(stack, dtype, "positive", 1, gain=gain)) for gain in gains]
        errors = [[(row["way"], row["error_u"], row["subnormal"]) for row in rows] for rows in found]
        assert errors[0] == errors[1] == errors[2]
    over, under = (one_unit("gain", Unit(stack, "float16", "positive", 1, gain=2.0**power)) for power in (9, -13))
    assert [(row["status"], row["not_finite"]) for row in over] == [("overflow", 36)] * 3
    assert [(row["relative_l2"], row["flushed"]) for row in under] == [(1.0, 36)] * 3


def test_a_merged_kernel_that_the_dtype_cannot_hold_overflows():
    """Merging refuses it, and its way has lost every output: that is no failure of the experiment."""
    rows = one_unit("gain", Unit(plain(4, channels=8, output=4), "float16", "random", 0, gain=2.0**8))
    assert [(row["way"], row["status"], row["not_finite"]) for row in rows[1:]] == [
        ("merged/direct", "overflow", 128),
        ("merged_working/direct", "overflow", 128),
    ]
    assert "not finite in float16" in rows[1]["reason"]


def test_what_leaves_the_range_is_counted_by_bits():
    """Zeros of exact results below half the least number, too, which round to zero."""
    y = torch.tensor([[[1.0, -(2.0**-14), 2.0**-15, -(2.0**-24), 0.0, -0.0, 0.0, math.inf, math.nan]]]).half()
    values = torch.tensor([[[1.0, 1, 1, 1, 2.0**-60, -(2.0**-15), 0, 1, 1]]], dtype=torch.float64)
    exact = convolve(values, [Kernel(torch.ones(1, 1, 1, dtype=torch.float64))], [Layer(1, 1)])
    assert out_of_range(y, exact) == {"not_finite": 2, "subnormal": 2, "flushed": 2}
    with flushing():
        assert out_of_range(y, exact) == {"not_finite": 2, "subnormal": 2, "flushed": 2}


def test_subnormal_numbers_are_not_counted_as_zero_where_the_processor_flushes():
    y = torch.full((1, 1, 1000), 2.0**-140)
    exact = convolve(y, [Kernel(torch.ones(1, 1, 1))], [Layer(1, 1)])
    with flushing():
        assert out_of_range(y, exact) == {"not_finite": 0, "subnormal": 1000, "flushed": 0}


def test_methods_are_compared_with_the_baseline():
    y = torch.tensor([1.0, 2.0, -3.0, 4.0])
    other = torch.tensor([1.0, 2.0 + 2**-21, -3.0, 4.0 - 2**-22])
    found = compared(other, y)
    assert (found["equal"], found["largest_ulps"], found["largest_difference"]) == (0.5, 2, 2.0**-21)
    assert found["distance_u"] == pytest.approx(math.sqrt((8**2 + 4**2) / 30), rel=1e-12)
    zeros = torch.zeros(2)
    assert compared(torch.tensor([0.0, -0.0]), zeros) == {
        "equal": 0.5,
        "largest_ulps": 0,
        "largest_difference": 0.0,
        "distance_u": 0.0,
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_methods_are_no_further_from_the_baseline_than_both_are_from_the_exact_result(dtype):
    rows = one_unit("methods", Unit(plain(1, channels=4), dtype, "random", seed=0))
    assert {row["way"] for row in rows} >= {"direct", "unfold_matmul"}
    assert (rows[0]["way"], rows[0]["equal"], rows[0]["distance_u"]) == ("direct", 1.0, 0.0)
    for row in rows:
        assert row["distance_u"] <= 1.001 * (row["error_u"] + rows[0]["error_u"]), row


@pytest.mark.parametrize("signs", ["random", "positive"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_odd_and_commutes_with_powers_of_two_bitwise(dtype, signs):
    for row in one_unit("linearity", Unit(plain(3, channels=8, output=4), dtype, signs, seed=2)):
        if row["property"] in ("f(-x) = -f(x)", "f(4x) = 4f(x)"):
            assert (row["equal"], row["relative_l2"]) == (1.0, 0.0), row
        else:
            assert row["equal"] < 1
            assert 0.1 < row["error_u"] < 50


@pytest.mark.parametrize("dtype", DTYPES)
def test_defects_are_what_fractions_give(dtype):
    unit = Unit(plain(2, channels=3, output=2), dtype, "random", seed=1)
    images, kernels = inputs(unit)
    for x, z, both, three, four in zip(*map(fractions, map(images.get, ("x", "z", "x+z", "3x", "4x"))), strict=True):
        assert (both, three, four) == (x + z, 3 * x, 4 * x)
    f = {name: fractions(y) for name, y in computed(unit, "direct", images, kernels).items()}
    exact = {name: convolve(images[name], kernels, unit.problem.layers).fractions() for name in ("x+z", "3x")}
    sums = [a - b - c for a, b, c in zip(f["x+z"], f["x"], f["z"], strict=True)]
    multiples = [a - 3 * b for a, b in zip(f["3x"], f["x"], strict=True)]
    rows = {(row["way"], row["property"]): row for row in one_unit("linearity", unit)}
    additive, homogeneous = (rows["direct", name]["relative_l2"] for name in ("f(x+z) = f(x)+f(z)", "f(3x) = 3f(x)"))
    assert additive == pytest.approx(norm(sums) / norm(exact["x+z"]), rel=1e-9)
    assert homogeneous == pytest.approx(norm(multiples) / norm(exact["3x"]), rel=1e-9)


def test_a_way_that_is_not_odd_is_found(monkeypatch):
    unit = Unit(plain(2, channels=3, output=2), "float32", "random", seed=1)

    class Shifted:
        def unsupported(self, *_):
            return None

        def prepare(self, problem, kernels):
            return lambda x: way_named("direct").prepare(problem, kernels)(x) + 2.0**-10

    monkeypatch.setattr(linear_defects, "way_named", lambda name: Shifted())
    rows = {row["property"]: row for row in one_unit("linearity", unit)}
    assert rows["f(-x) = -f(x)"]["equal"] < 0.1
    assert rows["f(4x) = 4f(x)"]["equal"] < 0.1
    assert rows["f(-x) = -f(x)"]["error_u"] > 1000


def test_the_parts_of_a_merged_error_are_what_fractions_give():
    unit = Unit(plain(2, channels=2, output=2), "float16", "random", seed=3)
    case = Case.of(unit)
    kernel, layer = merge_stack(case.kernels, unit.problem.expanded, torch.float64)
    exact, rounded = case.exact.fractions(), convolve(case.x, [kernel], [layer]).fractions()
    y = fractions(case.compute("merged/direct"))
    expected = {
        "total": [a - b for a, b in zip(y, exact, strict=True)],
        "kernel": [a - b for a, b in zip(rounded, exact, strict=True)],
        "sum": [a - b for a, b in zip(y, rounded, strict=True)],
    }
    rows = {(row["way"], row["part"]): row["relative_l2"] for row in one_unit("merging", unit)}
    for part, values in expected.items():
        assert rows["merged/direct", part] == pytest.approx(norm(values) / norm(exact), rel=1e-9)
    assert ("direct", "total") in rows


def test_every_order_merges_into_the_exact_kernel():
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 2, 3, 3), (4, 3, 1, 2), (2, 4, 2, 2), (1, 2, 3, 1), (2, 1, 1, 1)]
    weights = [torch.randint(-3, 4, shape, generator=generator).double() for shape in shapes]
    exact = exact_weight(weights).to(torch.float64).transpose(0, 1)
    assert exact.shape == (2, 2, 6, 5)
    for merge in ORDERS.values():
        assert torch.equal(merge(weights)[0], exact)


def test_the_cost_of_an_order_counts_every_product():
    weights = [torch.zeros(8, 8, 3, 3)] * 4
    costs = {name: merge(weights)[1] for name, merge in ORDERS.items()}
    assert costs == {"left_to_right": 512 * 747, "right_to_left": 512 * 747, "balanced": 512 * 787}
    wide = [torch.zeros(9, 2, 1, 1), torch.zeros(1, 9, 1, 1), torch.zeros(5, 1, 1, 1)]
    assert [ORDERS[name](wide)[1] for name in ("left_to_right", "right_to_left")] == [18 + 10, 45 + 90]


def test_orders_differ_only_by_rounding():
    rows = one_unit("order", Unit(plain(4, channels=4, output=2), "float32", "random", seed=0))
    assert [row["order"] for row in rows] == list(ORDERS)
    assert all(0.1 < row["kernel_error_u"] < 20 for row in rows)
    assert len({row["kernel_error_u"] for row in rows}) == 3


# --- units ----------------------------------------------------------------------------------------------------------


def test_unit_keys_differ_where_units_do():
    units = [
        Unit(problem, dtype, signs, seed, device, gain)
        for problem, dtype, signs, seed, device, gain in itertools.product(
            (TINY, SMALL, plain(3, channels=4, output=4)),
            DTYPES,
            ("random", "positive"),
            range(2),
            ("cpu", "cuda"),
            (1.0, 2.0),
        )
    ]
    assert len({unit.key for unit in units}) == len(units)
    assert Unit(TINY, "float32", "random", 0).key == Unit(TINY, "float32", "random", 0).key


def test_keys_of_units_without_families_are_those_of_before():
    """Version 0.1.0 gave these: the same unit in an old store."""
    assert Unit(plain(2), "float32", "random", 3).key == "fe9ecc82523d2465"
    assert Unit(plain(4, 8), "bfloat16", "positive", 1, "cuda", 0.5).key == "ea224ab948793103"
    others = [{"inputs": "relu"}, {"weights": "normal"}, {"weights": "rank_one:2"}, {"truth": "float32"}]
    assert len({Unit(TINY, "float32", "random", 0, **each).key for each in [{}, *others]}) == 5


def test_a_grid_has_families_and_truths():
    grid = Grid(
        (TINY,),
        2,
        ("float16",),
        ("random",),
        inputs=("relu", "pink"),
        weights=("normal",),
        truths=("rounded", "float64"),
    )
    units = grid.units("cpu")
    assert len(units) == 8
    assert {(unit.inputs, unit.weights, unit.truth) for unit in units} == {
        (inputs, "normal", truth) for inputs in ("relu", "pink") for truth in ("rounded", "float64")
    }


@pytest.mark.parametrize("name", precision.EXPERIMENTS)
def test_experiments_are_well_formed(name):
    experiment = precision.EXPERIMENTS[name]
    assert experiment.name == name
    assert experiment.question.endswith("?")
    assert set(experiment.presets) == set(precision.PRESETS)
    sizes = [len(experiment.units(preset, "cpu")) for preset in precision.PRESETS]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    trained = name in ("rounded", "coarse", "defects", "accidents", "evolved")  # a network per seed
    for preset in ("full",) if experiment.apart or trained else ("default", "full"):
        assert len({unit.seed for unit in experiment.units(preset, "cpu")}) >= 10


def test_an_experiment_that_stands_apart_is_run_by_its_name_alone():
    apart = [name for name, experiment in precision.EXPERIMENTS.items() if experiment.apart]
    assert apart == ["reproducibility", "emulation"]
    assert [each.name for each in study.named(None)] == [name for name in precision.EXPERIMENTS if name not in apart]
    assert [each.name for each in study.named(apart)] == apart


def test_the_default_study_has_a_thousand_cells():
    units = (unit for each in precision.EXPERIMENTS.values() for unit in each.units("default", "cpu"))
    assert sum(1 for _ in units) >= 400
    assert len(precision.EXPERIMENTS["depth"].units("default", "cpu")) == 400


@pytest.mark.parametrize(
    ("name", "more"),
    [("depth", set()), ("order", {"case.py", "merge_orders.py"}), ("linearity", {"case.py", "linear_defects.py"})],
)
def test_the_version_covers_every_module_that_an_experiment_computes_with(name, more):
    own = Path(str(importlib.import_module(precision.EXPERIMENTS[name].rows.__module__).__file__))
    assert sources(own)[0] == own
    names = {path.name for path in sources(own)[1:]}
    everywhere = {"case.py", "casts.py", "compute.py", "conditions.py", "experiment.py", "unit.py"}
    families = {"__init__.py", "drawing.py", "family.py", "inputs.py", "photographs.py", "trained.npz", "trained.py"}
    assert names == everywhere | families | {"weights.py"} | more


def test_the_version_changes_with_the_experiment_and_with_torch(monkeypatch):
    versions = {experiment.version() for experiment in precision.EXPERIMENTS.values()}
    assert len(versions) == len(precision.EXPERIMENTS)
    before = precision.EXPERIMENTS["depth"].version()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    assert precision.EXPERIMENTS["depth"].version() != before


# --- conditions -----------------------------------------------------------------------------------------------------


def test_a_unit_has_one_thread_and_puts_the_number_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threadpool_limits(2), pinned() as threads:
            assert threads == torch.get_num_threads() == 1
            assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} <= {1}
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError, match="left early"), pinned():
            raise RuntimeError("left early")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_rows_do_not_depend_on_the_threads_outside():
    unit = Unit(plain(1, channels=128, output=4), "float32", "random", seed=1)  # two threads sum in another order
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(pandas.DataFrame(one_unit("fan_in", unit)))
    torch.set_num_threads(before)
    same_rows(*found)


def test_importing_the_study_imports_neither_torch_nor_pandas():
    code = "import sys, analysis.precision, analysis.data.store; "
    code += "print([m for m in ('torch', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- running --------------------------------------------------------------------------------------------------------


def test_only_missing_units_run(path, monkeypatch):
    register(monkeypatch, fake("fake", steady_rows))
    first = precision.run_study(["fake"], "smoke", path)
    again = precision.run_study(["fake"], "smoke", path)
    other = precision.run_study(["fake"], "smoke", path, machine="another")
    assert (first.units, first.stored, first.statuses) == (6, 0, {"ok": 6})
    assert (again.units, again.stored, again.statuses) == (6, 6, {})
    assert other.stored == 0
    assert [marks(path.parent, f"seed{seed}") for seed in range(6)] == [2] * 6
    assert "6 of them stored before" in str(again)


def test_a_unit_that_raises_is_failed_rows_and_may_be_retried(path, monkeypatch):
    register(monkeypatch, fake("fake", raising_rows))
    assert precision.run_study(["fake"], "smoke", path).statuses == {"ok": 5, "failed": 2}
    failed = read(path).query("status == 'failed'")
    assert list(failed["reason"]) == ["MemoryError: no room for it"] * 2
    assert list(failed["way"]) == ["direct", "other"]
    assert precision.run_study(["fake"], "smoke", path).stored == 6
    assert precision.run_study(["fake"], "smoke", path, retry_failed=True).stored == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["nonsense"], "smoke"), r"unknown experiment 'nonsense'; known: depth"),
        ((["depth"], "huge"), r"unknown preset 'huge'; known: smoke, default, full"),
        ((["depth"], "smoke", "tpu"), r"unknown device 'tpu'; known: cpu, cuda, mps"),
        ((["depth"], "smoke", "cpu", -1), r"workers must be 0 or more, not -1"),
    ],
)
def test_unknown_names_are_told_in_one_line_before_anything_is_made(path, arguments, message):
    experiments, preset, device, workers = (*arguments, *("cpu", 0)[len(arguments) - 2 :])
    with pytest.raises(ValueError, match=message) as caught:
        precision.run_study(experiments, preset, path, device=device, workers=workers)
    assert "\n" not in str(caught.value)
    assert not path.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a CUDA device")
def test_a_device_that_is_not_there_is_told(path):
    with pytest.raises(ValueError, match="no CUDA device"):
        precision.run_study(["depth"], "smoke", path, device="cuda")


def test_a_store_of_another_schema_is_told_and_the_study_goes_on(path, monkeypatch, capsys):
    register(monkeypatch, fake("fake", steady_rows))
    precision.run_study(["fake"], "smoke", path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")
    capsys.readouterr()
    assert precision.run_study(["fake"], "smoke", path).stored == 0
    assert "kept as precision.schema9.sqlite" in capsys.readouterr().err


def test_rows_of_another_version_of_the_code_are_kept_and_told(path, monkeypatch, capsys):
    register(monkeypatch, fake("fake", steady_rows))
    precision.run_study(["fake"], "smoke", path)
    assert "another version" not in capsys.readouterr().err
    before = read(path)
    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.version", lambda name: "0")
        assert precision.run_study(["fake"], "smoke", path).stored == 0
        assert "holds 6 units that another version of the code or of torch computed: kept" in capsys.readouterr().err
    assert len(read(path)) == 6
    assert set(read(path)["version"]) != set(before["version"])
    both = read(path, all_versions=True)
    same_rows(both[both["version"].isin(before["version"])].reset_index(drop=True), before)


def test_a_store_that_cannot_be_written_ends_the_run_and_keeps_its_rows(path, monkeypatch):
    class Full(Store):
        def put(self, *arguments):
            if len(self.done("fake", arguments[2], arguments[3])) == 3:
                self.connection.execute("PRAGMA query_only = ON")
            super().put(*arguments)

    register(monkeypatch, fake("fake", steady_rows))
    monkeypatch.setattr(study, "Store", Full)
    with pytest.raises(StoreError, match="readonly database; what was stored before is intact"):
        precision.run_study(["fake"], "smoke", path)
    assert len(read(path)) == 3
    monkeypatch.undo()
    monkeypatch.setenv(FOLDER, str(path.parent))
    register(monkeypatch, fake("fake", steady_rows))
    assert precision.run_study(["fake"], "smoke", path).stored == 3


# --- workers and kills ----------------------------------------------------------------------------------------------


def test_two_workers_give_the_same_rows_as_none(path, undisturbed):
    summary = precision.run_study(["depth"], "smoke", path, workers=2)
    assert sum(summary.statuses.values()) == len(undisturbed)
    same_rows(read(path), undisturbed)
    assert len(set(read(path)["worker"]) - {f"local/{os.getpid()}"}) in (1, 2)


def test_a_unit_whose_worker_dies_is_tried_once_more_then_recorded(path, monkeypatch):
    register(monkeypatch, fake("fake", deadly_rows, seeds=4))
    summary = precision.run_study(["fake"], "smoke", path, workers=1)
    assert summary.statuses == {"ok": 3, "failed": 2}
    frame = read(path).set_index("seed")
    assert set(frame.loc[2, "reason"]) == {"its worker process died, also when it computed nothing else"}
    assert list(frame.loc[2, "way"]) == ["direct", "other"]
    assert sorted(frame.index) == [0, 1, 2, 2, 3]
    assert marks(path.parent, "seed2") == 2
    assert not multiprocessing.active_children()


class Mortal(ThreadPoolExecutor):
    """An executor that breaks when a task dies in it, as a pool of processes does: all that runs is lost."""

    def __init__(self, workers, dies):
        super().__init__(workers)
        self.dies, self.broken = dies, False

    def submit(self, fn, /, *args, **kwargs):
        if self.broken:
            raise BrokenProcessPool
        return super().submit(self.work, args[0])

    def work(self, task):
        time.sleep(0.001)
        self.broken |= self.dies(task)
        if self.broken:
            raise BrokenProcessPool
        return [{"status": "ok"}]


@pytest.mark.parametrize("always", [set(), {0}, {9}, {3, 4, 5}, set(range(10))])
@pytest.mark.parametrize("once", [set(), {1, 3, 9}])
def test_only_what_kills_its_worker_alone_is_recorded_as_failed(always, once):
    """Other tasks that were handed out with it get their rows; a worker that died of something else is forgiven."""
    experiment = fake("fake", steady_rows)
    stamp = Stamp.of(experiment, "here")
    tasks = [Task(experiment, Unit(TINY, "float32", "random", seed), stamp) for seed in range(10)]
    tried = Counter()

    def dies(task):
        tried[task.unit.seed] += 1
        return task.unit.seed in always or (task.unit.seed in once and tried[task.unit.seed] == 1)

    results = list(dispatch(tasks, 4, lambda workers: Mortal(workers, dies)))
    assert sorted(task.unit.seed for task, _ in results) == list(range(10))
    failed = {task.unit.seed for task, rows in results if rows[0]["status"] == "failed"}
    assert failed == always
    assert max(tried.values()) <= 2


def start(path, workers=0):
    """A smoke run of the depth experiment in a process of its own."""
    command = [sys.executable, "-c", GUARDED + RUN.format(workers), str(path)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def stored(path):
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM units").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def wait_for(condition, seconds=180.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)


def test_a_killed_run_takes_its_workers_along_and_resumes_to_the_undisturbed_rows(path, undisturbed):
    rng, before = random.Random(), 0
    for workers in (2, 0):
        more = before + rng.randint(2, 20)
        run = start(path, workers)
        wait_for(lambda run=run, more=more: stored(path) >= more or run.poll() is not None)
        children = psutil.Process(run.pid).children(recursive=True)
        assert len(children) >= workers
        time.sleep(rng.random() * 0.02)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not psutil.wait_procs(children, timeout=10)[1]
        before = stored(path)
        assert before >= more
    assert start(path).wait() == 0
    same_rows(read(path), undisturbed)
    assert stored(path) == 48
