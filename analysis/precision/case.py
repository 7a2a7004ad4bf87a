"""One draw with its exact result, and the rows that compare ways with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from analysis.gaps import reason
from analysis.precision import families
from analysis.precision.casts import last_cast
from analysis.precision.compute import lost_row
from analysis.precision.experiment import Row
from analysis.precision.unit import Unit
from linear_lasagna.devices import dtype_named
from linear_lasagna.exact import Exact, convolve
from linear_lasagna.metrics import Outcome, magnitudes, measures
from linear_lasagna.problems import Kernel, Problem
from linear_lasagna.vocabulary import COMMON_METRICS
from linear_lasagna.ways import way_named

Measure: TypeAlias = Callable[[torch.Tensor], Row]


def _nothing(y: torch.Tensor) -> Row:
    return {}


@dataclass(frozen=True)
class Case:
    """A unit's input and kernels on its device, and the exact result of its first image, computed on the CPU.

    values: the exact result rounded once to float64, (1, channels, *size). truth: the kernels that it is the result of.
    measures: the metrics of a row. magnitude: what some of them need (`metrics.magnitudes`), None where none does.
    """

    unit: Unit
    x: torch.Tensor
    kernels: tuple[Kernel, ...]
    exact: Exact
    values: torch.Tensor
    truth: tuple[Kernel, ...]
    measures: tuple[str, ...] = COMMON_METRICS
    magnitude: torch.Tensor | None = None

    @classmethod
    def of(cls, unit: Unit, more: Sequence[str] = ()) -> Case:
        """Draw the unit and compute its reference. more: metrics beside the common ones, columns of the experiment."""
        x, kernels, truth = drawn(unit)
        exact = convolve(x[:1].to(truth[0].weight.dtype), truth, unit.problem.layers)
        moved = tuple(kernel.map(lambda numbers: numbers.to(unit.device)) for kernel in kernels)
        magnitude = magnitudes(x[:1], truth, unit.problem.layers) if more else None
        names = (*COMMON_METRICS, *more)
        return cls(unit, x.to(unit.device), moved, exact, exact.to(torch.float64), truth, names, magnitude)

    @property
    def problem(self) -> Problem:
        return self.unit.problem

    def supports(self, way: str) -> bool:
        """Whether the way can compute the unit's problem in its dtype on its device."""
        last = last_cast(way)
        parsed = way_named(way) if last is None else last.way
        return parsed.unsupported(self.problem, dtype_named(self.unit.dtype), self.unit.device) is None

    def compute(self, way: str) -> torch.Tensor:
        """The way's result, on the unit's device; ways of `casts`, too."""
        last = last_cast(way)
        if last is not None:
            return last.prepare(self.problem, self.truth, (dtype_named(self.unit.dtype), self.unit.device))(self.x)
        return way_named(way).prepare(self.problem, self.kernels)(self.x)

    def rows(self, ways: Sequence[str], more: Measure = _nothing) -> list[Row]:
        """One row per way that can compute the unit, in the order given; more(y): further columns."""
        return [self.row(way, lambda way=way: self.compute(way), more) for way in ways if self.supports(way)]

    def row(self, way: str, compute: Callable[[], torch.Tensor], more: Measure = _nothing) -> Row:
        """The row of compute() -> y under the way's name; a failure is a row, with its reason.

        Where a merged kernel is refused because the dtype cannot hold it, no output is finite.
        """
        try:
            y, refused = compute().cpu(), {}
        except OverflowError as error:
            y = torch.full_like(self.values, math.inf, dtype=dtype_named(self.unit.dtype))
            refused = {"reason": reason(error)}
        except Exception as error:
            return lost_row(way, reason(error))
        outcome = Outcome(self.exact.error(y[:1]), self.values, y.dtype, y[:1], self.exact, self.magnitude)
        return {"way": way, **judged(outcome, self.measures), **refused, **more(y)}


def draw(unit: Unit) -> tuple[torch.Tensor, tuple[Kernel, ...]]:
    """The unit's input and kernels, on the CPU and in its dtype; the same numbers for every device."""
    return drawn(unit)[:2]


def drawn(unit: Unit) -> tuple[torch.Tensor, tuple[Kernel, ...], tuple[Kernel, ...]]:
    """Input, kernels, and the kernels whose result is the exact one: the same, or in float64 the truth's numbers."""
    dtype = dtype_named(unit.dtype)
    x, kernels = families.draw(unit.problem, unit.seed, unit.signs, unit.inputs, unit.weights)
    scaled = tuple(Kernel(kernel.weight * unit.gain, kernel.bias) for kernel in kernels)
    if unit.truth == "rounded":
        rounded = tuple(kernel.map(lambda numbers: numbers.to(dtype)) for kernel in scaled)
        return x.to(dtype), rounded, rounded
    truth = tuple(kernel.map(lambda numbers: numbers.to(dtype_named(unit.truth)).double()) for kernel in scaled)
    return x.to(dtype), tuple(kernel.map(lambda numbers: numbers.to(dtype)) for kernel in truth), truth


def judged(outcome: Outcome, names: Sequence[str] = COMMON_METRICS) -> Row:
    """Status of an error, and its metrics by name; None where one is not finite.

    The error is infinite or NaN where the result was.
    """
    error = outcome.error
    wrong = error.numel() - int(error.isfinite().sum())
    sizes: Row = dict.fromkeys(names) if wrong else dict(measures(outcome, names))
    status, reason = "ok", ""
    if wrong:
        status, reason = "overflow", f"{wrong} of {error.numel()} outputs are not finite"
    elif any(math.isinf(sizes[name]) for name in COMMON_METRICS if name in sizes):
        status, reason, sizes = "failed", "the exact result is zero, the computed one is not", dict.fromkeys(names)
    return {"status": status, "reason": reason, **sizes, "outputs": error.numel()}
