"""Models that are refused before they are traced, each in a sentence that says what to pass instead."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.weight_norm import WeightNorm

from linear_lasagna.merging.plain import not_its_class
from linear_lasagna.models.operators import CONVOLUTIONS, DROPOUTS, NORMALISATIONS

BATCHNORM = nn.modules.batchnorm._BatchNorm


def check(model: nn.Module) -> None:
    """Raises ValueError, naming the module, for a model that cannot be traced, or would be another one if it were."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"merge_model takes an nn.Module, not a {type(model).__name__}")
    for name, module in model.named_modules():
        reason = next(_reasons(module), None)
        if reason is not None:
            raise ValueError(f"{name!r} {reason}" if name else f"the model {reason}")
    reason = not_its_class(model, (type(model),))
    if reason is not None:
        raise ValueError(f"torch.fx cannot trace this model: {reason}")


def _reasons(module: nn.Module) -> Iterator[str]:
    """Why the module is refused."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        yield f"is wrapped in {type(module).__name__}; pass what its .module is"
    if isinstance(module, torch.jit.ScriptModule):
        yield "is scripted or traced by torch.jit; pass the module that it was made from"
    if hasattr(module, "_orig_mod"):
        yield "is compiled; merge the model before torch.compile, and compile the result"
    if isinstance(module, fx.GraphModule) and any(
        isinstance(n.target, torch._ops.OpOverload) for n in module.graph.nodes
    ):
        yield "is exported, its layers are functions; pass the module that it was exported from"
    if _normed(module):
        yield "has the old weight_norm; call it once without gradients, or torch.nn.utils.remove_weight_norm on it"
    if any(is_lazy(parameter) for parameter in module.parameters(recurse=False)):
        yield "has numbers that are not there yet; call the model once before merge_model"
    if module.training and isinstance(module, BATCHNORM):
        yield "is a BatchNorm in training mode; call model.eval() before merge_model"
    if module.training and isinstance(module, DROPOUTS) and module.p > 0:
        yield "is a dropout in training mode; call model.eval() before merge_model"
    if isinstance(module, (*CONVOLUTIONS, *NORMALISATIONS)):
        for part, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if not bool(torch.isfinite(tensor).all()):
                yield f"has a {part} with numbers that are not finite"


def _normed(module: nn.Module) -> bool:
    """Whether the old weight_norm keeps the module from being copied: by a weight with a history."""
    normed = any(isinstance(hook, WeightNorm) for hook in module._forward_pre_hooks.values())
    return normed and any(isinstance(each, torch.Tensor) and not each.is_leaf for each in vars(module).values())
