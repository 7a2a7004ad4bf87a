"""Other runtimes as ways: those that are installed, against the exact result; `make test-runtimes` installs two."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from linear_lasagna import installed, vocabulary
from linear_lasagna.catalog import GROUPS
from linear_lasagna.environment import environment
from linear_lasagna.exact import convolve
from linear_lasagna.formats import unit_roundoff
from linear_lasagna.methods import METHODS, Method, method_named
from linear_lasagna.probes import NO_ORDER
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.runtimes import RUNTIMES, compiled, onnx_runtime, runtime, scipy
from linear_lasagna.runtimes import jax as jax_runtime
from linear_lasagna.trial import Trial, files, run
from linear_lasagna.trial.isolation import WORKS
from linear_lasagna.trial.workload import run as run_workload
from linear_lasagna.validation import check_integers, dense_bound, integer_case
from linear_lasagna.ways import way_named

openvino = import_module("linear_lasagna.runtimes.openvino")  # the package gives the method of that name

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of other libraries
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PROBLEMS = (
    Problem("padded", 2, 6, (7, 9), (Layer(4, 3, padding=1, bias=True),)),
    Problem("strided", 1, 4, (9, 11), (Layer(6, (3, 2), stride=(2, 3), padding=(0, 1), dilation=(1, 2), groups=2),)),
    Problem("depthwise", 1, 5, (6, 6), (Layer(5, 3, padding=1, groups=5, bias=True),)),
    Problem("multiplied", 1, 2, (5, 6), (Layer(6, 2, groups=2),)),
    Problem("line", 2, 3, (14,), (Layer(4, 3, stride=2, dilation=2, padding=1, bias=True),)),
    Problem("volume", 1, 2, (4, 5, 3), (Layer(3, 2, padding=1),)),
)
SMALL = PROBLEMS[0]
QUICK = [name for name in RUNTIMES if not name.startswith("compiled")]  # the others compile for seconds
CASES = [(name, dtype, problem) for name in QUICK for dtype in DTYPES for problem in PROBLEMS]
CASES += [("compiled_unfold_matmul", torch.float32, SMALL)]
# What may round a result to the other neighbour, where hardware has no bfloat16, so that trials fail it.
UNNEAREST = {("openvino", torch.bfloat16), ("tensorflow_patches", torch.bfloat16)}
# What a runtime is said to lack: the file's own reasons.
LACKING = {"onnxruntime": onnx_runtime.LACKING, "openvino": openvino.LACKING, "scipy_correlate": scipy.LACKING}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def needs(name):
    """Skip the test where what the way needs is not installed."""
    reason = RUNTIMES[name].unsupported(SMALL.expanded[0], torch.float32, "cpu")
    if reason:
        pytest.skip(reason)


def able(name, dtype, problem):
    """Skip the test where the way cannot compute the problem, with its reason."""
    needs(name)
    reason = RUNTIMES[name].unsupported(problem.expanded[0], dtype, "cpu")
    if reason:
        pytest.skip(reason)


def identifier(value):
    return str(getattr(value, "name", value)).removeprefix("torch.")


@pytest.mark.parametrize(("name", "dtype", "problem"), CASES, ids=identifier)
def test_a_runtime_computes_the_convolution(name, dtype, problem):
    """Integers exactly, unless it transforms; positive numbers within the bound of a sum in any order."""
    able(name, dtype, problem)
    way = way_named(name)
    case = integer_case(problem, dtype)
    y = way.prepare(problem, case.kernels)(case.x)
    assert (y.dtype, tuple(y.shape)) == (dtype, problem.shapes[-1])
    assert check_integers(case, way, y) == ""
    x, kernels = problem.draw(dtype, signs="positive")
    errors = convolve(x, kernels, problem.layers).error(way.prepare(problem, kernels)(x))
    exact = convolve(x, kernels, problem.layers).to(torch.float64)
    bound = dense_bound(problem, way, dtype, transform=not RUNTIMES[name].exact_on_integers)
    if (name, dtype) in UNNEAREST:
        bound = bound._replace(relative=bound.relative + unit_roundoff(dtype))
    bound.check(errors, exact, "positive numbers")
    assert bool((errors != 0).any())  # it computes in the dtype that it was asked for, and not in a wider one
    # Neither a view nor a strange layout of x makes another result.
    image = x.mT.contiguous().mT if x.ndim == 4 else x.repeat(2, *[1] * (x.ndim - 1))[: len(x)]
    again = way.prepare(problem, kernels)(image)
    assert torch.allclose(again.double(), exact, rtol=1e-2)


@pytest.mark.parametrize("name", QUICK)
def test_results_are_the_callers_own_for_any_form_of_input(name):
    """Of several sizes and batches in turn, each as it is asked alone."""
    able(name, torch.float32, SMALL)
    layer, kernel = SMALL.layers[0], SMALL.draw(torch.float32)[1][0]
    call = METHODS[name].prepare(kernel, layer)
    images = [torch.rand(batch, 6, height, 8) for batch, height in ((1, 5), (3, 6), (1, 5), (2, 5))]
    results = [call(image) for image in images]
    kept = [y.clone() for y in results]
    for image, y, before in zip(images, results, kept, strict=True):
        assert torch.equal(y, before)
        torch.testing.assert_close(y, METHODS["direct"](image, kernel, layer))
    assert len({y.data_ptr() for y in results}) == len(results)


def test_a_stack_is_merged_for_a_runtime():
    needs("scipy_correlate")
    problem = Problem("pair", 1, 3, (8, 8), (Layer(5, 3), Layer(2, 3)))
    trial = run(problem, ("direct", "control", "scipy_correlate", "merged/scipy_correlate"), budget_s=0.01)
    assert trial.named("ok") == list(trial.cells)


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name, lacking in LACKING.items() for dtype in lacking], ids=identifier
)
def test_what_a_runtime_is_said_to_lack_it_lacks(name, dtype):
    """Where a new version has it, the reason must go."""
    needs(name)
    reason = LACKING[name][dtype]
    assert RUNTIMES[name].unsupported(SMALL.expanded[0], dtype, "cpu") == reason
    x, kernels = SMALL.draw(dtype)
    with pytest.raises(NotImplementedError, match=reason.replace("(", r"\(")):
        RUNTIMES[name].prepare(kernels[0], SMALL.layers[0])
    try:
        y = RUNTIMES[name].prepare_expanded(kernels[0], SMALL.expanded[0])(x)
    except Exception:
        return
    bound = dense_bound(SMALL, way_named("direct"), dtype)
    reference = convolve(x.abs(), [kernels[0].map(torch.abs)], SMALL.layers).to(torch.float64)
    errors = convolve(x, kernels, SMALL.layers).error(y)
    with pytest.raises(ArithmeticError):
        bound.check(errors, reference, "numbers")


MEASURE = """
import os
import torch
from linear_lasagna.devices import device_named
from linear_lasagna.methods import METHODS
from linear_lasagna.problems import Layer, Problem
x, (kernel,) = Problem("p", 8, 3, (32, 32), (Layer(16, 3),)).draw(torch.float32)
torch.set_num_threads(2)
call = METHODS["jax_direct"].prepare(kernel, Layer(16, 3))
for _ in range(100):
    call(x)
    assert device_named("cpu").with_peak_bytes(lambda: call(x))[1] is None
os._exit(0)  # how XLA ends its threads is not what is tested
"""


def test_what_python_cannot_trace_is_not_traced():
    """XLA's threads made `tracemalloc` crash the process: its memory is unknown there."""
    needs("jax_direct")
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_float64_changes_nothing_of_jax():
    needs("jax_direct")
    jax = pytest.importorskip("jax")
    METHODS["jax_direct"](*_drawn(torch.float64))
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(2, "float32").dtype == "float32"


def _drawn(dtype):
    x, kernels = SMALL.draw(dtype)
    return x, kernels[0], SMALL.layers[0]


def test_xla_takes_torchs_threads_when_it_starts_and_can_be_held_to_one_later(monkeypatch):
    monkeypatch.setattr(jax_runtime, "_started", lambda: 4)
    assert jax_runtime._options(4) == {}
    assert jax_runtime._options(1) == {"xla_cpu_multi_thread_eigen": False}
    with pytest.raises(RuntimeError, match="XLA has started with 4 threads in this process, and cannot take 2 now"):
        jax_runtime._options(2)


# The registry


def test_runtimes_are_found_by_name_but_not_among_the_methods():
    assert list(RUNTIMES) == list(vocabulary.RUNTIMES) == [method.name for method in RUNTIMES.values()]
    assert not set(RUNTIMES) & set(METHODS)
    for name, method in RUNTIMES.items():
        assert METHODS[name] is method_named(name) is method
    assert list(METHODS) == list(vocabulary.METHODS)
    with pytest.raises(ValueError, match=r"unknown method 'caffe'; known: direct, .*onnxruntime"):
        method_named("caffe")
    with pytest.raises(KeyError):
        METHODS["caffe"]


def test_every_runtime_has_an_extra():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert {installed.needed(name) for name in RUNTIMES} == {*installed.EXTRAS, installed.COMPILER}
    assert set(installed.EXTRAS) <= set(extras)
    for extra in installed.EXTRAS:
        assert extra in extras["runtimes"][0]
    assert installed.needed("merged/jax_direct") == "jax"
    assert installed.needed("unfold_matmul") == installed.needed("merged/direct") == ""


IMPORTS = """
import sys, torch
from linear_lasagna.problems import Layer
from linear_lasagna.runtimes import RUNTIMES
from linear_lasagna.environment import environment
environment()
for method in RUNTIMES.values():
    for dtype in (torch.float16, torch.float32, torch.float64):
        method.unsupported(Layer(2, 3).expand(2), dtype, "cpu")
print(*sorted({"onnxruntime", "onnx", "openvino", "jax", "tensorflow", "scipy"} & set(sys.modules)))
"""


def test_no_runtime_is_imported_before_a_kernel_is_prepared():
    """A process that asks what there is may go on forking."""
    told = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True).stdout
    assert told.split() == []


# Missing and broken ones


@pytest.fixture
def nothing_installed(monkeypatch):
    """A machine without any runtime, and without a compiler."""
    find_spec = importlib.util.find_spec
    modules = {module for extra in installed.EXTRAS.values() for module in extra}
    absent = lambda name, package=None: None if name in modules else find_spec(name, package)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    monkeypatch.setenv("CXX", "no-such-compiler")


def test_a_runtime_that_is_not_installed_is_skipped_with_the_reason(nothing_installed):
    ways = ("direct", "control", *RUNTIMES)
    trial = run(SMALL, ways, budget_s=0.01)
    assert trial.named("ok") == ["direct", "control"]
    assert trial.named("skipped") == list(RUNTIMES)
    reasons = {name: cell.reason for name, cell in trial.cells.items()}
    assert reasons["onnxruntime"] == "onnxruntime is not installed; pip install 'linear-lasagna[onnxruntime]'"
    assert reasons["jax_patches"] == "jax is not installed; pip install 'linear-lasagna[jax]'"
    assert reasons["compiled_direct"] == "torch.compile finds no C++ compiler; install g++, or name one in CXX"


def test_a_runtime_refuses_other_devices_and_ranks(nothing_installed):
    layer = Layer(2, 3)
    assert RUNTIMES["openvino"].unsupported(layer, torch.float32, "cuda") == "OpenVINO computes on the CPU alone here"
    assert "Triton" in str(RUNTIMES["compiled_direct"].unsupported(layer, torch.float32, "cuda")) or (
        importlib.util.find_spec("triton")
    )
    patches = RUNTIMES["tensorflow_patches"].unsupported(layer.expand(3), torch.float32, "cpu")
    assert patches == "tf.image.extract_patches has 2 spatial axes"
    unfold = RUNTIMES["compiled_unfold_matmul"]
    assert unfold.unsupported(layer.expand(3), torch.float32, "cuda") is not None


def _library_that(raises):
    def library(name):
        raise raises

    return library


@pytest.mark.parametrize("module", [onnx_runtime, openvino, scipy], ids=lambda module: module.__name__)
def test_a_runtime_that_is_installed_but_broken_fails_alone(monkeypatch, module):
    monkeypatch.setattr(installed, "missing", lambda extra: None)
    monkeypatch.setattr(runtime, "missing", lambda extra: None)
    monkeypatch.setattr(module, "library", _library_that(ImportError("libruntime.so: cannot open shared object file")))
    name = {onnx_runtime: "onnxruntime", openvino: "openvino", scipy: "scipy_fft"}[module]
    trial = run(SMALL, ("direct", "control", name), budget_s=0.01)
    cell = trial.cells[name]
    assert (cell.status, cell.samples) == ("failed", [])
    assert cell.reason == "ImportError: libruntime.so: cannot open shared object file"
    assert trial.named("ok") == ["direct", "control"]


def narrow(kernel, layer):
    """A runtime that quietly computes in bfloat16, as some do where hardware has it."""
    made = kernel.map(torch.Tensor.bfloat16)
    return lambda x: METHODS["direct"](x.bfloat16(), made, layer).to(x.dtype)


def reused(kernel, layer):
    """A runtime that gives the same memory every time."""
    results = {}

    def call(x):
        y = METHODS["direct"](x, kernel, layer)
        return results.setdefault(y.shape, torch.empty_like(y)).copy_(y)

    return call


@pytest.mark.parametrize(("prepare", "reason"), [(narrow, "bound|integers"), (reused, "changes after the call")])
def test_a_runtime_that_cheats_is_never_timed(monkeypatch, prepare, reason):
    monkeypatch.setitem(RUNTIMES, "openvino", Method("openvino", prepare))
    cell = run(SMALL, ("direct", "control", "openvino"), budget_s=0.01).cells["openvino"]
    assert cell.status == "failed"
    assert cell.samples == []

    assert re.search(reason, cell.reason)


# What is compiled


def test_what_is_compiled_is_kept_for_a_form_and_can_be_made_without_computing():
    made, layer = [], SMALL.expanded[0]

    def make(x):
        made.append(tuple(x.shape))
        return lambda x: METHODS["direct"](x, kernel, layer)

    x, kernels = SMALL.draw(torch.float32)
    kernel, call = kernels[0], runtime.PerForm(layer, make)
    with runtime.compiling_only():
        assert call(x).shape == SMALL.shapes[-1]
    assert made == [(2, 6, 7, 9)]
    assert torch.equal(call(x), METHODS["direct"](x, kernel, layer))
    call(x[:1])
    call(x)
    assert made == [(2, 6, 7, 9), (1, 6, 7, 9)]
    for height in range(3, 20):
        call(torch.rand(1, 6, height, 9))
    assert len(call._calls) <= runtime.MOST_FORMS


def test_one_compilation_serves_every_kernel():
    needs("compiled_unfold_matmul")
    before = compiled._compiled.cache_info().misses
    for seed in range(2):
        x, kernels = SMALL.draw(torch.float32, seed=seed)
        y = METHODS["compiled_unfold_matmul"](x, kernels[0], SMALL.layers[0])
        torch.testing.assert_close(y, METHODS["direct"](x, kernels[0], SMALL.layers[0]))
    assert compiled._compiled.cache_info().misses <= before + 1


# Records


def test_the_environment_tells_the_versions():
    told = environment()["runtimes"]
    assert told["scipy"] == version("scipy")
    for extra, modules in installed.EXTRAS.items():
        if installed.missing(extra) is None:
            assert set(modules) <= set(told)
    assert installed.versions_of(["merged/scipy_fft", "direct"]) == {"scipy": version("scipy")}
    assert installed.versions_of(["direct", "unfold_matmul"]) == {}


def test_a_new_version_is_timed_anew(monkeypatch):
    def digests():
        firsts = {group: GROUPS[group].problems[0].name for group in ("runtimes", "networks")}
        return [files._digest(files.Key(*first, "float32", "cpu")) for first in firsts.items()]

    before = digests()
    monkeypatch.setattr(installed, "versions", lambda: {"onnxruntime": "9.9", "jax": "9.9"})
    after = digests()
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_ways_are_asked_how_they_add_up():
    """SciPy's correlation is a loop over the products of an output, in their order, on any machine."""
    needs("scipy_correlate")
    ways = ("direct", "control", "scipy_correlate", "scipy_fft")
    problem = Problem("asked", 1, 3, (9, 9), (Layer(12, 3, padding=1),))
    trial = run_workload(WORKS["probed"], problem, ways, budget_s=0.01)
    assert trial.named("ok") == list(ways)
    told = {name: cell.accumulation for name, cell in trial.cells.items()}
    assert told["scipy_correlate"]["accumulator"] == "24 bits"
    assert told["scipy_correlate"]["order"] == "one after another"
    assert told["scipy_fft"] == {"order": "none", "note": NO_ORDER}
    assert told["direct"]["order"]
    assert told["control"] == {}
    assert Trial.from_json(trial.to_json()).cells == trial.cells
    trial.cells["direct"].fail("wrong")
    assert trial.cells["direct"].accumulation == {}


def test_a_way_that_cannot_be_asked_fails_nothing(monkeypatch):
    from linear_lasagna.trial import probed

    def raising(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(probed, "accumulation", raising)
    trial = run_workload(WORKS["probed"], SMALL, ("direct", "control", "unfold_matmul"), budget_s=0.01)
    assert trial.named("ok") == ["direct", "control", "unfold_matmul"]
    assert trial.cells["unfold_matmul"].accumulation == {"order": "unknown", "note": "RuntimeError: no memory"}


def test_runtimes_are_timed_and_their_memory_measured_in_children_that_end():
    """Loaded in a fork of a process that has only imported torch."""
    ways = [name for name in ("onnxruntime", "jax_direct", "openvino", "scipy_fft") if not _reason(name)]
    code = CHILD.format(ways=("direct", "control", *ways))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    trial = Trial.from_json(done.stdout)
    assert {name: cell.reason for name, cell in trial.cells.items() if cell.status != "ok"} == {}
    assert trial.environment["runtimes"]["scipy"] == version("scipy")
    if sys.platform == "linux":
        assert all(trial.cells[name].resident_bytes is not None for name in ways)


def _reason(name):
    return RUNTIMES[name].unsupported(SMALL.expanded[0], torch.float32, "cpu")


CHILD = """
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.trial import run_isolated
if __name__ == "__main__":
    problem = Problem("small", 1, 8, (20, 20), (Layer(8, 3, padding=1),))
    print(run_isolated(problem, {ways!r}, budget_s=0.05, blocks=2, start_method="fork").to_json())
"""
