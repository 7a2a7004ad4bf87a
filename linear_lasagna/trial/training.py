"""What a training step costs, forward and backward: the stack, or its kernels merged anew in every step.

Gradients of the input and of all kernels: in the merged step they flow through the merge. SESR trains in this way
and calls it collapsing: Bhardwaj et al., arXiv 2103.09404, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch

from linear_lasagna.devices import dtype_named
from linear_lasagna.merging import merged_layer, not_mergeable
from linear_lasagna.problems import ExpandedLayer, Kernel, Problem
from linear_lasagna.rounding import layer_bound, merging_bound
from linear_lasagna.switches import full_precision
from linear_lasagna.trial.record import BASELINE, CONTROL, Trial
from linear_lasagna.trial.running import Draw, Stage, begin, copied, failing, time_together
from linear_lasagna.ways import way_named

MERGED = "merged_per_call"
STEPS: dict[str, str] = {BASELINE: BASELINE, CONTROL: BASELINE, MERGED: "merged_per_call/direct"}


def run_training(
    problem: Problem,
    ways: Sequence[str] = tuple(STEPS),
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    budget_s: float = 1.0,
    seed: int = 0,
    stage: Stage = lambda what, way: None,
) -> Trial:
    """A trial whose ways are one step of the stack ("direct", "control") and one that merges first ("merged_per_call").

    A step is one forward and one backward call for a given gradient of the output. Before it counts, its gradients
    must lie within a bound of the stack's in float64, on positive numbers, where the bound is tight.
    Raises ValueError for unknown names and a budget that is not positive.
    """
    for name in ways:
        check_step(name)

    def unsupported(name: str) -> str | None:
        if problem.depth == 1:
            return "a single layer has nothing to merge"
        return not_mergeable(problem.expanded) if name == MERGED else None

    trial, finish = begin(problem, ways, unsupported, dtype, device, budget_s, seed)
    with full_precision():
        if trial.named("ok"):
            stage("computing the gradients in float64", "")
            _check(trial, stage)
        if trial.named("ok"):
            stage("timing the steps together", "")
            time_together(trial, partial(_calls, trial))
    return finish(trial)


def check_step(name: str) -> None:
    """Raises ValueError for a name that `run_training` does not know."""
    if name not in STEPS:
        raise ValueError(f"unknown way {name!r} of a training step; known: {', '.join(STEPS)}")


def step(name: str, problem: Problem, draw: Draw, upstream: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of sum(upstream * y) in the input, then in every layer's weight and bias. upstream: of y's shape."""
    x, kernels = draw
    leaves = [t.detach().requires_grad_() for t in (x, *(t for kernel in kernels for t in kernel if t is not None))]
    rest = iter(leaves[1:])
    fresh = [Kernel(next(rest), None if kernel.bias is None else next(rest)) for kernel in kernels]
    y = way_named(STEPS[name]).prepare(problem, fresh)(leaves[0])
    return list(torch.autograd.grad(y, leaves, upstream))


def upstream_of(problem: Problem, draw: Draw, seed: int) -> torch.Tensor:
    """The gradient of the output that a step starts from: in [0, 1), of the input's dtype and device."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(problem.shapes[-1], generator=generator, dtype=torch.float64)
    return values.to(draw[0].dtype).to(draw[0].device)


def _check(trial: Trial, stage: Stage) -> None:
    """Fail every step whose gradients miss the bound: all numbers are positive, so that it is relative."""
    problem, dtype = trial.problem, dtype_named(trial.dtype)
    draw = problem.draw(dtype, trial.device, trial.seed, "positive")
    upstream = upstream_of(problem, draw, trial.seed)
    place = "cpu" if trial.device.startswith("mps") else trial.device
    exact = step(BASELINE, problem, _wide(draw, place), upstream.to(place).double())
    for name in trial.named("ok"):
        stage(f"checking the gradients of {name}", name)
        with failing(trial.cells[name]):
            bound = gradient_bound(problem, name, dtype) + 2 * gradient_bound(problem, BASELINE, torch.float64)
            for found, right in zip(step(name, problem, draw, upstream), exact, strict=True):
                error = (found.to(place).double() - right).abs()
                if not bool((error <= bound * right).all()):
                    worst = float((error / right).nan_to_num(nan=math.inf).max())
                    raise ArithmeticError(f"a gradient's relative error is {worst:.3g}, above the bound {bound:.2g}")


def _wide(draw: Draw, place: str) -> Draw:
    x, kernels = draw
    weights = (kernel.weight.to(place).double() for kernel in kernels)
    biases = (None if kernel.bias is None else kernel.bias.to(place).double() for kernel in kernels)
    return x.to(place).double(), tuple(map(Kernel, weights, biases))


def gradient_bound(problem: Problem, name: str, dtype: torch.dtype) -> float:
    """A bound on the relative error of every gradient where all numbers are positive.

    A gradient is a sum of products of what the forward call, the backward call and, merged, the merge and its
    transpose compute, each once: their bounds multiply. Sums over the batch and the positions end every kernel's.
    """
    layers, channels = problem.expanded, problem.in_channels
    log = 0.0
    if name == MERGED:
        log += math.log1p(merging_bound(layers, channels, dtype)) + _transpose_log(problem, dtype)
        layers = (merged_layer(layers),)
    for layer in layers:
        sums = (layer.fan_in(channels) + layer.bias, layer.out_channels // layer.groups * layer.taps)
        log += sum(math.log1p(layer_bound(n, 1 + layer.bias, dtype)) for n in sums)
        channels = layer.out_channels
    positions = problem.batch * max(math.prod(size) for size in problem.sizes[1:])
    return math.expm1(log + math.log1p(layer_bound(positions, 1, dtype)))


def _transpose_log(problem: Problem, dtype: torch.dtype) -> float:
    """The gradient of a merge: in either kernel it sums over the other's channels and taps, whatever the order."""
    whole: ExpandedLayer = merged_layer(problem.expanded)
    widest = max(problem.channels) * whole.taps
    return (problem.depth - 1) * math.log1p(layer_bound(widest + 1, 2, dtype))


def _calls(trial: Trial, draw: Draw, block: int) -> dict[str, Callable[[], object]]:
    fresh = copied(draw, block)
    upstream = upstream_of(trial.problem, fresh, trial.seed)
    return {name: partial(step, name, trial.problem, fresh, upstream) for name in trial.named("ok")}
