"""Methods of the user's own, made of what a problems file or an installed package gives (`linear_lasagna.own`)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint
from typing import Any, cast

import torch

from linear_lasagna.methods.method import Call, Method
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer


def method_of(name: str, given: Any) -> Method:
    """The method under its name. given: a `Method`, a function prepare(kernel, layer), or the entry point of one.

    An entry point that gives nothing of the kind is a method that raises why: its cells fail with the reason.
    """
    if isinstance(given, EntryPoint):
        try:
            given = given.load()
        except Exception as error:  # whatever a user's package raises
            return _broken(name, f"{type(error).__name__}: {error}")
    if isinstance(given, Method):
        return replace(given, name=name, unsupported=partial(_unsupported, given))
    return Method(name, cast(Any, given)) if callable(given) else _broken(name, f"it is a {type(given).__name__}")


def _unsupported(given: Method, layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    """What the method says; that it raises is its own fault alone, and no trial's end."""
    try:
        return given.unsupported(layer, dtype, device)
    except Exception as error:
        return f"its unsupported() raises {type(error).__name__}: {error}"


def _broken(name: str, reason: str) -> Method:
    def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
        raise RuntimeError(f"the entry point {name!r} gives no method: {reason}")

    return Method(name, prepare)
