"""Images that are padded with what their BatchNorm makes of zero, as Diverse Branch Blocks are (arXiv 2103.13425).

BNAndPad writes it into the border; others subtract it, pad zeros, and add it again. Zeros padded in front of the
BatchNorm are the same, and there they are a convolution's padding.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import fx

from linear_lasagna.devices import wide
from linear_lasagna.formats import unit_roundoff
from linear_lasagna.models.affine import Summand, per_channel, summands
from linear_lasagna.models.constants import Constants
from linear_lasagna.models.finding import name_in_report
from linear_lasagna.models.joining import Note
from linear_lasagna.models.operators import NORMALISATIONS, changed_in_place, operation
from linear_lasagna.models.pointwise import before, module_of, pointwise
from linear_lasagna.models.steps import scale_and_shift
from linear_lasagna.models.windows import zeros_of

ROUNDINGS = 8  # in the model's dtype, of a BatchNorm's value for zero: add eps, square root, divide, multiply, subtract


class _Border(NamedTuple):
    """norm: what is padded; values: what the border becomes; last: gives the image; undone: what writes the values."""

    norm: fx.Node
    values: tuple[Any, ...]
    last: fx.Node
    undone: tuple[fx.Node, ...]


def pad_before_norm(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """Zeros, the node, padded around a BatchNorm's output and then made its value for zero: in front of it."""
    row, module = operation(node, module_of(model, node)), module_of(model, node)
    if row is None or row.name != "zero padding" or "tensor" not in node.meta or node.meta["tensor"].ndim < 3:
        return None
    pads = zeros_of(node, module, node.meta["tensor"].ndim - 2)
    found = None if isinstance(pads, str) else _written(model, node, pads) or _added(model, node)
    if found is None or not _is_own(model, found):
        return None
    value = node.meta["tensor"]
    for each in found.undone[::-1]:
        if each.target is operator.setitem:
            model.graph.erase_node(each)
    with model.graph.inserting_after(node):
        late = model.graph.call_module(str(found.norm.target), (node,))
    late.meta = {**found.norm.meta, "tensor": value}
    found.last.replace_all_uses_with(late, delete_user_cb=lambda user: user is not late)
    node.replace_input_with(node.all_input_nodes[0], found.norm.args[0])  # type: ignore[arg-type]
    for each in (*found.undone, found.norm):
        if not each._erased:
            model.graph.erase_node(each)
    names = (name_in_report(node), name_in_report(found.norm))
    return names, f"{names[0]} pads with what {names[1]} makes of zero: zeros, padded in front of it"


def _norm(model: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The BatchNorm that the node alone reads."""
    first = before(model, node)
    alone = first is not None and not first.passed and not first.sizes and pointwise(model, first.node) is not None
    return first.node if alone and isinstance(module_of(model, first.node), NORMALISATIONS) else None  # type: ignore[union-attr]


def _written(model: fx.GraphModule, node: fx.Node, pads: Sequence[int]) -> _Border | None:
    """What is written into the whole border, and nowhere else, before anything reads the image."""
    order = {each: place for place, each in enumerate(model.graph.nodes)}
    users = sorted(node.users, key=order.__getitem__)
    writes = [user for user in users if user.target is operator.setitem and user.args[0] is node]
    norm, value = _norm(model, node), node.meta["tensor"]
    if norm is None or not writes or users[: len(writes)] != writes or any(each.users for each in writes):
        return None
    for more in (0, 1):
        size = [n + more for n in value.shape[2:]]
        inside = torch.ones(1, value.shape[1], *size, dtype=torch.bool)
        inside[(..., *(slice(p, n - p) for n, p in zip(size, pads, strict=True)))] = False
        border = torch.zeros_like(inside)
        for each in writes:
            index = each.args[1] if isinstance(each.args[1], tuple) else (each.args[1],)
            if not all(part is ... or (isinstance(part, slice) and _is_known(part)) for part in index):
                return None
            border[index] = True  # type: ignore[index]
        if not torch.equal(border, inside):
            return None
    return _Border(norm, tuple(each.args[2] for each in writes), node, tuple(writes))


def _is_known(part: slice) -> bool:
    return all(end is None or isinstance(end, int) for end in (part.start, part.stop, part.step))


def _added(model: fx.GraphModule, node: fx.Node) -> _Border | None:
    """The value that is subtracted in front of the padding and added behind it."""
    first, last = before(model, node), next(iter(node.users), None)
    if first is None or first.passed or first.sizes or last is None or len(node.users) > 1:
        return None
    taken, given = summands(first.node), summands(last)
    norm = None if taken is None else _norm(model, first.node)
    if taken is None or given is None or norm is None or Summand(node) not in given or taken[0] != Summand(norm):
        return None
    (value,) = [each for each in given if each.value is not node] or [Summand(None)]
    if value.factor != 1 or taken[1].factor != -1:
        return None
    return _Border(norm, (taken[1].value, value.value), last, (last, first.node))


def _is_own(model: fx.GraphModule, found: _Border) -> bool:
    """Whether all values are what the BatchNorm makes of zero, as the model's dtype rounds it."""
    nodes = list(model.graph.nodes)
    changed = [changed_in_place(each, module_of(model, each)) for each in nodes]
    constants = Constants(
        model.graph, dict(model.named_modules(remove_duplicate=False)), [each for each in changed if each is not None]
    )
    module = module_of(model, found.norm)
    scale, shift = scale_and_shift(module)
    size = shift.abs() + (wide(module.running_mean) * scale).abs()
    bound = ROUNDINGS * unit_roundoff(found.norm.meta["tensor"].dtype) * size
    for value in found.values:
        if not isinstance(value, fx.Node) or value not in constants.nodes:
            return False
        numbers = per_channel(value, found.norm, constants)
        if isinstance(numbers, str) or bool(((numbers - shift).abs() > bound).any()):
            return False
    return True
