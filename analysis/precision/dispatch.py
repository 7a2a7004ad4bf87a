"""Hands tasks to an executor and gives back their rows, also those of tasks whose worker died."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from typing import TypeAlias

from analysis.gaps import reason
from analysis.precision.compute import Task, UnfitError, compute, lost
from analysis.precision.experiment import Row

Result: TypeAlias = tuple[Task, list[Row]]
Lost: TypeAlias = list[tuple[Task, BaseException]]
Running: TypeAlias = dict[Future[list[Row]], Task]
Opener: TypeAlias = Callable[[int], Executor]
Work: TypeAlias = Callable[[Task], list[Row]]

OTHER_CODE = (ImportError, AttributeError)  # what loading a task raises, in a worker without this code


def dispatch(tasks: Iterable[Task], workers: int, open_executor: Opener, work: Work = compute) -> Iterator[Result]:
    """Every task with its rows, in the order in which they are finished.

    workers: 0 for this process. work: what gives a task's rows; it raises nothing. When a worker dies, every task that
    was handed out may be the cause. Each is tried once more, alone; one whose worker dies again is recorded as failed.
    Raises what open_executor does, and RuntimeError for a worker that cannot compute any task.
    """
    waiting = deque(tasks)
    while waiting:
        suspects = yield from _until_broken(waiting, open_executor(workers), max(workers, 1), work)
        again = deque(task for task, _ in suspects)
        while again:
            guilty = yield from _until_broken(again, open_executor(min(workers, 1)), 1, work)
            for task, error in guilty:
                yield task, lost(task, _reason(error))


def _until_broken(waiting: deque[Task], executor: Executor, most: int, work: Work) -> Generator[Result, None, Lost]:
    """Take from waiting, `most` tasks at a time, until it is empty or a worker dies; returns what was lost, and why."""
    running: Running = {}
    failed: Lost = []
    broken = False
    try:
        while running or (waiting and not broken):
            while waiting and not broken and len(running) < most:
                broken = not _submit(executor, waiting, running, work)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task, error = running.pop(future), _error(future)
                if error is None:
                    yield task, future.result()
                else:
                    failed.append((task, error))
                    broken = True
    finally:
        executor.shutdown(cancel_futures=True)
    return failed


def _submit(executor: Executor, waiting: deque[Task], running: Running, work: Work) -> bool:
    """Hand out the next task; whether the executor took it."""
    try:
        running[executor.submit(work, waiting[0])] = waiting[0]
    except BrokenExecutor:
        return False
    waiting.popleft()
    return True


def _error(future: Future[list[Row]]) -> BaseException | None:
    """Why there are no rows: the work raises nothing, so it is the worker's death, or what keeps it from computing."""
    if future.cancelled():
        return CancelledError("the connection to the worker was lost")
    error = future.exception()
    if isinstance(error, UnfitError):
        raise error
    if isinstance(error, OTHER_CODE):
        raise RuntimeError(f"a worker cannot compute: {reason(error)}") from error
    return error


def _reason(error: BaseException) -> str:
    if isinstance(error, BrokenExecutor):
        return "its worker process died, also when it computed nothing else"
    return f"its worker failed twice: {reason(error)}"
