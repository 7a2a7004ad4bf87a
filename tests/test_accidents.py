"""Ordinary stacks: scaling leaves their function as it is, and overflow counts as a change."""

from __future__ import annotations

import pytest
import torch

from analysis.precision.accidents import grid, network, rows, scaled, stack
from analysis.precision.compute import Stamp, Task, compute
from analysis.precision.conditions import pinned
from analysis.precision.experiments import EXPERIMENTS
from analysis.precision.unit import Unit
from linear_lasagna import Kernel


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def row(depth: int, dtype: str, gain: float, kind: str = "random") -> dict:
    units = grid(1, (depth,), (gain,))[0].units("cpu")
    (unit,) = [u for u in units if (u.dtype, u.problem) == (dtype, stack(kind, depth))]
    (found,) = compute(Task(EXPERIMENTS["accidents"], unit, Stamp("m", "code", "version", "torch")))
    return found


def test_a_gain_scales_the_function_and_nothing_else():
    """With biases that are not zero, by a power of two: to the bit."""
    draws = torch.Generator().manual_seed(1)
    found = [Kernel(weight, torch.randn(len(weight), generator=draws)) for weight, _ in network(stack("random", 4), 0)]

    def output(gain: float) -> torch.Tensor:
        y = images(16).double()
        for layer in scaled(found, gain):
            y = torch.nn.functional.conv2d(y, *layer.map(torch.Tensor.double))
        return y

    y, twice, tripled = map(output, (1.0, 2.0, 3.0))
    assert torch.equal(twice, 16 * y)
    assert (tripled - 81 * y).abs().max() < 81 * y.abs().max() * 1e-6  # weights are float32's: 8 roundings


def test_layers_are_orthogonal():
    """So that signals keep their size at any depth: singular values are 1."""
    for weight, bias in network(stack("random", 3), 1):
        assert torch.linalg.svdvals(weight.flatten(1)).tolist() == pytest.approx([1] * len(weight))
        assert not bias.any()


def test_training_finds_a_linear_classifier():
    wrong = row(4, "float32", 1.0, "trained")["wrong"]
    assert wrong < 0.2 < row(4, "float32", 1.0)["wrong"]


def test_float32_hardly_differs_from_float64():
    found = row(4, "float32", 1.0)
    assert (found["status"], found["changed"], found["kind"]) == ("ok", 0, "random")
    assert 0 < found["relative_l2"] < 1e-6
    assert found["wrong"] == found["float64_wrong"]


def test_outputs_that_are_not_finite_are_wrong_and_changed():
    """In float16, 16 layers of gain 8 multiply by 2**48."""
    unit = Unit(stack("random", 16), "float16", "random", 0, gain=8.0)
    with pinned():
        (found,) = rows(unit)
    assert (found["status"], found["wrong"], found["changed"], found["relative_l2"]) == ("overflow", 1, 1, None)
    assert "719 of 719 images" in found["reason"]
    assert found["float64_wrong"] < 0.7


def test_what_underflows_is_no_accident_of_rounding_alone():
    """In float16, 64 layers of gain ¼ leave zeros: all images have the class of the biases, which are zero."""
    unit = Unit(stack("random", 64), "float16", "random", 0, gain=0.25)
    with pinned():
        (found,) = rows(unit)
    assert found["status"] == "ok"
    assert found["changed"] > 0
    assert found["relative_l2"] == pytest.approx(1)
