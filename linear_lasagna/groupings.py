"""Which layers are computed as one: runs of layers, one after another, that an output can be computed by."""

from __future__ import annotations

from typing import TypeAlias

from linear_lasagna.merging.chain import chained, runs
from linear_lasagna.problems import ExpandedLayer, Problem

Grouping: TypeAlias = tuple[tuple[ExpandedLayer, ...], ...]


def apart(problem: Problem) -> Grouping:
    """Every layer on its own."""
    return tuple((layer,) for layer in problem.expanded)


def together(problem: Problem) -> Grouping:
    """All layers merged into one."""
    return (problem.expanded,)


def collapsed(problem: Problem) -> Grouping:
    """As few runs as merge into one convolution each that is right at the border too."""
    return tuple(tuple(link.layer for link in run) for run in runs(chained(problem.expanded)))


def border_exact(problem: Problem) -> tuple[Grouping, ...]:
    """What border-exact merging computes: the inside by one convolution, the border by one of the other two."""
    return apart(problem), collapsed(problem), together(problem)
