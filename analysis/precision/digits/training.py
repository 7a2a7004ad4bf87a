"""How all networks here are trained: the same steps for those that round and those with ReLU."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

WEIGHT_DECAY = 0.1


class Schedule(NamedTuple):
    """steps: of AdamW, on batches drawn anew; rate: the largest learning rate of a cycle that rises and falls."""

    steps: int = 300
    rate: float = 0.02
    batch: int = 256


def train(network: nn.Module, x: torch.Tensor, y: torch.Tensor, schedule: Schedule, seed: int) -> None:
    """Minimise the cross entropy of network(x) (n, classes) with labels y (n,), in place; repeatable on one thread.

    Source: Loshchilov and Hutter, arXiv 1711.05101 (AdamW); Smith and Topin, arXiv 1708.07120 (the cycle).
    """
    steps, rate, batch = schedule
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=WEIGHT_DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    with torch.enable_grad():
        for _ in range(steps):
            chosen = torch.randperm(len(y), generator=draws)[:batch]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
            optimizer.step()
            cycle.step()
