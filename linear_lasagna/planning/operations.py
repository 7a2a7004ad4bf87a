"""What a run costs by counting: multiply-accumulates."""

from __future__ import annotations

from dataclasses import replace

import torch

from linear_lasagna import calibration
from linear_lasagna.merging import border_operations, merged_layer, not_border_mergeable, not_mergeable
from linear_lasagna.merging.chain import chained
from linear_lasagna.planning.runs import Run, Runs, part
from linear_lasagna.problems import Problem


def run_operations(problem: Problem, run: Run) -> int | None:
    """Multiply-accumulates of one run, the batch included; None where its layers cannot be merged.

    Several layers are computed as one merged convolution, and apart from it their border where padding between them
    makes it another.
    """
    here = part(problem, run)
    if here.depth == 1:
        return here.macs
    if not_mergeable(here.expanded) is None:
        return replace(here, layers=(merged_layer(here.expanded),)).macs
    if not_border_mergeable(here.expanded) is None:
        return here.batch * border_operations(here.expanded, here.in_channels, here.size)
    return None


def price(problem: Problem, run: Run, dtype: torch.dtype, device: str) -> int | None:
    """`run_operations` as a plan by counting sees them: None also where a border takes longer than merging saves.

    Computing the border apart takes calls and copies beside its operations, which small images do not win back: where
    merging saves operations, `calibration` says whether it saves time.
    """
    here, count = part(problem, run), run_operations(problem, run)
    if count is None or not_border_mergeable(here.expanded) is not None:
        return count
    chain = chained(here.expanded)
    saves = count < here.macs and calibration.pays(chain, here.in_channels, here.size, here.batch, dtype, device)
    return count if saves else None


def operations(problem: Problem, runs: Runs) -> int:
    """Multiply-accumulates of a cut. Raises ValueError where one of its runs cannot be merged."""
    total = 0
    for run in runs:
        count = run_operations(problem, run)
        if count is None:
            raise ValueError(f"{problem.name}: layers {run[0]} to {run[1] - 1} cannot be merged")
        total += count
    return total
