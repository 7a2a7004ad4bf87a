"""A merged model in another dtype than the given one's, with its inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree


def in_dtype(model: fx.GraphModule, inputs: tuple[Any, ...], dtype: torch.dtype | None) -> tuple[Any, ...]:
    """The inputs with their floating-point numbers in `dtype`, as the model's now are; as they are for None.

    Raises ValueError, in one sentence, for a model that then no longer runs: that asks for a dtype itself.
    """
    if dtype is None:
        return inputs
    model.to(dtype)
    changed = pytree.tree_map_only(torch.Tensor, lambda x: x.to(dtype) if x.is_floating_point() else x, inputs)
    try:
        with torch.no_grad():
            model(*changed)
    except RuntimeError as error:
        raise ValueError(f"the merged model does not run in {dtype}: {str(error).splitlines()[0]}") from error
    return changed
