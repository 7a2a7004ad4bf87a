"""Given numbers: read from tensors, arrays and files, refused where they do not fit, timed and judged as they are."""

from __future__ import annotations

import json
import math
import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from linear_lasagna import METHODS, Layer, Problem, catalog, own
from linear_lasagna.trial import Trial, numbers, run, run_isolated
from linear_lasagna.trial.forward import FORWARD
from linear_lasagna.trial.isolation import repeat_isolated
from linear_lasagna.trial.workload import repeat

LAYER = Problem("layer", 2, 2, (5, 5), (Layer(3, 3, bias=True),))
STACK = Problem("stack", 1, 2, (7, 7), (Layer(4, 3), Layer(2, 3, bias=True)))
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def drawn(problem: Problem, scale: float = 1.0, seed: int = 0) -> dict[str, torch.Tensor]:
    """All numbers of a problem, normally distributed, float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = numbers._shapes(problem)
    return {n: torch.randn(s, generator=generator, dtype=torch.float64) * scale for n, s in shapes.items()}


def test_numbers_are_the_same_from_every_source(tmp_path: Path) -> None:
    given = drawn(LAYER)
    arrays = {name: tensor.numpy() for name, tensor in given.items()}
    numpy.savez(tmp_path / "all.npz", **arrays)
    for name, array in arrays.items():
        numpy.save(tmp_path / f"{name}.npy", array)
    module = nn.Conv2d(2, 3, 3).double()
    module.load_state_dict({"weight": given["0.weight"], "bias": given["0.bias"]})
    sources = [
        given,
        arrays,
        tmp_path / "all.npz",
        {name: tmp_path / f"{name}.npy" for name in arrays},
        {name: (str(tmp_path / "all.npz"), name) for name in arrays},
        {"input": given["input"], **module.state_dict()},
        {name: array.astype(">f8") for name, array in arrays.items()},
    ]
    for source in sources:
        found = numbers.read(source, LAYER)
        assert list(found) == ["input", "0.weight", "0.bias"]
        assert all(numpy.array_equal(found[name], arrays[name]) for name in arrays)
        assert numbers.digests(found) == numbers.digests(numbers.read(given, LAYER))
    with numbers.saved({"layer": numbers.read(given, LAYER)}) as paths:
        assert numbers.digests(numbers.load(paths["layer"])) == numbers.digests(numbers.read(given, LAYER))
    assert not Path(paths["layer"]).exists()


def test_safetensors_files_are_read(tmp_path: Path) -> None:
    torch_files = pytest.importorskip("safetensors.torch")
    given = {name: tensor.to(torch.bfloat16) for name, tensor in drawn(STACK).items()}
    torch_files.save_file(given, tmp_path / "all.safetensors")
    for source in (tmp_path / "all.safetensors", {name: (tmp_path / "all.safetensors", name) for name in given}):
        found = numbers.read(source, STACK)
        assert all(torch.equal(torch.from_numpy(found[name]), given[name].float()) for name in given)
    with pytest.raises(ValueError, match=r"all\.safetensors holds no 'c'; it has "):
        numbers.read({"0.weight": (tmp_path / "all.safetensors", "c")}, STACK)
    (tmp_path / "cut.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cut\.safetensors cannot be read"):
        numbers.read(tmp_path / "cut.safetensors", STACK)


def test_what_reads_safetensors_may_lack(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ValueError, match=r"^all\.safetensors: safetensors is not installed; pip install -e"):
        numbers.read(Path("all.safetensors"), STACK)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_every_dtype_keep_their_numbers(dtype: torch.dtype) -> None:
    """All of bfloat16, subnormal ones included; for the others as many."""
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    tensor = bits[bits.isfinite()].to(dtype)
    tensor = tensor[tensor.isfinite()]
    array = numbers._of_tensor(tensor)
    assert torch.equal(torch.from_numpy(array).double(), tensor.double())


@pytest.mark.parametrize(
    ("problem", "given", "said"),
    [
        (LAYER, {"weights": 1}, "layer: weights must be a tensor, an array, a path or (path, name), not a int"),
        (LAYER, {"weights": numpy.ones(3)}, "layer: no number is called 'weights'; known: input, 0.weight, 0.bias"),
        (STACK, {"weight": numpy.ones(3)}, "known: input, 0.weight, 1.weight, 1.bias"),
        (STACK, {"0.bias": numpy.ones(4)}, "no number is called '0.bias'"),
        (LAYER, {"input": numpy.ones((2, 2, 5))}, "layer: input must have the shape (2, 2, 5, 5), not (2, 2, 5)"),
        (LAYER, {"weight": numpy.ones((3, 2, 3, 3))}, "layer 0 has a bias: its weight and bias are given together"),
        (STACK, {"1.bias": numpy.ones(2)}, "layer 1 has a bias: its weight and bias are given together"),
        (STACK, {"0.weight": numpy.full((4, 2, 3, 3), math.inf)}, "0.weight is not finite: 72 of 72 numbers"),
        (STACK, {"0.weight": numpy.ones((4, 2, 3, 3), complex)}, "0.weight must hold real numbers, not complex128"),
        (STACK, {"0.weight": numpy.ones((4, 2, 3, 3), bool)}, "0.weight must hold real numbers, not bool"),
        (STACK, [1], "stack: numbers are given by name or as a file, not as a list"),
        (STACK, "absent.npz", "absent.npz cannot be read: No such file or directory"),
        (STACK, "weights.pt", "weights.pt: numbers are read from .npy, .npz and .safetensors files"),
        (STACK, {"input": "text.npy"}, "text.npy cannot be read"),
        (STACK, {"input": ("some.npz", "b")}, "some.npz holds no 'b'; it has a"),
        (STACK, {"input": "some.npz"}, "some.npz may hold several: one is given as (path, name); it has a"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(problem, given, said, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("no numbers")
    numpy.savez(tmp_path / "some.npz", a=numpy.ones(3))
    with pytest.raises(ValueError, match=re.escape(said)) as refusal:
        numbers.read(given, problem, tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 2.0**-14, 2.0**-140, 2.0**-900])
def test_the_error_is_that_of_the_given_numbers(dtype: str, scale: float) -> None:
    """Against rational arithmetic on the numbers as the dtype holds them; on subnormal ones, too, of all but float64,
    in which errors are given.
    """
    problem = Problem("tiny", 1, 2, (3, 3), (Layer(1, 2),))
    given = drawn(problem) | {"0.weight": drawn(problem)["0.weight"] * scale}
    trial = run(problem, ["direct"], dtype=dtype, budget_s=0.005, blocks=1, numbers=given)
    held = {name: tensor.to(getattr(torch, dtype)) for name, tensor in given.items()}
    x, weight = held["input"], held["0.weight"]
    y = METHODS["direct"](x, problem.draw(x.dtype)[1][0]._replace(weight=weight), problem.layers[0])
    exact = [
        sum(
            Fraction(float(x[0, c, i + a, j + b])) * Fraction(float(weight[0, c, a, b]))
            for c in range(2)
            for a in range(2)
            for b in range(2)
        )
        for i in range(2)
        for j in range(2)
    ]
    errors = [Fraction(float(value)) - right for value, right in zip(y.flatten(), exact, strict=True)]
    squares = [sum(each**2 for each in values) for values in (errors, exact)]
    assert trial.cells["direct"].status == "ok", trial.cells["direct"].reason
    expected = math.sqrt(squares[0] / squares[1]) if squares[1] else 0.0
    assert trial.cells["direct"].measures["relative_l2"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("kernels_alone", [True, False])
def test_right_ways_pass_on_numbers_of_any_size(scale: float, kernels_alone: bool) -> None:
    given = drawn(STACK)
    given["0.weight"] *= scale
    given["input"] *= 1 / scale if scale > 1 else 1e4
    if kernels_alone:
        del given["input"]
        given["1.weight"] /= max(scale, 1.0)
    ways = ["direct", "control", "direct_channels_last", "unfold_matmul", "winograd_f2", "fft", "compensated"]
    ways += ["merged/direct", "merged_working/direct", "planned_operations/direct"]
    trial = run(STACK, ways, dtype="float32", budget_s=0.01, blocks=1, numbers=given)
    assert {name: cell.reason for name, cell in trial.cells.items() if cell.status != "ok"} == {}
    assert list(trial.numbers) == [name for name in ("input", "0.weight", "1.weight", "1.bias") if name in given]


@pytest.mark.parametrize(
    ("first", "second", "image"),
    [
        pytest.param(1e-42, 1e20, 1.0, id="the second layer magnifies what underflow loses in the first"),
        pytest.param(5e37, 0.01, 2e-38, id="a drawn input would overflow"),
    ],
)
def test_right_ways_pass_where_numbers_are_of_very_different_sizes(first: float, second: float, image: float) -> None:
    given = drawn(STACK)
    for name, scale in (("0.weight", first), ("1.weight", second), ("input", image)):
        given[name] *= scale
    given["1.bias"] *= first * second * image
    ways = ["direct", "control", "direct_channels_last", "unfold_matmul", "merged/direct"]
    trial = run(STACK, ways, dtype="float32", budget_s=0.01, blocks=1, numbers=given)
    assert {name: cell.reason for name, cell in trial.cells.items() if cell.status != "ok"} == {}


def test_a_way_that_is_wrong_on_the_given_numbers_alone_fails(monkeypatch) -> None:
    """It computes subnormal numbers in float16, which has none so small: drawn numbers do not show it."""

    def prepare(kernel, layer):
        call = METHODS["direct"].build(kernel, layer)
        loses = float(kernel.weight.abs().max()) < 1e-20
        return lambda x: call(x) * (0.5 if loses else 1.0)

    monkeypatch.setitem(METHODS, "halving", METHODS["direct"].__class__("halving", prepare))
    settings = {"dtype": "float32", "budget_s": 0.01, "blocks": 1}
    problem = Problem("layer", 2, 2, (5, 5), (Layer(3, 3),))
    assert run(problem, ["direct", "halving"], **settings).named("ok") == ["direct", "halving"]
    tiny = {"weight": drawn(problem, 1e-30)["0.weight"]}
    trial = run(problem, ["direct", "halving"], **settings, numbers=tiny)
    assert trial.named("ok") == ["direct"]
    assert "its error on the timed numbers, after timing, is" in trial.cells["halving"].reason


def test_numbers_that_a_dtype_cannot_hold_skip_its_trial() -> None:
    given = {"0.weight": torch.full((4, 2, 3, 3), 65520.0)}  # the least number that float16 rounds to infinity
    trial = run(STACK, ["direct", "control"], dtype="float16", budget_s=0.01, numbers=given)
    reasons = {(cell.status, cell.reason) for cell in trial.cells.values()}
    assert reasons == {("skipped", "the given numbers are too large for the dtype: 0.weight")}
    given["0.weight"] -= 16
    assert not [
        c for c in run(STACK, ["direct"], dtype="float16", numbers=given).cells.values() if c.status == "skipped"
    ]


def test_a_record_tells_which_numbers_were_given() -> None:
    trial = run(LAYER, ["direct"], budget_s=0.01, blocks=1, numbers={"input": drawn(LAYER)["input"]})
    again = Trial.from_json(trial.to_json())
    assert again.numbers == trial.numbers
    assert list(trial.numbers) == ["input"]
    old = json.loads(trial.to_json())
    del old["numbers"]
    assert Trial.from_json(json.dumps(old)).numbers == {}


WATCHED = """
import hashlib, os
from linear_lasagna import Layer, Problem

CATALOG = {"layer": Problem("any", 1, 2, (5, 5), (Layer(3, 3),))}


def watched(kernel, layer):
    from linear_lasagna.methods.direct import direct

    with open(os.environ["WATCHED"], "a") as seen:
        print(hashlib.sha256(kernel.weight.numpy().tobytes()).hexdigest(), os.getpid(), file=seen)
    return direct.build(kernel, layer)


METHODS = {"watched": watched}
"""


def test_further_processes_compute_on_the_same_numbers(tmp_path: Path, monkeypatch) -> None:
    import hashlib

    (tmp_path / "mine.py").write_text(WATCHED)
    monkeypatch.setenv(own.VARIABLE, str(tmp_path / "mine.py"))
    monkeypatch.setenv("WATCHED", str(tmp_path / "seen"))
    monkeypatch.setattr(catalog, "OWN", own.load())
    monkeypatch.setitem(METHODS, "watched", METHODS["direct"])  # here; the children ask the file
    [problem] = catalog.OWN.problems
    weight = drawn(problem)["0.weight"].to(torch.bfloat16)
    given = {"weight": weight}
    digest = hashlib.sha256(weight.float().numpy().tobytes()).hexdigest()

    def processes() -> set[str]:
        lines = (line.split() for line in (tmp_path / "seen").read_text().splitlines())
        return {process for seen, process in lines if seen == digest}

    trial = run_isolated(problem, ["direct", "watched"], budget_s=0.02, blocks=1, numbers=given)
    assert trial.named("ok") == ["direct", "watched"]
    assert len(processes()) == 1
    [again] = repeat_isolated([("forward", trial)], seed=1, numbers={problem.name: given})
    assert again.samples["watched"]
    assert len(processes()) == 2
    other = {"weight": weight + 1}
    for wrong, said in (({}, "are not given"), ({problem.name: other}, "have changed")):
        with pytest.raises(ValueError, match=f"own/layer: the numbers that it was validated on {said}"):
            list(repeat_isolated([("forward", trial)], seed=1, numbers=wrong))
    assert repeat(FORWARD, trial, 1, lambda *_: None, lambda _: None, numbers.read(given, problem)).samples


def test_bad_numbers_end_a_trial_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="layer: input must have the shape"):
        run_isolated(LAYER, ["direct"], numbers={"input": torch.ones(3)})
    with pytest.raises(ValueError, match="numbers are drawn for the work 'merge'; given ones are for forward trials"):
        run_isolated(STACK, ["direct"], work="merge", numbers={})
