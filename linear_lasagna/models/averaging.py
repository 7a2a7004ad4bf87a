"""Averagings of positions: pooling, means over an image, resampling; and whether their weights add up to 1."""

from __future__ import annotations

from torch import fx

from linear_lasagna.models.operators import argument, name_of, operation
from linear_lasagna.models.pointwise import module_of, positions
from linear_lasagna.models.windows import averages_truly

CUBIC, LINEAR = ("bicubic",), ("linear", "bilinear", "trilinear")


def averages(model: fx.GraphModule, node: fx.Node) -> bool | None:
    """Whether the node's averages have weights that add up to 1 everywhere; None where it is no averaging."""
    module = module_of(model, node)
    row = operation(node, module)
    if row is None or node.meta.get("tensor") is None or len(node.all_input_nodes) == 0:
        return None
    if row.name == "average pooling":
        return averages_truly(node, module)
    if row.name == "mean or sum":
        return True if is_global(node) else None
    return True if row.name in ("adaptive average pooling", "resampling") else None


def is_global(node: fx.Node) -> bool:
    """Whether the node is the mean over all positions of an image."""
    axes = argument(node, 1, "dim", ())
    axes = axes if isinstance(axes, (tuple, list)) else (axes,)
    ndim = node.all_input_nodes[0].meta["tensor"].ndim
    known = ndim > 2 and all(isinstance(axis, int) for axis in axes) and "dtype" not in node.kwargs
    return name_of(node) == "mean" and known and sorted(axis % ndim for axis in axes) == list(range(2, ndim))


def averaging_operations(model: fx.GraphModule, node: fx.Node) -> int:
    """What the averaging takes per channel, about: one for every number that it adds."""
    module, read = module_of(model, node), node.all_input_nodes[0]
    mode = getattr(module, "mode", None) or argument(node, 3, "mode", "nearest")
    taps = 4 if mode in CUBIC else 2 if mode in LINEAR else 1
    return max(positions(read), positions(node) * taps ** (read.meta["tensor"].ndim - 2))
