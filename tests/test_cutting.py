"""Channels that are chosen and positions that are cut off: cut before they are computed, exactly."""

import pytest
import torch
from equal_models import batchnorms, computed
from strategies import integers
from test_operators import CONVOLUTIONS, NORMS, Written, assert_exact, whole_numbers
from torch import nn
from torch.nn import functional

from linear_lasagna.models import merge_model


def shuffled(y, groups=4):
    """ShuffleNet's shuffle, arXiv 1707.01083, section 3.1."""
    shape = y.size()
    y = y.view(shape[0], groups, shape[1] // groups, *shape[2:]).transpose(1, 2).contiguous()
    return y.view(shape[0], -1, *shape[2:])


def filled(model):
    model = whole_numbers(model)
    for module in batchnorms(model):
        module.running_var.fill_(0.25)
    return model


def calls(merged):
    return [node.name for node in merged.graph.nodes if node.op.startswith("call")]


INDEX = torch.tensor([6, 1, 3])
# The channels that are taken of 8, and how.
CHOSEN = {
    "slice": lambda m, y: y[:, 2:5],
    "slice with an ellipsis": lambda m, y: y[:, 2::3, ...],
    "slices": lambda m, y: y[(slice(None), slice(-3, None), *(slice(None),) * m.rank)],
    "narrow": lambda m, y: y.narrow(1, 2, 3),
    "torch.narrow": lambda m, y: torch.narrow(y, 1, 2, 3),
    "chunk": lambda m, y: y.chunk(2, 1)[1],
    "split": lambda m, y: torch.split(y, [2, 6], dim=1)[0],
    "equal parts": lambda m, y: y.split(3, dim=1)[2],
    "tensor_split": lambda m, y: y.tensor_split((1, 4), 1)[1],
    "index_select": lambda m, y: torch.index_select(y, 1, m.index),
    "index": lambda m, y: y[:, m.index],
    "shuffle": lambda m, y: shuffled(y),
    "two": lambda m, y: shuffled(y)[:, :3],
}


def with_index(model):
    model.register_buffer("index", INDEX)
    return model


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", CHOSEN)
def test_channels_that_are_chosen(name, norm, rank):
    """Only these rows of the convolution, and of BatchNorm, are computed."""
    norm = NORMS[rank](8, eps=0.0) if norm else nn.Identity()
    model = Written(lambda m, x: torch.relu(CHOSEN[name](m, m.between(m.wide(x)))) - 1, rank, between=norm)
    model = with_index(filled(model))
    x = integers((2, 2, *(4,) * rank), 3, 1)
    merged, report = assert_exact(model, x, integers((1, 2, *(3,) * rank), 3, 2))
    (layer,) = computed(merged)
    with torch.no_grad():
        assert layer.out_channels == model(x).shape[1]
    assert calls(merged)[1:] == ["relu", "sub"]
    assert any("computes the channels that" in note.reason for note in report.notes)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_channels_in_another_order(rank, padding):
    """In front of a dense convolution; module, function, and views."""
    last = CONVOLUTIONS[rank](8, 3, 2, padding=padding)
    orders = [shuffled, nn.ChannelShuffle(2), lambda y: y[:, [3, 1, 2, 0, 7, 6, 5, 4]]]
    orders += [lambda y: functional.channel_shuffle(y, 4)]
    for order in orders:
        model = whole_numbers(Written(lambda m, x: m.last(m.order(torch.relu(m.wide(x)))), rank, last=last))
        model.order = order
        merged, report = assert_exact(model, integers((2, 2, *(4,) * rank), 3, 1), integers((1, 2, *(3,) * rank), 3, 2))
        assert len(calls(merged)) == 3
        assert "order of channels" in report.notes[0].reason


def test_all_channels_are_no_choice():
    """GhostNet cuts its concatenation to the channels that it has, arXiv 1911.11907."""
    model = Written(lambda m, x: m.narrow(torch.cat([torch.relu(m.padded(x))] * 4, 1)[:, :8, :, :]))
    merged, _ = assert_exact(whole_numbers(model), integers((2, 2, 4, 4), 3, 1))
    assert calls(merged) == ["padded", "relu", "merged"]


# What is no choice of channels, or could not be made before: nothing is moved.
KEPT = {
    "positions of the example's size": lambda m, x: torch.relu(m.wide(x)[:, :, :4]),
    "flipped": lambda m, x: torch.relu(m.wide(x).flip(2)),
    "rolled": lambda m, x: torch.relu(m.wide(x).roll(1, 0)),
    "images": lambda m, x: torch.relu(m.wide(x)[1:]),
    "no image": lambda m, x: torch.relu(m.wide(x)[:, 0]),
    "read twice": lambda m, x: torch.relu((y := m.wide(x))[:, :4]) + y.sum(),
    "both parts": lambda m, x: (y := m.wide(x).chunk(2, 1))[0] * torch.relu(y[1]),
    "groups": lambda m, x: torch.relu(m.grouped(x)[:, :2]),
    "chosen by numbers": lambda m, x: torch.relu(m.wide(x)[:, x.sum((0, 2, 3)).argsort()]),
    "more than there are": lambda m, x: torch.relu(m.inner(x)[:, [0, 1, 1]]),
    "overwritten": lambda m, x: m.narrow(overwritten(m.wide(x))),
}


def overwritten(y):
    y[:, :2].mul_(2)
    return y


@pytest.mark.parametrize("name", KEPT)
def test_what_stays(name):
    model = whole_numbers(Written(KEPT[name], grouped=nn.Conv2d(2, 4, 1, groups=2)))
    merged, report = assert_exact(model, integers((2, 2, 4, 4), 3, 1))
    assert "channels that" not in str(report)
    assert "leaves" not in str(report)
    with torch.no_grad():
        assert torch.equal(merged(other := integers((3, 2, 6, 5), 3, 2)), model(other))


CROPS = {
    "padding": (lambda m, y: y[..., 1:-1], {"padding": 1}, 0),
    "pad": (lambda m, y: functional.pad(y, (-1, -1) * m.rank), {"padding": 2}, 1),
    "module": (lambda m, y: m.cut(y), {"padding": 1, "bias": False}, 0),
    "more than was padded": (lambda m, y: y[..., 2:-2], {"padding": 1}, 0),
    "nothing was padded": (lambda m, y: y[(slice(None), slice(None), *(slice(1, None),) * m.rank)], {}, 0),
    "stride": (lambda m, y: y[..., 1:-1], {"stride": 2, "padding": 2}, 0),
    "stride and dilation": (lambda m, y: y[..., :-1], {"stride": 2, "dilation": 2}, 0),
}
CUTS = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", CROPS)
def test_positions_that_are_cut_off(name, norm, rank):
    cut, arguments, padding = CROPS[name]
    parts = {"layer": CONVOLUTIONS[rank](2, 3, 3, **arguments), "cut": CUTS[rank](-1)}
    parts["norm"] = NORMS[rank](3, eps=0.0) if norm else nn.Identity()
    model = filled(Written(lambda m, x: torch.relu(cut(m, m.norm(m.layer(torch.tanh(0 * x) + x)))), rank, **parts))
    x = integers((2, 2, *(9,) * rank), 3, 1)
    merged, report = assert_exact(model, x, integers((1, 2, *(10,) * rank), 3, 2))
    assert any("only the positions" in note.reason for note in report.notes)
    (layer,) = computed(merged)
    assert layer.padding[-1] == padding
    before = model.layer(x).numel()
    assert torch.nn.Module.__call__(layer, functional.pad(x, (-1, 0) * rank)).numel() < before
    assert not [name for name in calls(merged) if name.startswith(("getitem", "cut"))]


# What keeps its place: causal convolutions, arXiv 1803.01271, section 3.1, would need uneven zeros; sizes that count.
LEFT = {
    "causal": lambda m, x: torch.relu(m.padded(x)[..., :-1]),
    "a number of positions": lambda m, x: torch.relu(m.padded(x)[..., :3]),
    "every other position": lambda m, x: torch.relu(m.padded(x)[..., ::2]),
    "counted from the end": lambda m, x: torch.relu(m.padded(x)[..., -3:]),
    "without an axis": lambda m, x: torch.relu(m.padded(x)[:, :, 1]),
    "zeros and a cut": lambda m, x: torch.relu(functional.pad(m.padded(x), (1, -1))),
    "images": lambda m, x: torch.relu(m.padded(x)[1:]),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_cut_before(name):
    model = whole_numbers(Written(LEFT[name]))
    _, report = assert_exact(model, integers((2, 2, 5, 5), 3, 1), integers((2, 2, 7, 6), 3, 2))
    assert "only the positions" not in str(report)
    assert report.notes


def test_what_is_cut_is_merged_with_what_follows():
    parts = (nn.Conv2d(2, 16, 3, padding=1), nn.ZeroPad2d(-1), nn.Conv2d(16, 2, 1))
    merged, _ = assert_exact(whole_numbers(nn.Sequential(*parts)), integers((2, 2, 6, 6), 3, 1))
    assert [(c.kernel_size, c.padding) for c in computed(merged)] == [((3, 3), (0, 0))]


def test_gradients_of_what_was_cut():
    model = whole_numbers(Written(lambda m, x: m.wide(x)[:, 2:5, 1:-1]))
    merged, _ = merge_model(model, integers((2, 2, 5, 5), 3, 1))
    ours, theirs = (integers((2, 2, 5, 5), 3, 1).requires_grad_() for _ in range(2))
    merged(ours).square().sum().backward()
    model(theirs).square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_same_padding_of_even_kernels(rank):
    """One zero more behind: padded apart, the convolution is merged with what follows it, and with a 1 x 1 in front."""
    parts = {"even": CONVOLUTIONS[rank](8, 8, (2,) + (4,) * (rank - 1), padding="same", dilation=1)}
    parts |= {"first": CONVOLUTIONS[rank](2, 8, 1, bias=False), "norm": NORMS[rank](8, eps=0.0)}
    model = filled(Written(lambda m, x: m.narrow(m.norm(m.even(m.first(x)))), rank, **parts))
    merged, report = assert_exact(model, integers((2, 2, *(5,) * rank), 3, 1), integers((1, 2, *(2,) * rank), 3, 2))
    (layer,) = computed(merged)
    assert (layer.in_channels, layer.out_channels, set(layer.padding)) == (2, 2, {0})
    assert calls(merged) == ["pad", "merged_1"]
    assert "pads more behind than in front" in report.notes[0].reason


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_even_kernels_alone_keep_their_padding():
    model = whole_numbers(nn.Sequential(nn.ReLU(), nn.Conv2d(2, 3, 2, padding="same"), nn.ReLU()))
    merged, _ = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    assert [c.padding for c in computed(merged)] == ["same"]


UNEVEN = {
    "bias": (True, {}, 2),
    "stride": (False, {"stride": 2}, 2),
    "alone": (False, {}, 0),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_uneven_zeros_that_stay(name):
    bias, arguments, readers = UNEVEN[name]
    last = nn.Conv2d(8, 2, 2) if readers else nn.ReLU()
    model = nn.Sequential(nn.Conv2d(2, 8, 1, bias=bias, **arguments), nn.ZeroPad2d((0, 1, 0, 1)), last)
    merged, report = assert_exact(whole_numbers(model), integers((2, 2, 5, 5), 3, 1))
    assert calls(merged)[0] == "_0"
    assert any("zero padding ends a run" in note.reason for note in report.notes)
