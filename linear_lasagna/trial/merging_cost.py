"""What merging a stack's kernels costs, beside one forward call of the stack itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from linear_lasagna.devices import dtype_named
from linear_lasagna.merging import merge_stack, not_mergeable
from linear_lasagna.problems import Problem
from linear_lasagna.switches import full_precision
from linear_lasagna.trial.record import BASELINE, CONTROL, Trial
from linear_lasagna.trial.running import Draw, Stage, begin, copied, failing, time_together
from linear_lasagna.validation import check_integers, integer_case
from linear_lasagna.ways import way_named

MERGES: dict[str, torch.dtype | None] = {"merge_float64": torch.float64, "merge_working": None}
WAYS = (BASELINE, CONTROL, *MERGES)


def run_merging(
    problem: Problem,
    ways: Sequence[str] = WAYS,
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    budget_s: float = 1.0,
    seed: int = 0,
    stage: Stage = lambda what, way: None,
) -> Trial:
    """A trial whose ways are one call of the stack ("direct", "control") and one merge of all its kernels, in float64
    or in the working dtype, timed together. The merged kernels must be exact on small integers before they count.
    Raises ValueError for unknown names and a budget that is not positive.
    """
    for name in ways:
        check_way(name)

    def unsupported(name: str) -> str | None:
        if name in MERGES and problem.depth == 1:
            return "a single layer has nothing to merge"
        if MERGES.get(name) is torch.float64 and device.startswith("mps"):
            return "MPS has no float64"
        return not_mergeable(problem.expanded) if name in MERGES else None

    trial, finish = begin(problem, ways, unsupported, dtype, device, budget_s, seed)
    with torch.no_grad(), full_precision():
        if trial.named("ok"):
            stage("checking the merged kernels on integers", "")
            _check(trial)
        if trial.named("ok"):
            stage("timing the merges and the stack together", "")
            time_together(trial, partial(_calls, trial))
    return finish(trial)


def check_way(name: str) -> None:
    """Raises ValueError for a name that `run_merging` does not know."""
    if name not in WAYS:
        raise ValueError(f"unknown way {name!r} of merging; known: {', '.join(WAYS)}")


def _check(trial: Trial) -> None:
    case = integer_case(trial.problem, dtype_named(trial.dtype), trial.device, trial.seed)
    schedules = {"merge_float64": "merged/direct", "merge_working": "merged_working/direct"}
    for name in trial.named("ok"):
        with failing(trial.cells[name]):
            check_integers(trial.problem, way_named(schedules.get(name, BASELINE)), case)


def _calls(trial: Trial, draw: Draw, block: int) -> dict[str, Callable[[], object]]:
    x, kernels = copied(draw, block)
    stack = way_named(BASELINE).prepare(trial.problem, kernels)

    def call(name: str) -> Callable[[], object]:
        if name in MERGES:
            return partial(merge_stack, kernels, trial.problem.expanded, MERGES[name])
        return partial(stack, x)

    return {name: call(name) for name in trial.named("ok")}
