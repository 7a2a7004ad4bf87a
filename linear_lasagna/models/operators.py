"""The operator table: every linear operation, what spells it in a traced model, and what it is to merging.

Each is an affine map y = A x + b of images (batch, channels, *size). What is merged becomes a convolution in float64,
or folds into one beside it; what only moves numbers changes places with what stands beside it where that takes less
(`exchanging.RULES`); the rest is named in the report, with the reason (`remaining`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import fx, nn
from torch.nn import functional

from linear_lasagna.merging.plain import not_its_class

Kind: TypeAlias = Literal[
    "convolution",
    "normalisation",
    "identity",
    "arithmetic",
    "addition",
    "scaling",
    "pooling",
    "padding",
    "concatenation",
]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
DROPOUT_FUNCTIONS = (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d)
POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}  # by spatial axes
OWN_PADS = (nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d, nn.ReplicationPad1d, nn.ReplicationPad2d)
OWN_PADS += (nn.ReplicationPad3d, nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d)  # type: ignore[assignment]
# What overwrites its first argument, and what gives the same number in memory of its own.
IN_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
}
# Their results may share memory with their first argument.
RESHAPED = ("view", "view_as", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "detach")
TURNED = ("transpose", "swapaxes", "permute", "expand")
PARTS = ("chunk", "split", "tensor_split", "unbind", "getitem", "narrow", "select")
VIEWS = frozenset((*RESHAPED, *TURNED, *PARTS))


class Operation(NamedTuple):
    """A linear operation. modules, functions, methods: that compute it; of modules, subclasses with its forward, too.

    kind: how `finding` merges it; None where nothing does. says: what it is as an affine map, and when that is exact at
    the border; for what is not merged, why, and what would help.
    """

    name: str
    kind: Kind | None
    says: str
    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()
    methods: tuple[str, ...] = ()


OPERATIONS = (
    Operation("convolution", "convolution", "a convolution; zeros padded behind others keep a border", CONVOLUTIONS),
    Operation(
        "batch normalisation",
        "normalisation",
        "scale and shift per channel, in eval mode; its shift in front of zero padding keeps it apart",
        NORMALISATIONS,
    ),
    Operation("identity", "identity", "x", (nn.Identity,)),
    Operation("dropout", "identity", "x in eval mode, and random in training", DROPOUTS, DROPOUT_FUNCTIONS),
    Operation(
        "addition",
        "arithmetic",
        "of images: a sum of convolutions of one value, of equal stride and size; of a number: a shift",
        functions=(operator.add, operator.iadd, torch.add),
        methods=("add", "add_"),
    ),
    Operation(
        "subtraction",
        "arithmetic",
        "as addition, with signs",
        functions=(operator.sub, operator.isub, torch.sub, torch.subtract, torch.rsub),
        methods=("sub", "sub_", "subtract", "subtract_"),
    ),
    Operation(
        "multiplication",
        "arithmetic",
        "by a number, or one per channel: a scale",
        functions=(operator.mul, operator.imul, torch.mul, torch.multiply),
        methods=("mul", "mul_", "multiply", "multiply_"),
    ),
    Operation(
        "division",
        "arithmetic",
        "as multiplication by the inverse",
        functions=(operator.truediv, operator.itruediv, torch.div, torch.divide, torch.true_divide),
        methods=("div", "div_", "divide", "divide_", "true_divide", "true_divide_"),
    ),
    Operation(
        "negation",
        "arithmetic",
        "a scale of -1",
        functions=(operator.neg, torch.neg, torch.negative),
        methods=("neg", "neg_", "negative", "negative_"),
    ),
    Operation(
        "average pooling",
        "pooling",
        "a convolution of each channel by 1 / k, where the divisor is the same everywhere: it counts what it pads",
        tuple(POOLS.values()),
        (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d),
    ),
    Operation(
        "zero padding",
        "padding",
        "becomes the padding of a convolution or an average pooling that reads it, where that pads both ends alike",
        (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
        (functional.pad, torch.constant_pad_nd),
    ),
    Operation(
        "concatenation",
        "concatenation",
        "merged into a convolution without groups that alone reads it, where its parts are convolutions of one value",
        functions=(torch.cat, torch.concat, torch.concatenate),
    ),
    Operation(
        "padding by the image's own values",
        None,
        "what it puts around the image is no zero; pad once, in front of the first convolution",
        OWN_PADS,
    ),
    Operation(
        "transposed convolution",
        None,
        "no convolution of its input, whose positions it spreads",
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d),
    ),
    Operation(
        "linear layer",
        None,
        "it takes the last axis for channels; only linear layers and BatchNorm are folded into it",
        (nn.Linear,),
        (functional.linear,),
    ),
    Operation(
        "adaptive average pooling",
        None,
        "its windows depend on the image's size; with a size of its own, nn.AvgPool would be merged",
        (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        (functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d),
    ),
    Operation(
        "mean or sum",
        None,
        "its window is the whole image, whose size may change; a 1 x 1 in front of a mean is computed behind it",
        functions=(torch.mean, torch.sum),
        methods=("mean", "sum"),
    ),
    Operation(
        "resampling",
        None,
        "no convolution of its input; only a 1 x 1 behind it, or any convolution of nearest neighbours, takes less",
        (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
        (functional.interpolate, functional.upsample),
    ),
    Operation(
        "pixel shuffle",
        None,
        "it moves channels to positions; only BatchNorm, scales and a 1 x 1 to fewer channels pass it",
        (nn.PixelShuffle, nn.PixelUnshuffle),
        (functional.pixel_shuffle, functional.pixel_unshuffle),
    ),
    Operation(
        "channel shuffle",
        None,
        "it permutes channels, which only the weights of a convolution without groups beside it can do instead",
        (nn.ChannelShuffle,),
        (functional.channel_shuffle,),
    ),
    Operation("stack", None, "it gives its values an axis of their own", functions=(torch.stack,)),
    Operation(
        "a part of a value",
        None,
        "only a part of it is read: a convolution in front, without groups, computes some channels alone if no others "
        "are read; for some positions give it a stride, or less padding",
        functions=(operator.getitem, torch.chunk, torch.split, torch.tensor_split, torch.unbind, torch.narrow),
        methods=("chunk", "split", "tensor_split", "unbind", "narrow", "select"),
    ),
    Operation(
        "another shape or order of axes",
        None,
        "behind it the axes are no longer batch, channels and positions",
        (nn.Flatten, nn.Unflatten),
        (torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze),
        ("view", "reshape", "flatten", "unflatten", "permute", "transpose", "squeeze", "unsqueeze", "expand"),
    ),
)


def operation(node: fx.Node, module: nn.Module | None) -> Operation | None:
    """The row of the node in the table, or None; module: the one that it calls, or None."""
    return next((row for row in OPERATIONS if _spells(row, node, module)), None)


def _spells(row: Operation, node: fx.Node, module: nn.Module | None) -> bool:
    if module is not None:
        # Why convolutions and BatchNorms of their own are not merged, is said where they are met.
        own = row.kind in ("convolution", "normalisation")
        return isinstance(module, row.modules) and (own or not_its_class(module, row.modules) is None)
    if node.op == "call_function":
        return node.target in row.functions
    return node.op == "call_method" and node.target in row.methods


def kind(node: fx.Node, module: nn.Module | None) -> Kind | None:
    """What the node is to merging, from its row and arguments. Dropout counts as an identity in eval mode only."""
    row = operation(node, module)
    if row is None:
        return None
    if module is not None:
        one = len(node.args) == 1 and isinstance(node.args[0], fx.Node) and not node.kwargs
        on = isinstance(module, DROPOUTS) and module.training
        return row.kind if one and not on else None
    on = node.target in DROPOUT_FUNCTIONS and argument(node, 2, "training", True)
    return None if on else row.kind


def terms(node: fx.Node) -> list[Any]:
    """What the operation is of, nodes and numbers, in order."""
    return [*node.args, *(node.kwargs[key] for key in ("input", "other") if key in node.kwargs)]


def operand(node: fx.Node) -> fx.Node:
    """The node whose value the operation is of, where that is only one."""
    return next(value for value in terms(node) if isinstance(value, fx.Node))


def argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    """An argument of a call, by position or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def changed_in_place(node: fx.Node, module: nn.Module | None) -> fx.Node | None:
    """The node whose value this one overwrites, or None."""
    first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
    if "overwrites" in node.meta:  # seen while it was traced
        return node.meta["overwrites"]
    if module is not None:
        return first if getattr(module, "inplace", False) else None
    out = node.kwargs.get("out")
    if isinstance(out, fx.Node):
        return out
    name = name_of(node)
    overwrites = name.endswith("_") and not name.endswith("__")
    overwrites |= name == "setitem" or node.target in IN_PLACE or node.kwargs.get("inplace") is True
    # Activations take `inplace` by position as well.
    overwrites |= getattr(node.target, "__module__", "") == functional.__name__ and any(a is True for a in node.args)
    return first if overwrites else None


def may_alias(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether the node's value may lie in its first argument's memory."""
    if node.meta.get("alias") or "overwrites" in node.meta or "kept" in node.meta:
        return True
    if module is not None:
        return kind(node, module) == "identity" or type(module) in (nn.Flatten, nn.Unflatten)
    return name_of(node) in VIEWS or node.target in DROPOUT_FUNCTIONS


def name_of(node: fx.Node) -> str:
    """The name of the function or method that the node calls, or of its target."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
