"""How much memory one call takes beyond its input and its prepared kernel."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch

T = TypeVar("T")

_PYTHON_NOISE = 1 << 18  # Python's own objects and the profiler's, not arrays


def with_peak_bytes(call: Callable[[], T], device: str) -> tuple[T, int | None]:
    """The call's result, and the most bytes that were allocated at once during it, the result included; None on MPS.

    CPU: the running total of torch's allocator, plus NumPy's allocations; what a library takes from the operating
    system by itself (scratch space of some GEMMs) is not seen. CUDA: torch's caching allocator.
    """
    kind = device.partition(":")[0]
    if kind == "cuda":
        return _cuda_peak(call, device)
    return _cpu_peak(call) if kind == "cpu" else (call(), None)


def _cuda_peak(call: Callable[[], T], device: str) -> tuple[T, int]:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = call()
    torch.cuda.synchronize(device)
    return result, torch.cuda.max_memory_allocated(device) - before


def _cpu_peak(call: Callable[[], T]) -> tuple[T, int]:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with _quiet_stderr(), torch.autograd.profiler.profile(profile_memory=True) as profile:
            result = call()
        numpy_peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    total = peak = 0
    events = [event for event in cast(Any, profile).kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return result, peak + (numpy_peak if numpy_peak > _PYTHON_NOISE else 0)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what the profiler's C++ side writes at every start and stop; no variable turns it off."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
