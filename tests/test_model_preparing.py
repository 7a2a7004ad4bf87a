"""merge_model on models written with functions, assertions, sizes and control flow: what its layers are."""

import numpy as np
import pytest
import torch
from blocks import drawn, trained
from equal_models import batchnorms, computed
from torch import nn
from torch.nn import functional

from linear_lasagna.models import merge_model


def same(merged, model, *inputs):
    """Equal in float64, but for rounding."""
    with torch.no_grad():
        torch.testing.assert_close(merged(*inputs), model(*inputs), rtol=1e-12, atol=1e-12)


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: an assertion of the rank, the norm as a function, then the activation."""

    def __init__(self, channels, act=True):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x):
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        training = self.training or (self.running_mean is None and self.running_var is None)
        mean, variance = self.running_mean, self.running_var
        x = functional.batch_norm(x, mean, variance, self.weight, self.bias, training, self.momentum, self.eps)
        return self.act(self.drop(x))


class ConvNormAct(nn.Module):
    def __init__(self, channels, outputs, kernel_size, **keywords):
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(channels, outputs, kernel_size, padding=padding, bias=False, **keywords)
        self.bn = NormAct(outputs, act=False)

    def forward(self, x):
        return self.bn(self.conv(x))


class RepVGG(nn.Module):
    """As timm writes it."""

    def __init__(self, channels):
        super().__init__()
        self.identity = NormAct(channels, act=False)
        self.conv_kxk, self.conv_1x1 = ConvNormAct(channels, channels, 3), ConvNormAct(channels, channels, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        identity = self.identity(x)
        x = self.conv_1x1(x) + self.conv_kxk(x)
        x += identity
        return self.act(x)


class MobileOne(nn.Module):
    """As timm writes it: sums in place, from the scale on."""

    def __init__(self, channels, branches=3):
        super().__init__()
        self.identity = NormAct(channels, act=False)
        self.conv_kxk = nn.ModuleList(ConvNormAct(channels, channels, 3, groups=channels) for _ in range(branches))
        self.conv_scale = ConvNormAct(channels, channels, 1, groups=channels)
        self.act = nn.ReLU()

    def forward(self, x):
        out = self.conv_scale(x)
        for branch in self.conv_kxk:
            out += branch(x)
        out += self.identity(x)
        return self.act(out)


class Stem(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, bias=False), NormAct(channels)

    def forward(self, x):
        return self.norm(self.conv(x))


@pytest.mark.parametrize("block", [RepVGG, MobileOne, Stem])
def test_blocks_of_functional_norms_become_one_convolution(block):
    model, x = trained(nn.Sequential(block(6), block(6))), drawn(2, 6, 9, 8)
    merged, report = merge_model(model, x)
    assert len(computed(merged)) == len(report.merged) == 2
    assert not batchnorms(merged)
    assert report.notes == ()
    assert not any(node.op == "call_function" for node in merged.graph.nodes)
    same(merged, model, x)
    same(merged, model, drawn(1, 6, 12, 7))


class NumPysNumbers(nn.Module):
    """As ATD writes it: `1 + clamp(scale) * np.log(width)`."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 2, 1)
        self.scale = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x):
        y = torch.relu(self.second(self.first(x))) * (1 + torch.clamp(self.scale, 0, 1) * np.log(64.0))
        return torch.clamp(y, min=np.float64(0.5))


def test_numbers_of_numpy_are_written_down_as_numbers():
    model, x = NumPysNumbers().eval(), drawn(2, 2, 6, 6, dtype=torch.float32)
    merged, report = merge_model(model, x, certify=False)
    assert len(report.merged) == 1
    assert "np." not in merged.code
    torch.testing.assert_close(merged(x), model(x), rtol=1e-4, atol=1e-5)


def test_names_are_the_owners():
    _, report = merge_model(trained(nn.Sequential(RepVGG(4))), drawn(1, 4, 8, 8))
    (run,) = report.runs
    assert set(run.layers) == {
        "0.conv_kxk.conv",
        "0.conv_kxk.bn",
        "0.conv_1x1.conv",
        "0.conv_1x1.bn",
        "0.identity",
    }


class Written(nn.Module):
    """A model whose forward is given, f(self, x), with numbers of its own."""

    def __init__(self, forward, **numbers):
        super().__init__()
        for name, shape in numbers.items():
            self.register_parameter(name, nn.Parameter(drawn(*shape, seed=len(name))))
        self.register_buffer("mean", drawn(4, seed=7))
        self.register_buffer("variance", drawn(4, seed=8).abs() + 0.5)
        self.a, self.c, self.norm = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(4)
        self.written = forward

    def forward(self, x):
        return self.written(self, x)


def norm_of(m, y, function, **keywords):
    return function(y, m.mean, m.variance, m.w, m.b, **keywords)


# name -> (forward on (2, 2, 8, 8), shapes of numbers, what the modules in its place are)
FUNCTIONS = {
    "conv1d": (lambda m, x: functional.conv1d(x.flatten(2), m.w, stride=2), {"w": (4, 2, 3)}, nn.Conv1d),
    "conv2d": (lambda m, x: functional.conv2d(x, m.w, m.b, padding=1), {"w": (4, 2, 3, 3), "b": (4,)}, nn.Conv2d),
    "conv2d, same": (lambda m, x: functional.conv2d(x, m.w, padding="same"), {"w": (4, 2, 3, 3)}, nn.Conv2d),
    "conv2d, groups": (lambda m, x: functional.conv2d(x, weight=m.w, groups=2), {"w": (4, 1, 3, 1)}, nn.Conv2d),
    "conv3d": (lambda m, x: functional.conv3d(x[:, :, None], m.w), {"w": (4, 2, 1, 3, 3)}, nn.Conv3d),
    "conv_transpose2d": (
        lambda m, x: functional.conv_transpose2d(x, m.w, None, 2, 1, 1, 2),
        {"w": (2, 3, 3, 3)},
        nn.ConvTranspose2d,
    ),
    "convolution": (
        lambda m, x: torch.convolution(x, m.w, m.b, [2, 1], [1], [1, 1], False, [0, 0], 1),
        {"w": (4, 2, 3, 3), "b": (4,)},
        nn.Conv2d,
    ),
    "linear": (lambda m, x: functional.linear(x, m.w, m.b), {"w": (5, 8), "b": (5,)}, nn.Linear),
    "batch_norm": (
        lambda m, x: norm_of(m, m.a(x), functional.batch_norm, eps=0.1),
        {"w": (4,), "b": (4,)},
        nn.BatchNorm2d,
    ),
    "batch_norm without numbers": (
        lambda m, x: functional.batch_norm(m.a(x), m.mean, m.variance),
        {},
        nn.BatchNorm2d,
    ),
    "torch.batch_norm": (
        lambda m, x: torch.batch_norm(m.a(x), m.w, m.b, m.mean, m.variance, False, 0.1, 0.5, False),
        {"w": (4,), "b": (4,)},
        nn.BatchNorm2d,
    ),
    "instance_norm": (
        lambda m, x: norm_of(m, m.a(x), functional.instance_norm, use_input_stats=False),
        {"w": (4,), "b": (4,)},
        nn.BatchNorm2d,
    ),
    "another module's numbers": (
        lambda m, x: functional.batch_norm(m.a(x), m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias),
        {},
        nn.BatchNorm2d,
    ),
    "computed numbers": (
        lambda m, x: functional.conv2d(x, (m.w - m.w.mean((1, 2, 3), True)) / m.w.std((1, 2, 3), keepdim=True)),
        {"w": (4, 2, 3, 3)},
        nn.Conv2d,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_the_modules_that_they_stand_for(name):
    """Alone, and before a norm or after a convolution, where it is merged."""
    forward, numbers, kind = FUNCTIONS[name]
    model, x = Written(forward, **numbers).double(), drawn(2, 2, 8, 8)
    nn.init.uniform_(model.norm.running_var, 0.5, 2)
    merged, _ = merge_model(model.eval(), x)
    same(merged, model, x)
    kinds = [type(merged.get_submodule(n.target)) for n in merged.graph.nodes if n.op == "call_module"]
    assert kinds == ([nn.Conv2d] if kind is nn.BatchNorm2d else [kind])
    assert not any(n.op == "get_attr" for n in merged.graph.nodes)


def test_functions_share_the_models_parameters():
    """By their own names where a module owns them all; two calls are one module; training goes on from it."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(drawn(2, 2, 3, 3))

        def forward(self, x):
            return functional.conv2d(x, self.weight, None, 1, 1)

    model = nn.Sequential(own := Own(), nn.ReLU(), own, nn.Sigmoid(), nn.ReLU()).double().eval()
    merged, _ = merge_model(model, drawn(1, 2, 6, 6))
    assert merged.state_dict().keys() == {"0.weight"}
    assert type(merged.get_submodule("0")) is nn.Conv2d
    merged(drawn(1, 2, 6, 6)).sum().backward()
    model(drawn(1, 2, 6, 6)).sum().backward()
    torch.testing.assert_close(merged.get_submodule("0").weight.grad, own.weight.grad)


def test_an_owner_that_does_more_keeps_its_name():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.scale = nn.Parameter(drawn(2, 2, 3, 3)), nn.Parameter(drawn(2, 1, 1))

        def forward(self, x):
            y = (functional.conv2d(x, self.weight).sigmoid() * self.scale).sigmoid()
            return functional.conv2d(y, self.weight, stride=2).tanh()

    model = nn.Sequential(Both()).eval()
    merged, _ = merge_model(model, drawn(1, 2, 8, 8))
    same(merged, model, drawn(1, 2, 8, 8))
    assert {n.target for n in merged.graph.nodes if n.op == "call_module"} == {"0.conv", "0.conv_1"}


def test_numbers_that_forward_computes_get_a_note():
    model = Written(lambda m, x: functional.conv2d(x, x.mean() * m.w), w=(2, 2, 1, 1)).double().eval()
    merged, report = merge_model(model, drawn(1, 2, 8, 8))
    same(merged, model, drawn(1, 2, 8, 8, seed=3))
    assert (("conv2d",), "its numbers are computed by forward, they are not the model's own") in [
        (note.layers, note.reason) for note in report.notes
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_functions_numbers_that_are_not_finite_are_named(bad):
    model = Written(lambda m, x: functional.conv2d(x, m.w), w=(2, 2, 1, 1)).double().eval()
    model.w.data[0, 0] = bad
    with pytest.raises(ValueError, match=r"^'conv' has a weight with numbers that are not finite"):
        merge_model(model, drawn(1, 2, 8, 8))


def test_finite_numbers_whose_sum_is_not_are_no_fault():
    model, x = Written(lambda m, x: functional.conv2d(x, m.w), w=(2, 2, 1, 1)).double().eval(), drawn(1, 2, 8, 8)
    model.w.data.fill_(1.7e308)
    merge_model(model, x * 1e-9)
    model.w.data[0] = torch.tensor([float("inf"), -float("inf")]).view(2, 1, 1)
    with pytest.raises(ValueError, match="not finite"):
        merge_model(model, x * 1e-9)


class Calling(nn.BatchNorm2d):
    def forward(self, x):
        return torch.relu(super().forward(x))


@pytest.mark.parametrize("norm", [Calling, lambda n: nn.InstanceNorm2d(n, affine=True, track_running_stats=True)])
def test_norms_by_another_way(norm):
    torch.manual_seed(0)  # so that not all is negative
    model = nn.Sequential(nn.Conv2d(2, 8, 3), norm(8), nn.Conv2d(8, 2, 3), norm(2)).double()
    for module in model[1::2]:
        nn.init.uniform_(module.running_var, 0.5, 2)
        nn.init.normal_(module.running_mean)
        nn.init.normal_(module.weight)
    merged, report = merge_model(model.eval(), drawn(2, 2, 9, 9))
    assert not any(isinstance(m, (nn.InstanceNorm2d, nn.BatchNorm2d)) for m in merged.modules())
    assert report.notes == ()
    same(merged, model, drawn(2, 2, 9, 9))


ASSERTED = {
    "rank": lambda m, y: torch._assert(y.dim() == 4 and len(y.shape) == 4, "rank"),
    "size": lambda m, y: torch._assert(y.shape[1] == 32, "channels"),
    "arithmetic": lambda m, y: torch._assert((y.size(2) * y.size(3)) % 2 == 0, "even"),
}


@pytest.mark.parametrize("name", ASSERTED)
def test_assertions_do_not_cut_a_run(name):
    def forward(m, x):
        y = m.wide(x)
        ASSERTED[name](m, y)
        return m.narrow(y)

    model = Written(forward)
    model.wide, model.narrow = nn.Conv2d(2, 32, 1), nn.Conv2d(32, 2, 1)
    merged, report = merge_model(trained(model), drawn(1, 2, 8, 8))
    assert len(computed(merged)) == len(report.merged) == 1
    same(merged, model, drawn(1, 2, 8, 6))


def asserting(m, x):
    y = m.wide(x)
    assert y.shape[1] == 32
    return m.narrow(y)


def test_an_assert_statement_does_not_either():
    model = Written(asserting)
    model.wide, model.narrow = nn.Conv2d(2, 32, 1), nn.Conv2d(32, 2, 1)
    merged, report = merge_model(trained(model), drawn(1, 2, 8, 8))
    assert len(computed(merged)) == len(report.merged) == 1
    assert report.notes == ()


class Deciding(nn.Module):
    """By the sign of the sum."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return self.inside(x) if x.sum() > 0 else -x


def test_a_module_that_cannot_be_traced_is_kept_and_named():
    pair = nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1))
    model = trained(nn.Sequential(pair, nn.Sequential(nn.ReLU(), Deciding()), nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1)))
    merged, report = merge_model(model, drawn(1, 2, 8, 8))
    assert [run.layers for run in report.merged] == [("0.0", "0.1"), ("2", "3")]
    line = Deciding.forward.__code__.co_firstlineno + 1
    (note,) = report.notes
    assert note.layers == ("1.1",)
    assert note.reason.startswith("kept as it is, torch.fx cannot trace it (test_model_preparing.py, line")
    assert f"line {line})" in note.reason
    assert "merge_model of this module" in note.reason
    for seed in range(4):
        same(merged, model, drawn(1, 2, 8, 8, seed=seed))


class Overwriting(nn.Module):
    """Changes what it is given, and decides by numbers, so that it is kept."""

    def forward(self, x):
        return x.mul_(2).sigmoid() if x.sum() > 0 else x.mul_(3).cos()


def test_a_kept_module_that_overwrites_its_input():
    """y is read by b before, and by c after it is changed: neither may move across the change."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Conv2d(2, 2, 1) for _ in range(4))
            self.kept = Overwriting()

        def forward(self, x):
            y = self.a(x)
            before = self.b(y)
            z = self.kept(y)
            return self.d(before) + self.c(y), z

    model = trained(Net())
    with torch.no_grad():
        merged, report = merge_model(model, drawn(1, 2, 8, 8))
    for seed in range(4):
        same(merged, model, drawn(1, 2, 8, 8, seed=seed))
    assert any("changed in place" in note.reason for note in report.notes)


def even(m, x):
    if x.shape[2] % 2:
        x = functional.pad(x, (0, 0, 0, 1))
    for _ in range(x.shape[1]):
        x = m.c(m.a(x))
    return x


def test_sizes_decide_as_for_the_example_or_raise():
    model = trained(Written(even))
    merged, report = merge_model(model, drawn(1, 2, 12, 9))
    assert len(report.merged) == 1
    (note,) = report.notes
    assert "depends on sizes (test_model_preparing.py, line" in note.reason
    same(merged, model, drawn(3, 2, 10, 11))
    with pytest.raises(AssertionError, match=r"merged for sizes for which forward does the same as for the example"):
        merged(drawn(1, 2, 9, 9))


NUMBERS = {
    "zeros": lambda m, x: m.c(m.a(x)) + torch.zeros(x.shape[0], 1, device=x.device, dtype=x.dtype)[..., None, None],
    "arange": lambda m, x: m.c(m.a(x)) * torch.arange(x.shape[0]).view(-1, 1, 1, 1),
    "unpacked": lambda m, x: m.c(m.a(x)) + (lambda b, c, h, w: torch.ones(b, c, h - 2, w - 2))(*x.shape),
    "float": lambda m, x: m.c(m.a(x)) * float(x.shape[1]) ** -0.5,
    "item assignment": lambda m, x: (lambda y: (y.__setitem__((0, 1), 2.0), y)[1])(m.c(m.a(x))),
    "parts": lambda m, x: sum(part.abs() for part in m.c(m.a(x)).chunk(2, 1)),
    "rows": lambda m, x: torch.stack([row.abs() for row in m.c(m.a(x))]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_sizes_as_numbers(name):
    model = trained(Written(NUMBERS[name]))
    x = drawn(2, 2, 8, 8)
    merged, report = merge_model(model, x)
    assert len(report.merged) == 1
    same(merged, model, drawn(2, 2, 8, 8, seed=5))


def overwritten(change):
    """A value under two names, of which one is changed."""

    def forward(m, x):
        y = m.a(x)
        z = y
        before = m.c(y)
        y = change(m, y)
        return m.c(z) + before, y

    return forward


def added(m, y):
    y += torch.relu(y - 1000)  # nothing, for the example
    return y


def subtracted(m, y):
    y[:, 1:] -= 2
    return y


def scaled(m, y):
    part = y.view(-1, 4, 36)
    part *= 2
    return y


@pytest.mark.parametrize("change", [added, subtracted, scaled])
def test_what_is_overwritten_under_another_name_is(change):
    """torch.fx takes += for +. For `added` the example does not even show it."""
    model = trained(Written(overwritten(change)))
    with torch.no_grad():
        merged, _ = merge_model(model, drawn(2, 2, 8, 8))
    same(merged, model, drawn(2, 2, 8, 8, seed=2))
    same(merged, model, drawn(2, 2, 8, 8) * 1e4)


def test_residual_sums_in_place_are_sums():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            x = torch.relu(x)
            x += self.b(x)
            y = self.a(x)
            y += x
            return y

    model = trained(Net())
    model.b.bias = None  # which a border would have to know
    merged, report = merge_model(model, drawn(1, 2, 8, 8))
    assert [m.kernel_size for m in computed(merged)] == [(3, 3)]
    assert report.notes == ()
    same(merged, model, drawn(1, 2, 8, 8))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("strict", [False, True])
def test_exported_models_are_merged(strict):
    model = trained(nn.Sequential(RepVGG(4), nn.Conv2d(4, 32, 1), nn.BatchNorm2d(32), nn.Conv2d(32, 4, 1)))
    x = drawn(1, 4, 8, 8)
    exported = torch.export.export(model, (x,), strict=strict).module()
    merged, report = merge_model(exported, x)
    assert len(report.merged) == len(computed(merged)) == 2
    assert not batchnorms(merged)
    same(merged, model, x)
    with pytest.raises(AssertionError):
        merged(drawn(1, 4, 9, 8))


class Arguments(nn.Module):
    """What is not a tensor decides."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1))

    def forward(self, x, skip=None, scale=1, mode="sum"):
        y = self.body(x)
        if skip is not None:
            y = y + skip
        return {mode: y * scale, "is": x.shape[0]} if mode == "sum" else y


@pytest.mark.parametrize("given", [(None,), (None, 3), (None, 3, "no"), (drawn(1, 2, 8, 8), 2)])
def test_arguments_that_are_no_tensors(given):
    model, x = trained(Arguments()), drawn(1, 2, 8, 8)
    merged, report = merge_model(model, (x, *given))
    assert len(report.merged) == 1
    same(merged, model, x, *given)


def test_inputs_in_containers():
    class Net(Arguments):
        def forward(self, inputs):
            return [self.body(x) for x in inputs["all"]]

    model, inputs = trained(Net()), {"all": [drawn(1, 2, 8, 8), drawn(1, 2, 4, 4)]}
    merged, report = merge_model(model, (inputs,))
    assert len(report.merged) == 2
    same(merged, model, inputs)


def test_inputs_of_any_layout():
    model = trained(Arguments().body)
    for x in (drawn(1, 8, 8, 2).permute(0, 3, 1, 2), drawn(2, 1, 8, 8).transpose(0, 1), drawn(1, 2, 8, 16)[..., ::2]):
        merged, report = merge_model(model, x)
        assert len(report.merged) == 1
        same(merged, model, x)


def test_mixed_dtypes():
    class Net(Arguments):
        def forward(self, x):
            return self.body[1](self.body[0](x).double())

    model = trained(Net())
    model.body[0].float()
    merged, _ = merge_model(model, drawn(1, 2, 8, 8, dtype=torch.float32))
    same(merged, model, drawn(1, 2, 8, 8, dtype=torch.float32))
    assert {p.dtype for p in merged.parameters()} == {torch.float32, torch.float64}
