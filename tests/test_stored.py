"""How merged numbers are stored: in another dtype, as two parts, with the sums over their taps kept."""

import copy

import pytest
import torch
from blocks import drawn
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS
from torch import nn

from linear_lasagna.formats import ulp, unit_roundoff
from linear_lasagna.merging import certify, merge
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.fitting import Scaled
from linear_lasagna.merging.split import Split
from linear_lasagna.merging.tap_sums import kept_sums
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models import merge_model

HALF, BRAIN = torch.float16, torch.bfloat16


def stack(rank=2, groups=1, padding=0, bias=True, channels=4):
    torch.manual_seed(0)
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    wide = convolution(channels, 8 * channels, 3, padding=padding, groups=groups, bias=bias)
    narrow = convolution(8 * channels, channels, 3, padding=padding, groups=groups, bias=bias)
    return nn.Sequential(wide, narrow).requires_grad_(False)


@pytest.mark.parametrize("dtype", [HALF, BRAIN], ids=str)
def test_merged_before_it_is_cast(dtype):
    """The float64 kernel rounded, not the product of rounded layers."""
    given = stack()
    merged, exact = merge(given, dtype=dtype), merge(copy.deepcopy(given).double())
    assert merged.weight.dtype is merged.bias.dtype is dtype
    assert bool(((merged.weight.double() - exact.weight).abs() <= 0.5001 * ulp(exact.weight, dtype)).all())
    assert not torch.equal(merged.weight, merge(copy.deepcopy(given).to(dtype)).weight)
    assert given[0].weight.dtype is torch.float32


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_split_weights(rank, groups):
    given, size = stack(rank, groups), (7,) * rank
    merged, exact = merge(given, dtype=BRAIN, split=True), merge(copy.deepcopy(given).double())
    assert type(merged) is Split
    high, low = merged.used()
    left = high.weight.double() + low.weight.double() - exact.weight
    assert bool((left.abs() <= 1.01 * unit_roundoff(BRAIN) ** 2 * exact.weight.abs()).all())
    x = drawn(2, 4, *size).to(BRAIN)
    error = (merged(x).double() - exact(x.double())).abs().transpose(0, 1).flatten(1).amax(1)
    assert bool((error <= torch.tensor(certify(merged, given, float(x.abs().max())).wide_bounds)).all())
    assert relative_l2(merged(x).double() - exact(x.double()), exact(x.double())) < 0.7 * unit_roundoff(BRAIN)
    torch.testing.assert_close(merged(x[0]), merged(x)[0], rtol=0.02, atol=0.02)


def test_split_weights_that_are_small_are_made_larger():
    """In float16, where low parts of weights of 2**-12 would have no bits left."""
    given = stack()
    given[1].weight.mul_(2.0**-8)
    merged, exact = merge(given, dtype=HALF, split=True), merge(copy.deepcopy(given).double())
    assert type(merge(given, dtype=HALF)) is nn.Conv2d
    assert type(merged) is Scaled
    weight = sum(part.weight.double() for part in merged.convolution.used()) * merged.scale.double()[..., None]
    assert relative_l2(weight - exact.weight, exact.weight) < 2.0**-15


def test_split_inside_the_border():
    given, x = stack(padding=1), drawn(1, 4, 24, 24)
    merged, exact = merge(given, dtype=BRAIN, split=True), copy.deepcopy(given).double()(x.to(BRAIN).double())
    assert isinstance(merged, BorderExact)
    merged.settle((24, 24))
    single = merge(given, dtype=BRAIN)
    single.settle((24, 24))
    inside = (..., slice(4, -4), slice(4, -4))
    errors = [relative_l2((m(x.to(BRAIN)).double() - exact)[inside], exact[inside]) for m in (merged, single)]
    assert errors[0] < 0.7 * unit_roundoff(BRAIN)
    assert errors[0] < errors[1]


def test_a_split_module_can_be_saved_and_compiled():
    torch._dynamo.reset()
    for padding in (0, 1):
        merged, x = merge(stack(padding=padding), dtype=BRAIN, split=True), drawn(1, 4, 12, 12).to(BRAIN)
        if padding:
            merged.settle((12, 12))
        other = copy.deepcopy(merged)
        assert other.load_state_dict(merged.state_dict()).missing_keys == []
        assert torch.equal(other(x), merged(x))
    assert torch.equal(torch.compile(merged, fullgraph=True, backend="aot_eager")(x), merged(x))


@given(seed=SEEDS, taps=st.integers(1, 25), dtype=st.sampled_from((HALF, BRAIN)), spread=st.integers(0, 12))
def test_kept_sums(seed, taps, dtype, spread):
    """Every number is one of the two next to the weight; sums are no further off; ones that are exact stay so."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 2, taps, generator=generator, dtype=torch.float64)
    weight = weight * 2.0 ** -torch.randint(0, spread + 1, weight.shape, generator=generator)
    kept, nearest = kept_sums(weight, dtype), weight.to(dtype).double()
    assert torch.equal(kept, kept.to(dtype).double())
    assert bool(((kept - weight).abs() < 1.0001 * ulp(weight, dtype)).all())
    off, before = ((each - weight).sum(-1).abs() for each in (kept, nearest))
    assert bool((off <= before).all())
    assert torch.equal(kept_sums(nearest, dtype), nearest)


def test_kept_sums_are_mostly_exact():
    """Of 5 x 5 taps of one size: to half an ulp, where rounding to nearest is off by 1.4 in the root mean square."""
    weight = 1 + torch.rand(32, 32, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    off = (kept_sums(weight, BRAIN) - weight).flatten(2).sum(2)
    assert float(off.abs().max()) <= 2.0**-8 * 1.001
    assert float((weight.to(BRAIN).double() - weight).flatten(2).sum(2).square().mean().sqrt()) > 2.0**-7


def test_tap_sums_and_smooth_images():
    """A constant image sees the sums alone."""
    given, x = stack(bias=False, channels=16), torch.ones(1, 16, 9, 9, dtype=BRAIN)
    exact = copy.deepcopy(given).double()(x.double())
    with torch.no_grad():
        kernels = {r: merge(given, dtype=BRAIN, rounding=r).double() for r in ("nearest", "taps")}
        errors = {r: relative_l2(kernel(x.double()) - exact, exact) for r, kernel in kernels.items()}
    assert errors["taps"] < errors["nearest"] / 2


def test_numbers_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="rounding must be one of nearest, taps, not 'up'"):
        merge(stack(), rounding="up")
    with pytest.raises(ValueError, match=r"dtype must be one of .*, not torch.int32"):
        merge_model(stack(), drawn(1, 4, 9, 9).float(), dtype=torch.int32)


class Mixed(nn.Module):
    """Asks for a dtype of its own."""

    def __init__(self):
        super().__init__()
        self.stack, self.last = stack(), nn.Linear(5, 5)

    def forward(self, x):
        return self.last(self.stack(x).float())


def model():
    """A linear block: more channels inside than outside, a BatchNorm between."""
    torch.manual_seed(0)
    given = nn.Sequential(
        nn.Conv2d(16, 128, 3, bias=False), nn.BatchNorm2d(128), nn.Conv2d(128, 16, 3), nn.ReLU()
    ).eval()
    given[1].running_mean, given[1].running_var = torch.randn(128), 0.5 + torch.rand(128)
    return given.requires_grad_(False)


@pytest.mark.parametrize("split", [False, True])
def test_a_model_is_merged_before_it_is_cast(split):
    """Its error against the float32 weights is smaller than that of what was cast and then merged."""
    given, x = model(), drawn(1, 16, 32, 32).to(BRAIN)
    exact = copy.deepcopy(given).double()(x.double())
    merged, report = merge_model(given, x.float(), dtype=BRAIN, split=split)
    assert {p.dtype for p in merged.parameters()} == {BRAIN}
    assert len(report.merged) == 1
    late, _ = merge_model(copy.deepcopy(given).to(BRAIN), x)
    errors = [relative_l2(each(x).double() - exact, exact) for each in (merged, late)]
    assert errors[0] < 0.8 * errors[1]
    for run in report.runs:
        assert run.certificate is not None
        assert run.errors is not None
        assert run.errors.after < run.errors.before
        low, high = run.predicted_error
        assert low / 1.1 < run.errors.after < high * 1.1
    assert (report.operations_after == 2 * merge_model(given, x.float())[1].operations_after) == split


def test_a_model_that_asks_for_a_dtype_itself_is_refused():
    with pytest.raises(ValueError, match=r"the merged model does not run in torch\.bfloat16: "):
        merge_model(Mixed().eval(), drawn(1, 4, 9, 9).float(), dtype=BRAIN)


def test_the_report_says_where_merging_makes_errors_larger():
    """A rounded kernel makes the same error everywhere: of inputs of one sign an average shows it."""
    torch.manual_seed(0)
    given = nn.Sequential(nn.Conv2d(16, 64, 3, bias=False), nn.Conv2d(64, 16, 1, bias=False)).to(BRAIN).eval()
    x = drawn(1, 16, 48, 48).clamp(min=0).to(BRAIN)
    _, report = merge_model(given, x)
    errors = report.runs[0].errors
    assert errors.pooled_after > 2 * errors.pooled_before
    assert "the error after averaging over positions" in errors.larger
    assert errors.larger in str(report)
    certificate = report.runs[0].certificate
    assert f"{certificate.wide_relative:.1e} ({certificate.relative:.1e})" in str(report)
    _, cured = merge_model(given, x, split=True)
    assert cured.runs[0].errors.pooled_after < errors.pooled_after / 2
    assert cured.runs[0].errors.larger is None or "averaging" not in cured.runs[0].errors.larger
