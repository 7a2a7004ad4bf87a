"""The graph with its runs replaced by what was decided for them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import fx, nn

from linear_lasagna.merging.fitting import Scaled
from linear_lasagna.merging.split import Split
from linear_lasagna.models.affine import Summand
from linear_lasagna.models.deciding import Decision, unchanged
from linear_lasagna.models.finding import Findings
from linear_lasagna.models.preparing import without_numbers_of_their_own
from linear_lasagna.models.steps import names_of


def rewrite(
    model: fx.GraphModule, decisions: Sequence[Decision], findings: Findings
) -> dict[Decision, tuple[fx.Node, ...]]:
    """Replace the runs that were not left, in place. Returns the nodes that compute each of them now, one per group."""
    now: dict[fx.Node, fx.Node] = {}
    calls: dict[Decision, tuple[fx.Node, ...]] = {}
    for output in dict.fromkeys(each.run.output for each in decisions if each.left is None):
        here = [each for each in decisions if each.run.output is output]
        calls |= {each: _calls(model, each, now) for each in here}
        terms = [Summand(_placed(model, each, calls[each][-1])) for each in here]
        if output in findings.partials:
            terms += [term._replace(value=now.get(term.value, term.value)) for term in findings.partials[output].kept]
        now[output] = _sum(model, terms, output)
        output.replace_all_uses_with(now[output])
    for node in reversed(list(model.graph.nodes)):
        if node in findings.linear | findings.constants and not node.users:
            model.graph.erase_node(node)
    model.graph.lint()
    model.delete_all_unused_submodules()
    _delete_unused_constants(model, findings)
    without_numbers_of_their_own(model)
    model.recompile()
    return calls


def _calls(model: fx.GraphModule, decision: Decision, now: dict[fx.Node, fx.Node]) -> tuple[fx.Node, ...]:
    """The run's groups, called in turn; now: what replaces the nodes that earlier runs led to."""
    nodes: list[fx.Node] = []
    base = decision.run.chain.base
    for place, group in enumerate(decision.groups):
        own = unchanged(group)
        target = own if isinstance(own, str) else added(model, decision.modules[place], names_of(group))
        with model.graph.inserting_before(decision.run.output):
            nodes.append(model.graph.call_module(target, (nodes[-1] if nodes else now.get(base, base),)))
    return tuple(nodes)


def _placed(model: fx.GraphModule, decision: Decision, node: fx.Node) -> fx.Node:
    """What the run's last module gives, put in place."""
    spread = decision.run.chain.spread
    if spread is None:
        return node
    with model.graph.inserting_before(decision.run.output):
        return spread.placed_in(model.graph, node)


def _sum(model: fx.GraphModule, terms: Sequence[Summand], output: fx.Node) -> fx.Node:
    total = terms[0].value
    for value, factor in terms[1:]:
        with model.graph.inserting_before(output):
            if abs(factor) == 1:
                total = model.graph.call_function(operator.add if factor > 0 else operator.sub, (total, value))
            else:
                total = model.graph.call_function(torch.add, (total, value), {"alpha": factor})
    return total


def _delete_unused_constants(model: fx.GraphModule, findings: Findings) -> None:
    """Parameters and buffers that were folded into others, and that nothing reads any more."""
    left, named = {str(node.target) for node in model.graph.nodes}, dict(model.named_modules())
    for name in {str(node.target) for node in findings.constants if node.op == "get_attr"} - left:
        parent, _, attribute = name.rpartition(".")
        called = any(f"{parent}.".startswith(f"{each}.") for each in left)
        if not called and hasattr(named.get(parent), attribute):
            delattr(named[parent], attribute)


def added(model: fx.GraphModule, module: nn.Module, names: Sequence[str]) -> str:
    """The new module's name: "merged", inside of what contains all modules that it stands for, `names`."""
    paths = [name.split(".")[:-1] for name in names]
    common = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))]
    taken = dict(model.named_modules(remove_duplicate=False))
    name = ".".join([*common, "merged"])
    name = next(n for n in (name, *(f"{name}_{count}" for count in range(1, len(taken) + 2))) if n not in taken)
    model.add_submodule(name, module)
    return name


def self_contained(model: fx.GraphModule) -> None:
    """Leave nothing in the model, in place, that only this suite could load, but for `BorderExact`.

    What torch.fx can write down of the suite's own modules is written down; and the tracer is forgotten, which a
    GraphModule otherwise looks for when it is loaded, and annotations, which it cannot save where they are strings.
    """
    for node in [node for node in model.graph.nodes if node.op == "call_module"]:
        if isinstance(scaled := model.get_submodule(node.target), Scaled):
            _unwrap(model, node, scaled)
    for name in [name for name, module in model.named_modules() if isinstance(module, Split)]:
        model.set_submodule(name, fx.symbolic_trace(model.get_submodule(name)).eval())
    model._tracer_cls = model.graph._tracer_cls = None
    for module in [module for module in model.modules() if isinstance(module, fx.GraphModule)]:
        for node in module.graph.nodes:
            node.type = None
            node.meta.pop("tensor", None)
        module.recompile()


def _unwrap(model: fx.GraphModule, call: fx.Node, scaled: Scaled) -> None:
    """The convolution by its name, and its scale beside it, as a buffer that its output is multiplied by."""
    name, scale = str(call.target), f"{call.target}_scale"
    model.set_submodule(name, scaled.convolution)
    parent, _, attribute = scale.rpartition(".")
    model.get_submodule(parent).register_buffer(attribute, scaled.scale)
    with model.graph.inserting_after(call):
        numbers = model.graph.get_attr(scale)
    with model.graph.inserting_after(numbers):
        product = model.graph.call_function(operator.mul, (call, numbers))
    call.replace_all_uses_with(product, delete_user_cb=lambda user: user is not product)
