"""What merging a stack's kernels costs, beside one forward call of the stack itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from linear_lasagna.devices import device_named
from linear_lasagna.imposing import arranged, operand_bits, operand_loss
from linear_lasagna.merging import merge_stack, merged_layer, not_mergeable
from linear_lasagna.methods.direct import direct
from linear_lasagna.problems import Kernel, Problem
from linear_lasagna.rounding import layer_bound, merging_bound, unit_roundoff
from linear_lasagna.rounding.bounds import chained
from linear_lasagna.trial import forward
from linear_lasagna.trial.forward import ForwardGate
from linear_lasagna.trial.gate import Draw, Form, Sitting, Thunk, flat, refilled
from linear_lasagna.trial.timed import failing
from linear_lasagna.trial.workload import Bench, Workload, smaller
from linear_lasagna.validation import Bound, Known, at_home, integer_case, way_bound
from linear_lasagna.vocabulary import BASELINE, CONTROL
from linear_lasagna.ways import Way, way_named

MERGES: dict[str, torch.dtype | None] = {"merge_float64": torch.float64, "merge_working": None}
WAYS = (BASELINE, CONTROL, *MERGES)


def _way(name: str) -> Way | None:
    """None for a merge. Raises ValueError for a name that is neither one nor the baseline."""
    if name not in WAYS:
        raise ValueError(f"unknown way {name!r} of merging; known: {', '.join(WAYS)}")
    return None if name in MERGES else way_named(name)


def _unsupported(problem: Problem, name: str, dtype: torch.dtype, device: str) -> str | None:
    if name not in MERGES:
        return None
    if problem.depth == 1:
        return "a single layer has nothing to merge"
    return device_named(device).lacks(MERGES[name] or dtype) or not_mergeable(problem.expanded)


def _check(bench: Bench) -> None:
    """What is wrong before it is timed: a call of the stack, or a merge on integers."""
    forward.check(bench)
    _check_integers(bench)


def _sitting(bench: Bench, name: str, draw: Draw, step: int = 0) -> Sitting:
    """A merge, prepared for copies of these kernels."""

    def prepare(own: tuple[torch.Tensor, ...]) -> Thunk:
        _, kernels = refilled(own, draw[1])
        return partial(merge_stack, kernels, bench.trial.problem.expanded, MERGES[name])

    return Sitting(arranged(flat(draw), bench.trial.under), prepare, step)


def _applied(bench: Bench, sitting: Sitting, x: torch.Tensor) -> torch.Tensor:
    """What the merged kernel makes of x, in float64."""
    problem = bench.trial.problem
    layer = merged_layer(problem.expanded)
    shapes = (layer.weight_shape(problem.in_channels), (layer.out_channels,))
    forms = [Form("merged kernel", shape, bench.dtype, bench.form.device) for shape in shapes[: 1 + layer.bias]]

    def numbers(call: Thunk) -> list[torch.Tensor]:
        kernel, merged = call()
        if merged != layer:
            raise ArithmeticError(f"merges into {merged} instead of {layer}")
        return [number for number in kernel if number is not None]

    home = at_home((x, (Kernel(*sitting.ask(forms, numbers)),)))
    wide, (kernel,) = refilled([number.double() for number in flat(home)], home[1])
    return direct(wide, kernel, layer)


def _small(bench: Bench) -> Bench:
    """On the smallest image: a merged kernel is right, or wrong, on any."""
    return replace(bench, trial=replace(bench.trial, problem=smaller(bench.trial.problem, macs=1.0)))


def _check_integers(bench: Bench) -> None:
    """Merged kernels must be exact on small integers, and on others in their place."""
    trial = _small(bench).trial
    names = [name for name in trial.named("ok") if name in MERGES]
    if not names:
        return
    bench.stage("drawing integers", "")
    drawn = partial(integer_case, trial.problem, bench.dtype, trial.device, bits=operand_bits(trial.under))
    cases = [drawn(seed=trial.seed + offset) for offset in range(2)]
    for name in names:
        bench.stage(f"checking {name} on integers", name)
        with failing(bench.trial.cells[name]):
            sitting = _sitting(bench, name, (cases[0].x, cases[0].kernels))
            for case in cases:
                sitting.pose(flat((case.x, case.kernels)))
                wrong = int((_applied(bench, sitting, case.x) != case.expected).sum())
                if wrong:
                    raise ArithmeticError(
                        f"{wrong} of {case.expected.numel()} outputs of its kernel are wrong on integers"
                    )
            sitting.settle()


class _Gate(ForwardGate):
    """The merges beside the stack; they are checked on the timed kernels and on others in their place."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.small = _small(bench)
        self.draws = [self.small.draw(), self.small.draw(1)]

    def learn(self) -> None:
        super().learn()
        self.kernels_known = [Known.of(self.small.trial.problem, *draw) for draw in self.draws]

    def build(self, step: int, name: str) -> Sitting:
        return _sitting(self.bench, name, self.draws[0], step) if name in MERGES else super().build(step, name)

    def after(self, name: str, sitting: Sitting) -> None:
        if name not in MERGES:
            return super().after(name, sitting)
        bench = self.bench
        bench.stage(f"checking {name} after timing", name)
        sitting.check()
        loss = operand_loss(bench.trial.under, bench.trial.problem.depth)
        bound = _bound(bench.trial.problem, name, bench.dtype, loss)
        for draw, right in zip(self.draws, self.kernels_known, strict=True):
            sitting.pose(flat(draw))
            right.check(way_named(BASELINE), _applied(bench, sitting, draw[0]), bound, "kernels of both signs")
        return sitting.settle()


def _bound(problem: Problem, name: str, dtype: torch.dtype, loss: float) -> Bound:
    """Of what a merged kernel, rounded to storage, gives in float64. loss: by rounding operands of the merges."""
    layer = merged_layer(problem.expanded)
    merging = merging_bound(problem.expanded, problem.in_channels, MERGES[name] or dtype)
    applying = layer_bound(layer.fan_in(problem.in_channels) + layer.bias, 1, torch.float64)
    _, underflow = way_bound(problem, way_named("merged/direct"), dtype)
    return Bound(chained([merging, loss, unit_roundoff(dtype), applying]), underflow)


MERGE = Workload(_way, _unsupported, _check, _Gate)
