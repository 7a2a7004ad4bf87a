"""BatchNorm beside transposed convolutions and linear layers, folded: exact on whole numbers."""

import pytest
import torch
from equal_models import batchnorms
from strategies import integers
from torch import nn

from linear_lasagna.models import merge_model
from linear_lasagna.models.exact_numbers import EXACT

TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def whole_numbers(model):
    """The model in float64 with small whole numbers, its variances powers of four: BatchNorm is exact."""
    for seed, (name, tensor) in enumerate([*model.named_parameters(), *model.named_buffers()]):
        if tensor.is_floating_point():
            numbers = integers(tuple(tensor.shape), 2, seed)
            tensor.data = 4.0**numbers if name.endswith("var") else numbers
    return model.eval()


def assert_folded(model, x):
    """Everything is one layer, which gives the same numbers, and there is a note that says so."""
    model = whole_numbers(model)
    merged, report = merge_model(model, x)
    assert torch.equal(merged(x), model(x))
    assert not batchnorms(merged)
    assert len([node for node in merged.graph.nodes if node.op == "call_module"]) == 1
    assert report.runs == ()
    (note,) = [note for note in report.notes if note.done]
    assert note.layers == ("0", "1")
    assert "became one layer, 'merged'" in note.reason
    return merged, model


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolution(rank, groups, bias):
    layer = TRANSPOSED[rank](4, 6, 3, stride=2, padding=1, output_padding=1, groups=groups, bias=bias, dilation=2)
    x = integers((2, 4, *(3,) * rank), 2, 99)
    merged, model = assert_folded(nn.Sequential(layer, NORMS[rank](6, eps=0.0)), x)
    other = integers((1, 4, *(2,) * rank), 2, 98)
    assert torch.equal(merged(other), model(other))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layer(bias):
    x = integers((5, 4), 2, 99)
    assert_folded(nn.Sequential(nn.Linear(4, 6, bias=bias), nn.BatchNorm1d(6, eps=0.0)), x)
    assert_folded(nn.Sequential(nn.BatchNorm1d(4, eps=0.0), nn.Linear(4, 6, bias=bias)), x)


LINEAR = {
    "in turn": lambda m, x: m.c(m.b(m.a(x))),
    "dropout between": lambda m, x: m.c(m.drop(m.b(m.a(x)))),
    "two heads": lambda m, x: (m.d(x) + m.e(x)) / 2,
    "weighted": lambda m, x: torch.sub(m.d(x), m.e(x), alpha=3) * 2,
    "all": lambda m, x: m.f((m.d(x) - m.e(x)) * 0.5),
}


class Layers(nn.Module):
    def __init__(self, written):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 2)
        self.d, self.e, self.f = nn.Linear(3, 4), nn.Linear(3, 4, bias=False), nn.Linear(4, 2)
        self.drop, self.written = nn.Dropout(0.5), written

    def forward(self, x):
        return self.written(self, x)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3)])
def test_linear_layers(name, shape):
    """In turn, and added up, of vectors and of tokens: one linear layer."""
    model, x = whole_numbers(Layers(LINEAR[name]).double()), integers(shape, 2, 99)
    merged, report = merge_model(model, x)
    assert torch.equal(merged(x), model(x))
    assert [n.op for n in merged.graph.nodes] == ["placeholder", "call_module", "output"]
    assert "became one layer" in [note.reason for note in report.notes if note.done][-1]


def test_linear_layers_are_rounded_once():
    torch.manual_seed(0)
    model = Layers(LINEAR["in turn"]).half().eval()
    merged, _ = merge_model(model, torch.randn(2, 3).half())
    assert not any(module in EXACT for module in merged.modules())
    weights = [layer.weight.double() for layer in (model.c, model.b, model.a)]
    (found,) = [module.weight for module in merged.modules() if isinstance(module, nn.Linear)]
    assert torch.equal(found, (weights[0] @ (weights[1] @ weights[2])).half())


def test_linear_layers_stay_where_one_would_take_more():
    model, x = whole_numbers(nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 8)).double()), integers((5, 8), 2, 99)
    merged, report = merge_model(model, x)
    assert torch.equal(merged(x), model(x))
    assert not [note for note in report.notes if note.done]
    assert len([n for n in merged.graph.nodes if n.op == "call_module"]) == 2


def test_gradients_reach_the_folded_layer():
    model = whole_numbers(nn.Sequential(nn.ConvTranspose2d(2, 2, 2, 2), nn.BatchNorm2d(2, eps=0.0)))
    merged, _ = merge_model(model, integers((2, 2, 3, 3), 2, 99))
    merged(integers((2, 2, 3, 3), 2, 99)).sum().backward()
    assert all(parameter.grad is not None for parameter in merged.parameters())


class Read(nn.Sequential):
    """The linear layer's value has a second reader."""

    def forward(self, x):
        y = self[0](x)
        return self[1](y) + torch.relu(y)


def hooked(model):
    model[0].register_forward_hook(lambda module, arguments, output: output + 1)
    return model


# What must not be folded: (model, input's shape).
KEPT = {
    "tokens, whose channels are not the linear layer's": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, eps=0.0)),
        (2, 4, 4),
    ),
    "no batch axis": (lambda: nn.Sequential(nn.ConvTranspose1d(4, 4, 2), nn.BatchNorm1d(5, eps=0.0)), (4, 4)),
    "read twice": (lambda: Read(nn.Linear(4, 4), nn.BatchNorm1d(4, eps=0.0)), (3, 4)),
    "hooked": (lambda: hooked(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, eps=0.0))), (3, 4)),
    "of its batch": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)),
        (3, 4),
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_folded(name):
    make, shape = KEPT[name]
    model, x = whole_numbers(make()), integers(shape, 2, 99)
    merged, _ = merge_model(model, x)
    assert torch.equal(merged(x), model(x))
    assert len(batchnorms(merged)) == 1


def test_numbers_that_the_dtype_cannot_hold_stay_apart():
    model = whole_numbers(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, eps=0.0))).half()
    model[0].weight.data.fill_(60000.0)
    model[1].weight.data.fill_(60000.0)
    model[1].running_var.fill_(1.0)
    for zero in (model[0].bias, model[1].running_mean):
        zero.data.zero_()
    merged, _ = merge_model(model, torch.full((1, 2), 6e-8, dtype=torch.float16))
    assert len(batchnorms(merged)) == 1
