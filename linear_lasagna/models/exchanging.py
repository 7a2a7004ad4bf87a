"""Pointwise layers and averagings of positions, put in the order that takes fewer operations.

An averaging whose weights add up to 1 at every position, as resampling and pooling that counts no padding do, commutes
with a 1 x 1 convolution, A (W x + b) = W (A x) + b, for images of any size; other pooling does so without a bias. So it
is for each part of a concatenation that a 1 x 1 convolution reads. Numbers are only moved, which rounds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx, nn

from linear_lasagna.models.adding_up import add_up
from linear_lasagna.models.averaging import averages, averaging_operations, is_global
from linear_lasagna.models.cutting import crop, pad_apart, pad_earlier, permute, select
from linear_lasagna.models.exact_numbers import exact_kernel, moved
from linear_lasagna.models.finding import name_in_report
from linear_lasagna.models.joining import Note
from linear_lasagna.models.layers import layer_of
from linear_lasagna.models.operators import CONVOLUTIONS, NORMALISATIONS, argument, kind, name_of, operation
from linear_lasagna.models.own_values import pad_before_norm
from linear_lasagna.models.pointwise import before, biased, module_of, pointwise, positions
from linear_lasagna.models.rewriting import added
from linear_lasagna.models.table import count_text
from linear_lasagna.models.windows import unshuffle_of
from linear_lasagna.problems import Kernel

LAST = (nn.Linear, nn.BatchNorm1d)  # what may read an image that was flattened, and then is one with the layer before


def exchange(model: fx.GraphModule) -> list[Note]:
    """Exchange what takes fewer operations in the other order, in place. Returns what was, as notes."""
    notes: list[Note] = []
    known = -1
    while len(notes) > known:
        known = len(notes)
        for node in list(model.graph.nodes):
            note = None if node._erased else _exchanged(model, node)
            notes += [] if note is None else [note]
    if notes:
        model.graph.lint()
        model.recompile()
    return notes


def _exchanged(model: fx.GraphModule, node: fx.Node) -> Note | None:
    return next(filter(None, (rule(model, node) for rule in RULES)), None)


def _operations(model: fx.GraphModule, averaging: fx.Node, module: Any) -> tuple[int, int]:
    """Of both, per image, with the pointwise layer in front of the averaging, and behind it."""
    each, read = averaging_operations(model, averaging), averaging.all_input_nodes[0]
    norm = not isinstance(module, CONVOLUTIONS)
    inputs, outputs = (module.num_features,) * 2 if norm else (module.in_channels, module.out_channels)
    per = inputs if norm else module.weight.numel()
    return per * positions(read) + each * outputs, per * positions(averaging) + each * inputs


def _later(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """A pointwise layer in front of an averaging, the node, to fewer positions: behind it."""
    found = before(model, node)
    first = None if found is None else found.node
    module = None if first is None else pointwise(model, first)
    adds_up = None if module is None else averages(model, node)
    if (
        found is None
        or first is None
        or adds_up is None
        or not (adds_up or not biased(module))
        or _belongs_in_front(model, first)
    ):
        return None
    earlier, after = _operations(model, node, module)
    if after >= earlier or len(node.all_input_nodes) > 1:
        return None
    first.prepend(node)  # where the source was read: it may be overwritten later
    source, value = first.args[0], node.meta["tensor"]
    whole = value._replace(shape=(*value.shape[:2], *(value.shape[2:] or (1,) * (first.meta["tensor"].ndim - 2))))
    node.replace_input_with(node.all_input_nodes[0], source)  # type: ignore[arg-type]
    node.meta["tensor"] = whole._replace(shape=(value.shape[0], source.meta["tensor"].shape[1], *whole.shape[2:]))  # type: ignore[union-attr]
    if len(value.shape) == 2:
        node.args, node.kwargs = (source, tuple(range(2, len(whole.shape))), True), {}
    with model.graph.inserting_after(node):
        last = _called(model, first, node, whole)
    if len(value.shape) == 2:
        with model.graph.inserting_after(last):
            last = model.graph.call_method("flatten", (last, 1))
            last.meta["tensor"] = value
    _handed_on(node, last)
    found.replaced_by(source, model.graph)
    return _note(first, node, "behind", earlier, after)


def _called(model: fx.GraphModule, layer: fx.Node, value: fx.Node, gives: Any) -> fx.Node:
    """The module that a node calls, called on another value."""
    node = model.graph.call_module(str(layer.target), (value,))
    node.meta = {**layer.meta, "tensor": gives}
    return node


def _handed_on(node: fx.Node, last: fx.Node) -> None:
    """Let what reads the node read what was put behind it."""
    inside = {last, *last.all_input_nodes}
    node.replace_all_uses_with(last, delete_user_cb=lambda user: user not in inside)


def _note(layer: fx.Node, averaging: fx.Node, where: str, before: int, after: int) -> Note:
    names = (name_in_report(layer), name_in_report(averaging))
    counts = f"{count_text(before)} -> {count_text(after)} operations"
    return names, f"{names[0]} is computed {where} {names[1]}, with which it commutes: {counts}"


def _belongs_in_front(model: fx.GraphModule, layer: fx.Node) -> bool:
    """Whether the pointwise layer would rather be merged into a convolution in front of it."""
    found = before(model, layer)
    module = None if found is None else module_of(model, found.node)
    if not isinstance(module, CONVOLUTIONS):
        return False
    late = module_of(model, layer)
    return pointwise(model, found.node) is None and (  # type: ignore[arg-type]
        not isinstance(late, CONVOLUTIONS) or late.out_channels < late.in_channels
    )


def _earlier(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """A pointwise layer, the node, behind an averaging to more positions: in front of it."""
    found, module = before(model, node), pointwise(model, node)
    averaging = None if found is None or found.passed or found.sizes else found.node
    adds_up = None if averaging is None or module is None else averages(model, averaging)
    if averaging is None or adds_up is None or not (adds_up or not biased(module)):
        return None
    after, earlier = _operations(model, averaging, module)
    if after >= earlier:
        return None
    source, value = averaging.all_input_nodes[0], node.meta["tensor"]
    read = source.meta["tensor"]
    with model.graph.inserting_before(averaging):
        layer = _called(model, node, source, read._replace(shape=(*value.shape[:2], *read.shape[2:])))
    averaging.replace_input_with(source, layer)
    averaging.meta["tensor"] = value
    node.replace_all_uses_with(averaging)
    model.graph.erase_node(node)
    return _note(node, averaging, "in front of", earlier, after)


def _unshuffled(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """A convolution, the node, of an image whose positions a pixel unshuffle made channels: one of the image itself.

    It takes as many operations, without the copy: as YOLOv5 replaced its Focus layer, ultralytics/yolov5, v6.0.
    """
    module, found = (
        module_of(model, node),
        before(model, node) if isinstance(module_of(model, node), CONVOLUTIONS) else None,
    )
    if found is None or found.passed or found.sizes or len(node.args) > 1 or node.kwargs:
        return None
    first = found.node
    factor, layer = unshuffle_of(first, module_of(model, first)), layer_of(module, node.meta["tensor"].ndim)
    if factor is None or isinstance(layer, str) or layer.groups > 1 or set(layer.dilation) != {1}:
        return None
    kernel = exact_kernel(module)
    taps = kernel.weight.unflatten(1, (-1, factor, factor)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
    sizes = {name: tuple(factor * n for n in getattr(layer, name)) for name in ("kernel_size", "stride", "padding")}
    made = moved(module, Kernel(taps.contiguous(), kernel.bias), replace(layer, **sizes))  # type: ignore[arg-type]
    names = (name_in_report(first), name_in_report(node))
    with model.graph.inserting_before(first):
        last = model.graph.call_module(added(model, made, (str(node.target),)), (first.all_input_nodes[0],))
    last.meta = dict(node.meta)
    node.replace_all_uses_with(last)
    model.graph.erase_node(node)
    model.graph.erase_node(first)
    return names, f"{names[1]} reads what {names[0]} reads: one convolution of it, {last.target!r}"


def _flattened(model: fx.GraphModule, node: fx.Node) -> Note | None:
    """A pointwise layer on the one position that is left of an image, which the node flattens for a linear layer.

    Flattened first, it is a linear layer, or BatchNorm of (batch, channels), itself.
    """
    found = before(model, node)
    first = None if found is None else found.node
    if (
        found is None
        or first is None
        or pointwise(model, first) is None
        or not _flattens(model, node)
        or not _reads_point(model, first)
    ):
        return None
    users = [module_of(model, user) for user in _readers(model, node)]
    layer = _withoutpositions(module_of(model, first))
    if layer is None or not users or not all(isinstance(user, LAST) for user in users):
        return None
    source, value = first.args[0], node.meta["tensor"]
    node.replace_input_with(node.all_input_nodes[0], source)  # type: ignore[arg-type]
    node.meta["tensor"] = value._replace(shape=(value.shape[0], source.meta["tensor"].shape[1]))  # type: ignore[union-attr]
    with model.graph.inserting_after(node):
        last = model.graph.call_module(added(model, layer, (str(first.target),)), (node,))
    last.meta["tensor"] = value
    _handed_on(node, last)
    found.replaced_by(source, model.graph)
    names = (name_in_report(first), name_in_report(node))
    return names, f"{names[0]} is computed behind {names[1]}, of one position: as a layer without any, {last.target!r}"


def _readers(model: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """What reads the value, through identities."""
    found: list[fx.Node] = []
    for user in node.users:
        found += _readers(model, user) if kind(user, module_of(model, user)) == "identity" else [user]
    return found


def _flattens(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node makes (batch, channels) of (batch, channels, 1, …), whatever the batch."""
    row, value, read = (operation(node, module_of(model, node)), *(n.meta.get("tensor") for n in (node, node.args[0])))  # type: ignore[union-attr]
    if row is None or row.name != "another shape or order of axes" or value is None or read is None:
        return False
    if value.shape != read.shape[:2]:
        return False
    return name_of(node) not in ("view", "reshape") or node.args[2:] == (-1,)


def _reads_point(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the pointwise node's image has one position, whatever the size of the model's input."""
    source = node.args[0]
    while isinstance(source, fx.Node) and pointwise(model, source) is not None:
        source = source.args[0]
    if not isinstance(source, fx.Node) or averages(model, source) is None or positions(source) != 1:
        return False
    module = module_of(model, source)
    size = getattr(module, "output_size", None) or argument(source, 1, "output_size", None)
    return is_global(source) if name_of(source) == "mean" else size == 1 or (bool(size) and set(size) == {1})


def _withoutpositions(module: Any) -> nn.Module | None:
    """The pointwise layer for (batch, channels)."""
    if isinstance(module, NORMALISATIONS):
        layer: Any = nn.BatchNorm1d(module.num_features, module.eps, affine=module.affine, device="meta")
        layer.weight, layer.bias = module.weight, module.bias
        layer.running_mean, layer.running_var = module.running_mean, module.running_var
        layer.num_batches_tracked = module.num_batches_tracked
        return layer.eval()
    if module.groups > 1:
        return None
    layer = nn.Linear(module.in_channels, module.out_channels, module.bias is not None, device="meta")
    layer.weight = nn.Parameter(module.weight.detach().flatten(1).clone(), module.weight.requires_grad)
    layer.bias = module.bias
    return layer.eval()


RULES: tuple[Callable[[fx.GraphModule, fx.Node], Note | None], ...] = (
    select,
    permute,
    crop,
    pad_apart,
    pad_earlier,
    pad_before_norm,
    _later,
    _earlier,
    _flattened,
    _unshuffled,
    add_up,
)
