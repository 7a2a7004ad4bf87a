"""What folds although it is no run of convolutions: BatchNorm beside transposed convolutions and linear layers.

And linear layers in turn, where that takes no more, and side by side in a sum; all of them in float64, rounded once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import fx, nn

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.affine import PRODUCTS, QUOTIENTS, Summand, summands
from linear_lasagna.models.exact_numbers import bias_of, exact_kernel, with_numbers
from linear_lasagna.models.joining import Note
from linear_lasagna.models.operators import NORMALISATIONS, kind, name_of, terms
from linear_lasagna.models.rewriting import added
from linear_lasagna.models.steps import scale_and_shift
from linear_lasagna.problems import Kernel
from linear_lasagna.rounding.offsets import even, rounding_share, rounds, warning

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Fold(NamedTuple):
    """Two modules in turn that become the one that is `kept`, with other numbers.

    numbers: these, in float64; None where it does not pay.
    axes: of the value between them, that it must have; None for any number. what: they are, in words.
    """

    first: tuple[type[nn.Module], ...]
    second: tuple[type[nn.Module], ...]
    kept: int
    axes: int | None
    numbers: Callable[[Any, Any], Kernel | None]
    what: str


def fold(model: fx.GraphModule, dtype: torch.dtype | None = None) -> list[Note]:
    """Fold what can be, in place, each in float64 and rounded once. Returns what was folded, as notes.

    dtype: in which the model is to compute, None for its own.
    """
    notes: list[Note] = []
    found = (_pair, _sum)
    while (pair := next(filter(None, (f(model, node) for node in model.graph.nodes for f in found)), None)) is not None:
        nodes, module, what = pair
        if nodes[-1].op == "call_module":
            warn_of_rounding(model, (nodes[0], nodes[-1]), dtype or module.weight.dtype)  # type: ignore[arg-type]
        names = tuple(str(node.target) for node in nodes if node.op == "call_module")
        with model.graph.inserting_before(nodes[-1]):
            node = model.graph.call_module(added(model, module, names), nodes[0].args)
        node.meta = dict(nodes[-1].meta)
        nodes[-1].replace_all_uses_with(node)
        for each in reversed(nodes):
            model.graph.erase_node(each)
        notes.append((names, f"{what} became one layer, {node.target!r}"))
    if notes:
        model.recompile()
    return notes


Found: TypeAlias = tuple[list[fx.Node], nn.Module, str]


def _pair(model: fx.GraphModule, second: fx.Node) -> Found | None:
    """The node and the one before it, the module that they become, and what they are; None where they do not fold."""
    first = second.args[0] if second.op == "call_module" and len(second.all_input_nodes) == 1 and second.args else None
    between: list[fx.Node] = []
    while isinstance(first, fx.Node) and _passes(model, first):
        between.append(first)
        first = first.args[0]
    if not isinstance(first, fx.Node) or first.op != "call_module" or len(first.users) != 1:
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
        if row.axes in (None, first.meta["tensor"].ndim) and fits(early, row.first) and fits(late, row.second):
            numbers = row.numbers(early, late)
            module = None if numbers is None else with_numbers((early, late)[row.kept], numbers)
            return None if module is None else ([first, *between[::-1], second], module, row.what)
    return None


def warn_of_rounding(model: fx.GraphModule, nodes: tuple[fx.Node, fx.Node], dtype: torch.dtype) -> None:
    """Where rounding the first module's outputs is part of what both compute, for inputs even between -1 and 1."""
    names = [str(node.target) for node in nodes]
    kernels, groups = zip(*(_as_convolution(model.get_submodule(name)) for name in names), strict=True)
    share = rounding_share(kernels, groups, (True, False), dtype, even())
    if rounds(share):
        warnings.warn(warning(share, " + ".join(names)), RuntimeWarning, stacklevel=6)


def _as_convolution(module: Any) -> tuple[Kernel, int]:
    """What the module does to channels, weight (out, in / groups, taps), and its groups."""
    if isinstance(module, NORMALISATIONS):
        scale, shift = scale_and_shift(module)
        return Kernel(scale[:, None, None], shift), len(scale)
    weight, bias = exact_kernel(module)
    if isinstance(module, nn.Linear):
        return Kernel(weight, bias), 1
    turned = weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    return Kernel(turned, bias), module.groups


def _passes(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node hands on its value to one reader."""
    module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
    return kind(node, module) == "identity" and len(node.users) == len(node.all_input_nodes) == 1


def _sum(model: fx.GraphModule, node: fx.Node) -> Found | None:
    """The sum or difference of two linear layers of one value, or a multiple of one, and the layer that it is."""
    added_up = summands(node) or _multiple(node)
    layers = [term.value for term in added_up]
    if not all(isinstance(each, fx.Node) and each.op == "call_module" and set(each.users) == {node} for each in layers):
        return None
    modules = [model.get_submodule(str(each.target)) for each in layers]
    if not layers or not all(fits(module, (nn.Linear,)) for module in modules) or len({*layers}) < len(layers):
        return None
    if any(each.args != layers[0].args or len(each.args) != 1 or each.kwargs for each in layers):
        return None
    if len({(module.weight.shape, module.weight.dtype) for module in modules}) > 1:  # type: ignore[union-attr]
        return None
    kernels = [exact_kernel(module) for module in modules]
    weight = sum(term.factor * kernel.weight for term, kernel in zip(added_up, kernels, strict=True))
    bias = sum(term.factor * bias_of(kernel) for term, kernel in zip(added_up, kernels, strict=True))
    module = with_numbers(modules[0], Kernel(weight, bias))  # type: ignore[arg-type]
    return None if module is None else ([*layers, node], module, "linear layers of one value, added up or scaled,")


def _multiple(node: fx.Node) -> list[Summand]:
    """The value and by what number the node multiplies it, if it does."""
    name, values = name_of(node).rstrip("_"), terms(node)
    if len(values) != 2 or node.kwargs or name not in (*PRODUCTS, *QUOTIENTS):
        return []
    numbers = [each for each in values if isinstance(each, (int, float)) and not isinstance(each, bool)]
    if len(numbers) != 1 or numbers[0] == 0 or (name in QUOTIENTS and values[1] is not numbers[0]):
        return []
    (value,) = (each for each in values if each is not numbers[0])
    return [Summand(value, float(numbers[0]) if name in PRODUCTS else 1 / numbers[0])]


def fits(module: Any, classes: tuple[type[nn.Module], ...]) -> bool:
    """Whether the module is one of these and does what its numbers say."""
    if not isinstance(module, classes) or not_plain(module, classes) is not None:
        return False
    if isinstance(module, NORMALISATIONS):
        return module.running_mean is not None and not module.training
    return module.weight.dtype in SIGNIFICAND_BITS


def _transposed(early: Any, late: nn.Module) -> Kernel:
    """weight: (in, out / groups, *k), the inputs of a group together."""
    scale, shift = scale_and_shift(late)
    weight, bias = exact_kernel(early)
    bias = weight.new_zeros(early.out_channels) if bias is None else bias
    weight = weight.unflatten(0, (early.groups, -1))
    column = (early.groups, 1, -1, *(1,) * (weight.ndim - 3))
    return Kernel((weight * scale.view(column)).flatten(0, 1), bias * scale + shift)


def normalised(early: Any, late: nn.Module) -> Kernel:
    scale, shift = scale_and_shift(late)
    kernel = exact_kernel(early)
    return Kernel(kernel.weight * scale[:, None], bias_of(kernel) * scale + shift)


def _of_normalised(early: nn.Module, late: Any) -> Kernel:
    scale, shift = scale_and_shift(early)
    kernel = exact_kernel(late)
    return Kernel(kernel.weight * scale, kernel.weight @ shift + bias_of(kernel))


def _in_turn(early: Any, late: Any) -> Kernel | None:
    first, second = exact_kernel(early), exact_kernel(late)
    weight = second.weight @ first.weight
    if weight.numel() > first.weight.numel() + second.weight.numel():
        return None
    if early.bias is None and late.bias is None:
        return Kernel(weight)
    return Kernel(weight, second.weight @ bias_of(first) + bias_of(second))


FOLDS = (
    *(
        Fold((layer,), NORMALISATIONS, 0, rank + 2, _transposed, "a transposed convolution and the BatchNorm behind it")
        for rank, layer in enumerate(TRANSPOSED, start=1)
    ),
    Fold((nn.Linear,), (nn.BatchNorm1d, nn.SyncBatchNorm), 0, 2, normalised, "a linear layer and the BatchNorm behind"),
    Fold(
        (nn.BatchNorm1d, nn.SyncBatchNorm), (nn.Linear,), 1, 2, _of_normalised, "BatchNorm and the linear layer behind"
    ),
    Fold((nn.Linear,), (nn.Linear,), 1, None, _in_turn, "two linear layers in turn"),
)
