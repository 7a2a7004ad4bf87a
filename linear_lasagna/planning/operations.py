"""What a run costs by counting: multiply-accumulates."""

from __future__ import annotations

from dataclasses import replace

from linear_lasagna.merging import merged_layer, not_mergeable
from linear_lasagna.planning.runs import Run, Runs, part
from linear_lasagna.problems import Problem


def run_operations(problem: Problem, run: Run) -> int | None:
    """Multiply-accumulates of one run, the batch included; several layers are computed as one merged convolution.

    None where the layers cannot be merged.
    """
    here = part(problem, run)
    if here.depth == 1:
        return here.macs
    if not_mergeable(here.expanded) is not None:
        return None
    return replace(here, layers=(merged_layer(here.expanded),)).macs


def operations(problem: Problem, runs: Runs) -> int:
    """Multiply-accumulates of a cut. Raises ValueError where one of its runs cannot be merged."""
    total = 0
    for run in runs:
        count = run_operations(problem, run)
        if count is None:
            raise ValueError(f"{problem.name}: layers {run[0]} to {run[1] - 1} cannot be merged")
        total += count
    return total
