"""A model as a graph, every node with the shape, dtype and device of its value for an example input."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.comparing import difference, leaves
from linear_lasagna.models.operators import CONVOLUTIONS, NORMALISATIONS
from linear_lasagna.models.refusing import check

LIBRARIES = {Path(torch.__file__).parent, Path(__file__).parents[1]}
STANDARD = Path(copy.__file__).parent
OTHERWISE = "the model computes something else as a torch.fx graph"


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

    Arguments of forward that `inputs` leaves out are fixed at their defaults. Raises ValueError for what cannot be
    copied, traced, run on the inputs or merged, and where the graph computes something else than the model: torch.fx
    takes x += y for x = x + y, which is not the same where x has two names.
    """
    check(model)
    if any(isinstance(leaf, torch.Tensor) and leaf.numel() == 0 for leaf in leaves(inputs)):
        raise ValueError("example_input has an empty tensor; its shapes decide what pays, so give at least one image")
    with torch.no_grad():
        expected = _result_of(model, inputs)
        graph = _or_refused("torch.fx cannot trace this model", lambda: _graph_of(model, inputs))
        outputs = _or_refused(f"{OTHERWISE}, which fails", lambda: _Shapes(graph).run(*_copied(inputs)))
    differs = _or_refused("the graph cannot be compared with the model", lambda: difference(outputs, expected))
    if differs is not None:
        remedy = "; call model.eval()" if model.training else ""
        raise ValueError(f"{OTHERWISE}: {differs}; it overwrites a value, or is random{remedy}")
    return graph


def _result_of(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """What the model gives, of a copy that was not traced: tracing may leave the tracer's proxies in its attributes."""
    reference = _or_refused("the model cannot be copied", lambda: copy.deepcopy(model))
    return _or_refused("the model cannot compute example_input", lambda: reference(*_copied(inputs)))


Result = TypeVar("Result")


def _or_refused(refusal: str, call: Callable[[], Result]) -> Result:
    """What the call gives; its error as a ValueError of one line, with the model's own line that led to it."""
    try:
        return call()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{refusal}{_place(error)}: {lines[0]}") from error


def _place(error: Exception) -> str:
    """The innermost line of the model's own code, as in " (net.py, line 12)", or ""."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and path.parent != STANDARD and LIBRARIES.isdisjoint(path.parents):
            return f" ({path.name}, line {frame.lineno})"
    return ""


def _graph_of(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    """The graph, on another copy than the one that was traced."""
    tracer, root = _Tracer(_left_out(model, inputs)), copy.deepcopy(model)
    graph = tracer.trace(copy.deepcopy(model))
    for node in graph.nodes:
        # Tensors that forward makes: the tracer keeps them in the copy that it traced.
        if node.op == "get_attr" and not hasattr(root, node.target) and hasattr(tracer.root, node.target):
            setattr(root, node.target, getattr(tracer.root, node.target))
    return fx.GraphModule(root, graph, type(model).__name__)


def _left_out(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """The arguments of forward that are not among the inputs, with their defaults."""
    bound = inspect.signature(inspect.unwrap(type(model).forward)).bind(model, *inputs)
    given = set(bound.arguments)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if name not in given}


class _Tracer(fx.Tracer):
    """Takes what can be merged as one node, subclasses of PyTorch's layers too. fixed: arguments and their values."""

    def __init__(self, fixed: Mapping[str, Any]) -> None:
        super().__init__()
        self.fixed = fixed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        layers = (*CONVOLUTIONS, *NORMALISATIONS)
        # Parametrised layers count as torch.nn's own; to compute their numbers here would be traced.
        own = super().is_leaf_module(m, module_qualified_name)
        return own or (isinstance(m, layers) and not_plain(m, layers) is None)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        function, arguments = super().create_args_for_root(root_fn, is_module, concrete_args)
        for place, argument in enumerate(arguments):
            node = argument.node if isinstance(argument, fx.Proxy) else None
            if node is not None and (name := str(node.target).lstrip("*")) in self.fixed:
                arguments[place] = self.fixed[name]
                self.graph.erase_node(node)
        return function, arguments


class _Shapes(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            n.meta["tensor"] = Value(tuple(value.shape), value.dtype, value.device)
        return value


def _copied(inputs: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda leaf: leaf.detach().clone(), inputs)
