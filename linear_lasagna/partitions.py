"""Which layers are computed as one: runs of layers, one after another, that an output can be computed by."""

from __future__ import annotations

from typing import TypeAlias

from linear_lasagna.merging.border.plan import plan
from linear_lasagna.merging.chain import chained
from linear_lasagna.problems import ExpandedLayer, Problem

Partition: TypeAlias = tuple[tuple[ExpandedLayer, ...], ...]


def apart(problem: Problem) -> Partition:
    """Every layer on its own."""
    return tuple((layer,) for layer in problem.expanded)


def together(problem: Problem) -> Partition:
    """All layers merged into one."""
    return (problem.expanded,)


def border_exact(problem: Problem) -> tuple[Partition, ...]:
    """What border-exact merging computes: every output by a merged convolution, or the stack where that has to run."""
    border_plan = plan(chained(problem.expanded), problem.in_channels, problem.size)
    return (apart(problem) if border_plan is None else together(problem),)
