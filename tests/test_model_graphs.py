"""What merge_model joins in a graph, and what it leaves as it is."""

import pytest
import torch
from blocks import drawn, trained
from equal_models import batchnorms, computed, merged_of
from torch import nn
from torch.nn import functional

from linear_lasagna.models import merge_model


class Written(nn.Module):
    """A model whose forward is given: f(self, x), with two 3 x 3 convolutions, a 1 x 1 and a BatchNorm at hand."""

    def __init__(self, forward, channels=2):
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.c = nn.Conv2d(channels, channels, 1)
        self.far = nn.Conv2d(channels, channels, 3, padding=2, dilation=2)
        self.row = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.column = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.two = nn.Conv2d(channels, channels, 2, stride=2)
        self.three = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.written = forward

    def forward(self, x):
        return self.written(self, x)


# name -> (forward, number of convolutions that are left)
JOINED = {
    "sum of three": (lambda m, x: m.a(x) + m.c(x) + m.b(x), 1),
    "torch.add, alpha 1": (lambda m, x: torch.add(m.a(x), m.b(x), alpha=1), 1),
    "method": (lambda m, x: m.a(x).add(other=m.c(x)), 1),
    "in place": (lambda m, x: m.a(x).add_(m.c(x)), 1),
    "zero": (lambda m, x: 0 + m.a(x) + 0.0 + m.b(x), 1),
    "identity": (lambda m, x: x + m.a(x), 1),
    "branch after a branch": (lambda m, x: (lambda y: m.c(y) + y)(m.c(x) + x), 1),
    "branch in a branch": (lambda m, x: x + (lambda y: m.c(y) + y)(m.a(x)), 1),
    "BatchNorm of the sum": (lambda m, x: m.bn(m.a(x) + m.c(x)), 1),
    "BatchNorm before": (lambda m, x: (lambda y: m.c(y) + y)(m.bn(x)), 1),
    "functional dropout": (lambda m, x: m.c(functional.dropout(m.a(x), training=False)), 1),
    "value of its own twice": (lambda m, x: (lambda y: y + y)(m.a(x)), 1),
    "dilation and point": (lambda m, x: m.far(x) + m.c(x), 1),
    "row, column and square": (lambda m, x: m.row(x) + m.column(x) + m.a(x), 1),
    "depthwise and depthwise": (lambda m, x: m.depthwise(x) + m.depthwise(x), 1),
    "strides that fit": (lambda m, x: m.two(x) + m.three(x), 1),
    "of which one is not linear": (lambda m, x: m.a(x) + m.c(x) + torch.relu(m.b(x)), 2),
    "of which one has a border": (lambda m, x: m.a(x) + m.c(x) + m.b(m.a(x)), 3),
}


@pytest.mark.parametrize("name", JOINED)
def test_branches_are_joined(name):
    forward, left = JOINED[name]
    merged, _ = merged_of(trained(Written(forward)), drawn(2, 2, 8, 8))
    assert len(computed(merged)) == left
    assert not batchnorms(merged)


KEPT = {
    "ReLU between": (lambda m, x: m.b(torch.relu(m.a(x))), 2, ""),
    "residual over ReLU": (lambda m, x: x + m.b(torch.relu(m.a(x))), 2, ""),
    "F.pad between": (lambda m, x: m.c(functional.pad(m.a(x), (1, 1))), 2, ""),
    "used elsewhere": (lambda m, x: (lambda y: m.c(y) * torch.relu(y))(m.a(x)), 2, ""),
    "scaled": (lambda m, x: torch.add(m.a(x), m.c(x), alpha=2), 2, ""),
    "moved": (lambda m, x: m.c(m.a(x) + 1), 2, ""),
    "broadcast": (lambda m, x: m.c(x) + m.c(x.mean((2, 3), keepdim=True)), 2, ""),
    "dropout on": (lambda m, x: m.c(functional.dropout(m.a(x), 0.0, training=True)), 2, ""),
    "row and column": (lambda m, x: m.row(x) + m.column(x), 2, "would take 9,216 operations instead of 6,144"),
    "near and far": (lambda m, x: m.a(x) + m.far(x), 2, "not joined: one convolution would take"),
    "depthwise and dense": (lambda m, x: m.depthwise(x) + m.c(x), 2, "not joined: one convolution would take"),
    "BatchNorm before padding": (lambda m, x: m.a(m.bn(x)), 1, ""),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name):
    forward, left, note = KEPT[name]
    model = trained(Written(forward, channels=4))
    merged, report = merge_model(model, drawn(2, 4, 8, 8))
    x = drawn(2, 4, 8, 8)
    assert torch.equal(merged(x), model(x))
    assert len(computed(merged)) == left
    assert [note in each.reason for each in report.notes] == [True] * bool(note)
