"""What merging a stack's kernels costs, beside one forward call of the stack itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from linear_lasagna.devices import device_named, dtype_named
from linear_lasagna.merging import merge_stack, merged_layer, not_mergeable
from linear_lasagna.methods.direct import direct
from linear_lasagna.problems import Kernel, Problem
from linear_lasagna.rounding import layer_bound, merging_bound, unit_roundoff
from linear_lasagna.rounding.bounds import chained
from linear_lasagna.switches import full_precision
from linear_lasagna.trial.gate import Draw, Form, Sitting, Thunk, flat, refilled
from linear_lasagna.trial.record import Trial
from linear_lasagna.trial.running import Bench, ForwardGate, begin, check_forward
from linear_lasagna.trial.timed import Stage, Turn, failing, time_together
from linear_lasagna.validation import Bound, Known, at_home, integer_case, way_bound
from linear_lasagna.vocabulary import BASELINE, CONTROL
from linear_lasagna.ways import way_named

MERGES: dict[str, torch.dtype | None] = {"merge_float64": torch.float64, "merge_working": None}
WAYS = (BASELINE, CONTROL, *MERGES)


def run_merging(
    problem: Problem,
    ways: Sequence[str] = WAYS,
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    budget_s: float = 1.0,
    seed: int = 0,
    stage: Stage = lambda what, way: None,
    turn: Turn = lambda name: None,
) -> Trial:
    """A trial whose ways are one call of the stack ("direct", "control") and one merge of all its kernels, in float64
    or in the working dtype, timed together. The merged kernels must be exact on small integers before they count,
    and right on what was timed. Raises ValueError for unknown names and a budget that is not positive.
    """
    for name in ways:
        check_way(name)

    def unsupported(name: str) -> str | None:
        if name in MERGES and problem.depth == 1:
            return "a single layer has nothing to merge"
        lacks = device_named(device).lacks(MERGES.get(name) or dtype)
        return lacks or (not_mergeable(problem.expanded) if name in MERGES else None)

    trial, finish = begin(problem, ways, unsupported, dtype, device, budget_s, seed)
    forward = {name: way_named(name) for name in ways if name not in MERGES}
    with torch.no_grad(), full_precision():
        bench = Bench(trial, forward, dtype_named(dtype), stage)
        check_forward(bench)
        _check_integers(bench)
        if trial.named("ok"):
            _time(bench, turn)
    return finish(trial)


def check_way(name: str) -> None:
    """Raises ValueError for a name that `run_merging` does not know."""
    if name not in WAYS:
        raise ValueError(f"unknown way {name!r} of merging; known: {', '.join(WAYS)}")


def _sitting(bench: Bench, name: str, draw: Draw, step: int = 0) -> Sitting:
    """A merge, prepared for copies of these kernels."""

    def prepare(own: tuple[torch.Tensor, ...]) -> Thunk:
        _, kernels = refilled(own, draw[1])
        return partial(merge_stack, kernels, bench.trial.problem.expanded, MERGES[name])

    return Sitting(flat(draw), prepare, step)


def _applied(bench: Bench, sitting: Sitting, x: torch.Tensor) -> torch.Tensor:
    """What the merged kernel makes of x, in float64."""
    problem = bench.trial.problem
    layer = merged_layer(problem.expanded)
    shapes = (layer.weight_shape(problem.in_channels), (layer.out_channels,))
    forms = [Form("merged kernel", shape, bench.dtype, bench.form.device) for shape in shapes[: 1 + layer.bias]]

    def numbers(call: Thunk) -> list[torch.Tensor]:
        kernel, found = call()
        if found != layer:
            raise ArithmeticError(f"merges into {found} instead of {layer}")
        return [number for number in kernel if number is not None]

    home = at_home((x, (Kernel(*sitting.ask(forms, numbers)),)))
    wide, (kernel,) = refilled([number.double() for number in flat(home)], home[1])
    return direct(wide, kernel, layer)


def _check_integers(bench: Bench) -> None:
    """Merged kernels must be exact on small integers, and on others in their place."""
    trial = bench.trial
    names = [name for name in trial.named("ok") if name in MERGES]
    if not names:
        return
    bench.stage("drawing integers", "")
    cases = [integer_case(trial.problem, bench.dtype, trial.device, trial.seed + offset) for offset in range(2)]
    for name in names:
        bench.stage(f"checking {name} on integers", name)
        with failing(trial.cells[name]):
            sitting = _sitting(bench, name, (cases[0].x, cases[0].kernels))
            for case in cases:
                sitting.pose(flat((case.x, case.kernels)))
                wrong = int((_applied(bench, sitting, case.x) != case.expected).sum())
                if wrong:
                    raise ArithmeticError(
                        f"{wrong} of {case.expected.numel()} outputs of its kernel are wrong on integers"
                    )
            sitting.settle()


def _time(bench: Bench, turn: Turn) -> None:
    """Time the merges and the stack; then check what was timed, on the timed kernels and on others in their place."""
    gate, problem = ForwardGate(bench), bench.trial.problem
    draws = [gate.draw, bench.draw(1)]
    known = [Known.of(problem, *draw) for draw in draws]

    def build(step: int, name: str) -> Sitting:
        return _sitting(bench, name, gate.draw, step) if name in MERGES else gate.build(step, name)

    def after(name: str, sitting: Sitting) -> None:
        if name not in MERGES:
            return gate.after(name, sitting)
        bench.stage(f"checking {name} after timing", name)
        sitting.check()
        bound = _bound(problem, name, bench.dtype)
        for draw, right in zip(draws, known, strict=True):
            sitting.pose(flat(draw))
            right.check(way_named(BASELINE), _applied(bench, sitting, draw[0]), bound, "kernels of both signs")
        return sitting.settle()

    time_together(bench.trial, build, after, bench.stage, turn)


def _bound(problem: Problem, name: str, dtype: torch.dtype) -> Bound:
    """Of what a merged kernel, rounded to storage, gives in float64."""
    layer = merged_layer(problem.expanded)
    merging = merging_bound(problem.expanded, problem.in_channels, MERGES[name] or dtype)
    applying = layer_bound(layer.fan_in(problem.in_channels) + layer.bias, 1, torch.float64)
    _, underflow = way_bound(problem, way_named("merged/direct"), dtype)
    return Bound(chained([merging, unit_roundoff(dtype), applying]), underflow)
