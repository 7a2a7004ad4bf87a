"""Layers of which rounding is a part, because of their biases: merging warns of them, and of no others."""

import copy
import itertools
import warnings
from dataclasses import replace

import pytest
import torch
from blocks import drawn
from torch import nn

from analysis.precision.digits.construction import RoundedStack
from linear_lasagna import Layer, Problem
from linear_lasagna.catalog import CATALOG
from linear_lasagna.devices import wide
from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.merging import certify, merge
from linear_lasagna.models import merge_model
from linear_lasagna.models.designs import DESIGNS, disturbed
from linear_lasagna.modules import kernel_of
from linear_lasagna.rounding.offsets import ROUNDS, Spread, even, rounding_share, rounds, spread_of

HALF, BRAIN = torch.float16, torch.bfloat16
RANKS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
WARNED = (
    r"^merging changes what .* compute: biases put values where rounding is [0-9.]+ times as large as what outputs "
)


def offset_of(dtype):
    """Around it numbers of the dtype are 1 apart: 1.5 * 2**(p - 1)."""
    return 1.5 * 2.0 ** (SIGNIFICAND_BITS[dtype] - 1)


def on_grid(numbers, step):
    """Multiples of the step, so that float32 sums of products are exact in any order."""
    return (numbers / step).round() * step


def rounding_stack(dtype, rank=2, size=0.3, offset=None):
    """Two layers; the first one's outputs are 1536 or so (offset), and vary by size for inputs that vary by 1; the next
    one's kernels have a sum of zero, so that nothing is left of the offset.
    """
    generator = torch.Generator().manual_seed(rank)
    layers = RANKS[rank](1, 8, 3), RANKS[rank](8, 2, 2)
    first, second = (torch.randn(each.weight.shape, generator=generator, dtype=torch.float64) for each in layers)
    first = on_grid(first * size / first.flatten(1).norm(dim=1).view(-1, *[1] * (rank + 1)), 2**-6)
    second = on_grid(second, 2**-4)
    second.flatten(2)[..., 0] -= second.flatten(2).sum(2)
    biases = torch.full((8,), offset_of(dtype) if offset is None else offset), torch.zeros(2)
    for layer, weight, bias in zip(layers, (first, second), biases, strict=True):
        layer.weight.data, layer.bias.data = weight.to(dtype), bias.to(dtype)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def input_of(stack):
    weight = stack[0].weight
    return on_grid(drawn(1, 1, *[7] * (weight.ndim - 2), dtype=torch.float32), 2**-3).to(weight.dtype)


def warned(call):
    """The warnings of rounding."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught if each.category is RuntimeWarning]


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("dtype", [HALF, BRAIN])
def test_merging_what_rounds_to_integers_gives_another_function(dtype, rank):
    stack = rounding_stack(dtype, rank)
    x = input_of(stack)
    bare = copy.deepcopy(stack).double()
    nn.init.zeros_(bare[0].bias)
    assert torch.equal(wide(stack[0](x)) - offset_of(dtype), bare[0](wide(x)).round())
    with pytest.warns(RuntimeWarning, match=WARNED):
        merged = merge(stack)
    exact = bare(wide(x))
    assert float((wide(merged(x)) - exact).norm()) < 0.02 * float(exact.norm())
    assert float((wide(stack(x)) - exact).norm()) > ROUNDS * float(exact.norm())


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("dtype", SIGNIFICAND_BITS)
def test_it_is_warned_of_in_every_format(dtype, rank):
    """But not without the offset, nor in a wider format."""
    stack = rounding_stack(dtype, rank)
    with pytest.warns(RuntimeWarning, match=WARNED) as caught:
        merged = merge(stack)
    assert caught[0].filename == __file__
    certificate = certify(merged, stack, 1.0)
    assert rounds(certificate.rounding)
    assert str(certificate).endswith("rounding is part of what the layers compute, and is left out")
    assert not rounds(certify(merge(rounding_stack(dtype, rank, offset=0.0)), stack, 1e9).rounding)
    if dtype.itemsize < 8:
        merge(copy.deepcopy(stack).to(torch.float32 if dtype.itemsize == 2 else torch.float64))


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("dtype", [HALF, BRAIN])
def test_models_are_warned_of_once_and_their_report_says_it(dtype, rank):
    stack = rounding_stack(dtype, rank)
    model, x = nn.Sequential(stack, nn.ReLU(), nn.Flatten()), input_of(stack)
    (text,) = warned(lambda: merge_model(model, x))
    assert text.startswith("merging changes what 0.0 + 0.1 compute")
    with pytest.warns(RuntimeWarning, match=WARNED):
        _, report = merge_model(model, x)
    assert rounds(report.runs[0].rounding)
    assert report.to_dict()["runs"][0]["certificate"]["rounding"] == report.runs[0].certificate.rounding
    assert "merging changes what the layers compute" in " ".join(str(report).split())
    merge_model(model.float(), x.float())


@pytest.mark.parametrize("dtype", [HALF, BRAIN])
def test_networks_that_classify_by_rounding_are_warned_of(dtype):
    """As they are drawn, before they are trained; as float32 ones they would be another function anyway."""
    layers = (Layer(8, 3, bias=True), Layer(8, 3, bias=True), Layer(2, 4, bias=True))
    for seed in range(3):
        stack = RoundedStack(Problem("net", 1, 1, (8, 8), layers), dtype, seed).deployed()
        with pytest.warns(RuntimeWarning, match=WARNED):
            merge(stack)
        merge(stack.float())


def test_what_is_to_run_in_sixteen_bits_is_judged_by_them():
    """Float32 layers that are cast when they are merged, and not when they were."""
    stack = rounding_stack(HALF).float()
    with pytest.warns(RuntimeWarning, match="these layers, in float16, compute"):
        merge(stack, dtype=HALF)
    with pytest.warns(RuntimeWarning, match=WARNED):
        merge_model(stack, input_of(stack), dtype=HALF)
    merge(rounding_stack(BRAIN).float(), dtype=HALF)  # in which 192 is an offset like any other


class Shifted(nn.Module):
    """A convolution, what is done with its value, and another convolution."""

    def __init__(self, between, padding=0):
        super().__init__()
        self.first, self.second = rounding_stack(HALF, offset=0.0)
        self.between = between

    def forward(self, x):
        return self.second(self.between(self.first(x)))


class There(nn.Module):
    def forward(self, x):
        return x + 1536


class Back(nn.Module):
    def forward(self, x):
        return x - 1536


def norm(shift):
    """BatchNorm that adds this."""
    made = nn.BatchNorm2d(8, eps=0.0)  # of running variance 1
    nn.init.constant_(made.bias, shift)
    return made


class Apart(nn.Module):
    """Branches of which each rounds, and that give the offset back together."""

    def __init__(self):
        super().__init__()
        self.left, self.right = norm(1536.0), norm(-1536.0)

    def forward(self, x):
        return self.left(x) + self.right(x)


BETWEEN = {
    "added": lambda: There(),
    "added and subtracted": lambda: nn.Sequential(There(), Back()),
    "BatchNorm": lambda: norm(1536.0),
    "BatchNorm and subtracted": lambda: nn.Sequential(norm(1536.0), Back()),
    "BatchNorms": lambda: nn.Sequential(norm(1536.0), norm(-1536.0)),
    "branches": Apart,
}


@pytest.mark.parametrize(("between", "measure"), [*((name, False) for name in BETWEEN), ("branches", True)])
def test_an_offset_may_come_from_anything_in_a_run(between, measure, monkeypatch):
    monkeypatch.setattr("linear_lasagna.models.model.whole", lambda *_: None)
    model = Shifted(BETWEEN[between]()).half().eval().requires_grad_(False)
    with pytest.warns(RuntimeWarning, match=WARNED):
        _, report = merge_model(model, input_of(rounding_stack(HALF)), measure)
    assert len(report.merged) == 1
    kept = Shifted(nn.Identity()).half().eval().requires_grad_(False)
    merge_model(kept, input_of(rounding_stack(HALF)), measure)


def linear(inputs, outputs, bias=0.0):
    made = nn.Linear(inputs, outputs)
    nn.init.uniform_(made.weight, -0.1, 0.1)
    nn.init.constant_(made.bias, bias)
    return made


@pytest.mark.parametrize("offset", [0.0, 1536.0])
@pytest.mark.parametrize("kind", ["two", "norm behind", "norm before", "transposed"])
def test_linear_layers_that_round_are_warned_of_too(kind, offset):
    torch.manual_seed(0)
    back = nn.BatchNorm1d(8)
    back.running_mean.fill_(offset)
    there = nn.BatchNorm1d(8)
    nn.init.constant_(there.weight, 0.5)
    nn.init.constant_(there.bias, offset)
    turned = nn.ConvTranspose1d(8, 8, 3, groups=2)
    nn.init.constant_(turned.bias, offset)
    models = {
        "two": [linear(8, 8, offset), linear(8, 2)],
        "norm behind": [linear(8, 8, offset), back],
        "norm before": [there, linear(8, 2)],
        "transposed": [turned, back],
    }
    model = nn.Sequential(*models[kind]).half().eval().requires_grad_(False)
    x = drawn(4, 8, *[5] * (kind == "transposed"), dtype=HALF)
    assert len(warned(lambda: merge_model(model, x))) == (offset > 0)
    assert len(warned(lambda: merge_model(model.float(), x.float(), dtype=HALF))) == (offset > 0)
    assert not warned(lambda: merge_model(model.float(), x.float()))


def test_one_channel_is_enough_where_it_counts_and_dead_ones_do_not():
    stack = rounding_stack(HALF, offset=0.0)
    stack[0].bias[3] = 1536.0
    stack[1].weight[:, 3] *= 8
    assert len(warned(lambda: merge(stack))) == 1
    stack[0].weight[3] = 2.0**-20  # it is nearly the same for all inputs now,
    stack[1].weight[:, 3] = 2.0**-12  # and hardly changes anything
    assert not warned(lambda: merge(stack))
    assert not warned(lambda: merge(nn.Sequential(stack[0], nn.Conv2d(8, 2, 1, bias=False)).half()[:1]))
    stack[1].weight[1] = 0.0
    stack[1].weight[1, 3] = 2.0**-12  # nor where one output sees nothing else
    assert not warned(lambda: merge(stack))
    for parameter in stack.parameters():
        parameter.zero_()
    stack[0].bias.fill_(1536.0)
    assert not warned(lambda: merge(stack))


def test_the_last_layers_offset_stays_and_is_no_reason_to_warn():
    stack = rounding_stack(HALF, offset=0.0)
    stack[1].bias.fill_(1536.0)
    assert not warned(lambda: merge(stack))


@pytest.mark.parametrize("dtype", [HALF, BRAIN])
@pytest.mark.parametrize("size", [1.5, 4.0])
def test_the_share_is_that_of_errors_where_values_vary_by_more_than_an_ulp(size, dtype):
    """Within 5 %, of some 5000 errors, where the second layer adds up what is independent: kernels are orthogonal, and
    windows lie side by side.
    """
    generator = torch.Generator().manual_seed(0)
    kernels = torch.linalg.qr(torch.randn(9, 9, generator=generator, dtype=torch.float64)).Q[:8].view(8, 1, 3, 3)
    stack = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 2, 2, dilation=3)).to(dtype).requires_grad_(False)
    stack[0].weight.copy_(size * kernels)
    stack[0].bias.fill_(offset_of(dtype))
    stack[1].weight.copy_(rounding_stack(dtype)[1].weight)
    stack[1].bias.zero_()
    x = torch.randn(600, 1, 7, 7, generator=generator).to(dtype)
    exact, y = copy.deepcopy(stack).double()(wide(x)), wide(stack(x))
    share = ((y - exact).square().mean((0, 2, 3)).sqrt() / exact.std((0, 2, 3))).mean()
    predicted = rounding_share([kernel_of(layer) for layer in stack], [1, 1], [True, False], dtype, Spread())
    assert float(share) == pytest.approx(predicted, rel=0.05)


def test_inputs_far_from_zero_put_outputs_there_too():
    """As the example shows; where it is constant, its size is taken for what inputs vary by."""
    stack = rounding_stack(HALF, offset=0.0)
    nn.init.constant_(stack[0].weight, 1 / 8)
    x = (1000 + input_of(stack).float()).half()
    assert len(warned(lambda: merge_model(stack, x))) == 1
    for level in (0.0, 1.0, 1000.0):
        assert not warned(lambda level=level: merge_model(stack, torch.full_like(x, level)))
    assert spread_of(torch.zeros(3)) == Spread(0.0, 1.0)
    assert spread_of(torch.tensor([1.0, 3.0], dtype=HALF)) == Spread(2.0, 1.0)


def test_no_stack_of_the_catalogue_is_one_of_which_rounding_is_a_part():
    """With biases in all layers, in all formats and with both structures of signs."""
    asked = 0
    for problem in CATALOG.values():
        if problem.depth == 1 or problem.parameters > 5e5:
            continue
        biased = replace(problem, layers=tuple(replace(layer, bias=True) for layer in problem.layers)).reduced()
        for signs in ("random", "positive"):
            _, kernels = biased.draw(torch.float64, signs=signs)
            groups, gone = [layer.groups for layer in biased.expanded], [True] * (problem.depth - 1) + [False]
            for dtype in SIGNIFICAND_BITS:
                drawn_ones = [kernel.map(lambda numbers, dtype=dtype: numbers.to(dtype)) for kernel in kernels]
                assert rounding_share(drawn_ones, groups, gone, dtype, even()) < ROUNDS / 10, problem.name
                asked += 1
    assert asked > 100


def test_nor_are_blocks_of_a_published_network():
    """In bfloat16, whose ulps are largest."""
    blocks = disturbed(nn.Sequential(*itertools.islice(DESIGNS["repvgg_a0"].blocks(), 6)))
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(BRAIN)
    _, report = merge_model(blocks.to(BRAIN).eval(), x)
    assert len(report.merged) == 3
    assert max(run.rounding for run in report.merged) < ROUNDS / 4
