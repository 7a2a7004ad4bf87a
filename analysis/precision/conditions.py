"""Under what conditions a unit is computed: the same everywhere, so that its rows are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from linear_lasagna.reproducibility.threads import threads as limited
from linear_lasagna.switches import full_precision

THREADS = 1


@contextmanager
def pinned(threads: int = THREADS) -> Iterator[int]:
    """So many threads, NumPy's too; TF32 and 16-bit reductions off, no gradients. Gives the effective number.

    The order in which a sum is taken may depend on the number of threads: at a fan-in of 1152, a second thread changed
    91 % of a float32 layer's outputs (torch 2.13, x86). So a unit has one thread, in this process as in a worker, and
    units run side by side instead. The number of threads is put back afterwards.
    """
    with limited(threads), torch.no_grad(), full_precision():
        yield torch.get_num_threads()
