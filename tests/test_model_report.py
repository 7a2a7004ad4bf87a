"""merge_model's report, what it refuses, and what it leaves alone."""

import copy
import math
from collections import OrderedDict

import pytest
import torch
from blocks import SESR, RepVGG, ResNet, drawn, normalised, trained
from equal_models import computed, merged_of
from torch import fx, nn

import linear_lasagna.models.deciding
import linear_lasagna.models.measuring
import linear_lasagna.models.predicting
import linear_lasagna.models.whole
from linear_lasagna import Kernel, Layer, calibration
from linear_lasagna.calibration import Costs, Curve
from linear_lasagna.merging import merge_stack
from linear_lasagna.methods.direct import direct
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models import merge_model
from linear_lasagna.planning import Plan
from linear_lasagna.rounding.summation_tree import Accumulation, SummationTree, blocked
from linear_lasagna.rounding.variance import layer_error
from linear_lasagna.timing import Timing


@pytest.fixture(autouse=True)
def no_other_processes(monkeypatch):
    """Whole models are timed in this one alone."""
    monkeypatch.setattr(linear_lasagna.models.whole, "_others", lambda *_: "no test waits for others")


@pytest.mark.parametrize(("linear", "calls"), [(False, 1), (True, 2)])
def test_models_are_not_computed_more_often_than_is_needed(linear, calls, monkeypatch):
    """Once to compare the graph with the model; where something is merged, once more for what its runs read."""
    computed, run = [], fx.Interpreter.run
    monkeypatch.setattr(fx.Interpreter, "run", lambda *args, **kwargs: computed.append(0) or run(*args, **kwargs))
    between = nn.Identity() if linear else nn.ReLU()
    _, report = merge_model(nn.Sequential(nn.Conv2d(2, 3, 1), between, nn.Conv2d(3, 2, 1)), drawn(1, 2, 4, 4).float())
    assert (len(report.merged), len(computed)) == (linear, calls)


def test_report_of_a_block():
    """SESR's block on 4 channels, 64 inside, 8 x 8: 4·64·9 + 64·4 multiplications per position before, 4·4·9 after."""
    _, report = merge_model(trained(SESR(4, 64), dtype=torch.float32), drawn(3, 4, 8, 8, dtype=torch.float32))
    (run,) = report.runs
    assert run.layers == ("expand", "squeeze")
    assert run.groups == (("expand", "squeeze"),)
    assert run.modules == ("merged",)
    assert (run.in_shape, run.out_shape) == ((4, 8, 8), (4, 8, 8))
    assert (run.operations_before, run.operations_after) == ((4 * 64 * 9 + 64 * 4) * 64, 4 * 4 * 9 * 64)
    assert (report.operations_before, report.operations_after) == (run.operations_before, run.operations_after)
    assert run.left is None
    assert run.measured is None
    assert report.notes == ()
    lines = str(report).split("\n")
    assert lines[0] == "1 of 1 run merged, 164 k -> 9.22 k operations per image"
    assert lines[2] == "expand + squeeze -> merged"
    assert lines[3].split()[:4] == ["4×8×8", "164", "k", "->"]


def test_report_of_what_is_left():
    model = trained(nn.Sequential(nn.Conv2d(8, 2, 3), nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1)))
    merged, report = merge_model(model, drawn(1, 8, 9, 9))
    (run,) = report.runs
    assert run.layers == ("0", "1")
    assert run.groups == run.modules == ()
    assert run.operations_before == run.operations_after == 8 * 2 * 9 * 49 + 2 * 8 * 9 * 25
    assert run.predicted_error is None
    assert run.left == "merging pays nowhere; all of it as one takes 40 k operations instead of 10.7 k"
    assert report.merged == ()
    assert "\n0 + 1: left\n" in str(report)
    assert f"\n    {run.left}" in str(report)
    assert torch.equal(merged(drawn(1, 8, 9, 9)), model(drawn(1, 8, 9, 9)))


def test_report_of_a_model_without_convolutions():
    _, report = merge_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.ones(1, 4))
    assert (report.runs, report.linear) == ((), ("0", "1"))
    assert [note.layers for note in report.notes] == [("0",), ("1",)]
    assert str(report).startswith("0 of 0 runs merged: ")


def test_names_of_new_modules():
    """Where the name is taken, a number is added."""
    named = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 2, 1), bn=nn.BatchNorm2d(2), merged=nn.ReLU()))
    model = trained(nn.Sequential(RepVGG(2, 2), nn.Sequential(normalised(2, 2, 3), nn.ReLU()), named))
    merged, report = merge_model(model, drawn(1, 2, 9, 9))
    assert [run.modules for run in report.runs] == [("0.merged",), ("1.0.merged",), ("2.merged_1",)]
    assert {name.rpartition(".")[0] for name in merged.state_dict()} == {"0.merged", "1.0.merged", "2.merged_1"}
    assert isinstance(merged.get_submodule("2.merged"), nn.ReLU)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("channels", [8, 64])
@pytest.mark.parametrize(
    "block",
    [lambda c: RepVGG(c, c), lambda c: SESR(c, 8 * c), lambda c: normalised(c, c, 3)],
    ids=["RepVGG", "SESR", "BN"],
)
def test_predicted_error(monkeypatch, block, channels, dtype):
    """With more outputs looked at than by default, the measured error lies in the predicted range.

    In half precision the range is a point, because the order of summation does not matter, and a kernel's few numbers
    are rounded but once: so some slack.
    """
    monkeypatch.setattr(linear_lasagna.models.predicting, "OUTPUTS", (4096, 4096))
    model = trained(nn.Sequential(block(channels)), dtype=dtype)
    if hasattr(model[0], "activation"):
        model[0].activation = nn.Identity()
    x = drawn(2, channels, 16, 16, dtype=dtype)
    merged, report = merge_model(model, x)
    least, most = report.runs[0].predicted_error
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(x.double())
        error = relative_l2(merged(x).double() - exact, exact)
    assert least / 1.2 < error < most * 1.08


def test_without_promises_the_same_is_merged():
    """certify=False: the same numbers, and nothing is said of their errors."""
    model = trained(nn.Sequential(RepVGG(8, 8)), dtype=torch.float32)
    x = drawn(1, 8, 16, 16, dtype=torch.float32)
    (merged, report), (again, bare) = (merge_model(model, x, certify=certify) for certify in (True, False))
    assert torch.equal(merged(x), again(x))
    (row,) = bare.runs
    assert (row.predicted_error, row.errors, row.certificate) == (None, None, None)
    assert None not in (report.runs[0].predicted_error, report.runs[0].errors, report.runs[0].certificate)
    assert bare.to_dict()["runs"][0]["layers"] == report.to_dict()["runs"][0]["layers"]


def test_predicted_error_of_weights_that_underflow():
    """What merged weights below the least normal number lose is known, and no variance (float16)."""
    small = [
        0.0002 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for shape in ((128, 16, 1, 1), (16, 128, 3, 3))
    ]
    kernel, layer = merge_stack(
        [Kernel(w.half().double()) for w in small], [Layer(128, 1).expand(2), Layer(16, 3).expand(2)]
    )
    x = 1000 * torch.randn(1, 16, 20, 20, generator=torch.Generator().manual_seed(1)).half()
    exact = nn.functional.conv2d(x.double(), kernel.weight)
    error = relative_l2(nn.functional.conv2d(x, kernel.weight.half()).double() - exact, exact)
    least, most = linear_lasagna.models.predicting.predicted(x, kernel, layer)
    assert error > 0.01
    assert least * 0.9 < error < most * 1.1


def test_predicted_error_of_a_constant_image():
    """Sums of 3844 equal terms: what their order makes of them lies in the range, 28 times above independent errors."""
    model = nn.Sequential(nn.Conv2d(1, 1, 62, bias=False), nn.BatchNorm2d(1)).eval()
    model[0].weight.data.fill_(1.0)
    x = (torch.ones(1, 1, 62, 62) * 242 / 62 / 62).pow(2)
    merged, report = merge_model(model, x)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(x.double())
        error = relative_l2(merged(x).double() - exact, exact)
    least, most = report.runs[0].predicted_error
    assert least * (1 - 1e-6) <= error <= most * (1 + 1e-6)


BLOCKED = {"8": blocked(37, 8), "16": blocked(37, 16), "from the bias": SummationTree((36, blocked(36, 9)))}


@pytest.mark.parametrize("order", BLOCKED.values(), ids=BLOCKED)
def test_predicted_range_covers_other_orders(order):
    """Those that libraries use lie between the shortest running sums and the longest, but for chance."""
    draw = torch.Generator().manual_seed(3)
    kernel = Kernel(torch.randn(8, 4, 3, 3, generator=draw), 5 * torch.randn(8, generator=draw))
    x, layer = torch.randn(1, 4, 12, 12, generator=draw), Layer(8, 3, bias=True).expand(2)
    how = Accumulation(order, 24)
    y = direct(x.double(), Kernel(*(part.double() for part in kernel)), layer)
    whole = Kernel(*(part.double() for part in kernel))
    own = layer_error(x.double(), whole, layer, torch.float32, how, torch.ones(y.shape, dtype=torch.bool))
    least, most = linear_lasagna.models.predicting.predicted(x, kernel, layer)
    assert least / 1.1 < relative_l2(own.mean, y) < most * 1.1


def test_predicted_range_covers_sums_over_channels_first():
    """All channels at a tap before the next tap: five taps add up before four take most of it away again."""
    draw = torch.Generator().manual_seed(4)
    signs = torch.tensor([1.0, 1, 1, 1, 1, -1, -1, -1, -1]).view(1, 1, 3, 3)
    kernel = Kernel(signs * (1 + torch.rand(8, 32, 3, 3, generator=draw)))
    x, layer = 1 + torch.rand(1, 32, 8, 8, generator=draw), Layer(8, 3).expand(2)
    terms = nn.functional.unfold(x, 3)[0].view(32, 9, 1, -1) * kernel.weight.permute(1, 2, 3, 0).reshape(32, 9, 8, 1)
    total = torch.zeros_like(terms[0, 0])
    for tap in range(9):
        for channel in range(32):
            total = total + terms[channel, tap]
    exact = direct(x.double(), Kernel(kernel.weight.double()), layer).flatten(2)[0]
    least, most = linear_lasagna.models.predicting.predicted(x, kernel, layer)
    assert least / 1.1 < relative_l2(total.double() - exact, exact) < most * 1.1


def seconds(before, after):
    """A stand-in for `measure` that calls everything once, and says that it took so long."""

    def measure(build, **_):
        calls = build(0)
        first, again, merged = (calls[name]() for name in ("before", "control", "after"))
        assert torch.equal(first, again)
        assert first.shape == merged.shape
        samples = {"before": before, "control": before, "after": after}
        blocks = {name: [[value] * 3] * 12 for name, value in samples.items()}
        return Timing(blocks, {}, {}, {}, 0.0, 0.0)

    return measure


@pytest.mark.parametrize("after", [0.5, 2.0])
def test_measured_run(monkeypatch, after):
    """A run that is slower merged is left, whatever the operation count says."""
    monkeypatch.setattr(linear_lasagna.models.measuring, "measure", seconds(1.0, after))
    model, x = trained(SESR(4, 64), dtype=torch.float32), drawn(1, 4, 8, 8, dtype=torch.float32)
    merged, report = merged_of(model, x, measure=True)
    (run,) = report.runs
    assert (run.measured.seconds_before, run.measured.seconds_after) == (1.0, after)
    assert run.measured.comparison.ratio == pytest.approx(after)
    assert (run.left is None) == (after < 1)
    assert ("expand" in dict(merged.named_modules())) == (after > 1)
    for error in (run.measured.error_before, run.measured.error_after):
        assert 2**-26 < error < 2**-21
    assert f"×{after:.3g} [{after:.3g}, {after:.3g}]" in str(report) or after > 1


def test_measured_sum_of_which_one_term_is_not_linear(monkeypatch):
    class Partly(SESR):
        def forward(self, x):
            return self.squeeze(self.expand(x)) + self.activation(x) + x

    monkeypatch.setattr(linear_lasagna.models.measuring, "measure", seconds(1.0, 0.5))
    model, x = trained(Partly(4, 64), dtype=torch.float32), drawn(1, 4, 8, 8, dtype=torch.float32)
    _, report = merged_of(model, x, measure=True)
    (run,) = report.merged
    assert run.measured.error_before < 2**-21
    assert run.measured.error_after < 2**-21


def test_runs_of_several_layers_are_planned_by_time_where_times_are_asked_for(monkeypatch):
    """By a planner that finds merging slower: what the operation count would merge is left."""
    asked = []

    def planned(problem, *where, cost="operations"):
        asked.append((problem.batch, where, cost))
        return Plan(problem, cost, ((0, 1), (1, 2)), 0.001, 0.001, 0.0025)

    model, x = trained(nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 2, 1))), drawn(3, 2, 8, 8)
    monkeypatch.setattr(linear_lasagna.models.deciding, "plan", planned)
    _, report = merge_model(model, x, measure=True)
    assert asked == [(3, ("cpu", torch.float64), "measured")]
    assert report.runs[0].left == "merging pays nowhere; all of it as one takes 2.5 ms instead of 1"


PADDED_PAIR = (nn.Conv2d(2, 32, 3, padding=1), nn.Conv2d(32, 2, 3, padding=1))


def test_a_padded_run_on_a_small_image_is_left(counting_machine):
    """The report says what runs: the layers, because the border's calls cost more than merging saves here."""
    merged, report = merged_of(trained(nn.Sequential(*PADDED_PAIR)), drawn(1, 2, 24, 24))
    assert len(computed(merged)) == 2
    assert report.operations_after == report.operations_before == 24 * 24 * 2 * 9 * 2 * 32
    assert report.runs[0].left.startswith("its border takes longer than merging saves here; all of it")


def test_a_padded_run_is_timed_and_the_report_says_so(monkeypatch, tmp_path):
    """In the model's own dtype; what the budget leaves no time for is left."""
    asked = []

    def timed(chain, in_channels, dtype, device, batch, left_s):
        asked.append((len(chain), in_channels, dtype, device, batch))
        return Costs(*(Curve((1.0,), (seconds,)) for seconds in (1.0, 0.1, 0.1)), doubt=0.0)

    monkeypatch.setenv("LASAGNA_CACHE", str(tmp_path))
    monkeypatch.setattr(calibration, "_known", {})
    monkeypatch.setattr(calibration, "measured", timed)
    model, x = trained(nn.Sequential(*PADDED_PAIR)), drawn(3, 2, 25, 25)
    _, report = merge_model(model, x)
    assert report.runs[0].left.startswith("whether its border pays was not timed; all of it")
    assert (report.calibrated, asked) == (0, [])
    monkeypatch.setenv("LASAGNA_CALIBRATION_S", "5")
    merged, report = merge_model(model, x)
    assert merged.get_submodule(report.runs[0].modules[0]).plan((25, 25), 3) is not None
    assert asked == [(2, 2, x.dtype, "cpu", 4), (2, 2, x.dtype, "cpu", 1)]  # several images, as in the example; one
    assert report.calibrated == 1
    assert str(report).endswith("1 padded stack was timed for 0.0 s; the times are kept for this machine")


def test_what_no_module_can_merge_is_not_reported_as_merged():
    """A stride of 20 leaves too many alignments of the border: the layers would run."""
    modules = (nn.Conv1d(1, 256, 21, stride=20, padding=1), nn.Conv1d(256, 1, 3, padding=1))
    _, report = merged_of(trained(nn.Sequential(*modules)), drawn(2, 1, 10_000))
    assert report.operations_after == report.operations_before
    assert report.runs[0].left == "merging pays nowhere; all of it as one takes as many operations"


def test_what_was_measured_is_not_overruled_by_the_costs(monkeypatch):
    """A plan by time that merges is followed for inputs of the example's size, and of no other."""

    def planned(problem, *where, cost="operations"):
        return Plan(problem, cost, ((0, 2),), 1.0, 2.0, 1.0)

    monkeypatch.setattr(linear_lasagna.models.deciding, "plan", planned)
    monkeypatch.setattr(linear_lasagna.models.measuring, "measure", seconds(1.0, 0.5))
    merged, report = merged_of(trained(nn.Sequential(*PADDED_PAIR)), drawn(3, 2, 24, 24), measure=True)
    assert report.operations_after < report.operations_before
    assert merged.merged.plan((24, 24), batch=3) is not None
    assert merged.merged.plan((24, 24), batch=1) is None


def test_measured_in_float64_has_no_error(monkeypatch):
    monkeypatch.setattr(linear_lasagna.models.measuring, "measure", seconds(1.0, 0.5))
    model = trained(nn.Sequential(RepVGG(4, 4), ResNet(4)))
    _, report = merged_of(model, drawn(1, 4, 8, 8), measure=True)
    assert [run.measured.error_after for run in report.runs] == [None] * 3


def test_given_model_is_left_alone():
    model, x = trained(nn.Sequential(RepVGG(4, 4), SESR(4, 64))), drawn(1, 4, 8, 8)
    kept = copy.deepcopy(model.state_dict())
    merged, _ = merge_model(model, x)
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.zero_()
    assert kept.keys() == model.state_dict().keys()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_gradients_and_state_dict():
    model, x = trained(nn.Sequential(RepVGG(4, 4), SESR(4, 64))), drawn(1, 4, 8, 8)
    merged, _ = merge_model(model, x)
    merged(x).sum().backward()
    assert all(p.grad is not None for p in merged.parameters())
    other, _ = merge_model(trained(nn.Sequential(RepVGG(4, 4), SESR(4, 64)), seed=5), x)
    other.load_state_dict(merged.state_dict())
    assert torch.equal(other(x), merged(x))


def test_frozen_numbers_and_memory_format_are_kept():
    model = trained(RepVGG(4, 4)).requires_grad_(False).to(memory_format=torch.channels_last)
    merged, _ = merge_model(model, drawn(1, 4, 8, 8))
    assert not any(p.requires_grad for p in merged.parameters())
    assert merged.merged.weight.is_contiguous(memory_format=torch.channels_last)


class Random(nn.Module):
    """Another model with every call."""

    def forward(self, x):
        return x.abs() * torch.rand(())


def normed():
    model = nn.utils.weight_norm(nn.Conv2d(2, 2, 1)).double().eval()
    model(drawn(1, 2, 4, 4))
    return model


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def uncopied():
    model = trained(nn.Conv2d(2, 2, 1))
    model.seen = model.weight * 2  # no leaf
    return model


def with_nan():
    model = trained(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)))
    model[1].running_var[1] = math.nan
    return model


REFUSED = {
    "training": (
        lambda: nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))),
        "'0.1' is a BatchNorm in training mode",
    ),
    "control flow": (Branching, "torch.fx cannot trace this model"),
    "not finite": (with_nan, "'1' has a running_var with numbers that are not finite"),
    "input": (lambda: trained(nn.Conv2d(3, 2, 1)), "cannot compute example_input"),
    "random": (Random, "computes something else as a torch.fx graph"),
    "weight_norm": (normed, "history, as the old weight_norm"),
    "no copy": (uncopied, "cannot be copied"),
    "no image": (lambda: trained(nn.Linear(4, 2)), "example_input has an empty tensor"),
    "no model": (lambda: "model", "merge_model takes an nn.Module, not a str"),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(case):
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refusal:
        merge_model(make(), drawn(0 if case == "no image" else 1, 2, 4, 4))
    assert "\n" not in str(refusal.value)
