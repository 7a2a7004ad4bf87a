"""Where a study's units are computed: here, or by a scheduler's workers; and as what machine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from analysis.precision.workers import open_executor


@dataclass(frozen=True)
class Place:
    """machine: as the rows have it; dtypes: those of the device there; most: how many units are handed out at once, 0
    for none but the one that this process computes; open_executor: as `dispatch` takes it.
    """

    machine: str
    dtypes: tuple[str, ...]
    most: int
    open_executor: Callable[[int], Executor]


def place_of(workers: int, scheduler: str, device: str) -> Place:
    """scheduler: an address, "" for this machine. Raises what `cluster.open_cluster` does."""
    if not scheduler:
        from linear_lasagna.devices import unavailable
        from linear_lasagna.environment import machine_name
        from linear_lasagna.vocabulary import DTYPES

        dtypes = tuple(dtype for dtype in DTYPES if unavailable(device, dtype) is None)
        return Place(machine_name(device), dtypes, workers, open_executor)
    from analysis.precision.cluster import AHEAD, open_cluster

    with open_cluster(scheduler, device) as cluster:
        facts, most = cluster.facts, AHEAD * cluster.workers
    return Place(facts.machine, facts.dtypes, most, lambda _: open_cluster(scheduler, device))
