"""Runs experiments: only the units that the store lacks, each in one transaction, with progress on stderr."""

from __future__ import annotations

import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import arguments, stopping
from analysis.data.store import Store
from analysis.measure.progress import progress_bar
from analysis.precision.compute import Stamp, Task
from analysis.precision.dispatch import dispatch
from analysis.precision.experiment import PRESETS, Experiment
from analysis.precision.experiments import EXPERIMENTS
from analysis.precision.place import Place, place_of
from analysis.precision.unit import Unit
from linear_lasagna.environment import set_wait_policy
from linear_lasagna.plurals import plural


@dataclass(frozen=True)
class Summary:
    """What a run did. units: all of the preset that were wanted; stored: those computed before; statuses: this run's
    rows by status.
    """

    preset: str
    units: int
    stored: int
    statuses: dict[str, int]
    elapsed_s: float
    store: Path

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items())) or "no"
        return (
            f"precision ({self.preset}): {plural(self.units, 'unit')}, {self.stored} of them stored before, "
            f"{counts} new rows in {self.elapsed_s:.0f} s; {self.store}"
        )


def run_study(
    experiments: Sequence[str] | None = None,
    preset: str = "default",
    store_path: str | Path = "precision.sqlite",
    *,
    workers: int = 0,
    scheduler: str = "",
    device: str = "cpu",
    machine: str | None = None,
    retry_failed: bool = False,
    until: float = math.inf,
    wanted: Callable[[Unit], bool] = lambda unit: True,
) -> Summary:
    """Compute and store the rows of all units of the experiments that are not stored yet; None: of all but those that
    stand apart.

    workers: processes beside this one, 0 for none; the rows are the same. scheduler: the address of a Dask scheduler,
    whose workers compute instead. machine: its name in the rows, None for what
    `linear_lasagna.environment.machine_name` tells, on the workers. retry_failed: compute units with failed rows again.
    until: when to begin no further unit, by the monotonic clock. wanted: units that it denies are left out. Raises
    ValueError for unknown names and for a device that is not there, StoreError where rows cannot be stored,
    RuntimeError where workers cannot start, or cannot be reached.
    """
    set_wait_policy()
    start = time.perf_counter()
    chosen = checked(experiments, preset, device, workers, scheduler)
    place = place_of(workers, scheduler, device)
    name = machine or place.machine
    with Store(store_path) as store:
        if store.notice:
            print(store.notice, file=sys.stderr)
        _tell_of_others(store, chosen, name)
        tasks = [task for each in chosen for task in tasks_of(each, preset, device, name, place.dtypes)]
        tasks = [task for task in tasks if wanted(task.unit)]
        missing = _missing(store, tasks, retry_failed)
        statuses, left = _compute(store, missing, place, until)
        if left:
            print(f"{plural(left, 'unit')} left: there was no time for more", file=sys.stderr)
        elapsed_s = time.perf_counter() - start
        return Summary(preset, len(tasks), len(tasks) - len(missing), statuses, elapsed_s, store.path)


def _tell_of_others(store: Store, chosen: Sequence[Experiment], machine: str) -> None:
    """One line where the store holds rows that this code did not compute."""
    kept = sum(store.of_others(each.name, each.version(), machine) for each in chosen)
    if kept:
        text = f"{store.path} holds {kept} units that another version of the code or of torch computed: kept, not used"
        print(text, file=sys.stderr)


def named(experiments: Sequence[str] | None) -> list[Experiment]:
    """The experiments by their names, for None all but those that stand apart. Raises ValueError for an unknown one."""
    all_but = [name for name, experiment in EXPERIMENTS.items() if not experiment.apart]
    names = all_but if experiments is None else experiments
    for name in names:
        if name not in EXPERIMENTS:
            raise ValueError(f"unknown experiment {name!r}; known: {', '.join(EXPERIMENTS)}")
    return [EXPERIMENTS[name] for name in names]


def checked(
    experiments: Sequence[str] | None, preset: str, device: str, workers: int, scheduler: str = ""
) -> list[Experiment]:
    """The experiments by `named`. Raises ValueError for unknown names and for a device that is not there; whether it
    is there with a scheduler, its workers must be asked.
    """
    chosen = named(experiments)
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    arguments.workers(workers)
    if scheduler:
        if workers:
            raise ValueError("workers are processes of this machine; with a scheduler its own workers compute")
        return chosen
    from linear_lasagna.devices import unavailable

    reason = unavailable(device)
    if reason is not None:
        raise ValueError(f"device {device!r}: {reason}")
    return chosen


def tasks_of(experiment: Experiment, preset: str, device: str, machine: str, dtypes: Sequence[str]) -> list[Task]:
    """The preset's units as tasks, of the dtypes that the device has."""
    stamp = Stamp.of(experiment, machine)
    return [Task(experiment, unit, stamp) for unit in experiment.units(preset, device) if unit.dtype in dtypes]


def _missing(store: Store, tasks: Iterable[Task], retry_failed: bool) -> list[Task]:
    """The tasks without stored rows, in a fixed random order: costly units lie evenly, so the time left is honest."""
    keys = {(task.experiment.name, task.stamp.version, task.stamp.machine) for task in tasks}
    done = {key: store.done(*key, retry_failed=retry_failed) for key in keys}
    missing = [
        task
        for task in tasks
        if task.unit.key not in done[task.experiment.name, task.stamp.version, task.stamp.machine]
    ]
    random.Random(0).shuffle(missing)
    return missing


def _compute(store: Store, tasks: Sequence[Task], place: Place, until: float) -> tuple[dict[str, int], int]:
    """Compute and store the tasks until then; how many rows had which status, and how many tasks are left."""
    statuses: Counter[str] = Counter()
    count = 0
    if not tasks:
        return statuses, 0
    with progress_bar("precision", len(tasks)) as advance_to:
        for count, (task, rows) in enumerate(dispatch(tasks, place.most, place.open_executor), 1):
            stopping.check()  # before rows are kept that an interruption may have spoilt
            store.put(task.experiment.name, task.unit.key, task.stamp.version, task.stamp.machine, rows)
            statuses.update(row["status"] for row in rows)
            advance_to(count)
            if time.monotonic() >= until:
                break
    return statuses, len(tasks) - count
