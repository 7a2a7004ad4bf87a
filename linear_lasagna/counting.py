"""What a way has to do, by counting: operations, launches, and the buffers of its algorithm."""

from __future__ import annotations

import itertools

import torch

from linear_lasagna.merging.order import composed_layer
from linear_lasagna.methods import METHODS
from linear_lasagna.planning.operations import run_operations
from linear_lasagna.planning.runs import Run, Runs, merged_runs
from linear_lasagna.problems import ExpandedLayer, Problem
from linear_lasagna.schedules import everywhere
from linear_lasagna.ways import Way


def counted(problem: Problem, way: Way, dtype: torch.dtype, runs: Runs | None = None) -> dict[str, float]:
    """operations: floating-point, of one call, by `Method.operations`, merging itself not counted; launches: the
    convolutions that it computes, at least one launch each; buffer_bytes: the largest `Method.buffer` of them, where
    all are known. runs: what a way that plans has chosen.
    """
    runs = runs or _runs(problem, way)
    found: dict[str, float] = {
        "operations": sum(_operations(problem, way, run, dtype) for run in runs),
        "launches": len(runs),
    }
    buffers = [size for run in runs if (size := _buffer_bytes(problem, way, run, dtype)) is not None]
    return found | ({"buffer_bytes": max(buffers)} if len(buffers) == len(runs) else {})


def _runs(problem: Problem, way: Way) -> Runs:
    """Of its first partition, for all have runs of the same layers."""
    ends = itertools.accumulate(map(len, way.schedule.partitions(problem)[0]), initial=0)
    return tuple(itertools.pairwise(ends))


def _operations(problem: Problem, way: Way, run: Run, dtype: torch.dtype) -> int:
    if _has_border(problem, way, run):  # its blocks are products, whatever the method
        return 2 * run_operations(problem, run)
    return problem.batch * METHODS[way.method].operations(*_layer(problem, run), dtype)


def _buffer_bytes(problem: Problem, way: Way, run: Run, dtype: torch.dtype) -> int | None:
    method = METHODS[way.method]
    numbers = None if _has_border(problem, way, run) else method.buffer(*_layer(problem, run))
    return None if numbers is None else problem.batch * numbers * method.computes_in(dtype).itemsize


def _layer(problem: Problem, run: Run) -> tuple[ExpandedLayer, int, tuple[int, ...]]:
    """What the run is merged into, and the channels and size of its input."""
    start, stop = run
    return composed_layer(problem.expanded[start:stop]), problem.channels[start], problem.sizes[start]


def _has_border(problem: Problem, way: Way, run: Run) -> bool:
    several = run[1] - run[0] > 1 and run not in merged_runs(problem)
    return several and way.schedule.valid_region is everywhere
