"""BatchNorm of a linear layer's rows folds into the layer."""

import pytest
import torch
from blocks import drawn, trained
from equal_models import batchnorms
from torch import nn

from linear_lasagna.models import merge_model


class Rows(nn.Module):
    """As LeViT writes it. back: gives the rows their shape again."""

    def __init__(self, back, bias=True):
        super().__init__()
        self.linear, self.bn, self.back = nn.Linear(4, 6, bias=bias), nn.BatchNorm1d(6), back

    def forward(self, x):
        x = self.linear(x)
        return self.back(self.bn(x.flatten(0, 1)), x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("back", [lambda y, x: y.reshape_as(x), lambda y, x: y.view_as(x), lambda y, x: y])
def test_it_folds(back, bias):
    model = trained(nn.Sequential(Rows(back, bias), nn.Hardswish()))
    merged, report = merge_model(model, drawn(2, 5, 4))
    assert not batchnorms(merged)
    assert ("0.linear", "0.bn") in [note.layers for note in report.notes]
    torch.testing.assert_close(merged(drawn(3, 2, 4)), model(drawn(3, 2, 4)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("back", [lambda y, x: y.reshape_as(x) + x, lambda y, x: x.sigmoid().reshape_as(y)])
def test_it_stays_where_the_rows_are_used_without_it(back):
    model = trained(nn.Sequential(Rows(back), nn.Hardswish()))
    merged, _ = merge_model(model, drawn(2, 5, 4))
    torch.testing.assert_close(merged(drawn(2, 5, 4)), model(drawn(2, 5, 4)), rtol=1e-12, atol=1e-13)
