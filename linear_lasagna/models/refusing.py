"""Models that are refused before they are traced, each in a sentence that says what to pass instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from linear_lasagna.merging.plain import not_its_class
from linear_lasagna.models.operators import CONVOLUTIONS, DROPOUTS, NORMALISATIONS

BATCHNORM = nn.modules.batchnorm._BatchNorm
QUANTISED = ("quantized", "quantized_decomposed")  # namespaces of operations


def check(model: nn.Module) -> None:
    """Raises ValueError, naming the module, for a model that cannot be traced, or would be another one if it were."""
    if isinstance(model, torch.export.ExportedProgram):
        raise ValueError("merge_model takes an nn.Module, not an ExportedProgram; pass its .module()")
    if not isinstance(model, nn.Module):
        raise ValueError(f"merge_model takes an nn.Module, not a {type(model).__name__}")
    for name, module in model.named_modules():
        reason = next(_reasons(module), None)
        if reason is not None:
            raise ValueError(f"{name!r} {reason}" if name else f"the model {reason}")
    reason = not_its_class(model, (type(model),))
    if reason is not None and not exported(model):
        raise ValueError(f"torch.fx cannot trace this model: {reason}")


def check_inputs(inputs: Iterable[Any]) -> None:
    """Raises ValueError for tensors of which nothing can be computed."""
    for tensor in inputs:
        if isinstance(tensor, torch.Tensor) and tensor.is_meta:
            raise ValueError("example_input is on the meta device, which holds no numbers; give an image")
        if isinstance(tensor, torch.Tensor) and tensor.numel() == 0:
            raise ValueError(
                "example_input has an empty tensor; its shapes decide what pays, so give at least one image"
            )


def check_numbers(model: nn.Module) -> None:
    """Raises ValueError, naming the module, where numbers that could be merged are not finite."""
    for name, module in model.named_modules():
        if isinstance(module, (*CONVOLUTIONS, *NORMALISATIONS)):
            for part, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                if not _finite(tensor):
                    subject = repr(name) if name else "the model"
                    raise ValueError(f"{subject} has a {part} with numbers that are not finite")


def _finite(numbers: torch.Tensor) -> bool:
    """Whether all are: if their sum is, which takes a fraction of the time, or if each one is."""
    return bool(torch.isfinite(numbers.sum())) or bool(torch.isfinite(numbers).all())


def _reasons(module: nn.Module) -> Iterator[str]:
    """Why the module is refused."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        yield f"is wrapped in {type(module).__name__}; pass what its .module is"
    if hasattr(module, "_fsdp_wrapped_module"):
        yield f"is wrapped in {type(module).__name__}; pass the module that it was made from"
    if isinstance(module, torch.jit.ScriptModule):
        yield "is scripted or traced by torch.jit; pass the module that it was made from"
    if hasattr(module, "_orig_mod"):
        yield "is compiled; merge the model before torch.compile, and compile the result"
    if _quantised(module):
        yield "is quantised; merge the model in floating point and quantise the result"
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor) and not value.is_leaf:
            remedy = "call it once without gradients, or torch.nn.utils.remove_weight_norm or prune.remove on it"
            yield f"cannot be copied: {name!r} has a history, as the old weight_norm and pruning leave it; {remedy}"
    numbers = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    if any(is_lazy(each) for each in numbers):
        yield "has numbers that are not there yet; call the model once before merge_model"
    if any(each.is_meta for each in numbers):
        yield "has numbers on the meta device, which are none; load them before merge_model"
    if module.training and isinstance(module, BATCHNORM):
        yield "is a BatchNorm in training mode; call model.eval() before merge_model"
    if module.training and isinstance(module, DROPOUTS) and module.p > 0:
        yield "is a dropout in training mode; call model.eval() before merge_model"


def exported(model: nn.Module) -> bool:
    """Whether it was made by torch.export, whose hooks on it look at its input's sizes, as the graph does too."""
    return isinstance(model, fx.GraphModule) and any(node.target == "_guards_fn" for node in model.graph.nodes)


def _quantised(module: nn.Module) -> bool:
    """Whether it computes in integers: a module, or a graph of operations, of PyTorch's quantisation."""
    name = type(module).__module__
    if name.startswith("torch.ao.nn.") and ".quantized" in name:
        return True
    operations = module.graph.nodes if isinstance(module, fx.GraphModule) else ()
    return any(str(node.target).partition(".")[0] in QUANTISED for node in operations)
