"""What a node of a traced model is to merging: a convolution, a BatchNorm, an identity, an addition, or neither."""

from __future__ import annotations

import operator
from typing import Any, Literal, TypeAlias

import torch
from torch import fx, nn
from torch.nn import functional

Kind: TypeAlias = Literal["convolution", "normalisation", "identity", "addition"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
DROPOUT_FUNCTIONS = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
)
# torch.fx takes += for +.
ADDITIONS = (operator.add, torch.add, "add", "add_")
# Their results may share memory with their first argument.
RESHAPED = ("view", "view_as", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "detach")
TURNED = ("transpose", "swapaxes", "permute", "expand")
PARTS = ("chunk", "split", "tensor_split", "unbind", "getitem", "narrow", "select")
VIEWS = frozenset((*RESHAPED, *TURNED, *PARTS))


def kind(node: fx.Node, module: nn.Module | None) -> Kind | None:
    """What the node is; module: the one that it calls, or None. Dropout counts as an identity in eval mode only."""
    if module is not None:
        return _kind_of_module(node, module)
    if node.op not in ("call_function", "call_method"):
        return None
    if node.target in DROPOUT_FUNCTIONS:
        return None if _argument(node, 2, "training", True) else "identity"
    if node.target not in ADDITIONS or set(node.kwargs) - {"input", "other", "alpha"}:
        return None
    values = terms(node)
    tensors = [value for value in values if isinstance(value, fx.Node)]
    if node.kwargs.get("alpha", 1) != 1 or len(values) != 2 or len(tensors) + values.count(0) != 2:
        return None
    return "addition" if len(tensors) == 2 else "identity"


def _kind_of_module(node: fx.Node, module: nn.Module) -> Kind | None:
    if len(node.args) != 1 or not isinstance(node.args[0], fx.Node) or node.kwargs:
        return None
    if isinstance(module, CONVOLUTIONS):
        return "convolution"
    if isinstance(module, NORMALISATIONS):
        return "normalisation"
    if type(module) is nn.Identity or (type(module) in DROPOUTS and not module.training):
        return "identity"
    return None


def terms(node: fx.Node) -> list[Any]:
    """What an addition adds, or an identity passes on, nodes and numbers, in order."""
    return [*node.args, *(node.kwargs[key] for key in ("input", "other") if key in node.kwargs)]


def operand(node: fx.Node) -> fx.Node:
    """The node that a convolution, a BatchNorm or an identity reads."""
    return next(value for value in terms(node) if isinstance(value, fx.Node))


def _argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def changed_in_place(node: fx.Node, module: nn.Module | None) -> fx.Node | None:
    """The node whose value this one overwrites, or None."""
    first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
    if module is not None:
        return first if getattr(module, "inplace", False) else None
    out = node.kwargs.get("out")
    if isinstance(out, fx.Node):
        return out
    name = name_of(node)
    overwrites = name.endswith("_") and not name.endswith("__")
    overwrites |= name == "setitem" or node.kwargs.get("inplace") is True
    # Activations take `inplace` by position as well.
    overwrites |= getattr(node.target, "__module__", "") == functional.__name__ and any(a is True for a in node.args)
    return first if overwrites else None


def may_alias(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether the node's value may lie in its first argument's memory."""
    if module is not None:
        return _kind_of_module(node, module) == "identity" or type(module) in (nn.Flatten, nn.Unflatten)
    return name_of(node) in VIEWS or node.target in DROPOUT_FUNCTIONS


def name_of(node: fx.Node) -> str:
    """The name of the function or method that the node calls, or of its target."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
