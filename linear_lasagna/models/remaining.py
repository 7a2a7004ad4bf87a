"""The linear operations that are in no run, each with the reason: what ends a run, and what is beside none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import fx, nn

from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.models.deciding import Run
from linear_lasagna.models.finding import Findings, name_in_report
from linear_lasagna.models.joining import Note
from linear_lasagna.models.operators import Operation, operation

SUM = "its terms do not start from one value with only linear operations between; such a sum would be one convolution"
ALONE = "what is beside it is not linear, or has a note of its own"
USED_TWICE = "a run ends where a value is used twice; it would go on if all uses met in one sum"
IN_PLACE = "only what is pointwise can be merged behind outputs that are put in place, as up-sampling puts them"


def remaining(
    graph: fx.Graph, modules: Mapping[str, nn.Module], findings: Findings, runs: Sequence[Run]
) -> tuple[list[fx.Node], list[Note]]:
    """All linear operations but identities, in order; and notes on those in no run, one for all with the same reason.

    runs: that are reported. An identity is skipped, which is no loss. A run that starts where another one ends is told
    of at the value between them.
    """
    return _Remaining(graph, modules, findings, runs).found()


class _Remaining:
    def __init__(
        self, graph: fx.Graph, modules: Mapping[str, nn.Module], findings: Findings, runs: Sequence[Run]
    ) -> None:
        called = {n: modules[str(n.target)] for n in graph.nodes if n.op == "call_module"}
        rows = {node: operation(node, called.get(node)) for node in graph.nodes}
        self.findings, self.runs = findings, runs
        self.rows = {node: row for node, row in rows.items() if row is not None and self._linear(node, row)}

    def found(self) -> tuple[list[fx.Node], list[Note]]:
        together: dict[str, list[str]] = {}
        between = self._between()
        outside = {node: reason for node, reason in self._outside().items() if node not in between}
        for node, reason in (*between.items(), *outside.items()):
            together.setdefault(reason, []).append(name_in_report(node))
        return list(self.rows), [(tuple(names), reason) for reason, names in together.items()]

    def _linear(self, node: fx.Node, row: Operation) -> bool:
        """Whether the node is one, of floating-point numbers that are not the same for every input."""
        kind, read = self.findings.kinds[node], [n.meta["tensor"] for n in node.all_input_nodes if "tensor" in n.meta]
        values = [*read, *([node.meta["tensor"]] if "tensor" in node.meta else [])]
        if kind == "identity" or node in self.findings.constants or not read:
            return False
        known = row.kind is None or kind is not None or node in self.findings.reasons or node in self.findings.told
        return known and all(value.dtype in SIGNIFICAND_BITS for value in values)

    def _between(self) -> dict[fx.Node, str]:
        """Why a run, or a layer, does not go on in front of the value that it starts from."""
        bases = [(run.chain.base, run) for run in self.runs]
        ends = {base: IN_PLACE if self._spreads(base) else USED_TWICE for base, run in bases if self._cut(base, run)}
        return {node: reason for node, reason in ends.items() if node in self.rows and node not in self.findings.told}

    def _cut(self, base: fx.Node, run: Run) -> bool:
        return self._leads(base) and base not in self.findings.partials and any(s.fixed for s in run.chain.steps)

    def _spreads(self, node: fx.Node) -> bool:
        return self.findings.chains[node].spread is not None

    def _outside(self) -> dict[fx.Node, str]:
        """Why nodes are in none of the runs in the report; those that a note is on already left out."""
        inside = self.findings.told.union(*(run.chain.nodes for run in self.runs if len(run.names) > 1))
        return {node: self._reason(node, row) for node, row in self.rows.items() if node not in inside}

    def _reason(self, node: fx.Node, row: Operation) -> str:
        own = row.says if row.kind in (None, "padding", "concatenation") else None
        reason = self.findings.reasons.get(node, own)
        reason = reason or (SUM if self.findings.kinds[node] == "addition" else ALONE)
        ends = reason != ALONE and self._beside(node)
        return f"{row.name} {'ends a run' if ends else 'is in no run'}: {reason}"

    def _beside(self, node: fx.Node) -> bool:
        """Whether the node reads, or is read by, what could be merged; identities between do not count."""
        before, after = self._through(node.all_input_nodes, back=True), self._through(node.users, back=False)
        return any(map(self._leads, before)) or any(map(self._goes_on, after))

    def _through(self, nodes: Iterable[fx.Node], back: bool) -> list[fx.Node]:
        found: list[fx.Node] = []
        for node in nodes:
            further = node.all_input_nodes if back else list(node.users)
            found += self._through(further, back) if self.findings.kinds[node] == "identity" else [node]
        return found

    def _leads(self, node: fx.Node) -> bool:
        """Whether something merged, but for a lone number, leads to the node."""
        return any(step.fixed for step in self.findings.chains[node].steps) or node in self.findings.partials

    def _goes_on(self, node: fx.Node) -> bool:
        """Whether the node could be merged with what it reads."""
        if self.findings.kinds[node] == "addition":
            return any(map(self._leads, node.all_input_nodes))
        scales = node in self.findings.affines and self.findings.affines[node].fixed
        return scales or self.findings.kinds[node] in ("convolution", "normalisation", "pooling")
