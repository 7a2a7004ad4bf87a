"""The suite's own models: what their authors' formulas make of them is the same function, and no less than merging."""

import pytest
import torch
from blocks import drawn
from torch import nn

from linear_lasagna.models import merge_model
from linear_lasagna.models.designs import DESIGNS, Branches, RepMixer, SESRBlock, by_authors, disturbed
from linear_lasagna.models.trying import Counting

BLOCKS = {
    "RepVGG": lambda: Branches(4, 4),
    "RepVGG with stride": lambda: Branches(4, 6, stride=2),
    "MobileOne, depthwise": lambda: Branches(4, 4, groups=4, repeated=3),
    "MobileOne, pointwise": lambda: Branches(4, 6, kernel_size=1, repeated=3),
    "SESR": lambda: SESRBlock(4, 4, inner=16),
    "SESR without a skip": lambda: SESRBlock(4, 2, 5, inner=16),
    "RepMixer": lambda: RepMixer(4),
}


def counts(model, x):
    counted = Counting()
    with torch.no_grad(), counted:
        y = model(x)
    return (counted.convolutions, counted.norms, counted.additions), y


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_becomes_one_convolution_by_either(name):
    torch.manual_seed(0)
    model, x = disturbed(nn.Sequential(BLOCKS[name]())).double().eval(), drawn(2, 4, 9, 9)
    before, y = counts(model, x)
    assert sum(before) > 1
    for single in (by_authors(model), merge_model(model, x)[0]):
        after, z = counts(single, x)
        assert after == (1, 0, 0)
        torch.testing.assert_close(z, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_whole_model_is_the_same_by_its_authors_formulas(name):
    model, x = DESIGNS[name].build().double(), DESIGNS[name].draw()[..., :32, :32].double()
    before, y = counts(model, x)
    again, z = counts(by_authors(model), x)
    torch.testing.assert_close(z, y, rtol=1e-9, atol=1e-9 * float(y.abs().max()))
    assert (sum(again) < sum(before)) == (name != "resnet18")
    assert torch.equal(counts(DESIGNS[name].build().double(), x)[1], y)


def test_norms_look_trained():
    norm = disturbed(nn.BatchNorm2d(64))
    assert float(norm.running_var.min()) > 0.5
    assert all(
        float(each.detach().std()) > 0.05 for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
