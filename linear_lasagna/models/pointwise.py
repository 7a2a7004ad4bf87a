"""Layers of a traced graph that compute every position alike, and what stands in front of a node for it alone."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

from torch import fx

from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.layers import is_pointwise, layer_of
from linear_lasagna.models.operators import CONVOLUTIONS, NORMALISATIONS, kind


def module_of(model: fx.GraphModule, node: fx.Node) -> Any:
    """The module that the node calls, or None."""
    return operator.attrgetter(str(node.target))(model) if node.op == "call_module" else None


class Before(NamedTuple):
    """The node that another one reads, and what else is done with its value: identities between, reads of the batch."""

    node: fx.Node
    passed: list[fx.Node]
    sizes: list[fx.Node]

    def replaced_by(self, source: Any, graph: fx.Graph) -> None:
        """Take it and the identities out; what reads the batch, reads the source's."""
        for size in self.sizes:
            size.args = (source, *size.args[1:])
        for each in (*self.passed, self.node):
            graph.erase_node(each)

    def replaced_by_reader(self, graph: fx.Graph, reader: fx.Node) -> None:
        """Take the reader out, and it; what reads the batch, reads its source's."""
        graph.erase_node(reader)
        self.replaced_by(self.node.args[0], graph)


def before(model: fx.GraphModule, node: fx.Node) -> Before | None:
    """What gives the image that the node is of, if nothing else needs it."""
    passed: list[fx.Node] = []
    sizes: list[fx.Node] = []
    first, user = node.args[0] if node.args else node.kwargs.get("input"), node
    while isinstance(first, fx.Node) and "tensor" in first.meta:
        here = [each for each in first.users if _reads_batch(each)]
        if set(first.users) - {*here} != {user} or sum(arg is first for arg in user.args) > 1:
            return None
        sizes += here
        if kind(first, module_of(model, first)) != "identity" or not first.args:
            return Before(first, passed, sizes)
        passed.append(first)
        first, user = first.args[0], first
    return None


def _reads_batch(node: fx.Node) -> bool:
    """Whether the node is how many images there are."""
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] == (0,)
    if node.op != "call_function" or node.target is not getattr or node.args[1:] != ("shape",):
        return False
    return all(user.target is operator.getitem and user.args[1:] == (0,) for user in node.users)


def positions(node: fx.Node) -> int:
    """How many positions its image has."""
    return math.prod(node.meta["tensor"].shape[2:])


def pointwise(model: fx.GraphModule, node: fx.Node) -> Any:
    """The 1 x 1 convolution, or BatchNorm, that the node calls on one image; None for anything else."""
    module, read = module_of(model, node), node.all_input_nodes
    if len(read) != 1 or len(node.args) != 1 or node.kwargs or "tensor" not in read[0].meta:
        return None
    if isinstance(module, NORMALISATIONS):
        plain = module.running_mean is not None and not_plain(module, NORMALISATIONS) is None
        return module if plain and node.meta["tensor"].ndim > 2 else None
    if not isinstance(module, CONVOLUTIONS):
        return None
    layer = layer_of(module, read[0].meta["tensor"].ndim)
    return module if not isinstance(layer, str) and is_pointwise(layer) else None


def biased(module: Any) -> bool:
    """Whether a pointwise layer adds anything."""
    return not isinstance(module, CONVOLUTIONS) or module.bias is not None


def per_position(module: Any) -> int:
    """Multiply-accumulates of a pointwise layer at one position."""
    return module.weight.numel() if isinstance(module, CONVOLUTIONS) else module.num_features
