"""The linear parts of a traced model: chains of convolutions, BatchNorm folded into them, branches joined.

Every node is looked at once, in order. The value of a linear node is a chain of steps from a base. A value that is used
more than once is a base itself; where all its uses meet again in one addition, the chain goes on through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import fx, nn

from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.joining import Note, Term, continued, join
from linear_lasagna.models.layers import layer_of
from linear_lasagna.models.operators import NORMALISATIONS, Kind, changed_in_place, kind, may_alias, operand, terms
from linear_lasagna.models.steps import Chain, convolution_step, normalisation_step, normalised


class Partial(NamedTuple):
    """An addition of which only some terms were joined: these, and the nodes that are added to them still."""

    joined: tuple[Term, ...]
    kept: tuple[fx.Node, ...]


@dataclass(eq=False)
class Findings:
    """chains: node -> the chain that leads to it; without steps for what is not linear. linear: the nodes that are.

    notes: what could not be merged, and why.
    """

    chains: dict[fx.Node, Chain] = field(default_factory=dict)
    linear: set[fx.Node] = field(default_factory=set)
    partials: dict[fx.Node, Partial] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def find(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> Findings:
    """All chains. The nodes carry an example of their value in meta["tensor"]; only its shape and device count."""
    return _Finder(graph, modules).find()


class _Finder:
    def __init__(self, graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
        self.findings = Findings()
        self.order = {node: place for place, node in enumerate(graph.nodes)}
        self.modules = {n: modules[str(n.target)] for n in self.order if n.op == "call_module"}
        self.frozen = self._frozen()
        self.kinds: dict[fx.Node, Kind | None] = {node: self._kind(node) for node in self.order}

    def find(self) -> Findings:
        ways = {
            "convolution": self._convolution,
            "normalisation": self._normalisation,
            "identity": self._identity,
            "addition": self._addition,
        }
        for node, name in self.kinds.items():
            chain = ways[name](node) if name else None
            self.findings.chains[node] = chain or Chain(node)
            if name:
                self.findings.linear.add(node)
        return self.findings

    def _kind(self, node: fx.Node) -> Kind | None:
        """The node's kind; None where what it reads or gives is not fit to be merged."""
        of_node = kind(node, self.modules.get(node))
        if of_node is None or not all("tensor" in n.meta for n in (node, *node.all_input_nodes)):
            return None
        if any(n in self.frozen for n in node.all_input_nodes):
            self._note(node, "its input is changed in place while it is used elsewhere")
            return None
        if of_node == "addition" and not _alike(node):
            return None
        return of_node

    def _frozen(self) -> set[fx.Node]:
        """Values that are overwritten although they have other uses."""
        frozen = set()
        for node in self.order:
            changed = changed_in_place(node, self.modules.get(node))
            while changed is not None:
                if forks(changed):
                    frozen.add(changed)
                aliased = may_alias(changed, self.modules.get(changed)) and changed.args
                changed = changed.args[0] if aliased and isinstance(changed.args[0], fx.Node) else None
        return frozen

    def _note(self, node: fx.Node, reason: str) -> None:
        self.findings.notes.append(((str(node.target if node.op == "call_module" else node.name),), reason))

    def _read(self, node: fx.Node) -> Chain:
        """The chain up to a value that is used; it starts there if the value is used elsewhere too."""
        return Chain(node) if forks(node) else self.findings.chains[node]

    def _convolution(self, node: fx.Node) -> Chain | None:
        source = operand(node)
        module: Any = self.modules[node]
        layer = layer_of(module, source.meta["tensor"].ndim)
        if isinstance(layer, str):
            self._note(node, layer)
            return None
        chain = self._read(source)
        # BatchNorm before zero padding: its shift would need a border of its own.
        if chain.steps and chain.steps[-1].lone and any(layer.padding):
            chain = Chain(source)
        step = convolution_step(module, layer, str(node.target), size_of(source))
        return chain.then(step, node)

    def _normalisation(self, node: fx.Node) -> Chain | None:
        module, target, size = self.modules[node], str(node.target), size_of(node)
        if module.running_mean is None or not 1 <= len(size) <= 3:
            return None
        reason = not_plain(module, NORMALISATIONS)
        if reason is not None:
            self._note(node, reason)
            return None
        chain = self._read(operand(node))
        if not chain.steps:
            return chain.then(normalisation_step(module, target, size), node)
        last = normalised(chain.steps[-1], module, target, size)
        return replace(chain, steps=chain.steps[:-1]).then(last, node)

    def _identity(self, node: fx.Node) -> Chain:
        chain = self._read(operand(node))
        return replace(chain, nodes=chain.nodes | {node})

    def _addition(self, node: fx.Node) -> Chain | None:
        if self._within(node):
            return None
        leaves, additions = self._leaves(node)
        before = [Term(self._read(leaf), (leaf,)) for leaf in leaves]
        after, notes = join(
            before, self.order, lambda chain: continued(chain, self.findings.chains[chain.base], additions)
        )
        self.findings.notes += notes
        joined = tuple(term for term in after if len(term.nodes) > 1)
        if len(after) == 1:
            return replace(after[0].chain, nodes=after[0].chain.nodes | additions)
        if joined:
            self.findings.partials[node] = Partial(joined, tuple(t.nodes[0] for t in after if len(t.nodes) == 1))
        return None

    def _within(self, node: fx.Node) -> bool:
        """Whether the addition is but a term of another one, which then looks at all terms together."""
        return not forks(node) and any(self.kinds[user] == "addition" for user in node.users)

    def _leaves(self, node: fx.Node) -> tuple[list[fx.Node], frozenset[fx.Node]]:
        """The values that a sum of sums adds up, in order, and its additions."""
        leaves: list[fx.Node] = []
        additions = frozenset({node})
        for value in terms(node):
            if self.kinds[value] == "addition" and self._within(value):
                inner, more = self._leaves(value)
                leaves, additions = leaves + inner, additions | more
            else:
                leaves.append(value)
        return leaves, additions


def forks(node: fx.Node) -> bool:
    """Whether the value is used more than once."""
    return sum(max(1, sum(v is node for v in (*u.args, *u.kwargs.values()))) for u in node.users) > 1


def _alike(node: fx.Node) -> bool:
    """Whether the node's inputs are images of one shape, so that nothing is broadcast."""
    shapes = {n.meta["tensor"].shape for n in node.all_input_nodes}
    return len(shapes) == 1 and 3 <= len(shapes.pop()) <= 5


def size_of(node: fx.Node) -> tuple[int, ...]:
    """The spatial size of a node's value."""
    return tuple(node.meta["tensor"].shape[2:])
