"""What becomes of a run: which of its steps are merged, and into which modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from linear_lasagna.merging import border_operations, merge
from linear_lasagna.models.finding import Found, size_of
from linear_lasagna.models.layers import as_given, module_of
from linear_lasagna.models.steps import Chain, Step, macs, names_of, problem_of
from linear_lasagna.planning import Plan, plan
from linear_lasagna.problems import Problem


@dataclass(frozen=True, eq=False)
class Run:
    """A chain that the model needs. terms: the nodes whose sum it gives; output: the node that it helps to compute."""

    chain: Chain
    terms: tuple[fx.Node, ...]
    output: fx.Node

    @property
    def names(self) -> tuple[str, ...]:
        """The modules that it stands for."""
        return names_of(self.chain.steps)

    @property
    def problem(self) -> Problem:
        """The steps as a stack, for one image."""
        return problem_of(self.chain.steps, size_of(self.chain.base))


@dataclass(frozen=True, eq=False)
class Decision:
    """groups: the steps that become one, in order. Operations: per image. left: why the run is left, or None."""

    run: Run
    groups: tuple[tuple[Step, ...], ...]
    operations_before: int
    operations_after: int
    left: str | None


def needed_runs(graph: fx.Graph, found: Found) -> list[Run]:
    """The runs whose values something else needs, in order; what they contain is not among them."""
    needed: set[fx.Node] = set()
    runs: list[Run] = []
    for node in reversed(graph.nodes):
        chain, partial = found.chains[node], found.partials.get(node)
        if partial and node in needed:
            runs += [Run(term.chain, term.nodes, node) for term in reversed(partial.joined)]
            needed.update(partial.kept, (term.chain.base for term in partial.joined))
        elif node in needed and chain.steps:
            runs.append(Run(chain, (node,), node))
            needed.add(chain.base)
        elif node in needed or node not in found.linear:
            needed.update(node.all_input_nodes)
    return runs[::-1]


def decide(run: Run, measure: bool) -> Decision:
    """The cheapest grouping of the run, by operation count or by measured time."""
    steps, problem = run.chain.steps, run.problem
    planned = _timed_plan(run) if measure and len(steps) > 1 else plan(problem)
    groups = tuple(steps[start:stop] for start, stop in planned.runs)
    starts = (problem.sizes[start] for start, _ in planned.runs)
    after = sum(_operations(group, size) for group, size in zip(groups, starts, strict=True))
    left = None
    if all(unchanged(group) for group in groups):
        left = "a single layer" if len(steps) == 1 else f"merging pays nowhere; {_as_one(planned)}"
    return Decision(run, groups, sum(step.operations for step in steps), after, left)


def _timed_plan(run: Run) -> Plan:
    value = run.chain.base.meta["tensor"]
    problem = replace(run.problem, batch=value.shape[0])
    return plan(problem, str(value.device), value.dtype, cost="measured")


def _as_one(planned: Plan) -> str:
    if planned.merged is None:
        return "all of it as one cannot be merged"
    return f"all of it as one takes {planned.merged:.3g} {planned.unit} instead of {planned.stacked:.3g}"


def unchanged(group: Sequence[Step]) -> str | None:
    """The module that computes the group already, or None."""
    return group[0].target if len(group) == 1 else None


def _operations(group: Sequence[Step], size: tuple[int, ...]) -> int:
    if len(group) == 1:
        return macs(group[0].layer, group[0].in_channels, size)
    return border_operations([step.layer for step in group], group[0].in_channels, size)


def built(group: Sequence[Step], model: nn.Module) -> nn.Module:
    """The module that computes the group; the model's own where that is one of its modules unchanged.

    Everything is computed in float64 and rounded once, to the dtype of the modules that it stands for.
    """
    own = unchanged(group)
    if own is not None:
        return model.get_submodule(own)
    modules = [module_of(step.kernel(), step.layer, step.in_channels) for step in group]
    merged = merge(modules, merge_dtype=torch.float64) if len(modules) > 1 else modules[0]
    return as_given(merged, [model.get_submodule(name) for name in names_of(group)])
