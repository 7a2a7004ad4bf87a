"""A model as a graph, every node with the shape, dtype and device of its value for an example input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate

from linear_lasagna.formats import SIGNIFICAND_BITS, unit_roundoff
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models.operators import CONVOLUTIONS, NORMALISATIONS
from linear_lasagna.models.values import Value, wide


def traced(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    """A copy of the model as a graph; nodes that give a tensor have its `Value` in meta["tensor"].

    Raises ValueError for what cannot be copied, traced, run on the inputs or merged, and where the graph computes
    something else than the model: torch.fx takes x += y for x = x + y, which is not the same where x has two names.
    """
    _check(model)
    if any(tensor.numel() == 0 for tensor in _tensors(inputs)):
        raise ValueError("example_input has an empty tensor; its shapes decide what pays, so give at least one image")
    model = _or_refused("the model cannot be copied", lambda: copy.deepcopy(model))
    graph = _or_refused("torch.fx cannot trace this model", lambda: fx.Tracer().trace(model))
    found = fx.GraphModule(model, graph, type(model).__name__)
    with torch.no_grad():
        expected = _or_refused("the model cannot compute example_input", lambda: model(*_copied(inputs)))
        outputs = _Shapes(found).run(*_copied(inputs))
    if not _alike(outputs, expected):
        raise ValueError("the model computes something else as a torch.fx graph: it overwrites a value, or is random")
    return found


Result = TypeVar("Result")


def _or_refused(refusal: str, call: Callable[[], Result]) -> Result:
    """What the call gives; its error as a ValueError of one line."""
    try:
        return call()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{refusal}: {lines[0]}") from error


class _Shapes(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            n.meta["tensor"] = Value(tuple(value.shape), value.dtype, value.device)
        return value


def _alike(outputs: Any, expected: Any) -> bool:
    """Whether all tensors are equal but for rounding, which a library may do otherwise on a second call."""
    pairs = zip(_tensors(outputs), _tensors(expected), strict=True)
    return not any(relative_l2(wide(a) - wide(b), wide(b)) > unit_roundoff(b.dtype) ** 0.5 for a, b in pairs)


def _tensors(outputs: Any) -> list[torch.Tensor]:
    """The floating-point tensors in tuples, lists and dicts."""
    leaves: list[Any] = []
    map_aggregate(outputs, leaves.append)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dtype in SIGNIFICAND_BITS]


def _copied(inputs: Any) -> Any:
    return map_aggregate(inputs, lambda leaf: leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf)


def _check(model: nn.Module) -> None:
    """Raises ValueError, naming the module, for BatchNorm in training mode and for numbers that are not finite."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"merge_model takes an nn.Module, not a {type(model).__name__}")
    for name, module in model.named_modules():
        if type(module) in NORMALISATIONS and module.training:
            raise ValueError(f"BatchNorm {name!r} is in training mode; call model.eval() before merge_model")
        if type(module) in (*CONVOLUTIONS, *NORMALISATIONS):
            for part, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                if not bool(torch.isfinite(tensor).all()):
                    raise ValueError(f"{name!r} has a {part} with numbers that are not finite")
