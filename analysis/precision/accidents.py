"""Whether an ordinary stack of linear layers ceases to be linear by accident, so far that it shows in its predictions.

Stacks as one draws and trains them, run in a dtype, against the same numbers in float64. A gain other than 1 leaves
the function as it is, but for its scale: it multiplies every layer's weights, and biases to suit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Kernel, Layer, Problem
from linear_lasagna.vocabulary import BASELINE, COMMON_METRICS

if TYPE_CHECKING:
    import torch

KINDS = ("random", "trained")
DTYPES = ("float16", "bfloat16", "float32")
DEPTHS = (2, 4, 8, 16, 32, 64)
GAINS = (0.8, 1.0, 1.25)
WIDTH = 32
STEPS, RATE = 100, 0.003
COLUMNS = ("kind", "wrong", "float64_wrong", "changed", "gained", "lost", "p_value")


def stack(kind: str, depth: int) -> Problem:
    """A layer that sees all of an 8×8 image, 1×1 layers of 32 channels, and one to two classes."""
    layers = (Layer(WIDTH, 8, bias=True), *[Layer(WIDTH, 1, bias=True)] * (depth - 2), Layer(2, 1, bias=True))
    return Problem(f"{kind}_x{depth}", 1, 1, (8, 8), layers)


def rows(unit: Unit) -> list[Row]:
    """One row, about the images to test on.

    wrong, float64_wrong: the shares that the stack in the unit's dtype, and the same numbers in float64, classify
    wrongly; an output that is no number, or infinite, is wrong. changed, gained, lost, p_value: as `digits.comparing`
    compares the two. relative_l2: of the outputs, from those in float64; None, and status overflow, where one is not
    finite.
    """
    import torch

    from analysis.precision.digits.comparing import compare, predicted
    from analysis.precision.digits.data import split
    from analysis.precision.digits.modules import convolved
    from linear_lasagna.devices import dtype_named

    given, dtype = split(unit.seed), dtype_named(unit.dtype)
    layers = scaled(network(unit.problem, unit.seed), unit.gain)
    y, twin = given.test_x.to(dtype), given.test_x.double()
    for layer in (each.map(lambda numbers: numbers.to(dtype)) for each in layers):
        y = torch.nn.functional.conv2d(y, *layer)
        twin = convolved(twin, *layer.map(lambda numbers: numbers.double()))
    y = y.flatten(1).double()
    finite = y.isfinite().all(1)
    classes, right = torch.where(finite, predicted(y), -1), predicted(twin)
    against = compare(classes, right, given.test_y)
    relative = float((y - twin).norm() / twin.norm()) if finite.all() else None
    lost = int((~finite).sum())
    return [
        {
            "way": BASELINE,
            "status": "overflow" if lost else "ok",
            "reason": f"{lost} of {len(y)} images have outputs that are not finite" if lost else "",
            **dict.fromkeys(COMMON_METRICS),
            **({} if relative is None else {"relative_l2": relative, "error_u": relative / unit_roundoff(dtype)}),
            "outputs": y.numel(),
            "kind": unit.problem.name.split("_")[0],
            "wrong": 1 - against.accuracy,
            "float64_wrong": float((right != given.test_y).double().mean()),
            "changed": against.changed / len(y),
            "gained": against.gained,
            "lost": against.lost,
            "p_value": against.p,
        }
    ]


def unit_roundoff(dtype: torch.dtype) -> float:
    from linear_lasagna.simulated.formats import format_named

    return format_named(dtype).unit_roundoff


@lru_cache(maxsize=512)
def network(problem: Problem, seed: int) -> tuple[Kernel, ...]:
    """The problem's layers, float32: orthogonal weights, biases zero; those of the kind trained, trained on digits.

    Source: Saxe, McClelland, Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks, arXiv 1312.6120 (orthogonal weights, with which deep linear networks can be trained).
    """
    import torch
    from torch import nn

    from analysis.precision.digits.data import split
    from analysis.precision.digits.modules import Trained, convolution
    from analysis.precision.digits.training import Schedule, train

    draws, modules = torch.Generator().manual_seed(seed), []
    for layer, channels in zip(problem.expanded, problem.channels, strict=False):
        weight = nn.init.orthogonal_(torch.empty(layer.weight_shape(channels)), generator=draws)
        modules.append(convolution(Kernel(weight, torch.zeros(layer.out_channels)), layer))
    found = nn.Sequential(*modules)
    if problem.name.startswith("trained"):
        given = split(seed)
        train(Trained(found), given.x, given.y, Schedule(STEPS, RATE), seed)
    return tuple(Kernel(module.weight, module.bias).map(lambda numbers: numbers.detach()) for module in modules)


def scaled(layers: Iterable[Kernel], gain: float) -> Iterator[Kernel]:
    """Weights gain times as large, and biases such that the function is gain**depth times as large."""
    power = 1.0
    for weight, bias in layers:
        power *= gain
        assert bias is not None
        yield Kernel(weight * gain, bias * power)


def grid(seeds: int, depths: tuple[int, ...], gains: tuple[float, ...] = GAINS) -> tuple[Grid]:
    """Of both kinds, in three dtypes."""
    problems = tuple(stack(kind, depth) for kind in KINDS for depth in depths)
    return (Grid(problems, seeds, DTYPES, ("random",), gains),)


ACCIDENTS = Experiment(
    name="accidents",
    question="Does rounding make an ordinary stack of linear layers non-linear enough to be seen in its predictions?",
    ways=(BASELINE,),
    presets={"smoke": grid(1, (2, 4), (1.0,)), "default": grid(5, DEPTHS), "full": grid(20, DEPTHS)},
    rows=rows,
    columns=COLUMNS,
)
