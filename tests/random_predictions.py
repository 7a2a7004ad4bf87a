"""Random problems of all families of data, methods, schedules and dtypes: is the error as predicted?

`python tests/random_predictions.py 500 held_out` tries so many, and prints by dtype, method, schedule and family how
often the measured error lies within 10 % of the predicted one, where that has 200 independent parts or more, and within
the interval of 95 %. All numbers come from the seed. The model was made with the other problems alone: those that were
held out at first became `spent` when what they showed was mended.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy
import torch

from analysis.precision.families import INPUTS, WEIGHTS, draw
from linear_lasagna import METHODS, SCHEDULES, Layer, Problem
from linear_lasagna.devices import dtype_named
from linear_lasagna.exact import convolve
from linear_lasagna.metrics import relative_l2
from linear_lasagna.rounding import predict_error
from linear_lasagna.vocabulary import DTYPES, SIGNS

SETS = {"development": 0, "spent": 10**6, "held_out": 2 * 10**6}  # name -> its first seed
SUMMED = tuple(name for name, method in METHODS.items() if method.summed)
SCHEDULED = ("stacked", "stacked", "merged", "merged_working")
CLOSE = 0.1  # of the measured error: what is called a right prediction
INDEPENDENT = 200  # parts of the error, from which on one is asked for
RIGHT, COVERED = 0.95, 0.93  # shares: of right ones, and of those in the interval
LONGEST = 2048  # products in one sum; merged kernels of deep stacks have more


class Tried(NamedTuple):
    """One problem: how it was drawn, its measured and its predicted relative L2 error, the interval, and its parts."""

    seed: int
    dtype: str
    method: str
    schedule: str
    inputs: str
    weights: str
    depth: int
    measured: float
    predicted: float
    lower: float
    upper: float
    independent: float

    @property
    def close(self) -> bool:
        return self.predicted / (1 + CLOSE) <= self.measured <= self.predicted * (1 + CLOSE)

    @property
    def inside(self) -> bool:
        return self.lower <= self.measured <= self.upper


def problem_of(random: numpy.random.Generator, method: str, weights: str) -> Problem:
    """Up to 6 layers of kernels up to 5, or 8 to 32 of 1 x 1. Raises ValueError where layers leave no output."""
    rank, deep = int(random.integers(1, 3)), bool(random.random() < 0.15)
    trained = weights.startswith("trained")
    channels = width = int(2 ** random.uniform(0, 3.9 if trained else 5.5))
    layers = []
    for _ in range(int(2 ** random.uniform(3, 5)) if deep and not trained else int(random.integers(1, 7))):
        taps = 3 if trained else 1 if deep else int(random.integers(1, 6 if rank == 1 else 4))
        out = width if deep else min(int(2 ** random.uniform(0, 5.5)), 16 if trained else 64)
        plain = deep or random.random() < 0.7
        stride = taps if method == "patch_matmul" else 1 if plain else int(random.integers(1, 3))
        padding = 0 if plain or method == "patch_matmul" else int(random.integers(taps // 2 + 1))
        dilation = 1 if plain or method == "patch_matmul" else int(random.integers(1, 3))
        groups = channels if not plain and out % channels == 0 and not trained else 1
        layers.append(Layer(out, taps, stride, padding, dilation, groups, bool(random.random() < 0.3)))
        channels = out
    large = random.random() < 0.25
    size = tuple(random.integers(2, (400 if large else 40) if rank == 1 else 40 if large else 14) for _ in range(rank))
    for layer in reversed(layers):
        size = layer.expand(rank).input_size(tuple(map(int, size)))
    batch = int(random.integers(1, 4))
    return Problem("random", batch, layers[0].groups if layers[0].groups > 1 else width, size, tuple(layers))


def tried(seed: int) -> Tried | str:
    """One problem; or why there is none: what was drawn does not fit, or overflows."""
    random = numpy.random.default_rng(seed)
    dtype, method, schedule = (str(random.choice(names)) for names in (DTYPES, SUMMED, SCHEDULED))
    inputs, weights = (str(random.choice(list(families))) for families in (INPUTS, WEIGHTS))
    signs = SIGNS[int(random.integers(2))] if inputs == weights == "uniform" else SIGNS[0]
    storage = dtype_named(dtype)
    try:
        problem = problem_of(random, method, weights)
        reason = SCHEDULES[schedule].unsupported(problem, method, storage, "cpu")
        if reason is not None:
            return reason
        if max(layer.fan_in(channels) for layer, channels in _computed(problem, schedule)) > LONGEST:
            return "sums too long"
        x, kernels = draw(problem, seed, signs, inputs, weights)
    except ValueError as error:
        return str(error)
    x, kernels = x.to(storage), [kernel.map(lambda numbers: numbers.to(storage)) for kernel in kernels]
    try:
        y = SCHEDULES[schedule](problem, kernels, method)(x)
    except OverflowError:
        return "overflow"
    if not bool(y.isfinite().all()):
        return "overflow"
    exact = convolve(x, kernels, problem.layers)
    measured = relative_l2(exact.error(y), exact.to(torch.float64))
    said = predict_error(x, kernels, problem.layers, method, schedule)
    how = (seed, dtype, method, schedule, inputs, weights, problem.depth)
    return Tried(*how, measured, said, *said.interval, said.independent)


def _computed(problem: Problem, schedule: str) -> Iterator[tuple[Layer, int]]:
    layers = SCHEDULES[schedule].layers(problem)
    return zip(layers, problem.channels if len(layers) == problem.depth else [problem.in_channels], strict=False)


def some(number: int, first: int) -> list[Tried]:
    """So many, from seeds in order."""
    found: list[Tried] = []
    while len(found) < number:
        case = tried(first)
        first += 1
        if isinstance(case, Tried):
            found.append(case)
    return found


class Told(NamedTuple):
    """Of so many: those with enough independent parts and of them those that were close; those inside the interval."""

    number: int
    asked: int
    close: int
    inside: int

    def __str__(self) -> str:
        close = f"{self.close} of {self.asked} ({self.close / self.asked:.1%})" if self.asked else "none asked"
        inside = f"{self.inside} of {self.number} ({self.inside / self.number:.1%})"
        return f"within {CLOSE:.0%}: {close}; within the interval: {inside}"


def told(cases: Sequence[Tried]) -> Told:
    """How many were right, of how many."""
    asked = [case for case in cases if case.independent >= INDEPENDENT]
    return Told(len(cases), len(asked), sum(case.close for case in asked), sum(case.inside for case in cases))


def main(number: int, which: str = "development") -> int:
    """Print what became of so many problems. Exit code 1 where the predictions are not as good as is promised."""
    torch.set_num_threads(1)
    cases = some(number, SETS[which])
    for name in ("dtype", "method", "schedule", "inputs", "weights"):
        for value in sorted({getattr(case, name) for case in cases}):
            print(f"{name} {value}: {told([case for case in cases if getattr(case, name) == value])}")
    whole = told(cases)
    print(f"all: {whole}")
    for case in cases:
        if not case.inside or (case.independent >= INDEPENDENT and not case.close):
            print(case)
    return 0 if whole.close >= RIGHT * whole.asked and whole.inside >= COVERED * whole.number else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
