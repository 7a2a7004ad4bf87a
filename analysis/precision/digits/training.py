"""How all networks here are trained: the same steps for those that round and those with ReLU.

torch's own optimizers give the same numbers, but the first one imports a compiler: seconds in every process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

WEIGHT_DECAY = 0.1
RISES = 0.3  # of a cycle's steps
START, END = 1 / 25, 1 / 25e4  # of the largest rate
KEPT = (0.95, 0.85)  # of gradients per step, where the rate is least and where it is largest
SQUARES, EPSILON = 0.999, 1e-8


class Schedule(NamedTuple):
    """steps: of AdamW, on batches drawn anew; rate: the largest learning rate of a cycle that rises and falls."""

    steps: int = 300
    rate: float = 0.02
    batch: int = 256


class Pace(NamedTuple):
    """Of one step: the learning rate, and how much of the running mean of gradients is kept."""

    rate: float
    kept: float


def pace(step: int, schedule: Schedule) -> Pace:
    """Of a step, from 0 on: along a cosine up to the largest rate, along another one down.

    Source: Smith and Topin, arXiv 1708.07120, as `torch.optim.lr_scheduler.OneCycleLR` has it.
    """
    top = RISES * schedule.steps - 1
    if step <= top:
        start, end, part = (START, KEPT[0]), (1.0, KEPT[1]), step / top
    else:
        start, end, part = (1.0, KEPT[1]), (END, KEPT[0]), (step - top) / (schedule.steps - 1 - top)
    left = (1 + math.cos(math.pi * part)) / 2
    rate, kept = (last + (first - last) * left for first, last in zip(start, end, strict=True))
    return Pace(schedule.rate * rate, kept)


class AdamW:
    """Steps of a network's numbers along their gradients, all in one vector, of which they are made parts.

    Source: Loshchilov and Hutter, arXiv 1711.05101; as `torch.optim.AdamW` has it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.numbers = torch.cat([each.detach().flatten() for each in self.parameters])
        self.gradient, self.mean, self.square = (torch.zeros_like(self.numbers) for _ in range(3))
        self.steps = 0
        sizes = [each.numel() for each in self.parameters]
        parts = zip(self.parameters, self.numbers.split(sizes), self.gradient.split(sizes), strict=True)
        for each, numbers, gradient in parts:
            each.data, each.grad = numbers.view(each.shape), gradient.view(each.shape)

    @torch.no_grad()
    def step(self, pace: Pace) -> None:
        """After a backward pass; the gradient is zero again."""
        self.steps += 1
        self.numbers.mul_(1 - pace.rate * WEIGHT_DECAY)
        self.mean.lerp_(self.gradient, 1 - pace.kept)
        self.square.mul_(SQUARES).addcmul_(self.gradient, self.gradient, value=1 - SQUARES)
        size = (self.square.sqrt() / math.sqrt(1 - SQUARES**self.steps)).add_(EPSILON)
        self.numbers.addcdiv_(self.mean, size, value=-pace.rate / (1 - pace.kept**self.steps))
        self.gradient.zero_()

    def release(self) -> None:
        """The parameters are parts of the vector no more, and have no gradients."""
        for each in self.parameters:
            each.data, each.grad = each.detach().clone(), None


def train(network: nn.Module, x: torch.Tensor, y: torch.Tensor, schedule: Schedule, seed: int) -> None:
    """Minimise the cross entropy of network(x) (n, classes) with labels y (n,), in place; repeatable on one thread."""
    draws = torch.Generator().manual_seed(seed)
    optimizer = AdamW(network.parameters())
    with torch.enable_grad():
        for step in range(schedule.steps):
            chosen = torch.randperm(len(y), generator=draws)[: schedule.batch]
            nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
            optimizer.step(pace(step, schedule))
    optimizer.release()
