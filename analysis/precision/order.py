"""In which order a stack's kernels are best merged: what each order costs, and what it loses to rounding."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain
from linear_lasagna.catalog import CATALOG
from linear_lasagna.problems import Problem

SESR = CATALOG["stacks/sesr_x3"].reduced()
EXPANDNET = CATALOG["stacks/expandnet"].reduced()
MERGE_DTYPES = {"merged/direct": "float64", "merged_working/direct": None}  # None: the unit's own


def rows(unit: Unit) -> list[Row]:
    """One row per way and order. kernel_relative_l2: of the merged kernel itself; merge_macs: products of the merge."""
    from analysis.precision.case import Case
    from analysis.precision.merge_orders import ORDERS, exact_weight
    from linear_lasagna.merging import merged_layer
    from linear_lasagna.methods import METHODS
    from linear_lasagna.problems import Kernel

    case = Case.of(unit)
    layer = merged_layer(unit.problem.expanded)
    weights = [kernel.weight for kernel in case.kernels]
    exact = exact_weight([weight.cpu() for weight in weights])
    found = []
    for way, merge_dtype in MERGE_DTYPES.items():
        for order, merge in ORDERS.items():
            merged, macs = merge([weight.to(_dtype(merge_dtype or unit.dtype)) for weight in weights])
            rounded = merged.to(_dtype(unit.dtype))
            row = case.row(way, lambda kernel=Kernel(rounded): METHODS["direct"](case.x, kernel, layer))
            found.append(row | {"order": order, **_of_kernel(rounded, exact), "merge_macs": macs})
    return found


def _dtype(name: str):
    from linear_lasagna.devices import dtype_named

    return dtype_named(name)


def _of_kernel(weight, exact) -> Row:
    """The merged kernel's own error; weight: (out, in, *k), exact: (in, out, *k)."""
    import torch

    from analysis.precision.case import judged

    error = exact.error(weight.cpu().transpose(0, 1))
    verdict = judged(error, exact.to(torch.float64), weight.dtype)
    return {"kernel_relative_l2": verdict["relative_l2"], "kernel_error_u": verdict["error_u"]}


def grid(seeds: int, *problems: Problem) -> tuple[Grid]:
    """Stacks without bias and groups."""
    return (Grid(problems, seeds),)


ORDER = Experiment(
    name="order",
    question="Does the order in which a stack's kernels are merged change its cost, and what rounding loses?",
    ways=tuple(MERGE_DTYPES),
    presets={
        "smoke": grid(2, plain(4, output=4)),
        "default": grid(10, plain(4, output=4), plain(8, output=4), SESR, EXPANDNET),
        "full": grid(20, *(plain(depth, output=4) for depth in (3, 4, 8, 16)), SESR, EXPANDNET),
    },
    rows=rows,
)
