"""BatchNorm of a linear layer's rows, flattened for it, as LeViT's (arXiv 2104.01136): it folds into the layer."""

from __future__ import annotations

import torch
from torch import fx, nn

from linear_lasagna.models.exact_numbers import with_numbers
from linear_lasagna.models.folding import fits, normalised, warn_of_rounding
from linear_lasagna.models.joining import Note
from linear_lasagna.models.operators import argument, name_of
from linear_lasagna.models.rewriting import added


def fold_rows(model: fx.GraphModule, dtype: torch.dtype | None = None) -> list[Note]:
    """Fold what can be, in place. Returns what was folded, as notes. dtype: as in `fold`."""
    notes: list[Note] = []
    for norm in list(model.graph.nodes):
        layer = _layer(model, norm)
        if layer is None:
            continue
        early, late = (model.get_submodule(str(node.target)) for node in (layer, norm))
        module = with_numbers(early, normalised(early, late))
        if module is None:
            continue
        warn_of_rounding(model, (layer, norm), dtype or module.weight.dtype)
        names = (str(layer.target), str(norm.target))
        with model.graph.inserting_before(layer):
            new = model.graph.call_module(added(model, module, names), layer.args)
        new.meta = dict(layer.meta)
        layer.replace_all_uses_with(new)
        norm.replace_all_uses_with(norm.args[0])  # type: ignore[arg-type]
        for node in (norm, layer):
            model.graph.erase_node(node)
        notes.append((names, f"a linear layer and the BatchNorm of its rows became one layer, {new.target!r}"))
    if notes:
        model.recompile()
    return notes


def _layer(model: fx.GraphModule, norm: fx.Node) -> fx.Node | None:
    """The linear layer whose rows the node normalises, if nothing else but that reads them."""
    rows = norm.args[0] if norm.op == "call_module" and len(norm.args) == 1 and not norm.kwargs else None
    if not isinstance(rows, fx.Node) or name_of(rows) != "flatten" or set(rows.users) != {norm}:
        return None
    layer = rows.args[0]
    flat = argument(rows, 1, "start_dim", 0) == 0 and argument(rows, 2, "end_dim", -1) in (1, -2)
    if not flat or not isinstance(layer, fx.Node) or layer.op != "call_module" or len(layer.args) != 1 or layer.kwargs:
        return None
    if "tensor" not in layer.meta or layer.meta["tensor"].ndim != 3:
        return None
    modules = [model.get_submodule(str(node.target)) for node in (layer, norm)]
    fit = fits(modules[0], (nn.Linear,)) and fits(modules[1], (nn.BatchNorm1d, nn.SyncBatchNorm))
    shapes = (user for user in layer.users if user is not rows)
    only = all(name_of(each) in ("reshape_as", "view_as") and each.args[0] is not layer for each in shapes)
    return layer if fit and only else None
