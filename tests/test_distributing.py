"""BatchNorm behind a concatenation of convolutions is folded into each of them."""

import pytest
import torch
from blocks import drawn, trained
from equal_models import batchnorms, computed
from torch import nn

from linear_lasagna.models import merge_model


class Mixed(nn.Module):
    """As MixNet's: kernels of several sizes, each on some of the channels. other: what else reads the first of them."""

    def __init__(self, norm=True, other=None, middle=None):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.second = nn.Conv2d(4, 5, 5, padding=2, groups=1)
        self.third = nn.Conv2d(2, 2, 1, stride=1)
        self.bn = nn.BatchNorm2d(10, affine=norm)
        self.other, self.middle = other, middle

    def forward(self, x):
        a, b, c = torch.split(x, [2, 4, 2], dim=1)
        first = self.first(a)
        second = self.second(b) if self.middle is None else self.middle(self.second(b))
        y = self.bn(torch.cat([first, second, self.third(c)], 1)).relu()
        return y if self.other is None else y.sum() + self.other(first)


@pytest.mark.parametrize("norm", [True, False])
def test_it_folds_into_every_part(norm):
    model = trained(Mixed(norm))
    merged, report = merge_model(model, drawn(1, 8, 7, 7))
    assert not batchnorms(merged)
    assert len(computed(merged)) == len(report.merged) == 3
    assert [run.layers for run in report.merged] == [(name, f"bn_part_{i}") for i, name in enumerate(NAMES)]
    x = drawn(2, 8, 9, 5, seed=1)
    torch.testing.assert_close(merged(x), model(x), rtol=1e-12, atol=1e-13)


NAMES = ("first", "second", "third")


@pytest.mark.parametrize("other", [{"other": nn.Sigmoid()}, {"middle": nn.Sigmoid()}])
def test_it_stays_one_where_a_part_does_not_fold_it(other):
    model = trained(Mixed(**other))
    merged, _ = merge_model(model, drawn(1, 8, 7, 7))
    assert len(batchnorms(merged)) == 1
    torch.testing.assert_close(merged(drawn(1, 8, 7, 7)), model(drawn(1, 8, 7, 7)), rtol=1e-12, atol=1e-13)
