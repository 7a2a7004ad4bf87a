"""Training steps: gradients are exact on integers, a wrong one fails, what is right is timed."""

import pytest
import torch
from children import START
from hypothesis import given
from strategies import SEEDS, integer_numbers, integers, mergeable_problems

import linear_lasagna.schedules as schedules_module
from linear_lasagna import SCHEDULES, Kernel, Layer, Problem
from linear_lasagna.catalog import CATALOG
from linear_lasagna.trial import run_isolated
from linear_lasagna.trial.training import STEPS, TRAINING_STEP, gradient_bound, step
from linear_lasagna.trial.workload import run

STACK = Problem("stack", 2, 4, (9, 9), (Layer(8, 3), Layer(4, 3, bias=True), Layer(4, 1)))
BUDGET_S = 0.01


def flat(x, kernels):
    return [x, *(t for kernel in kernels for t in kernel if t is not None)]


def refilled(tensors, kernels):
    """The kernels with other numbers, in the order of `flat`."""
    rest = iter(tensors)
    return tuple(Kernel(next(rest), None if kernel.bias is None else next(rest)) for kernel in kernels)


@given(mergeable_problems(ranks=(1, 2), depths=(2, 3)), SEEDS)
def test_gradients_are_exact_on_integers(problem, seed):
    """A stack is affine in each of its tensors: moving one by d changes sum(u * y) by exactly <gradient, d>."""
    x, kernels = integer_numbers(problem, seed)
    upstream = integers(problem.shapes[-1], 2, seed + 100)
    tensors = flat(x, kernels)
    gradients = {name: step(name, problem, (x, kernels), upstream) for name in STEPS}

    def value(tensors):
        return float((upstream * SCHEDULES["stacked"](problem, refilled(tensors[1:], kernels))(tensors[0])).sum())

    for index, tensor in enumerate(tensors):
        move = integers(tuple(tensor.shape), 2, seed + index)
        moved = [t + move if i == index else t for i, t in enumerate(tensors)]
        change = value(moved) - value(tensors)
        for name, found in gradients.items():
            assert float((found[index] * move).sum()) == change, f"{name}, tensor {index}: {problem!r}, seed {seed}"


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_steps_are_checked_and_timed(dtype):
    trial = run(TRAINING_STEP, STACK, list(STEPS), dtype=dtype, budget_s=BUDGET_S)
    assert trial.named("ok") == list(STEPS), {name: cell.reason for name, cell in trial.cells.items()}
    for cell in trial.cells.values():
        assert cell.samples
        assert all(seconds > 0 for block in cell.samples for seconds in block)


def test_the_bound_is_no_empty_promise():
    """It must catch a relative error of 1 %, and grow from float64 to bfloat16."""
    bounds = [gradient_bound(STACK, "merged_per_call", d) for d in (torch.float64, torch.float32, torch.bfloat16)]
    assert bounds == sorted(bounds)
    assert bounds[0] < 1e-12
    assert bounds[1] < 1e-3
    assert gradient_bound(STACK, "direct", torch.float32) < bounds[1]


def scaled(kernels, *arguments):
    """The merge of kernels one of which is 1 % too large."""
    first, *others = kernels
    return REAL([Kernel(1.01 * first.weight, first.bias), *others], *arguments)


def detached(kernels, *arguments):
    """A merge that hands no gradient on to the first kernel but a wrong one."""
    first, *others = kernels
    return REAL([Kernel(2 * first.weight - first.weight.detach(), first.bias), *others], *arguments)


REAL = schedules_module.merge_stack


@pytest.mark.parametrize("wrong", [scaled, detached])
def test_a_wrong_gradient_is_a_failed_cell(wrong, monkeypatch):
    monkeypatch.setattr(schedules_module, "merge_stack", wrong)
    trial = run(TRAINING_STEP, STACK, list(STEPS), budget_s=BUDGET_S)
    assert trial.named("ok") == ["direct", "control"]
    assert trial.cells["merged_per_call"].status == "failed"
    assert "above the bound" in trial.cells["merged_per_call"].reason
    assert trial.cells["merged_per_call"].samples == []


@pytest.mark.parametrize(
    ("problem", "skipped", "reason"),
    [
        (Problem("one", 1, 1, (8, 8), (Layer(2, 3),)), ["merged_per_call"], "single layer"),
        (Problem("padded", 1, 1, (8, 8), (Layer(2, 3, padding=1),) * 2), ["merged_per_call"], "zero padding"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_cannot_be_merged_is_skipped(problem, skipped, reason):
    trial = run(TRAINING_STEP, problem, list(STEPS), budget_s=BUDGET_S)
    assert trial.named("skipped") == skipped
    assert all(reason in trial.cells[name].reason for name in skipped)


def test_unknown_ways_are_named():
    with pytest.raises(ValueError, match="unknown schedule 'melted' in way 'melted/direct'; known: stacked, merged"):
        run_isolated(STACK, ["melted/direct"], work="training_step")
    with pytest.raises(ValueError, match="budget_s must be positive"):
        run(TRAINING_STEP, STACK, list(STEPS), budget_s=0)


def test_a_child_runs_training_steps():
    settings = {"budget_s": BUDGET_S, "work": "training_step", "start_method": START}
    trial = run_isolated(CATALOG["stacks/plain_x2"].reduced(), list(STEPS), **settings)
    assert trial.named("ok") == list(STEPS)
