"""What every merged run is known to lose: on the example, before and after, and at most, by its certificate.

On the example the first image counts, and of a large one the middle; its float64 values are the truth.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
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
from linear_lasagna.models.inputs import copied
from linear_lasagna.models.measuring import computed
from linear_lasagna.models.predicting import Range, predicted_error, rounded_first
from linear_lasagna.models.report import Errors
from linear_lasagna.models.steps import Step
from linear_lasagna.rounding.certificate import Certificate
from linear_lasagna.rounding.offsets import spread_of

FEW = 64  # outputs, from which nothing could be told of what they vary by: images like the example are made
SIDE = 32  # positions per axis of the input that are looked at, or as many as half of them outputs need


class Certainty(NamedTuple):
    """Of one run; None for what cannot be told. coarse: why its operands may be rounded first, None where they are not:
    then nothing is guaranteed, or predicted.
    """

    errors: Errors | None
    certificate: Certificate | None
    predicted: Range | None
    coarse: str | None


def certainties(
    model: fx.GraphModule, decisions: Sequence[Decision], inputs: Sequence[Any], dtype: torch.dtype | None = None
) -> dict[Run, Certainty]:
    """Errors, predicted ones and certificates of the decisions that were not left.

    model: not rewritten yet. dtype: in which it is to compute, None for its own.
    """
    changed: dict[fx.Node, list[Decision]] = {}
    for each in decisions:
        if each.left is None:
            changed.setdefault(each.run.chain.base, []).append(each)
    if not changed:
        return {}
    looking = _Looking(model, changed, dtype)
    with torch.no_grad():
        looking.run(*copied(inputs))
    return {each.run: looking.found[each.run] for each in decisions if each.left is None}


class _Looking(fx.Interpreter):
    """Computes the model, and of every value what is known of the runs that start from it."""

    def __init__(
        self, model: fx.GraphModule, changed: Mapping[fx.Node, Sequence[Decision]], dtype: torch.dtype | None
    ) -> None:
        super().__init__(model)
        self.given, self.changed, self.dtype = model, changed, dtype
        self.found: dict[Run, Certainty] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        for each in self.changed.get(n, ()):
            self.found[each.run] = _certainty(self.given, each, value, self.dtype)
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


def _certainty(model: fx.GraphModule, decision: Decision, value: torch.Tensor, dtype: torch.dtype | None) -> Certainty:
    """value: what the run reads in the example, (batch, channels, *size)."""
    whole, largest = value[:1].to(dtype or value.dtype), float(value.abs().max())
    groups = zip(decision.groups, decision.modules, strict=True)
    parts = [_part(group, _in_dtype(module, dtype)) for group, module in groups]
    x = middle(whole, size_of(decision.run.output))
    errors = None if x.dtype is torch.float64 else errors_of(model, decision.run, [part.module for part in parts], x)
    predicted, coarse = predicted_error(whole, parts), rounded_first(x)
    if coarse is not None or not math.isfinite(largest):
        return Certainty(errors, None, predicted, coarse)
    return Certainty(errors, certified(parts, largest, spread_of(value)), predicted, None)


def _in_dtype(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """The module; a copy where it is one of the model's own, which are still in another dtype."""
    as_it_is = dtype is None or all(each.dtype is dtype for each in module.parameters())
    return module if as_it_is else copy.deepcopy(module).to(dtype)


def _part(group: Sequence[Step], module: nn.Module) -> Part:
    chain = tuple(Link(step.layer, step.layer.padding) for step in group)
    return Part(chain, tuple(step.kernel() for step in group), module)


def errors_of(model: fx.GraphModule, run: Run, modules: Sequence[nn.Module], x: torch.Tensor) -> Errors:
    """The errors of the run as it is in the model, in x's dtype, and as the modules compute it in turn."""
    exact, *rounded = results = _results(model, run, modules, x)
    lost = [wide(y) - exact for y in rounded]
    pooled, total = ([_pooled(each) for each in lost], _pooled(exact))
    if exact.numel() < FEW:
        x = _reordered(x, FEW // exact.numel())
        results = _results(model, run, modules, x)
    rounding = _left_out(results, lambda: computed(model, run, _level(x)))
    before, after = (relative_l2(each, exact) for each in lost)
    return Errors(before, after, *(relative_l2(each, total) for each in pooled), rounding=rounding)


class _Results(NamedTuple):
    """What a run gives in float64, and in the dtype of its input: as it is in the model, and as it was decided."""

    exact: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor


def _results(model: fx.GraphModule, run: Run, modules: Sequence[nn.Module], x: torch.Tensor) -> _Results:
    exact, before, after = computed(model, run, wide(x)), computed(model, run, x), x
    for module in modules:
        after = _merging(module, after)(after)
    if run.chain.spread is not None:
        after = run.chain.spread.placed(after)
    return _Results(exact, before, after)


def _left_out(results: _Results, level: Callable[[], torch.Tensor]) -> float:
    """The error of the run as it is as a part of what its outputs vary by around the level; 0 if merging leaves it."""
    exact, *rounded = results
    before, after = (float(torch.linalg.vector_norm(wide(y) - exact)) for y in rounded)
    if not after < before / 2:
        return 0.0
    spread = float(torch.linalg.vector_norm(exact - level()))
    return before / spread if spread else 0.0


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
