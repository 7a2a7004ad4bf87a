"""The linear parts of a traced model: chains of convolutions, what folds into them, branches joined.

Every node is looked at once, in order. The value of a linear node is a chain of steps from a base. A value that is used
more than once is a base itself; where all its uses meet again in one addition, the chain goes on through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import fx, nn

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.affine import Affine, Summand, affine, by_size, number, summands
from linear_lasagna.models.constants import Constants
from linear_lasagna.models.joining import Note, Term, continued, join
from linear_lasagna.models.layers import is_pointwise, layer_of
from linear_lasagna.models.operators import (
    NORMALISATIONS,
    Kind,
    argument,
    changed_in_place,
    kind,
    may_alias,
    operand,
    operation,
)
from linear_lasagna.models.steps import (
    Chain,
    Step,
    behind_spread,
    convolution_step,
    folded,
    lone_step,
    macs,
    numbers_of,
    numbers_of_affine,
    padding_step,
    part_step,
    phased_step,
    pooling_step,
    shuffled_step,
)
from linear_lasagna.models.windows import factors_of, pool_of, shuffle_of, zeros_of
from linear_lasagna.problems import ExpandedLayer

TRAINING = "it is random; in eval mode it would be skipped"
SIZED = "it is by a number computed from sizes; one that is fixed would be merged"
CALLED = "it is called with other arguments than its input"
NO_IMAGE = "its value is no image (batch, channels, positions)"


class Partial(NamedTuple):
    """An addition of which only some terms were joined: these, and the terms that are added to them still."""

    joined: tuple[Term, ...]
    kept: tuple[Summand, ...]


@dataclass(eq=False)
class Findings:
    """chains: node -> the chain that leads to it; without steps for what is not linear. linear: the nodes that are.

    constants: nodes that are the same for every input. notes: what could not be merged, and why. kinds: of all nodes,
    None for what cannot be merged. reasons: why linear nodes are not. affines: what scales and shifts do. told: nodes
    that a note or a partial addition tells of.
    """

    chains: dict[fx.Node, Chain] = field(default_factory=dict)
    linear: set[fx.Node] = field(default_factory=set)
    partials: dict[fx.Node, Partial] = field(default_factory=dict)
    constants: set[fx.Node] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)
    kinds: dict[fx.Node, Kind | None] = field(default_factory=dict)
    reasons: dict[fx.Node, str] = field(default_factory=dict)
    affines: dict[fx.Node, Affine] = field(default_factory=dict)
    told: set[fx.Node] = field(default_factory=set)


def find(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> Findings:
    """All chains. The nodes carry an example of their value in meta["tensor"]; only its shape and device count.

    modules: all of the model by name, itself as "".
    """
    return _Finder(graph, modules).find()


class _Finder:
    def __init__(self, graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
        self.findings = Findings()
        self.order = {node: place for place, node in enumerate(graph.nodes)}
        self.modules = {n: modules[str(n.target)] for n in self.order if n.op == "call_module"}
        overwritten = self._overwritten()
        self.frozen = {node for node in overwritten if forks(node)}
        self.constants = Constants(graph, modules, overwritten)
        self.reasons, self.affines = self.findings.reasons, self.findings.affines
        self.kinds = self.findings.kinds
        self.kinds |= {node: self._kind(node) for node in self.order}

    def find(self) -> Findings:
        ways = {
            "convolution": self._convolution,
            "normalisation": self._normalisation,
            "identity": self._identity,
            "addition": self._addition,
            "scaling": self._scaling,
            "pooling": self._pooling,
        }
        for node, name in self.kinds.items():
            chain = ways[name](node) if name in ways else None
            self.findings.chains[node] = chain or Chain(node)
            if name:
                self.findings.linear.add(node)
        self.findings.constants = self.constants.nodes
        return self.findings

    def _kind(self, node: fx.Node) -> Kind | None:
        """The node's kind; None where what it reads or gives is not fit to be merged."""
        module, inputs = self.modules.get(node), node.all_input_nodes
        of_node, row = kind(node, module), operation(node, module)
        if of_node is None and row is not None and row.kind is not None:
            self.reasons[node] = TRAINING if row.kind == "identity" else CALLED
        if of_node == "normalisation" and module.running_mean is None:  # type: ignore[union-attr]
            return None
        if of_node == "arithmetic" and by_size(node):
            self.reasons[node] = SIZED
        if of_node is None or not inputs or not all("tensor" in n.meta for n in (node, *inputs)):
            return None
        if of_node == "arithmetic":
            of_node = self._kind_of_arithmetic(node)
        if of_node is not None and any(n in self.frozen for n in inputs):
            self._note([node], "its input is changed in place while it is used elsewhere")
            return None
        return of_node

    def _kind_of_arithmetic(self, node: fx.Node) -> Kind | None:
        if node in self.constants.nodes:
            return None
        found = affine(node, self.constants)
        if isinstance(found, str):
            self.reasons[node] = found
        elif found is not None and found.is_identity:
            return None if _unlike(node, [found.value]) else "identity"
        elif found is not None and (reason := self._not_scaled(node, found)):
            self.reasons[node] = reason
        elif found is not None:
            self.affines[node] = found
            return "scaling"
        elif found is None and _adds_images(node) and self.constants.nodes.isdisjoint(node.all_input_nodes):
            if (reason := _unlike(node, node.all_input_nodes)) is None:
                return "addition"
            self.reasons[node] = reason
        return None

    def _not_scaled(self, node: fx.Node, found: Affine) -> str | None:
        changed = self._memory(changed_in_place(node, None))
        elsewhere = any(each.op in ("placeholder", "get_attr") or each in self.frozen for each in changed)
        return _unlike(node, [found.value]) or ("it overwrites a value that is used elsewhere" if elsewhere else None)

    def _overwritten(self) -> set[fx.Node]:
        """Values that are changed in place."""
        changed = (self._memory(changed_in_place(node, self.modules.get(node))) for node in self.order)
        return set().union(*changed)

    def _memory(self, node: fx.Node | None) -> list[fx.Node]:
        """The node, and those in whose memory its value may lie."""
        nodes: list[fx.Node] = []
        while node is not None:
            nodes.append(node)
            aliased = may_alias(node, self.modules.get(node)) and node.args
            node = node.args[0] if aliased and isinstance(node.args[0], fx.Node) else None
        return nodes

    def _note(self, nodes: Iterable[fx.Node], reason: str) -> None:
        self.findings.told.update(nodes)
        self.findings.notes.append((tuple(map(name_in_report, nodes)), reason))

    def _read(self, node: fx.Node, *through: fx.Node, spread: bool = False) -> Chain:
        """The chain up to a value that is used, and what leads from it; it starts there if that is used elsewhere.

        spread: whether what reads it may follow where the last outputs are spread.
        """
        forked = any(forks(each) for each in (node, *through))
        chain = self.findings.chains[node]
        chain = Chain(node) if forked or (chain.spread is not None and not spread) else chain
        return replace(chain, nodes=chain.nodes.union(through))

    def _unpadded(self, node: fx.Node) -> tuple[fx.Node, tuple[int, ...], tuple[fx.Node, ...]]:
        """What a convolution of the node reads beneath zero paddings, what these pad on every axis, and these."""
        rank, through = len(size_of(node)), []
        pads = (0,) * rank
        while self.kinds[node] == "padding":
            zeros = zeros_of(node, self.modules.get(node), rank)
            if isinstance(zeros, str):
                self.reasons[node] = zeros
                break
            through.append(node)
            pads = tuple(a + b for a, b in zip(pads, zeros, strict=True))
            node = operand(node)
        return node, pads, tuple(through)

    def _padded(self, source: fx.Node, through: tuple[fx.Node, ...], padding: tuple[int, ...]) -> Chain:
        """The chain that a layer with this padding reads; none where its shift would need a border of its own."""
        chain = self._read(source, *through)
        last = chain.steps[-1] if chain.steps else None
        if last is None or not (last.lone and last.layer.bias and any(padding)):
            return chain
        reason = "its shift in front of zero padding would need a border of its own; shift behind it instead"
        self.findings.notes.append((last.names, reason))
        self.findings.told.update(chain.nodes)
        return Chain(source, nodes=frozenset(through))

    def _around(self, node: fx.Node, value: fx.Node) -> Chain:
        """The chain that a scale and shift, the node, reads; through zeros around the image if it goes on linearly."""
        if not any(self.kinds[user] in ("scaling", "normalisation", "convolution", "pooling") for user in node.users):
            return self._shuffled(value) or self._read(value, spread=True)
        source, pads, through = self._unpadded(value)
        if not through or any(forks(each) for each in through):
            return self._shuffled(value) or self._read(value, spread=True)
        names = tuple(map(name_in_report, through[::-1]))
        return self._padded(source, through, pads).then(padding_step(pads, names, source.meta["tensor"]))

    def _convolution(self, node: fx.Node) -> Chain | None:
        value = operand(node)
        module: Any = self.modules[node]
        layer = layer_of(module, value.meta["tensor"].ndim)
        if isinstance(layer, str):
            self._note([node], layer)
            return None
        source, pads, through = self._unpadded(value)
        layer = replace(layer, padding=tuple(a + b for a, b in zip(layer.padding, pads, strict=True)))
        if self.kinds[source] == "concatenation" and (joined := self._of_parts(node, source, through, layer)):
            return joined
        names = (*map(name_in_report, through[::-1]), str(node.target))
        own = None if through else str(node.target)
        step = convolution_step(module, layer, names, size_of(source), own)
        chain = self._shuffled(source) if layer.out_channels < step.in_channels else None
        chain = chain or self._read(source, spread=True)
        if chain.spread is not None and chain.spread.groups == 1 and is_pointwise(layer) and not through:
            return chain.then(behind_spread(step, chain.spread), node)
        chain = self._in_phases(step, source, through) or self._padded(source, through, layer.padding).then(step)
        return replace(chain, nodes=chain.nodes | {node})

    def _shuffled(self, node: fx.Node) -> Chain | None:
        """What leads to a pixel shuffle, the node, by a dense convolution, whose outputs it puts in place."""
        module = self.modules.get(node)
        row = operation(node, module)
        if row is None or row.name != "pixel shuffle" or (factor := shuffle_of(node, module)) is None or forks(node):
            return None
        chain = self._read(node.all_input_nodes[0], node)
        if not chain.steps or chain.steps[-1].layer.groups > 1:
            return None
        last, spread = shuffled_step(chain.steps[-1], factor)
        self.findings.linear.add(node)
        return replace(chain, steps=(*chain.steps[:-1], last), spread=spread)

    def _in_phases(self, step: Step, source: fx.Node, through: tuple[fx.Node, ...]) -> Chain | None:
        """What leads to up-sampling, and the convolution behind it as one of the image before, if that takes less."""
        module = self.modules.get(source)
        row = operation(source, module)
        if row is None or row.name != "resampling" or any(map(forks, (source, *through))):
            return None
        factors = factors_of(source, module, len(size_of(source)))
        if factors is None or set(step.layer.stride) != {1}:
            return None
        value = source.all_input_nodes[0]
        step = replace(step, names=(name_in_report(source), *step.names))
        small, spread = phased_step(step, factors)
        if macs(small.layer, small.in_channels, size_of(value)) >= step.operations:
            return None
        self.findings.linear.add(source)
        chain = self._padded(value, (source, *through), small.layer.padding)
        return replace(chain.then(small), spread=spread)

    def _of_parts(
        self, node: fx.Node, source: fx.Node, through: tuple[fx.Node, ...], layer: ExpandedLayer
    ) -> Chain | None:
        """A convolution of concatenated values as the sum of convolutions of each, where that is one convolution."""
        parts, inside = parts_of(source), frozenset({node, source, *through})
        if parts is None or layer.groups > 1 or not all(map(inside.issuperset, (n.users for n in (source, *through)))):
            return None
        module: Any = self.modules[node]
        before, start = [], 0
        for part in parts:
            stop = start + part.meta["tensor"].shape[1]
            step = part_step(module, layer, range(start, stop), (str(node.target),), size_of(source))
            before.append(Term(self._padded(part, (), layer.padding).then(step), (Summand(part),)))
            start = stop
        after, notes = join(
            before, self.order, lambda chain: continued(chain, self.findings.chains[chain.base], inside)
        )
        self.findings.notes += notes
        return replace(after[0].chain, nodes=after[0].chain.nodes | inside) if len(after) == 1 else None

    def _pooling(self, node: fx.Node) -> Chain | None:
        value, module = operand(node), self.modules.get(node)
        pool = pool_of(node, module, value.meta["tensor"].shape[1])
        if isinstance(pool, str):
            self.kinds[node], self.reasons[node] = None, pool
            return None
        source, pads, through = self._unpadded(value)
        padding = tuple(a + b for a, b in zip(pool.layer.padding, pads, strict=True))
        pool = pool._replace(layer=replace(pool.layer, padding=padding))
        chain = self._padded(source, through, padding)
        names = (*map(name_in_report, through[::-1]), name_in_report(node))
        own = str(node.target) if module is not None and not through else None if through else pool.module()
        return chain.then(pooling_step(pool, names, source.meta["tensor"], own), node)

    def _normalisation(self, node: fx.Node) -> Chain | None:
        module: Any = self.modules[node]
        target, size = str(node.target), size_of(node)
        if not 1 <= len(size) <= 3:
            self.reasons[node] = NO_IMAGE
            return None
        reason = not_plain(module, NORMALISATIONS)
        if reason is not None:
            self._note([node], reason)
            return None
        chain, value = self._around(node, operand(node)), operand(node).meta["tensor"]
        if not chain.steps:
            return chain.then(lone_step(numbers_of(module), (target,), value, target), node)
        last = folded(chain.steps[-1], numbers_of(module), (target,), (module.num_features, *size), chain.spread)
        return replace(chain, steps=chain.steps[:-1]).then(last, node)

    def _scaling(self, node: fx.Node) -> Chain | None:
        found = self.affines[node]
        # Both terms of y + y are one use.
        once = len(found.value.users) == 1 and forks(found.value)
        chain = self.findings.chains[found.value] if once else self._around(node, found.value)
        if not chain.steps and changed_in_place(node, None) is not None:
            self.reasons[node] = "it overwrites what a run would read; written as y = y * a, it would be merged"
            return None
        return _scaled(chain, found, (node.name,), node)

    def _identity(self, node: fx.Node) -> Chain:
        chain = self._read(self.passed(node), spread=True)
        return replace(chain, nodes=chain.nodes | {node})

    def passed(self, node: fx.Node) -> fx.Node:
        """What an identity passes on."""
        return next(each for each in node.all_input_nodes if each not in self.constants.nodes)

    def _addition(self, node: fx.Node) -> Chain | None:
        if self._within(node):
            return None
        leaves, additions = self._leaves(node)
        before = [Term(self._of_term(leaf), (leaf,)) for leaf in leaves]
        after, notes = join(
            before, self.order, lambda chain: continued(chain, self.findings.chains[chain.base], additions)
        )
        self.findings.notes += notes
        joined = tuple(term for term in after if len(term.terms) > 1)
        if len(after) == 1:
            return replace(after[0].chain, nodes=after[0].chain.nodes | additions)
        if joined or notes:
            self.findings.told.update(additions)
        if joined:
            self.findings.partials[node] = Partial(joined, tuple(t.terms[0] for t in after if len(t.terms) == 1))
        return None

    def _of_term(self, term: Summand) -> Chain:
        """The chain that leads to a term, its factor in it."""
        chain = self._read(term.value)
        return chain if term.factor == 1 else _scaled(chain, Affine(term.value, number(term.factor)), ())

    def _within(self, node: fx.Node) -> bool:
        """Whether the addition is but a term of another one, which then looks at all terms together."""
        return not forks(node) and any(self.kinds[user] == "addition" for user in node.users)

    def _leaves(self, node: fx.Node, factor: float = 1.0) -> tuple[list[Summand], frozenset[fx.Node]]:
        """The values that a sum of sums adds up, in order, and its additions. factor: of the sum."""
        leaves: list[Summand] = []
        additions = frozenset({node})
        for value, own in summands(node) or ():
            if self.kinds[value] == "addition" and self._within(value):
                inner, more = self._leaves(value, factor * own)
                leaves, additions = leaves + inner, additions | more
            else:
                leaves.append(Summand(value, factor * own))
        return leaves, additions


def _scaled(chain: Chain, found: Affine, names: tuple[str, ...], *nodes: fx.Node) -> Chain:
    """The chain of a value, scaled and shifted."""
    value, numbers = found.value.meta["tensor"], numbers_of_affine(found)
    if not chain.steps:
        return chain.then(lone_step(numbers, names, value), *nodes)
    last = folded(chain.steps[-1], numbers, names, value.shape[1:], chain.spread)
    return replace(chain, steps=chain.steps[:-1]).then(last, *nodes)


def parts_of(node: fx.Node) -> list[fx.Node] | None:
    """The images whose channels a concatenation puts one after another, or None."""
    parts, dim = argument(node, 0, "tensors", ()), argument(node, 1, "dim", 0)
    value = node.meta["tensor"]
    if not isinstance(parts, (list, tuple)) or not isinstance(dim, int) or dim % value.ndim != 1:
        return None
    alike = all(isinstance(p, fx.Node) and p.meta["tensor"].dtype == value.dtype for p in parts)
    return list(parts) if alike else None


def name_in_report(node: fx.Node) -> str:
    """The module's name, or the node's own."""
    return str(node.target) if node.op == "call_module" else node.name


def forks(node: fx.Node) -> bool:
    """Whether the value is used more than once."""
    return sum(max(1, sum(v is node for v in (*u.args, *u.kwargs.values()))) for u in node.users) > 1


def _adds_images(node: fx.Node) -> bool:
    return all(isinstance(term.value, fx.Node) for term in summands(node) or [Summand(None)])


def _unlike(node: fx.Node, inputs: Iterable[fx.Node]) -> str | None:
    """Why not all that the node reads are images of its shape and dtype, so that something is broadcast or converted;
    None where they are.
    """
    value = node.meta["tensor"]
    if not all((n.meta["tensor"].shape, n.meta["tensor"].dtype) == (value.shape, value.dtype) for n in inputs):
        return "its values differ in shape or dtype"
    return None if 3 <= value.ndim <= 5 and value.dtype in SIGNIFICAND_BITS else NO_IMAGE


def size_of(node: fx.Node) -> tuple[int, ...]:
    """The spatial size of a node's value."""
    return tuple(node.meta["tensor"].shape[2:])
