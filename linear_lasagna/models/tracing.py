"""A model as a graph, every node with the shape, dtype and device of its value for an example input."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from linear_lasagna.models.operators import CONVOLUTIONS, NORMALISATIONS


class Value(NamedTuple):
    """What is known of a node's value, a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def ndim(self) -> int:
        return len(self.shape)


def traced(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    """A copy of the model as a graph; nodes that give a tensor have its `Value` in meta["tensor"].

    Raises ValueError for what cannot be traced, run on the inputs or merged.
    """
    _check(model)
    model = copy.deepcopy(model)
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:
        raise ValueError(f"torch.fx cannot trace this model ({_line(error)}); merge its traceable parts") from error
    traced_model = fx.GraphModule(model, graph, type(model).__name__)
    try:
        with torch.no_grad():
            _Shapes(traced_model).run(*inputs)
    except Exception as error:
        raise ValueError(f"the model cannot compute example_input: {_line(error)}") from error
    return traced_model


class _Shapes(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            n.meta["tensor"] = Value(tuple(value.shape), value.dtype, value.device)
        return value


def _check(model: nn.Module) -> None:
    """Raises ValueError, naming the module, for BatchNorm in training mode and for numbers that are not finite."""
    for name, module in model.named_modules():
        if type(module) in NORMALISATIONS and module.training:
            raise ValueError(f"BatchNorm {name!r} is in training mode; call model.eval() before merge_model")
        if type(module) in (*CONVOLUTIONS, *NORMALISATIONS):
            for part, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                if not bool(torch.isfinite(tensor).all()):
                    raise ValueError(f"{name!r} has a {part} with numbers that are not finite")


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
