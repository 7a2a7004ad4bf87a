"""BatchNorm behind a concatenation of convolutions, as MixNet's (arXiv 1907.09595): one behind each, which folds."""

from __future__ import annotations

import copy
from typing import Any

from torch import fx, nn

from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.finding import parts_of
from linear_lasagna.models.layers import layer_of
from linear_lasagna.models.operators import CONVOLUTIONS, NORMALISATIONS, kind


def distribute(model: fx.GraphModule) -> None:
    """Give every part of a concatenation its channels of the BatchNorm behind it, in place, where all parts fold it."""
    for node in list(model.graph.nodes):
        parts = _parts(model, node)
        start = 0
        for place, part in enumerate(parts):
            stop = start + part.meta["tensor"].shape[1]
            name = f"{node.target}_part_{place}"
            model.add_submodule(name, _channels(model.get_submodule(str(node.target)), slice(start, stop)))
            with model.graph.inserting_after(part):
                norm = model.graph.call_module(name, (part,))
            norm.meta["tensor"] = part.meta["tensor"]
            part.replace_all_uses_with(norm, delete_user_cb=lambda user, norm=norm: user is not norm)
            start = stop
        if parts:
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)
    model.recompile()


def _parts(model: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """The convolutions whose concatenation the node normalises, used for nothing else; none where it does not."""
    source = node.args[0] if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
    norm = model.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(source, fx.Node) or source.op == "call_module" or kind(source, None) != "concatenation":
        return []
    if not isinstance(norm, NORMALISATIONS) or not_plain(norm, NORMALISATIONS) or norm.running_mean is None:
        return []
    if "tensor" not in source.meta or any("tensor" not in each.meta for each in source.all_input_nodes):
        return []
    parts = parts_of(source) or []
    alone = set(source.users) == {node} and len({*parts}) == len(parts)
    return parts if alone and all(set(part.users) == {source} and _folds(model, part) for part in parts) else []


def _folds(model: fx.GraphModule, part: fx.Node) -> bool:
    module = model.get_submodule(str(part.target)) if part.op == "call_module" else None
    return isinstance(module, CONVOLUTIONS) and not isinstance(layer_of(module, part.meta["tensor"].ndim), str)


def _channels(norm: Any, channels: slice) -> nn.Module:
    """The BatchNorm of some of the channels."""
    part = copy.deepcopy(norm)
    part.num_features = channels.stop - channels.start
    part.running_mean, part.running_var = norm.running_mean[channels].clone(), norm.running_var[channels].clone()
    for name in ("weight", "bias"):
        if (numbers := getattr(norm, name)) is not None:
            setattr(part, name, nn.Parameter(numbers.detach()[channels].clone(), numbers.requires_grad))
    return part
