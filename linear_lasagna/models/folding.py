"""What folds although it is no run of convolutions: BatchNorm beside transposed convolutions and linear layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from linear_lasagna.devices import wide
from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.joining import Note
from linear_lasagna.models.operators import NORMALISATIONS
from linear_lasagna.models.rewriting import added
from linear_lasagna.models.steps import scale_and_shift
from linear_lasagna.problems import Kernel

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Fold(NamedTuple):
    """Two modules in turn that become the one that is `kept`, with other numbers; numbers: these, in float64.

    axes: of the value between them, that it must have; None for any number. what: they are, in words.
    """

    first: tuple[type[nn.Module], ...]
    second: tuple[type[nn.Module], ...]
    kept: int
    axes: int | None
    numbers: Callable[[Any, Any], Kernel]
    what: str


def fold(model: fx.GraphModule) -> list[Note]:
    """Fold what can be, in place, each in float64 and rounded once. Returns what was folded, as notes."""
    notes: list[Note] = []
    while (pair := next(filter(None, (_pair(model, node) for node in model.graph.nodes)), None)) is not None:
        first, second, module, what = pair
        names = (str(first.target), str(second.target))
        with model.graph.inserting_before(second):
            node = model.graph.call_module(added(model, module, names), first.args)
        node.meta = dict(second.meta)
        second.replace_all_uses_with(node)
        model.graph.erase_node(second)
        model.graph.erase_node(first)
        notes.append((names, f"{what} became one layer, {node.target!r}"))
    if notes:
        model.recompile()
    return notes


def _pair(model: fx.GraphModule, second: fx.Node) -> tuple[fx.Node, fx.Node, nn.Module, str] | None:
    """The node and the one before it, the module that they become, and what they are; None where they do not fold."""
    first = second.args[0] if second.op == "call_module" and len(second.all_input_nodes) == 1 and second.args else None
    if not isinstance(first, fx.Node) or first.op != "call_module" or set(first.users) != {second}:
        return None
    if (
        len(first.args) != 1
        or first.kwargs
        or second.kwargs
        or not {"tensor"} <= first.meta.keys() & second.meta.keys()
    ):
        return None
    early, late = (model.get_submodule(str(node.target)) for node in (first, second))
    for row in FOLDS:
        if row.axes in (None, first.meta["tensor"].ndim) and _fits(early, row.first) and _fits(late, row.second):
            module = _folded((early, late)[row.kept], row.numbers(early, late))
            return None if module is None else (first, second, module, row.what)
    return None


def _fits(module: Any, classes: tuple[type[nn.Module], ...]) -> bool:
    """Whether the module is one of these and does what its numbers say."""
    if not isinstance(module, classes) or not_plain(module, classes) is not None:
        return False
    if isinstance(module, NORMALISATIONS):
        return module.running_mean is not None and not module.training
    return module.weight.dtype in SIGNIFICAND_BITS


def _folded(module: Any, kernel: Kernel) -> nn.Module | None:
    """A copy of the module with these numbers; None where its dtype cannot hold them."""
    like = module.weight
    kernel = kernel.map(lambda numbers: numbers.to(like.device, like.dtype))
    if not all(bool(numbers.isfinite().all()) for numbers in kernel if numbers is not None):
        return None
    module = copy.deepcopy(module)
    module.weight, module.bias = kernel.map(lambda numbers: nn.Parameter(numbers, requires_grad=like.requires_grad))
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    return module


def _bias(module: Any, outputs: int) -> torch.Tensor:
    return wide(module.weight).new_zeros(outputs) if module.bias is None else wide(module.bias)


def _transposed(early: Any, late: nn.Module) -> Kernel:
    """weight: (in, out / groups, *k), the inputs of a group together."""
    scale, shift = scale_and_shift(late)
    weight = wide(early.weight).unflatten(0, (early.groups, -1))
    column = (early.groups, 1, -1, *(1,) * (weight.ndim - 3))
    return Kernel((weight * scale.view(column)).flatten(0, 1), _bias(early, early.out_channels) * scale + shift)


def _normalised(early: Any, late: nn.Module) -> Kernel:
    scale, shift = scale_and_shift(late)
    return Kernel(wide(early.weight) * scale[:, None], _bias(early, early.out_features) * scale + shift)


def _of_normalised(early: nn.Module, late: Any) -> Kernel:
    scale, shift = scale_and_shift(early)
    weight = wide(late.weight)
    return Kernel(weight * scale, weight @ shift + _bias(late, late.out_features))


FOLDS = (
    *(
        Fold((layer,), NORMALISATIONS, 0, rank + 2, _transposed, "a transposed convolution and the BatchNorm behind it")
        for rank, layer in enumerate(TRANSPOSED, start=1)
    ),
    Fold(
        (nn.Linear,), (nn.BatchNorm1d, nn.SyncBatchNorm), 0, 2, _normalised, "a linear layer and the BatchNorm behind"
    ),
    Fold(
        (nn.BatchNorm1d, nn.SyncBatchNorm), (nn.Linear,), 1, 2, _of_normalised, "BatchNorm and the linear layer behind"
    ),
)
