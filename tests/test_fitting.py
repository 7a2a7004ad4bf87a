"""Merged numbers that leave the format: rescaled by powers of two, refused where these do not help."""

import copy
import re

import pytest
import torch
from blocks import drawn, trained
from equal_models import merged_of
from torch import nn

from linear_lasagna.formats import LEAST_EXPONENT, unit_roundoff
from linear_lasagna.merging import certify, merge
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.fitting import TOGETHER, Scaled, fitted
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models import merge_model

HALF = torch.float16


def pair(scale, padding=0, dtype=HALF, bias=False, channels=8):
    """A wide middle, all numbers times `scale`."""
    torch.manual_seed(0)
    kernel_size, inner = 2 * padding + 1, 16 * channels
    first = nn.Conv2d(channels, inner, kernel_size, padding=padding, bias=bias, dtype=torch.float64)
    model = nn.Sequential(first, nn.Conv2d(inner, channels, 3, padding=padding, bias=bias, dtype=torch.float64))
    for parameter in model.parameters():
        parameter.data *= scale
    return model.to(dtype).eval()


@torch.no_grad()
def errors(model, merged, x):
    """Relative L2 errors of both against float64 arithmetic on the model's numbers."""
    exact = copy.deepcopy(model).double()(x.double())
    return [relative_l2(module(x).double() - exact, exact) for module in (model, merged)]


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("scale", [2.0**-exponent for exponent in (0, 4, 6, 8, 11)])
@pytest.mark.parametrize("bias", [False, True])
def test_small_weights_are_as_exact_merged_as_apart(scale, padding, bias):
    """Without a rescaling the error is 5 to 200 times the stack's from 2**-6 on."""
    model, x = pair(scale, padding, bias=bias), drawn(1, 8, 12, 12).div(scale).clamp(-60000, 60000).half()
    merged = merge(model)
    if padding:
        merged.settle((12, 12))
    apart, together = errors(model, merged, x)
    assert together < 1.5 * max(apart, unit_roundoff(HALF))


def test_only_what_needs_it_is_rescaled():
    assert type(merge(pair(1.0))) is nn.Conv2d
    assert merge(pair(1.0, padding=1)).scale is None
    assert type(merge(pair(2.0**-8))) is Scaled
    assert type(merge(pair(2.0**-8, dtype=torch.bfloat16))) is nn.Conv2d
    assert type(merge(pair(2.0**-8, dtype=torch.float32))) is nn.Conv2d
    assert type(merge(pair(2.0**-70, dtype=torch.bfloat16))) is Scaled


def test_a_channel_that_needs_it_is_rescaled_alone():
    model = pair(1.0)
    model[1].weight.data[3] *= 2.0**-13
    merged = merge(model)
    assert merged.scale.flatten()[3] < 1
    assert merged.scale.flatten().ne(1).nonzero().tolist() == [[3]]
    x = drawn(1, 8, 8, 8).half()
    with torch.no_grad():
        found, exact = (y[:, 3].double() for y in (merged(x), copy.deepcopy(model).double()(x.double())))
    assert relative_l2(found - exact, exact) < 2.0**-9  # its outputs are near the least normal number themselves


def test_the_error_of_channels_rescaled_each_by_its_own_power_is_predicted():
    """Four channels are loud and exact; the others must not count as if they were as loud as their weights now are."""
    model = pair(1.0)
    model[0].weight.data[:] = 0.75 * torch.eye(8).repeat(16, 1)[..., None, None]
    model[1].weight.data[:4] = 2.0**-3
    model[1].weight.data[4:] *= 2.0**-13
    x = torch.ones(1, 8, 12, 12, dtype=HALF)
    merged, report = merge_model(model, x)
    assert report.runs[0].modules == ("merged",)
    assert merged.merged_scale.unique().numel() > 1
    measured = errors(model, merged, x)[1]
    low, high = report.runs[0].predicted_error
    assert 0 < low / 2 <= measured <= high * 2
    assert high < 2.0**-20


@torch.no_grad()
@pytest.mark.parametrize("bias", [False, True])
def test_scales_are_powers_of_two_and_keep_every_output_finite(bias):
    """Weights and bias times a power of two, rounded; and with the worst input half of the range is not left."""
    model = pair(2.0**-8, bias=bias)
    merged, wide = merge(model), merge(copy.deepcopy(model).double())
    fraction, exponent = torch.frexp(merged.scale.double())
    assert bool((fraction == 0.5).all())
    assert bool((exponent > LEAST_EXPONENT[HALF]).all())
    back = merged.convolution.weight.double() * merged.scale.double()[..., None]
    assert bool((back - wide.weight).norm() <= unit_roundoff(HALF) * wide.weight.norm())
    largest = torch.finfo(HALF).max
    for channel in range(8):
        x = torch.where(wide.weight[channel : channel + 1] < 0, -largest, largest).half()
        y = merged.convolution(x)[0, channel]
        assert largest / 8 < float(y) < largest * 0.51
        if bias:
            continue
        assert float(merged(x)[0, channel]) == pytest.approx(float(wide(x.double())[0, channel]), rel=2.0**-10)


def test_a_rescaled_module_can_be_saved_and_compiled():
    torch._dynamo.reset()
    for padding in (0, 1):
        merged, x = merge(pair(2.0**-8, padding)), drawn(1, 8, 12, 12).half()
        if padding:
            merged.settle((12, 12))
        other = copy.deepcopy(merged)
        assert other.load_state_dict(merged.state_dict()).missing_keys == []
        assert torch.equal(other(x), merged(x))
        assert torch.equal(torch.compile(merged, fullgraph=True, backend="aot_eager")(x), merged(x))
        assert merged(x[0]).shape == merged(x)[0].shape


def cancelling(size, dtype):
    """0 inside, for what goes right and left again is taken away again; at the left end the way back is cut off."""
    model = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1, bias=False), nn.Conv1d(2, 1, 3, padding=1, bias=False))
    model[0].weight.data = torch.tensor([[[0, 0, size]], [[0, size, 0]]])
    model[1].weight.data = torch.tensor([[[size, 0, 0], [0, -size, 0]]])
    return model.to(dtype)


def biased(first, second, dtype):
    model = nn.Sequential(nn.Conv1d(1, 1, 1), nn.Conv1d(1, 1, 1))
    model[0].weight.data.fill_(0.0)
    model[0].bias.data.fill_(first)
    model[1].weight.data.fill_(second)
    return model.to(dtype)


# name -> (stack, its input's size in numbers); merged numbers overflow.
OVERFLOWING = {
    "float16": (lambda: pair(1e3), 1e-6),
    "bfloat16": (lambda: pair(1e22, dtype=torch.bfloat16), 1e-20),
    "float32": (lambda: pair(1e22, dtype=torch.float32), 1e-20),
    "biased": (lambda: pair(1e3, bias=True), 1e-6),
    "border": (lambda: pair(1e3, padding=1), 1e-6),
    "border alone": (lambda: cancelling(300.0, HALF), 1e-3),
    "bias": (lambda: biased(300.0, 300.0, HALF), 1.0),
}


@torch.no_grad()
@pytest.mark.parametrize("case", OVERFLOWING)
def test_what_overflows_is_made_smaller(case):
    """Nothing is infinite that is not in the stack, and all is within the certificate."""
    make, size = OVERFLOWING[case]
    model = make()
    dtype, (channels, *taps) = model[0].weight.dtype, model[0].weight.shape[1:]
    x = drawn(1, channels, *(12 for _ in taps)).mul(size).to(dtype)
    merged = merge(model)
    if isinstance(merged, BorderExact):
        merged.settle(tuple(x.shape[2:]))
    assert float(merged.scale.max()) > 1
    assert all(bool(parameter.isfinite().all()) for parameter in merged.parameters())
    expected, y = copy.deepcopy(model).double()(x.double()), merged(x)
    assert torch.equal(y.isfinite(), expected.abs() <= torch.finfo(dtype).max)
    if not bool(y.isfinite().all()):
        return
    error = (y.double() - expected).abs().transpose(0, 1).flatten(1).amax(1)
    bounds = torch.tensor(certify(merged, model, float(x.abs().max())).wide_bounds)
    assert bool((error <= bounds).all())
    assert (
        relative_l2(y.double() - expected, expected)
        < 2 * unit_roundoff(dtype) * len(model[1].weight[0].flatten()) ** 0.5
    )


def deep(dtype=HALF):
    """1e16 is beyond float16 by more than any of its powers of two."""
    model = nn.Sequential(*(nn.Conv1d(1, 1, 1, bias=False) for _ in range(4)))
    for layer in model:
        layer.weight.data.fill_(1e4)
    return model.to(dtype)


@pytest.mark.parametrize("make", [deep, lambda: pair(1e160, dtype=torch.float64)])
def test_merge_names_the_layers_of_what_no_power_of_two_can_help(make):
    with pytest.raises(ValueError, match=r"^layers 0 to \d: a merged weight (of .* overflows|is not finite)"):
        merge(make())


def test_merge_refuses_what_is_too_small_for_any_rescaling():
    with pytest.raises(ValueError, match=r"^layers 0 to 1: the merged weights are so small that float16"):
        merge(pair(2.0**-14))


class Sum(nn.Module):
    """Of two convolutions of one value."""

    def __init__(self, weight):
        super().__init__()
        self.a, self.b = (nn.Conv1d(1, 1, 1, bias=False) for _ in range(2))
        for module in (self.a, self.b):
            module.weight.data.fill_(weight)

    def forward(self, x):
        return self.a(x) + self.b(x)


def normed(weight, gamma):
    model = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.BatchNorm1d(1))
    model[0].weight.data.fill_(weight)
    model[1].weight.data.fill_(gamma)
    return model


# name -> (model, input, what the report says); every model gives finite numbers.
LEFT = {
    "large": (
        lambda: nn.Sequential(deep(), nn.Sigmoid()),
        lambda: torch.zeros(1, 1, 4),
        r"weight of 1e\+16 overflows float16",
    ),
    "small": (lambda: pair(2.0**-14), lambda: drawn(1, 8, 12, 12) * 1e3, "so small that float16 would change them"),
}


@pytest.mark.parametrize("case", LEFT)
def test_merge_model_leaves_what_the_dtype_cannot_hold(case):
    make, x, reason = LEFT[case]
    model, x = make().half().eval(), x().half()
    with torch.no_grad():
        expected = model(x)
        assert bool(expected.isfinite().all())
        merged, report = merge_model(model, x)
        assert torch.equal(merged(x), expected)
    (run,) = report.runs
    assert re.search(reason, run.left)
    assert run.groups == ()
    assert run.operations_after == run.operations_before


LARGE = {
    "two layers": (lambda: pair(1e3), lambda: drawn(1, 8, 12, 12) * 1e-6),
    "branches": (lambda: Sum(4e4), lambda: torch.full((1, 1, 4), 0.25)),
    "BatchNorm": (lambda: normed(1e3, 1e3), lambda: torch.full((1, 1, 4), 1e-3)),
}


@pytest.mark.parametrize("case", LARGE)
def test_merge_model_rescales_what_overflows(case):
    make, x = LARGE[case]
    model, x = make().half().eval(), x().half()
    merged, report = merge_model(model, x)
    assert "merged_scale" in dict(merged.named_buffers())
    assert report.runs[0].left is None
    assert errors(model, merged, x)[1] < 2 * unit_roundoff(HALF)


def test_merge_model_rescales():
    model, x = pair(2.0**-8), drawn(1, 8, 12, 12).mul(2.0**8).half()
    merged, report = merge_model(model, x)
    assert type(merged.merged) is nn.Conv2d, "its weights are where they are in other merged models"
    assert list(merged.state_dict()) == ["merged_scale", "merged.weight"]
    assert report.runs[0].left is None
    assert errors(model, merged, x)[1] < unit_roundoff(HALF)


def test_merge_model_merges_beside_what_it_leaves():
    model = nn.Sequential(pair(2.0**-14), nn.ReLU(), pair(1.0))
    merged, report = merge_model(model, drawn(1, 8, 12, 12).mul(1e3).half())
    assert [run.left is None for run in report.runs] == [False, True]
    assert type(merged.get_submodule("2.merged")) is nn.Conv2d


def test_bordered_layers_that_would_run_on_small_images_are_looked_at_too(counting_machine):
    """Folded into the first layer, BatchNorm makes it overflow, though all of it merged does not."""
    wide, narrow = nn.Conv2d(2, 32, 3, padding=1, bias=False), nn.Conv2d(32, 2, 3, padding=1, bias=False)
    model = trained(nn.Sequential(wide, nn.BatchNorm2d(32), narrow), dtype=HALF)
    model[0].weight.data.mul_(1e3)
    model[1].weight.data.mul_(1e3)
    model[1].running_mean.zero_()
    model[2].weight.data.mul_(1e-3)
    x = drawn(1, 2, 320, 320).mul(1e-3).half()
    with torch.no_grad():
        assert bool(model(x).isfinite().all())
        merged, report = merge_model(model, x)
        assert torch.equal(merged(x[..., :9, :9]), model(x[..., :9, :9]))
    assert "overflows float16" in report.runs[0].left


def test_a_border_in_a_model_is_rescaled(counting_machine):
    model, x = pair(2.0**-8, padding=1, channels=2), drawn(1, 2, 320, 320).mul(2.0**8).half()
    merged, _ = merge_model(model, x)
    assert isinstance(merged.merged, BorderExact)
    assert merged.merged.plan((320, 320)) is not None
    apart, together = errors(model, merged, x)
    assert together < 1.5 * max(apart, unit_roundoff(HALF))


@pytest.mark.parametrize("place", [0, TOGETHER + 3])
def test_small_weights_are_found_among_many(place):
    convolution = nn.Conv1d(1, TOGETHER + 8, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(convolution.weight)
    convolution.weight.data[::2], convolution.weight.data[place] = 1.0, 1.3 * 2.0**-20
    scaled = fitted(convolution, HALF, torch.device("cpu"))
    assert scaled.scale.flatten().ne(1).nonzero().tolist() == [[place]]


def test_layers_that_are_not_merged_are_cast_for_the_certificate():
    """The first layer is as good alone, the others become one: all in float16."""
    model = trained(nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1))).float()
    x = drawn(2, 8, 12, 12).float()
    merged, report = merge_model(model, x, dtype=HALF)
    (run,) = report.runs
    assert run.groups == (("0",), ("1", "2"))
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(x.half().double())
        lost = (merged(x.half()).double() - exact).abs().amax((0, 2, 3))
    assert bool((lost <= torch.tensor(run.certificate.bounds)).all())
    assert relative_l2(merged(x.half()).double() - exact, exact) < 2 * run.predicted_error.most
    assert model[0].weight.dtype is torch.float32


def test_float64_is_left_alone():
    merged_of(pair(1.0, dtype=torch.float64), drawn(1, 8, 16, 16))
