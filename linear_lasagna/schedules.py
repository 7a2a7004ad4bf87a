"""How a stack is grouped before it is computed. `SCHEDULES["merged"](problem, kernels, method="direct") -> call(x)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from linear_lasagna.merging import merge_stack, merged_layer, not_mergeable
from linear_lasagna.methods import METHODS, Call, Method
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


def stacked(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """Layer after layer, as the stack is defined."""
    return compose([method.prepare(k, layer) for k, layer in zip(kernels, problem.expanded, strict=True)])


def merged(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """One convolution; its kernel is merged in float64 beforehand and then rounded."""
    return method.prepare(*_merge_in_float64(kernels, problem.expanded))


def merged_working(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """One convolution; its kernel is merged beforehand in the working dtype."""
    return method.prepare(*merge_stack(kernels, problem.expanded))


def merged_per_call(problem: Problem, kernels: Sequence[Kernel], method: Method) -> Call:
    """One convolution; every call merges the kernel anew in the working dtype, as a training step would."""

    def call(x: torch.Tensor) -> torch.Tensor:
        return method.prepare(*merge_stack(kernels, problem.expanded))(x)

    return call


def _merge_in_float64(kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer]) -> tuple[Kernel, ExpandedLayer]:
    """merge_stack in float64; a device without float64 hands its kernels to the CPU for it."""
    device = kernels[0].weight.device
    if device.type != "mps":
        return merge_stack(kernels, layers, torch.float64)
    at_home = [Kernel(k.weight.cpu(), None if k.bias is None else k.bias.cpu()) for k in kernels]
    kernel, layer = merge_stack(at_home, layers, torch.float64)
    return Kernel(kernel.weight.to(device), None if kernel.bias is None else kernel.bias.to(device)), layer


@dataclass(frozen=True)
class Schedule:
    """One way to group a stack. `merges`: the dtype of the merge, or None where the layers are kept as they are."""

    name: str
    build: Callable[[Problem, Sequence[Kernel], Method], Call]
    merges: Literal["float64", "working"] | None = None

    def layers(self, problem: Problem) -> tuple[ExpandedLayer, ...]:
        """The layers that are computed. Raises ValueError where the stack cannot be merged."""
        return (merged_layer(problem.expanded),) if self.merges else problem.expanded

    def unsupported(self, problem: Problem, method: str, dtype: torch.dtype, device: str) -> str | None:
        """Why this schedule cannot compute the problem with the method, or None where it can."""
        if self.merges and problem.depth == 1:
            return "a single layer has nothing to merge"
        reason = not_mergeable(problem.expanded) if self.merges else None
        if reason is not None:
            return reason
        reasons = (METHODS[method].unsupported(layer, dtype, device) for layer in self.layers(problem))
        return next(filter(None, reasons), None)

    def __call__(self, problem: Problem, kernels: Sequence[Kernel], method: str = "direct") -> Call:
        """call(x) -> y, everything that depends on the kernels alone done already.

        Raises NotImplementedError with the reason where the method cannot compute a layer, ValueError where the
        stack cannot be merged or the method is unknown.
        """
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
        return self.build(problem, kernels, METHODS[method])


SCHEDULES: dict[str, Schedule] = {
    "stacked": Schedule("stacked", stacked),
    "merged": Schedule("merged", merged, merges="float64"),
    "merged_working": Schedule("merged_working", merged_working, merges="working"),
    "merged_per_call": Schedule("merged_per_call", merged_per_call, merges="working"),
}
