"""Contiguous runs of a stack, and the cheapest way to cut a stack into them.

A run is half-open, (start, stop): the layers start, …, stop - 1 are computed as one. A single layer is a run too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

from linear_lasagna.merging.chain import border_changes, chained
from linear_lasagna.merging.pairs import pair
from linear_lasagna.problems import ExpandedLayer, Problem

Run: TypeAlias = tuple[int, int]
Runs: TypeAlias = tuple[Run, ...]


def separate(depth: int) -> Runs:
    """Every layer on its own: the stack as it is defined."""
    return tuple((index, index + 1) for index in range(depth))


def whole(depth: int) -> Runs:
    """All layers as one run."""
    return ((0, depth),)


def all_runs(depth: int) -> Runs:
    """All depth (depth + 1) / 2 runs of a stack."""
    return tuple((start, stop) for start in range(depth) for stop in range(start + 1, depth + 1))


def part(problem: Problem, run: Run) -> Problem:
    """The run as a problem of its own: its layers, and the input that reaches them."""
    start, stop = run
    return replace(
        problem,
        name=f"{problem.name}[{start}:{stop}]",
        in_channels=problem.channels[start],
        size=problem.sizes[start],
        layers=problem.layers[start:stop],
    )


@lru_cache(maxsize=64)
def composed_runs(problem: Problem) -> dict[Run, ExpandedLayer]:
    """The layer that each run merges into, of all runs of several layers, whether right at the border or not."""
    layers_of, layers = {}, problem.expanded
    for start, merged in enumerate(layers):
        for stop in range(start + 1, len(layers)):
            merged = pair(merged, layers[stop]).merged
            layers_of[start, stop + 1] = merged
    return layers_of


@lru_cache(maxsize=64)
def merged_runs(problem: Problem) -> dict[Run, ExpandedLayer]:
    """What each run merges into, of all runs of several layers that one convolution computes right everywhere."""
    layers_of, chain = {}, chained(problem.expanded)
    for start, merged in enumerate(chain):
        for stop in range(start + 1, len(chain)):
            if border_changes(merged, chain[stop]):
                break
            merged = merged.followed_by(chain[stop])
            layers_of[start, stop + 1] = merged.layer
    return layers_of


def cheapest(depth: int, cost: Callable[[Run], float | None]) -> Runs:
    """The runs that cover layers 0 to depth - 1 in order at the least total cost; of equally cheap ones the most runs.

    cost: of one run, None where it cannot be computed as one. It is asked once for each of the depth (depth + 1) / 2
    runs. A shortest path over the borders between layers; Kim et al., arXiv 2301.12187, and LayerMerge, arXiv
    2406.12837, find theirs in the same way. Raises ValueError where no cut is possible.
    """
    best: list[tuple[float, int, Runs] | None] = [(0, 0, ())]
    for stop in range(1, depth + 1):
        least = None
        for start, before in enumerate(best):
            price = cost((start, stop))
            if before is None or price is None:
                continue
            candidate = (before[0] + price, before[1] - 1, (*before[2], (start, stop)))
            least = candidate if least is None else min(least, candidate)
        best.append(least)
    end = best[depth]
    if end is None:
        raise ValueError(f"no way to cut {depth} layers into runs: some layer can be computed in none")
    return end[2]
