"""The convolutions and stacks of a model as problems: what to time and to judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from linear_lasagna.models.deciding import needed_runs
from linear_lasagna.models.finding import find, size_of
from linear_lasagna.models.layers import layer_of
from linear_lasagna.models.steps import Chain, names_of, problem_of
from linear_lasagna.models.tracing import traced
from linear_lasagna.modules import CONVOLUTIONS
from linear_lasagna.problems import Problem


def problems_from_model(model: nn.Module, example_input: Any) -> dict[str, Problem]:
    """Every convolution of a model, and its stacks of two or more with nothing non-linear between: a catalogue by name.

    A convolution is named after its module, as in "layer1.0.conv1"; a stack after its first and last, as in "0…2", and
    BatchNorms and scales are folded into its layers. What has the same shapes is one problem, which tells how often it
    occurs. Convolutions by functions count as modules. Left out are linear layers, convolutions whose padding is not
    zeros, as many on both sides, and the sum of branches that meet, which is no stack; a branch's own stack is one.

    model: in eval mode; it is not changed. example_input: what it is called with, a tensor or a tuple of arguments; its
    shapes are the problems'. Raises ValueError, in one sentence, for what `merge_model` refuses, and where there is no
    convolution.
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    graph, _ = traced(model, inputs)
    found = _counted([*_convolutions(graph), *_stacks(graph)])
    if not found:
        raise ValueError("the model has no convolution that is seen from outside, with zeros for padding, if any")
    return found


def _convolutions(graph: Any) -> Iterator[Problem]:
    """In the order of their calls."""
    for node in graph.graph.nodes:
        module = graph.get_submodule(node.target) if node.op == "call_module" else None
        if not isinstance(module, tuple(CONVOLUTIONS.values())):
            continue
        shape = node.all_input_nodes[0].meta["tensor"].shape
        layer = layer_of(module, len(shape))
        if not isinstance(layer, str):
            yield Problem(str(node.target), shape[0], shape[1], tuple(shape[2:]), (layer,))


def _stacks(graph: Any) -> Iterator[Problem]:
    findings = find(graph.graph, dict(graph.named_modules(remove_duplicate=False)))
    needed = [run.chain for run in needed_runs(graph.graph, findings) if len(run.chain.steps) > 1]
    chains = [chain for chain in findings.chains.values() if len(chain.steps) > 1]
    chains = [chain for chain in chains if not any(_begins(each, chain) for each in needed)]
    inner = [chain for chain in chains if not any(_begins(each, chain, longer=True) for each in chains)]
    for chain in (*needed, *inner):
        names, value = names_of(chain.steps), chain.base.meta["tensor"]
        problem = problem_of(chain.steps, size_of(chain.base), value.shape[0])
        yield replace(problem, name=f"{names[0]}…{names[-1]}")


def _begins(chain: Chain, part: Chain, longer: bool = False) -> bool:
    """Whether a chain begins with the steps of the other, the last one as it is or with more folded into it."""
    before = len(part.steps) - 1
    alike = len(chain.steps) > before and part.steps[:before] == chain.steps[:before]
    return alike and (part.nodes < chain.nodes if longer else part.nodes <= chain.nodes)


def _counted(problems: Iterable[Problem]) -> dict[str, Problem]:
    """Equal ones together, under the first one's name."""
    first: dict[Problem, str] = {}
    counts: dict[str, int] = {}
    for problem in problems:
        name = first.setdefault(replace(problem, name="any"), problem.name)
        counts[name] = counts.get(name, 0) + 1
    return {name: replace(same, name=name, occurrences=counts[name]) for same, name in first.items()}
