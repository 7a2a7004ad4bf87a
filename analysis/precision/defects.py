"""How non-linear stacks of linear layers are on their machine: defects, linear pieces along lines, and boundaries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.precision.coarse import BIASES, stack, wide
from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Layer, Problem

if TYPE_CHECKING:
    import torch

    from analysis.precision.digits.data import Split
    from analysis.precision.pieces import Function

DIGITS = Problem("digits", 1, 1, (8, 8), (Layer(8, 3, bias=True), Layer(8, 3, bias=True), Layer(2, 4, bias=True)))
XOR = Problem("exclusive_or", 1, 2, (1, 1), (Layer(2, 1, bias=True),) * 3)
DISK = Problem("disk", 1, 2, (1, 1), (Layer(16, 1, bias=True), Layer(16, 1, bias=True), Layer(2, 1, bias=True)))
COARSE_BITS = (2, 3, 4, 8)
WAYS = ("constructed", "ordinary", "relu", "by_hand", *(f"{bits} bits" for bits in COARSE_BITS))
MEASURES = ("wrong", "additivity", "homogeneity", "pieces")
TWINS = tuple(f"float64_{name}" for name in MEASURES)
PAIRS, LINES = 128, 5
POINTS = 1000
GRID = 48  # points of the plane per axis
COLUMNS = (*MEASURES, *TWINS, "boundary", "float64_boundary")


def rows(unit: Unit) -> list[Row]:
    """One row per network, on the machine that it is for, beside the same numbers in float64.

    Of images: wrong, the share of the test images that are classified wrongly; additivity and homogeneity as in
    `pieces`, on test images; pieces, the median over lines between two test images. Of points of the plane: wrong, and
    of the first seed the class on a grid of points, from the top left, row by row, as a text of 0 and 1.
    relative_l2: of the outputs for the test inputs, from those in float64.
    """
    if unit.problem == DIGITS:
        return list(images(unit) if unit.dtype != "float32" else wide_networks(unit))
    return [plane(unit)]


def images(unit: Unit) -> Iterator[Row]:
    """Of a network built to round, and of an ordinary one, both in the unit's dtype."""
    import copy

    from analysis.precision.digits.baselines import trained_relu
    from analysis.precision.digits.construction import RoundedStack
    from analysis.precision.digits.data import split
    from analysis.precision.digits.training import Schedule, train
    from linear_lasagna.devices import dtype_named

    given, dtype, schedule = split(unit.seed), dtype_named(unit.dtype), Schedule()
    built = RoundedStack(DIGITS, dtype, unit.seed)
    train(built, given.x, given.y, schedule, unit.seed)
    ordinary = trained_relu(DIGITS, Schedule(100), unit.seed, activation=False)
    for way, module in (("constructed", built.deployed()), ("ordinary", copy.deepcopy(ordinary).to(dtype))):
        yield row(way, given, function(module, dtype), function(module, "float64"))


def wide_networks(unit: Unit) -> Iterator[Row]:
    """Of the layers with ReLU in float32, and of stacks trained through coarse rounding, on the simulated machine."""
    from analysis.precision.digits.baselines import trained_relu
    from analysis.precision.digits.data import split
    from analysis.precision.digits.training import Schedule, train
    from analysis.precision.simulated_training import Formats, SimulatedStacks

    given, schedule = split(unit.seed), Schedule()
    relu = trained_relu(DIGITS, schedule, unit.seed)
    yield row("relu", given, function(relu, "float32"), function(relu, "float64"))
    formats = Formats(tuple(map(wide, COARSE_BITS)))
    stacks = SimulatedStacks(stack("coarse"), formats, unit.seed, BIASES[1])
    labels = given.y[:, None].expand(-1, len(COARSE_BITS))
    train(stacks, stacks.inputs(given.x), labels, schedule, unit.seed)
    stacks.double()
    for place, bits in enumerate(COARSE_BITS):
        yield row(f"{bits} bits", given, stacks.function(place), stacks.function(place, rounding=False))


def function(module: torch.nn.Module, dtype: Any) -> Function:
    """What the module computes in a dtype, (n, outputs); its numbers are as they were rounded before."""
    import copy

    from linear_lasagna.devices import dtype_named

    dtype = dtype_named(dtype) if isinstance(dtype, str) else dtype
    own = copy.deepcopy(module).to(dtype)
    return lambda x: own(x.to(dtype)).flatten(1)


def row(way: str, given: Split, f: Function, twin: Function) -> Row:
    """Of a function of images."""
    from statistics import median

    from analysis.precision.pieces import additivity, homogeneity, pieces

    x, z = given.test_x[:PAIRS], given.test_x[PAIRS : 2 * PAIRS]
    measured: Row = {}
    for each, names in ((f, MEASURES), (twin, TWINS)):
        counts = [pieces(each, x[i : i + 1], z[i : i + 1]) for i in range(LINES)]
        found = (wrong(each, given.test_x, given.test_y), additivity(each, x, z), homogeneity(each, x), median(counts))
        measured |= dict(zip(names, found, strict=True))
    return {**common(way, f(given.test_x), twin(given.test_x)), **measured, "boundary": None, "float64_boundary": None}


def wrong(f: Function, x: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of inputs that f's larger output has the wrong class of."""
    from analysis.precision.digits.comparing import predicted

    return float((predicted(f(x)) != labels).double().mean())


def common(way: str, y: torch.Tensor, twin: torch.Tensor) -> Row:
    """What all rows have."""
    relative = float((y.double() - twin).norm() / twin.norm())
    found = {"relative_l2": relative, "error_u": relative / 2.0**-24, "outputs": y.numel()}
    return {"way": way, "status": "ok", "reason": "", **found}


def plane(unit: Unit) -> Row:
    """Of points of the plane: exclusive or by numbers chosen by hand, a disk by training."""
    from analysis.precision.by_hand import by_hand, disk, exclusive_or
    from analysis.precision.digits.construction import RoundedStack
    from analysis.precision.digits.training import Schedule, train
    from linear_lasagna.devices import dtype_named

    dtype, task = dtype_named(unit.dtype), exclusive_or if unit.problem == XOR else disk
    points = task(POINTS, 2 * unit.seed + 1)
    if unit.problem == XOR:
        way, module = "by_hand", by_hand(dtype)
    else:
        stacked, seen = RoundedStack(DISK, dtype, unit.seed), disk(POINTS, 2 * unit.seed)
        train(stacked, seen.x, seen.y, Schedule(400, 0.005), unit.seed)
        way, module = "constructed", stacked.deployed()
    f, twin = function(module, dtype), function(module, "float64")
    found: Row = dict.fromkeys(COLUMNS)
    found |= {"wrong": wrong(f, *points), "float64_wrong": wrong(twin, *points)}
    if unit.seed == 0:
        found |= {"boundary": boundary(f, unit.problem), "float64_boundary": boundary(twin, unit.problem)}
    return common(way, f(points.x), twin(points.x)) | found


def boundary(f: Function, problem: Problem) -> str:
    """The classes on a grid of points of the plane, the middles of squares, row by row from the top left."""
    import torch

    from analysis.precision.digits.comparing import predicted

    middles = (torch.arange(GRID) + 0.5) / GRID
    across = middles if problem == XOR else 2 * middles - 1
    grid = torch.stack([across.repeat(GRID), across.flip(0).repeat_interleave(GRID)], 1)
    return "".join(map(str, predicted(f(grid.view(-1, 2, 1, 1))).tolist()))


def grids(seeds: int, plane_seeds: int) -> tuple[Grid, ...]:
    """Images in three dtypes; points in the two whose rounding to integers a bias calls for."""
    return (
        Grid((DIGITS,), seeds, ("float16", "bfloat16", "float32"), ("random",)),
        Grid((XOR,), 1, ("float16", "bfloat16"), ("random",)),
        Grid((DISK,), plane_seeds, ("float16",), ("random",)),
    )


DEFECTS = Experiment(
    name="defects",
    question="How non-linear is a stack of linear layers on the machine that it was made for?",
    ways=WAYS,
    presets={
        "smoke": (Grid((XOR,), 1, ("float16",), ("random",)),),
        "default": grids(5, 5),
        "full": grids(20, 20),
    },
    rows=rows,
    columns=COLUMNS,
)
