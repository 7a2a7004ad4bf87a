"""The names that scripts outside the repository count on, used as they would use them."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import nn

import linear_lasagna

LIGHT = ("catalog", "devices", "environment", "timing", "trial", "vocabulary")


def test_top_level():
    from linear_lasagna import METHODS, SCHEDULES, Kernel, Layer, Problem

    assert "direct" in METHODS
    assert "unfold_matmul" in METHODS
    assert "merged" in SCHEDULES
    assert "stacked" in SCHEDULES
    assert {name for name in linear_lasagna.__all__ if hasattr(linear_lasagna, name)} == set(linear_lasagna.__all__)
    layer = Layer(out_channels=64, kernel_size=3, stride=1, padding=0, dilation=1, groups=1, bias=False)
    problem = Problem("name", batch=8, in_channels=64, size=(56, 56), layers=(layer, Layer((64), (3, 3))))
    assert problem.shapes[-1] == (8, 64, 52, 52)
    assert Kernel(torch.ones(1)).bias is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.stride = 2


def test_unknown_top_level_name():
    with pytest.raises(AttributeError, match="no attribute 'METHODZ'"):
        _ = linear_lasagna.METHODZ


def test_catalogue():
    from linear_lasagna import Problem
    from linear_lasagna.catalog import CATALOG

    assert isinstance(CATALOG, dict)
    assert all(isinstance(name, str) and isinstance(problem, Problem) for name, problem in CATALOG.items())


def small():
    from linear_lasagna.catalog import CATALOG

    return CATALOG["stacks/plain_x2"].reduced()


def test_draw():
    x, kernels = small().draw(dtype=torch.float32, device="cpu", seed=0, signs="random")
    assert tuple(x.shape) == (1, 16, 6, 6)
    assert [tuple(kernel.weight.shape) for kernel in kernels] == [(16, 16, 3, 3)] * 2
    _, bias = kernels[0]
    assert bias is None
    x, _ = small().draw(signs="positive")
    assert x.dtype is torch.float32
    assert bool((x >= 0).all())


def test_methods():
    from linear_lasagna import METHODS

    problem = small()
    x, (kernel, _) = problem.draw()
    layer = problem.layers[0]
    y = METHODS["direct"](x, kernel, layer)
    call = METHODS["unfold_matmul"].prepare(kernel, layer)
    assert call(x).shape == y.shape
    assert METHODS["direct"].unsupported(layer, torch.float32, "cpu") is None
    assert isinstance(METHODS["im2col_numpy"].unsupported(layer, torch.float32, "cuda"), str)


def test_schedules():
    from linear_lasagna import SCHEDULES

    problem = small()
    x, kernels = problem.draw()
    shapes = {
        SCHEDULES["merged"](problem, kernels, method="direct")(x).shape,
        SCHEDULES["stacked"](problem, kernels)(x).shape,
    }
    assert shapes == {torch.Size(problem.shapes[-1])}


def test_merging():
    from linear_lasagna.merging import merge, merge_kernels

    first, second = torch.ones(4, 2, 3, 3), torch.ones(1, 4, 2, 2)
    assert tuple(merge_kernels(first, second).shape) == (1, 2, 4, 4)
    modules = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 1, 2))
    for merged in (merge(modules), merge(list(modules), merge_dtype=torch.float64)):
        assert isinstance(merged, nn.Module)
        assert merged.weight.dtype is torch.float32


def test_exact():
    from linear_lasagna.exact import convolve

    problem = small()
    x, kernels = problem.draw()
    reference = convolve(x, kernels, problem.layers)
    y = reference.to(torch.float32)
    assert reference.error(y).dtype is torch.float64
    assert len(reference.fractions()) == y.numel()


def test_predict_error():
    from linear_lasagna.rounding import predict_error

    problem = small()
    x, kernels = problem.draw(torch.float16)
    assert 0 < predict_error(x, kernels, problem.layers, method="direct") < 1


def test_timing():
    from linear_lasagna.timing import compare, measure

    data = list(range(20))
    timing = measure(lambda block: {"direct": data.copy, "control": data.copy}, device="cpu", budget_s=0.01, seed=0)
    assert isinstance(timing.samples["direct"][0][0], float)
    comparison = compare(timing, baseline="direct", control="control")["control"]
    assert comparison.verdict in ("faster", "slower", "tie", "undecided")
    assert comparison.ratio > 0
    assert hasattr(comparison, "lower")
    assert hasattr(comparison, "upper")


def test_trial():
    from linear_lasagna.trial import Trial, run, run_isolated

    trial = run(
        small(),
        ["direct", "control", "merged/direct"],
        dtype=torch.float32,
        device="cpu",
        budget_s=0.01,
        seed=0,
    )
    assert Trial.from_json(trial.to_json()) == trial
    assert callable(run_isolated)


@pytest.mark.parametrize("module", ["linear_lasagna", *(f"linear_lasagna.{name}" for name in LIGHT)])
def test_light_modules_do_not_import_torch(module):
    """Discovery of benchmarks and reading of records stay quick, and every launch method safe for CUDA."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_typed():
    from importlib.resources import files

    assert files("linear_lasagna").joinpath("py.typed").is_file()
