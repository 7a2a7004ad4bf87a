"""Trials: what is right is timed, what is wrong fails with its reason, a child's death costs its trial alone."""

import dataclasses
import json
import math
import multiprocessing
import os
import signal
import struct
import time

import pytest
import torch
from children import START
from exactly import error_limit
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import problems

from linear_lasagna import METHODS, Kernel, Layer, Problem
from linear_lasagna.catalog import CATALOG
from linear_lasagna.methods import Method
from linear_lasagna.rounding import unit_roundoff
from linear_lasagna.timing import compare
from linear_lasagna.trial import Cell, Trial, run, run_isolated
from linear_lasagna.vocabulary import COMMON_METRICS, LAYER_WAYS
from linear_lasagna.ways import way_named

SMALL = Problem("small", 2, 4, (8, 8), (Layer(4, 3, padding=1, bias=True),))
STACK = Problem("stack", 1, 4, (9, 9), (Layer(8, 3), Layer(4, 3, bias=True)))
BUDGET_S = 0.01
HANG_S = 600  # far longer than any test: what waits for it has failed


# Records

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SAMPLES = st.lists(st.lists(FLOATS, max_size=3), max_size=3)
OPTIONAL = st.none() | FLOATS
CELLS = st.builds(
    Cell,
    status=st.sampled_from(("ok", "skipped", "failed")),
    reason=st.text(max_size=20),
    samples=SAMPLES,
    first_call_s=OPTIONAL,
    calls_per_sample=st.none() | st.integers(1, 10**6),
    every=st.none() | st.integers(1, 100),
    measures=st.dictionaries(st.text(max_size=10), FLOATS, max_size=2),
    peak_bytes=st.none() | st.integers(0, 2**60),
    finding=st.text(max_size=5),
    runs=st.none() | st.lists(st.lists(st.integers(0, 20), min_size=2, max_size=2), max_size=3),
)


@st.composite
def trials(draw):
    return Trial(
        draw(problems()),
        "float32",
        "cpu",
        draw(FLOATS),
        draw(st.integers(0, 2**40)),
        draw(st.dictionaries(st.text(max_size=10), CELLS, max_size=3)),
        draw(st.dictionaries(st.text(max_size=10), st.none() | FLOATS | st.text(max_size=5), max_size=3)),
        elapsed_s=draw(FLOATS),
    )


def floats(value):
    """Every float in plain data, as bits: -0.0 is not 0.0, and no digit is lost."""
    if isinstance(value, float):
        return [struct.pack("<d", value)]
    if isinstance(value, dict):
        value = value.values()
    return [bits for item in value for bits in floats(item)] if isinstance(value, (list, type({}.values()))) else []


def assert_round_trip(trial):
    text = trial.to_json()
    back = Trial.from_json(text)
    assert back == trial
    assert floats(dataclasses.asdict(back)) == floats(dataclasses.asdict(trial))
    assert back.to_json() == text


@given(trials())
def test_json_round_trip_is_bitwise(trial):
    assert_round_trip(trial)


def test_a_record_without_findings_is_read():
    """As those of the first edition are."""
    record = {**RECORD, "cells": {"direct": {k: v for k, v in RECORD["cells"]["direct"].items() if k != "finding"}}}
    assert Trial.from_json(json.dumps(record)).cells["direct"].finding == ""


def test_a_record_of_schema_1_is_read():
    """As those of the first edition are: one measure, error_u. By it the relative error is known, to the last bit."""
    trial = Trial(SMALL, "bfloat16", "cpu", 1.0, 0, {"direct": Cell(), "control": Cell("failed", "wrong")}, {})
    record = json.loads(trial.to_json()) | {"schema": 1}
    for cell, error in zip(record["cells"].values(), (0.75, None), strict=True):
        del cell["measures"]
        cell["error_u"] = error
    read = Trial.from_json(json.dumps(record))
    assert read.cells["direct"].measures == {"relative_l2": 0.75 / 256, "error_u": 0.75}
    assert read.cells["control"].measures == {}
    assert set(COMMON_METRICS) == set(read.cells["direct"].measures)
    assert Trial.from_json(read.to_json()) == read


def test_json_is_strict():
    trial = Trial(SMALL, "float32", "cpu", 1.0, 0, {"direct": Cell(measures={"error_u": math.nan})}, {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        trial.to_json()


TEXT = Trial(SMALL, "float32", "cpu", 1.0, 0, {"direct": Cell(samples=[[0.1]])}, {"os": "none"}).to_json()
RECORD = json.loads(TEXT)


def assert_refused(text):
    with pytest.raises(ValueError, match=r".") as refusal:
        Trial.from_json(text)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("length", range(0, len(TEXT), 7))
def test_truncated_json_is_refused(length):
    assert_refused(TEXT[:length])


FOREIGN = {
    "empty object": {},
    "list": [],
    "number": 3,
    "text": "trial",
    "null": None,
    "another schema": RECORD | {"schema": 999},
    "no problem": {k: v for k, v in RECORD.items() if k != "problem"},
    "no cells": {k: v for k, v in RECORD.items() if k != "cells"},
    "no dtype": {k: v for k, v in RECORD.items() if k != "dtype"},
    "unknown field": RECORD | {"colour": "red"},
    "cells as a list": RECORD | {"cells": [1, 2]},
    "a cell as a number": RECORD | {"cells": {"direct": 1}},
    "a cell with an unknown field": RECORD | {"cells": {"direct": {"speed": 1}}},
    "an impossible problem": RECORD | {"problem": RECORD["problem"] | {"size": [1, 1], "batch": 0}},
    "a problem without layers": RECORD | {"problem": RECORD["problem"] | {"layers": []}},
    "layers as a number": RECORD | {"problem": RECORD["problem"] | {"layers": 3}},
    "a problem as a list": RECORD | {"problem": []},
    "asv's results": {"commit_hash": "0" * 40, "results": {}, "version": 2},
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_json_is_refused(case):
    assert_refused(json.dumps(FOREIGN[case]))


@given(st.text(max_size=30))
@example("{")
@example("[1, 2\n, 3")
def test_foreign_text_is_refused(text):
    assert_refused(text)


def test_named_and_timing():
    cells = {
        "direct": Cell(samples=[[1.0]], first_call_s=2.0, calls_per_sample=3, every=1),
        "a": Cell("skipped", "why"),
        "b": Cell("failed", "how"),
    }
    trial = Trial(SMALL, "float32", "cpu", 1.0, 0, cells, {})
    assert (trial.named("ok"), trial.named("skipped"), trial.named("failed")) == (["direct"], ["a"], ["b"])
    timing = trial.timing()
    assert timing.samples == {"direct": [[1.0]]}
    assert (timing.first_call_s, timing.calls_per_sample) == ({"direct": 2.0}, {"direct": 3})


def test_a_failed_cell_is_never_a_fast_one():
    cell = Cell(samples=[[1.0]], measures={"error_u": 0.5}, peak_bytes=3)
    cell.fail("wrong")
    assert (cell.status, cell.reason, cell.samples, cell.measures, cell.peak_bytes) == (
        "failed",
        "wrong",
        [],
        {},
        None,
    )


# Names of ways


@pytest.mark.parametrize(
    ("name", "schedule", "method"),
    [
        ("direct", "stacked", "direct"),
        ("stacked/direct", "stacked", "direct"),
        ("merged/unfold_matmul", "merged", "unfold_matmul"),
        ("control", "stacked", "direct"),
    ],
)
def test_way_names(name, schedule, method):
    way = way_named(name)
    assert (way.schedule.name, way.method) == (schedule, method)


@pytest.mark.parametrize("name", ["", "winograd", "merged", "merged/", "/direct", "direct/merged", "a/merged/direct"])
def test_unknown_ways(name):
    if name == "/direct":
        pytest.skip("an empty schedule is the stacked one")
    with pytest.raises(ValueError, match=r"unknown .* known: ") as refusal:
        way_named(name)
    assert "\n" not in str(refusal.value)


# Running

ALL = list(LAYER_WAYS)


def small_trial(problem=SMALL, ways=("direct", "control", "unfold_matmul"), **settings):
    return run(problem, ways, **({"budget_s": BUDGET_S} | settings))


def assert_timed(trial, name):
    cell = trial.cells[name]
    assert (cell.status, cell.reason) == ("ok", ""), f"{name}: {cell.reason}"
    assert cell.samples
    assert all(sample > 0 for rounds in cell.samples for sample in rounds)
    assert cell.first_call_s > 0
    assert cell.calls_per_sample >= 1
    assert cell.every >= 1
    assert cell.peak_bytes > 0 or name == "im2col_numpy"  # NumPy's are counted from some size on
    assert 0 <= cell.measures["error_u"] < math.inf


def assert_lost(cell, status):
    """Skipped or failed, with a reason in one line, and nothing measured."""
    assert cell.status == status
    assert cell.reason
    assert "\n" not in cell.reason
    assert (cell.samples, cell.measures, cell.peak_bytes) == ([], {}, None)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_run(dtype):
    trial = small_trial(ways=ALL, dtype=dtype, seed=3)
    assert list(trial.cells) == ALL
    assert (trial.problem, trial.dtype, trial.device, trial.seed) == (SMALL, dtype, "cpu", 3)
    skipped = {"patch_matmul"} | ({"im2col_numpy"} if dtype in ("float16", "bfloat16") else set())
    assert set(trial.named("skipped")) == skipped
    for name in trial.named("ok"):
        assert_timed(trial, name)
    for name in skipped:
        assert_lost(trial.cells[name], "skipped")
    assert trial.named("failed") == []
    assert 0 < trial.timed_s <= trial.elapsed_s
    assert trial.started.endswith("Z")
    assert_round_trip(trial)


def test_a_call_that_outlasts_the_budget_is_timed_and_looked_at_together(monkeypatch):
    """It is made twice: first, and to be timed, to measure its error, and its memory, all in one."""
    calls = []
    direct = METHODS["direct"].prepare_expanded

    def prepare(kernel, layer):
        call = direct(kernel, layer)

        def slow(x):
            if "timing all ways together" in stages:
                calls.append(stages[-1])
                time.sleep(0.3)
            return call(x)

        return slow

    stages = [""]
    monkeypatch.setitem(METHODS, "shifted_matmul", Method("shifted_matmul", prepare))
    trial = run(SMALL, ["direct", "shifted_matmul"], budget_s=0.1, stage=lambda what, way: stages.append(what))
    cell = trial.cells["shifted_matmul"]
    assert cell.status == "ok"
    assert cell.measures["relative_l2"] > 0
    assert cell.peak_bytes > 0
    assert calls == ["timing all ways together"] * 2
    assert [len(block) for block in cell.samples] == [1]


def test_a_way_that_plans_tells_its_runs():
    trial = small_trial(STACK, ("direct", "planned/direct", "planned_operations/direct", "merged/direct"))
    assert trial.named("ok") == list(trial.cells)
    assert trial.cells["planned_operations/direct"].runs == [[0, 2]]
    assert trial.cells["planned/direct"].runs in ([[0, 2]], [[0, 1], [1, 2]])
    assert trial.cells["merged/direct"].runs is None
    assert_timed(trial, "planned/direct")
    assert Trial.from_json(trial.to_json()) == trial


def test_dtype_may_be_torchs():
    assert small_trial(ways=["direct"], dtype=torch.float64).dtype == "float64"


def test_run_of_a_stack():
    ways = ["direct", "control", "merged/direct", "merged_working/unfold_matmul", "merged_per_call/direct"]
    trial = small_trial(STACK, ways)
    for name in ways:
        assert_timed(trial, name)
    assert set(compare(trial.timing())) == set(ways) - {"direct"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("problem", [SMALL, STACK], ids=lambda problem: problem.name)
def test_error_is_below_its_bound(problem, dtype):
    """Norm over norm: the largest that errors within their limits could give, on whole images of one tile."""
    trial = small_trial(dataclasses.replace(problem, batch=1), ["direct", "shifted_matmul"], dtype=dtype)
    torch_dtype = getattr(torch, dtype)
    x, kernels = dataclasses.replace(problem, batch=1).draw(torch_dtype)
    exact = x.double()
    for kernel, layer in zip(kernels, problem.expanded, strict=True):
        bias = None if kernel.bias is None else kernel.bias.double()
        exact = METHODS["direct"](exact, Kernel(kernel.weight.double(), bias), layer)
    for name, cell in trial.cells.items():
        roundings = [METHODS[name].roundings(layer) for layer in problem.expanded]
        limit, _ = error_limit(x, kernels, problem.expanded, roundings, torch_dtype)
        allowed = float(limit.norm() / exact.norm()) / unit_roundoff(torch_dtype)
        error_u = cell.measures["error_u"]
        assert 0 < error_u <= allowed, f"{name} in {dtype}: {error_u} u, at most {allowed} u"


def test_the_same_seed_gives_the_same_errors():
    errors = [small_trial(seed=seed).cells["unfold_matmul"].measures for seed in (1, 1, 2)]
    assert errors[0] == errors[1] != errors[2]


REASONS = [
    (SMALL, "im2col_numpy", {"dtype": "bfloat16"}, "NumPy has no bfloat16"),
    (SMALL, "merged/direct", {}, "single layer has nothing to merge"),
    (SMALL, "patch_matmul", {}, "kernel size = stride"),
    (Problem("padded", 1, 2, (8, 8), (Layer(2, 3, padding=1),) * 2), "merged/direct", {}, "zero padding"),
    (Problem("volume", 1, 2, (4, 4, 4), (Layer(2, 2),)), "unfold_matmul", {}, "third spatial axis"),
]


@pytest.mark.parametrize(("problem", "way", "settings", "reason"), REASONS, ids=str)
def test_skipped_cells_carry_their_reason(problem, way, settings, reason):
    trial = small_trial(problem, ["direct", way], **settings)
    assert_lost(trial.cells[way], "skipped")
    assert reason in trial.cells[way].reason
    assert_timed(trial, "direct")


@pytest.mark.parametrize(
    ("device", "available", "reason"),
    [
        ("cuda", torch.cuda.is_available(), "no CUDA device"),
        ("mps", torch.backends.mps.is_available(), "no MPS device"),
    ],
)
def test_absent_devices_skip_every_cell(device, available, reason):
    if available:
        pytest.skip(f"this machine has {device}")
    trial = small_trial(device=device)
    for cell in trial.cells.values():
        assert_lost(cell, "skipped")
        assert reason in cell.reason
    assert_round_trip(trial)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ways": ["winograd"]}, "unknown method 'winograd'"),
        ({"ways": ["fused/direct"]}, "unknown schedule 'fused'"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"budget_s": 0}, "budget_s"),
        ({"budget_s": math.nan}, "budget_s"),
    ],
)
def test_run_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_trial(**arguments)


def test_no_ways_are_no_cells():
    assert small_trial(ways=[]).cells == {}


def changed(before=None, weight=None, after=None):
    """direct with something done to the input, the weight or the output."""

    def prepare(kernel, layer):
        kernel = kernel._replace(weight=weight(kernel.weight)) if weight else kernel
        call = METHODS["direct"].prepare(kernel, layer)

        def wrong(x):
            y = call(before(x) if before else x)
            return after(y) if after else y

        return wrong

    return prepare


def dropped_tap(weight):
    weight = weight.clone()
    weight[..., 0] = 0
    return weight


def raises(*_):
    raise RuntimeError("the library said no\nand then it said more")


def out_of_memory(*_):
    raise MemoryError


WRONG = {
    "drops a tap": (changed(weight=dropped_tap), "wrong on integers"),
    "flips the kernel": (changed(weight=lambda weight: weight.flip(2, 3)), "wrong on integers"),
    "raises": (changed(before=raises), "RuntimeError: the library said no"),
    "raises when prepared": (raises, "RuntimeError: the library said no"),
    "raises without a message": (changed(before=out_of_memory), "MemoryError: no message"),
    "gives a wrong shape": (
        changed(after=lambda y: y[:, :, 1:]),
        "gives shape (2, 4, 7, 8) instead of (2, 4, 8, 8)",
    ),
    "gives no tensor": (changed(after=lambda y: None), "gives a NoneType"),
    "gives NaN": (changed(after=lambda y: y * math.nan), "not finite"),
    "loses precision": (changed(before=lambda x: x.bfloat16().float()), "wrong on integers"),
    "sees only the first image": (
        changed(before=lambda x: x[:1].expand_as(x).contiguous()),
        "wrong on integers",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_method_is_a_failed_cell(wrong, monkeypatch):
    """With its reason, without samples, and no harm to the others."""
    prepare, reason = WRONG[wrong]
    monkeypatch.setitem(METHODS, "unfold_matmul", Method("unfold_matmul", prepare))
    trial = small_trial(ways=["direct", "unfold_matmul", "strided_matmul"])
    assert_lost(trial.cells["unfold_matmul"], "failed")
    assert reason in trial.cells["unfold_matmul"].reason
    assert_timed(trial, "direct")
    assert_timed(trial, "strided_matmul")
    assert set(trial.timing().samples) == {"direct", "strided_matmul"}


@pytest.mark.parametrize("wrong", ["drops a tap", "loses precision"])
def test_a_method_that_may_round_integers_is_caught_by_its_bound(wrong, monkeypatch):
    prepare, _ = WRONG[wrong]
    monkeypatch.setitem(METHODS, "unfold_matmul", Method("unfold_matmul", prepare, exact_on_integers=False))
    trial = small_trial(ways=["direct", "unfold_matmul"])
    assert_lost(trial.cells["unfold_matmul"], "failed")
    assert "times the bound" in trial.cells["unfold_matmul"].reason
    assert_timed(trial, "direct")


def test_a_wrong_baseline_is_a_failed_cell(monkeypatch):
    """Its control fails with it; the others are timed all the same."""
    direct = METHODS["direct"].prepare_expanded

    def wrong(kernel, layer):
        return direct(kernel._replace(weight=dropped_tap(kernel.weight)), layer)

    monkeypatch.setitem(METHODS, "direct", Method("direct", wrong))
    trial = small_trial()
    assert_lost(trial.cells["direct"], "failed")
    assert_lost(trial.cells["control"], "failed")
    assert_timed(trial, "unfold_matmul")
    with pytest.raises(KeyError, match="baseline 'direct' was not timed"):
        compare(trial.timing())


def test_all_ways_wrong(monkeypatch):
    monkeypatch.setitem(METHODS, "unfold_matmul", Method("unfold_matmul", raises))
    trial = small_trial(ways=["unfold_matmul"])
    assert_lost(trial.cells["unfold_matmul"], "failed")
    assert trial.timed_s == 0.0


def test_errors_of_the_library_itself_are_caught():
    """bfloat16, 3 axes, 2 groups: torch 2.13 on a processor with AMX is wrong here, and must not be timed."""
    problem = Problem("odd", 2, 4, (2, 3, 2), (Layer(4, (1, 1, 2), stride=(1, 1, 2), groups=2),))
    x, kernels = problem.draw(torch.bfloat16, signs="positive")
    y = METHODS["direct"](x, kernels[0], problem.layers[0]).double()
    wide = METHODS["direct"](x.double(), Kernel(kernels[0].weight.double()), problem.layers[0])
    right = bool(((y - wide).abs() <= 0.01 * wide).all())
    trial = small_trial(problem, ["direct", "strided_matmul"], dtype="bfloat16")
    assert trial.cells["direct"].status == ("ok" if right else "failed")
    assert_timed(trial, "strided_matmul")


def test_stages_are_told():
    told = []
    run(SMALL, ["direct"], budget_s=BUDGET_S, stage=lambda *what: told.append(what))
    assert ("checking direct on integers", "direct") in told
    assert ("timing all ways together", "") in told
    assert told[-1] == ("checking direct once more on other numbers", "direct")


# In a child process


@dataclasses.dataclass(frozen=True)
class Sabotaged(Problem):
    """A problem that breaks shifted_matmul in the process in which it is unpickled."""

    how: str = ""

    def __reduce__(self):
        fields = [getattr(self, field.name) for field in dataclasses.fields(Problem)]
        return sabotage, (self.how, fields)


def sabotage(how, fields):
    """Runs in the child: replace a method, and pose the plain problem."""
    actions = {
        "kills": lambda x: os.kill(os.getpid(), signal.SIGKILL),
        "exits": lambda x: os._exit(3),
        "hangs": lambda x: time.sleep(HANG_S),
        "raises": raises,
    }
    METHODS["shifted_matmul"] = Method("shifted_matmul", lambda kernel, layer: actions[how])
    return Problem(*fields)


def sabotaged(how):
    return Sabotaged(SMALL.name, SMALL.batch, SMALL.in_channels, SMALL.size, SMALL.layers, how=how)


WAYS = ["direct", "control", "shifted_matmul"]


def isolated(problem, ways=WAYS, **settings):
    trial = run_isolated(problem, ways, **({"budget_s": BUDGET_S, "start_method": START} | settings))
    assert not multiprocessing.active_children()
    return trial


def assert_alone_failed(trial, *reasons):
    """shifted_matmul is lost with its reasons, and the others were timed without it."""
    assert list(trial.cells) == WAYS
    lost = trial.cells["shifted_matmul"]
    assert_lost(lost, "failed")
    assert all(reason in lost.reason for reason in reasons), lost.reason
    assert_timed(trial, "direct")
    assert_timed(trial, "control")
    assert_round_trip(dataclasses.replace(trial, problem=SMALL))


def test_a_spawned_child_gives_a_trial():
    """The same as in this process; a way that raises in the child fails alone."""
    trial = isolated(sabotaged("raises"), dtype="float64", seed=2, start_method="spawn")
    assert (trial.problem, trial.dtype, trial.seed) == (SMALL, "float64", 2)
    expected = run(SMALL, WAYS, dtype="float64", seed=2, budget_s=BUDGET_S)
    for name in ("direct", "control"):
        assert_timed(trial, name)
        assert trial.cells[name].measures == expected.cells[name].measures
        assert trial.cells[name].peak_bytes == expected.cells[name].peak_bytes
    assert_lost(trial.cells["shifted_matmul"], "failed")
    assert "the library said no" in trial.cells["shifted_matmul"].reason


def test_a_way_that_kills_its_process_fails_alone():
    trial = isolated(sabotaged("kills"))
    assert_alone_failed(trial, "was killed by SIGKILL", "while checking shifted_matmul on integers")
    assert trial.elapsed_s > trial.timed_s > 0


def test_a_way_that_ends_its_process_fails_alone():
    assert_alone_failed(isolated(sabotaged("exits")), "ended with exit code 3", "while checking shifted_matmul")


def test_a_way_that_hangs_fails_alone():
    trial = isolated(sabotaged("hangs"), timeout_s=4.0)
    assert_alone_failed(trial, "stopped after 4 s while checking shifted_matmul on integers")


def test_a_child_that_cannot_start_in_time_is_stopped():
    """No way is to blame: all have failed."""
    trial = isolated(SMALL, timeout_s=0.0)
    assert list(trial.cells) == WAYS
    for cell in trial.cells.values():
        assert_lost(cell, "failed")
        assert "stopped after 0 s while starting" in cell.reason


def test_a_crash_of_the_library_is_survived():
    """float16, kernel 1, padding 1, dilation 2, groups 2: torch 2.13 reads where it may not, and may be killed."""
    problem = Problem("crash", 1, 8, (1,), (Layer(8, 1, stride=2, padding=1, dilation=2, groups=2),))
    trial = isolated(problem, ["direct"], dtype="float16")
    cell = trial.cells["direct"]
    if cell.status == "ok":
        assert_timed(trial, "direct")
    else:
        assert_lost(cell, "failed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ways": ["winograd"]}, "unknown method"),
        ({"dtype": "float8"}, "unknown dtype"),
        ({"start_method": "teleport"}, "cannot find context for 'teleport'"),
    ],
)
def test_run_isolated_refuses_before_it_starts(arguments, message):
    with pytest.raises(ValueError, match=message):
        isolated(SMALL, **arguments)


def test_catalogue_problem():
    """One of the networks' layers as it is, at the size at which it is timed."""
    trial = small_trial(CATALOG["resnet50/conv5_reduce_first"], ["direct", "shifted_matmul"])
    for name in trial.cells:
        assert_timed(trial, name)
