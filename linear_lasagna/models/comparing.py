"""Whether two calls give the same: tuples, lists, dicts and dataclasses of tensors and plain values."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from linear_lasagna.devices import wide
from linear_lasagna.formats import SIGNIFICAND_BITS, unit_roundoff
from linear_lasagna.metrics import relative_l2

PLAIN = (bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)


def leaves(value: Any) -> list[Any]:
    """What is in it, in order, but for None. Dataclasses are opened whether PyTorch knows them or not."""
    if isinstance(value, torch.Tensor):
        return [value]
    actual: list[Any] = []
    for leaf in pytree.tree_leaves(value, is_leaf=_is_record):
        if _is_record(leaf):
            actual += leaves([getattr(leaf, field.name) for field in dataclasses.fields(leaf)])
        elif leaf is not None:
            actual.append(leaf)
    return actual


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def comparable(value: Any) -> bool:
    """Whether any of its tensors has a finite number but 0."""
    tensors = [leaf for leaf in leaves(value) if isinstance(leaf, torch.Tensor)]
    return any(bool((tensor.isfinite() & (tensor != 0)).any()) for tensor in tensors)


def without_zeros(model: nn.Module) -> nn.Module | None:
    """A copy with random numbers for parameters that are all 0, as heads of new models are; None where none are."""
    model, draw = copy.deepcopy(model), torch.Generator().manual_seed(0)
    zeros = [each for each in model.parameters() if each.is_floating_point() and not bool(each.any())]
    for each in zeros:
        each.data.copy_(torch.randn(each.shape, generator=draw) / max(1, each[0].numel()) ** 0.5)
    return model if zeros else None


def difference(actual: Any, expected: Any) -> str | None:
    """How two results differ by more than rounding, which a library may do otherwise on a second call, or None.

    Raises ValueError where nothing can be compared: where no tensor of the expected result has a finite number but 0.
    """
    ours, theirs = leaves(actual), leaves(expected)
    if not comparable(expected):
        raise ValueError(
            "on example_input the model gives no tensor with a finite number but 0: nothing can be compared"
        )
    if len(ours) != len(theirs):
        return f"it gives {len(ours)} values instead of {len(theirs)}"
    return next(filter(None, map(_leaf_difference, ours, theirs)), None)


def _leaf_difference(actual: Any, expected: Any) -> str | None:
    if not isinstance(expected, torch.Tensor):
        same = not isinstance(expected, PLAIN) or actual == expected or (actual != actual and expected != expected)
        return None if same else f"it gives {actual!r} instead of {expected!r}"
    if not isinstance(actual, torch.Tensor):
        return f"it gives a {type(actual).__name__} instead of a tensor"
    if (actual.shape, actual.dtype) != (expected.shape, expected.dtype):
        return f"it gives {_kind(actual)} instead of {_kind(expected)}"
    return None if _equal(actual, expected) else "its numbers differ"


def _kind(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def _equal(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether integers are equal, and numbers but for rounding; infinities and NaN have to be in the same places."""
    if actual.is_complex():
        actual, expected = torch.view_as_real(actual), torch.view_as_real(expected)
    if actual.dtype not in SIGNIFICAND_BITS:
        return torch.equal(actual, expected)
    finite = expected.isfinite()
    if not torch.equal(finite, actual.isfinite()):
        return False
    if not torch.allclose(actual[~finite], expected[~finite], equal_nan=True):
        return False
    ours, theirs = wide(actual[finite]), wide(expected[finite])
    return relative_l2(ours - theirs, theirs) <= unit_roundoff(expected.dtype) ** 0.5
