"""What is attainable, what a way has to do, and its share: against counts of torch's own, and by hand."""

from __future__ import annotations

import itertools
import math
import mmap
import os
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pandas
import pytest
import torch
from reporting import study
from synthetic import cell, trial
from torch.utils.flop_counter import FlopCounterMode

from analysis.data import limits, records
from analysis.report.sections import limit, memory
from linear_lasagna import METHODS, Layer, Problem, caches, ceilings, resident
from linear_lasagna.caches import processor_caches
from linear_lasagna.catalog import CATALOG
from linear_lasagna.counting import counted
from linear_lasagna.devices import Cpu
from linear_lasagna.methods.winograd import F2, F4, transform_operations
from linear_lasagna.roofline import MEMORY, Ceilings, attainable, place_of
from linear_lasagna.trial import Trial, fields, isolation, run
from linear_lasagna.vocabulary import DTYPES
from linear_lasagna.ways import way_named

# Of JAX, which another test of the process may have loaded; nothing of it is called in the forks.
FORKING = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
MACHINE = Ceilings(operations_per_s=100.0, bytes_per_s={MEMORY: 10.0, "L2": 50.0}, launch_s=0.5)
GROUPED = Problem("grouped", 2, 4, (9, 7), (Layer(6, 3, stride=2, padding=1, groups=2, bias=True), Layer(4, 3)))
PADDED = Problem("padded", 2, 4, (24, 24), (Layer(8, 3, padding=1), Layer(4, 3, padding=1)))
STACK = Problem("stack", 2, 4, (12, 10), (Layer(16, 3), Layer(4, 1), Layer(4, 3)))


# --- the roofline ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "least_bytes", "place", "launches", "seconds", "bound"),
    [
        (1000.0, 10.0, MEMORY, 0, 10.0, "operations"),
        (100.0, 50.0, MEMORY, 0, 5.0, "bytes"),
        (100.0, 50.0, "L2", 0, 1.0, "operations"),  # 1 s by either: where they meet, at 2 operations a byte
        (100.0, 50.0, "L2", 3, 1.5, "launches"),
        (99.0, 50.0, "L2", 0, 1.0, "bytes"),
    ],
)
def test_the_least_time_is_that_of_the_lowest_ceiling(operations, least_bytes, place, launches, seconds, bound):
    assert attainable(operations, least_bytes, MACHINE, place, launches) == (seconds, bound)


def test_a_place_without_a_rate_is_refused():
    with pytest.raises(KeyError):
        attainable(1.0, 1.0, MACHINE, "L3")


def test_data_lie_in_the_smallest_cache_that_holds_them():
    sizes = {"L3": 800, "L1": 10, "L2": 100}
    held = [place_of(size, sizes) for size in (10, 11, 100, 101, 800, 801)]
    assert held == ["L1", "L2", "L2", "L3", "L3", MEMORY]
    assert place_of(1, {}) == MEMORY


# --- caches ----------------------------------------------------------------------------------------------------------


def test_a_cache_that_cores_share_counts_once(tmp_path, monkeypatch):
    """Two cores: 32 KiB of data and 64 KiB of instructions each, 512 KiB each, 8 MiB for both; a third not ours."""
    for core, (number, (kind, level, size)) in itertools.product(
        range(3),
        enumerate([("Data", 1, "32K"), ("Instruction", 1, "64K"), ("Unified", 2, "512K"), ("Unified", 3, "8M")]),
    ):
        folder = tmp_path / f"cpu{core}" / "cache" / f"index{number}"
        folder.mkdir(parents=True)
        told = {"type": kind, "level": level, "size": size, "shared_cpu_list": "0-2" if level == 3 else core}
        for name, value in told.items():
            (folder / name).write_text(f"{value}\n")
    monkeypatch.setattr(caches.sys, "platform", "linux")
    monkeypatch.setattr(caches.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert processor_caches(tmp_path) == {"L1": 2 * 2**15, "L2": 2**20, "L3": 2**23}
    assert processor_caches(tmp_path / "none") == {}


# --- operations ------------------------------------------------------------------------------------------------------


def told_by_torch(problem: Problem, name: str, runs=None) -> int:
    """What torch counts of convolutions and matrix products while the way computes the problem."""
    x, kernels = problem.draw(torch.float64)
    way = way_named(name)
    call = way.prepare(problem, kernels)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(x)
    return counter.get_total_flops()


def operations(problem: Problem, name: str, dtype=torch.float64, **rest) -> float:
    return counted(problem, way_named(name), dtype, **rest)["operations"]


# Neither products in NumPy nor those in place are seen by torch's counter.
UNSEEN = ("im2col_numpy", "patch_matmul", "shifted_matmul")
SUMS = [name for name, method in METHODS.items() if method.summed and name not in UNSEEN]


@pytest.mark.parametrize("name", [*SUMS, "border_exact/direct"])
@pytest.mark.parametrize("problem", [GROUPED, PADDED, STACK], ids=lambda problem: problem.name)
def test_operations_of_sums_are_those_that_torch_counts(problem, name):
    if name == "border_exact/direct" and problem is not PADDED:
        return
    told = told_by_torch(problem, name)
    assert operations(problem, name) == told


@pytest.mark.parametrize("name", ["merged/direct", "merged/unfold_matmul", "merged_working/direct"])
def test_operations_of_a_merged_stack_are_the_merged_kernel_s(name):
    assert operations(STACK, name) == told_by_torch(STACK, name) != operations(STACK, "direct")
    assert counted(STACK, way_named(name), torch.float64)["launches"] == 1
    assert operations(STACK, "merged_per_call/direct") == operations(STACK, name)


def test_operations_of_a_plan_are_those_of_its_runs():
    way = way_named("planned/direct")
    part = Problem("part", 2, 4, (12, 10), STACK.layers[:2])
    rest = Problem("rest", 2, 4, (10, 8), STACK.layers[2:])
    cut = counted(STACK, way, torch.float64, ((0, 2), (2, 3)))
    assert cut["operations"] == operations(part, "merged/direct") + operations(rest, "direct")
    assert cut["launches"] == 2
    apart = counted(PADDED, way, torch.float64, ((0, 2),))
    assert apart["operations"] == operations(PADDED, "border_exact/direct")


def test_merged_summed_counts_one_convolution():
    assert operations(PADDED, "merged_summed/direct") == told_by_torch(PADDED, "merged_summed/direct")


def test_winograd_s_operations_are_those_of_its_authors():
    """Lavin and Gray, section 4.1: 32 additions for the data of a tile, 24 for its outputs. F(4×4) by hand: 28 and 20
    operations for a row or column, of which there are 6 and then 6, or 6 and then 4.
    """
    assert (transform_operations(F2.inputs), transform_operations(F2.outputs)) == (32, 24)
    assert (transform_operations(F4.inputs), transform_operations(F4.outputs)) == (28 * 12, 20 * 10)


@pytest.mark.parametrize(("name", "m", "points"), [("winograd_f2", 2, 16), ("winograd_f4", 4, 36)])
def test_winograd_multiplies_so_many_points_for_a_tile(name, m, points):
    """Many channels: the products are what counts. 3×4 tiles of 9×15 or 5×7 outputs, the last ones cut."""
    problem = Problem("many", 2, 2048, (3 * m - 1 + 2, 4 * m + 2), (Layer(2048, 3),))
    products = 2 * points * 12 * 2 * 2048 * 2048
    assert products < operations(problem, name) < 1.02 * products


def test_fft_s_operations_are_its_transforms_and_products():
    """16×8 points, 16 × 5 frequencies; a complex product counts four times the real one that torch counts."""
    problem = Problem("spectra", 3, 4, (11, 8), (Layer(6, 3, groups=2),))
    transforms = 2.5 * 128 * 7 * (4 + 6)
    found = operations(problem, "fft") - 3 * transforms
    assert found == 3 * 8 * 16 * 5 * 6 * 2 == 4 * told_by_torch(problem, "fft")


def test_compensated_sums_take_17_operations_where_a_sum_takes_2():
    assert operations(STACK, "compensated") == 17 / 2 * operations(STACK, "direct")
    assert operations(STACK, "compensated", torch.float32) == operations(STACK, "direct")


def test_operations_are_in_the_dtype_that_is_computed_in():
    wide = {"compensated": torch.float64}
    narrow = {"fft": torch.float32, "winograd_f2": torch.float32, "winograd_f4": torch.float32} | wide
    for name, method in METHODS.items():
        assert method.computes_in(torch.bfloat16) is narrow.get(name, torch.bfloat16)
        assert method.computes_in(torch.float32) is wide.get(name, torch.float32)


def test_a_trial_keeps_what_was_counted():
    ways = ["direct", "control", "merged/direct", "planned/direct", "patch_matmul", "compensated"]
    found = run(STACK, ways, budget_s=0.01, blocks=2)
    cells = Trial.from_json(found.to_json()).cells
    assert fields.checked(found).cells["direct"].counted == {
        "operations": 2 * STACK.macs,
        "launches": 3,
        "buffer_bytes": 0,
    }
    assert cells["control"].counted == cells["direct"].counted
    runs = tuple((start, stop) for start, stop in cells["planned/direct"].runs)
    assert cells["planned/direct"].counted == counted(STACK, way_named("planned/direct"), torch.float32, runs)
    assert cells["merged/direct"].counted["operations"] == operations(STACK, "merged/direct")
    assert (cells["direct"].computed_in, cells["compensated"].computed_in) == ("float32", "float64")
    assert (cells["patch_matmul"].counted, cells["patch_matmul"].computed_in) == ({}, "")
    cells["direct"].fail("wrong")
    assert (cells["direct"].counted, cells["direct"].computed_in) == ({}, "")


# --- ceilings --------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch):
    """Every call takes 1/64 s, by a clock that makes it; so one size of each is enough."""
    monkeypatch.setattr(Cpu, "seconds", lambda self, call, number: (call(), 1 / 64)[1])
    monkeypatch.setattr(Cpu, "caches", lambda self, start=True: {"L1": 2**15, "L2": 2**20, "L3": 2**23})
    ceilings._copies.cache_clear()
    yield
    ceilings._copies.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES)
def test_ceilings_are_operations_and_bytes_over_seconds(slow, dtype):
    found = ceilings.ceilings("cpu", dtype)
    known = {"matrix product", "linear layer", "1×1 convolution"}
    known |= {"product in float32"} if dtype in ("float16", "bfloat16") else {"NumPy’s product"}
    assert found["products"] == dict.fromkeys(known, 2 * 256**3 * 64)
    # 64 MiB in memory, half of a cache in it; what memory can give, a cache can.
    assert found["copies"] == dict.fromkeys((MEMORY, "L3", "L2"), 2**26 * 64)
    assert found["launch_s"] is None


@pytest.mark.parametrize("name", list(ceilings.PRODUCTS))
def test_the_products_that_are_timed_are_products(name):
    a, b = ceilings._square(256, torch.float64, "cpu")
    product = ceilings.PRODUCTS[name]
    call = product(256, torch.float64, "cpu") or product(256, torch.bfloat16, "cpu")
    y = torch.as_tensor(call())
    with FlopCounterMode(display=False) as counter:
        call()
    assert counter.get_total_flops() in (2 * 256**3, 0 if "NumPy" in name else 2 * 256**3)
    rows = {"linear layer": a @ b.mT, "1×1 convolution": (b.flatten() * 0)}.get(name, a @ b)
    if name != "1×1 convolution":
        torch.testing.assert_close(y.double().reshape(256, 256), rows, rtol=0.05, atol=1.0)


def test_larger_products_are_tried_while_they_are_short(slow, monkeypatch):
    """The clock says so many seconds as a machine of 1 TFLOP/s with 1 ms of launch would take."""
    sides = []

    def product(side, dtype, device):
        sides.append(side)
        return lambda: side

    monkeypatch.setattr(ceilings, "PRODUCTS", {"product": product})
    monkeypatch.setattr(Cpu, "seconds", lambda self, call, number: 1e-3 + 2 * call() ** 3 / 1e12)
    [(name, rate)] = ceilings._products("cpu", "float32")
    assert (name, sides) == ("product", [256, 512, 1024, 2048])  # 2048 takes 18 ms
    assert rate == pytest.approx(2 * 2048**3 / (1e-3 + 2 * 2048**3 / 1e12))


def test_what_a_library_lacks_is_left_out(slow, monkeypatch):
    def lacking(side, dtype, device):
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setitem(ceilings.PRODUCTS, "linear layer", lacking)
    assert "linear layer" not in ceilings.ceilings("cpu", "float16")["products"]


def test_each_process_measures_once_per_dtype(monkeypatch):
    """In this one, with what it would send; the first few repeats alone."""
    first = run(STACK, ["direct", "control"], budget_s=0.01, blocks=2)
    wide = run(STACK, ["direct", "control"], dtype="float64", budget_s=0.01, blocks=2)
    works = [("forward", each.to_json(), None) for each in (first, first, wide)]
    asked, sent = [], []
    monkeypatch.setattr(isolation, "ceilings", lambda *place: asked.append(place) or {"products": {}})
    watch = SimpleNamespace(turn=lambda name: None)
    for seed in (1, isolation.CEILINGS_IN + 1):
        isolation._repeat_all(lambda kind, told: sent.append((kind, told)), watch, works, seed)
    assert asked == [("cpu", "float32"), ("cpu", "float64")]
    repeats = [told for kind, told in sent if kind == "repeat"]
    assert ["ceilings" in each["conditions"] for each in repeats] == [True, False, True, False, False, False]


def test_an_allocator_left_alone_is_left_alone(monkeypatch):
    monkeypatch.setenv("LASAGNA_ALLOCATOR", "default")
    monkeypatch.setattr(isolation, "ceilings", lambda *place: pytest.fail("measured"))
    first = run(STACK, ["direct", "control"], budget_s=0.01, blocks=2)
    sent = []
    watch = SimpleNamespace(turn=lambda name: None)
    isolation._repeat_all(lambda *told: sent.append(told), watch, [("forward", first.to_json(), None)], 1)
    assert sent[-1][0] == "repeat"


# --- shares ----------------------------------------------------------------------------------------------------------

NAME = "resnet50/conv2_3x3"
LAYER = CATALOG[NAME]
BYTES = LAYER.least_bytes(4)
PRODUCTS = [50e9, 60e9, 40e9, 50e9, 30e9, 70e9, 50e9, 51e9]  # the median is 50e9


def with_ceilings(made: Trial, copy: float = 10e9, cached: float = 20e9) -> Trial:
    """Its first repeats measured these ceilings."""
    for place, (repeat, rate) in enumerate(zip(made.repeats, PRODUCTS, strict=False)):
        products = {"matrix product": rate, "linear layer": rate * (1.1 if place == 0 else 0.9)}
        repeat.conditions["ceilings"] = {"products": products, "copies": {MEMORY: copy, "L2": cached}, "launch_s": None}
    made.repeats[0].conditions["ceilings"]["products"]["linear layer"] = 50e9
    made.repeats[0].conditions["ceilings"]["products"]["matrix product"] = 45e9
    return made


def counting(seconds: float, operations: float = 2 * LAYER.macs, **rest) -> object:
    return cell(seconds, counted={"operations": operations, "launches": 1}, computed_in="float32", **rest)


def layer_trial(seconds: float = 10e-3, direct: dict | None = None, **environment) -> Trial:
    ways = {"unfold_matmul": counting(2 * seconds), "winograd_f2": counting(seconds / 2, LAYER.macs)}
    made = trial(NAME, ways, seconds=seconds)
    made.cells["direct"].counted, made.cells["direct"].computed_in = (
        {"operations": 2 * LAYER.macs, "launches": 1},
        "float32",
    )
    made.cells["control"].counted, made.cells["control"].computed_in = made.cells["direct"].counted, "float32"
    made.environment |= environment
    return with_ceilings(made)


def shares(made: Trial, group: str = "networks"):
    kept = records.Records((records.Record(made, group, "m"),))
    found = study(kept)
    return found, found.frames["ceilings"], found.frames["limits"].set_index("way")


def test_ceilings_are_medians_over_processes():
    _, found, _ = shares(layer_trial())
    rows = found.set_index("ceiling")
    product = rows.loc["matrix product"]
    assert (product["by"], product["rate"], product["unit"], product["processes"]) == (
        "matrix product",
        50.0,
        "GFLOP/s",
        8,
    )
    assert product["rate_lower"] <= 40 < 60 <= product["rate_upper"]
    assert list(rows["rate"]) == [50.0, 10.0, 20.0]
    assert list(rows.loc[[MEMORY, "L2"], "unit"]) == ["GB/s", "GB/s"]


def test_shares_are_the_least_time_over_the_time():
    """231 million operations at 50 GFLOP/s take 4.6 ms, 1.75 MB at 10 GB/s 0.18 ms."""
    _, _, rows = shares(layer_trial())
    assert set(rows.index) == {"direct", "unfold_matmul", "winograd_f2"}  # no control
    least = 2 * LAYER.macs / 50e9
    direct, unfold, winograd = (rows.loc[way] for way in ("direct", "unfold_matmul", "winograd_f2"))
    assert direct["share"] == pytest.approx(least / 10e-3)
    assert (direct["share_lower"], direct["share_upper"]) == (direct["share"], direct["share"])  # always the same time
    assert unfold["share"] == pytest.approx(least / 20e-3)
    assert unfold["share_lower"] < unfold["share"] < unfold["share_upper"]
    assert winograd["share"] == pytest.approx(least / 2 / 5e-3)  # half of the operations, in half of the time
    assert direct["gflops"] == pytest.approx(2 * LAYER.macs / 10e-3 / 1e9)
    assert direct["gbytes_per_s"] == pytest.approx(BYTES / 10e-3 / 1e9)
    assert direct["intensity"] == pytest.approx(2 * LAYER.macs / BYTES)
    assert (direct["held_by"], direct["limit"], direct["above"]) == (MEMORY, "operations", "")


def test_data_in_a_cache_have_its_bandwidth():
    made = layer_trial(cache_bytes={"L1": BYTES, "L2": BYTES, "L3": 10 * BYTES})
    made = with_ceilings(made, copy=0.1e9, cached=0.3e9)
    _, _, rows = shares(made)
    assert (rows.loc["direct", "held_by"], rows.loc["direct", "limit"]) == ("L2", "bytes")  # no copy in L1 or L3
    assert rows.loc["direct", "share"] == pytest.approx(BYTES / 0.3e9 / 10e-3)
    _, _, rows = shares(with_ceilings(layer_trial(cache_bytes={"L2": BYTES - 1}), copy=0.1e9))
    assert rows.loc["direct", "share"] == pytest.approx(BYTES / 0.1e9 / 10e-3)


def test_what_lies_above_its_ceiling_is_explained():
    found, _, rows = shares(layer_trial(seconds=2e-3))
    assert rows.loc["direct", "share"] > 1
    assert "transform" in rows.loc["direct", "above"]
    assert "products are faster" in rows.loc["unfold_matmul", "above"]
    answer = found.section(limit.SECTION).intro
    assert "Without sweeps and the like, 3 of 3 cells lie above the ceiling" in answer
    quick = with_ceilings(layer_trial(seconds=10e-3), copy=0.01e9)
    assert "nearer cache" in shares(quick)[2].loc["direct", "above"]
    assert limits.reason("direct", replace(LAYER, layers=(Layer(64, 1),)), "operations").startswith("its products")


def test_a_dtype_that_is_computed_in_needs_ceilings_of_its_own():
    made = layer_trial()
    made.cells["winograd_f2"].computed_in = "float64"
    assert "winograd_f2" not in shares(made)[2].index


def test_launches_are_a_ceiling():
    made = layer_trial()
    for repeat in made.repeats:
        if "ceilings" in repeat.conditions:
            repeat.conditions["ceilings"]["launch_s"] = 8e-3
    _, found, rows = shares(made)
    last = found.iloc[-1]
    assert (last["ceiling"], last["unit"], round(last["rate"])) == ("launch", "µs", 8000)
    assert rows.loc["direct", "limit"] == "launches"
    assert rows.loc["direct", "share"] == pytest.approx(0.8)


def test_of_one_process_an_interval_is_over_its_blocks():
    timing = trial(NAME, {}, several=False).timing()
    lower, upper = limits.seconds_interval([timing], "direct")
    assert lower == upper == 1e-3
    assert all(map(math.isnan, limits.seconds_interval([timing], "fft")))


def test_the_headline_is_about_the_fastest_ways_of_3x3_layers():
    found, *_ = shares(layer_trial())
    [line] = [each for each in found.headlines if each.title == "Limit"]
    share = LAYER.macs / 50e9 / 5e-3
    assert f"in float32 {100 * share:.0f} % (1 layer as often as they occur, each alone" in line.text
    assert "under 60 %: conv2_3x3 by `winograd_f2`" in line.text


def test_older_records_have_no_limit():
    kept = records.Records((records.Record(trial(NAME, {"unfold_matmul": 2.0}), "networks", "m"),))
    found = study(kept)
    assert not len(found.frames["ceilings"])
    assert not len(found.frames["limits"])
    assert not any(each.title == "Limit" for each in found.headlines)
    assert found.section(limit.SECTION).plots == ()


# --- memory ----------------------------------------------------------------------------------------------------------

IMAGE = Problem("image", 2, 8, (40, 30), (Layer(4, 3, padding=1),))


def buffers(problem: Problem, name: str, dtype=torch.float32, **rest) -> float | None:
    return counted(problem, way_named(name), dtype, **rest).get("buffer_bytes")


def test_im2col_multiplies_the_input_by_the_kernel_s_area():
    """Of the same size with padding; strided, of the outputs'."""
    x, _ = IMAGE.draw()
    columns = torch.nn.functional.unfold(x, 3, padding=1)
    assert columns.numel() == 9 * x.numel()
    for name in ("unfold_matmul", "strided_matmul", "im2col_numpy"):
        assert buffers(IMAGE, name) == columns.nbytes
    strided = replace(IMAGE, layers=(Layer(4, 3, stride=2, padding=1),))
    assert buffers(strided, "unfold_matmul") == torch.nn.functional.unfold(x, 3, padding=1, stride=2).nbytes
    assert (buffers(IMAGE, "direct"), buffers(IMAGE, "compensated")) == (0, None)


def test_a_stack_needs_the_largest_of_its_buffers():
    assert buffers(STACK, "unfold_matmul") == 4 * 2 * 9 * 4 * 10 * 8
    assert buffers(PADDED, "border_exact/direct") is None


def test_transforms_need_what_they_transform():
    spectrum = torch.fft.rfftn(torch.zeros(2, 8 + 4, 64, 32), dim=(-2, -1))  # 42×32 with its padding
    assert buffers(IMAGE, "fft") == spectrum.nbytes
    assert buffers(IMAGE, "fft", torch.bfloat16) == spectrum.nbytes  # in float32
    assert buffers(IMAGE, "winograd_f4") == 4 * 36 * 2 * (10 * 8) * (8 + 4)


HERE = pytest.mark.skipif(isolation.footprint.sys.platform != "linux", reason="Linux alone tells")
LARGE = Problem("large", 1, 16, (128, 128), (Layer(16, 3, padding=1),))


@FORKING
@HERE
def test_a_buffer_of_known_size_is_seen_in_a_fresh_process():
    """32 MiB, whoever takes them: here the system's own mmap, which no allocator sees. The system counts pages in
    batches, per core.
    """
    found = isolation.footprint._in_fork(_with_buffer)
    assert found is not None
    assert found == pytest.approx(2**25, abs=2**20)


def _with_buffer() -> int | None:
    def call():
        held = mmap.mmap(-1, 2**25)
        for place in range(0, 2**25, 2**12):
            held[place] = 1
        held.close()

    return resident.with_resident_bytes(call)[1]


@HERE
def test_a_trial_tells_what_its_ways_take_beyond_input_and_output():
    """im2col's columns are 9.4 MB; the library's convolution needs far less, and so does a copy."""
    ways = ["direct", "control", "unfold_matmul", "im2col_numpy", "planned/direct", "patch_matmul"]
    found = isolation.run_isolated(LARGE, ways, budget_s=0.01, blocks=2, start_method="spawn")
    assert all(each.resident_bytes is None for each in found.cells.values())  # a fork of this process is not fresh
    code = "import sys; from linear_lasagna.trial import Trial, footprint; t = Trial.from_json(sys.stdin.read()); "
    code += "footprint.keep(t, footprint.footprints(t)); print(t.to_json())"
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, input=found.to_json(), capture_output=True, text=True, check=True).stdout
    seen = fields.checked(Trial.from_json(told))
    sizes = {way: each.resident_bytes for way, each in seen.cells.items()}
    columns = 4 * 16 * 9 * 128 * 128
    assert seen.conditions["resident_floor_bytes"] < 2**20
    assert sizes["control"] is sizes["patch_matmul"] is None
    for way in ("unfold_matmul", "im2col_numpy"):
        assert columns - 2**20 <= sizes[way] <= 3 * columns
    assert sizes["direct"] < columns / 2


@FORKING
def test_what_dies_or_raises_in_its_fork_is_not_measured():
    assert isolation.footprint._in_fork(lambda: os.kill(os.getpid(), signal.SIGKILL)) is None
    assert isolation.footprint._in_fork(lambda: None) is None
    assert isolation.footprint._in_fork(lambda: 123) == 123


def test_a_system_that_does_not_tell_gives_no_number(tmp_path, monkeypatch):
    monkeypatch.setattr(resident, "STATUS", tmp_path / "none")
    assert resident.with_resident_bytes(lambda: 5) == (5, None)
    monkeypatch.undo()
    monkeypatch.setattr(resident, "RESET", tmp_path / "none" / "none")
    assert resident.with_resident_bytes(lambda: 5) == (5, None)


def test_memory_is_shown_beside_the_formula():
    made = layer_trial()
    made.conditions["resident_floor_bytes"] = 60_000
    sizes = {"direct": (50_000, 0.0), "unfold_matmul": (15_000_000, 7_500_000.0)}
    for way, (size, formula) in sizes.items():
        made.cells[way].resident_bytes = size
        made.cells[way].counted = {**made.cells[way].counted, "buffer_bytes": formula}
    found, *_ = shares(made)
    rows = found.frames["footprints"].set_index("way")
    assert list(rows["below_floor"]) == [True, False]
    [table] = found.section(memory.SECTION).tables
    shown = {str(row[1]): [str(text) for text in row[2:]] for row in table.rows}
    assert shown["direct"] == ["1", "< 0.060 MB", "0 MB", NAME, "–", "1"]
    assert shown["unfold_matmul"] == ["1", "15 MB", "7.5 MB", NAME, "2.00", "0"]


def test_an_accelerator_s_memory_is_its_allocator_s_without_the_result():
    made = replace(trial(NAME, {}), device="cuda")
    made.cells["direct"].peak_bytes = 4 * math.prod(LAYER.shapes[-1]) + 512
    kept = records.Records((records.Record(made, "networks", "m"),))
    [row] = study(kept).frames["footprints"].itertuples(index=False)
    assert (row.measured, row.beyond_bytes, row.below_floor) == ("allocator", 512, False)


def test_the_roofline_has_the_ways_that_are_fastest():
    """Not one of each schedule, which may be fastest nowhere."""
    ways = ["direct", "merged/direct", "border_exact/direct", "planned/direct", "im2col_numpy", "unfold_matmul", "fft"]
    place = dict.fromkeys(records.PLACE, "same")
    rows = [
        {**place, "problem": fastest, "way": way, "seconds": 1.0 if way == fastest else 2.0}
        for fastest in ("im2col_numpy", "unfold_matmul", "fft")
        for way in ways
    ]
    drawn = limit._drawn(pandas.DataFrame(rows))
    assert list(drawn["way"]) == list(drawn["problem"])
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((0.597, 0.767), "; under 60 %: conv2_3x3 by `direct`)"),
        ((0.16, 0.19), "; all under 60 %)"),
        ((0.7, 0.8), "; none under 60 %)"),
    ],
)
def test_a_range_of_shares_does_not_contradict_what_is_named(shares, told):
    names = ("resnet50/conv2_3x3", "resnet50/conv3_3x3")
    rows = pandas.DataFrame({"problem": names, "way": "direct", "share": shares, "seconds": 1.0})
    text = limit._together(rows.assign(attainable_seconds=rows["share"]))
    assert text.endswith(told)
    assert f"{100 * shares[0]:.3g}" in text
