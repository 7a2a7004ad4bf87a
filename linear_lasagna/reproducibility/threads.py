"""How many threads a library computes with: torch's own, and those of NumPy's BLAS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psutil
import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads inside, in torch and in NumPy's BLAS, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with _blas().limit(limits=number):
            yield
    finally:
        torch.set_num_threads(before)


@cache
def _blas() -> ThreadpoolController:
    import numpy  # noqa: F401  # so that its library is loaded

    return ThreadpoolController().select(user_api="blas")


def cores() -> int:
    """Physical cores, as far as this process may use them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))
