"""From the order of a sum to its bits: a method's outputs formed again from how it was found to add.

Where they are equal, bit for bit, the error that is predicted is the one that is measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.catalog import CATALOG
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.vocabulary import DTYPES

if TYPE_CHECKING:
    import torch

WAYS = ("direct", "unfold_matmul", "strided_matmul", "shifted_matmul")
TINY = Problem("tiny", 1, 4, (8, 8), (Layer(6, 3),))
POSITIONS, OUTPUTS = 48, 2**12  # of a tile, at most; one position of each patch at least
COLUMNS = ("equal", "equal_one", "orders", "products_rounded", "emulated_u")
GROUPS = ("sources", "resnet50", "vgg16", "stacks", "borders")


def rows(unit: Unit) -> list[Row]:
    """One row per method that can compute the unit, about its tile: the errors measured, and what is formed again.

    equal: the share of outputs that are formed again bit for bit, each by an order of its kind; equal_one: all by that
    of most outputs. orders: how many were found. products_rounded: the share of outputs whose products are rounded
    before they are added. emulated_u: error_u of the outputs that were formed again. All empty where no order is found.
    """
    from analysis.precision.case import draw
    from linear_lasagna.devices import dtype_named
    from linear_lasagna.exact import convolve_tiles
    from linear_lasagna.methods import METHODS

    x, (kernel,) = draw(unit)
    layer, boxes = unit.problem.expanded[0], patches(unit.problem)
    exact = convolve_tiles(x, (kernel,), unit.problem.layers, boxes)
    dtype = dtype_named(unit.dtype)
    able = [way for way in WAYS if METHODS[way].unsupported(layer, dtype, unit.device) is None]
    return [_row(way, unit, (x, kernel), (boxes, exact)) for way in able]


def patches(problem: Problem) -> tuple[tuple[slice, ...], ...]:
    """The tile: patches of the output in its first corner, its middle and its last corner, one slice per axis.

    Libraries compute a product's last rows and columns in ways of their own. One patch, the whole, where that is small.
    """
    size, out = problem.sizes[-1], problem.layers[-1].out_channels
    most = min(POSITIONS, OUTPUTS // out)
    if math.prod(size) <= most:
        return (tuple(slice(0, n) for n in size),)
    edge = max(1, int((most / 3) ** (1 / len(size))))
    edges = [min(edge, n) for n in size]
    starts = ([0 for _ in size], [(n - e) // 2 for n, e in zip(size, edges, strict=True)])
    last = [n - e for n, e in zip(size, edges, strict=True)]
    return tuple(tuple(slice(s, s + e) for s, e in zip(each, edges, strict=True)) for each in (*starts, last))


def _row(way: str, unit: Unit, drawn: tuple[Any, Any], reference: tuple[Any, Any]) -> Row:
    import torch

    from linear_lasagna.methods import METHODS
    from linear_lasagna.metrics import bitwise_equality
    from linear_lasagna.rounding.emulation import (
        accumulations,
        at,
        chosen,
        emulate,
        which,
        with_products_rounded,
    )

    (x, kernel), layer = drawn, unit.problem.expanded[0]
    y = METHODS[way](x, kernel, layer)
    grid = torch.arange(math.prod(y.shape[2:])).view(y.shape[2:])
    places = torch.cat([grid[box].flatten() for box in reference[0]])
    measured = at(y, places)
    row = {"way": way, **_judged(measured, reference), **dict.fromkeys(COLUMNS)}
    found = accumulations(way, layer, tuple(x.shape), x.dtype)
    if not found:
        return row | {"orders": 0}
    hows = with_products_rounded(found)
    numbers = which(way, layer, tuple(x.shape), hows, places, x.dtype)
    formed = [emulate(x, kernel, layer, how, places) for how in hows]
    best = chosen(formed, numbers)
    unfused = torch.tensor([not how.fused for how in hows])[numbers]
    return row | {
        "equal": bitwise_equality(best, measured),
        "equal_one": bitwise_equality(formed[0], measured),
        "orders": len(numbers.unique()),
        "products_rounded": float(unfused.double().mean()),
        "emulated_u": _judged(best, reference)["error_u"],
    }


def _judged(outputs: torch.Tensor, reference: tuple[Any, Any]) -> Row:
    """The error of the tile's outputs, (places, out)."""
    import torch

    from analysis.precision.case import judged
    from linear_lasagna.metrics import Outcome

    parts = outputs.split([math.prod(s.stop - s.start for s in box) for box in reference[0]])
    pairs = list(zip(reference[1], parts, strict=True))
    error = torch.cat([exact.error(part.T.reshape(exact.shape)).flatten() for exact, part in pairs])
    values = torch.cat([exact.to(torch.float64).flatten() for exact, _ in pairs])
    return judged(Outcome(error, values, outputs.dtype))


def layers_of(most_macs: float, most_terms: int) -> tuple[Problem, ...]:
    """The catalogue's layers, each alone, once and on one image, with at most so many operations and terms of a sum."""
    found: dict[Any, Problem] = {}
    for name, problem in CATALOG.items():
        if name.split("/")[0] not in GROUPS or problem.batch > 1:
            continue
        channels = problem.in_channels
        for number, (layer, size) in enumerate(zip(problem.layers, problem.sizes[:-1], strict=True)):
            named = name if problem.depth == 1 else f"{name}#{number + 1}"
            alone = Problem(named, 1, channels, tuple(size), (layer,), problem.source)
            if alone.macs <= most_macs and alone.fan_ins[0] <= most_terms:
                found.setdefault((layer, channels), alone)
            channels = layer.out_channels
    return tuple(found.values())


def grid(*problems: Problem, seeds: int = 1, dtypes: tuple[str, ...] = DTYPES) -> tuple[Grid]:
    """On random signs. One draw says much: a tile has hundreds of outputs, and is equal or not."""
    return (Grid(problems, seeds, dtypes, ("random",)),)


EMULATION = Experiment(
    name="emulation",
    question="Does the order in which a method was found to add give the bits of what it computes?",
    ways=WAYS,
    presets={
        "smoke": grid(TINY, dtypes=("float32", "float64")),
        "default": grid(*layers_of(3e7, 600)),
        "full": grid(*layers_of(1.3e8, 600), seeds=10),
    },
    rows=rows,
    columns=COLUMNS,
    apart=True,
)
