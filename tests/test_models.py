"""merge_model: published blocks become one convolution each, what is not linear stays, and the numbers stay equal."""

import copy

import pytest
import torch
from blocks import SESR, ExpandNet, MobileOne, RepVGG, ResNet, drawn, normalised, trained
from torch import nn
from torch.nn import functional

from linear_lasagna.models import merge_model
from linear_lasagna.rounding import unit_roundoff

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
OWN_ROUNDINGS = 8  # of a BatchNorm: subtract, add eps, square root, divide, multiply, add; of folding it: multiply, round


def convolutions(model):
    """The convolutions that the model has, in order."""
    return [module for module in model.modules() if type(module) in CONVOLUTIONS]


def batchnorms(model):
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
    """Equal within n u times the magnitude, n the roundings of both and of merging. ReLU-like activations keep it so."""
    with torch.no_grad():
        found, expected = merged(x), model(x)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    bound = (2 * roundings(model) + roundings(merged)) * unit_roundoff(x.dtype)
    excess = (found - expected).abs().double() / (bound * magnitude(model, x))
    assert float(excess.max()) <= 1, f"{float(excess.max()):.3g} times the bound of {bound:.3g}"


def merged_of(model, x, **keywords):
    merged, report = merge_model(model, x, **keywords)
    assert_same(merged, model, x)
    return merged, report


# name -> (block, channels, what its convolutions shall be: (in, out, kernel, stride, padding, groups))
BLOCKS = {
    "RepVGG": (lambda: RepVGG(6, 6), 6, [(6, 6, 3, 1, 1, 1)]),
    "RepVGG, stride 2": (lambda: RepVGG(4, 8, stride=2), 4, [(4, 8, 3, 2, 1, 1)]),
    "RepVGG, wider": (lambda: RepVGG(4, 8), 4, [(4, 8, 3, 1, 1, 1)]),
    "RepVGG, groups": (lambda: RepVGG(6, 6, groups=2), 6, [(6, 6, 3, 1, 1, 2)]),
    "MobileOne": (lambda: MobileOne(6, 6), 6, [(6, 6, 3, 1, 1, 6), (6, 6, 1, 1, 0, 1)]),
    "MobileOne, stride 2": (lambda: MobileOne(4, 6, stride=2), 4, [(4, 4, 3, 2, 1, 4), (4, 6, 1, 1, 0, 1)]),
    "ExpandNet": (lambda: ExpandNet(3, 4, 16), 3, [(3, 4, 3, 1, 1, 1)]),
    "SESR": (lambda: SESR(4, 64), 4, [(4, 4, 3, 1, 1, 1)]),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", BLOCKS)
def test_block_becomes_one_convolution(name, dtype):
    make, channels, expected = BLOCKS[name]
    model, x = trained(make(), dtype=dtype), drawn(2, channels, 9, 8, dtype=dtype)
    merged, report = merged_of(model, x)
    found = [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.padding[0], m.groups)
        for m in convolutions(merged)
    ]
    assert found == expected
    assert not batchnorms(merged)
    assert report.operations_after < report.operations_before
    assert {p.dtype for p in merged.parameters()} == {dtype}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("size", [(5, 5), (1, 4), (16, 17)], ids=str)
def test_other_sizes_than_the_examples(name, size):
    make, channels, _ = BLOCKS[name]
    model = trained(make())
    merged, _ = merge_model(model, drawn(1, channels, 12, 12))
    assert_same(merged, model, drawn(3, channels, *size))


def test_stack_of_blocks():
    model = nn.Sequential(RepVGG(3, 8, stride=2), nn.Sequential(RepVGG(8, 8), RepVGG(8, 8)), nn.Dropout(), SESR(8, 64))
    merged, report = merged_of(trained(model), drawn(1, 3, 16, 16))
    assert len(convolutions(merged)) == len(report.runs) == len(report.merged) == 4


def test_blocks_without_activation_collapse_across():
    """SESR's blocks and their residuals are linear: two of them with a wide border-free inside are one 5 x 5."""

    class Linear(SESR):
        def forward(self, x):
            return self.squeeze(self.expand(x)) + x

    model = trained(nn.Sequential(Linear(2, 64), nn.Identity(), nn.Conv2d(2, 64, 3), nn.Conv2d(64, 2, 1)))
    merged, report = merged_of(model, drawn(1, 2, 12, 12))
    assert [m.kernel_size for m in convolutions(merged)] in ([(3, 3), (3, 3)], [(5, 5)])
    assert len(report.runs) == 1


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_rank(rank):
    convolution, normalisation = CONVOLUTIONS[rank - 1], (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    inside = nn.Sequential(convolution(2, 32, 3, padding=1, bias=False), normalisation(32), convolution(32, 2, 1))

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.normalisation = inside, normalisation(2)

        def forward(self, x):
            return torch.add(self.normalisation(x), self.inside(x))

    merged, _ = merged_of(trained(Residual()), drawn(2, 2, *(6,) * rank))
    (only,) = convolutions(merged)
    assert only.kernel_size == (3,) * rank


def test_nothing_to_merge_in_a_residual_network_but_batchnorm():
    model = trained(nn.Sequential(ResNet(4), ResNet(4)))
    merged, report = merged_of(model, drawn(1, 4, 8, 8))
    assert len(convolutions(merged)) == 4
    assert not batchnorms(merged)
    assert [run.layers for run in report.runs] == [
        (f"{block}.conv{n}", f"{block}.bn{n}") for block in "01" for n in "12"
    ]
    saved = 4 * 4 * 8 * 8  # one multiplication for each output of each BatchNorm
    assert report.operations_before - report.operations_after == saved


def test_padding_between_makes_a_border():
    """Two padded 3 x 3 with a wide middle: one 5 x 5 inside, and the stack's own numbers at the border."""
    model = trained(nn.Sequential(nn.Conv2d(2, 32, 3, padding=1), nn.Conv2d(32, 2, 3, padding=1)))
    merged, report = merged_of(model, drawn(1, 2, 40, 40))
    assert type(merged.merged) not in CONVOLUTIONS
    assert report.operations_after < report.operations_before
    assert report.runs[0].predicted_error is not None


class Twice(nn.Module):
    """One convolution, used twice in a row: its numbers are there once, and are merged with themselves."""

    def __init__(self, between=None):
        super().__init__()
        self.conv, self.wide, self.between = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 64, 1), between or nn.Identity()
        self.narrow = nn.Conv2d(64, 2, 1)

    def forward(self, x):
        x = self.narrow(self.wide(self.conv(x)))
        return self.narrow(self.wide(self.conv(self.between(x))))


@pytest.mark.parametrize("between", [None, nn.ReLU()])
def test_module_that_is_used_twice(between):
    merged, report = merged_of(trained(Twice(between)), drawn(1, 2, 9, 9))
    assert len(report.runs) == (2 if between else 1)
    assert "wide" not in dict(merged.named_modules())


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
        self.half = nn.Conv2d(channels, channels, 2, stride=2)
        self.half3 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
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
    "strides that fit": (lambda m, x: m.half(x) + m.half3(x), 1),
    "of which one is not linear": (lambda m, x: m.a(x) + m.c(x) + torch.relu(m.b(x)), 2),
    "of which one has a border": (lambda m, x: m.a(x) + m.c(x) + m.b(m.a(x)), 3),
}


@pytest.mark.parametrize("name", JOINED)
def test_branches_are_joined(name):
    forward, left = JOINED[name]
    merged, _ = merged_of(trained(Written(forward)), drawn(2, 2, 8, 8))
    assert len(convolutions(merged)) == left
    assert not batchnorms(merged)


KEPT = {
    "ReLU between": (lambda m, x: m.b(torch.relu(m.a(x))), 2, None),
    "residual over ReLU": (lambda m, x: x + m.b(torch.relu(m.a(x))), 2, None),
    "F.pad between": (lambda m, x: m.c(functional.pad(m.a(x), (1, 1))), 2, None),
    "used elsewhere": (lambda m, x: (lambda y: m.c(y) * torch.relu(y))(m.a(x)), 2, None),
    "scaled": (lambda m, x: torch.add(m.a(x), m.c(x), alpha=2), 2, None),
    "moved": (lambda m, x: m.c(m.a(x) + 1), 2, None),
    "broadcast": (lambda m, x: m.c(x) + m.c(x.mean((2, 3), keepdim=True)), 2, None),
    "dropout on": (lambda m, x: m.c(functional.dropout(m.a(x), 0.0, training=True)), 2, None),
    "row and column": (lambda m, x: m.row(x) + m.column(x), 2, "would take 1,536 operations|2,304"),
    "near and far": (lambda m, x: m.a(x) + m.far(x), 2, "not joined: one convolution would take"),
    "depthwise and dense": (lambda m, x: m.depthwise(x) + m.c(x), 2, "not joined: one convolution would take"),
    "BatchNorm before padding": (lambda m, x: m.a(m.bn(x)), 1, None),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name):
    forward, left, note = KEPT[name]
    model = trained(Written(forward, channels=4))
    merged, report = merge_model(model, drawn(2, 4, 8, 8))
    x = drawn(2, 4, 8, 8)
    assert torch.equal(merged(x), model(x))
    assert sum(node.op == "call_module" and type(merged.get_submodule(node.target)) in CONVOLUTIONS
               for node in merged.graph.nodes) == left
    assert note is None or any(__import__("re").search(note, each.reason) for each in report.notes)
