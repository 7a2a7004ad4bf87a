"""What a training step costs, forward and backward: the stack, or its kernels merged anew in every step.

A step of another way that computes layer after layer goes through it, forward and backward.

A step is one forward and one backward call for a given gradient of the output. Before it counts, its gradients of the
input and of all kernels must lie within a bound of the stack's in float64, on positive numbers, where the bound is
tight. In the merged step they flow through the merge. SESR trains in this way and calls it collapsing: Bhardwaj et al.,
arXiv 2103.09404, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from linear_lasagna.devices import dtype_named
from linear_lasagna.imposing import arranged, operand_loss
from linear_lasagna.merging import merged_layer, not_mergeable
from linear_lasagna.methods import METHODS
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer, Problem
from linear_lasagna.rounding import SIGNIFICAND_BITS, layer_bound, merging_bound
from linear_lasagna.rounding.bounds import chained
from linear_lasagna.trial.gate import Draw, Form, Sitting, Thunk, flat, refilled
from linear_lasagna.trial.record import Trial
from linear_lasagna.trial.timed import failing
from linear_lasagna.trial.workload import Bench, Workload
from linear_lasagna.validation import at_home
from linear_lasagna.vocabulary import BASELINE, CONTROL, Signs
from linear_lasagna.ways import way_named

MERGED = "merged_per_call"
SINGLE = "a single layer has nothing to merge"
LIBRARY = ("direct", "direct_channels_last")  # whose sums are rounded once
STEPS: dict[str, str] = {BASELINE: BASELINE, CONTROL: BASELINE, MERGED: "merged_per_call/direct"}


def _way(name: str) -> None:
    """Raises ValueError for a name of no way; none of them only computes the stack forward."""
    if name not in STEPS:
        way_named(name)


def _unsupported(problem: Problem, name: str, dtype: torch.dtype, device: str) -> str | None:
    if name == MERGED:
        return SINGLE if problem.depth == 1 else not_mergeable(problem.expanded)
    if name in STEPS:
        return None
    way = way_named(name)
    if way.schedule.name != "stacked":
        return "a training step merges in every call, as merged_per_call of the group training does"
    return _unbounded(way.method, dtype) or way.unsupported(problem, dtype, device)


def _unbounded(method: str, dtype: torch.dtype) -> str | None:
    """Why no bound on the gradients of a step through the method is known, or None."""
    if not (METHODS[method].exact_on_integers and METHODS[method].summed):
        return "no bound on the gradients of a transform is known"
    if SIGNIFICAND_BITS[dtype] < SIGNIFICAND_BITS[torch.float32] and method not in LIBRARY:
        return "no bound on gradients is known whose partial sums are rounded to 16 bits"
    layer, ones = Layer(1, 1), torch.ones(1, 1, 1, 1)
    y = METHODS[method].prepare(Kernel(ones.clone().requires_grad_(), None), layer)(ones)
    return None if y.requires_grad else "torch records nothing of it, and so finds no gradient"


def step(name: str, problem: Problem, draw: Draw, upstream: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of sum(upstream * y) in the input, then in every layer's weight and bias. upstream: of y's shape."""
    leaves = [number.detach().requires_grad_() for number in flat(draw)]
    x, kernels = refilled(leaves, draw[1])
    y = way_named(STEPS.get(name, name)).prepare(problem, kernels)(x)
    return list(torch.autograd.grad(y, leaves, upstream))


def upstream_of(problem: Problem, draw: Draw, seed: int) -> torch.Tensor:
    """The gradient of the output that a step starts from: in [0, 1), of the input's dtype and device."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(problem.shapes[-1], generator=generator, dtype=torch.float64)
    return values.to(draw[0].dtype).to(draw[0].device)


@dataclass(frozen=True)
class _Case:
    """Numbers of one step."""

    problem: Problem
    draw: Draw
    upstream: torch.Tensor

    @classmethod
    def of(cls, trial: Trial, offset: int, signs: Signs) -> _Case:
        """Drawn with the trial's seed and the offset."""
        problem, seed = trial.problem, trial.seed + offset
        draw = problem.draw(dtype_named(trial.dtype), trial.device, seed, signs)
        return cls(problem, draw, upstream_of(problem, draw, seed))

    @cached_property
    def exact(self) -> list[torch.Tensor]:
        """The gradients in float64."""
        return self._wide_step(lambda number: number)

    @cached_property
    def magnitudes(self) -> list[torch.Tensor]:
        """The sums of |a||b| in each."""
        return self._wide_step(torch.abs)

    def _wide_step(self, of: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        x, kernels = _wide(self.draw)
        numbers = refilled([of(number) for number in flat((x, kernels))], kernels)
        return step(BASELINE, self.problem, numbers, self.upstream.to(x.device).double())

    @property
    def numbers(self) -> tuple[torch.Tensor, ...]:
        return (*flat(self.draw), self.upstream)

    def check(self, gradients: Sequence[torch.Tensor], bound: float) -> None:
        """Raise ArithmeticError where a gradient misses the bound on its error relative to its magnitude."""
        for gradient, right, size in zip(gradients, self.exact, self.magnitudes, strict=True):
            error = (gradient.to(right.device).double() - right).abs()
            if not bool((error <= bound * size).all()):
                worst = float((error / size).nan_to_num(nan=math.inf).max())
                raise ArithmeticError(f"a gradient's relative error is {worst:.3g}, above the bound {bound:.2g}")


def _sitting(trial: Trial, name: str, case: _Case, number: int = 0) -> Sitting:
    """A step, prepared for copies of the case's numbers."""

    def prepare(own: tuple[torch.Tensor, ...]) -> Thunk:
        *numbers, upstream = own
        return partial(step, name, trial.problem, refilled(numbers, case.draw[1]), upstream)

    return Sitting(arranged(case.numbers, trial.under), prepare, number)


def _ask(trial: Trial, name: str, sitting: Sitting, cases: Sequence[_Case]) -> None:
    """Raise ArithmeticError where a step misses its bound on one of the cases, each in the other's place in memory."""
    bound = gradient_bound(trial.problem, name, dtype_named(trial.dtype))
    # Forward and backward have operands that may be rounded.
    bound = chained([bound, operand_loss(trial.under, 2 * trial.problem.depth)])
    bound += 2 * gradient_bound(trial.problem, BASELINE, torch.float64)
    for case in cases:
        sitting.pose(case.numbers)
        forms = [Form("gradient", tuple(n.shape), n.dtype, n.device, anyhow=True) for n in flat(case.draw)]
        case.check(sitting.ask(forms), bound)
    sitting.settle()


def _check(bench: Bench) -> None:
    """Fail every step whose gradients miss the bound: all numbers are positive, so that it is relative."""
    trial = bench.trial
    bench.stage("computing the gradients in float64", "")
    cases = [_Case.of(trial, offset, "positive") for offset in range(2)]
    for case in cases:
        _ = case.exact, case.magnitudes
    for name in trial.named("ok"):
        bench.stage(f"checking the gradients of {name}", name)
        with failing(trial.cells[name]):
            _ask(trial, name, _sitting(trial, name, cases[0]), cases)


class _Gate:
    """The steps; they are checked on the timed numbers and on others in their place."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.cases = bench, [_Case.of(bench.trial, offset, "random") for offset in range(2)]

    def learn(self) -> None:
        for case in self.cases:
            _ = case.exact, case.magnitudes

    def build(self, step: int, name: str) -> Sitting:
        return _sitting(self.bench.trial, name, self.cases[0], step)

    def after(self, name: str, sitting: Sitting) -> None:
        self.bench.stage(f"checking the gradients of {name} after timing", name)
        sitting.check()
        _ask(self.bench.trial, name, sitting, self.cases)


def _wide(draw: Draw) -> Draw:
    """In float64, where there is one."""
    home = at_home(draw)
    return refilled([number.double() for number in flat(home)], home[1])


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


TRAINING_STEP = Workload(_way, _unsupported, _check, _Gate, gradients=True)
