"""Two classifiers on the same test images: how often each is right, and whether they differ."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Compared(NamedTuple):
    """accuracy: of the first; gained, lost: images that only the first, only the second gets right; changed: images
    whose predictions differ; p: of McNemar's exact test, that both are right as often, two-sided.
    """

    accuracy: float
    gained: int
    lost: int
    changed: int
    p: float


def predicted(logits: torch.Tensor) -> torch.Tensor:
    """Classes (n,) of a network's outputs (n, classes, …): the channel of the largest, the first where several are.

    Compared as float64, so that no dtype rounds.
    """
    return logits.flatten(1).double().argmax(1)


def compare(first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor) -> Compared:
    """Predictions (n,) of two classifiers for the same images.

    Source: McNemar, Psychometrika 12 (1947), 153; exact, so by the binomial distribution of the discordant images.
    """
    right, other = first == labels, second == labels
    gained, lost = int((right & ~other).sum()), int((other & ~right).sum())
    accuracy = float(right.double().mean())
    return Compared(accuracy, gained, lost, int((first != second).sum()), exact_mcnemar(gained, lost))


def exact_mcnemar(gained: int, lost: int) -> float:
    """The p-value of so many discordant images of either kind; 1 where there are none."""
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
