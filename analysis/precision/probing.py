"""What the machine does with numbers, asked before any experiment: the probes, as rows beside the experiments' own.

They are asked under the switches that the experiments have, with one thread, as these, and with all, as timed trials:
whether subnormal numbers are flushed, and in which order a sum is taken, may depend on the threads.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

from analysis import stopping
from analysis.data.store import Store
from analysis.measure.progress import progress_bar
from analysis.precision.compute import Computer, Task, full_row, lost_row
from analysis.precision.dispatch import dispatch
from analysis.precision.experiment import Experiment, Row
from analysis.precision.place import place_of
from analysis.precision.study import tasks_of
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Layer, Problem

PROBED = Problem("probed", 1, 64, (12, 12), (Layer(48, 3),))  # the layer that `linear_lasagna.probes` examines
PRESET = "default"
COLUMNS = ("probe", "result", "ok", "note")


def rows(unit: Unit) -> list[Row]:
    """One row per probe and method, which is its way; the columns of `linear_lasagna.probes` beside those of all."""
    from linear_lasagna.probes import run_probes

    answered_rows = []
    for answer in run_probes(unit.device, [unit.dtype]):
        raised = answer["result"] == "failed"
        status = {} if raised else {"status": "ok", "reason": ""}
        answered = {name: answer[name] for name in COLUMNS}
        answered_rows.append(lost_row(answer["method"], answer["note"]) | status | answered)
    return answered_rows


PROBES = Experiment(
    name="probes",
    question="What does this machine do with numbers?",
    ways=("",),
    presets={PRESET: (Grid((PROBED,), 1, signs=("random",)),)},
    rows=rows,
    columns=COLUMNS,
)


def probe_machine(
    store_path: str | Path,
    device: str,
    machine: str,
    retry_failed: bool = False,
    scheduler: str = "",
    workers: int = 0,
) -> list[Row]:
    """Ask, and store, what the store does not hold yet; returns the rows of failed canaries and tells them on stderr.

    retry_failed: ask again where a probe failed. scheduler: an address, whose workers are asked. workers: processes
    that ask side by side, 0 for this one. Raises StoreError where rows cannot be stored, and what `place_of` does.
    """
    import torch

    failed: list[Row] = []
    place = place_of(workers, scheduler, device)
    tasks = tasks_of(PROBES, PRESET, device, machine, place.dtypes)
    with Store(store_path) as store:
        if store.notice:
            print(store.notice, file=sys.stderr)
        done = store.done(PROBES.name, tasks[0].stamp.version, machine, retry_failed=retry_failed)
        tasks = [task for task in tasks if task.unit.key not in done]
        if not tasks:
            return failed
        ask = partial(asked, most=torch.get_num_threads() if workers else None)
        with progress_bar("probes", len(tasks)) as advance_to:
            for count, (task, answers) in enumerate(dispatch(tasks, place.most, place.open_executor, ask), 1):
                stopping.check()  # before rows are kept that an interruption may have spoilt
                store.put(PROBES.name, task.unit.key, task.stamp.version, machine, answers)
                failed += [row for row in answers if row["ok"] is False]
                advance_to(count)
    for row in failed:
        print(f"a canary failed: {row['probe']}, {row['way']}, {row['dtype']}: {row['note']}", file=sys.stderr)
    return failed


def asked(task: Task, most: int | None = None) -> list[Row]:
    """The task's rows, with one thread and with all: `most`, None for as many as this process has."""
    import torch

    from analysis.precision.conditions import THREADS, pinned

    results = []
    for threads in sorted({THREADS, most or torch.get_num_threads()}):
        start = time.perf_counter()
        with pinned(threads) as effective:
            answers = task.experiment.rows(task.unit)
        elapsed_s = round(time.perf_counter() - start, 6)
        results += [full_row(task, row, effective, elapsed_s, Computer.here()) for row in answers]
    return results
