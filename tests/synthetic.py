"""Synthetic records and precision rows: made up, with known answers; nothing here was measured."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.precision.experiment import Experiment
from analysis.precision.unit import Unit
from linear_lasagna.catalog import CATALOG
from linear_lasagna.trial import Cell, Trial
from linear_lasagna.trial.record import Repeat

ENVIRONMENT = {
    "os": "Linux",
    "cpu": "Synthetic processor",
    "cores": 2,
    "torch": "0.0",
    "threads": 2,
    "load_1min": 0.5,
    "blas": [{"user_api": "blas", "internal_api": "openblas", "version": "0.3", "num_threads": 2}],
    "code": "0123456789ab",
    "accelerator": None,
}
# Per process, how much a time deviates from its ratio to the baseline: the interval of 12 is [0.99, 1.01].
DEVIATIONS = (0.98, 1.02, 0.99, 1.01, 0.995, 1.005, 0.997, 1.003, 1.0, 1.0, 1.0, 1.0)
WITHIN = (1.0, 0.999, 1.001)  # the same per block of one process
CONDITIONS = {"allocator": "keep", "steal": 0.0, "mhz": 2500.0, "preempted": 0}
UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}


def cell(seconds: float, deviations: Sequence[float] = DEVIATIONS, rounds: int = 3, **extra: Any) -> Cell:
    """A timed cell: one block per deviation, every round in it the same; `trial` makes each block a process."""
    samples = [[seconds * deviation] * rounds for deviation in deviations]
    values = {
        "first_call_s": 2 * seconds,
        "calls_per_sample": 1,
        "every": 1,
        "measures": {"error_u": 0.5},
        "peak_bytes": 1000,
    }
    return Cell(samples=samples, **(values | extra))


def trial(
    problem: str,
    ratios: Mapping[str, float | Cell],
    dtype: str = "float32",
    seconds: float = 1e-3,
    several: bool = True,
    **extra: Any,
) -> Trial:
    """A trial whose direct takes `seconds` in every process and the other ways the given multiples of it.

    several: each block of a cell becomes a process; else all are blocks of the one process.
    """
    flat = (1.0,) * len(DEVIATIONS)
    cells = {"direct": cell(seconds, flat), "control": cell(seconds, flat)}
    cells |= {way: r if isinstance(r, Cell) else cell(seconds * r) for way, r in ratios.items()}
    values = {"device": "cpu", "budget_s": 1.0, "seed": 0, "started": "2020-01-01T00:00:00Z"}
    made = Trial(CATALOG[problem], dtype, cells=cells, environment=dict(ENVIRONMENT), **(values | extra))
    return divided(made) if several else made


def put(trial: Trial, way: str, cell: Cell) -> None:
    """The cell in the place of another one, its blocks made processes."""
    alone = divided(replace(trial, cells={way: cell}, repeats=[]))
    trial.cells[way] = alone.cells[way]
    trial.repeats += [Repeat(conditions=dict(CONDITIONS)) for _ in alone.repeats[len(trial.repeats) :]]
    for place, repeat in enumerate(trial.repeats):
        repeat.samples.pop(way, None)
        repeat.samples |= alone.repeats[place].samples if place < len(alone.repeats) else {}


def divided(trial: Trial) -> Trial:
    """The trial with the blocks of every cell as processes, three blocks in each; a cell of one block stays."""
    several = {way: cell.samples for way, cell in trial.cells.items() if len(cell.samples) > 1}
    for number in range(1, max(map(len, several.values()), default=1)):
        timed = {way: _process(trial, way, blocks[number]) for way, blocks in several.items() if len(blocks) > number}
        started = f"2020-01-01T00:{number:02}:00Z"
        trial.repeats.append(Repeat(timed, conditions=dict(CONDITIONS), seed=number, started=started))
    for way, blocks in several.items():
        trial.cells[way] = replace(trial.cells[way], samples=_process(trial, way, blocks[0]))
    trial.conditions = dict(CONDITIONS)
    return trial


def _process(trial: Trial, way: str, block: list[float]) -> list[list[float]]:
    return [[sample * (1.0 if way == trial.baseline else off) for sample in block] for off in WITHIN]


def write(folder: Path, trial: Trial, group: str = "networks", name: str = "", **extra: Any) -> Path:
    """The record's file, as a benchmark would write it."""
    record = {"trial": json.loads(trial.to_json()), "group": group, "machine": "synthetic", "commit": "c0ffee"}
    path = folder / "synthetic" / "c0ffee" / (name or f"{trial.problem.name.replace('/', '-')}.{trial.dtype}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | {"dirty": False} | extra))
    return path


def study(folder: Path) -> Path:
    """Six trials with every kind of cell; returns the folder."""
    slow = Cell(samples=[[0.5]], first_call_s=0.5, calls_per_sample=1, every=1)
    skipped, failed = Cell("skipped", "patches need kernel size = stride"), Cell("failed", "wrong on integers <&>")
    for dtype in ("float32", "bfloat16"):
        layer = {"unfold_matmul": 2.0, "direct_channels_last": 0.8, "patch_matmul": skipped, "im2col_numpy": failed}
        write(folder, trial("resnet50/conv2_3x3", layer, dtype))
        write(folder, trial("vgg16/conv5", {"unfold_matmul": 1.004, "direct_channels_last": 0.8}, dtype))
        stack = {"unfold_matmul": slow, "merged/direct": 0.25, "merged_working/direct": 0.25}
        write(folder, trial("stacks/sesr_x1", stack, dtype), "stacks")
    return folder


def precision(seeds: int = 8, overflow: bool = True) -> Any:
    """Rows of the depth experiment: error = u * c(seed) * depth ** (e + 0.01 * (seed - middle)), on random signs
    e = 0.5 direct, 0.25 merged, 0.75 merged in the working dtype, on positive ones a tenth of that. float16 overflows
    at depth 16 on positive ones. The merged error at depth 1 is the direct one: the ratio at depth d is d ** -0.25.
    """
    import pandas

    exponents = {"direct": 0.5, "merged/direct": 0.25, "merged_working/direct": 0.75}
    rows = []
    for dtype, signs, way, depth, seed in itertools.product(
        UNITS, ("random", "positive"), exponents, (1, 2, 4, 8, 16), range(seeds)
    ):
        place = seed - (seeds - 1) / 2
        exponent = exponents[way] if signs == "random" else exponents[way] / 10
        error = 0.5 * math.exp(0.02 * place) * depth ** (exponent + 0.01 * place)
        lost = overflow and dtype == "float16" and signs == "positive" and depth == 16
        status, reason = ("overflow", "infinite outputs") if lost else ("ok", "")
        values = (math.nan, math.nan) if lost else (error * UNITS[dtype], error)
        rows.append((dtype, signs, depth, seed, way, status, reason, *values))
    columns = ["dtype", "signs", "depth", "seed", "way", "status", "reason", "relative_l2", "error_u"]
    frame = pandas.DataFrame(rows, columns=columns)
    names = [f"plain_x{depth}" for depth in frame["depth"]]
    return frame.assign(
        experiment="depth", machine="synthetic", device="cpu", threads=1, problem=names, fan_in=144, gain=1.0
    )


def units_of_claims(experiment: Experiment) -> list[Unit]:
    """Of the smallest preset with 20 seeds: where each is a network to train, that is the full one."""
    units = experiment.units("default", "cpu")
    return units if len({unit.seed for unit in units}) >= 20 else experiment.units("full", "cpu")
