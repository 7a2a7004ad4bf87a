"""What calling a model changes in it: its own attributes, buffers and parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

INTERNAL = frozenset(vars(nn.Module()))
PLAIN = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True, eq=False)
class Seen:
    """A tensor at some time."""

    tensor: torch.Tensor
    version: int

    def __eq__(self, other: object) -> bool:
        """Whether it is the same tensor, or one of the same numbers, and neither was overwritten since it was seen."""
        if not isinstance(other, Seen):
            return False
        if self.tensor is other.tensor:
            return self.version == other.version
        kept = all(_version(each.tensor) == each.version for each in (self, other))
        return (
            kept and self.tensor.shape == other.tensor.shape and torch.equal(self.tensor.to(other.tensor), other.tensor)
        )

    __hash__ = None  # type: ignore[assignment]


def state_of(model: nn.Module) -> dict[str, Any]:
    """By full name, what of every attribute, buffer and parameter can be compared with later: numbers and containers.

    Of tensors it is which one, and how often it was overwritten; of other objects, which one.
    """
    return {f"{name}.{key}".lstrip("."): _seen(value) for name, key, value in _attributes(model)}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """The names whose states differ, in order."""
    missing = object()
    names = dict.fromkeys((*before, *after))
    return tuple(name for name in names if before.get(name, missing) != after.get(name, missing))


def restore(model: fx.GraphModule, given: nn.Module) -> None:
    """Give what `model` calls as it is the numbers and containers of the given model, which calls may have changed."""
    for name in {str(node.target) for node in model.graph.nodes if "kept" in node.meta}:
        ours = dict(model.get_submodule(name).named_modules())
        for inside, key, value in _attributes(given.get_submodule(name)):
            if isinstance(value, torch.Tensor):
                getattr(ours[inside], key).data.copy_(value)
            elif _is_plain(value):
                setattr(ours[inside], key, copy.deepcopy(value))


def _attributes(model: nn.Module) -> Iterator[tuple[str, str, Any]]:
    for name, module in model.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in INTERNAL}
        for key, value in {**own, **module._parameters, **module._buffers}.items():
            yield name, key, value


def _seen(value: Any) -> Any:
    if isinstance(value, PLAIN):
        return type(value), repr(value)
    if isinstance(value, torch.Tensor):
        return Seen(value, _version(value))
    if isinstance(value, dict):
        return tuple((repr(key), _seen(each)) for key, each in value.items())
    return tuple(map(_seen, value)) if isinstance(value, (list, tuple)) else id(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        value = (*value, *value.values())
    return all(map(_is_plain, value)) if isinstance(value, (list, tuple)) else isinstance(value, PLAIN)


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
