"""A stand-in for one CUDA card: tensors that report `cuda:0`, compute on the CPU, and refuse what a card would refuse.

What mixes devices, asks the wrong one, or hands a card's numbers to NumPy fails here as it would there. What it cannot
show: other orders of summation, streams that run behind the host, and the libraries' own algorithms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

HERE, HIDDEN = torch.device("cuda", 0), torch.device("meta")
aten: Any = torch.ops.aten
# What takes tensors of several devices: copies, and indices that lie on the CPU.
MIXING = (aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class OnCard(torch.Tensor):
    """A tensor on the card; `numbers`: the same on the CPU. torch's own code, without CUDA, takes it for a meta one."""

    numbers: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    device = property(lambda self: HERE)
    is_cuda = property(lambda self: True)
    is_meta = is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> OnCard:
        card_tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            layout=numbers.layout,
            device=HIDDEN,
        )
        card_tensor.numbers = numbers
        return card_tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a card that is not there: outside of `emulated`")


class Numbered(TorchFunctionMode):
    """ "cuda" is "cuda:0": torch without CUDA has nobody to ask. Numbers are read on the CPU alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], OnCard):
            if func is torch.Tensor.tolist:
                return args[0].cpu().tolist()
            if func is torch.Tensor.new_tensor:
                return torch.tensor(args[1], **{"dtype": args[0].dtype, "device": HERE, **(kwargs or {})})
            if func is torch.Tensor.numpy:
                raise TypeError("can't convert cuda:0 device type tensor to numpy; copy it to the CPU first")
        return func(*map(_numbered, args), **{name: _numbered(value) for name, value in (kwargs or {}).items()})


def _numbered(value: Any) -> Any:
    return HERE if isinstance(value, (str, torch.device)) and str(value) == "cuda" else value


class Card(TorchDispatchMode):
    """Computes for its tensors on the CPU. allocated: bytes of the tensors that calls have made, views not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.allocated = 0
        self.recorded: list[Callable[[], None]] | None = None  # while a graph is captured

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors: list[torch.Tensor] = []
        _mapped(tensors.append, (args, kwargs))
        mine = [each for each in tensors if isinstance(each, OnCard)]
        asked = kwargs.get("device")
        there = bool(mine) if asked is None else torch.device(asked) in (HERE, HIDDEN)
        if not (there or mine):
            return func(*args, **kwargs)
        if mine and func not in MIXING and any(each.ndim and not isinstance(each, OnCard) for each in tensors):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found cuda:0 and cpu")
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        args, kwargs = _mapped(lambda each: each.numbers if isinstance(each, OnCard) else each, (args, kwargs))
        results = func(*args, **kwargs)
        self._record(func, args, kwargs, results, leaves=bool(mine) and not there)
        if any(each.shape != each.numbers.shape or each.stride() != each.numbers.stride() for each in mine):
            raise NotImplementedError(f"{func} changes the form of a tensor in place")
        if func is aten.copy_.default and not isinstance(tensors[0], OnCard):
            return results
        return _mapped(lambda each: self._placed(each, mine), results) if there else results

    def _record(self, func: Any, args: Any, kwargs: Any, results: Any, leaves: bool) -> None:
        """A graph repeats what it recorded at the same places in memory; it cannot wait for numbers that leave."""
        if self.recorded is None:
            return
        if leaves or func is aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        kept: list[torch.Tensor] = []
        _mapped(kept.append, [results])

        def again() -> None:
            fresh: list[torch.Tensor] = []
            _mapped(fresh.append, [func(*args, **kwargs)])
            for old, new in zip(kept, fresh, strict=True):
                if old is not new and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

        self.recorded.append(again)

    @contextmanager
    def capture(self, graph: Any, **_: object) -> Iterator[None]:
        """torch.cuda.graph: what is called inside is recorded."""
        self.recorded = []
        try:
            yield
            graph.calls = self.recorded
        finally:
            self.recorded = None

    def graph(self) -> Any:
        """torch.cuda.CUDAGraph."""
        graph = SimpleNamespace(calls=[])
        graph.replay = lambda: [call() for call in graph.calls] and None
        return graph

    def _placed(self, result: torch.Tensor, mine: list[OnCard]) -> OnCard:
        """A result on the card; one of the arguments, where it is one."""
        for each in mine:
            if each.numbers is result:
                return each
        known = {each.numbers.untyped_storage().data_ptr() for each in mine}
        if result.untyped_storage().data_ptr() not in known:
            self.allocated += result.untyped_storage().nbytes()
        return OnCard(result)

    def event(self, **_: object) -> Any:
        """A CUDA event: the host's clock, as what is queued here has run."""
        event = SimpleNamespace(at=0.0, synchronize=lambda: None, query=lambda: True)
        event.record = lambda *_: setattr(event, "at", time.perf_counter())
        event.elapsed_time = lambda stop: max(1e3 * (stop.at - event.at), 1e-6)
        return event


def _mapped(change: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """The tensors in a value of lists, tuples and dicts changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(change, each) for name, each in value.items()}
    return type(value)([_mapped(change, each) for each in value]) if type(value) in (list, tuple) else value


PROPERTIES = SimpleNamespace(
    name="Emulated card",
    total_memory=80 * 2**30,
    major=9,
    minor=0,
    multi_processor_count=132,
    L2_cache_size=50 * 2**20,
)


def stubs(card: Card) -> dict[str, Callable[..., Any]]:
    """What torch.cuda says of it."""
    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "device": lambda device: nullcontext(),
        "synchronize": lambda device=None: None,
        "Event": card.event,
        "Stream": lambda *_, **__: SimpleNamespace(wait_stream=lambda other: None),
        "current_stream": lambda *_: SimpleNamespace(wait_stream=lambda other: None),
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": card.graph,
        "graph": card.capture,
        "_sleep": lambda cycles: None,
        "memory_allocated": lambda device=None: card.allocated,
        "max_memory_allocated": lambda device=None: card.allocated,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_device_properties": lambda device=None: PROPERTIES,
        "get_device_name": lambda device=None: PROPERTIES.name,
    }


@contextmanager
def emulated() -> Iterator[Card]:
    """One card, "cuda" or "cuda:0", on a torch without CUDA. What asks for plain tensors takes its tensors for such."""
    from linear_lasagna.exact import trusted
    from linear_lasagna.merging import plain
    from linear_lasagna.trial import gate

    card, lifting = Card(), torch._C._only_lift_cpu_tensors()
    with pytest.MonkeyPatch.context() as patch, card, Numbered():
        for name, stub in stubs(card).items():
            patch.setattr(torch.cuda, name, stub)
        patch.setattr(gate, "type", lambda y: torch.Tensor if isinstance(y, OnCard) else type(y), raising=False)
        # A module that moves gets new tensors: what torch puts in an old one's place is not seen here.
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        patch.setattr(plain, "PLAIN", (*plain.PLAIN, OnCard))
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(…, device="cuda")` moves what it made by a call
        trusted._check.cache_clear()
        try:
            yield card
        finally:
            trusted._check.cache_clear()
            torch._C._set_only_lift_cpu_tensors(lifting)
