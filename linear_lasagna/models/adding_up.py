"""1 x 1 convolutions of a concatenation, some of whose parts were up-sampled, as a sum of up-sampled convolutions."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from linear_lasagna.models.averaging import averages, averaging_operations
from linear_lasagna.models.exact_numbers import exact_kernel, moved
from linear_lasagna.models.finding import name_in_report, parts_of
from linear_lasagna.models.joining import Note
from linear_lasagna.models.layers import layer_of
from linear_lasagna.models.operators import CONVOLUTIONS, NORMALISATIONS, operation
from linear_lasagna.models.pointwise import before, module_of, pointwise, positions
from linear_lasagna.models.reparameterization import fuse_batch_norm
from linear_lasagna.models.rewriting import added
from linear_lasagna.models.steps import scale_and_shift
from linear_lasagna.models.table import count_text
from linear_lasagna.problems import ExpandedLayer, Kernel


def add_up(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """The convolution, the node, of each part on its own, before that is up-sampled, if this takes less.

    A BatchNorm behind it is folded first. So the heads of SegFormer, arXiv 2105.15203, section 3.2, take far less.
    """
    module, found = pointwise(model, node), before(model, node)
    if not isinstance(module, CONVOLUTIONS) or module.groups > 1 or found is None or found.passed or found.sizes:
        return None
    row, cat = operation(found.node, None), found.node
    parts = parts_of(cat) if row is not None and row.name == "concatenation" else None
    grown = [part for part in parts or () if _grows(model, part, cat) and (parts or []).count(part) == 1]
    rest = [part for part in parts or () if part not in grown]
    earlier, after = _operations(model, node, cat, grown)
    last, kernel = _with_norm(model, node)
    layer = layer_of(module, node.meta["tensor"].ndim)
    fits = kernel.weight.to(module.weight.dtype).isfinite().all()
    if not grown or after >= earlier or not isinstance(layer, ExpandedLayer) or not bool(fits):
        return None
    layer, value = replace(layer, bias=kernel.bias is not None), node.meta["tensor"]
    channels = [part.meta["tensor"].shape[1] for part in parts or ()]
    columns = list(zip(parts or (), kernel.weight.split(channels, 1), strict=True))
    terms: list[fx.Node] = []
    if rest:
        with model.graph.inserting_before(node):
            whole = rest[0] if len(rest) == 1 else model.graph.call_function(torch.cat, (rest, 1))
        weight = torch.cat([each for part, each in columns if part in rest], 1)
        if len(rest) > 1:
            whole.meta["tensor"] = value._replace(shape=(value.shape[0], weight.shape[1], *value.shape[2:]))
        terms.append(_convolved(model, node, whole, Kernel(weight, kernel.bias), layer, node))
    for part in grown:
        bias = kernel.bias if not terms else None
        source = part.all_input_nodes[0]
        part.replace_input_with(source, _convolved(model, node, source, Kernel(dict(columns)[part], bias), layer, part))
        part.meta["tensor"] = value
        terms.append(part)
    last.replace_all_uses_with(_sum(model, terms, node))
    for each in dict.fromkeys((last, node, cat)):
        model.graph.erase_node(each)
    names = tuple(map(name_in_report, (node, *grown)))
    text = f"{names[0]} is computed of each part before it is up-sampled, and added up"
    return names, f"{text}: {count_text(earlier)} -> {count_text(after)} operations"


def _grows(model: fx.GraphModule, part: fx.Node, cat: fx.Node) -> bool:
    """Whether the part is averaged to more positions, for the concatenation alone."""
    alone = set(part.users) == {cat} and averages(model, part) is True
    return alone and positions(part.all_input_nodes[0]) < positions(part)


def _operations(model: fx.GraphModule, node: fx.Node, cat: fx.Node, grown: Sequence[fx.Node]) -> tuple[int, int]:
    """Of the convolution and of up-sampling, per image, as they are, and with every part on its own."""
    inputs, outputs = cat.meta["tensor"].shape[1], node.meta["tensor"].shape[1]
    whole, earlier, after = positions(node), inputs * outputs * positions(node), 0
    left = inputs
    for part in grown:
        channels, each = part.meta["tensor"].shape[1], averaging_operations(model, part)
        earlier += each * channels
        after += outputs * (channels * positions(part.all_input_nodes[0]) + each + whole)
        left -= channels
    return earlier, after + left * outputs * whole


def _with_norm(model: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, Kernel]:
    """The BatchNorm behind the convolution, or that itself; and the numbers of both, in float64."""
    kernel, user = exact_kernel(module_of(model, node)), next(iter(node.users), node)
    norm = pointwise(model, user) if len(node.users) == 1 else None
    if not isinstance(norm, NORMALISATIONS):
        return node, kernel
    return user, fuse_batch_norm(kernel, *scale_and_shift(norm))


def _convolved(
    model: fx.GraphModule, node: fx.Node, source: fx.Node, kernel: Kernel, layer: ExpandedLayer, place: fx.Node
) -> fx.Node:
    """A part of the convolution, the node, of the source; in front of `place`."""
    made: Any = moved(module_of(model, node), kernel, replace(layer, bias=kernel.bias is not None))
    with model.graph.inserting_before(place):
        new = model.graph.call_module(added(model, made, (str(node.target),)), (source,))
    value = node.meta["tensor"]
    new.meta["tensor"] = value._replace(shape=(*value.shape[:2], *source.meta["tensor"].shape[2:]))
    return new


def _sum(model: fx.GraphModule, terms: Sequence[fx.Node], node: fx.Node) -> fx.Node:
    total = terms[0]
    for term in terms[1:]:
        with model.graph.inserting_before(node):
            total = model.graph.call_function(operator.add, (total, term))
        total.meta["tensor"] = node.meta["tensor"]
    return total
