"""A processor that takes subnormal numbers for zero, and gives zero instead of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch


@contextmanager
def flushing() -> Iterator[None]:
    """The calling thread flushes, and does all the work: threads that exist already do not inherit the setting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
