"""Computes a cut stack: one call per run, its kernel merged beforehand where it has several layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from linear_lasagna.merging import merge_stack, merged_layer, not_mergeable
from linear_lasagna.methods import Call, Method
from linear_lasagna.planning.runs import Run, Runs, part
from linear_lasagna.problems import ExpandedLayer, Kernel, Problem


def compose(calls: Sequence[Call]) -> Call:
    """One call that applies all calls in turn; the only call itself where there is one."""
    if len(calls) == 1:
        return calls[0]

    def call(x: torch.Tensor) -> torch.Tensor:
        for each in calls:
            x = each(x)
        return x

    return call


def prepare_run(problem: Problem, kernels: Sequence[Kernel], run: Run, method: Method) -> Call:
    """The call for one run. kernels: those of the whole stack, one per layer."""
    start, stop = run
    layers = problem.expanded[start:stop]
    if len(layers) == 1:
        return method.prepare(kernels[start], layers[0])
    return method.prepare(*merge_in_float64(kernels[start:stop], layers))


def prepare_runs(problem: Problem, kernels: Sequence[Kernel], runs: Runs, method: Method) -> Call:
    """The call for the whole stack, cut into runs."""
    return compose([prepare_run(problem, kernels, run, method) for run in runs])


def unsupported_run(problem: Problem, run: Run, method: Method, dtype: torch.dtype, device: str) -> str | None:
    """Why the run cannot be computed as one with the method, or None where it can."""
    layers = problem.expanded[slice(*run)]
    reason = None if len(layers) == 1 else not_mergeable(layers)
    return reason or method.unsupported(run_layer(problem, run), dtype, device.partition(":")[0])


def run_layer(problem: Problem, run: Run) -> ExpandedLayer:
    """The layer that a run is computed as. Raises ValueError where its layers cannot be merged."""
    here = part(problem, run)
    return here.expanded[0] if here.depth == 1 else merged_layer(here.expanded)


def merge_in_float64(kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer]) -> tuple[Kernel, ExpandedLayer]:
    """merge_stack in float64; a device without float64 hands its kernels to the CPU for it."""
    device = kernels[0].weight.device
    if device.type != "mps":
        return merge_stack(kernels, layers, torch.float64)
    at_home = [Kernel(k.weight.cpu(), None if k.bias is None else k.bias.cpu()) for k in kernels]
    kernel, layer = merge_stack(at_home, layers, torch.float64)
    return Kernel(kernel.weight.to(device), None if kernel.bias is None else kernel.bias.to(device)), layer
