"""Convolutions behind nearest-neighbour up-sampling and pixel shuffles: exact on whole numbers, at the border too."""

from itertools import product

import pytest
import torch
from equal_models import computed
from hypothesis import given
from hypothesis import strategies as st
from strategies import integers
from test_operators import NORMS, Written, assert_exact, whole_numbers
from torch import nn
from torch.nn import functional

from linear_lasagna.models import merge_model
from linear_lasagna.models.phases import axis_in_phases, in_phases, kernel_in_phases
from linear_lasagna.problems import Kernel, Layer

FUNCTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@st.composite
def layers(draw):
    """(layer, factors, size of the small image), with an output at least."""
    rank = draw(st.integers(1, 3))
    factors = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    kernel_size = tuple(draw(st.integers(1, 5 if rank < 3 else 3)) for _ in range(rank))
    padding = tuple(draw(st.integers(0, 4)) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    groups, bias = draw(st.sampled_from((1, 2))), draw(st.booleans())
    layer = Layer(4, kernel_size, 1, padding, dilation, groups, bias).expand(rank)
    least = [
        (span - 2 * p + r - 1) // r for span, p, r in zip(layer.effective_kernel_size, padding, factors, strict=True)
    ]
    return layer, factors, tuple(max(1, n) + draw(st.integers(0, 2)) for n in least)


@given(layers())
def test_convolution_in_phases(drawn):
    layer, factors, size = drawn
    weight, x = integers(layer.weight_shape(2), 3, 1), integers((2, 2, *size), 3, 2)
    kernel = Kernel(weight, integers((4,), 3, 3) if layer.bias else None)
    large = functional.interpolate(x, scale_factor=factors)
    convolve = FUNCTIONS[len(size)]
    expected = convolve(large, *kernel, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)
    small, spread, axes = in_phases(layer, factors)
    numbers = kernel_in_phases(kernel, spread, axes)
    assert torch.equal(spread.placed(convolve(x, *numbers, padding=small.padding, groups=small.groups)), expected)


@pytest.mark.parametrize(
    ("kernel_size", "factor", "taps"), [(3, 2, 2), (3, 3, 2), (5, 2, 3), (5, 4, 2), (2, 2, 2), (1, 2, 1)]
)
def test_fewest_taps(kernel_size, factor, taps):
    """As many taps as the phases together reach over numbers that differ."""
    assert axis_in_phases(kernel_size, kernel_size // 2, 1, factor).kernel_size == taps


def test_factors_that_torch_divides_by_exactly():
    """A position's source is found in float32; for these factors that is the whole-number quotient on long axes too."""
    for factor, mode in product(range(2, 9), ("nearest", "nearest-exact")):
        x = torch.arange(3000.0)
        large = functional.interpolate(x.view(1, 1, -1), scale_factor=factor, mode=mode)
        assert torch.equal(large.flatten(), x.repeat_interleave(factor))


UP = {
    "module": lambda rank: nn.Upsample(scale_factor=2),
    "function": lambda rank: lambda x: functional.interpolate(x, scale_factor=3.0, mode="nearest"),
    "exact": lambda rank: lambda x: functional.interpolate(x, None, (1,) * (rank - 1) + (4,), mode="nearest-exact"),
}
BEHIND = {
    "alone": lambda m, y: y,
    "normalisation": lambda m, y: m.norm(y),
    "1 x 1": lambda m, y: m.narrow(m.norm(y) * m.gamma),
    "arithmetic": lambda m, y: 1 - y * m.gamma / 2 + m.beta,
}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("up", UP)
def test_convolution_behind_up_sampling(up, behind, rank):
    """Decoders of U-Nets and of diffusion models, and ESRGAN, arXiv 1809.00219: nearest, then 3 x 3."""
    model = Written(lambda m, x: BEHIND[behind](m, m.wide(m.up(torch.relu(x)))), rank, norm=NORMS[rank](8, eps=0.0))
    model = whole_numbers(model)
    model.norm.running_var.fill_(0.25)
    model.up = UP[up](rank)
    x = integers((2, 2, *(3,) * rank), 3, 1)
    merged, report = assert_exact(model, x, integers((1, 2, *(1,) * rank), 3, 2), integers((1, 2, *(4,) * rank), 3, 3))
    assert len(computed(merged)) == 1
    assert report.notes == ()
    assert report.operations_after < report.operations_before
    assert not [node for node in merged.graph.nodes if node.name.startswith(("up", "interpolate"))]


def test_operations_behind_doubling():
    model = whole_numbers(nn.Sequential(nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(2, 8, 3, padding=1)))
    merged, report = assert_exact(model, integers((1, 2, 6, 6), 3, 1))
    (layer,) = computed(merged)
    assert (layer.out_channels, layer.kernel_size, layer.padding) == (32, (2, 2), (1, 1))
    assert (report.operations_before, report.operations_after) == (2 * 8 * 9 * 144, 2 * 32 * 4 * 49)


def test_zeros_between_up_sampling_and_convolution():
    parts = (
        nn.Conv2d(2, 8, 3, padding=1),
        nn.Upsample(scale_factor=2),
        nn.ZeroPad2d(1),
        nn.Conv2d(8, 2, 3, bias=False),
    )
    _, report = assert_exact(whole_numbers(nn.Sequential(*parts)), integers((2, 2, 4, 4), 3, 1))
    assert report.runs[0].layers == ("0", "1", "2", "3")


# What is computed on the large image still.
LARGE = {
    "read twice": lambda m, x: m.padded(y := functional.interpolate(torch.relu(x), scale_factor=2)) + torch.tanh(0 * y),
    "to a size": lambda m, x: m.padded(functional.interpolate(torch.relu(x), size=(8, 8))),
    "smooth": lambda m, x: m.padded(functional.interpolate(torch.relu(x), scale_factor=2, mode="bilinear")),
    "half a time more": lambda m, x: m.padded(functional.interpolate(torch.relu(x), scale_factor=1.5)),
    "every other position": lambda m, x: m.every_other(functional.interpolate(torch.relu(x), scale_factor=2)),
    "overwritten": lambda m, x: m.padded(functional.interpolate(torch.relu(x), scale_factor=2).mul_(torch.tensor(2.0))),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_not_computed_in_phases(name):
    model = whole_numbers(Written(LARGE[name], every_other=nn.Conv2d(2, 2, 3, 2)))
    merged, _ = assert_exact(model, integers((2, 2, 4, 4), 3, 1))
    assert [node for node in merged.graph.nodes if node.name.startswith("interpolate")]
    assert [layer.kernel_size for layer in computed(merged)] == [(3, 3)]


def test_two_convolutions_behind_up_sampling():
    """The second is padded on the large image: it follows what was put in place."""
    parts = (nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1))
    merged, _ = assert_exact(whole_numbers(nn.Sequential(*parts)), integers((2, 2, 4, 4), 3, 1))
    assert [layer.kernel_size for layer in computed(merged)] == [(2, 2), (3, 3)]


SHUFFLED = {
    "normalisation": lambda m, y: m.norm(y),
    "fewer channels": lambda m, y: m.narrow(y),
    "all": lambda m, y: m.narrow(m.norm(y) * m.gamma + m.beta) - 1,
}


@pytest.mark.parametrize("shuffle", [nn.PixelShuffle(2), lambda y: functional.pixel_shuffle(y, 2)])
@pytest.mark.parametrize("name", SHUFFLED)
def test_pixel_shuffle(name, shuffle):
    """Super-resolution: a convolution, a pixel shuffle, and what is pointwise behind it (arXiv 1609.05158)."""
    parts = {"many": nn.Conv2d(2, 32, 3, padding=1), "norm": nn.BatchNorm2d(8, eps=0.0)}
    model = whole_numbers(Written(lambda m, x: SHUFFLED[name](m, m.shuffle(m.many(torch.relu(x)))), **parts))
    model.norm.running_var.fill_(0.25)
    model.shuffle = shuffle
    merged, report = assert_exact(model, integers((2, 2, 3, 3), 3, 1), integers((1, 2, 2, 5), 3, 2))
    assert len(computed(merged)) == 1
    assert report.notes == ()
    assert not [node for node in merged.graph.nodes if node.name.startswith(("shuffle", "pixel_shuffle"))]


def test_branches_behind_a_pixel_shuffle():
    """They are one convolution of what was put in place, not of what is in front of it."""
    parts = {"many": nn.Conv2d(2, 32, 1), "shuffle": nn.PixelShuffle(2), "norm": nn.BatchNorm2d(8, eps=0.0)}
    parts["last"] = nn.Conv2d(8, 2, 3, padding=1)
    model = whole_numbers(Written(lambda m, x: m.last(y := m.norm(m.shuffle(m.many(x)))) + m.narrow(y), **parts))
    model.norm.running_var.fill_(0.25)
    merged, _ = assert_exact(model, integers((2, 2, 3, 3), 3, 1))
    assert [layer.kernel_size for layer in computed(merged)] == [(1, 1), (3, 3)]


@pytest.mark.parametrize("last", [nn.Conv2d(8, 2, 3, padding=1), nn.Conv2d(8, 9, 1)])
def test_pixel_shuffle_that_stays(last):
    model = whole_numbers(nn.Sequential(nn.Conv2d(2, 32, 3, padding=1), nn.PixelShuffle(2), last))
    _, report = assert_exact(model, integers((2, 2, 3, 3), 3, 1))
    assert [note.layers for note in report.notes if "ends a run" in note.reason] == [("1",)]


def test_gradients_in_phases():
    model = whole_numbers(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, padding=1)))
    merged, _ = merge_model(model, integers((2, 2, 4, 4), 3, 1))
    ours, theirs = (integers((2, 2, 4, 4), 3, 1).requires_grad_() for _ in range(2))
    merged(ours).square().sum().backward()
    model(theirs).square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_measured_and_with_its_errors():
    """In float32, with measured times: what was put in place is compared, not what the convolution gives."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1)
    ).eval()
    x = torch.randn(1, 2, 6, 6)
    merged, report = merge_model(model, x)
    (run,) = report.runs
    assert run.out_shape == (4, 12, 12)
    assert run.errors.after < 1e-6
    assert run.certificate is not None
    with torch.no_grad():
        torch.testing.assert_close(merged(x), model(x), rtol=1e-5, atol=1e-6)
