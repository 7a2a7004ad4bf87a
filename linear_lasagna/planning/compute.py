"""Computes a cut stack: one call per run, its kernels merged beforehand where it has several layers.

Where zero padding lies between a run's layers, the border is computed apart, so that every output is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import torch

from linear_lasagna import partitions
from linear_lasagna.merging import border_exact, merge_stack, not_mergeable
from linear_lasagna.merging.border.assembly import in_turn
from linear_lasagna.merging.order import composed_layer
from linear_lasagna.merging.stack import finite
from linear_lasagna.methods import Call, Method
from linear_lasagna.partitions import Partition
from linear_lasagna.planning.runs import Run, Runs, merged_runs, part
from linear_lasagna.problems import Kernel, Problem


def compose(calls: Sequence[Call]) -> Call:
    """One call that applies all calls in turn; the only call itself where there is one."""
    return calls[0] if len(calls) == 1 else partial(in_turn, calls=calls)


def prepare_run(problem: Problem, kernels: Sequence[Kernel], run: Run, method: Method) -> Call:
    """The call for one run. kernels: those of the whole stack, one per layer."""
    here, own = part(problem, run), kernels[slice(*run)]
    if here.depth == 1:
        return method.build(own[0], here.expanded[0])
    if not_mergeable(here.expanded) is None:
        kernel, layer = merge_stack(own, here.expanded, torch.float64)
        return method.build(finite(kernel), layer)
    return border_exact(own, here.expanded, here.size, method.name)


def prepare_runs(problem: Problem, kernels: Sequence[Kernel], runs: Runs, method: Method) -> Call:
    """The call for the whole stack, cut into runs."""
    return compose([prepare_run(problem, kernels, run, method) for run in runs])


def run_partitions(problem: Problem, run: Run) -> tuple[Partition, ...]:
    """What computes the outputs of one run: each is computed by one of these."""
    here = part(problem, run)
    if here.depth == 1 or not_mergeable(here.expanded) is None:
        return (partitions.together(here),)
    return tuple(dict.fromkeys(partitions.border_exact(here)))


def cut_partitions(problem: Problem, runs: Runs) -> tuple[Partition, ...]:
    """What computes the outputs of a cut stack: one partition per choice of one of every run's."""
    choices = itertools.product(*(run_partitions(problem, run) for run in runs))
    return tuple(tuple(itertools.chain.from_iterable(choice)) for choice in choices)


def unsupported_run(problem: Problem, run: Run, method: Method, dtype: torch.dtype, device: str) -> str | None:
    """Why the run cannot be computed as one with the method, or None where it can."""
    merged = merged_runs(problem).get(run)
    if merged is not None or run[1] == run[0] + 1:
        return method.unsupported(merged or problem.expanded[run[0]], dtype, device)
    composed = (composed_layer(each) for partition in run_partitions(problem, run) for each in partition)
    return next(filter(None, (method.unsupported(layer, dtype, device) for layer in composed)), None)
