"""What is cut out of an image, channels or positions at its ends: cut before it is computed, it takes less.

Which channels a view, a slice, a shuffle takes, is found by letting it move numbers that say where they were, for two
sizes. Numbers are only moved here, which rounds nothing.
"""

from __future__ import annotations

import copy
import math
import operator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.exact_numbers import exact_kernel, moved
from linear_lasagna.models.finding import name_in_report
from linear_lasagna.models.joining import Note
from linear_lasagna.models.layers import layer_of
from linear_lasagna.models.operators import CONVOLUTIONS, VIEWS, argument, changed_in_place, kind, name_of, operation
from linear_lasagna.models.pointwise import before, module_of, pointwise
from linear_lasagna.models.rewriting import added
from linear_lasagna.models.windows import UNEVEN, zeros_of
from linear_lasagna.modules import link_of
from linear_lasagna.problems import ExpandedLayer

MOVING = VIEWS | {"index_select", "channel_shuffle", "reshape", "flip", "roll"}
MOST = 2**22  # numbers of an image that are moved to see which channels are taken
UNKNOWN = (-1,)


class Selection(NamedTuple):
    """Channels of the source's image, in the order in which they are taken; nodes: that do it, the last one first."""

    source: fx.Node
    channels: tuple[int, ...]
    nodes: tuple[fx.Node, ...]

    @property
    def total(self) -> int:
        """How many channels there are."""
        return self.source.meta["tensor"].shape[1]

    @property
    def name(self) -> str:
        """Of the node that gives them."""
        return name_in_report(self.nodes[0])


def selection_of(model: fx.GraphModule, node: fx.Node) -> Selection | None:
    """What the node, and nodes in front of it that only it reads, take of an image; None where that is no channels."""
    nodes: list[fx.Node] = []
    while _moves(model, node) and node.args and isinstance(node.args[0], fx.Node) and "tensor" in _image(node).meta:
        nodes.append(node)
        node = node.args[0]
        if len(_readers(node)) > 1:
            break
    if not nodes or "tensor" not in node.meta or not 3 <= node.meta["tensor"].ndim <= 5:
        return None
    shape, given = (nodes[0].meta["tensor"].shape if "tensor" in nodes[0].meta else ()), node.meta["tensor"].shape
    if (*shape[:1], *shape[2:]) != (*given[:1], *given[2:]):
        return None
    found = {_taken(model, nodes[0], node, each) for each in _probes(given)}
    if UNKNOWN in found:  # for sizes that the model does not take
        found = {_taken(model, nodes[0], node, given)} if math.prod(given) <= MOST else set()
    taken = found.pop() if len(found) == 1 else None
    return None if taken is None or taken == UNKNOWN else Selection(node, taken, tuple(nodes))


def _probes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Small images' shapes, among them longer ones than the given along each axis but the channels'."""
    small = (1, shape[1], *(2 for _ in shape[2:]))
    return [(*small[:axis], n + 1, *small[axis + 1 :]) for axis, n in enumerate(shape) if axis != 1]


def _moves(model: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return type(module_of(model, node)) is nn.ChannelShuffle
    return node.op in ("call_function", "call_method") and name_of(node) in MOVING


def _image(node: fx.Node) -> fx.Node:
    """The node, or one of the images that it gives where these are several."""
    return next(iter(node.users)) if "tensor" not in node.meta and node.users else node


def _readers(node: fx.Node) -> list[fx.Node]:
    """What reads the value's numbers, not only its sizes."""
    sizes = ("size", "getattr", "dim")
    return [user for user in node.users if name_of(user) not in sizes]


def _taken(model: fx.GraphModule, last: fx.Node, source: fx.Node, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The channels that are taken of an image of this shape; `UNKNOWN` where that cannot be computed."""
    places = torch.arange(torch.Size(shape).numel()).view(shape)
    try:
        found = _value(model, last, {source: places})
    except (RuntimeError, IndexError, ValueError, TypeError):
        return UNKNOWN
    if not isinstance(found, torch.Tensor) or found.ndim != len(shape) or found.dtype is not torch.int64:
        return None
    if found.shape[0] != shape[0] or found.shape[2:] != shape[2:]:
        return None
    channels = found.flatten(2)[0, :, 0] // places[0, 0].numel()
    exact = bool((channels < shape[1]).all()) and torch.equal(found, places[:, channels])
    return tuple(channels.tolist()) if exact else None


def _value(model: fx.GraphModule, node: fx.Node, known: dict[fx.Node, Any]) -> Any:
    """What the node gives, by what is known; of images that are not, only sizes are asked."""
    if node in known:
        return known[node]
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(model).cpu()
    if node.op == "placeholder" or ("tensor" in node.meta and not _moves(model, node)):
        raise ValueError("it depends on another value")
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda each: _value(model, each, known))  # type: ignore[misc]
    if node.op == "call_method":
        known[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
    elif node.op == "call_module":
        known[node] = module_of(model, node)(*args, **kwargs)
    else:
        known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return known[node]


def select(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """Channels that are chosen, the node, of what a convolution or BatchNorm gives: only these are computed."""
    found = selection_of(model, node)
    if found is None or any(changed_in_place(user, module_of(model, user)) is node for user in node.users):
        return None
    if found.channels == tuple(range(found.total)):
        node.replace_all_uses_with(found.source)
        _erase(model, found.nodes)
        return (found.name,), "it takes all channels in their order, and is left out"
    first, index = found.source, list(found.channels)
    while kind(first, module_of(model, first)) == "identity" and all(
        _is_for(user, found.nodes) for user in first.users
    ):
        found = found._replace(source=first.args[0], nodes=(*found.nodes, first))  # type: ignore[arg-type]
        first = found.source
    if len(index) > found.total or not all(_is_for(user, found.nodes) for user in first.users):
        return None
    made = _chosen(model, first, index)
    if made is None:
        return None
    with model.graph.inserting_before(first):
        target, read = added(model, made, (str(first.target),)), first.args[0]
    if isinstance(made, CONVOLUTIONS):
        with model.graph.inserting_before(first):
            last = model.graph.call_module(target, (read,))
        node.replace_all_uses_with(last)
        _erase(model, (*found.nodes, first))
    else:
        found.nodes[-1].replace_input_with(first, read)  # type: ignore[arg-type]
        with model.graph.inserting_after(node):
            last = model.graph.call_module(target, (node,))
        node.replace_all_uses_with(last, delete_user_cb=lambda user: user is not last)
        for size in [user for user in first.users if "tensor" not in user.meta]:
            size.replace_input_with(first, read)  # type: ignore[arg-type]
        _erase(model, (first,))
    last.meta = dict(node.meta)
    name = name_in_report(first)
    return (name, found.name), f"{name} computes the channels that {found.name} takes, {len(index)} of {found.total}"


def _is_for(node: fx.Node, nodes: tuple[fx.Node, ...]) -> bool:
    """Whether the node is one of these, or a size that only they ask for."""
    return node in nodes or ("tensor" not in node.meta and all(_is_for(user, nodes) for user in node.users))


def _chosen(model: fx.GraphModule, node: fx.Node, index: list[int]) -> nn.Module | None:
    """A convolution or BatchNorm of these output channels alone; None for what the node may call else."""
    module = module_of(model, node)
    if isinstance(module, CONVOLUTIONS):
        layer = layer_of(module, node.meta["tensor"].ndim) if len(node.args) == 1 else ""
        if isinstance(layer, str) or layer.groups > 1:
            return None
        return moved(
            module, exact_kernel(module).map(lambda rows: rows[index]), replace(layer, out_channels=len(index))
        )
    if pointwise(model, node) is None or len(set(index)) < len(index):
        return None
    made = copy.deepcopy(module)
    made.num_features = len(index)
    for name in ("weight", "bias", "running_mean", "running_var"):
        numbers = getattr(made, name)
        if numbers is not None:
            chosen = numbers.detach()[index].clone()
            grows = isinstance(numbers, nn.Parameter)
            setattr(made, name, nn.Parameter(chosen, numbers.requires_grad) if grows else chosen)
    return made


def permute(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """A convolution, the node, of an image whose channels are in another order: its weights are, instead."""
    module = module_of(model, node)
    first = node.args[0] if isinstance(module, CONVOLUTIONS) and len(node.args) == 1 else None
    found = selection_of(model, first) if isinstance(first, fx.Node) and len(first.users) == 1 else None
    layer = None if found is None else layer_of(module, node.meta["tensor"].ndim)
    if found is None or module.groups > 1 or not isinstance(layer, ExpandedLayer):
        return None
    if sorted(found.channels) != list(range(found.total)):
        return None
    kernel = exact_kernel(module)
    made = moved(module, kernel._replace(weight=kernel.weight[:, torch.tensor(found.channels).argsort()]), layer)
    with model.graph.inserting_before(found.nodes[-1]):
        last = model.graph.call_module(added(model, made, (str(node.target),)), (found.source,))
    last.meta = dict(node.meta)
    node.replace_all_uses_with(last)
    name = name_in_report(node)
    _erase(model, (node, *found.nodes))
    return (found.name, name), f"{name} has its weights in the order of channels that {found.name} makes"


def _erase(model: fx.GraphModule, nodes: tuple[fx.Node, ...]) -> None:
    """Take the nodes out, and the sizes that only they asked for."""
    for node in nodes:
        asked = [each for each in node.all_input_nodes if "tensor" not in each.meta]
        if not node.users and not node._erased:
            model.graph.erase_node(node)
            _erase(model, tuple(each for each in asked if each.op in ("call_function", "call_method")))


def cut_of(node: fx.Node, module: nn.Module | None) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """How many positions the node cuts off an image, before and after each axis, whatever its size; or None."""
    row, read = operation(node, module), node.all_input_nodes
    if row is None or len(read) != 1 or "tensor" not in node.meta or "tensor" not in read[0].meta:
        return None
    rank = read[0].meta["tensor"].ndim - 2
    if row.name == "zero padding" and rank > 0:
        pads: Any = module.padding if module is not None else argument(node, 1, "pad", ())
        known = isinstance(pads, (tuple, list)) and all(isinstance(each, int) and each <= 0 for each in pads)
        if not known or len(pads) > 2 * rank:
            return None
        whole = (*(-each for each in pads), *(0,) * (2 * rank - len(pads)))
        return whole[::2][::-1], whole[1::2][::-1]
    return _cut_by_slices(node, rank) if node.target is operator.getitem else None


def _cut_by_slices(node: fx.Node, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    given: Any = node.args[1]
    index: tuple[Any, ...] = given if isinstance(given, tuple) else (given,)
    if index.count(...) > 1 or len(index) - index.count(...) > rank + 2:
        return None
    rest = slice(None)
    place = index.index(...) if ... in index else len(index)
    missing = (rest,) * (rank + 2 - len(index) + index.count(...))
    whole = (*index[:place], *missing, *index[place + 1 :])
    if len(whole) != rank + 2 or whole[:2] != (rest, rest) or not all(map(_cuts_ends, whole)):
        return None
    return tuple(each.start or 0 for each in whole[2:]), tuple(-(each.stop or 0) for each in whole[2:])


def _cuts_ends(each: Any) -> bool:
    """Whether a slice leaves out some positions at the ends, as many for every length."""
    if not isinstance(each, slice) or each.step not in (None, 1):
        return False
    start, stop = (end is None or isinstance(end, int) for end in (each.start, each.stop))
    return start and stop and (each.start or 0) >= 0 and (each.stop is None or each.stop < 0)


def crop(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """Positions that are cut off, the node, of what a convolution gives: it pads, or reads, so many less."""
    module = module_of(model, node)
    ends, first = cut_of(node, module), before(model, node)
    if ends is None or first is None or not any(map(any, ends)):
        return None
    layer, early = layer_of_node(model, first.node), module_of(model, first.node)
    if layer is None:
        return None
    left = [tuple(p - s * c for p, s, c in zip(layer.padding, layer.stride, cut, strict=True)) for cut in ends]
    pads = tuple(max(0, min(both)) for both in zip(*left, strict=True))
    rest = [tuple(n - p for n, p in zip(side, pads, strict=True)) for side in left]
    if any(n > 0 for side in rest for n in side):
        return None
    source = first.node.args[0]
    size = [n + b + a for n, b, a in zip(source.meta["tensor"].shape[2:], *rest, strict=True)]  # type: ignore[union-attr]
    if min(size) < 1:
        return None
    with model.graph.inserting_before(first.node):
        if any(map(any, rest)):
            sides = tuple(n for both in list(zip(*rest, strict=True))[::-1] for n in both)
            inner = model.graph.call_function(nn.functional.pad, (source, sides))
            value = source.meta["tensor"]  # type: ignore[union-attr]
            inner.meta["tensor"] = value._replace(shape=(*value.shape[:2], *size))
            source = inner
        target = str(first.node.target)
        if isinstance(early, CONVOLUTIONS) and pads != layer.padding:
            target = added(model, moved(early, exact_kernel(early), replace(layer, padding=pads)), (target,))
        last = model.graph.call_module(target, (source,))
    last.meta = dict(node.meta)
    node.replace_all_uses_with(last)
    names = (name_in_report(first.node), name_in_report(node))
    first.replaced_by_reader(model.graph, node)
    return names, f"{names[0]} computes only the positions that {names[1]} keeps"


def layer_of_node(model: fx.GraphModule, node: fx.Node) -> ExpandedLayer | None:
    """The convolution that the node calls, or what a BatchNorm is as one; None for anything else."""
    module = module_of(model, node)
    if isinstance(module, CONVOLUTIONS) and len(node.args) == 1:
        layer = layer_of(module, node.meta["tensor"].ndim)
        return None if isinstance(layer, str) else layer
    channels, rank = node.meta["tensor"].shape[1], node.meta["tensor"].ndim - 2
    return None if pointwise(model, node) is None else ExpandedLayer(channels, *(((n,) * rank) for n in (1, 1, 0, 1)))


def pad_apart(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """A convolution, the node, that pads one more behind than in front, as "same" does, beside something linear.

    The zeros apart, it is merged like any other.
    """
    module: Any = module_of(model, node)
    if not isinstance(module, CONVOLUTIONS) or not isinstance(layer_of(module, node.meta["tensor"].ndim), str):
        return None
    plain = not_plain(module, CONVOLUTIONS) is None and module.padding_mode == "zeros" and len(node.args) == 1
    source, link = node.args[0], link_of(module)
    if not plain or node.meta["tensor"].ndim != len(link.after) + 2 or link.after == link.layer.padding:
        return None
    if not any(kind(each, module_of(model, each)) for each in (source, *node.users)):  # type: ignore[arg-type]
        return None
    sides = tuple(n for both in list(zip(link.layer.padding, link.after, strict=True))[::-1] for n in both)
    made = moved(module, exact_kernel(module), replace(link.layer, padding=(0,) * len(link.after)))
    with model.graph.inserting_before(node):
        pad = model.graph.call_function(nn.functional.pad, (source, sides))
        value = source.meta["tensor"]  # type: ignore[union-attr]
        size = (n + sum(sides[-2 * axis - 2 :][:2]) for axis, n in enumerate(value.shape[2:]))
        pad.meta["tensor"] = value._replace(shape=(*value.shape[:2], *size))
        last = model.graph.call_module(added(model, made, (str(node.target),)), (pad,))
    last.meta = dict(node.meta)
    node.replace_all_uses_with(last)
    model.graph.erase_node(node)
    name = name_in_report(node)
    return (name,), f"{name} pads more behind than in front: its zeros are padded apart, by {pad.name}"


def pad_earlier(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """Uneven zeros, the node, behind a 1 x 1 convolution without bias, which gives zeros for zeros: in front of it."""
    row, first = operation(node, module_of(model, node)), before(model, node)
    if row is None or row.name != "zero padding" or first is None or first.passed or first.sizes:
        return None
    layer = layer_of_node(model, first.node)
    zeros = zeros_of(node, module_of(model, node), node.meta["tensor"].ndim - 2)
    if layer is None or layer.taps > 1 or layer.bias or not isinstance(module_of(model, first.node), CONVOLUTIONS):
        return None
    if zeros != UNEVEN or any(layer.padding) or set(layer.stride) != {1}:
        return None
    if not all(isinstance(module_of(model, user), CONVOLUTIONS) for user in node.users):
        return None
    source, early, value = first.node.args[0], first.node, node.meta["tensor"]
    early.prepend(node)
    node.replace_input_with(early, source)  # type: ignore[arg-type]
    node.meta["tensor"] = value._replace(shape=(value.shape[0], source.meta["tensor"].shape[1], *value.shape[2:]))  # type: ignore[union-attr]
    node.replace_all_uses_with(early, delete_user_cb=lambda user: user is not early)
    early.replace_input_with(source, node)  # type: ignore[arg-type]
    early.meta["tensor"] = value
    names = (name_in_report(node), name_in_report(early))
    return names, f"{names[0]} pads in front of {names[1]}, which gives zeros for zeros"
