"""What every merged run is known to lose: on the example, before and after, and at most, by its certificate.

On the example the first image counts, and of a large one the middle; its float64 values are the truth.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from linear_lasagna.devices import wide
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.certifying import Part, certified
from linear_lasagna.merging.chain import Link
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models.deciding import Decision, Run
from linear_lasagna.models.finding import size_of
from linear_lasagna.models.measuring import computed
from linear_lasagna.models.report import Errors
from linear_lasagna.models.steps import Step
from linear_lasagna.rounding.certificate import Certificate
from linear_lasagna.rounding.offsets import Spread, spread_of
from linear_lasagna.switches import operands_rounded

FEW = 64  # outputs, from which nothing could be told of what they vary by: images like the example are made
SIDE = 32  # positions per axis of the input that are looked at, or as many as half of them outputs need


class Certainty(NamedTuple):
    """Of one run; None for what cannot be told. coarse: why its operands may be rounded first, None where they are not:
    then nothing is guaranteed.
    """

    errors: Errors | None
    certificate: Certificate | None
    coarse: str | None


def certainties(
    model: fx.GraphModule, decisions: Sequence[Decision], inputs: Sequence[Any], dtype: torch.dtype | None = None
) -> dict[Run, Certainty]:
    """Errors and certificates of the decisions that were not left.

    model: not rewritten yet. dtype: in which it is to compute, None for its own.
    """
    changed = [each for each in decisions if each.left is None]
    looking = _Looking(model, [each.run for each in changed])
    with torch.no_grad():
        looking.run(*inputs)
        return {each.run: _certainty(model, each, looking.seen[each.run], dtype) for each in changed}


class _Seen(NamedTuple):
    """part: of what a run reads in the example, (1, channels, *size); largest: number of all of it; spread: of all."""

    part: torch.Tensor
    largest: float
    spread: Spread


class _Looking(fx.Interpreter):
    def __init__(self, model: fx.GraphModule, runs: Sequence[Run]) -> None:
        super().__init__(model)
        self.runs, self.seen = runs, dict[Run, _Seen]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        for run in self.runs:
            if run.chain.base is n:
                part = middle(value[:1], size_of(run.output)).clone()
                self.seen[run] = _Seen(part, float(value.abs().max()), spread_of(value))
        return value


def middle(x: torch.Tensor, outputs: Sequence[int]) -> torch.Tensor:
    """The middle of x (batch, channels, *size), about so much of it as half of `SIDE` outputs need, or `SIDE`."""
    if x.ndim != len(outputs) + 2:
        return x
    for axis, (length, out) in enumerate(zip(x.shape[2:], outputs, strict=True), start=2):
        kept = max(SIDE, length - max(0, out - SIDE // 2) * length // out)
        if kept < length:
            x = x.narrow(axis, (length - kept) // 2, kept)
    return x


def _certainty(model: fx.GraphModule, decision: Decision, seen: _Seen, dtype: torch.dtype | None) -> Certainty:
    x = seen.part.to(dtype or seen.part.dtype)
    errors = None if x.dtype is torch.float64 else errors_of(model, decision, x)
    coarse = rounded_first(x)
    if coarse is not None or not math.isfinite(seen.largest):
        return Certainty(errors, None, coarse)
    parts = [_part(group, module) for group, module in zip(decision.groups, decision.modules, strict=True)]
    return Certainty(errors, certified(parts, seen.largest, seen.spread), None)


def rounded_first(x: torch.Tensor) -> str | None:
    """Why a convolution of x may round its operands first, None where it does not."""
    return operands_rounded(x.device.type) if x.dtype is torch.float32 else None


def _part(group: Sequence[Step], module: nn.Module) -> Part:
    chain = tuple(Link(step.layer, step.layer.padding) for step in group)
    return Part(chain, tuple(step.kernel() for step in group), module)


def errors_of(model: fx.GraphModule, decision: Decision, x: torch.Tensor) -> Errors:
    """The errors of the run as it is in the model, in x's dtype, and as it was decided."""
    exact, *rounded = results = _results(model, decision, x)
    lost = [wide(y) - exact for y in rounded]
    pooled, total = ([_pooled(each) for each in lost], _pooled(exact))
    if exact.numel() < FEW:
        x = _reordered(x, FEW // exact.numel())
        results = _results(model, decision, x)
    rounding = _left_out(results, computed(model, decision.run, _level(x)))
    before, after = (relative_l2(each, exact) for each in lost)
    return Errors(before, after, *(relative_l2(each, total) for each in pooled), rounding=rounding)


class _Results(NamedTuple):
    """What a run gives in float64, and in the dtype of its input: as it is in the model, and as it was decided."""

    exact: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor


def _results(model: fx.GraphModule, decision: Decision, x: torch.Tensor) -> _Results:
    exact, before, after = computed(model, decision.run, wide(x)), computed(model, decision.run, x), x
    for module in decision.modules:
        after = _merging(module, after)(after)
    if decision.run.chain.spread is not None:
        after = decision.run.chain.spread.placed(after)
    return _Results(exact, before, after)


def _left_out(results: _Results, level: torch.Tensor) -> float:
    """The error of the run as it is as a part of what its outputs vary by around the level; 0 if merging leaves it."""
    exact, *rounded = results
    before, after = (float(torch.linalg.vector_norm(wide(y) - exact)) for y in rounded)
    spread = float(torch.linalg.vector_norm(exact - level))
    return before / spread if spread and after < before / 2 else 0.0


def _level(x: torch.Tensor) -> torch.Tensor:
    """An image like x, float64, all of its numbers their mean; 0 where they are all equal."""
    exact = wide(x)
    return torch.full_like(exact, spread_of(exact).mean)


def _reordered(x: torch.Tensor, times: int) -> torch.Tensor:
    """So many images of x's numbers in other orders: x is (1, channels, *size)."""
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(x.numel(), generator=generator).to(x.device) for _ in range(times)]
    return torch.cat([x.flatten()[order].view_as(x) for order in orders])


def _pooled(y: torch.Tensor) -> torch.Tensor:
    """(batch, channels), averaged over all positions."""
    return y.flatten(2).mean(2)


def _merging(module: nn.Module, x: torch.Tensor) -> nn.Module:
    """The module, made to merge on an image of this size, which may be smaller than those for which it pays."""
    if not isinstance(module, BorderExact):
        return module
    module = copy.deepcopy(module)
    module.settle(tuple(x.shape[2:]))
    return module
