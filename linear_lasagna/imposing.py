"""Puts the chosen conditions in force while a trial runs, and everything back as it was afterwards: see `factors`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from operator import attrgetter
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from linear_lasagna.devices import device_named
from linear_lasagna.problems import Problem
from linear_lasagna.reproducibility.threads import threads
from linear_lasagna.switches import flushes, switched

TF32_BITS = 11
TF32_U = 2.0 ** (1 - TF32_BITS)  # hardware may round by cutting the other bits off
MANY = 2**22  # numbers that every thread has some of
SUBNORMAL = 2**9  # the bits of 2**-140
HARD = 2  # omp_pause_hard
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
DETERMINISTIC = ("cudnn.deterministic", "mkldnn.deterministic")


def prepare(under: Mapping[str, str]) -> None:
    """What must be set in a process before it starts a device. cuBLAS is deterministic with a workspace that is its own
    (NVIDIA, "cuBLAS: results reproducibility"); torch refuses its products without.
    """
    if "deterministic" in under:
        os.environ.setdefault(CUBLAS, ":4096:8")


@contextmanager
def imposed(under: Mapping[str, str]) -> Iterator[None]:
    """The switches of these conditions inside; those that they do not name as they are.

    Raises RuntimeError where subnormal numbers cannot be flushed by all threads.
    """
    with ExitStack() as stack:
        if "subnormals" in under:
            stack.enter_context(flushing())
        if "tf32" in under:
            stack.enter_context(switched(["cudnn.fp32_precision"], on=True))
        if "cudnn_benchmark" in under:
            stack.enter_context(_set("cudnn.benchmark"))
        if "deterministic" in under:
            stack.enter_context(_deterministic())
        yield


@contextmanager
def _set(name: str) -> Iterator[None]:
    """A switch of torch.backends on, and afterwards as it was."""
    owner, _, attribute = name.rpartition(".")
    backend = attrgetter(owner)(torch.backends)
    before = getattr(backend, attribute)
    setattr(backend, attribute, True)
    try:
        yield
    finally:
        setattr(backend, attribute, before)


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with ExitStack() as stack:
        for name in DETERMINISTIC:
            stack.enter_context(_set(name))
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def computing_with(number: int) -> AbstractContextManager[None]:
    """So many threads inside; 0: those that there are."""
    return threads(number) if number else nullcontext()


@contextmanager
def flushing() -> Iterator[None]:
    """All threads of torch take subnormal numbers for zero inside. Raises RuntimeError where that cannot be.

    It is a setting of each thread, which those that it starts inherit: so OpenMP is let end its threads, and starts
    others at the next call.
    """
    before = flushes()
    try:
        torch.set_flush_denormal(True)
        _end_openmp_threads()
        if not flushes_everywhere():
            raise RuntimeError("subnormal numbers cannot be flushed to zero by all threads here")
        yield
    finally:
        torch.set_flush_denormal(before)
        _end_openmp_threads()


def _end_openmp_threads() -> None:
    """By `omp_pause_resource_all` of OpenMP 5.0; a library without it goes on with its threads."""
    for library in ThreadpoolController().select(user_api="openmp").lib_controllers:
        with suppress(AttributeError):
            library.dynlib.omp_pause_resource_all(HARD)


def flushes_everywhere() -> bool:
    """Whether all threads of torch take subnormal numbers for zero."""
    subnormal = torch.full((MANY,), SUBNORMAL, dtype=torch.int32).view(torch.float32)
    return not bool(subnormal.mul_(2).view(torch.int32).any())


def flush_of(under: Mapping[str, str], device: str) -> Callable[[], Any] | None:
    """What is called before every call where its cache shall be cold, else None. Raises RuntimeError where nobody tells
    how large the caches are.
    """
    return device_named(device).cache_flush() if under.get("cache") == "cold" else None


def arranged(numbers: Sequence[torch.Tensor], under: Mapping[str, str]) -> tuple[torch.Tensor, ...]:
    """The numbers as they are to lie in memory. Vectors lie in one way only."""
    if "memory_format" not in under:
        return tuple(numbers)
    formats = [CHANNELS_LAST.get(number.ndim, torch.contiguous_format) for number in numbers]
    return tuple(number.contiguous(memory_format=each) for number, each in zip(numbers, formats, strict=True))


def unfit(under: Mapping[str, str], problem: Problem, device: str) -> str | None:
    """Why the problem cannot be timed under these conditions on the device, which is there; or None."""
    if under.get("cache") == "cold" and not device_named(device).caches():
        return f"nobody tells how large the caches of {device} are: they cannot be emptied"
    rank = len(problem.size)
    if "memory_format" in under and rank + 2 not in CHANNELS_LAST:
        return f"torch has channels_last for two or three spatial axes, not for {rank}"
    return None


def operand_bits(under: Mapping[str, str]) -> int | None:
    """The significand to which float32 operands may be rounded, None where they may not."""
    return TF32_BITS if "tf32" in under else None


def operand_loss(under: Mapping[str, str], depth: int) -> float:
    """How much of a result the rounding of operands to TF32 may take, where it is allowed, relative to its magnitude.

    Every layer's products have two operands, whether it is computed or merged.
    """
    return (1 + TF32_U) ** (2 * depth) - 1 if "tf32" in under else 0.0
