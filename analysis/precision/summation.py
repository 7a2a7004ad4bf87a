"""In which order one layer's products are added: on noise, and on images under kernels that see no constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Layer, Problem

if TYPE_CHECKING:
    from linear_lasagna.simulated import Machine

CHANNELS, TAPS = 32, 9
SUMMED = Problem("summed", 1, CHANNELS, (26, 26), (Layer(8, 3),))
# Of an output's products, numbered by channel and, within a channel, by tap: the running sums that they are added to.
ORDERS: dict[str, tuple[tuple[int, ...], ...]] = {
    "taps_first": (tuple(range(CHANNELS * TAPS)),),
    "channels_first": (tuple(TAPS * channel + tap for tap in range(TAPS) for channel in range(CHANNELS)),),
    "sum_per_channel": tuple(tuple(range(TAPS * c, TAPS * (c + 1))) for c in range(CHANNELS)),
}
METHODS = ("direct", "direct_channels_last", "unfold_matmul", "shifted_matmul")


def rows(unit: Unit) -> list[Row]:
    """One row per simulated order, in float32 with fused products, and per method as this machine computes it."""
    from analysis.precision.case import Case
    from linear_lasagna.simulated import convolve

    case = Case.of(unit)

    def simulated(order: str) -> Row:
        compute = lambda: convolve(case.x, case.kernels, unit.problem.layers, machine(order)).to(case.x.dtype)  # noqa: E731
        return case.row(order, compute)

    return [*map(simulated, ORDERS), *case.rows(METHODS)]


def machine(order: str) -> Machine:
    """Float32, with sums formed in the order."""
    from linear_lasagna.rounding.summation_tree import SummationTree
    from linear_lasagna.simulated import FORMATS, Machine

    first, *others = map(SummationTree, ORDERS[order])
    tree = SummationTree((*first.terms, *others))
    return Machine(FORMATS["float32"], FORMATS["float32"], lambda n, bias: tree)


def grid(seeds: int, *each: tuple[str, str]) -> tuple[Grid, ...]:
    """One 3×3 layer, 32 -> 8 channels, 24×24 outputs: sums of 288 products; with each of these inputs and weights."""
    return tuple(Grid((SUMMED,), seeds, ("float32",), ("random",), inputs=(x,), weights=(w,)) for x, w in each)


SUMMATION = Experiment(
    name="summation",
    question="Does it matter whether a layer adds up channels first, or taps?",
    ways=(*ORDERS, *METHODS),
    presets={
        "smoke": grid(2, ("pink", "zero_mean")),
        "default": grid(
            20, ("normal", "normal"), ("pink", "normal"), ("pink", "zero_mean"), ("photograph", "zero_mean")
        ),
        "full": grid(
            20,
            *((x, w) for x in ("normal", "relu", "pink", "photograph") for w in ("normal", "zero_mean", "laplace")),
            ("photograph", "pruned"),
        ),
    },
    rows=rows,
)
