"""Equal bits or not: a subject computed as it is, and under every perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from linear_lasagna.metrics import bitwise_equality, ulp_distance
from linear_lasagna.reproducibility.perturbations import named
from linear_lasagna.reproducibility.subject import Subject
from linear_lasagna.reproducibility.threads import threads


@dataclass(frozen=True)
class Outcome:
    """equal: the share of outputs with equal bits, 0 to 1; largest_ulps: the most steps of the dtype between two that
    should be equal, None where one of them is not finite and their bits differ; outputs: how many were compared.
    """

    perturbation: str
    setting: str
    equal: float
    largest_ulps: int | None
    outputs: int


@torch.no_grad()
def outcomes(subject: Subject, perturbations: Sequence[str] | None = None) -> list[Outcome]:
    """One outcome per perturbation and setting that the subject can be put under, in the order of `PERTURBATIONS`.

    NumPy's BLAS has as many threads as torch. perturbations: their names, None for all. Raises ValueError for an
    unknown one, RuntimeError where a process for another instruction set gives no result.
    """
    chosen = named(perturbations)
    with threads(torch.get_num_threads()):
        plain = subject.compute(subject.image)
        pairs = ((name, pair) for name, each in chosen.items() for pair in each(subject, plain))
        return [
            Outcome(name, setting, bitwise_equality(y, expected), _largest(y, expected), y.numel())
            for name, (setting, y, expected) in pairs
        ]


def _largest(y: torch.Tensor, expected: torch.Tensor) -> int | None:
    finite = y.isfinite() & expected.isfinite()
    if bitwise_equality(y[~finite], expected[~finite]) < 1:
        return None
    return int(ulp_distance(y[finite], expected[finite]).max()) if bool(finite.any()) else 0
