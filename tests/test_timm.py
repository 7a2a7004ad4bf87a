"""Models that others wrote: timm's, merged, against timm's own re-parametrisation. `make test-timm` installs timm."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from analysis.measure.zoo.packages import PACKAGES, declare_torchvision
from linear_lasagna.models import merge_model
from linear_lasagna.models.designs import disturbed
from linear_lasagna.models.trying import Counting, relative_error

declare_torchvision()
timm = pytest.importorskip("timm")

MODELS = ("repvgg_a0", "mobileone_s0", "fastvit_t8", "ghostnetv3_100", "repghostnet_050", "repvit_m0_9")
PLAIN = ("resnet18", "mobilenetv3_small_050", "efficientnet_lite0")


def counted(model, x):
    """Convolutions, norms, additions and multiply-accumulates of one call."""
    with FlopCounterMode(display=False) as flops, Counting() as counts:
        model(x)
    return counts.convolutions, counts.norms, counts.additions, flops.get_total_flops() // 2


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def made(name):
    torch.manual_seed(0)
    return disturbed(timm.create_model(name)).eval().double(), torch.randn(1, 3, 112, 112, dtype=torch.float64)


@pytest.mark.parametrize("name", MODELS)
def test_as_little_is_left_as_by_the_authors_own_code(name):
    model, x = made(name)
    authors = PACKAGES["timm"].authors(copy.deepcopy(model).float()).double()  # which makes layers in float32
    merged, report = merge_model(model, x, certify=False)
    assert all(ours <= theirs for ours, theirs in zip(counted(merged, x), counted(authors, x), strict=True))
    assert len(report.merged) == len(report.runs) > 0
    assert relative_error([merged(x)], [model(x)]) < 1e-12


@pytest.mark.parametrize("name", PLAIN)
def test_norms_go_where_they_can_be_folded(name):
    model, x = made(name)
    merged, _ = merge_model(model, x, certify=False)
    (convolutions, norms, *rest), before = counted(merged, x), counted(model, x)
    assert norms == 0 < before[1]
    assert (convolutions, *rest) <= (before[0], *before[2:])
    assert relative_error([merged(x)], [model(x)]) < 1e-12
