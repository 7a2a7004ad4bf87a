"""What linear layers learn by evolution where subnormal numbers are flushed to zero, and where they are kept.

Odd digits from even, by two layers with multiplications by 2**-125 and by 2**125 between them (`digits.evolution`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.vocabulary import COMMON_METRICS

if TYPE_CHECKING:
    from torch import nn

    from analysis.precision.digits.data import Split
    from analysis.precision.digits.evolution import Evolution

# Evolved and run with subnormal numbers flushed; the same network where they are kept, and in float64; one evolved and
# run with them kept, from the same numbers and noise; the best linear classifier.
FLUSHED, KEPT, WIDE, CONTROL, LINEAR = WAYS = ("flushed", "kept", "float64", "control", "linear")
ABSENT = "this processor cannot flush subnormal numbers to zero"
COLUMNS = ("wrong", "linear_wrong", "changed", "gained", "lost", "p_value", "train_wrong", "zeroed")


def net(name: str, *layers: Layer) -> Problem:
    """On 8×8 images."""
    return Problem(name, 1, 1, (8, 8), layers)


DENSE = net("evolved_dense", Layer(32, 8, bias=True), Layer(2, 1, bias=True))  # 64-32-2: an 8×8 kernel sees all pixels
CONVOLUTIONS = net("evolved_convolutions", Layer(16, 4, stride=2, bias=True), Layer(2, 3, bias=True))
TINY = net("evolved_tiny", Layer(4, 4, stride=2, bias=True), Layer(2, 3, bias=True))  # hardly evolved


def rows(unit: Unit) -> list[Row]:
    """One row per way; each is compared with `flushed`. Skipped ones where the processor cannot flush.

    wrong: the share of the test images that it classifies wrongly, train_wrong: of the others; linear_wrong: of
    `linear`.
    changed: the share of predicted classes that are not `flushed`'s; gained: test images that `flushed` classifies
    rightly and this wrongly; lost: the reverse; p_value: of McNemar's exact test of the two. zeroed: the share of what
    the first layer gives for test images that is zero after both multiplications. Errors are those of the outputs from
    what the same numbers give in float64.
    """
    from analysis.precision.digits.baselines import linear_predictions
    from analysis.precision.digits.data import split
    from analysis.precision.digits.evolution import evolve
    from linear_lasagna.switches import can_flush, flushing

    given, how = split(unit.seed), evolution(unit.problem)
    if not can_flush():
        return [{"way": way, "status": "skipped", "reason": ABSENT, "outputs": 0} for way in WAYS]
    with flushing(True):
        network = evolve(unit.problem, given, how, unit.seed)
        found = {FLUSHED: of_network(network, given)}
    with flushing(False):
        found[KEPT] = of_network(network, given)
        found[CONTROL] = of_network(evolve(unit.problem, given, how, unit.seed), given)
        found[WIDE] = of_network(network.double(), given._replace(x=given.x.double(), test_x=given.test_x.double()))
    found[LINEAR] = {"predicted": linear_predictions(unit.seed)}
    return [_row(way, found, given) for way in WAYS]


def evolution(problem: Problem) -> Evolution:
    """How the problem's networks evolve."""
    from analysis.precision.digits.evolution import Evolution

    if problem == TINY:
        return Evolution(steps=40, pairs=16)
    return Evolution() if problem == DENSE else Evolution(pairs=128, decay=0.0)


def of_network(network: nn.Sequential, given: Split) -> Row:
    """Its predictions for the test images, the error of its outputs, how many other images it gets wrong, and how much
    is zero between its layers.
    """
    import copy

    import torch

    from analysis.precision.digits.comparing import predicted
    from linear_lasagna.metrics import relative_l2

    with torch.no_grad():
        y, exact = network(given.test_x), copy.deepcopy(network).double()(given.test_x.double())
        relative = relative_l2(y.double() - exact, exact)
        sizes = {"relative_l2": relative, "error_u": relative / 2.0**-24, "outputs": y.numel()}
        wrong = (predicted(network(given.x)) != given.y).double().mean()
        zeroed = (network[:3](given.test_x) == 0).double().mean()
        return {"predicted": predicted(y), "train_wrong": float(wrong), "zeroed": float(zeroed), **sizes}


def _row(way: str, found: dict[str, Row], given: Split) -> Row:
    from analysis.precision.digits.comparing import compare

    labels, first = given.test_y, found[FLUSHED]["predicted"]
    of = {name: 1 - compare(each["predicted"], first, labels).accuracy for name, each in found.items()}
    compared = compare(first, found[way]["predicted"], labels)
    tests = {"gained": compared.gained, "lost": compared.lost, "p_value": compared.p}
    own = {name: value for name, value in found[way].items() if name != "predicted"}
    empty = {"status": "ok", "reason": "", **dict.fromkeys(COMMON_METRICS), "outputs": 0}
    shares = {"wrong": of[way], "linear_wrong": of[LINEAR], "changed": compared.changed / len(labels)}
    return {"way": way, **empty, **shares, **tests, **own}


def grid(seeds: int, *problems: Problem) -> tuple[Grid]:
    """Seeds draw the images to learn from, the numbers to begin with and all noise; there are no families."""
    return (Grid(problems, seeds, ("float32",), ("random",)),)


EVOLVED = Experiment(
    name="evolved",
    question="Do linear layers learn by evolution to use that the processor flushes subnormal numbers to zero?",
    ways=WAYS,
    presets={
        "smoke": grid(1, TINY),
        "default": grid(5, DENSE, CONVOLUTIONS),
        "full": grid(20, DENSE, CONVOLUTIONS),
    },
    rows=rows,
    columns=COLUMNS,
)
