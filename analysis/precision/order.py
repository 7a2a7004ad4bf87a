"""In which order a stack's kernels are best merged: what each order costs, and what it loses to rounding."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain
from linear_lasagna.catalog import CATALOG
from linear_lasagna.problems import Problem
from linear_lasagna.vocabulary import COMMON_METRICS

WAY = "merged_working/direct"
CHANNELS = 8
SESR = CATALOG["stacks/sesr_x3"].reduced()
EXPANDNET = CATALOG["stacks/expandnet"].reduced()


def rows(unit: Unit) -> list[Row]:
    """One row per order, all merged in the unit's dtype. merge_macs: multiply-accumulates of the merge;
    kernel_relative_l2, kernel_error_u: of the merged kernel itself, against the exact one.
    """
    import torch

    from analysis.precision.case import Case, judged
    from analysis.precision.merge_orders import ORDERS, exact_weight
    from linear_lasagna.merging import merged_layer
    from linear_lasagna.methods import METHODS
    from linear_lasagna.metrics import Outcome
    from linear_lasagna.problems import Kernel

    case = Case.of(unit)
    layer = merged_layer(unit.problem.expanded)
    weights = [kernel.weight for kernel in case.kernels]
    exact = exact_weight([weight.cpu() for weight in weights])
    values, results = exact.to(torch.float64), []
    for order, merge in ORDERS.items():
        weight, macs = merge(weights)
        row = case.row(WAY, lambda kernel=Kernel(weight): METHODS["direct"](case.x, kernel, layer))  # noqa: B008
        of_kernel = judged(Outcome(exact.error(weight.cpu().transpose(0, 1)), values, weight.dtype))
        kernel_columns = {f"kernel_{name}": of_kernel[name] for name in COMMON_METRICS}
        results.append(row | {"order": order, "merge_macs": macs} | kernel_columns)
    return results


def grid(seeds: int, *problems: Problem) -> tuple[Grid]:
    """Stacks without bias and groups."""
    return (Grid(problems, seeds),)


ORDER = Experiment(
    name="order",
    question="Does the order in which a stack's kernels are merged change its cost, and what rounding loses?",
    ways=(WAY,),
    presets={
        "smoke": grid(2, plain(4, CHANNELS, output=4)),
        "default": grid(10, plain(4, CHANNELS, output=4), plain(8, CHANNELS, output=4), SESR, EXPANDNET),
        "full": grid(20, *(plain(depth, CHANNELS, output=4) for depth in (3, 4, 8, 16)), SESR, EXPANDNET),
    },
    rows=rows,
    columns=("order", "merge_macs", *(f"kernel_{name}" for name in COMMON_METRICS)),
)
