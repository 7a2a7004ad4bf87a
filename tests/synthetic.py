"""Synthetic records and precision rows: made up, with known answers; nothing here was measured."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from linear_lasagna.catalog import CATALOG
from linear_lasagna.trial import Cell, Trial

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
# Per block, how much a time deviates from its ratio to the baseline. Ordered so that the baseline's drift cancels.
DEVIATIONS = (0.98, 0.985, 0.99, 0.995, 1.0, 1.0, 1.0, 1.0, 1.005, 1.01, 1.015, 1.02)
UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}


def cell(seconds: float, deviations: Sequence[float] = DEVIATIONS, rounds: int = 3, **extra: Any) -> Cell:
    """A timed cell: one block per deviation, every round in it the same."""
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
    problem: str, ratios: Mapping[str, float | Cell], dtype: str = "float32", seconds: float = 1e-3, **extra: Any
) -> Trial:
    """A trial whose direct takes `seconds` in every block and the other ways the given multiples of it."""
    flat = (1.0,) * len(DEVIATIONS)
    cells = {"direct": cell(seconds, flat), "control": cell(seconds, flat)}
    cells |= {way: r if isinstance(r, Cell) else cell(seconds * r) for way, r in ratios.items()}
    values = {"device": "cpu", "budget_s": 1.0, "seed": 0, "started": "2020-01-01T00:00:00Z"}
    return Trial(CATALOG[problem], dtype, cells=cells, environment=dict(ENVIRONMENT), **(values | extra))


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
