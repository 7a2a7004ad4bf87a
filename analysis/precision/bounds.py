"""Measured errors beside what is known before: three bounds, and the predicted error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

if TYPE_CHECKING:
    from analysis.precision.case import Case

WAYS = ("direct", "unfold_matmul", "merged/direct")
WIDE = 64  # channels: fan-in 576
PREDICTED = ("predicted", "predicted_lower", "predicted_upper", "independent")
LONGEST = 2048  # products in one sum; of longer ones, as of deep merged stacks, the prediction takes a second


def rows(unit: Unit) -> list[Row]:
    """One row per way, with its bounds and its predicted error, all relative to the L2 norm of the exact result.

    Ways that add more than `LONGEST` products at once have no row.
    """
    from analysis.precision.case import Case
    from linear_lasagna.metrics import magnitudes, relative_l2

    case = Case.of(unit)
    condition = relative_l2(magnitudes(case.x[:1], case.kernels, unit.problem.layers), case.values)
    measured = case.rows([way for way in WAYS if case.supports(way) and longest(case, way) <= LONGEST])
    return [row | known_before(case, row["way"], condition) for row in measured]


def longest(case: Case, way: str) -> int:
    """The most products that the way adds for one output."""
    from linear_lasagna.devices import dtype_named
    from linear_lasagna.ways import way_named

    stacks = way_named(way).computed(case.problem, dtype_named(case.unit.dtype))
    return max(each.fan_in for stack in stacks for each in stack)


def known_before(case: Case, way: str, condition: float) -> Row:
    """The bounds by name, and predicted with its interval: relative L2 errors. independent: parts of that error, None
    where there is no end of them, as it is known. condition: ‖|W_L| * … * |W_1| * |x|‖ / ‖exact‖.

    underflow: the share of the chain bound that underflow adds.
    """
    from linear_lasagna.devices import dtype_named
    from linear_lasagna.metrics import relative_l2
    from linear_lasagna.rounding import predict_error
    from linear_lasagna.rounding.way_bounds import BOUNDS, error_bound, wide_accumulator_bound
    from linear_lasagna.ways import way_named

    parsed, dtype, x = way_named(way), dtype_named(case.unit.dtype), case.x[:1]
    limits = {name: error_bound(name, case.problem, parsed, x, case.kernels).cpu() for name in BOUNDS}
    bounds = {name: relative_l2(limit, case.values) for name, limit in limits.items()}
    underflow = 1 - condition * wide_accumulator_bound(case.problem, parsed, dtype) / bounds["chain"]
    predicted = predict_error(case.x, case.kernels, case.problem.layers, parsed.method, parsed.schedule.name)
    parts = predicted.independent
    told = (float(predicted), *predicted.interval, parts if math.isfinite(parts) else None)
    return {**dict(zip(PREDICTED, told, strict=True)), "condition": condition, **bounds, "underflow": underflow}


def grid(seeds: int, depths: tuple[int, ...], wide: tuple[int, ...] = ()) -> tuple[Grid]:
    """Plain 3×3 stacks, 8×8 outputs: 16 channels (fan-in 144) at `depths`, 64 channels (fan-in 576) at `wide`."""
    problems = [plain(depth) for depth in depths] + [plain(depth, WIDE) for depth in wide]
    return (Grid(tuple(problems), seeds),)


BOUNDS = Experiment(
    name="bounds",
    question="How far above the measured error do the bounds lie, and how near to it does the prediction come?",
    ways=WAYS,
    presets={
        "smoke": grid(2, (1, 2)),
        "default": grid(10, (1, 4, 16), (1,)),
        "full": grid(30, (1, 2, 4, 8, 12, 16), (1, 2, 4)),
    },
    rows=rows,
    columns=(*PREDICTED, "condition", "certain", "chain", "likely", "underflow"),
)
