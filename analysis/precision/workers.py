"""Where units are computed: in this process, or in workers, behind the standard library's executor interface."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import Any

from linear_lasagna.environment import set_wait_policy


class InProcess(Executor):
    """Computes in this process and thread, at the moment of `submit`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def open_executor(workers: int) -> Executor:
    """This process for 0, else so many worker processes with a thread each, ready to compute.

    Raises RuntimeError where workers cannot start.
    """
    if workers == 0:
        return InProcess()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)
    try:
        pool.submit(os.getpid).result()
    except BrokenExecutor as error:
        pool.shutdown()
        raise RuntimeError(
            "worker processes cannot start; a script that asks for them must do so under if __name__ == '__main__'"
        ) from error
    return pool


def start_worker() -> None:
    """Settings of a worker, made before it imports torch: one OpenMP thread; the parent alone answers Ctrl-C."""
    set_wait_policy()
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers, and a worker that waits for work never notices."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
