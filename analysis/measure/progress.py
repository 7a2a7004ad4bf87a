"""Progress on stderr: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from analysis import stopping
from linear_lasagna.intervals import LEAST_PROCESSES


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """Gives advance_to(done, what=None), which sets how many of `total` are done, and what is being done from then on.

    The time left is estimated from those done so far.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as progress:
        task = progress.add_task(what, total=total)

        def advance_to(done: int, what: str | None = None) -> None:
            stopping.check()
            progress.update(task, completed=min(done, total), description=what)

        yield advance_to


@contextmanager
def timing_bar(trials: int) -> Iterator[Callable[[int], None]]:
    """Gives advance_to(visits), which sets how many processes have visited a trial. How many more than the least a
    trial takes, nobody knows before: they are counted.
    """
    least = trials * LEAST_PROCESSES
    with progress_bar("timing trials", least) as advance_to:

        def visited(visits: int) -> None:
            beyond = f"timing what is undecided again, {visits - least} times so far" if visits > least else None
            advance_to(visits, beyond)

        yield visited
