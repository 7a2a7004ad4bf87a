"""Whether a merged model computes what the given one does, within a bound from counted roundings."""

from __future__ import annotations

import copy
import operator

import torch
from torch import nn

from linear_lasagna.models import merge_model
from linear_lasagna.models.operators import OPERATIONS
from linear_lasagna.rounding import unit_roundoff

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
OWN_ROUNDINGS = (
    8  # of a BatchNorm: subtract, add eps, square root, divide, multiply, add; of folding it: multiply, round
)


def convolutions(model):
    """The convolutions that the model has, each once."""
    return [module for module in model.modules() if type(module) in CONVOLUTIONS]


def computed(merged):
    """The convolutions that a merged model computes, in order."""
    modules = [merged.get_submodule(node.target) for node in merged.graph.nodes if node.op == "call_module"]
    return [module for module in modules if type(module) in CONVOLUTIONS]


def batchnorms(model):
    """The model's BatchNorms."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@torch.no_grad()
def magnitude(model, x):
    """The model with all its numbers made positive, so that nothing cancels: what a relative bound is relative to."""
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.abs_()
    for module in batchnorms(model):
        module.running_mean = -module.running_mean.abs()
    return model.double()(x.double().abs())


def roundings(model):
    """As many roundings as any number passes that the model computes: along all of its layers, one after another."""
    sums = sum(module.weight[0].numel() + 2 for module in convolutions(model))
    return sums + OWN_ROUNDINGS * len(batchnorms(model))


def assert_same(merged, model, x):
    """Equal within n u times the magnitude, n the roundings of both and of merging.

    Activations between must be of slope at most 1, as ReLU's is, and keep positive numbers as they are.
    """
    with torch.no_grad():
        found, expected = merged(x), model(x)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    bound = (2 * roundings(model) + roundings(merged)) * unit_roundoff(x.dtype)
    excess = (found - expected).abs().double() / (bound * magnitude(model, x))
    assert float(excess.max()) <= 1, f"{float(excess.max()):.3g} times the bound of {bound:.3g}"


def assert_told(merged, report):
    """Whatever the merged model computes that is linear in itself is in a run, or in a note."""
    noted = {name for each in (*report.runs, *report.notes) for name in each.layers}
    made = {name for run in report.runs for name in run.modules}
    modules = dict(merged.named_modules(remove_duplicate=False))
    rows = [row for row in OPERATIONS if row.kind not in ("identity", "arithmetic")]
    for node in merged.graph.nodes:
        module = modules.get(node.target) if node.op == "call_module" else None
        linear = any(isinstance(module, row.modules) or node.target in (*row.functions, *row.methods) for row in rows)
        name = node.target if module is not None else node.name
        images = [each for each in node.all_input_nodes if "tensor" in each.meta]
        added = node.target in (operator.add, operator.sub, torch.add, torch.sub) and len(images) == 2
        assert not (linear or added) or not images or name in noted | made, (name, str(report))


def merged_of(model, x, **keywords):
    """merge_model's result, checked on x."""
    merged, report = merge_model(model, x, **keywords)
    assert_same(merged, model, x)
    assert_told(merged, report)
    return merged, report
