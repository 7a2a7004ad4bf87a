"""Does the interval of some processes hold what others find? Catalogue problems, timed in many fresh processes.

Each process times all problems, in another order, as the further processes of a study do. Draws of six processes share
none; each is judged by the median of the processes outside it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from analysis.data.frames import Frame
from linear_lasagna.intervals import LEAST_PROCESSES, process_interval

PROBLEMS = {
    "sources/merge": "sources",
    "sources/unfold": "sources",
    "resnet50/conv2_3x3": "networks",
    "resnet50/conv4_reduce": "networks",
    "stacks/separable_late": "stacks",
    "stacks/plain_x4": "stacks",
    "borders/wide_pair_32": "borders",
    "breakeven/k3_16_64": "breakeven",
}  # and the groups whose ways are timed
COLUMNS = ["problem", "way", "process", "ratio"]
LEAST = LEAST_PROCESSES + 1  # processes: one draw, and something to judge it by


def rows(processes: int, device: str, tick: Callable[[], None], problems: dict[str, str] = PROBLEMS) -> Frame:
    """One row per problem, way and process, from 0: ratio, the time to the baseline's. Raises ValueError for too few
    processes, or a device that this machine cannot compute on.
    """
    import pandas

    from linear_lasagna.devices import unavailable

    if processes < LEAST:
        raise ValueError(f"processes must be {LEAST} or more: {LEAST_PROCESSES} for an interval, and others")
    if reason := unavailable(device, "float32"):
        raise ValueError(reason)
    made = list(_timed(processes, device, tick, problems))
    return pandas.DataFrame(made, columns=COLUMNS).sort_values(["problem", "way", "process"], ignore_index=True)


def _timed(
    processes: int, device: str, tick: Callable[[], None], problems: dict[str, str]
) -> Iterator[tuple[str, str, int, float]]:
    from linear_lasagna.catalog import GROUPS, problem_named
    from linear_lasagna.trial.files import BLOCKS, BUDGET_S
    from linear_lasagna.trial.isolation import repeat_isolated, run_isolated

    trials = {}
    for name, group in ((name, GROUPS[group]) for name, group in problems.items()):
        settings: dict[str, Any] = {"device": device, "budget_s": group.share * BUDGET_S, "blocks": BLOCKS}
        trials[name] = run_isolated(problem_named(name), group.ways, work=group.work, **settings)
        yield from _ratios(name, trials[name], 0)
        tick()
    for process in range(1, processes):
        names = random.Random(process).sample(list(trials), len(trials))
        works = [(GROUPS[problems[name]].work, trials[name]) for name in names]
        for name, end in zip(names, repeat_isolated(works, seed=process), strict=True):
            trials[name].repeats.append(end)
            yield from _ratios(name, trials[name], process)
            tick()


def _ratios(name: str, trial: Any, process: int) -> Iterator[tuple[str, str, int, float]]:
    """Of every way that this process, the last one, timed; none where it ended without samples."""
    from linear_lasagna.timing import log_ratio

    if not trial.repeats or trial.repeats[-1].samples:
        last = trial.timings()[-1:]
        for way in (way for timing in last for way in timing.samples if way != trial.baseline):
            yield name, way, process, math.exp(log_ratio(last, way, trial.baseline))


def draws(ratios: list[float]) -> list[bool]:
    """For each draw of six processes, spread over all of them as those of a study are: whether its interval holds the
    median of the others; of an odd number of them, so that it is one of their values.
    """
    count = len(ratios) // LEAST_PROCESSES if len(ratios) >= LEAST else 0
    held = []
    for start in range(count):
        mine = range(start, start + count * LEAST_PROCESSES, count)
        others = [ratio for place, ratio in enumerate(ratios) if place not in mine]
        lower, upper = process_interval([ratios[place] for place in mine]) or (math.nan, math.nan)
        held.append(lower <= median(others[: _odd(len(others))]) <= upper)
    return held


def _odd(number: int) -> int:
    return number - 1 + number % 2


def expected(processes: int) -> float:
    """The share of draws that hold it where processes are independent, and so every order of their values as probable:
    a draw fails where all six lie on one side of the others' median.
    """
    six, others = LEAST_PROCESSES, _odd(processes - LEAST_PROCESSES)
    return 1 - 2 * math.comb(six + (others - 1) // 2, six) / math.comb(six + others, six)


def coverage(frame: Frame) -> Frame:
    """Per problem and way: processes, ratio (their median), draws, held. Cells with too few processes are left out."""
    import pandas

    made = []
    for key, cell in frame.groupby(["problem", "way"], sort=False):
        found = draws(cell.sort_values("process")["ratio"].tolist())
        if found:
            made.append((*key, len(cell), cell["ratio"].median(), len(found), sum(found)))
    return pandas.DataFrame(made, columns=["problem", "way", "processes", "ratio", "draws", "held"])


def print_summary(frame: Frame) -> None:
    """The coverage as a table on stdout, and a sentence about all of it together."""
    from rich.console import Console
    from rich.table import Table

    cells = coverage(frame)
    table = Table(title="Intervals of six processes that hold what the others find")
    for heading in ("problem", "way", "ratio", "processes", "draws", "held"):
        table.add_column(heading, justify="left" if heading in ("problem", "way") else "right")
    for row in cells.itertuples(index=False):
        table.add_row(row.problem, row.way, f"{row.ratio:.3g}", *map(str, (row.processes, row.draws, row.held)))
    console = Console(width=100)
    console.print(table)
    console.print(pooled(cells), soft_wrap=True, markup=False)


def pooled(cells: Frame) -> str:
    """All cells together, with a Wilson interval, which takes draws for independent; those of a problem share a
    baseline.
    """
    from scipy.stats import binomtest

    held, drawn = int(cells["held"].sum()), int(cells["draws"].sum())
    if not drawn:
        return "No way was timed in enough processes."
    ends = binomtest(held, drawn).proportion_ci(method="wilson")
    chance = sum(map(expected, cells["processes"].repeat(cells["draws"]))) / drawn
    share = f"{held / drawn:.1%} [{ends.low:.1%}, {ends.high:.1%}]"
    return (
        f"{held} of {drawn} intervals hold the others' median: {share}. Independent processes would give {chance:.1%}."
    )
