"""Values of a traced model that are the same for every input: parameters, buffers, and what is computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import fx, nn

from linear_lasagna.devices import wide
from linear_lasagna.models.operators import name_of

# Functions and methods without a state, by name.
RESHAPING = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "transpose", "permute")
KEEPING = ("getitem", "contiguous", "clone", "detach")
COMPUTING = ("add", "sub", "mul", "truediv", "div", "neg", "pow", "sqrt", "rsqrt", "reciprocal", "exp", "abs")
SATURATING = ("sigmoid", "tanh", "softplus")
PURE = frozenset((*RESHAPING, *KEEPING, *COMPUTING, *SATURATING))


class Constants:
    """Which nodes are constant, and their numbers in float64.

    overwritten: nodes whose values the model changes in place; they are none, nor are others of the same name.
    """

    def __init__(self, graph: fx.Graph, modules: Mapping[str, nn.Module], overwritten: Iterable[fx.Node]) -> None:
        self.root = modules.get("")
        self.changed = {node.target for node in overwritten if node.op == "get_attr"}
        self.nodes: set[fx.Node] = set()
        for node in graph.nodes:
            if self._is_constant(node):
                self.nodes.add(node)

    def _is_constant(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            return "tensor" in node.meta and node.target not in self.changed and self.root is not None
        inputs = node.all_input_nodes
        computed = node.op in ("call_function", "call_method") and name_of(node) in PURE
        return computed and bool(inputs) and self.nodes.issuperset(inputs)

    def value(self, node: fx.Node) -> torch.Tensor:
        """The constant's numbers, float64."""
        return wide(self._value(node))

    def _value(self, node: fx.Node) -> torch.Tensor:
        """As the constant is computed: real numbers in float64, others, as indices, as they are."""
        if node.op == "get_attr":
            value: Any = reduce(getattr, str(node.target).split("."), self.root)
            return wide(value) if value.is_floating_point() else value
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._value)  # type: ignore[misc]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)
