"""A package of toys, some of them broken, for the zoo's run: `python toy_zoo.py OUT LIMIT_S`, in a process that has
computed nothing.
"""

import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from analysis.measure.zoo import packages, running
from analysis.measure.zoo.packages import PACKAGES, Package
from linear_lasagna.models.designs import Branches, by_authors


class Crashing(nn.Module):
    """Dies where it is traced: not at its first call, nor in float64."""

    def forward(self, x):
        if isinstance(x, torch.fx.Proxy):
            os.abort()
        return x


def hanging():
    time.sleep(600)


def hungry():
    return nn.Linear(2**17, 2**17)


TOYS = {
    "good": lambda: nn.Sequential(Branches(3, 3), nn.ReLU()),
    "good_wide": lambda: nn.Sequential(Branches(3, 30), nn.ReLU()),
    "plain": lambda: nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()),
    "crashing": Crashing,
    "hanging": hanging,
    "hungry": hungry,
    "raising": lambda: 1 / 0,
}
FAMILIES = {"good": ("good_wide", "good")} | {name: (name,) for name in TOYS if "good" not in name}

if __name__ == "__main__":
    out, limit_s = sys.argv[1:]
    running.version = lambda name: "1"
    PACKAGES["toys"] = Package(
        "torch",
        lambda: FAMILIES,
        lambda name: TOYS[name](),
        lambda name: packages.images(16, 8),
        by_authors,
        processes=2,
        budget_s=1e-3,
    )
    running.run(["toys"], Path(out), running.Limits(float(limit_s), 8.0), False, print)
