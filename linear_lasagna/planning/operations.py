"""What a run costs by counting: multiply-accumulates."""

from __future__ import annotations

from functools import lru_cache

import torch

from linear_lasagna import calibration
from linear_lasagna.merging import border_macs
from linear_lasagna.merging.border.plan import layer_macs
from linear_lasagna.merging.chain import chained
from linear_lasagna.planning.runs import Run, Runs, composed_runs, merged_runs
from linear_lasagna.problems import Problem


def run_operations(problem: Problem, run: Run) -> int:
    """Multiply-accumulates of one run, the batch included.

    Several layers are computed as one merged convolution, and apart from it their border where padding between them
    makes it another.
    """
    (start, stop), channels = run, problem.channels[run[0]]
    layer = problem.expanded[start] if stop == start + 1 else merged_runs(problem).get(run)
    if layer is None:
        return problem.batch * border_macs(problem.expanded[start:stop], channels, problem.sizes[start])
    return problem.batch * layer_macs(layer, channels, problem.sizes[stop])


def price(problem: Problem, run: Run, dtype: torch.dtype, device: str) -> int | None:
    """`run_operations` as a plan by counting sees them: None also where a border takes longer than merging saves.

    Computing the border apart takes calls and copies beside its operations, which small images do not win back: where
    merging saves operations, `calibration` says whether it saves time. Most runs of a deep stack save none even without
    their border, and are not looked at any further.
    """
    (start, stop), channels = run, problem.channels[run[0]]
    if stop == start + 1 or run in merged_runs(problem):
        return run_operations(problem, run)
    apart = sum(layer_operations(problem)[start:stop])
    if problem.batch * layer_macs(composed_runs(problem)[run], channels, problem.sizes[stop]) >= apart:
        return None
    count, chain = run_operations(problem, run), chained(problem.expanded[start:stop])
    saves = count < apart and calibration.pays(chain, channels, problem.sizes[start], problem.batch, dtype, device)
    return count if saves else None


@lru_cache(maxsize=64)
def layer_operations(problem: Problem) -> tuple[int, ...]:
    """Multiply-accumulates of each layer, the batch included."""
    layers = zip(problem.expanded, problem.channels, problem.sizes[1:], strict=False)
    return tuple(problem.batch * layer_macs(*each) for each in layers)


def operations(problem: Problem, runs: Runs) -> int:
    """Multiply-accumulates of a cut."""
    return sum(run_operations(problem, run) for run in runs)
