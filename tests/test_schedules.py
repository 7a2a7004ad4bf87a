"""Schedules: all of them compute the same on whole numbers, and say why where they cannot."""

from dataclasses import replace

import pytest
import torch
from exactly import assert_equals, moved, stack
from hypothesis import given
from strategies import DTYPES, SEEDS, SUMMED, integer_numbers, mergeable_problems, problems

from linear_lasagna import SCHEDULES, Kernel, Layer, Problem
from linear_lasagna.catalog import CATALOG

WHOLLY = ("merged", "merged_working", "merged_per_call")
MERGING = [name for name, schedule in SCHEDULES.items() if schedule.merges]


@given(mergeable_problems(), SEEDS)
def test_merged_equals_stacked_on_integers(device, problem, seed):
    x, kernels = integer_numbers(problem, seed)
    expected = stack(x, kernels, problem.layers)
    there, near = moved(device, x, kernels)
    for schedule in SCHEDULES.keys() - {"planned"}:  # tests/test_planning.py has all cuts that it could choose
        for method in SUMMED:
            if SCHEDULES[schedule].unsupported(problem, method, torch.float64, device) is None:
                y = SCHEDULES[schedule](problem, near, method)(there).cpu()
                assert_equals(y, expected, f"SCHEDULES[{schedule!r}], {method}: {problem!r}, seed {seed}")


@given(problems(), SEEDS)
def test_stacked_on_integers(problem, seed):
    """Stacks that cannot be merged too."""
    x, kernels = integer_numbers(problem, seed)
    y = SCHEDULES["stacked"](problem, kernels)(x)
    assert_equals(y, stack(x, kernels, problem.layers), f"{problem!r}, seed {seed}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SCHEDULES)
def test_dtype_and_shape_are_kept(name, dtype, device):
    problem = CATALOG["stacks/expandnet"].reduced()
    x, kernels = problem.draw(dtype, device)
    y = SCHEDULES[name](problem, kernels)(x)
    assert (y.dtype, tuple(y.shape), y.device) == (dtype, problem.shapes[-1], x.device)


def test_merged_kernel_is_merged_in_float64():
    """In float16 2048 + 1 - 2048 depends on the order and comes out as 0 or 1; merged in float64 it is 1."""
    problem = Problem("cancel", 1, 1, (1,), (Layer(3, 1), Layer(1, 1)))
    first = torch.tensor([[[2048.0]], [[2.0**-3]], [[-2048.0]]], dtype=torch.float16)
    second = torch.tensor([[[8192.0], [8.0], [8192.0]]], dtype=torch.float16)
    x = torch.ones(1, 1, 1, dtype=torch.float16)
    assert SCHEDULES["merged"](problem, (Kernel(first), Kernel(second)))(x).item() == 1.0


def test_working_merge_is_rounded_to_the_working_dtype():
    """After two of three layers the kernel is (1 + 2**-11, 1); float16 makes it (1, 1), and the third takes the
    difference times 2**11.
    """
    problem = Problem("round", 1, 1, (1,), (Layer(2, 1), Layer(2, 1), Layer(1, 1)))
    weights = ([[[1.0]], [[1.0]]], [[[1.0], [2.0**-11]], [[1.0], [0.0]]], [[[2.0**11], [-(2.0**11)]]])
    kernels = tuple(Kernel(torch.tensor(weight, dtype=torch.float16)) for weight in weights)
    x = torch.ones(1, 1, 1, dtype=torch.float16)
    found = {name: SCHEDULES[name](problem, kernels)(x).item() for name in MERGING}
    assert found == {name: float(SCHEDULES[name].merges == "float64") for name in MERGING}


def test_per_call_sees_a_changed_kernel():
    """What a training step changes counts at the next call; a merge done beforehand keeps the old kernel."""
    problem = Problem("train", 1, 1, (1,), (Layer(1, 1), Layer(1, 1)))
    kernels = tuple(Kernel(torch.full((1, 1, 1), 2.0)) for _ in range(2))
    calls = {name: SCHEDULES[name](problem, kernels) for name in MERGING}
    kernels[0].weight.fill_(3.0)
    found = {name: call(torch.ones(1, 1, 1)).item() for name, call in calls.items()}
    assert found == dict.fromkeys(MERGING, 4.0) | {"merged_per_call": 6.0}


def test_layers_are_what_is_computed():
    problem = CATALOG["stacks/sesr_x1"]
    assert SCHEDULES["stacked"].layers(problem) == problem.expanded
    (merged,) = SCHEDULES["merged"].layers(problem)
    assert (merged.kernel_size, merged.out_channels) == ((3, 3), 16)


UNSUPPORTED = [
    (Problem("one", 1, 1, (8, 8), (Layer(2, 3),)), "direct", "single layer"),
    (Problem("padding", 1, 1, (8, 8), (Layer(2, 3, padding=1),) * 2), "direct", "zero padding"),
    (Problem("bias", 1, 1, (8, 8), (Layer(2, 3, padding=2, bias=True),) * 2), "direct", "bias"),
    (Problem("patches", 1, 1, (8, 8), (Layer(2, 3), Layer(2, 3))), "patch_matmul", "kernel size = stride"),
    (Problem("line", 1, 1, (8,), (Layer(2, 3), Layer(2, 3))), "im2col_numpy", "2 spatial axes"),
]


@pytest.mark.parametrize("schedule", WHOLLY)
@pytest.mark.parametrize(("problem", "method", "reason"), UNSUPPORTED, ids=lambda v: getattr(v, "name", None))
def test_unsupported_gives_a_reason(schedule, problem, method, reason):
    found = SCHEDULES[schedule].unsupported(problem, method, torch.float32, "cpu")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found)
    assert "\n" not in found


@pytest.mark.parametrize(("problem", "method", "reason"), UNSUPPORTED[1:3], ids=lambda v: getattr(v, "name", None))
def test_what_cannot_be_merged_can_be_stacked(problem, method, reason):
    assert SCHEDULES["stacked"].unsupported(problem, method, torch.float32, "cpu") is None
    x, kernels = problem.draw()
    assert SCHEDULES["stacked"](problem, kernels)(x).shape == problem.shapes[-1]
    for name in WHOLLY:
        with pytest.raises(ValueError, match=reason):
            SCHEDULES[name](problem, kernels)(x)


def test_stacked_asks_the_method_about_every_layer():
    layers = (Layer(2, 2, stride=2), Layer(2, 3))
    problem = Problem("mixed", 1, 1, (8, 8), layers)
    reason = SCHEDULES["stacked"].unsupported(problem, "patch_matmul", torch.float32, "cpu")
    assert "kernel size = stride" in reason
    with pytest.raises(NotImplementedError, match="kernel size = stride"):
        SCHEDULES["stacked"](problem, problem.draw()[1], "patch_matmul")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_unknown_method(schedule):
    problem = CATALOG["stacks/plain_x2"].reduced()
    with pytest.raises(ValueError, match="unknown method 'winograd'"):
        SCHEDULES[schedule](problem, problem.draw()[1], "winograd")


def test_names():
    assert all(schedule.name == name for name, schedule in SCHEDULES.items())
    assert next(iter(SCHEDULES)) == "stacked"


OVERFLOWING = {
    "merged": Layer(2, 3),
    "merged_working": Layer(2, 3),
    "planned_operations": Layer(2, 3),
    "merged_summed": Layer(2, 3, padding=1),
    "border_exact": Layer(2, 3, padding=1),
}


@pytest.mark.parametrize("name", OVERFLOWING)
@pytest.mark.parametrize("bias", [False, True])
def test_a_merged_kernel_that_overflows_is_refused(name, bias):
    """Each layer's numbers are fit for float16, and so would be its outputs for small inputs."""
    second = OVERFLOWING[name]
    problem = Problem("large", 1, 2, (9, 9), (Layer(64, 1, bias=bias), replace(second, bias=bias)))
    _, kernels = problem.draw(torch.float16, seed=1)
    large = [Kernel(k.weight if bias else 500 * k.weight, 40000 * k.bias if bias else None) for k in kernels]
    if bias:
        large[1] = Kernel(100 * large[1].weight, large[1].bias)
    with pytest.raises(OverflowError, match=f"^a merged {'bias' if bias else 'weight'} is not finite in float16"):
        SCHEDULES[name](problem, large)


def test_a_border_kernel_that_overflows_is_refused():
    """What goes left and right again is taken away again, but not at the end, where the way back is cut off."""
    size = torch.tensor(300.0)
    first = torch.zeros(2, 1, 3).index_put((torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([2, 1])), size)
    second = torch.zeros(1, 2, 3).index_put((torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0, 1])), size)
    kernels = (Kernel(first.half()), Kernel((second * torch.tensor([1.0, -1.0])[:, None]).half()))
    problem = Problem("cut off", 1, 1, (20,), (Layer(2, 3, padding=1), Layer(1, 3, padding=1)))
    assert not SCHEDULES["merged_summed"](problem, kernels)(torch.ones(1, 1, 20).half()).any()
    with pytest.raises(OverflowError, match="a merged weight is not finite in float16"):
        SCHEDULES["border_exact"](problem, kernels)
