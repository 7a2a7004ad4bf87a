"""What the ways of other runtimes have in common: what they refuse, and what is compiled for one form of input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import MappingProxyType
from typing import Any, TypeAlias

import torch

from linear_lasagna.devices import device_named
from linear_lasagna.installed import missing
from linear_lasagna.methods.method import Call
from linear_lasagna.problems import ExpandedLayer, Layer

library: Callable[[str], Any] = import_module  # typed so: what may not be installed cannot be checked
Unsupported: TypeAlias = Callable[[Layer, torch.dtype, str], "str | None"]

MOST_FORMS = 8  # of inputs, for which a prepared call keeps what was compiled
_compiling: ContextVar[bool] = ContextVar("compiling", default=False)


def refusing(
    extra: str, name: str, dtypes: Mapping[torch.dtype, str] = MappingProxyType({}), rank: str = ""
) -> Unsupported:
    """What a runtime says of a layer. extra: that installs it; name: what it is called; dtypes: why some cannot be
    computed; rank: why layers without just two spatial axes cannot, "" where they can.
    """

    def unsupported(layer: Layer, dtype: torch.dtype, device: str) -> str | None:
        if device_named(device).kind != "cpu":
            return f"{name} computes on the CPU alone here"
        if dtype in dtypes:
            return dtypes[dtype]
        return (rank if layer.rank in (1, 3) else "") or missing(extra)

    return unsupported


class PerForm:
    """A call that compiles for every form of input anew: make(x) gives the call for inputs like x."""

    def __init__(self, layer: ExpandedLayer, make: Callable[[torch.Tensor], Call]) -> None:
        self._layer, self._make = layer, make
        self._calls: dict[tuple[object, ...], Call] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = x.detach().contiguous()
        form = (x.shape, x.dtype, torch.get_num_threads())
        call = self._calls.get(form)
        if call is None:
            if len(self._calls) == MOST_FORMS:
                self._calls.clear()
            call = self._calls[form] = self._make(x)
        if _compiling.get():
            return empty_result(self._layer, x)
        return call(x)


@contextmanager
def compiling_only() -> Iterator[None]:
    """Inside, calls of runtimes compile for the form of what they are given, and give numbers that mean nothing.

    For what is to be told of the computing alone, as its memory.
    """
    token = _compiling.set(True)
    try:
        yield
    finally:
        _compiling.reset(token)


def compiling() -> bool:
    """Whether a call is only to compile."""
    return _compiling.get()


def empty_result(layer: ExpandedLayer, x: torch.Tensor) -> torch.Tensor:
    """Memory for the layer's result."""
    return x.new_empty(x.shape[0], layer.out_channels, *layer.output_size(tuple(x.shape[2:])))
