"""A run before and after: both timed together, and the error of each against float64."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from linear_lasagna.devices import device_named, wide
from linear_lasagna.intervals import LEAST_BLOCKS
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models.deciding import Decision, Run
from linear_lasagna.models.inputs import copied, repeated
from linear_lasagna.models.phases import Spread
from linear_lasagna.models.report import Measured
from linear_lasagna.timing import Timing, compare, measure

BUDGET_S = 1.0  # for one run, spent on both and the control, where there are few
ALL_S = 15.0  # for all runs


def inputs_of(model: fx.GraphModule, inputs: Sequence[Any], runs: Sequence[Run]) -> dict[fx.Node, torch.Tensor]:
    """What the runs read when the model computes the example: base -> a copy of its value."""
    capturing = _Capturing(model, {run.chain.base for run in runs})
    with torch.no_grad():
        capturing.run(*copied(inputs))
    return capturing.captured


class _Capturing(fx.Interpreter):
    def __init__(self, model: fx.GraphModule, wanted: set[fx.Node]) -> None:
        super().__init__(model)
        self.wanted, self.captured = wanted, {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.wanted:
            self.captured[n] = value.clone()
        return value


@torch.no_grad()
def measured(
    model: fx.GraphModule,
    decision: Decision,
    x: torch.Tensor,
    dtype: torch.dtype | None = None,
    budget_s: float = BUDGET_S,
) -> Measured:
    """The run as it is in the model, and as it was decided, on x. model: not rewritten yet. dtype: None for x's."""
    before, x = original(model, decision.run, dtype), x.to(dtype or x.dtype)
    after = merged_part(decision)

    timing = timed(before, after, (x,), (x,), budget_s)
    errors = None
    if x.dtype is not torch.float64:
        exact = original(model, decision.run, torch.float64)(wide(x))
        errors = [relative_l2(wide(each(x)) - exact, exact) for each in (before, after)]
    comparison = compare(timing, baseline="before")["after"]
    return Measured(timing.seconds("before"), timing.seconds("after"), comparison, *(errors or (None, None)))


@torch.no_grad()
def timed(
    before: nn.Module,
    after: nn.Module,
    inputs: Sequence[Any],
    others: Sequence[Any],
    budget_s: float,
    least_blocks: int = LEAST_BLOCKS,
) -> Timing:
    """Both modules and, as "control", the first again, timed together. others: what the second is called with."""
    first, second = repeated(before, inputs), repeated(after, others)

    def build(block: int) -> dict[str, Any]:
        x, y = copied((tuple(inputs), tuple(others)))
        return {"before": lambda: first(x), "control": lambda: first(x), "after": lambda: second(y)}

    tensors = (leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor))
    device = next((str(tensor.device) for tensor in tensors), "cpu")
    return measure(build, device=device, budget_s=budget_s, least_blocks=least_blocks)


def merged_part(decision: Decision) -> nn.Module:
    """What the run is merged into, as one module."""
    spread = decision.run.chain.spread
    return nn.Sequential(*decision.modules, *(() if spread is None else (Placed(spread),)))


class Placed(nn.Module):
    """Puts outputs in place."""

    def __init__(self, spread: Spread) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.spread.placed(y)


def original(model: fx.GraphModule, run: Run, dtype: torch.dtype | None = None) -> fx.GraphModule:
    """The run's part of the model as a module of its own, on copies of its modules; in `dtype`, or as it is."""
    module = fx.GraphModule(model, part_of(run))
    if dtype is None:
        return module
    return copy.deepcopy(module).to(device=home(run, dtype), dtype=dtype)


def computed(model: fx.GraphModule, run: Run, x: torch.Tensor) -> torch.Tensor:
    """What the run's part of the model makes of x, in x's dtype; nothing is copied, nor the whole model looked through,
    as torch.fx's interpreter does.
    """
    values: dict[fx.Node, Any] = {}
    call = _Casting(model, home(run, x.dtype), x.dtype)
    for node in part_of(run).nodes:
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)  # type: ignore[misc]
        values[node] = x if node.op == "placeholder" else call(node, args, kwargs)
    return values[node]


def home(run: Run, dtype: torch.dtype) -> str:
    """The device that computes the run in this dtype."""
    return device_named(run.output.meta["tensor"].device).home(dtype)


def part_of(run: Run) -> fx.Graph:
    """The run's part of the graph, of which its base is the input."""
    part, base = fx.Graph(), run.chain.base
    copies = {base: part.placeholder("x")}

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:
            copies[node] = part.node_copy(node, copied)
        return copies[node]

    total = None
    for value, factor in run.terms:
        term = copied(value) if factor == 1 else part.call_function(torch.mul, (copied(value), factor))
        total = term if total is None else part.call_function(torch.add, (total, term))
    part.output(total)
    return part


class _Casting(NamedTuple):
    """Calls what nodes call, with the model's numbers in another dtype, on another device."""

    model: fx.GraphModule
    device: str
    dtype: torch.dtype

    def __call__(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "output":
            return args[0]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if not isinstance(node.target, str):
            return node.target(*args, **kwargs)
        value = operator.attrgetter(node.target)(self.model)
        if node.op == "get_attr":
            return self.cast(value)
        own = {**dict(value.named_parameters()), **dict(value.named_buffers())}
        cast = {name: self.cast(each) for name, each in own.items()}
        as_it_is = all(cast[name] is each for name, each in own.items())
        return value(*args, **kwargs) if as_it_is else functional_call(value, cast, args, kwargs)

    def cast(self, value: Any) -> Any:
        is_number = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(self.device, self.dtype) if is_number else value
