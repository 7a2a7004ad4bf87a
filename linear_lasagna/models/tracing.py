"""A model as a graph, every node with the shape, dtype and device of its value for an example input."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import fx, nn

from linear_lasagna.models.comparing import comparable, difference, leaves, without_zeros
from linear_lasagna.models.inputs import copied, same
from linear_lasagna.models.joining import Note
from linear_lasagna.models.places import first_line, place_of
from linear_lasagna.models.preparing import prepare
from linear_lasagna.models.refusing import check, check_inputs, check_numbers, exported
from linear_lasagna.models.state import changed, state_of
from linear_lasagna.models.tracer import ExampleTracer, value_of

NESTED = "torch._functorch.predispatch"  # of vmap: a graph that stops between two calls leaves torch inside of it
CHANGED = "forward changes its input in place, and what is merged may not: do not use an input again"
OTHERWISE = "the model computes something else as a torch.fx graph"


def traced(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[fx.GraphModule, list[Note]]:
    """A copy of the model as a graph, `prepare`d, and what of it could not be traced.

    Nodes that give a tensor have its `Value` in meta["tensor"]. Arguments of forward that `inputs` leaves out are fixed
    at their defaults. Where torch.fx fails, or traces something else, torch.export is tried. Raises ValueError for what
    cannot be copied, traced, run on the inputs or merged, and where the graph computes something else than the model.
    """
    check(model)
    check_inputs(leaves(inputs))
    with torch.no_grad():
        reference = _or_refused("the model cannot be copied", lambda: copy.deepcopy(model))
        expected, notes = _result(reference, inputs)
        if not comparable(expected) and (other := without_zeros(model)) is not None:
            return _as_another(model, reference, inputs, notes, traced(other, inputs)[0])
        try:
            graph, more = _checked(model, reference, inputs, expected)
        except ValueError as error:
            graph, more = _exported(model, inputs, expected, error)
    return graph, [*more, *_of_forward(graph, notes)]


def _as_another(
    model: nn.Module, reference: nn.Module, inputs: tuple[Any, ...], more: list[Note], other: fx.GraphModule
) -> tuple[fx.GraphModule, list[Note]]:
    """The graph of a model whose result shows nothing, which has to be that of another one, with more numbers."""
    graph, notes = _graph_and_notes(model, reference, inputs)
    _or_refused(f"{OTHERWISE}, which fails", lambda: _Shapes(graph).run(*copied(inputs)))
    if graph.code != other.code:
        raise ValueError("the graph cannot be compared with the model, which gives nothing but 0")
    return graph, [*notes, *_of_forward(graph, more)]


def _of_forward(graph: fx.GraphModule, notes: list[Note]) -> list[Note]:
    """The notes without what modules change that are called as they are."""
    called = tuple(f"{node.target}." for node in graph.graph.nodes if node.op == "call_module")
    own = [(tuple(name for name in names if not name.startswith(called)), reason) for names, reason in notes]
    return [(names, reason) for names, reason in own if names]


def _result(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, list[Note]]:
    """What the model computes when it is called first, and notes on what this changes in it and in its input."""
    before, own = state_of(model), copied(inputs)
    expected = _or_refused("the model cannot compute example_input", lambda: model(*own))
    notes = [] if same(own, inputs) else [((type(model).__name__,), CHANGED)]
    assigned = changed(before, after := state_of(model))
    if not assigned:
        return expected, notes
    again = _or_refused("the model cannot compute example_input again", lambda: model(*copied(inputs)))
    always = changed(after, state_of(model))
    names = ", ".join(map(repr, always or assigned))
    if comparable(expected) and difference(again, expected) is not None:
        raise ValueError(f"the model's forward changes {names}, and computes something else when it is called again")
    if always:
        reason = "forward changes it at every call; what is merged computes what the first call does"
        return expected, [*notes, (always, reason)]
    reason = "forward assigns it when it is called first; what is merged computes it every time"
    return expected, [*notes, (assigned, reason)]


def _checked(
    model: nn.Module, reference: nn.Module, inputs: tuple[Any, ...], expected: Any
) -> tuple[fx.GraphModule, list[Note]]:
    """The model's graph, which gives what is expected, and notes on it."""
    graph, notes = _graph_and_notes(model, reference, inputs)
    outputs = _or_refused(f"{OTHERWISE}, which fails", lambda: _Shapes(graph).run(*copied(inputs)))
    differs = _or_refused("the graph cannot be compared with the model", lambda: difference(outputs, expected))
    if differs is not None:
        remedy = "; call model.eval()" if model.training else ""
        raise ValueError(f"{OTHERWISE}: {differs}; it depends on what is no input, or is random{remedy}")
    return graph, notes


def _graph_and_notes(
    model: nn.Module, reference: nn.Module, inputs: tuple[Any, ...]
) -> tuple[fx.GraphModule, list[Note]]:
    graph, notes = _or_refused("torch.fx cannot trace this model", lambda: _followed(model, reference, inputs))
    notes += prepare(graph)
    if exported(model):
        reason = "exported: it computes the sizes that torch.export has fixed, no others"
        notes.append(((type(model).__name__,), reason))
    check_numbers(graph)
    return graph, notes


def _exported(
    model: nn.Module, inputs: tuple[Any, ...], expected: Any, error: ValueError
) -> tuple[fx.GraphModule, list[Note]]:
    """As `_checked`, from torch.export's graph. error: what torch.fx failed with, raised where this one fails, too."""
    if exported(model):
        raise error
    try:
        with _quietly():
            graph = torch.export.export(copy.deepcopy(model), copied(inputs), strict=False).module()
            if any(getattr(node.target, "__module__", "") == NESTED for node in graph.graph.nodes):  # type: ignore[union-attr]
                raise error
            found, notes = _checked(graph, copy.deepcopy(graph), inputs, expected)
    except Exception:
        raise error from None
    reason = f"{error}; so torch.export traced it, for the sizes of example_input alone"
    return found, [((type(model).__name__,), reason), *notes[:-1]]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Nothing is logged or printed, and nobody is warned: what fails is said otherwise."""
    level, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


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
    """The graph, on another copy than the one that was traced if that changed it, and the tracer's notes."""
    fixed, given = _arguments(model, copied(inputs))
    tracer, root = ExampleTracer(reference, fixed, given, numbers), _copy_with(model, reference)
    before = state_of(root)
    graph = tracer.trace(root)
    if changed(before, state_of(root)):
        root = copy.deepcopy(model)
    for node in graph.nodes:
        # Tensors that forward makes: the tracer keeps them in the copy that it traced.
        if node.op == "get_attr" and not hasattr(root, node.target) and hasattr(tracer.root, node.target):
            setattr(root, node.target, getattr(tracer.root, node.target))
    return fx.GraphModule(root, graph, type(model).__name__), tracer.notes


def _copy_with(model: nn.Module, other: nn.Module) -> nn.Module:
    """A copy that shares the parameters of another one, which nobody else will keep, as far as they still are equal."""
    others = dict(other.named_parameters())
    pairs = ((own, others.get(name)) for name, own in model.named_parameters())
    return copy.deepcopy(model, {id(own): copied for own, copied in pairs if copied is not None and _same(own, copied)})


def _same(first: nn.Parameter, second: nn.Parameter) -> bool:
    kinds = [(type(each), each.dtype, each.layout, each.requires_grad) for each in (first, second)]
    strided = kinds[0] == kinds[1] and kinds[0][0] is nn.Parameter and first.layout is torch.strided
    return strided and torch.equal(first, second)


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
