"""A model as a graph, every node with the shape, dtype and device of its value for an example input."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from linear_lasagna.models.comparing import difference, leaves
from linear_lasagna.models.joining import Note
from linear_lasagna.models.places import first_line, place_of
from linear_lasagna.models.preparing import prepare
from linear_lasagna.models.refusing import check, check_numbers, exported
from linear_lasagna.models.tracer import ExampleTracer, value_of

OTHERWISE = "the model computes something else as a torch.fx graph"


def traced(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[fx.GraphModule, list[Note]]:
    """A copy of the model as a graph, `prepare`d, and what of it could not be traced.

    Nodes that give a tensor have its `Value` in meta["tensor"]. Arguments of forward that `inputs` leaves out are fixed
    at their defaults. Raises ValueError for what cannot be copied, traced, run on the inputs or merged, and where the
    graph computes something else than the model.
    """
    check(model)
    if any(isinstance(leaf, torch.Tensor) and leaf.numel() == 0 for leaf in leaves(inputs)):
        raise ValueError("example_input has an empty tensor; its shapes decide what pays, so give at least one image")
    with torch.no_grad():
        reference = _or_refused("the model cannot be copied", lambda: copy.deepcopy(model))
        expected = _or_refused("the model cannot compute example_input", lambda: reference(*_copied(inputs)))
        graph, notes = _or_refused("torch.fx cannot trace this model", lambda: _followed(model, reference, inputs))
        notes += prepare(graph)
        if exported(model):
            notes.append(
                ((type(model).__name__,), "exported: it computes the sizes that torch.export has fixed, no others")
            )
        check_numbers(graph)
        outputs = _or_refused(f"{OTHERWISE}, which fails", lambda: _Shapes(graph).run(*_copied(inputs)))
    differs = _or_refused("the graph cannot be compared with the model", lambda: difference(outputs, expected))
    if differs is not None:
        remedy = "; call model.eval()" if model.training else ""
        raise ValueError(f"{OTHERWISE}: {differs}; it depends on what is no input, or is random{remedy}")
    return graph, notes


Result = TypeVar("Result")


def _or_refused(refusal: str, call: Callable[[], Result]) -> Result:
    """What the call gives; its error as a ValueError of one line, with the model's own line that led to it."""
    try:
        return call()
    except Exception as error:
        raise ValueError(f"{refusal}{place_of(error)}: {first_line(error)}") from error


def _followed(model: nn.Module, reference: nn.Module, inputs: tuple[Any, ...]) -> tuple[fx.GraphModule, list[Note]]:
    """The graph; where sizes have to be numbers for it, with the example's sizes."""
    try:
        return _graph_of(model, reference, inputs, numbers=False)
    except Exception as error:
        try:
            return _graph_of(model, reference, inputs, numbers=True)
        except Exception:
            raise error from None


def _graph_of(
    model: nn.Module, reference: nn.Module, inputs: tuple[Any, ...], numbers: bool
) -> tuple[fx.GraphModule, list[Note]]:
    """The graph, on another copy than the one that was traced, and the tracer's notes."""
    fixed, given = _arguments(model, _copied(inputs))
    tracer, root = ExampleTracer(reference, fixed, given, numbers), copy.deepcopy(model)
    graph = tracer.trace(copy.deepcopy(model))
    for node in graph.nodes:
        # Tensors that forward makes: the tracer keeps them in the copy that it traced.
        if node.op == "get_attr" and not hasattr(root, node.target) and hasattr(tracer.root, node.target):
            setattr(root, node.target, getattr(tracer.root, node.target))
    return fx.GraphModule(root, graph, type(model).__name__), tracer.notes


def _arguments(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of forward that are not among the inputs, with their defaults; and the others."""
    bound = inspect.signature(inspect.unwrap(type(model).forward)).bind(model, *inputs)
    given = dict(bound.arguments)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if name not in given}, given


class _Shapes(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            n.meta["tensor"] = value_of(value)
        return value


def _copied(inputs: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda leaf: leaf.detach().clone(), inputs)
