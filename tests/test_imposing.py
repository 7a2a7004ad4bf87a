"""What is chosen is in force inside, for every thread, and nothing of it afterwards, also where a way raises."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from linear_lasagna import METHODS, Layer, Problem, devices
from linear_lasagna.catalog import CATALOG
from linear_lasagna.factors import FACTORS, parsed
from linear_lasagna.imposing import arranged, flushes_everywhere, imposed
from linear_lasagna.methods.direct import direct
from linear_lasagna.methods.method import Method
from linear_lasagna.switches import flushes, state
from linear_lasagna.trial import Trial, fields, run_isolated, timed
from linear_lasagna.trial.forward import FORWARD
from linear_lasagna.trial.gate import SETTINGS
from linear_lasagna.trial.merge_cost import MERGE
from linear_lasagna.trial.training import TRAINING_STEP
from linear_lasagna.trial.workload import repeat, run

LAYER = Problem("layer", 1, 8, (9, 9), (Layer(8, 3, padding=1),))
STACK = Problem("stack", 1, 4, (9, 9), (Layer(8, 3), Layer(4, 3, bias=True)))
WAYS = ("direct", "control", "unfold_matmul")
SHORT = {"budget_s": 0.01, "blocks": 2}
OF_CPU = ("deterministic=on", "subnormals=flushed", "threads=1", "memory_format=channels_last")
CHANNELS_LAST = torch.channels_last


def now() -> dict[str, Any]:
    """All that a condition could change."""
    found: dict[str, Any] = {name: get() for name, (get, _) in SETTINGS.items()}
    found["deterministic"] = torch.are_deterministic_algorithms_enabled()
    found["warned only"] = torch.is_deterministic_algorithms_warn_only_enabled()
    for name in ("cudnn", "mkldnn"):
        found[name] = getattr(torch.backends, name).deterministic
    return found | {"benchmark": torch.backends.cudnn.benchmark, "flushed": flushes_everywhere()}


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("text", ["tf32=on", "cudnn_benchmark=on", "deterministic=on", "subnormals=flushed"])
def test_switches_are_as_they_were_afterwards(text, raises):
    if text == "subnormals=flushed" and not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush subnormal numbers")
    before, inside = now(), dict[str, object]()
    try:
        with imposed(parsed(text)):
            inside = now()
            if raises:
                raise KeyError("a way")
    except KeyError:
        assert raises
    assert inside != before
    assert now() == before


@pytest.mark.usefixtures("_threads")
def test_all_threads_flush_subnormal_numbers():
    large = torch.full((2**22,), 2**9, dtype=torch.int32).view(torch.float32)  # 2**-140
    large.mul(2)  # the threads are there
    with imposed({"subnormals": "flushed"}):
        assert flushes()
        assert not large.mul(2).view(torch.int32).any()
    assert not flushes()
    assert large.mul(2).view(torch.int32).all()


def test_a_processor_that_cannot_flush_is_told(monkeypatch):
    monkeypatch.setattr(torch, "set_flush_denormal", lambda on: False)
    with pytest.raises(RuntimeError, match="cannot be flushed"), imposed({"subnormals": "flushed"}):
        raise AssertionError("never begun")


def test_tf32_is_allowed_to_cuda_alone():
    with imposed({"tf32": "on"}):
        found = state()
    assert {found[name] for name in found if name.startswith(("cudnn.conv", "cuda.matmul.fp32"))} == {"tf32"}
    assert {found[name] for name in found if name.startswith("mkldnn")} == {"ieee"}


def watched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every call of unfold_matmul finds, from now on."""
    seen: list[dict[str, Any]] = []

    def prepare(kernel, layer):
        call = direct.prepare(kernel, layer)

        def watching(x):
            layout = [each.is_contiguous(memory_format=CHANNELS_LAST) for each in (x, kernel.weight)]
            seen.append(now() | {"layout": layout, "plain": x.is_contiguous()})
            return call(x)

        return watching

    monkeypatch.setitem(METHODS, "unfold_matmul", Method("unfold_matmul", prepare))
    return seen


EXPECTED = {
    "": {"the number of threads": 2, "deterministic": False, "flushed": False, "plain": True},
    "deterministic=on": {"deterministic": True, "warned only": False, "mkldnn": True, "cudnn": True},
    "subnormals=flushed": {"flushed": True, "the number of threads": 2},
    "threads=1": {"the number of threads": 1},
    "memory_format=channels_last": {"layout": [True, True], "plain": False},
    "threads=1,subnormals=flushed": {"flushed": True, "the number of threads": 1},
}


@pytest.mark.parametrize("text", EXPECTED)
def test_every_call_of_a_trial_finds_what_was_chosen(text, monkeypatch):
    """Checked, timed, and timed again by another process; the record says what was."""
    monkeypatch.setattr("linear_lasagna.imposing.MANY", 2**16)
    seen, threads = watched(monkeypatch), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = now()
        trial = run(FORWARD, LAYER, WAYS, under=parsed(text), **SHORT)
        again = repeat(FORWARD, trial, 1, lambda *what: None, lambda name: None)
        assert now() == before
    finally:
        torch.set_num_threads(threads)
    assert trial.named("ok") == list(WAYS), trial.cells
    assert set(again.samples) == set(WAYS)
    assert len(seen) > 10
    for found in seen:
        assert {name: found[name] for name in EXPECTED[text]} == EXPECTED[text]
    assert trial.under == parsed(text)
    assert fields.checked(Trial.from_json(trial.to_json())) == trial
    described = trial.environment
    assert described["deterministic"] == described["switches"]["mkldnn.deterministic"] == ("deterministic" in text)
    assert described["flush_denormal"] == ("subnormals" in text)
    assert trial.threads == (1 if "threads=1" in text else 0)


def test_a_way_that_raises_leaves_nothing_behind(monkeypatch):
    def prepare(kernel, layer):
        def call(x):
            torch.use_deterministic_algorithms(False)
            raise RuntimeError("broken")

        return call

    monkeypatch.setitem(METHODS, "unfold_matmul", Method("unfold_matmul", prepare))
    before = now()
    trial = run(FORWARD, LAYER, WAYS, under=parsed("deterministic=on,threads=1,subnormals=flushed"), **SHORT)
    assert trial.cells["unfold_matmul"].reason == "RuntimeError: broken"
    assert now() == before


def test_a_way_without_a_deterministic_algorithm_fails_with_the_reason(monkeypatch):
    def prepare(kernel, layer):
        call = direct.prepare(kernel, layer)

        def put(x):
            y = call(x)
            return y.put_(torch.zeros(1, dtype=torch.int64), y.flatten()[:1].clone())

        return put

    monkeypatch.setitem(METHODS, "unfold_matmul", Method("unfold_matmul", prepare))
    assert run(FORWARD, LAYER, WAYS, **SHORT).cells["unfold_matmul"].status == "ok"
    cell = run(FORWARD, LAYER, WAYS, under={"deterministic": "on"}, **SHORT).cells["unfold_matmul"]
    assert cell.status == "failed"
    assert "put_ does not have a deterministic implementation" in cell.reason


def test_what_a_problem_or_device_cannot_have_is_skipped_with_the_reason(monkeypatch):
    line = Problem("line", 1, 4, (20,), (Layer(4, 3),))
    trial = run(FORWARD, line, WAYS, under={"memory_format": "channels_last"}, **SHORT)
    assert {cell.reason for cell in trial.cells.values()} == {
        "torch has channels_last for two or three spatial axes, not for 1"
    }
    trial = run(FORWARD, LAYER, WAYS, under={"tf32": "on"}, **SHORT)
    assert {cell.reason for cell in trial.cells.values()} == {"tf32=on is for cuda, not cpu"}
    monkeypatch.setattr(devices.Cpu, "caches", lambda self, start=True: {})
    trial = run(FORWARD, LAYER, WAYS, under={"cache": "cold"}, **SHORT)
    assert {cell.reason for cell in trial.cells.values()} == {
        "nobody tells how large the caches of cpu are: they cannot be emptied"
    }


@pytest.mark.parametrize("rank", [2, 3])
def test_numbers_are_arranged_and_not_changed(rank):
    numbers = (torch.randn(2, 3, *(4,) * rank), torch.randn(5, 3, *(2,) * rank), torch.randn(5))
    placed = arranged(numbers, {"memory_format": "channels_last"})
    assert all(map(torch.equal, placed, numbers))
    assert [number.stride(1) for number in placed[:2]] == [1, 1]
    assert all(a is b for a, b in zip(arranged(numbers, {}), numbers, strict=True))


def coarse(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """unfold_matmul cuts its operands to so many bits; and a CPU may do so, for once."""

    def prepare(kernel, layer):
        call = direct.prepare(kernel._replace(weight=cut(kernel.weight)), layer)
        return lambda x: call(cut(x))

    def cut(numbers):
        return (numbers.view(torch.int32) & -(2 ** (24 - bits))).view(torch.float32)

    monkeypatch.setitem(METHODS, "unfold_matmul", Method("unfold_matmul", prepare))
    monkeypatch.setitem(FACTORS, "tf32", replace(FACTORS["tf32"], devices=("cpu", "cuda")))


@pytest.mark.parametrize("problem", [LAYER, STACK, CATALOG["stacks/plain_x4"].reduced()], ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("bits", "text", "status"), [(11, "", "failed"), (11, "tf32=on", "ok"), (8, "tf32=on", "failed")]
)
def test_the_gate_allows_tf32_where_it_was_chosen_and_no_more(problem, bits, text, status, monkeypatch):
    """By rounding to the 11 bits that TF32 has, and bfloat16's 8 for what must fail whatever is allowed."""
    coarse(bits, monkeypatch)
    trial = run(FORWARD, problem, ("direct", "unfold_matmul"), under=parsed(text), **SHORT)
    assert (trial.cells["direct"].status, trial.cells["unfold_matmul"].status) == ("ok", status), trial.cells


@pytest.mark.parametrize("work", [MERGE, TRAINING_STEP], ids=["merge", "training"])
@pytest.mark.parametrize("text", OF_CPU)
def test_other_workloads_keep_to_the_conditions_too(work, text):
    ways = ("direct", "control", "merge_float64" if work is MERGE else "merged_per_call")
    trial = run(work, STACK, ways, under=parsed(text), **SHORT)
    assert trial.named("ok") == list(ways), trial.cells
    assert set(repeat(work, trial, 1, lambda *what: None, lambda name: None).samples) == set(ways)


@pytest.mark.parametrize(("under", "interleaved"), [({}, True), ({"turns": "isolated"}, False)])
def test_turns_are_isolated_where_that_was_chosen(under, interleaved, monkeypatch):
    """In the first process and the next; what `measure` makes of it is tested where it is."""
    told, original = [], timed.measure

    def measure(*arguments, **settings):
        told.append(settings["interleaved"])
        return original(*arguments, **settings)

    monkeypatch.setattr(timed, "measure", measure)
    trial = run(FORWARD, LAYER, WAYS, under=under, **SHORT)
    repeat(FORWARD, trial, 1, lambda *what: None, lambda name: None)
    assert told == [interleaved, interleaved]


def test_caches_are_flushed_where_that_was_chosen(monkeypatch):
    asked = []
    monkeypatch.setattr(devices.Cpu, "cache_flush", lambda self: lambda: asked.append("flush"))
    run(FORWARD, LAYER, WAYS, **SHORT)
    assert not asked
    trial = run(FORWARD, LAYER, WAYS, under={"cache": "cold"}, **SHORT)
    assert len(asked) >= sum(len(block) for cell in trial.cells.values() for block in cell.samples)
    assert {cell.calls_per_sample for cell in trial.cells.values()} == {1}
    before = len(asked)
    again = repeat(FORWARD, trial, 1, lambda *what: None, lambda name: None)
    assert len(asked) - before >= sum(len(block) for blocks in again.samples.values() for block in blocks)


def test_a_flush_reads_and_writes_more_than_the_caches(monkeypatch):
    monkeypatch.setattr(devices.Cpu, "caches", lambda self, start=True: {"L1": 2**10, "L2": 2**12})
    flush = devices.device_named("cpu").cache_flush()
    buffer = flush()
    assert buffer.nbytes == devices.FLUSHED * 2**12
    assert (buffer == -1).all()
    assert (flush() == 1).all()
    monkeypatch.setattr(devices.Cpu, "caches", lambda self, start=True: {})
    with pytest.raises(RuntimeError, match="nobody tells how large the caches of cpu are"):
        devices.device_named("cpu").cache_flush()


def test_a_child_process_keeps_to_the_conditions():
    under = parsed("cache=cold,threads=1,subnormals=flushed,work=training_step")
    trial = run_isolated(LAYER, ("direct", "control"), under=under, **SHORT)
    assert trial.named("ok") == ["direct", "control"], trial.cells
    assert (trial.under, trial.threads, trial.environment["flush_denormal"]) == (under, 1, True)
    assert {cell.calls_per_sample for cell in trial.cells.values()} == {1}


def test_a_training_step_of_a_layer_is_judged_by_its_gradients(monkeypatch):
    class Wrong(torch.autograd.Function):
        """Right forward; backward it forgets a part."""

        @staticmethod
        def forward(context, y):
            return y.clone()

        @staticmethod
        def backward(context, upstream):
            return 0.999 * upstream

    def prepare(kernel, layer):
        call = direct.prepare(kernel, layer)
        return lambda x: Wrong.apply(call(x))

    ways = (*WAYS, "shifted_matmul", "im2col_numpy", "winograd_f4", "merged/direct")
    trial = run(TRAINING_STEP, LAYER, ways, **SHORT)
    assert trial.named("ok") == [*WAYS, "shifted_matmul"]
    assert trial.cells["im2col_numpy"].reason == "torch records nothing of it, and so finds no gradient"
    assert trial.cells["winograd_f4"].reason == "no bound on the gradients of a transform is known"
    assert "merges in every call" in trial.cells["merged/direct"].reason
    monkeypatch.setitem(METHODS, "shifted_matmul", Method("shifted_matmul", prepare))
    trial = run(TRAINING_STEP, LAYER, ways, **SHORT)
    assert trial.cells["shifted_matmul"].status == "failed"
    assert "a gradient's relative error is" in trial.cells["shifted_matmul"].reason
    narrow = run(TRAINING_STEP, LAYER, WAYS, dtype="bfloat16", **SHORT)
    assert narrow.named("ok") == ["direct", "control"]
    assert "16 bits" in narrow.cells["unfold_matmul"].reason


def test_older_records_are_of_the_usual_conditions():
    data = json.loads(run(FORWARD, LAYER, WAYS, **SHORT).to_json())
    del data["under"]
    assert Trial.from_dict(data | {"schema": 3}).under == {}
    for wrong in ({"heat": "on"}, {"cache": "lukewarm"}, {"threads": 1}, "cold", None):
        with pytest.raises(ValueError, match="under must be an object of levels by the names of conditions"):
            fields.checked(Trial.from_dict(data | {"under": wrong}))
