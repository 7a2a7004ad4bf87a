"""How a stack is grouped before it is computed. `SCHEDULES["merged"](problem, kernels, method="direct") -> call(x)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from linear_lasagna import partitions
from linear_lasagna.geometry import Box
from linear_lasagna.merging import border_exact, merge_stack, not_border_mergeable, not_mergeable
from linear_lasagna.merging.border.regions import interior
from linear_lasagna.merging.chain import chained
from linear_lasagna.merging.order import composed_layer
from linear_lasagna.merging.stack import finite, summed_kernel
from linear_lasagna.methods import METHODS, Call, Method, method_named
from linear_lasagna.partitions import Partition
from linear_lasagna.planning.compute import compose, cut_partitions, prepare_runs
from linear_lasagna.planning.planner import Cost, plan
from linear_lasagna.preconditions import check_input, check_kernels
from linear_lasagna.problems import ExpandedLayer, Kernel, Problem


def stacked(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """Layer after layer, as the stack is defined."""
    return compose([method.build(k, layer) for k, layer in zip(kernels, problem.expanded, strict=True)])


def merged(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """One convolution; its kernel is merged in float64 beforehand and then rounded."""
    kernel, layer = merge_stack(kernels, problem.expanded, torch.float64)
    return method.build(finite(kernel), layer)


def merged_working(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """One convolution; its kernel is merged beforehand in the working dtype."""
    kernel, layer = merge_stack(kernels, problem.expanded)
    return method.build(finite(kernel), layer)


def merged_per_call(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """One convolution; every call merges the kernel anew in the working dtype, as a training step would."""

    def call(x: torch.Tensor) -> torch.Tensor:
        return method.build(*merge_stack(kernels, problem.expanded))(x)

    return call


def border_exact_float64(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """The merged convolution, and merged kernels of their own for the outputs that need padding between the layers."""
    return border_exact(kernels, problem.expanded, problem.size, method.name)


def merged_summed(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """One convolution with the sum of the paddings, WRONG at the border: what border-exact merging is compared with."""
    return method.build(
        finite(summed_kernel(kernels, problem.expanded, torch.float64)), composed_layer(problem.expanded)
    )


def planned(cost: Cost, problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """The runs that the planner chose for the kernels' device and dtype, merged in float64 beforehand."""
    weight = kernels[0].weight
    chosen = plan(problem, str(weight.device), weight.dtype, cost, method.name)
    return prepare_runs(problem, kernels, chosen.runs, method)


def _kept(problem: Problem) -> str | None:
    return None


def _apart(problem: Problem) -> tuple[Partition, ...]:
    return (partitions.apart(problem),)


def _several(problem: Problem) -> str | None:
    return "a single layer has nothing to merge" if problem.depth == 1 else None


def _merged_whole(problem: Problem) -> str | None:
    return _several(problem) or not_mergeable(problem.expanded)


def _border_merged(problem: Problem) -> str | None:
    return not_border_mergeable(problem.expanded)


def _summed(problem: Problem) -> str | None:
    reason = _border_merged(problem)
    return reason or (None if inside(problem) else "every output needs padding between the layers: none would be right")


def everywhere(problem: Problem) -> Box | None:
    """All outputs: (start, stop) per axis."""
    return tuple((0, length) for length in problem.sizes[-1])


def inside(problem: Problem) -> Box | None:
    """The outputs that need no padding between the layers, or None where there are none."""
    return interior(chained(problem.expanded), problem.size)


@dataclass(frozen=True)
class Schedule:
    """One way to group a stack. `merges`: the dtype in which the whole stack is merged, or None where it is not.

    plans: the cost by which a planner chooses the runs to merge, None where there is nothing to choose.
    partitions(problem): every output is computed by one of these; a schedule that plans, starts from them.
    refuses(problem): why the schedule has nothing to do.
    valid_region(problem): the outputs that it claims to compute, and only there is it compared: all but for
    `merged_summed`.
    """

    name: str
    build: Callable[[Problem, Sequence[Kernel], Method], Call]
    merges: Literal["float64", "working"] | None = None
    plans: Cost | None = None
    partitions: Callable[[Problem], tuple[Partition, ...]] = lambda problem: (partitions.together(problem),)
    refuses: Callable[[Problem], str | None] = _merged_whole
    valid_region: Callable[[Problem], Box | None] = everywhere

    def partitions_on(
        self, problem: Problem, method: str, dtype: torch.dtype, device: str = "cpu"
    ) -> tuple[Partition, ...]:
        """`partitions`, planned where the schedule plans."""
        if self.plans is None:
            return self.partitions(problem)
        return cut_partitions(problem, plan(problem, device, dtype, self.plans, method).runs)

    def layers(self, problem: Problem) -> tuple[ExpandedLayer, ...]:
        """The layers that are computed. Raises ValueError where the stack cannot be merged."""
        reason = self.refuses(problem) if problem.depth > 1 else None
        if reason is not None:
            raise ValueError(reason)
        return tuple(composed_layer(run) for partition in self.partitions(problem) for run in partition)

    def unsupported(self, problem: Problem, method: str, dtype: torch.dtype, device: str) -> str | None:
        """Why this schedule cannot compute the problem with the method, or None where it can."""
        reason = self.refuses(problem)
        if reason is not None:
            return reason
        reasons = (METHODS[method].unsupported(layer, dtype, device) for layer in self.layers(problem))
        return next(filter(None, reasons), None)

    def __call__(self, problem: Problem, kernels: Sequence[Kernel], method: str = "direct") -> Call:
        """call(x) -> y, everything that depends on the kernels alone done already.

        Raises NotImplementedError with the reason where the method cannot compute a layer, ValueError where the
        stack cannot be merged or the method is unknown, OverflowError where a kernel merged beforehand overflows.
        """
        computing = method_named(method)
        check_kernels(problem, kernels)
        return _checked(self.build(problem, kernels, computing), problem, kernels[0].weight.dtype)


def _checked(call: Call, problem: Problem, dtype: torch.dtype) -> Call:
    """The call, for inputs of the problem alone: some ways give wrong numbers for others. It takes some 0.2 us."""
    expected = problem.shapes[0]

    def checked(x: torch.Tensor) -> torch.Tensor:
        if x.shape != expected or x.dtype is not dtype:
            check_input(x, problem, dtype)  # another batch is fine
        return call(x)

    return checked


SCHEDULES: dict[str, Schedule] = {
    "stacked": Schedule("stacked", stacked, partitions=_apart, refuses=_kept),
    "merged": Schedule("merged", merged, "float64"),
    "merged_working": Schedule("merged_working", merged_working, "working"),
    "merged_per_call": Schedule("merged_per_call", merged_per_call, "working"),
    "border_exact": Schedule(
        "border_exact",
        border_exact_float64,
        "float64",
        partitions=partitions.border_exact,
        refuses=_border_merged,
    ),
    "merged_summed": Schedule("merged_summed", merged_summed, "float64", refuses=_summed, valid_region=inside),
    "planned": Schedule("planned", partial(planned, "measured"), plans="measured", partitions=_apart, refuses=_several),
    "planned_operations": Schedule(
        "planned_operations", partial(planned, "operations"), plans="operations", partitions=_apart, refuses=_several
    ),
}
