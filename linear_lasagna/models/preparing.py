"""A traced graph as the finder reads it: functions of the model's own numbers become the modules that they stand for.

Assertions about sizes go, with the reads that only they used, and what overwrites a value that nothing else sees any
more gives a new one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import fx, nn
from torch.fx.proxy import assert_fn
from torch.nn import functional

from linear_lasagna.merging.plain import hooked
from linear_lasagna.models.joining import Note
from linear_lasagna.models.operators import IN_PLACE, may_alias

Numbers: TypeAlias = Mapping[str, Any]
aten = torch.ops.aten

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
INSTANCE_NORMS = {nn.InstanceNorm1d: 3, nn.InstanceNorm2d: 4, nn.InstanceNorm3d: 5}
LAYERS = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear, *BATCH_NORMS.values())
ASSERTIONS = (torch._assert, assert_fn, aten._assert_scalar.default, aten._assert_async.msg)


def _convolution(numbers: Numbers, ndim: int) -> nn.Module:
    weight, groups = numbers["weight"], numbers.get("groups", 1)
    rank, transposed = weight.ndim - 2, numbers.get("transposed", False)
    channels = (weight.shape[1] * groups, weight.shape[0])
    names = ("stride", "padding", "dilation", *(("output_padding",) if transposed else ()))
    return (TRANSPOSED if transposed else CONVOLUTIONS)[rank - 1](
        *(channels[::-1] if transposed else channels),
        tuple(weight.shape[2:]),
        groups=groups,
        bias=numbers.get("bias") is not None,
        device="meta",
        **{name: _sizes(numbers[name], rank) for name in names if name in numbers},
    )


def _transposed(numbers: Numbers, ndim: int) -> nn.Module:
    return _convolution({**numbers, "transposed": True}, ndim)


def _sizes(value: Any, rank: int) -> Any:
    """One number per axis: functions take lists, and lists of one number, too."""
    if isinstance(value, (str, int)):
        return value
    return tuple(value) if len(value) == rank else tuple(value) * rank


def _linear(numbers: Numbers, ndim: int) -> nn.Module | str:
    weight = numbers["weight"]
    if weight.ndim != 2:
        return "its weight is no matrix"
    return nn.Linear(weight.shape[1], weight.shape[0], bias=numbers.get("bias") is not None, device="meta")


def _batch_norm(numbers: Numbers, ndim: int, training: bool = False) -> nn.Module | str:
    mean, variance = numbers["running_mean"], numbers["running_var"]
    if numbers.get("training", training):
        return "it uses the statistics of its input"
    if mean is None or variance is None or ndim not in BATCH_NORMS:
        return "it has no running statistics, or its input is no image"
    eps = numbers.get("eps", 1e-5)
    module = BATCH_NORMS[ndim](len(mean), eps, numbers.get("momentum", 0.1), affine=False, device=mean.device)
    module.running_mean, module.running_var = mean.detach(), variance.detach()
    module.affine = numbers.get("weight") is not None
    return module


def _instance_norm(numbers: Numbers, ndim: int) -> nn.Module | str:
    """With running statistics in eval mode, what BatchNorm does."""
    return _batch_norm({**numbers, "training": numbers.get("use_input_stats", True)}, ndim)


class Function(NamedTuple):
    """label: the module's name where that of its owner is taken. arguments: in order, "input" first.

    module: of the values of all arguments but the input, and the input's rank: what computes the same, or why none
    does.
    """

    label: str
    arguments: tuple[str, ...]
    module: Callable[[Numbers, int], nn.Module | str]


WINDOW = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED_WINDOW = (*WINDOW[:5], "output_padding", "groups", "dilation")
ANY_WINDOW = (*WINDOW[:6], "transposed", "output_padding", "groups")
STATISTICS = ("running_mean", "running_var")
AFFINE = ("weight", "bias")
REST = ("momentum", "eps")
_conv = Function("conv", WINDOW, _convolution)
_transposed_conv = Function("conv_transpose", TRANSPOSED_WINDOW, _transposed)
_native_norm = Function("batch_norm", ("input", *AFFINE, *STATISTICS, "training", *REST, "cudnn_enabled"), _batch_norm)
FUNCTIONS: dict[Any, Function] = {
    **dict.fromkeys((functional.conv1d, functional.conv2d, functional.conv3d), _conv),
    **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), _conv),
    **dict.fromkeys((aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding), _conv),
    **dict.fromkeys(
        (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d), _transposed_conv
    ),
    **dict.fromkeys(
        (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input), _transposed_conv
    ),
    **dict.fromkeys((torch.convolution, aten.convolution.default), Function("conv", ANY_WINDOW, _convolution)),
    **dict.fromkeys((functional.linear, aten.linear.default), Function("linear", WINDOW[:3], _linear)),
    functional.batch_norm: Function("batch_norm", ("input", *STATISTICS, *AFFINE, "training", *REST), _batch_norm),
    **dict.fromkeys((torch.batch_norm, aten.batch_norm.default), _native_norm),
    functional.instance_norm: Function(
        "instance_norm", ("input", *STATISTICS, *AFFINE, "use_input_stats", *REST), _instance_norm
    ),
}


# What torch.export calls operations, and what they are called elsewhere, with the same arguments.
NAMES: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: torch.add,
    aten.sub.Tensor: torch.sub,
    aten.mul.Tensor: torch.mul,
    aten.div.Tensor: torch.div,
    aten.neg.default: torch.neg,
    aten.add_.Tensor: operator.iadd,
    aten.sub_.Tensor: operator.isub,
    aten.mul_.Tensor: operator.imul,
    aten.div_.Tensor: operator.itruediv,
    aten.dropout.default: functional.dropout,
    aten.cat.default: torch.cat,
    aten.chunk.default: torch.chunk,
    aten.flatten.using_ints: torch.flatten,
    aten.pixel_shuffle.default: functional.pixel_shuffle,
    aten.pixel_unshuffle.default: functional.pixel_unshuffle,
    aten.pad.default: functional.pad,
    aten.avg_pool2d.default: functional.avg_pool2d,
    aten.adaptive_avg_pool2d.default: functional.adaptive_avg_pool2d,
}


# Norms that give several values, of which the first is the result: their arguments as torch.batch_norm's.
SEVERAL: dict[Any, Callable[..., tuple[Any, ...]]] = {
    aten._native_batch_norm_legit_no_training.default: lambda *a: (*a[:5], False, *a[5:], False),
    aten._native_batch_norm_legit.default: lambda *a: (*a, False),
    aten.native_batch_norm.default: lambda *a: (*a, False),
}


class Call(NamedTuple):
    """A call that a module computes. key: the same for calls of the same module; owner: what has its numbers."""

    module: nn.Module
    key: str
    owner: str
    label: str


def prepare(model: fx.GraphModule) -> list[Note]:
    """Rewrite the graph in place; its nodes know their values' shapes in meta["tensor"]. Returns what is no module.

    Parameters and buffers are shared with the model, under their owner's name where nothing else has it.
    """
    _named(model.graph)
    _out_of_place(model)
    for node in list(model.graph.nodes):
        about_sizes = node.target in ASSERTIONS and (not isinstance(c := node.args[0], fx.Node) or c.meta.get("sized"))
        if about_sizes and "guard" not in node.meta:
            model.graph.erase_node(node)
    _drop_unused(model.graph)
    notes = _as_modules(model)
    _drop_unused(model.graph)
    for node in model.graph.nodes:
        node.meta.pop("constant", None)
    model.graph.lint()
    model.delete_all_unused_submodules()
    model.recompile()
    return notes


def _named(graph: fx.Graph) -> None:
    """Operations of exported graphs by their usual names; norms that give their statistics, too, without these."""
    for node in list(graph.nodes):
        if node.target in SEVERAL and all(u.target is operator.getitem and u.args[1] == 0 for u in node.users):
            for user in list(node.users):
                user.target, user.args, user.kwargs = torch.batch_norm, SEVERAL[node.target](*node.args), {}
            graph.erase_node(node)
        elif node.target in NAMES and not {"alpha", "rounding_mode"}.intersection(node.kwargs):
            node.target = NAMES[node.target]


def _drop_unused(graph: fx.Graph) -> None:
    """Reads of sizes and of the model's numbers that nothing uses any more."""
    for node in reversed(list(graph.nodes)):
        meta = node.meta
        needless = node.op == "get_attr" or meta.get("sized") or meta.get("constant") is not None
        if needless and not node.users and node.op != "placeholder" and not {"guard", "overwrites"} & meta.keys():
            graph.erase_node(node)


def _out_of_place(model: fx.GraphModule) -> None:
    """x += y as x = x + y, where no other use of x, under whatever name, comes later."""
    order = {node: place for place, node in enumerate(model.graph.nodes)}
    modules = dict(model.named_modules(remove_duplicate=False))

    def alias(node: fx.Node) -> bool:
        return may_alias(node, modules[str(node.target)] if node.op == "call_module" else None)

    def seen(value: fx.Node, change: fx.Node) -> bool:
        others = [user for user in value.users if user is not change]
        return any(order[user] > order[change] or (alias(user) and seen(user, change)) for user in others)

    for node in model.graph.nodes:
        if node.op == "call_function" and node.target in IN_PLACE:
            names = list(_names(node.args[0], alias))
            if names[-1].op != "get_attr" and not any(seen(name, node) for name in names):
                node.target = IN_PLACE[node.target]
                node.meta["alias"] = False
                node.meta.pop("overwrites", None)


def _names(value: fx.Node, alias: Callable[[fx.Node], bool]) -> Iterator[fx.Node]:
    """The value, and those in whose memory it may lie."""
    yield value
    while alias(value) and value.args and isinstance(value.args[0], fx.Node):
        value = value.args[0]
        yield value


def _as_modules(model: fx.GraphModule) -> list[Note]:
    found = {node: call for node in model.graph.nodes if (call := _call(model, node)) is not None}
    notes = [((node.name,), reason) for node, reason in found.items() if isinstance(reason, str)]
    calls = {node: call for node, call in found.items() if isinstance(call, Call)}
    alike: dict[str, set[fx.Node]] = {}
    for node, call in calls.items():
        alike.setdefault(call.key, set()).add(node)
    names: dict[str, str] = {}
    owned = _Owned.of(model.graph)
    for node, call in calls.items():
        if call.key not in names:
            names[call.key] = _add(model, call, alike[call.key], owned)
            owned.called.add(names[call.key])
        if node.op == "call_module":
            continue
        source = node.args[0] if node.args else node.kwargs["input"]
        with model.graph.inserting_before(node):
            new = model.graph.call_module(names[call.key], (source,))
        new.meta = node.meta
        node.replace_all_uses_with(new)
        model.graph.erase_node(node)
    return notes


def _call(model: fx.GraphModule, node: fx.Node) -> Call | str | None:
    """The node as a call of a module, why it is none although it is one of FUNCTIONS, or None."""
    if node.op == "call_module":
        return _instance_norm_call(node, model.get_submodule(str(node.target)))
    function = FUNCTIONS.get(node.target) if node.op == "call_function" else None
    if function is None or node.meta.get("constant") is not None:
        return None
    given = {**dict(zip(function.arguments, node.args, strict=False)), **node.kwargs}
    source = given.pop("input")
    if not isinstance(source, fx.Node) or "tensor" not in source.meta:
        return None
    if not all(map(_is_constant, given.values())):
        return "its numbers are computed by forward, they are not the model's own"
    module = function.module({name: _value(model, each) for name, each in given.items()}, source.meta["tensor"].ndim)
    if isinstance(module, str):
        return module
    for name in AFFINE:
        value = _value(model, given.get(name))
        setattr(module, name, None if value is None else _parameter(value))
    targets = sorted(target for each in given.values() for target in _targets(each))
    owners = {target.rpartition(".")[0] for target in targets}
    key = f"{function.label} {[(name, str(_identity(each))) for name, each in sorted(given.items())]}"
    return Call(module.eval(), key, owners.pop() if len(owners) == 1 else "", function.label)


def _instance_norm_call(node: fx.Node, module: nn.Module) -> Call | None:
    """An instance norm whose statistics are fixed, as the BatchNorm that it is."""
    rank = INSTANCE_NORMS.get(type(module))  # type: ignore[arg-type]
    value = node.args[0].meta.get("tensor") if len(node.args) == 1 and isinstance(node.args[0], fx.Node) else None
    if value is None or value.ndim != rank or module.training or hooked(module) or not module.track_running_stats:
        return None
    numbers = {name: getattr(module, name) for name in (*STATISTICS, *AFFINE, *REST)}
    norm = _batch_norm(numbers, value.ndim)
    if isinstance(norm, str):
        return None
    norm.weight, norm.bias = numbers["weight"], numbers["bias"]
    return Call(norm.eval(), str(node.target), str(node.target), "")


def _is_constant(value: Any) -> bool:
    """Whether it is one of the model's own numbers, or computed from them alone."""
    if isinstance(value, (tuple, list)):
        return not any(isinstance(each, fx.Node) for each in value)
    return not isinstance(value, fx.Node) or value.op == "get_attr" or value.meta.get("constant") is not None


def _value(model: fx.GraphModule, value: Any) -> Any:
    if not isinstance(value, fx.Node):
        return value
    return operator.attrgetter(str(value.target))(model) if value.op == "get_attr" else value.meta["constant"]


def _identity(value: Any) -> Any:
    return value.target if isinstance(value, fx.Node) and value.op == "get_attr" else value


def _targets(value: Any) -> set[str]:
    """The model's numbers that a constant is, or is computed from."""
    if not isinstance(value, fx.Node):
        return set()
    return {str(value.target)} if value.op == "get_attr" else set().union(*map(_targets, value.all_input_nodes))


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach(), tensor.requires_grad)


class _Owned(NamedTuple):
    """called: the modules that the graph calls; numbers: what reads a module's own numbers, by the module's name."""

    called: set[str]
    numbers: dict[str, list[fx.Node]]

    @classmethod
    def of(cls, graph: fx.Graph) -> _Owned:
        owned = cls({str(node.target) for node in graph.nodes if node.op == "call_module"}, {})
        for node in graph.nodes:
            if node.op == "get_attr":
                owned.numbers.setdefault(str(node.target).rpartition(".")[0], []).append(node)
        return owned


def _add(model: fx.GraphModule, call: Call, nodes: set[fx.Node], owned: _Owned) -> str:
    """Add the module: in its owner's place, with what is in there, where it uses the owner's numbers alone."""
    if not call.label:
        model.add_submodule(call.owner, call.module)
        return call.owner
    if call.owner and _replaces(model, call.owner, nodes, owned):
        for name, child in model.get_submodule(call.owner).named_children():
            call.module.add_module(name, child)
        model.add_submodule(call.owner, call.module)
        return call.owner
    first = f"{call.owner}.{call.label}".lstrip(".")
    names = (first, *(f"{first}_{number}" for number in range(1, len(model.graph.nodes) + 1)))
    name = next(name for name in names if not _exists(model, name))
    model.add_submodule(name, call.module)
    return name


def without_numbers_of_their_own(model: fx.GraphModule) -> None:
    """Layers that are not called any more, but something in them is, become plain containers."""
    used = {str(node.target) for node in model.graph.nodes if node.op == "call_module"}
    used |= {str(node.target).rpartition(".")[0] for node in model.graph.nodes if node.op == "get_attr"}
    for name, module in list(model.named_modules()):
        if isinstance(module, LAYERS) and not any(f"{name}.".startswith(f"{other}.") for other in used):
            container = nn.Module()
            for child_name, child in module.named_children():
                container.add_module(child_name, child)
            model.add_submodule(name, container)


def _exists(model: nn.Module, name: str) -> bool:
    try:
        operator.attrgetter(name)(model)
    except AttributeError:
        return False
    return True


def _replaces(model: fx.GraphModule, owner: str, nodes: set[fx.Node], owned: _Owned) -> bool:
    """Whether nothing but these nodes calls the owner or uses its numbers, and no hook would be lost with it."""
    if hooked(model.get_submodule(owner)) or owner in owned.called:
        return False

    def ours(user: fx.Node) -> bool:
        return user in nodes or (user.meta.get("constant") is not None and all(map(ours, user.users)))

    return all(ours(user) for node in owned.numbers.get(owner, ()) for user in node.users)
