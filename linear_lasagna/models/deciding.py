"""What becomes of a run: which of its steps are merged, and into which modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from linear_lasagna import calibration
from linear_lasagna.calibration import images_of
from linear_lasagna.merging import border_macs
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.chain import chained
from linear_lasagna.merging.convolutions import merged_module
from linear_lasagna.merging.fitting import PLAIN, Storage, splits
from linear_lasagna.models.affine import Summand
from linear_lasagna.models.finding import Findings, size_of
from linear_lasagna.models.layers import as_given
from linear_lasagna.models.steps import Chain, Step, macs, names_of, problem_of
from linear_lasagna.models.table import count_text
from linear_lasagna.modules import convolution
from linear_lasagna.planning import Plan, plan
from linear_lasagna.problems import Problem

DEEPEST = 16  # steps: deeper runs have too many cuts to time each, and are planned by counting


@dataclass(frozen=True, eq=False)
class Run:
    """A chain that the model needs. terms: whose sum it gives; output: the node that it helps to compute."""

    chain: Chain
    terms: tuple[Summand, ...]
    output: fx.Node

    @property
    def names(self) -> tuple[str, ...]:
        """The modules that it stands for."""
        return names_of(self.chain.steps)

    @property
    def problem(self) -> Problem:
        """The steps as a stack, for the example."""
        return problem_of(self.chain.steps, size_of(self.chain.base), self.chain.base.meta["tensor"].shape[0])


@dataclass(frozen=True, eq=False)
class Decision:
    """groups: the steps that become one, in order; sizes: of what each reads. Operations: per image.

    timed_batch: how many images were used to decide by time, None where it was decided by counting. left: why the run
    is left, or None. modules: that compute the groups, once they are built.
    """

    run: Run
    groups: tuple[tuple[Step, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    operations_before: int
    operations_after: int
    timed_batch: int | None
    left: str | None
    modules: tuple[nn.Module, ...] = ()


def needed_runs(graph: fx.Graph, findings: Findings) -> list[Run]:
    """The runs whose values something else needs, in order; what they contain is not among them."""
    needed: set[fx.Node] = set()
    runs: list[Run] = []
    for node in reversed(graph.nodes):
        chain, partial = findings.chains[node], findings.partials.get(node)
        if partial and node in needed:
            runs += [Run(term.chain, term.terms, node) for term in reversed(partial.joined)]
            needed.update(term.value for term in partial.kept)
            needed.update(term.chain.base for term in partial.joined)
        elif node in needed and chain.steps:
            runs.append(Run(chain, (Summand(node),), node))
            needed.add(chain.base)
        elif node in needed or node not in findings.linear:
            needed.update(node.all_input_nodes)
    return runs[::-1]


def decide(run: Run, measure: bool, dtype: torch.dtype | None = None) -> Decision:
    """The cheapest partition of the run, by operation count or by measured time. dtype: None for the value's."""
    steps, problem = run.chain.steps, run.problem
    timed = measure and 1 < len(steps) <= DEEPEST
    value = run.chain.base.meta["tensor"]
    place = (str(value.device), dtype or value.dtype)
    planned = plan(problem, *place, cost="measured" if timed else "operations")
    groups = tuple(steps[start:stop] for start, stop in planned.runs)
    sizes = tuple(problem.sizes[start] for start, _ in planned.runs)
    return Decision(
        run,
        groups,
        sizes,
        operations_before=sum(step.operations for step in steps),
        operations_after=sum(_operations(group, size) for group, size in zip(groups, sizes, strict=True)),
        timed_batch=problem.batch if timed else None,
        left=_why_left(run, groups, planned, *place),
    )


def _why_left(
    run: Run, groups: Sequence[tuple[Step, ...]], planned: Plan, device: str, dtype: torch.dtype
) -> str | None:
    """Why nothing is merged, or None where something is."""
    if not any(step.fixed for step in run.chain.steps):
        return "it fits any number of channels, a convolution only one"
    if all(step.lone for step in run.chain.steps):
        return "scales and shifts alone, for which a convolution would take longer"
    if not all(unchanged(group) is not None for group in groups):
        return None
    if planned.problem.depth == 1:
        return "a single layer"
    if planned.merged is None:
        return "merging pays nowhere; all of it as one cannot be merged"
    if planned.cost == "measured":
        times = f"{planned.merged * 1e3:.3g} ms instead of {planned.stacked * 1e3:.3g}"
        return f"merging pays nowhere; all of it as one takes {times}"
    merged, stacked = (count / planned.problem.batch for count in (planned.merged, planned.stacked))
    counts = f"all of it as one takes {count_text(merged)} operations instead of {count_text(stacked)}"
    if merged < stacked:
        return f"{_why_no_border(planned.problem, device, dtype)}; {counts}"
    if merged == stacked:
        return "merging pays nowhere; all of it as one takes as many operations"
    return f"merging pays nowhere; {counts}"


def _why_no_border(problem: Problem, device: str, dtype: torch.dtype) -> str:
    known = calibration.costs(chained(problem.expanded), problem.in_channels, dtype, device, images_of(problem.batch))
    return "its border takes longer than merging saves here" if known else "whether its border pays was not timed"


def unchanged(group: Sequence[Step]) -> str | nn.Module | None:
    """What computes the group as it is, a module by its name in the model or one that it lacks; or None."""
    return group[0].own if len(group) == 1 else None


def _operations(group: Sequence[Step], size: tuple[int, ...]) -> int:
    if len(group) == 1:
        return macs(group[0].layer, group[0].in_channels, size)
    return border_macs([step.layer for step in group], group[0].in_channels, size)


def built(decision: Decision, model: nn.Module, storage: Storage = PLAIN) -> Decision:
    """The decision with its modules, or left where the dtype cannot hold their numbers."""
    try:
        modules = tuple(_built(decision, place, model, storage) for place in range(len(decision.groups)))
    except ValueError as error:
        return replace(decision, left=str(error))
    groups = zip(decision.groups, decision.sizes, modules, strict=True)
    twice = sum(_operations(group, size) for group, size, module in groups if splits(module))
    return replace(decision, modules=modules, operations_after=decision.operations_after + twice)


def _built(decision: Decision, place: int, model: nn.Module, storage: Storage) -> nn.Module:
    """The module that computes the group at this place; the model's own where that is one of its modules unchanged.

    Everything is computed in float64 and rounded once, to the dtype of the modules that it stands for, or storage's.
    """
    group = decision.groups[place]
    own = unchanged(group)
    if own is not None:
        return model.get_submodule(own) if isinstance(own, str) else own
    modules = [convolution(step.kernel(), step.layer, step.in_channels) for step in group]
    merged = merged_module(modules, torch.float64) if len(modules) > 1 else modules[0]
    value = decision.run.chain.base.meta["tensor"]
    given = [module for name in names_of(group) if (module := _submodule(model, name)) is not None]
    merged = as_given(merged, given, value, storage)
    if isinstance(merged, BorderExact):
        merged.calibrate()
        if decision.timed_batch is not None:
            merged.settle(decision.sizes[place], decision.timed_batch)
    return merged


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    """The model's module of this name; None where no module has it."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None
