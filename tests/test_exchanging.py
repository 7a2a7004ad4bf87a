"""1 x 1 convolutions and averagings in the order that takes less: exact on whole numbers, for images of any size."""

import pytest
import torch
from equal_models import computed
from strategies import integers
from test_operators import CONVOLUTIONS, NORMS, POOLS, Written, assert_exact, whole_numbers
from torch import nn
from torch.nn import functional

from linear_lasagna.models import merge_model

ADAPTIVE = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}
# To fewer positions, and to more; every weight is a power of two, so that the averages of whole numbers are exact.
FEWER = {
    "average pooling": lambda rank: POOLS[rank](2),
    "divided by what it counts": lambda rank: POOLS[rank](2, 2, 1, count_include_pad=False),
    "ceil_mode": lambda rank: POOLS[rank](2, ceil_mode=True),
    "adaptive": lambda rank: ADAPTIVE[rank](2),
    "global": lambda rank: ADAPTIVE[rank](1),
    "mean": lambda rank: lambda x: x.mean(tuple(range(2, rank + 2)), keepdim=True),
    "torch.mean": lambda rank: lambda x: torch.mean(x, dim=tuple(range(-rank, 0)), keepdim=True),
    "mean, flat": lambda rank: lambda x: x.mean(tuple(range(2, rank + 2))),
    "half as large": lambda rank: lambda x: functional.interpolate(x, scale_factor=0.5, mode=SMOOTH[rank]),
}
MORE = {
    "nearest": lambda rank: nn.Upsample(scale_factor=2),
    "linear": lambda rank: nn.Upsample(scale_factor=2, mode=SMOOTH[rank]),
    "corners aligned": lambda rank: nn.Upsample(size=(5,) * rank, mode=SMOOTH[rank], align_corners=True),
    "to a size": lambda rank: lambda x: functional.interpolate(x, size=(8,) * rank),
    "area": lambda rank: lambda x: functional.interpolate(x, scale_factor=2.0, mode="area"),
}
LAYERS = {
    "convolution": lambda rank, i, o: CONVOLUTIONS[rank](i, o, 1),
    "without bias": lambda rank, i, o: CONVOLUTIONS[rank](i, o, 1, bias=False),
    "groups": lambda rank, i, o: CONVOLUTIONS[rank](i, o, 1, groups=2),
    "normalisation": lambda rank, i, o: NORMS[rank](i, eps=0.0),
}


def filled(model):
    model = whole_numbers(model)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_var.fill_(0.25)
    return model


def order(merged):
    """The names of what is called, in order."""
    return [node.name for node in merged.graph.nodes if node.op.startswith("call")]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("averaging", FEWER)
def test_pointwise_layer_behind_an_averaging(averaging, layer, rank):
    model = Written(lambda m, x: m.average(m.layer(torch.relu(x))), rank, layer=LAYERS[layer](rank, 2, 4))
    model = filled(model)
    model.average = FEWER[averaging](rank)
    x = integers((2, 2, *(4,) * rank), 3, 1)
    merged, report = assert_exact(model, x, integers((1, 2, *(8,) * rank), 3, 2))
    assert order(merged)[-1].startswith(("layer", "merged", "flatten"))
    assert f"layer is computed behind {report.notes[0].layers[1]}, with which it commutes" in report.notes[0].reason


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("averaging", MORE)
def test_pointwise_layer_in_front_of_an_averaging(averaging, layer, rank):
    model = Written(lambda m, x: m.layer(m.average(torch.relu(x))), rank, layer=LAYERS[layer](rank, 2, 2))
    model = filled(model)
    model.average = MORE[averaging](rank)
    x = integers((2, 2, *(4,) * rank), 3, 1)
    merged, report = assert_exact(model, x, integers((1, 2, *(3,) * rank), 3, 2))
    assert order(merged)[1].startswith(("layer", "merged"))
    assert "is computed in front of" in report.notes[0].reason


def test_transition_of_densenet():
    """BatchNorm, ReLU, 1 x 1, average pooling: arXiv 1608.06993, section 3. A quarter of the operations."""
    model = nn.Sequential(nn.BatchNorm2d(8, eps=0.0), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False), nn.AvgPool2d(2, 2))
    model = filled(model)
    _, report = assert_exact(model, integers((1, 8, 6, 6), 3, 1))
    before, after = 8 * 4 * 36 + 4 * 36, 8 * 4 * 9 + 8 * 36
    assert report.notes[0].reason.endswith(f"{before / 1e3:.3g} k -> {after} operations")


def overwritten(m, x):
    y = torch.relu(x)
    z = m.layer(y)
    y.mul_(2)
    return m.average(z) + y.sum()


def read_later(m, x):
    y = torch.relu(x)
    z = m.average(y)
    y.mul_(2)
    return m.layer(z) + y.sum()


@pytest.mark.parametrize(("forward", "averaging"), [(overwritten, FEWER["global"]), (read_later, MORE["nearest"])])
def test_what_is_read_is_overwritten_later(forward, averaging):
    """Exchanged, both still read the number that was there before."""
    model = filled(Written(forward, layer=nn.Conv2d(2, 2, 1)))
    model.average = averaging(2)
    _, report = assert_exact(model, integers((2, 2, 4, 4), 3, 1))
    assert "commutes" in report.notes[0].reason


# What does not commute, or takes no less.
KEPT = {
    "a bias, and zeros that count": lambda m, x: m.pool(m.point(torch.relu(x))),
    "divisor of its own": lambda m, x: functional.avg_pool2d(m.point(torch.relu(x)), 2, divisor_override=2),
    "a 3 x 3": lambda m, x: m.inner(functional.interpolate(torch.relu(x), scale_factor=2, mode="bilinear")),
    "read twice": lambda m, x: torch.relu(y := m.point(torch.relu(x))).sum() + m.all(y),
    "not all positions": lambda m, x: m.point(torch.relu(x)).mean(3, keepdim=True),
    "batch": lambda m, x: m.point(torch.relu(x)).mean((0, 2, 3), keepdim=True),
    "another dtype": lambda m, x: m.point(torch.relu(x)).mean((2, 3), keepdim=True, dtype=torch.float32),
    "many more channels": lambda m, x: m.many(functional.interpolate(torch.relu(x), scale_factor=1.5, mode="bicubic")),
    "better merged in front": lambda m, x: m.all(m.narrow(m.wide(x))),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_stays_in_its_order(name):
    parts = {"pool": nn.AvgPool2d(2, 2, 1), "all": nn.AdaptiveAvgPool2d(1), "many": nn.Conv2d(2, 64, 1)}
    model = filled(Written(KEPT[name], **parts))
    x = integers((2, 2, 4, 4), 3, 1)
    merged, report = merge_model(model, x)
    assert "commutes" not in str(report)
    torch.testing.assert_close(merged(x), model(x), rtol=1e-12, atol=1e-12)


HEADS = {
    "pooling and flattening": lambda m, y: m.linear(torch.flatten(m.all(y), 1)),
    "mean": lambda m, y: m.linear(y.mean((2, 3))),
    "mean, axes kept": lambda m, y: m.linear(y.mean([-2, -1], keepdim=True).flatten(1)),
    "view": lambda m, y: m.linear(m.all(y).view(y.size(0), -1)),
    "module": lambda m, y: m.linear(m.flattening(functional.adaptive_avg_pool2d(y, (1, 1)))),
    "dropout": lambda m, y: m.linear(functional.dropout(y.mean((2, 3)), 0.5, False)),
}


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_head_of_a_classifier(name, norm):
    """1 x 1, BatchNorm, the mean over positions, and a linear layer: the mean, and one linear layer."""
    parts = {"layer": nn.Conv2d(2, 16, 1), "norm": nn.BatchNorm2d(16, eps=0.0) if norm else nn.Identity()}
    parts |= {"all": nn.AdaptiveAvgPool2d(1), "flattening": nn.Flatten(), "linear": nn.Linear(16, 3)}
    model = filled(Written(lambda m, x: HEADS[name](m, m.norm(m.layer(torch.relu(x)))), **parts))
    merged, _ = assert_exact(model, integers((2, 2, 4, 4), 3, 1), integers((3, 2, 8, 2), 3, 2))
    called = [merged.get_submodule(n.target) for n in merged.graph.nodes if n.op == "call_module"]
    assert [(c.in_features, c.out_features) for c in called if isinstance(c, nn.Linear)] == [(2, 3)]
    assert not [c for c in called if isinstance(c, (nn.Conv2d, nn.BatchNorm2d, nn.BatchNorm1d))]


def test_gradients_flow_through_what_was_exchanged():
    model = filled(Written(lambda m, x: m.layer(functional.interpolate(x, scale_factor=2)), layer=nn.Conv2d(2, 2, 1)))
    merged, _ = merge_model(model, integers((2, 2, 4, 4), 3, 1))
    ours, theirs = (integers((2, 2, 4, 4), 3, 1).requires_grad_() for _ in range(2))
    merged(ours).square().sum().backward()
    model(theirs).square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert torch.equal(merged.layer.weight.grad, model.layer.weight.grad)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("function", [False, True])
def test_pixel_unshuffle(factor, function):
    """Positions made channels, and a convolution: one convolution of the image, padded as it was, for any size."""
    after = {"stride": 2, "padding": 1} if function else {"padding": "same"}
    model = whole_numbers(Written(lambda m, x: m.last(m.unshuffle(x)), last=nn.Conv2d(2 * factor**2, 3, 3, **after)))
    model.unshuffle = (lambda x: functional.pixel_unshuffle(x, factor)) if function else nn.PixelUnshuffle(factor)
    sizes = [(2, 2, 6 * n, 6) for n in (2, 1)]
    merged, report = assert_exact(model, *(integers(size, 3, 1) for size in sizes))
    (layer,) = computed(merged)
    stride, padding = (2 * factor, factor) if function else (factor, factor)
    assert (layer.kernel_size, layer.stride, layer.padding) == ((3 * factor,) * 2, (stride,) * 2, (padding,) * 2)
    assert len([n for n in merged.graph.nodes if n.op.startswith("call")]) == 1
    assert "one convolution of it" in report.notes[0].reason


def test_pixel_unshuffle_that_stays():
    for last in (nn.Conv2d(8, 4, 3, groups=2), nn.Conv2d(8, 4, 2, dilation=2)):
        merged, _ = assert_exact(whole_numbers(nn.Sequential(nn.PixelUnshuffle(2), last)), integers((2, 2, 8, 8), 3, 1))
        assert [c.kernel_size for c in computed(merged)] == [last.kernel_size]


def segformer(m, x):
    """The head: what the stages give, made as large as the first, side by side, and a 1 x 1 with BatchNorm and ReLU."""
    first = torch.relu(m.wide(x))
    second = torch.relu(m.smaller(first))
    third = torch.relu(m.smaller(second))
    up = [functional.interpolate(y, size=(8, 8), mode="bilinear") for y in (third, second)]
    return torch.relu(m.norm(m.fuse(torch.cat([*up, *([first] * m.rest)], 1))) - 1)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rest", [0, 1, 2])
def test_convolution_of_parts_that_were_up_sampled(rest, bias):
    """Each on its own, small, BatchNorm in them; 1/4 and 3/4, by which it is up-sampled, are exact."""
    parts = {"smaller": nn.Conv2d(8, 8, 2, 2), "fuse": nn.Conv2d(8 * (2 + rest), 4, 1, bias=bias)}
    model = filled(Written(segformer, norm=nn.BatchNorm2d(4, eps=0.0), rest=rest, **parts))
    merged, report = assert_exact(model, integers((2, 2, 8, 8), 3, 1), integers((1, 2, 8, 8), 3, 2))
    assert any("before it is up-sampled, and added up" in note.reason for note in report.notes)
    assert sorted(c.in_channels for c in computed(merged))[1:] == [8] * (4 + bool(rest))
    assert not [module for module in merged.modules() if isinstance(module, nn.BatchNorm2d)]


def few(m, x):
    first = torch.relu(m.wide(x))
    up = functional.interpolate(torch.relu(m.smaller(first)), size=(8, 8), mode="bicubic")
    return m.fuse(torch.cat([up, first], 1))


def test_parts_that_stay_together():
    """Few numbers are up-sampled to many: adding up takes more than it saves."""
    parts = {"smaller": nn.Conv2d(8, 8, 2, 2), "fuse": nn.Conv2d(16, 64, 1)}
    _, report = assert_exact(filled(Written(few, **parts)), integers((2, 2, 8, 8), 3, 1))
    assert "added up" not in str(report)
