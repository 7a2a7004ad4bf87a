"""The package on a card that is not there: nothing mixes devices, and what is exact is what it is on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from analysis.measure.presets import ACCELERATOR, trials
from analysis.precision import EXPERIMENTS
from analysis.precision.conditions import pinned
from linear_lasagna import METHODS, SCHEDULES, Layer, Problem, calibration, merging
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.devices import _captured, device_named, started
from linear_lasagna.exact import convolve, trusted
from linear_lasagna.merging.chain import chained
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models import merge_model, whole
from linear_lasagna.planning import plan
from linear_lasagna.probes import run_probes
from linear_lasagna.problems import Kernel
from linear_lasagna.rounding import predict_error
from linear_lasagna.switches import coarse, full_precision
from linear_lasagna.trial import Trial, isolation, run, workload
from linear_lasagna.trial.isolation import WORKS
from linear_lasagna.vocabulary import DTYPES
from linear_lasagna.ways import way_named
from tests.emulated import HERE, Card, OnCard, emulated

PLAIN = Problem("plain", 2, 2, (8, 9), (Layer(4, 3, bias=True), Layer(2, 3, dilation=2)))
PADDED = Problem("padded", 1, 2, (9, 8), (Layer(4, 3, padding=1, bias=True), Layer(2, 3, padding=1)))
STRIDED = Problem("strided", 1, 4, (12,), (Layer(4, 3, stride=2, groups=2), Layer(2, 3)))
PATCHES = Problem("patches", 1, 3, (8, 8), (Layer(4, 4, stride=4),))
GROUPED = Problem("grouped", 1, 4, (7, 7), (Layer(8, 3, groups=4), Layer(4, 3, groups=2)))
PROBLEMS = {p.name: p for p in (PLAIN, PADDED, STRIDED, PATCHES, GROUPED, CATALOG["sources/merge"])}
WAYS = tuple(f"{schedule}/{method}" for schedule in SCHEDULES for method in METHODS)


@pytest.fixture
def card() -> Iterator[Card]:
    with emulated() as card:
        yield card


def drawn(problem: Problem, dtype: torch.dtype, device: str = "cuda") -> tuple[torch.Tensor, tuple[Kernel, ...]]:
    return problem.draw(dtype, device, seed=1)


def same(there: torch.Tensor, here: torch.Tensor) -> bool:
    """Bit for bit, and on the card."""
    assert (there.device, type(here)) == (HERE, torch.Tensor)
    return there.dtype == here.dtype and torch.equal(there.cpu(), here)


# --- the stand-in itself ---------------------------------------------------------------------------------------------


def test_the_card_refuses_what_a_card_refuses(card):
    x = torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="same device"):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match="same device"):
        torch.mm(torch.ones(2, 2), x.expand(2, 3).mT)
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()
    assert same(x + torch.tensor(1.0), torch.full((3,), 2.0))
    assert same(torch.zeros(3).to("cuda").copy_(torch.ones(3)), torch.ones(3))
    assert same(x[torch.tensor([True, False, True])], torch.ones(2))


def test_views_share_the_memory_of_the_card(card):
    x = torch.zeros(2, 3).to("cuda")
    x.mT[0].add_(1)
    assert same(x, torch.tensor([[1.0, 0, 0], [1, 0, 0]]))
    assert isinstance(nn.Conv2d(1, 1, 1).to("cuda").weight, OnCard)


# --- what is computed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_exact_reference_is_the_cpu_s(card, name, dtype):
    problem, dtype = PROBLEMS[name], getattr(torch, dtype)
    (x, kernels), (near, near_kernels) = drawn(problem, dtype), drawn(problem, dtype, "cpu")
    there, here = convolve(x, kernels, problem.expanded), convolve(near, near_kernels, problem.expanded)
    for each in (dtype, torch.float64):
        assert same(there.to(each), here.to(each))
        assert same(there.ulp(each), here.ulp(each))
    assert same(there.error(there.to(dtype)), here.error(here.to(dtype)))
    assert there.fractions() == here.fractions()


@pytest.mark.parametrize(("call", "bits"), [("mm", 40), ("mv", 40), ("baddbmm", 40), ("mm", 24)])
def test_what_only_emulates_float64_is_not_trusted(card, monkeypatch, call, bits):
    """Whose numbers have fewer bits below the largest of their row, as fixed-point emulations have."""
    computed = getattr(torch, call)

    def emulating(*operands: torch.Tensor, **options: object) -> torch.Tensor:
        *rest, a, b = operands
        unit = 2 ** (a.abs().amax(-1, keepdim=True).clamp(min=1).log2().ceil() - bits)
        return computed(*rest, (a / unit).round() * unit, b, **options)

    convolve(*drawn(PLAIN, torch.float32), PLAIN.expanded)
    trusted._check.cache_clear()
    monkeypatch.setattr(torch, call, emulating)
    with pytest.raises(RuntimeError, match=rf"cuda:0 does not compute in float64 \({call}: \d+ of \d+ sums"):
        convolve(*drawn(PLAIN, torch.float32), PLAIN.expanded)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_way_computes_there_what_it_does_here(card, name, counting_machine):
    """And what cannot be computed there is said to be."""
    problem, count = PROBLEMS[name], 0
    (x, kernels), (near, near_kernels) = drawn(problem, torch.float32), drawn(problem, torch.float32, "cpu")
    for way in map(way_named, WAYS):
        if way.unsupported(problem, torch.float32, "cuda") is None and way.schedule.plans != "measured":
            expected = way.prepare(problem, near_kernels)(near)
            assert same(way.prepare(problem, kernels)(x), expected), way
            assert len(way.computed(problem, torch.float32, "cuda")) >= 1
            count += 1
    assert count >= 4
    assert way_named("im2col_numpy").unsupported(problem, torch.float32, "cuda") == "NumPy computes on the CPU only"


@pytest.mark.parametrize("name", ["plain", "padded"])
def test_predictions_are_the_cpu_s(card, name):
    problem = PROBLEMS[name]
    with full_precision():
        there = predict_error(*drawn(problem, torch.float32), problem.expanded)
    assert there == predict_error(*drawn(problem, torch.float32, "cpu"), problem.expanded)


def test_probes_find_what_they_find_on_the_cpu(card):
    def rows(device: str) -> list[dict[str, object]]:
        found = run_probes(device, ["float32"], ["direct", "unfold_matmul"])
        return [row | {"device": ""} for row in found if row["probe"] != "tf32"]

    assert rows("cuda") == rows("cpu")


@pytest.mark.parametrize("cost", ["operations", "measured"])
def test_planning(card, cost, counting_machine):
    planned = plan(PLAIN, "cuda", cost=cost)
    assert [layer for run in planned.runs for layer in range(*run)] == [0, 1]
    if cost == "operations":
        assert planned == plan(PLAIN, "cpu")


def test_a_padded_stack_is_timed_there(card):
    chain = chained(PADDED.expanded)
    costs = calibration.measured(chain, PADDED.in_channels, torch.float32, "cuda", 1, left_s=0.05)
    assert costs is None or min(costs.layers.seconds) > 0


def model() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (
        *(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3)),
        *(nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 5)),
    )
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("border", [None, "exact"])
def test_modules_merge_there_as_here(card, border):
    padding = 0 if border is None else 1
    convolutions = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=padding)).eval()
    x = torch.rand(1, 2, 9, 9)
    options = {} if border is None else {"border": border}
    here, there = (
        merging.merge(convolutions, **options),
        merging.merge(copy.deepcopy(convolutions).to("cuda"), **options),
    )
    with torch.no_grad():
        assert same(there(x.to("cuda")), here(x))


@pytest.mark.parametrize("measure", [False, True])
def test_models_merge_there_as_here(card, measure, monkeypatch):
    """Bit for bit by counting; times may choose other runs, which round otherwise."""
    monkeypatch.setattr(whole, "_others", lambda *_: "other processes lack this card")
    near, x = model(), torch.rand(2, 3, 10, 10)
    here, report = merge_model(near, x)
    there, reported = merge_model(copy.deepcopy(near).to("cuda"), x.to("cuda"), measure=measure)
    with torch.no_grad():
        computed, expected = there(x.to("cuda")), here(x)
    assert (computed.device, computed.dtype) == (HERE, expected.dtype)
    assert measure or same(computed, expected)
    assert relative_l2(computed.cpu() - expected, expected) < 1e-5
    assert [str(run.layers) for run in reported.runs] == [str(run.layers) for run in report.runs]
    assert len(reported.runs) > 0


def test_nothing_is_promised_of_operands_that_are_rounded_first(card):
    """As torch's own setting lets cuDNN: TF32, in which float32 has 11 bits."""
    given, x = model().to("cuda"), torch.rand(2, 3, 10, 10, device="cuda")
    _, report = merge_model(given, x)
    assert report.merged
    assert {(run.predicted_error, run.certificate) for run in report.merged} == {(None, None)}
    assert all(run.errors is not None for run in report.merged)
    reason = (
        "no error is predicted or guaranteed, as float32 may be rounded to tf32 first here: "
        'torch.backends.cudnn.conv.fp32_precision = "ieee" ends that'
    )
    assert reason in {note.reason for note in report.notes}
    with full_precision():
        _, report = merge_model(given, x)
    assert None not in {part for run in report.merged for part in (run.predicted_error, run.certificate)}
    assert reason not in {note.reason for note in report.notes}
    x, kernels = drawn(PLAIN, torch.float32)
    with pytest.raises(ValueError, match="no error is predicted in float32, as float32 may be rounded to tf32 first"):
        predict_error(x, kernels, PLAIN.expanded)
    assert predict_error(x.half(), [kernel.map(torch.Tensor.half) for kernel in kernels], PLAIN.expanded) > 0
    assert predict_error(x, kernels, PLAIN.expanded, "unfold_matmul") > 0  # products are another switch


# --- trials ----------------------------------------------------------------------------------------------------------


def statuses(trial: Trial) -> dict[str, tuple[str, str]]:
    return {name: (cell.status, cell.reason) for name, cell in trial.cells.items()}


def test_a_whole_trial(card):
    """Its errors are the CPU's; its environment says what held inside of it; another process could time it again."""
    ways = ["direct", "control", "unfold_matmul", "merged/direct", "planned/direct"]
    trial = run(PLAIN, ways, device="cuda", budget_s=0.01)
    assert statuses(trial) == dict.fromkeys(ways, ("ok", ""))
    here = run(PLAIN, ways[:1], budget_s=0.01)
    assert trial.cells["direct"].measures == here.cells["direct"].measures
    assert all(cell.peak_bytes and cell.samples and cell.graphed_s for cell in trial.cells.values())
    assert all(trial.bound(way) for way in ways)
    assert not any(here.bound(way) for way in here.cells)
    described = trial.environment
    assert (described["accelerator"], described["tf32_cudnn"], described["tf32_products"]) == (
        "Emulated card",
        False,
        False,
    )
    assert coarse("cudnn.conv.fp32_precision")  # torch's default, which held before and holds again
    assert Trial.from_json(trial.to_json()) == trial
    workload.repeat(WORKS["forward"], trial, 1, lambda what, way: None, lambda name: None)


SMALLEST = min((key.problem for key in trials(ACCELERATOR, ("cuda",))), key=lambda name: CATALOG[name].macs)


@pytest.mark.parametrize(("group", "dtype"), [("batches", "bfloat16"), ("throughput", "float32")])
def test_the_ways_that_the_accelerator_s_preset_times(card, group, dtype, counting_machine):
    """On its problems, as far as the CPU behind the card can compute them: on one small image."""
    problem = workload.smaller(min(GROUPS[group].problems, key=lambda problem: problem.parameters), 1e6)
    trial = run(problem, GROUPS[group].ways, dtype=dtype, device="cuda", budget_s=0.005, blocks=1)
    timed = {"direct", "control", "direct_channels_last"} | ({"merged/direct"} if group == "throughput" else set())
    assert timed <= set(trial.named("ok"))
    assert not trial.named("failed"), statuses(trial)


def test_the_smallest_trial_of_the_accelerator_s_preset(card, counting_machine):
    group = next(key.group for key in trials(ACCELERATOR, ("cuda",)) if key.problem == SMALLEST)
    trial = run(CATALOG[SMALLEST], GROUPS[group].ways, device="cuda", budget_s=0.005, blocks=1)
    assert not trial.named("failed"), statuses(trial)
    assert all(trial.cells[name].graphed_s for name in trial.named("ok"))


def test_a_graph_repeats_a_call_with_the_numbers_that_are_there_then(card):
    x, results = torch.ones(3, device="cuda"), []
    graph = _captured(lambda: results.append((x + 1).mul_(2)[1:]))
    x.add_(4)
    graph.replay()
    assert same(results[-1], torch.full((2,), 12.0))


def test_what_waits_for_the_card_has_no_graph(card):
    x = torch.ones(3, device="cuda")
    for call in (lambda: x.cpu(), lambda: x.sum().item()):
        graphed = device_named("cuda").graphed_seconds(call, 1)
        assert graphed == (None, "RuntimeError: operation not permitted when stream is capturing")
    assert device_named("cuda").graphed_seconds(lambda: x + 1, 2).seconds
    assert device_named("cpu").graphed_seconds(lambda: x, 1) == (None, "")


def test_what_an_accelerator_loads_is_timed_before_any_way_and_sets_the_limits(card, monkeypatch):
    """In a child, whose limit for a step is that much longer; and it is recorded."""
    told: list[tuple[str, object]] = []
    monkeypatch.setattr(isolation, "started", lambda *_: started.__wrapped__("cuda", "float32") | {"product": 7.0})
    settings = {"dtype": "float32", "device": "cuda", "budget_s": 0.005, "blocks": 1, "seed": 0}
    settings |= {"numbers": None, "under": {}}
    watch = SimpleNamespace(turn=lambda name: None)
    isolation._run(lambda *each: told.append(each), watch, "forward", PLAIN, ("direct", "control"), settings)
    assert [content for kind, content in told if kind == "limit"] == [70.0]
    [trial] = [Trial.from_json(content) for kind, content in told if kind == "trial"]
    assert list(trial.conditions["starting_s"]) == ["context", "product", "convolution"]
    assert all(seconds > 0 for seconds in trial.conditions["starting_s"].values())
    assert started.__wrapped__("cpu", "float32") == {}
    assert started.__wrapped__("mps", "float32") == {}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_on_rounding_give_the_cpu_s_rows(name, monkeypatch):
    """On a real card they may differ, as its sums are in another order."""
    monkeypatch.setattr("linear_lasagna.reproducibility.instructions.emulated", list)  # a process for each
    experiment = EXPERIMENTS[name]
    near = next(iter(experiment.presets["smoke"][0].units("cpu")))
    with pinned():
        with emulated():
            there = experiment.rows(replace(near, device="cuda"))
        here = experiment.rows(near)
    assert {row["status"] for row in there} == {"ok"}
    if name == "switches":  # the CPU has none
        assert [row["switches"] for row in there] == [on for on in ("off", "on") for _ in here]
    elif name == "reproducibility":  # threads, instructions and times are the CPU's own
        apart = (None, "threads")
        kept = [[row for row in rows if row["perturbation"] not in apart] for rows in (there, here)]
        assert kept[0] == [row for row in kept[1] if row["way"] != "im2col_numpy"] != []
        assert "threads" not in {row["perturbation"] for row in there}
        assert {row["remedy"] for row in there if row["ratio"]} == {"", "copy", "float64", "one image", "control"}
    else:
        assert there == here


@pytest.mark.parametrize("work", ["merge", "training_step"])
def test_the_other_trials(card, work):
    ways = [
        "direct",
        "control",
        *{"merge": ("merge_float64", "merge_working"), "training_step": ("merged_per_call",)}[work],
    ]
    trial = workload.run(WORKS[work], PLAIN, ways, device="cuda", budget_s=0.01)
    assert statuses(trial) == dict.fromkeys(ways, ("ok", ""))
