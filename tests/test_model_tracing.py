"""What `merge_model` accepts as the model's graph, and what it refuses before."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from blocks import drawn, trained
from equal_models import computed, merged_of
from torch import fx, nn
from torch.nn import functional

from linear_lasagna.models import merge_model


@dataclasses.dataclass
class Boxed:
    """A result that PyTorch does not know how to open."""

    value: object


class Changing(nn.Module):
    """Another model where it is traced, which shows in `result` of the value."""

    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, x):
        return self.result(x.abs() * (4 if type(x) is torch.Tensor else 3))


RESULTS = {
    "tensor": lambda y: y,
    "dataclass": lambda y: Boxed(y),
    "dataclass in a dict": lambda y: {"box": [Boxed((y,))]},
    "integers": lambda y: (y > 1).long(),
    "truth": lambda y: (y > 3, y.shape[0]),
    "with NaN": lambda y: torch.where(y > 3, math.nan, y),
    "with infinity": lambda y: functional.pad(y, (1, 1), value=math.inf),
    "complex": lambda y: torch.complex(torch.zeros_like(y), y),
    "beside what is equal": lambda y: (y.shape, torch.ones_like(y), y),
}


@pytest.mark.parametrize("name", RESULTS)
def test_another_result_is_refused(name):
    with pytest.raises(ValueError, match=r"computes something else as a torch\.fx graph: its numbers differ"):
        merge_model(Changing(RESULTS[name]), drawn(2, 2, 4, 4))


class Otherwise(nn.Module):
    """Gives one result for a tensor and another one where it is traced."""

    def __init__(self, real, graph):
        super().__init__()
        self.real, self.graph = real, graph

    def forward(self, x):
        return self.real(x) if type(x) is torch.Tensor else self.graph(x)


OTHERS = {
    "more values": (lambda x: [x], lambda x: [x, x], "gives 2 values instead of 1"),
    "another shape": (lambda x: x.abs(), lambda x: x.flatten(), r"gives \(64,\) of float64 instead of \(2, 2, 4, 4\)"),
    "another dtype": (lambda x: x.abs(), lambda x: x.float(), "of float32 instead of"),
    "another number": (lambda x: (x, 2), lambda x: (x, 3), "gives 3 instead of 2"),
    "a number": (lambda x: (x, x), lambda x: (x, 3), "gives a int instead of a tensor"),
    "NaN elsewhere": (lambda x: x.sqrt(), lambda x: (-x).sqrt(), "its numbers differ"),
    "the other infinity": (lambda x: (x, x.sign() / 0), lambda x: (x, -x.sign() / 0), "its numbers differ"),
    "what fails": (lambda x: x.abs(), lambda x: x[9], r"cannot trace this model \(.*\): index 9 is out"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_differs_is_said(name):
    real, graph, message = OTHERS[name]
    with pytest.raises(ValueError, match=message) as refusal:
        merge_model(Otherwise(real, graph), drawn(2, 2, 4, 4))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("result", [lambda x: x.shape[1], lambda x: Boxed(x / 0 * 0), lambda x: [x[:0]]])
def test_nothing_to_compare_is_a_refusal(result):
    with pytest.raises(ValueError, match="no tensor with a finite number but 0: nothing can be compared"):
        merge_model(Changing(result), drawn(2, 2, 4, 4))


def test_an_example_of_zeros_shows_nothing():
    with pytest.raises(ValueError, match="nothing can be compared"):
        merge_model(Changing(lambda y: y), torch.zeros(2, 2, 4, 4))


def test_what_is_random_in_training_mode_has_a_remedy():
    class Random(nn.Module):
        def forward(self, x):
            return functional.dropout(x, 0.5, self.training)

    with pytest.raises(ValueError, match=r"or is random; call model\.eval\(\)$"):
        merge_model(Random(), drawn(2, 2, 4, 4))
    merge_model(Random().eval(), drawn(2, 2, 4, 4))


@pytest.mark.parametrize("name", [name for name in RESULTS if name not in ("truth", "complex")])
def test_equal_results_of_any_form_are_accepted(name):
    class Fit(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1))

        def forward(self, x):
            return RESULTS[name](self.body(x))

    merged, report = merge_model(trained(Fit()), drawn(2, 2, 4, 4))
    assert len(report.merged) == len(computed(merged)) == 1


class MeanShift(nn.Module):
    """Assigns a tensor in forward, and makes another one: tracing would leave its proxies behind."""

    def __init__(self):
        super().__init__()
        self.mean = torch.tensor([0.4, 0.5]).view(1, 2, 1, 1)
        self.body = nn.Sequential(nn.Conv2d(2, 32, 1), nn.Conv2d(32, 2, 3))

    def forward(self, x):
        self.mean = self.mean.type_as(x)
        return self.body((x - self.mean) * torch.tensor([[[[2.0]], [[0.5]]]], dtype=torch.float64))


def test_a_forward_that_assigns_is_merged():
    model = trained(MeanShift())
    before = model.mean
    merged, report = merge_model(model, drawn(1, 2, 9, 9))
    assert len(report.merged) == 1
    torch.testing.assert_close(merged(drawn(1, 2, 9, 9)), model(drawn(1, 2, 9, 9)), rtol=1e-12, atol=1e-13)
    assert model.mean is not before  # by its own call only
    assert not any(isinstance(value, fx.Proxy) for value in vars(model).values())


class Optional(nn.Module):
    """Arguments that need not be given: by position, by name, and any number of them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1))

    def forward(self, x, skip=None, *more, double=False, **others):
        y = self.body(x) if skip is None else self.body(x) + skip
        for each in more:
            y = y + each
        return 2 * y if double or others else y


class Named(Optional):
    def forward(self, x, skip=None, *, double=True):
        y = self.body(x) if skip is None else self.body(x) + skip
        return 2 * y if double else y


@pytest.mark.parametrize("make", [Optional, Named])
@pytest.mark.parametrize("given", [1, 2])
def test_arguments_that_are_left_out_keep_their_defaults(make, given):
    model, inputs = trained(make()), tuple(drawn(1, 2, 4, 4, seed=seed) for seed in range(given))
    merged, report = merge_model(model, inputs)
    assert len(report.merged) == 1
    torch.testing.assert_close(merged(*inputs), model(*inputs), rtol=1e-12, atol=1e-13)


def test_an_argument_that_is_missing_is_named():
    class Two(nn.Module):
        def forward(self, x, other):
            return x + other

    with pytest.raises(
        ValueError, match=r"cannot compute example_input.*missing 1 required positional argument: 'other'"
    ):
        merge_model(Two(), drawn(1, 2, 4, 4))


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Within(nn.Module):
    """f(a convolution, x), in a submodule of its own with a pair behind it, or not."""

    def __init__(self, written):
        super().__init__()
        self.one, self.written = nn.Conv2d(2, 4, 1), written

    def forward(self, x):
        return self.written(self.one, x)


def casting(one, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return one(x)


def casting_off(one, x):
    with torch.autocast("cpu", enabled=False):
        return one(x)


UNTRACED = {"autocast": (casting, "it computes under torch.autocast", "def casting(")}
UNTRACED["vmap"] = (lambda one, x: torch.vmap(one)(x), r"it calls torch\.vmap or torch\.func", 'UNTRACED["vmap"] =')


@pytest.mark.parametrize("name", UNTRACED)
def test_autocast_and_vmap_are_found_and_kept_in_a_submodule(name):
    written, reason, where = UNTRACED[name]
    line = 1 + next(n for n, each in enumerate(Path(__file__).read_text().splitlines()) if each.startswith(where))
    line += 2 * (name == "autocast")
    x = drawn(2, 2, 4, 4, dtype=torch.float32)
    with pytest.raises(
        ValueError, match=rf"\(test_model_tracing\.py, line {line}\): {reason}.*own it would be kept"
    ) as no:
        merge_model(Within(written).eval(), x)
    assert "\n" not in str(no.value)
    torch.randn(2)  # inside of what vmap began, it would fail
    behind = nn.Sequential(nn.Conv2d(4, 32, 1), nn.Conv2d(32, 4, 1))
    model = nn.Sequential(Within(written), Wide(), behind).eval()
    merged, report = merge_model(model, x)
    assert len(report.merged) == 1
    assert any(note.layers == ("0",) and "kept as it is" in note.reason for note in report.notes)
    torch.testing.assert_close(merged(x), model(x))


class Wide(nn.Module):
    def forward(self, x):
        return torch.relu(x.float())


def test_autocast_that_is_off_is_none():
    _, report = merge_model(Within(casting_off).eval(), drawn(2, 2, 4, 4, dtype=torch.float32))
    assert report.linear == ("one",)


def test_control_flow_is_found():
    line = Branching.forward.__code__.co_firstlineno + 1
    with pytest.raises(
        ValueError, match=rf"cannot trace this model \(test_model_tracing\.py, line {line}\): what it does depends on"
    ):
        merge_model(Branching(), drawn(1, 2, 4, 4))


def plain():
    return trained(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)))


def quantised():
    model = nn.Sequential(torch.ao.nn.quantized.Quantize(0.1, 0, torch.quint8), torch.ao.nn.quantized.ReLU6())
    return model.append(torch.ao.nn.quantized.DeQuantize())


def hooked(register):
    model = plain()
    getattr(model, register)(lambda *seen: None)
    return model


def replaced():
    model = plain()
    model.forward = lambda x: 2 * x
    return model


def training(module):
    model = plain().append(module)
    module.train()
    return model


class Norm(nn.BatchNorm2d):
    """As people derive their own."""


REFUSED = {
    "DataParallel": (
        lambda: nn.DataParallel(plain()),
        r"^the model is wrapped in DataParallel; pass what its \.module is",
    ),
    "DataParallel inside": (lambda: nn.Sequential(nn.DataParallel(plain())), "^'0' is wrapped in DataParallel"),
    "traced": (lambda: torch.jit.trace(plain(), drawn(1, 2, 4, 4)), "^the model is scripted or traced by torch.jit"),
    "scripted inside": (lambda: nn.Sequential(torch.jit.script(nn.ReLU())), "^'0' is scripted or traced"),
    "compiled": (lambda: torch.compile(plain()), r"^the model is compiled; merge the model before torch\.compile"),
    "exported program": (
        lambda: torch.export.export(plain(), (drawn(1, 2, 4, 4),)),
        r"takes an nn\.Module, not an ExportedProgram; pass its \.module\(\)",
    ),
    "quantised": (quantised, "^'0' is quantised; merge the model in floating point and quantise the result"),
    "meta": (lambda: plain().to("meta"), "^'0' has numbers on the meta device, which are none; load them"),
    "weight_norm": (
        lambda: nn.Sequential(nn.utils.weight_norm(nn.Conv2d(2, 2, 1))),
        "^'0' cannot be copied: 'weight' has a history, as the old weight_norm and pruning leave it; call",
    ),
    "lazy": (
        lambda: nn.Sequential(nn.LazyConv2d(2, 1)),
        "^'0' has numbers that are not there yet; call the model once",
    ),
    "BatchNorm": (lambda: training(nn.BatchNorm2d(2)), "^'2' is a BatchNorm in training mode; call model.eval"),
    "its subclass": (lambda: training(Norm(2)), "^'2' is a BatchNorm in training mode"),
    "dropout": (lambda: training(nn.Dropout(0.1)), r"^'2' is a dropout in training mode; call model\.eval\(\)"),
    "forward hook": (lambda: hooked("register_forward_hook"), "cannot trace this model: hooks run around it"),
    "forward pre-hook": (lambda: hooked("register_forward_pre_hook"), "hooks run around it"),
    "backward hook": (lambda: hooked("register_full_backward_hook"), "hooks run around it"),
    "backward pre-hook": (lambda: hooked("register_full_backward_pre_hook"), "hooks run around it"),
    "forward replaced": (replaced, "cannot trace this model: it has a forward of its own"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_remedy(case):
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refusal:
        merge_model(make(), drawn(1, 2, 4, 4))
    assert "\n" not in str(refusal.value)


def test_subclasses_that_change_nothing_are_their_base_class():
    class Conv(nn.Conv2d):
        """With a note of its own."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.note = "mine"

    class Net(nn.Sequential):
        """A name."""

    model = Net(Conv(2, 64, 1), Norm(64), Conv(64, 2, 1), nn.ReLU(), Conv(2, 2, 1))
    merged, report = merged_of(trained(model), drawn(1, 2, 8, 8))
    assert [run.layers for run in report.merged] == [("0", "1", "2")]
    assert isinstance(merged.get_submodule("4"), Conv)


def test_hooks_that_tracing_dissolves_get_a_note():
    """On a container; one on a layer stays, and so does what the hook makes of the value."""
    inside = nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1))
    model = trained(nn.Sequential(inside, nn.ReLU()))
    inside.register_forward_hook(lambda *seen: 2 * seen[-1])
    model[1].register_forward_hook(lambda *seen: None)
    merged, report = merge_model(model, drawn(1, 2, 4, 4))
    assert [note.layers for note in report.notes] == [("0",)]
    assert report.notes[0].reason.startswith("its hooks are gone")
    torch.testing.assert_close(merged(drawn(1, 2, 4, 4)), model(drawn(1, 2, 4, 4)), rtol=1e-12, atol=1e-13)
    assert [name for name, module in merged.named_modules() if module._forward_hooks] == ["1"]
