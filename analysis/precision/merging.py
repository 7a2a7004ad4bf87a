"""Where the error of a merged stack comes from: from the rounded merged kernel, or from the longer sum."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

MERGE_DTYPES = {"merged/direct": "float64", "merged_working/direct": None}  # None: the unit's own


def rows(unit: Unit) -> list[Row]:
    """One row per way and part: total = kernel + sum, as vectors. kernel: what rounding the merged kernel does to an
    otherwise exact result; sum: what computing with that kernel adds. `direct`, unmerged, has a total alone.
    """
    from analysis.precision.case import Case, judged
    from linear_lasagna.devices import dtype_named
    from linear_lasagna.exact import convolve
    from linear_lasagna.merging import merge_stack
    from linear_lasagna.methods import METHODS
    from linear_lasagna.metrics import Outcome
    from linear_lasagna.problems import Kernel

    case = Case.of(unit)
    dtype = dtype_named(unit.dtype)
    results = [{"part": "total", **row} for row in case.rows(("direct",))]
    for way, merge_dtype in MERGE_DTYPES.items():
        kernel, layer = merge_stack(case.kernels, unit.problem.expanded, dtype_named(merge_dtype or unit.dtype))
        y = METHODS["direct"](case.x, kernel, layer).cpu()
        reference = convolve(case.x.cpu(), [Kernel(kernel.weight.cpu())], [layer])
        total, of_sum = case.exact.error(y), reference.error(y)
        parts = {"total": total, "kernel": total - of_sum, "sum": of_sum}
        results += [{"way": way, "part": part, **judged(Outcome(e, case.values, dtype))} for part, e in parts.items()]
    return results


def grid(seeds: int, *depths: int) -> tuple[Grid]:
    """Plain 3×3 stacks, 16 channels, 8×8 outputs."""
    return (Grid(tuple(plain(depth) for depth in depths), seeds),)


MERGING = Experiment(
    name="merging",
    question="Does a merged stack lose more to the rounding of its kernel, or to its longer sum?",
    ways=("direct", *MERGE_DTYPES),
    presets={"smoke": grid(2, 2), "default": grid(10, 2, 4, 8), "full": grid(30, 2, 3, 4, 6, 8, 12, 16)},
    rows=rows,
    columns=("part",),
)
