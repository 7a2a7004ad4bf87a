"""What merge_model joins in a graph, and what it leaves as it is."""

import pytest
import torch
from blocks import drawn, trained
from equal_models import assert_told, batchnorms, computed, merged_of
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization

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
        self.whole = nn.Conv2d(channels, channels, 8)
        self.bn, self.on = nn.BatchNorm2d(channels), nn.Dropout(0.0)
        self.written = forward

    def forward(self, x):
        return self.written(self, x)


# name -> (forward, number of convolutions that are left)
JOINED = {
    "sum of three": (lambda m, x: m.a(x) + m.c(x) + m.b(x), 1),
    "F.pad between": (lambda m, x: m.c(functional.pad(m.a(x), (1, 1))), 2),
    "scaled": (lambda m, x: torch.add(m.a(x), m.c(x), alpha=2), 1),
    "moved": (lambda m, x: m.c(m.a(x) + 1), 1),
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
    "sum inside of a broadcast": (lambda m, x: m.a(x) + m.c(x) + m.c(x.mean((2, 3), keepdim=True)), 2),
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
    "residual over ReLU": (lambda m, x: x + m.b(torch.relu(m.a(x))), 2, "addition ends a run: its terms do not start"),
    "used elsewhere": (lambda m, x: (lambda y: m.c(y) * torch.relu(y))(m.a(x)), 2, "where a value is used twice"),
    "broadcast": (lambda m, x: m.c(x) + m.c(x.mean((2, 3), keepdim=True)), 2, "mean or sum ends|differ in shape"),
    "broadcast of one value": (lambda m, x: m.c(x) + m.whole(x), 2, "addition ends a run: its values differ in shape"),
    "dropout on": (
        lambda m, x: m.c(functional.dropout(m.a(x), 0.0, training=True)),
        2,
        "dropout ends a run: it is random",
    ),
    "by name": (lambda m, x: m.c(m.a(input=x)), 2, "convolution ends a run: it is called with other arguments"),
    "row and column": (lambda m, x: m.row(x) + m.column(x), 2, "would take 9,216 operations instead of 6,144"),
    "near and far": (lambda m, x: m.a(x) + m.far(x), 2, "not joined: one convolution would take"),
    "depthwise and dense": (lambda m, x: m.depthwise(x) + m.c(x), 2, "not joined: one convolution would take"),
    "BatchNorm before padding": (lambda m, x: m.a(m.bn(x)), 1, "a border of its own"),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name):
    forward, left, note = KEPT[name]
    model = trained(Written(forward, channels=4))
    merged, report = merge_model(model, drawn(2, 4, 8, 8))
    x = drawn(2, 4, 8, 8)
    assert torch.equal(merged(x), model(x))
    assert len(computed(merged)) == left
    expected = note.split("|") if note else []
    ends = [each.reason for each in report.notes if "is in no run" not in each.reason]
    assert [text in reason for text, reason in zip(expected, ends, strict=True)] == [True] * len(expected)
    assert_told(merged, report)


def changed_under(change):
    """y = a(x); b reads y, then y is changed, then c reads what b gave: b and c must not become one."""

    def forward(m, x):
        y = m.a(x)
        before = m.b(y)
        z = change(m, y)
        return m.c(before) + z

    return forward


IN_PLACE = {
    "method": lambda m, y: y.relu_(),
    "function": lambda m, y: torch.relu_(y),
    "inplace=True": lambda m, y: functional.leaky_relu(y, inplace=True),
    "inplace by position": lambda m, y: functional.relu(y, True),
    "module": lambda m, y: m.relu(y),
    "through a view": lambda m, y: y.flatten(1).abs_().view_as(y),
    "out": lambda m, y: torch.mul(y, 2, out=y),
    "through an identity": lambda m, y: m.nothing(y).neg_(),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_value_that_is_changed_in_place(name):
    model = trained(Written(changed_under(IN_PLACE[name])))
    model.relu, model.nothing = nn.ReLU(inplace=True), nn.Identity()
    with torch.no_grad():
        merged, report = merge_model(model, drawn(2, 2, 8, 8))
        assert torch.allclose(merged(drawn(2, 2, 8, 8)), model(drawn(2, 2, 8, 8)), rtol=0, atol=1e-13)
    assert any("changed in place" in note.reason for note in report.notes)


def test_residual_blocks_with_in_place_sums_and_activations():
    """The usual way to write them: what is changed in place has no other use."""

    class Usual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 32, 3, padding=1, bias=False), nn.Conv2d(32, 2, 1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            out = self.second(self.first(x))
            out += x
            return self.relu(out)

    merged, report = merged_of(trained(nn.Sequential(Usual(), Usual())), drawn(1, 2, 8, 8))
    assert [m.kernel_size for m in computed(merged)] == [(3, 3), (3, 3)]
    assert report.notes == ()


def test_run_that_starts_where_another_one_ends():
    class Passing(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1))
            self.second = nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1))

        def forward(self, x):
            y = self.first(x)
            return self.second(y) - torch.relu(y)

    merged, report = merged_of(trained(Passing()), drawn(1, 2, 8, 8))
    assert len(report.merged) == 2
    assert [(m.in_channels, m.out_channels) for m in computed(merged)] == [(2, 2), (2, 2)]


def test_dropout_module_that_is_on():
    """Of probability 0: any other is refused."""
    model = trained(Written(lambda m, x: m.c(m.on(m.a(x)))))
    model.on.train()
    merged, report = merge_model(model, drawn(1, 2, 8, 8))
    assert len(computed(merged)) == 2
    assert report.runs == ()


def test_batchnorm_before_padding_stays_at_any_size():
    """Merged, its border would have to be computed apart, to save one multiplication per number."""
    model = trained(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)))
    merged, report = merge_model(model, drawn(1, 4, 64, 64))
    assert len(computed(merged)) == len(batchnorms(merged)) == 1
    assert report.runs == ()


def test_branch_that_is_cheaper_apart():
    """Depthwise 3 x 3, 1 x 1 to 64 channels and back: one dense 3 x 3 with the residual, or depthwise and a 1 x 1."""

    class Separable(nn.Module):
        def __init__(self):
            super().__init__()
            self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.expand, self.project = nn.Conv2d(8, 64, 1), nn.Conv2d(64, 8, 1)

        def forward(self, x):
            return x + self.project(self.expand(self.depthwise(x)))

    merged, report = merged_of(trained(Separable()), drawn(1, 8, 6, 6))
    assert [(m.kernel_size, m.groups) for m in computed(merged)] == [((3, 3), 8), ((1, 1), 1)]
    assert report.operations_after == (8 * 9 + 8 * 8) * 36
    assert "instead of 4,896" in report.notes[0].reason


def hooked(module):
    """A module of which every call gives twice its output."""
    module.register_forward_hook(lambda module, arguments, output: 2 * output)
    return module


def replaced(module):
    """A module of which this one instance gives twice its output."""
    forward = module.forward
    module.forward = lambda x: 2 * forward(x)
    return module


class Training(nn.Module):
    """A parametrization that stays in training mode."""

    def train(self, mode=True):
        return self

    def forward(self, weight):
        return 2 * weight


def in_training(module):
    """A module whose weight is computed anew by what may change it."""
    return register_parametrization(module, "weight", Training())


@torch.no_grad()
def old_weight_norm(module):
    """Without a history, so that it can be copied."""
    module = nn.utils.weight_norm(module.double())
    module(drawn(1, 2, 4, 4))
    return module


UNFIT = {
    "circular": (lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "padding_mode 'circular'"),
    "hook": (lambda: hooked(nn.Conv2d(2, 2, 1)), "hooks run around it"),
    "hooked BatchNorm": (lambda: hooked(nn.BatchNorm2d(2)), "hooks run around it"),
    "forward replaced": (lambda: replaced(nn.Conv2d(2, 2, 1)), "it has a forward of its own"),
    "parametrization in training": (
        lambda: in_training(nn.Conv2d(2, 2, 1)),
        "its parametrised numbers are computed anew for every call in training mode; call .eval() on it",
    ),
    "old weight norm": (lambda: old_weight_norm(nn.Conv2d(2, 2, 1)), "it; torch.nn.utils.remove_weight_norm makes"),
    "old spectral norm": (
        lambda: nn.utils.spectral_norm(nn.Conv2d(2, 2, 1)),
        "it; torch.nn.utils.remove_spectral_norm makes",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning", "ignore::FutureWarning")
def test_convolution_that_cannot_be_merged(name):
    make, reason = UNFIT[name]
    inside = nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1))
    model, x = trained(nn.Sequential(make(), inside)), drawn(1, 2, 8, 8)
    merged, report = merge_model(model, x)
    torch.testing.assert_close(merged(x), model(x), rtol=1e-12, atol=1e-13)
    assert [note.layers for note in report.notes] == [("0",)]
    assert reason in report.notes[0].reason
    assert [run.layers for run in report.merged] == [("1.0", "1.1")]


def test_unbatched_input():
    model = trained(nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1)))
    merged, report = merge_model(model, drawn(2, 8, 8))
    assert torch.equal(merged(drawn(2, 8, 8)), model(drawn(2, 8, 8)))
    assert "no batch axis" in report.notes[0].reason


def test_batchnorm_that_uses_its_batch():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).double().eval()
    merged, report = merge_model(model, drawn(4, 2, 8, 8))
    assert torch.equal(merged(drawn(4, 2, 8, 8)), model(drawn(4, 2, 8, 8)))
    assert report.runs == ()


def test_batchnorm_without_numbers_of_its_own():
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2, affine=False))
    merged, _ = merged_of(trained(model), drawn(4, 2, 8, 8))
    assert not batchnorms(merged)


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1)

        def forward(self, x, y):
            z = self.narrow(self.wide(x))
            return {"sum": z + y, "size": z.shape[-1]}

    model, x, y = trained(Two()), drawn(1, 2, 8, 8), drawn(1, 2, 8, 8, seed=2)
    merged, report = merge_model(model, (x, y))
    assert len(report.merged) == 1
    assert merged(x, y)["size"] == 8
    torch.testing.assert_close(merged(x, y)["sum"], model(x, y)["sum"], rtol=1e-12, atol=1e-13)
