"""Work shared among forks of this process, which have its data without being told them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, TypeVar

import psutil

from analysis.stopping import SIGNALS

MOST_BYTES = 2 << 30  # of all forks, if each came to copy all that this process holds
T = TypeVar("T")
R = TypeVar("R")
_work: tuple[Callable[[Any], Any], Sequence[Any]]  # a fork's


def mapped(make: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """make(item) for every item, in their order: by one fork per usable core, or by this process where there is one,
    where it holds so much that copies would take more than `MOST_BYTES`, or where a fork was killed.

    What make returns is pickled; what it raises is raised here.
    """
    forks = min(cores(), len(items), MOST_BYTES // psutil.Process().memory_info().rss)
    if forks > 1:
        with suppress(BrokenProcessPool):  # a fork was killed, as for want of memory: one process needs less
            return _forked(forks, make, items)
    return [make(item) for item in items]


def cores() -> int:
    """How many cores forks may use: one where it is not Linux, for elsewhere forks are unsafe, or there are none."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _forked(forks: int, make: Callable[[T], R], items: Sequence[T]) -> list[R]:
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        # Python 3.12 warns of any other thread. Those of OpenBLAS and Arrow, which might be here, allow for forks.
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        with ProcessPoolExecutor(forks, context, _started, (make, items)) as pool:
            futures = [pool.submit(_made, place) for place in range(len(items))]
            try:
                return [future.result() for future in futures]
            except BaseException:  # Ctrl-C, too, ends at once
                for fork in multiprocessing.active_children():
                    fork.kill()
                raise


def _started(make: Callable[[Any], Any], items: Sequence[Any]) -> None:
    """In a fork. The parent alone answers Ctrl-C and the like."""
    global _work
    _work = make, items
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _made(place: int) -> Any:
    make, items = _work
    return make(items[place])
