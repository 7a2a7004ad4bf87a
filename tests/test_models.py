"""merge_model: published blocks become one convolution each, what is not linear stays, and the numbers stay equal."""

import pytest
import torch
from blocks import SESR, ExpandNet, MobileOne, RepVGG, ResNet, drawn, trained
from equal_models import CONVOLUTIONS, assert_same, batchnorms, computed, merged_of
from torch import nn

from linear_lasagna.models import merge_model

# name -> (block, channels, what its convolutions shall be: (in, out, kernel, stride, padding, groups))
BLOCKS = {
    "RepVGG": (lambda: RepVGG(6, 6), 6, [(6, 6, 3, 1, 1, 1)]),
    "RepVGG, stride 2": (lambda: RepVGG(4, 8, stride=2), 4, [(4, 8, 3, 2, 1, 1)]),
    "RepVGG, wider": (lambda: RepVGG(4, 8), 4, [(4, 8, 3, 1, 1, 1)]),
    "RepVGG, groups": (lambda: RepVGG(6, 6, groups=2), 6, [(6, 6, 3, 1, 1, 2)]),
    "MobileOne": (lambda: MobileOne(6, 6), 6, [(6, 6, 3, 1, 1, 6), (6, 6, 1, 1, 0, 1)]),
    "MobileOne, stride 2": (lambda: MobileOne(4, 6, stride=2), 4, [(4, 4, 3, 2, 1, 4), (4, 6, 1, 1, 0, 1)]),
    "ExpandNet": (lambda: ExpandNet(3, 4, 16), 3, [(3, 4, 3, 1, 1, 1)]),
    "SESR": (lambda: SESR(4, 64), 4, [(4, 4, 3, 1, 1, 1)]),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", BLOCKS)
def test_block_becomes_one_convolution(name, dtype):
    make, channels, expected = BLOCKS[name]
    model, x = trained(make(), dtype=dtype), drawn(2, channels, 9, 8, dtype=dtype)
    merged, report = merged_of(model, x)
    found = [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.padding[0], m.groups) for m in computed(merged)
    ]
    assert found == expected
    assert not batchnorms(merged)
    assert report.operations_after < report.operations_before
    assert {p.dtype for p in merged.parameters()} == {dtype}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("size", [(5, 5), (1, 4), (16, 17)], ids=str)
def test_other_sizes_than_the_examples(name, size):
    make, channels, _ = BLOCKS[name]
    model = trained(make())
    merged, _ = merge_model(model, drawn(1, channels, 12, 12))
    assert_same(merged, model, drawn(3, channels, *size))


def test_stack_of_blocks():
    model = nn.Sequential(RepVGG(3, 8, stride=2), nn.Sequential(RepVGG(8, 8), RepVGG(8, 8)), nn.Dropout(), SESR(8, 64))
    merged, report = merged_of(trained(model), drawn(1, 3, 16, 16))
    assert len(computed(merged)) == len(report.runs) == len(report.merged) == 4


def test_blocks_without_activation_collapse_across():
    """SESR's blocks and their residuals are linear: two of them with a wide border-free inside are one 5 x 5."""

    class Linear(SESR):
        def forward(self, x):
            return self.squeeze(self.expand(x)) + x

    model = trained(nn.Sequential(Linear(2, 64), nn.Identity(), nn.Conv2d(2, 64, 3), nn.Conv2d(64, 2, 1)))
    merged, report = merged_of(model, drawn(1, 2, 12, 12))
    assert [m.kernel_size for m in computed(merged)] in ([(3, 3), (3, 3)], [(5, 5)])
    assert len(report.runs) == 1


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_rank(rank):
    convolution, normalisation = CONVOLUTIONS[rank - 1], (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    inside = nn.Sequential(convolution(2, 32, 3, padding=1, bias=False), normalisation(32), convolution(32, 2, 1))

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.normalisation = inside, normalisation(2)

        def forward(self, x):
            return torch.add(self.normalisation(x), self.inside(x))

    merged, _ = merged_of(trained(Residual()), drawn(2, 2, *(6,) * rank))
    (only,) = computed(merged)
    assert only.kernel_size == (3,) * rank


def test_nothing_to_merge_in_a_residual_network_but_batchnorm():
    model = trained(nn.Sequential(ResNet(4), ResNet(4)))
    merged, report = merged_of(model, drawn(1, 4, 8, 8))
    assert len(computed(merged)) == 4
    assert not batchnorms(merged)
    assert [run.layers for run in report.runs] == [
        (f"{block}.conv{n}", f"{block}.bn{n}") for block in "01" for n in "12"
    ]
    saved = 4 * 4 * 8 * 8  # one multiplication for each output of each BatchNorm
    assert report.operations_before - report.operations_after == saved


def test_padding_between_makes_a_border(counting_machine):
    """Two padded 3 x 3 with a wide middle: one 5 x 5 inside, and the stack's own numbers at the border."""
    model = trained(nn.Sequential(nn.Conv2d(2, 32, 3, padding=1), nn.Conv2d(32, 2, 3, padding=1)))
    merged, report = merged_of(model, drawn(1, 2, 320, 320))
    assert type(merged.merged) not in CONVOLUTIONS
    assert merged.merged.plan((320, 320)) is not None
    assert report.operations_after < report.operations_before
    assert report.runs[0].predicted_error is not None


class Twice(nn.Module):
    """One convolution, used twice in a row: its numbers are there once, and are merged with themselves."""

    def __init__(self, between=None):
        super().__init__()
        self.conv, self.wide, self.between = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 64, 1), between or nn.Identity()
        self.narrow = nn.Conv2d(64, 2, 1)

    def forward(self, x):
        x = self.narrow(self.wide(self.conv(x)))
        return self.narrow(self.wide(self.conv(self.between(x))))


@pytest.mark.parametrize("between", [None, nn.ReLU()])
def test_module_that_is_used_twice(between):
    merged, report = merged_of(trained(Twice(between)), drawn(1, 2, 9, 9))
    assert len(report.runs) == (2 if between else 1)
    assert "wide" not in dict(merged.named_modules())


def test_image_that_is_smaller_than_the_merged_kernel():
    """Its one convolution pads all around: no output sees the image alone."""
    model = nn.Sequential(nn.Conv2d(2, 64, 1, bias=False), nn.Conv2d(64, 2, 3, padding=1))
    merged, _ = merged_of(trained(model), drawn(1, 2, 1, 1))
    assert [m.padding for m in computed(merged)] == [(1, 1)]
