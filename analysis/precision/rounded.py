"""What three convolutions with bias and nothing else compute by rounding alone, and what is left where they are merged.

Odd digits from even, by a stack whose stored outputs are rounded to integers (`digits.construction`); the same numbers
in wider dtypes, merged, and exactly; and by every method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Kernel, Layer, Problem
from linear_lasagna.vocabulary import BASELINE, COMMON_METRICS, METHODS

if TYPE_CHECKING:
    import torch
    from torch import nn

    from analysis.precision.digits.data import Split
    from linear_lasagna.exact import Exact

CONTROLS = ("float32", "float64", "merged", "merged_float64", "exact")  # of the same numbers
LINEAR, HINDSIGHT, RELU = BASELINES = ("linear", "linear_hindsight", "relu")
STEPS, FEW_STEPS = 300, 30
COLUMNS = ("wrong", "linear_wrong", "changed", "gained", "lost", "p_value", "rounded", "flush_denormal", "onednn")


def net(name: str, channels: int) -> Problem:
    """8×8 images to 6×6, 4×4 and 1×1, two classes; with biases, without padding."""
    layers = (Layer(channels, 3, bias=True), Layer(channels, 3, bias=True), Layer(2, 4, bias=True))
    return Problem(name, 1, 1, (8, 8), layers)


THREE = net("three_convolutions", 32)
TINY = net("three_convolutions_tiny", 8)  # hardly trained


class Subject(NamedTuple):
    """A trained stack as it is deployed, the images to test on in its dtype, and the exact outputs of both."""

    stack: nn.Sequential
    problem: Problem
    x: torch.Tensor
    exact: Exact

    @property
    def kernels(self) -> list[Kernel]:
        return [Kernel(module.weight, module.bias) for module in self.stack]  # type: ignore[arg-type]


def rows(unit: Unit) -> list[Row]:
    """One row per method, control and baseline; each is compared with `direct`, the stack as it is deployed.

    wrong: the share of the test images that it classifies wrongly; linear_wrong: that of the best linear classifier.
    changed: the share whose predicted class is not `direct`'s; gained: images that `direct` classifies rightly and this
    wrongly; lost: the reverse; p_value: of McNemar's exact test of the two. rounded: of a method, the share of stored
    outputs that are the exact sums rounded to integers. Errors are those of the outputs against the exact result.
    """
    from analysis.precision.digits.data import split

    given = split(unit.seed)
    subject = trained(unit, given)
    found = [*_methods(subject), *_controls(subject), *_baselines(unit, given)]
    labels, deployed = given.test_y, found[0][1]
    wrong = {row["way"]: _wrong(predictions, labels) for row, predictions in found}
    shared = {"linear_wrong": wrong[LINEAR], **conditions()}
    return [
        {**row, "wrong": wrong[row["way"]], **_against(deployed, predictions, labels), **shared}
        for row, predictions in found
    ]


def schedule(problem: Problem):
    """How the problem's networks are trained."""
    from analysis.precision.digits.training import Schedule

    return Schedule(FEW_STEPS if problem == TINY else STEPS)


def trained(unit: Unit, given: Split) -> Subject:
    """The unit's stack, trained on its seed's images through the rounding of its dtype."""
    from analysis.precision.digits.construction import RoundedStack
    from analysis.precision.digits.training import train
    from linear_lasagna.devices import dtype_named
    from linear_lasagna.exact import convolve

    dtype = dtype_named(unit.dtype)
    network = RoundedStack(unit.problem, dtype, unit.seed)
    train(network, given.x, given.y, schedule(unit.problem), unit.seed)
    stack, x = network.deployed(), given.test_x.to(dtype)
    kernels = [Kernel(module.weight, module.bias) for module in stack]  # type: ignore[arg-type]
    return Subject(stack, unit.problem, x, convolve(x, kernels, unit.problem.layers))


def _methods(subject: Subject) -> Iterator[tuple[Row, torch.Tensor]]:
    """Of every method that can compute one of the layers, `direct` first, which computes those that others cannot."""
    from linear_lasagna.methods import METHODS as COMPUTED

    layers = subject.problem.expanded
    for name, method in COMPUTED.items():
        able = [method.unsupported(layer, subject.x.dtype, "cpu") is None for layer in layers]
        if any(able):
            stored = [subject.x]
            for kernel, layer, can in zip(subject.kernels, layers, able, strict=True):
                stored.append((method if can else COMPUTED[BASELINE])(stored[-1], kernel, layer))
            row, predictions = _judged(name, stored[-1], subject)
            yield {**row, "rounded": rounded(subject, stored)}, predictions


def rounded(subject: Subject, stored: Sequence[torch.Tensor]) -> float:
    """The share of hidden outputs that are the exact sums of the numbers stored before them, rounded to integers.

    stored: the input and what each layer stored of it. Products of 16 bits are exact in float64, and sums nearly: what
    lies within 1e-9 of a tie may be counted either way.
    """
    import torch

    equal = []
    for before, kernel, after in zip(stored, subject.kernels[:-1], stored[1:], strict=False):
        sums = torch.nn.functional.conv2d(before.double(), *kernel.map(lambda numbers: numbers.double()))
        equal.append((after.double() == sums.round()).flatten())
    return float(torch.cat(equal).double().mean())


def _controls(subject: Subject) -> Iterator[tuple[Row, torch.Tensor]]:
    """The same numbers where nothing rounds them to integers."""
    import copy
    import warnings

    import torch

    from linear_lasagna.merging import merge

    stack, x = subject.stack, subject.x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that merging changes what such a stack computes, as is shown
        merged = merge(stack)
    results = {
        "float32": copy.deepcopy(stack).float()(x.float()),
        "float64": copy.deepcopy(stack).double()(x.double()),
        "merged": merged(x),
        "merged_float64": merge(stack, dtype=torch.float64)(x.double()),
        "exact": subject.exact.to(torch.float64),
    }
    yield from (_judged(name, results[name], subject) for name in CONTROLS)


def _judged(way: str, y: torch.Tensor, subject: Subject) -> tuple[Row, torch.Tensor]:
    import torch

    from analysis.precision.case import judged
    from analysis.precision.digits.comparing import predicted
    from linear_lasagna.metrics import Outcome

    outcome = Outcome(subject.exact.error(y), subject.exact.to(torch.float64), y.dtype, y, subject.exact)
    return {"way": way, **judged(outcome)}, predicted(y)


def _baselines(unit: Unit, given: Split) -> Iterator[tuple[Row, torch.Tensor]]:
    """Other models, which have no error to speak of."""
    from analysis.precision.digits.baselines import hindsight_linear, linear_predictions, trained_relu
    from analysis.precision.digits.comparing import predicted

    relu = predicted(trained_relu(unit.problem, schedule(unit.problem), unit.seed)(given.test_x))
    empty = {"status": "ok", "reason": "", **dict.fromkeys(COMMON_METRICS), "outputs": 0}
    for way, predictions in zip(BASELINES, (linear_predictions(unit.seed), hindsight_linear(given), relu), strict=True):
        yield {"way": way, **empty}, predictions


def _wrong(predictions: torch.Tensor, labels: torch.Tensor) -> float:
    return float((predictions != labels).double().mean())


def _against(deployed: torch.Tensor, predictions: torch.Tensor, labels: torch.Tensor) -> Row:
    """The deployed stack against another."""
    from analysis.precision.digits.comparing import compare

    found = compare(deployed, predictions, labels)
    return {
        "changed": found.changed / len(labels),
        "gained": found.gained,
        "lost": found.lost,
        "p_value": found.p,
    }


def conditions() -> Row:
    """Whether subnormal numbers are flushed, and oneDNN is used; all rows tell threads and instruction sets anyway."""
    from linear_lasagna.environment import environment

    found = environment("cpu")
    return {name: found[name] for name in ("flush_denormal", "onednn")}


def grid(seeds: int, problem: Problem) -> tuple[Grid]:
    """Seeds draw the images to train on and the numbers to begin with; inputs and weights are no family's."""
    return (Grid((problem,), seeds, ("float16", "bfloat16"), ("random",)),)


ROUNDED = Experiment(
    name="rounded",
    question="What do three convolutions without any activation compute by rounding alone, and what does merging them "
    "leave of it?",
    ways=(*METHODS, *CONTROLS, *BASELINES),
    presets={"smoke": grid(1, TINY), "default": grid(5, THREE), "full": grid(20, THREE)},
    rows=rows,
    columns=COLUMNS,
)
