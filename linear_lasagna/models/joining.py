"""Terms of an addition that are convolutions of one value, as one convolution of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from torch import fx

from linear_lasagna.models.affine import Summand
from linear_lasagna.models.steps import Chain, Step, collapsed_step, joined_step, macs, names_of, problem_of
from linear_lasagna.planning import plan

Note: TypeAlias = tuple[tuple[str, ...], str]


class Term(NamedTuple):
    """A chain, with its factor in it, and the terms that it is: several where they were joined."""

    chain: Chain
    terms: tuple[Summand, ...]


def join(
    terms: Sequence[Term], order: dict[fx.Node, int], onwards: Callable[[Chain], Chain]
) -> tuple[list[Term], list[Note]]:
    """The terms, joined as far as it pays, and why others were not. Those with the latest base are joined first.

    order: of the nodes. onwards: the chain, continued before its base where this is used nowhere else; it may so meet
    other terms at an earlier base.
    """
    left, notes, tried = list(terms), [], set()
    while bases := {base for base in _bases(left) if _bases(left).count(base) > 1} - tried:
        base = max(bases, key=order.__getitem__)
        tried.add(base)
        here = [term for term in left if term.chain.base is base]
        joined, apart, more = _joined_at(base, here)
        notes += more
        if joined is not None:
            chain = joined if apart else onwards(joined)
            summed = tuple(each for term in here if term not in apart for each in term.terms)
            left = [*(term for term in left if term.chain.base is not base), *apart, Term(chain, summed)]
    return left, [note for note in notes if note[0]]


def _bases(terms: Sequence[Term]) -> list[fx.Node]:
    return [term.chain.base for term in terms]


def _joined_at(base: fx.Node, terms: Sequence[Term]) -> tuple[Chain | None, list[Term], list[Note]]:
    """The terms on one base as one chain of one step, those that had to be kept apart, and why."""
    steps: list[Step] = []
    inside: list[Term] = []
    apart: list[Term] = []
    notes: list[Note] = []
    for term in terms:
        step = collapsed_step(term.chain)
        if isinstance(step, str):
            apart.append(term)
            notes.append((names_of(term.chain.steps), f"a branch that is no single convolution: {step}"))
        else:
            steps.append(step)
            inside.append(term)
    if len(inside) < 2 or not any(step.fixed for step in steps):
        return None, [], notes
    size = tuple(base.meta["tensor"].shape[2:])
    joined = joined_step(steps)
    apart_operations = sum(least_operations(term.chain.steps, size) for term in inside)
    if isinstance(joined, Step) and (after := macs(joined.layer, joined.in_channels, size)) > apart_operations:
        joined = f"one convolution would take {after:,} operations instead of {apart_operations:,}"
    if isinstance(joined, str):
        return None, [], [*notes, (names_of(steps), f"branches that are not joined: {joined}")]
    nodes = frozenset[fx.Node]().union(*(term.chain.nodes for term in inside))
    return Chain(base, (joined,), nodes), apart, notes


def least_operations(steps: Sequence[Step], size: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of the steps in the cheapest partition, for an input of `size`."""
    return int(plan(problem_of(steps, size, 1)).planned) if steps else 0


def continued(chain: Chain, before: Chain, additions: frozenset[fx.Node]) -> Chain:
    """The chain with the one that leads to its base in front, if nothing else uses the base or what is made of it.

    additions: the nodes of the sum whose term the chain is.
    """
    base, inside = chain.base, chain.nodes.union(additions)
    if (
        not before.steps
        or before.spread is not None
        or not all(inside.issuperset(node.users) for node in (base, *chain.nodes))
    ):
        return chain
    return replace(before, steps=before.steps + chain.steps, nodes=before.nodes | chain.nodes)
