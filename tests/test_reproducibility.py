"""Does an image keep its bits: planted methods that change them are found, and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SUMMED

from linear_lasagna import METHODS, Layer, Problem, vocabulary
from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.methods import Method
from linear_lasagna.problems import Kernel
from linear_lasagna.reproducibility import PERTURBATIONS, REMEDIES, Outcome, Subject, costs, instructions, outcomes
from linear_lasagna.reproducibility.costing import PLAIN
from linear_lasagna.reproducibility.threads import cores, threads
from linear_lasagna.timing import Timing
from tests import planted
from tests.planted import INSTRUCTED, INVARIANT, PLANTED, PROBLEM, TERM_BY_TERM

HERE = tuple(name for name in PERTURBATIONS if name != "instructions")  # without other processes
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LAYERS = {
    "strided": Problem("strided", 2, 4, (9, 8), (Layer(4, 3, stride=(2, 3), padding=(1, 0)),)),
    "dilated": Problem("dilated", 2, 4, (9, 9), (Layer(3, 2, dilation=2, padding=2),)),
    "grouped": Problem("grouped", 2, 4, (6, 6), (Layer(8, 3, groups=2, bias=True),)),
    "line": Problem("line", 2, 3, (11,), (Layer(4, 3, padding=1),)),
    "volume": Problem("volume", 2, 2, (4, 5, 4), (Layer(3, 2, stride=2),)),
    "point": Problem("point", 2, 3, (1, 1), (Layer(1, 1),)),
}


def subject(method: Method, problem: Problem = PROBLEM, dtype: torch.dtype = torch.float32) -> Subject:
    return replace(Subject.of(problem, method, dtype), baseline=TERM_BY_TERM)


def changed(found: list[Outcome]) -> dict[str, list[Outcome]]:
    """By perturbation, the settings under which bits changed."""
    names = {each.perturbation: [] for each in found if each.equal < 1}
    for each in found:
        if each.equal < 1:
            names[each.perturbation].append(each)
    return names


def test_registries_and_their_sentences_have_equal_keys():
    assert list(PERTURBATIONS) == list(vocabulary.PERTURBATIONS)
    assert list(REMEDIES) == list(vocabulary.REMEDIES)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", [name for name in PLANTED if PLANTED[name][1] != "repeat"])
def test_what_is_planted_is_found_and_nothing_else(name, dtype):
    method, perturbation, setting = PLANTED[name]
    found = outcomes(subject(method, dtype=dtype), HERE)
    lost = changed(found)
    assert list(lost) == [perturbation]
    assert all(each.setting.startswith(setting) for each in lost[perturbation])
    tried = [each for each in found if each.perturbation == perturbation and each.setting.startswith(setting)]
    if name == "threads":
        tried = [each for each in tried if each.setting[0] in "38"]
    if name == "image laid out":
        tried = [each for each in tried if not each.setting.startswith("kernel")]
    assert lost[perturbation] == tried
    if not name.startswith("order by"):
        assert {(each.equal, each.largest_ulps) for each in tried} == {(0.0, 1)}


def test_a_method_that_differs_from_itself_is_found():
    assert "repeat" in changed(outcomes(subject(PLANTED["other calls"][0]), ["repeat"]))


@pytest.mark.parametrize(
    ("name", "dtype"), [*(("plain", dtype) for dtype in FLOATS), *((name, torch.float32) for name in LAYERS)], ids=str
)
def test_no_false_alarm(name, dtype):
    for method in INVARIANT:
        found = outcomes(replace(subject(method, LAYERS.get(name, PROBLEM), dtype), baseline=method), HERE)
        assert changed(found) == {}
        assert {each.largest_ulps for each in found} == {0}


def test_an_invariant_method_keeps_its_bits_under_other_instructions():
    for method in INVARIANT:
        found = outcomes(subject(method, dtype=torch.bfloat16), ["instructions"])
        assert [each.setting for each in found] == instructions.emulated()
        assert changed(found) == {}


def test_a_method_that_depends_on_the_instructions_is_found():
    """Where they can be emulated, both sets are, and one of them is not this process's."""
    lost = changed(outcomes(subject(INSTRUCTED)))
    assert list(lost) == (["instructions"] if instructions.emulated() else []) + (
        ["method"] if torch.backends.cpu.get_cpu_capability() == "DEFAULT" else []
    )


@st.composite
def small_layers(draw: Any) -> Problem:
    rank = draw(st.integers(1, 2))
    extents = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(rank))  # noqa: E731
    groups = draw(st.sampled_from((1, 2)))
    kernel_size, dilation = extents(1, 3), extents(1, 2)
    layer = Layer(2 * draw(st.integers(1, 3)), kernel_size, extents(1, 3), extents(0, 2), dilation, groups)
    spans = (d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True))
    size = tuple(span + draw(st.integers(0, 6)) for span in spans)
    return Problem("drawn", 2, 2 * draw(st.integers(1, 2)), size, (layer,))


@given(
    small_layers(),
    st.sampled_from(sorted(name for name in METHODS if METHODS[name].exact_on_integers)),
    st.integers(0, 9),
)
def test_small_integers_have_one_sum_in_every_order(problem, method, seed):
    """So where outputs differ, a perturbation has compared others than the same ones."""
    layer = problem.expanded[0]
    if METHODS[method].unsupported(layer, torch.float32, "cpu") is None:
        generator = torch.Generator().manual_seed(seed)
        whole = lambda shape: torch.randint(-4, 5, shape, generator=generator).float()  # noqa: E731
        kernel = Kernel(whole(layer.weight_shape(problem.in_channels)))
        found = outcomes(Subject(METHODS[method], layer, kernel, whole(problem.shapes[0])), HERE)
        assert changed([each for each in found if each.largest_ulps != 0]) == {}  # -0 and 0 are one sum
        assert {"repeat", "batch", "offset", "layout", "threads"} <= {each.perturbation for each in found}


def test_every_perturbation_has_something_to_change():
    assert {each.perturbation for each in outcomes(subject(METHODS["direct"]), HERE)} == set(HERE)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("order by batch", "one image"),
        ("order by place", "one image"),
        ("threads", "one thread"),
        ("image laid out", "copy"),
        ("kernel laid out", "copy"),
        ("image elsewhere", "copy"),
        ("kernel elsewhere", "copy"),
        ("order by batch", "float64"),
    ],
)
def test_remedies_force_equal_bits(name, remedy):
    method, perturbation, _ = PLANTED[name]
    remedied = REMEDIES[remedy].of(subject(method, dtype=torch.bfloat16))
    assert perturbation in REMEDIES[remedy].against
    assert remedied is not None
    assert changed(outcomes(remedied, [perturbation])) == {}


def test_a_remedy_for_something_else_forces_nothing():
    remedied = REMEDIES["copy"].of(subject(PLANTED["order by batch"][0]))
    assert remedied is not None
    assert list(changed(outcomes(remedied, ["batch"]))) == ["batch"]


def test_float64_is_no_remedy_for_float64():
    assert REMEDIES["float64"].of(subject(TERM_BY_TERM, dtype=torch.float64)) is None


def test_outputs_that_are_not_finite_have_no_distance():
    def prepare(kernel, layer):
        return lambda x: planted.added(kernel, layer, x).masked_fill(torch.tensor(len(x) > 1), math.inf)

    found = outcomes(subject(Method("infinite", prepare)), ["batch", "repeat"])
    assert {(each.perturbation, each.equal, each.largest_ulps) for each in found} == {
        ("repeat", 1.0, 0),
        ("batch", 0.0, None),
    }


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="left early"), threads(before + 1):
        raise RuntimeError(f"left early: {torch.get_num_threads() - before}")
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    assert cores() >= 1


def test_costs_are_ratios_of_interleaved_times(monkeypatch):
    """A remedy of 3 times the time costs 3; one thread is left out where there is one core."""
    seconds = {f"/{PLAIN}": 1.0, "direct/float64": 3.0, "unfold_matmul/": 0.5}

    def measure(build: Any, device: str, budget_s: float, seed: int) -> Timing:
        calls = build(0)
        assert all(call().shape == (3, *PROBLEM.shapes[-1][1:]) for call in calls.values())
        samples = {name: [[seconds.get(name, 1.0)]] * 12 for name in calls}
        return Timing(samples, {}, {}, {}, 0.0, 0.0)

    monkeypatch.setattr("linear_lasagna.reproducibility.costing.measure", measure)
    found = {(each.method, each.remedy): each for each in costs(Subject.of(PROBLEM), [*METHODS.values()])}
    remedies = [name for name in REMEDIES if name != "one thread" or cores() > 1]
    lacking = {name for name in METHODS if METHODS[name].unsupported(PROBLEM.expanded[0], torch.float32, "cpu")}
    others = [name for name in METHODS if name not in ("direct", *lacking)]
    wanted = [("direct", name) for name in (*remedies, "control")] + [(name, "") for name in others]
    assert sorted(found) == sorted(wanted)
    assert found["direct", "float64"].ratio == pytest.approx(3.0)
    assert found["unfold_matmul", ""].upper == pytest.approx(0.5)
    monkeypatch.setattr("linear_lasagna.reproducibility.costing.cores", lambda: 1)
    assert "one thread" not in {each.remedy for each in costs(Subject.of(PROBLEM))}


TWO = Problem("two", 2, 4, (8, 8), (Layer(4, 3), Layer(4, 3)))


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: Subject.of(TWO), "two has 2 layers: bits are compared of one layer at a time"),
        (lambda: Subject.of(replace(PROBLEM, batch=1)), "at least two images are needed"),
        (lambda: Subject.of(PROBLEM, "fastest"), "unknown method 'fastest'; known: direct, "),
        (lambda: Subject.of(PROBLEM, "patch_matmul"), "patch_matmul: patches need kernel size = stride"),
        (lambda: outcomes(Subject.of(PROBLEM), ["weather"]), "unknown perturbation 'weather'; known: repeat, batch"),
        (lambda: replace(Subject.of(PROBLEM), images=torch.zeros(2, 4, 7, 7).double()), "the images are torch.float64"),
        (lambda: replace(Subject.of(PROBLEM), images=torch.zeros(2, 5, 7, 7)), r"x must be \(batch, 4"),
        (lambda: costs(Subject.of(PROBLEM), budget_s=0), "budget_s must be positive, not 0"),
    ],
)
def test_bad_input_gets_one_sentence(ask, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        ask()
    assert "\n" not in str(caught.value)


needs_emulation = pytest.mark.skipif(not instructions.emulated(), reason="no lesser x86 instruction set here")


@needs_emulation
@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (planted.RAISING, "in the process that is held to SSE4.1: ArithmeticError: not today$"),
        (planted.DYING, "the process that was held to SSE4.1 ended without an answer"),
        (Method("local", lambda kernel, layer: torch.relu), "no other process can be told what to compute: "),
    ],
)
def test_a_process_without_an_answer_is_told_and_the_next_one_answers(method, sentence):
    with pytest.raises(RuntimeError, match=sentence) as caught:
        instructions.computed("SSE4.1", subject(method))
    assert "\n" not in str(caught.value)
    y = instructions.computed("SSE4.1", subject(planted.PRINTING))
    assert torch.equal(y, subject(TERM_BY_TERM).compute(subject(TERM_BY_TERM).image))


@needs_emulation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", SUMMED)
def test_nothing_multiplies_and_adds_at_once_without_the_instruction(name, dtype):
    """SSE4.1 has none that does: a a - a a is 0, whose products are rounded, in whatever library."""
    layer = Layer(32, 1 if name == "patch_matmul" else 3)
    problem = Problem("fused", 2, 64, (12, 12), (layer,))
    one = replace(Subject.of(problem, name, dtype), baseline=TERM_BY_TERM)
    a = 1 + 2.0 ** -(SIGNIFICAND_BITS[dtype] // 2 + 1)
    weight = torch.zeros_like(one.kernel.weight)
    weight[:, 3], weight[:, 40] = a, -a
    held = replace(one, kernel=Kernel(weight), images=torch.full_like(one.images, a))
    assert not instructions.computed("SSE4.1", held).any()
