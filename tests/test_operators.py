"""Every operation of the table alone: merged exactly on whole numbers, at borders and in three ranks, or noted."""

import pytest
import torch
from blocks import drawn, trained
from equal_models import assert_told, batchnorms, computed
from strategies import integers
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from linear_lasagna.merging import merge
from linear_lasagna.models import merge_model
from linear_lasagna.models.operators import OPERATIONS

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
POOL_FUNCTIONS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
ZEROS = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}
CONSTANTS = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}
WIDE = 8


class Written(nn.Module):
    """f(self, x), with convolutions 2 -> 8 (wide) and 8 -> 2 (narrow), a 3-tap one 2 -> 2, and numbers per channel."""

    def __init__(self, forward, rank=2, **parts):
        super().__init__()
        convolution, column = CONVOLUTIONS[rank], (-1, *(1,) * rank)
        self.wide, self.narrow = convolution(2, WIDE, 3, padding=1), convolution(WIDE, 2, 1)
        self.inner, self.whole = convolution(2, 2, 3), convolution(WIDE, 2, 3, bias=False)
        self.padded, self.point = convolution(2, 2, 3, padding=1), convolution(2, WIDE, 1)
        self.gamma = nn.Parameter(torch.empty(WIDE).view(column))
        self.flat = nn.Parameter(torch.empty(WIDE))
        self.register_buffer("beta", torch.empty(1, WIDE).view(1, *column))
        self.column, self.rank, self.written = column, rank, forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.written(self, x)


def whole_numbers(model):
    """The model in float64 with small whole numbers, but what is called gamma: powers of two. Sums are exact."""
    model = model.double().eval()
    for seed, (name, parameter) in enumerate([*model.named_parameters(), *model.named_buffers()]):
        if parameter.is_floating_point():
            numbers = integers(tuple(parameter.shape), 3, seed)
            parameter.data = 2.0**numbers if name.endswith("gamma") else numbers
    return model


def assert_exact(model, x, *others):
    """Merged, the model gives the same numbers, also for inputs of other sizes than the example's."""
    merged, report = merge_model(model, x)
    with torch.no_grad():
        for each in (x, *others):
            assert torch.equal(merged(each), model(each))
    assert_told(merged, report)
    return merged, report


# Between a convolution and a 1 x 1: one convolution, whatever they scale and shift.
ARITHMETIC = {
    "* parameter": lambda m, y: y * m.gamma,
    "parameter *": lambda m, y: m.gamma * y,
    "* number": lambda m, y: 0.5 * y,
    "torch.mul": lambda m, y: torch.mul(y, m.gamma),
    "torch.multiply": lambda m, y: torch.multiply(input=y, other=m.gamma),
    "mul": lambda m, y: y.mul(m.gamma),
    "mul_": lambda m, y: y.mul_(m.gamma),
    "/ number": lambda m, y: y / 4,
    "/ parameter": lambda m, y: y / m.gamma,
    "div_": lambda m, y: y.div_(2),
    "torch.true_divide": lambda m, y: torch.true_divide(y, m.gamma),
    "+ buffer": lambda m, y: y + m.beta,
    "buffer +": lambda m, y: m.beta + y,
    "+ number": lambda m, y: y + 3,
    "add_": lambda m, y: y.add_(m.beta),
    "add, alpha": lambda m, y: torch.add(y, m.beta, alpha=2),
    "alpha of the value": lambda m, y: torch.add(m.beta, y, alpha=2),
    "- buffer": lambda m, y: y - m.beta,
    "buffer -": lambda m, y: m.beta - y,
    "number -": lambda m, y: 1 - y,
    "sub, alpha": lambda m, y: y.sub(m.beta, alpha=-4),
    "rsub": lambda m, y: torch.rsub(y, m.beta, alpha=2),
    "sub_": lambda m, y: y.sub_(1),
    "negated": lambda m, y: -y,
    "torch.neg": lambda m, y: torch.neg(y),
    "negative_": lambda m, y: y.negative_(),
    "y + y": lambda m, y: y + y,
    "y - 3 y": lambda m, y: torch.sub(y, y, alpha=3),
    "several": lambda m, y: (1 - (y + m.beta) * m.gamma) / 2,
    "viewed": lambda m, y: y * m.flat.view(m.column),
    "indexed": lambda m, y: y + m.flat[(slice(None), *(None,) * m.rank)],
    "computed": lambda m, y: y * (m.gamma + 1) - m.flat.reshape(m.column) / 2,
    "nothing": lambda m, y: (y * 1 + 0 - 0) / 1,
}


# In other ranks than 2 one spelling of each is enough.
RANKED = ("* parameter", "/ parameter", "+ buffer", "buffer -", "negated", "y + y", "several", "viewed", "indexed")
SPELLINGS = [(name, rank) for name in ARITHMETIC for rank in ((1, 2, 3) if name in RANKED else (2,))]


@pytest.mark.parametrize(("name", "rank"), SPELLINGS)
def test_arithmetic_between_convolutions(name, rank):
    model = whole_numbers(Written(lambda m, x: m.narrow(ARITHMETIC[name](m, m.wide(x))), rank))
    merged, report = assert_exact(model, integers((2, 2, *(5,) * rank), 3, 1), integers((1, 2, *(2,) * rank), 3, 2))
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in computed(merged)] == [(2, 2, (3,) * rank)]
    assert len([n for n in merged.graph.nodes if n.op.startswith("call") or n.op == "get_attr"]) == 1
    assert not [key for key in merged.state_dict() if key in ("gamma", "beta", "flat")] or name not in ARITHMETIC
    assert report.notes == ()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_scale_and_layer_scale_behind_a_sum(rank):
    """FastViT's RepMixer: x + gamma * (convolution - norm), arXiv 2303.14189, section 3.1; then minus a multiple."""

    def forward(m, x):
        return 2 * x + m.two * (m.mix(x) - m.norm(x)) - torch.sub(m.point(x), m.mix(x), alpha=0.5)

    mix = CONVOLUTIONS[rank](2, 2, 3, padding=1)
    norm = NORMS[rank](2, eps=0.0)
    two = nn.Parameter(torch.ones(2, *(1,) * rank))
    model = Written(forward, rank, mix=mix, norm=norm, two=two, point=CONVOLUTIONS[rank](2, 2, 1))
    model = whole_numbers(model)
    norm.running_var = torch.full((2,), 0.25, dtype=torch.float64)
    merged, report = assert_exact(model, integers((2, 2, *(4,) * rank), 3, 1), integers((1, 2, *(1,) * rank), 3, 2))
    assert [c.kernel_size for c in computed(merged)] == [(3,) * rank]
    assert not batchnorms(merged)
    assert report.notes == ()


def test_terms_that_stay_apart_keep_their_signs():
    def forward(m, x):
        return torch.sub(m.padded(x) - torch.relu(x), torch.tanh(0 * x) - m.inner(functional.pad(x, (1,) * 4)), alpha=2)

    merged, _ = assert_exact(whole_numbers(Written(forward)), integers((2, 2, 5, 5), 3, 1))
    assert len(computed(merged)) == 1


def test_normalised_input():
    """(x - mean) / deviation in front of a convolution that pads nothing; in front of one that does, a note."""
    model = whole_numbers(Written(lambda m, x: m.inner((x - 1) / 0.25)))
    _, report = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    assert [run.layers for run in report.merged] == [("sub", "truediv", "inner")]
    model = whole_numbers(Written(lambda m, x: m.padded((x - 1) / 0.25)))
    _, report = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    assert [note.layers for note in report.notes] == [("sub", "truediv"), ("padded",)]
    assert "border of its own" in report.notes[0].reason
    model = whole_numbers(Written(lambda m, x: m.padded(x / 0.25)))
    _, report = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    assert report.notes == ()
    assert len(report.merged) == 1


POOLINGS = {
    "module": lambda rank: POOLS[rank](2),
    "overlapping": lambda rank: POOLS[rank](2, 1),
    "padded": lambda rank: POOLS[rank](4, 2, padding=2),
    "ceil mode, stride 1": lambda rank: POOLS[rank](2, 1, ceil_mode=True),
    "not counting no padding": lambda rank: POOLS[rank](2, 2, 0, False, False),
    "one per axis": lambda rank: POOLS[rank]((2,) * (rank - 1) + (4,), stride=(1,) * (rank - 1) + (2,)),
    "function": lambda rank: lambda x: POOL_FUNCTIONS[rank](x, 2),
    "function, padded": lambda rank: lambda x: POOL_FUNCTIONS[rank](x, kernel_size=4, stride=1, padding=2),
    "function by position": lambda rank: lambda x: POOL_FUNCTIONS[rank](x, 2, 1, 1, False, True),
}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", POOLINGS)
def test_average_pooling(name, rank):
    """Behind a 1 x 1, and behind a convolution with padding; k is a power of two, so that 1 / k is exact."""
    model = whole_numbers(Written(lambda m, x: m.pool(m.narrow(m.wide(x))), rank))
    model.pool = POOLINGS[name](rank)
    x, other = integers((2, 2, *(6,) * rank), 3, 1), integers((1, 2, *(5,) * rank), 3, 2)
    _, report = assert_exact(model, x, other)
    assert report.notes == ()
    assert {n for run in report.runs for n in run.layers} >= {"wide", "narrow"}
    alone = whole_numbers(Written(lambda m, x: m.pool(m.point(x)), rank))
    alone.pool = model.pool
    assert_exact(alone, x, other)


def test_pooling_becomes_a_convolution():
    """3 x 3, pooling by 2, 1 x 1: one 4 x 4 of stride 2."""
    model = whole_numbers(nn.Sequential(nn.Conv2d(2, 32, 3, padding=1), nn.AvgPool2d(2), nn.Conv2d(32, 2, 1)))
    merged, report = assert_exact(model, integers((2, 2, 8, 8), 3, 1))
    assert [(c.kernel_size, c.stride, c.padding) for c in computed(merged)] == [((4, 4), (2, 2), (1, 1))]
    assert report.operations_before == 2 * 32 * 9 * 64 + 32 * 4 * 16 + 32 * 2 * 16
    assert report.operations_after == 2 * 2 * 16 * 16


def test_pooling_beside_a_convolution():
    """A branch that pools what the other convolves, with as much padding; and one with a divisor of its own."""
    model = Written(
        lambda m, x: m.padded(x) + functional.avg_pool2d(x, 3, 1, 1) + functional.avg_pool2d(x, 1, divisor_override=4)
    )
    merged, _ = merge_model(trained(model), drawn(2, 2, 6, 6))
    torch.testing.assert_close(merged(drawn(1, 2, 3, 4)), model(drawn(1, 2, 3, 4)), rtol=1e-12, atol=1e-13)
    assert [c.kernel_size for c in computed(merged)] == [(3, 3)]


def test_pooling_that_stays_alone_in_a_merged_run():
    """A convolution behind it that would be dearer merged: the pooling is computed as before."""
    model = whole_numbers(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 64, 3), nn.Conv2d(64, 2, 1)))
    merged, report = assert_exact(model, integers((1, 2, 12, 12), 3, 1))
    assert report.runs[0].groups == (("0",), ("1", "2"))
    function = Written(lambda m, x: m.second(m.first(functional.avg_pool2d(x, 2))), first=model[1], second=model[2])
    merged, report = assert_exact(whole_numbers(function), integers((1, 2, 12, 12), 3, 1))
    assert report.runs[0].groups == (("avg_pool2d",), ("first", "second"))
    assert isinstance(merged.get_submodule(report.runs[0].modules[0]), nn.AvgPool2d)


PADS = {
    "function": lambda rank: lambda x: functional.pad(x, (1, 1) * rank),
    "function, all named": lambda rank: (
        lambda x: functional.pad(input=x, pad=[1] * (2 * rank), mode="constant", value=0.0)
    ),
    "twice": lambda rank: lambda x: functional.pad(functional.pad(x, (1, 1)), (0, 0) + (1, 1) * (rank - 1)),
    "constant_pad_nd": lambda rank: lambda x: torch.constant_pad_nd(x, (1,) * (2 * rank), 0),
    "ZeroPad": lambda rank: ZEROS[rank](1),
    "ConstantPad": lambda rank: CONSTANTS[rank](1, 0.0),
    "one axis": lambda rank: lambda x: functional.pad(x, (2, 2)),
}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", PADS)
def test_zero_padding(name, rank):
    """SPAN's block, arXiv 2311.12770, section 3: what the node pads is the first convolution's padding."""
    if name == "one axis" and rank > 1:
        model = whole_numbers(Written(lambda m, x: m.whole(m.wide(m.pad(x))), rank))
    else:
        model = whole_numbers(Written(lambda m, x: m.whole(m.point(m.pad(x))) + m.inner(m.pad(x)), rank))
    model.pad = PADS[name](rank)
    x = integers((2, 2, *(5,) * rank), 3, 1)
    merged, report = assert_exact(model, x, integers((1, 2, *(3,) * rank), 3, 2))
    assert report.notes == ()
    assert not [n for n in merged.graph.nodes if "pad" in n.name.lower() and "padded" not in n.name]


def test_padding_that_several_read():
    """One pad, read by two convolutions and by something else: both are joined, the pad stays for the third."""

    def forward(m, x):
        y = functional.pad(m.narrow(m.wide(x)), (1,) * 4)
        return m.inner(y) + m.second(y) + torch.relu(y[:, :, 1:-1, 1:-1])

    model = whole_numbers(Written(forward, second=nn.Conv2d(2, 2, 3)))
    merged, _ = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    assert len(computed(merged)) == 2


def test_padding_between_convolutions_is_the_second_ones(counting_machine):
    model = whole_numbers(nn.Sequential(nn.Conv2d(2, 64, 1), nn.ZeroPad2d(1), nn.Conv2d(64, 2, 3)))
    _, report = assert_exact(model, integers((1, 2, 200, 200), 3, 1))
    assert [run.layers for run in report.merged] == [("0", "1", "2")]


class Bordered(nn.Module):
    """BatchNorm, then zeros padded as its value for zero: BNAndPad of Diverse Branch Blocks, arXiv 2103.13425."""

    def __init__(self, rank, pads):
        super().__init__()
        self.norm, self.pads = NORMS[rank](2, eps=0.0), pads
        self.column = (1, -1, *(1,) * rank)

    def forward(self, x):
        norm = self.norm
        value = norm.bias - norm.running_mean * norm.weight / torch.sqrt(norm.running_var + norm.eps)
        value = value.view(self.column)
        return functional.pad(norm(x) - value, self.pads) + value


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padding_with_the_norms_own_value(rank):
    """A 3 x 3, 1 x 1 to 3 x 3 and 1 x 1 to average: a Diverse Branch Block is one 3 x 3, at the border too."""

    def forward(m, x):
        return m.padded(x) + m.mixed(m.border(m.first(x))) + m.average(m.other_border(m.second(x)))

    parts = {name: CONVOLUTIONS[rank](2, 2, 1, bias=False) for name in ("first", "second")}
    parts |= {name: Bordered(rank, (1, 1) * rank) for name in ("border", "other_border")}
    parts |= {"mixed": CONVOLUTIONS[rank](2, 2, 3, bias=False), "average": POOLS[rank]((1,) * (rank - 1) + (2,), 1)}
    model = whole_numbers(Written(forward, rank, **parts))
    model.average = nn.Sequential(model.average, CONVOLUTIONS[rank](2, 2, (3,) * (rank - 1) + (2,)))
    whole_numbers(model)
    for border in (model.border, model.other_border):
        border.norm.running_var = torch.full((2,), 0.25, dtype=torch.float64)
    merged, report = assert_exact(model, integers((2, 2, *(4,) * rank), 3, 1), integers((1, 2, *(1,) * rank), 3, 2))
    assert [(c.kernel_size, c.padding) for c in computed(merged)] == [((3,) * rank, (1,) * rank)]
    assert len([n for n in merged.graph.nodes if n.op.startswith("call") or n.op == "get_attr"]) == 1
    assert sum("makes of zero" in note.reason for note in report.notes) == 2


class WrittenIn(nn.Module):
    """The same as it was published: the value is written into the border. change: of it; side: what is left out."""

    def __init__(self, change=0.0, sides=4, factor=1.0):
        super().__init__()
        self.bn, self.change, self.sides, self.factor = nn.BatchNorm2d(2, eps=0.0), change, sides, factor

    def forward(self, x):
        bn, y = self.bn, self.bn(x) if self.factor == 1 else self.bn(x) * self.factor
        value = bn.bias.detach() - bn.running_mean * bn.weight.detach() / torch.sqrt(bn.running_var + bn.eps)
        value, y = value.view(1, -1, 1, 1) + self.change, functional.pad(y, [1] * 4)
        every, ends = slice(None), (slice(0, 1), slice(-1, None))
        indices = [(every, every, ends[0], every), (every, every, ends[1], every)]
        indices += [(every, every, every, ends[0]), (every, every, every, ends[1])]
        for index in indices[: self.sides]:
            y[index] = value
        return y


def diverse_branch_block(border, dtype=torch.float64):
    """arXiv 2103.13425, figure 3, without its norms behind the branches."""

    def forward(m, x):
        return torch.relu(m.padded(x) + m.one(x) + m.mixed(m.border(m.first(x))) + m.average(m.border(m.second(x))))

    parts = {name: nn.Conv2d(2, 2, 1, bias=False) for name in ("first", "second", "one")}
    parts |= {"mixed": nn.Conv2d(2, 2, 3, bias=False), "average": nn.AvgPool2d(3, 1, 0), "border": border}
    model = whole_numbers(Written(forward, **parts))
    border.bn.running_var.fill_(0.25)
    return model.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_diverse_branch_block(dtype):
    """One 3 x 3, whatever the value for zero is rounded to; with a third as variance it is no whole number."""
    model, x = diverse_branch_block(WrittenIn(), dtype), integers((2, 2, 5, 4), 3, 1).to(dtype)
    model.border.bn.running_var.fill_(1 / 3)
    merged, report = merge_model(model, x)
    assert [(c.kernel_size, c.padding) for c in computed(merged)] == [((3, 3), (1, 1))]
    assert len([n for n in merged.graph.nodes if n.op.startswith("call")]) == 2
    assert sum("makes of zero" in note.reason for note in report.notes) == 2
    scale = 1e-14 if dtype is torch.float64 else 1e-6
    with torch.no_grad():
        for each in (x, integers((1, 2, 1, 1), 3, 2).to(dtype)):
            torch.testing.assert_close(merged(each), model(each), rtol=100 * scale, atol=100 * scale)


@pytest.mark.parametrize("border", [WrittenIn(change=1.0), WrittenIn(sides=3), WrittenIn(factor=2.0)])
def test_border_of_another_value(border):
    """Not what the norm makes of zero, or not everywhere: what is in the border stays there."""
    _, report = assert_exact(diverse_branch_block(border), integers((2, 2, 5, 4), 4, 1))
    assert not any("makes of zero" in note.reason for note in report.notes)


def test_shifts_that_cancel_in_front_of_zeros():
    """Twice a norm's output without its value for zero, padded: no shift is left that would need a border."""

    def forward(m, x):
        value = (m.norm.bias - m.norm.running_mean * m.norm.weight * 2).view(1, -1, 1, 1)
        return m.padded(x) + m.mixed(functional.pad((m.norm(m.first(x)) - value) * 2, (1,) * 4) + 1)

    parts = {"first": nn.Conv2d(2, 2, 1, bias=False), "mixed": nn.Conv2d(2, 2, 3), "norm": nn.BatchNorm2d(2, eps=0.0)}
    model = whole_numbers(Written(forward, **parts))
    model.norm.running_var.fill_(0.25)
    merged, report = assert_exact(model, integers((2, 2, 4, 4), 3, 1), integers((1, 2, 1, 1), 3, 2))
    assert [(c.kernel_size, c.padding) for c in computed(merged)] == [((3, 3), (1, 1))]
    assert report.notes == ()


def test_shifts_that_do_not_cancel_are_kept():
    merged, _ = assert_exact(whole_numbers(Written(lambda m, x: m.wide(x) * 0.5 + 4)), integers((2, 2, 4, 4), 3, 1))
    assert len(computed(merged)) == 1


def test_padding_with_another_value_keeps_its_border():
    """What is padded is not what a convolution of the padded image would give there: still exact, in parts."""

    def forward(m, x):
        return m.padded(x) + m.mixed(functional.pad(m.point_of(x), (1,) * 4) + 1)

    model = Written(forward, point_of=nn.Conv2d(2, 2, 1), mixed=nn.Conv2d(2, 2, 3))
    _, report = assert_exact(whole_numbers(model), integers((2, 2, 4, 4), 3, 1), integers((1, 2, 1, 1), 3, 2))
    assert ["point_of", "pad", "add", "mixed"] in [list(note.layers) for note in report.notes]


def concatenated(m, x):
    return m.last(torch.cat([m.point(x), m.wide(x), x], 1))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3])
def test_concatenation(rank, size):
    """Convolutions of one value, put side by side, and a convolution that reads them all."""
    last = CONVOLUTIONS[rank](2 * WIDE + 2, 2, size)
    model = whole_numbers(Written(concatenated, rank, last=last))
    merged, report = assert_exact(model, integers((2, 2, *(5,) * rank), 3, 1), integers((1, 2, *(4,) * rank), 3, 2))
    if rank < 3 or size == 1:
        assert [c.kernel_size for c in computed(merged)] == [(3 if size == 1 else 5,) * rank]
        assert report.notes == ()


# What is left, and the note on it: (forward, names, reason).
NOTED = {
    "pooling that counts no padding": (
        lambda m, x: functional.avg_pool2d(m.wide(x), 3, 1, 1, False, False),
        ("avg_pool2d",),
        "divisor changes at the border",
    ),
    "ceil_mode": (lambda m, x: functional.avg_pool2d(m.wide(x), 2, ceil_mode=True), ("avg_pool2d",), "ceil_mode"),
    "uneven zeros": (lambda m, x: m.inner(functional.pad(x, (0, 1, 0, 1))), ("pad",), "more at one end"),
    "cut off": (lambda m, x: m.inner(functional.pad(x, (-1, -1))), ("pad",), "cuts positions off"),
    "padded with ones": (lambda m, x: m.inner(functional.pad(x, (1, 1), value=1.0)), ("pad",), "pads with 1.0"),
    "reflected": (lambda m, x: m.inner(functional.pad(x, (1,) * 4, "reflect")), ("pad",), "no zero"),
    "zeros behind": (lambda m, x: torch.relu(functional.pad(m.wide(x), (1, 1))), ("pad",), "zero padding ends a run"),
    "position to position": (
        lambda m, x: m.wide(x) * torch.ones(5, dtype=torch.float64),
        ("mul",),
        "differ from position to position",
    ),
    "divided by the width": (lambda m, x: m.wide(x) / x.shape[-1], ("truediv",), "computed from sizes"),
    "scaled by the channels": (lambda m, x: (y := m.wide(x)) * y.size(1) ** -2, ("mul",), "computed from sizes"),
    "shifted by the width": (lambda m, x: x.size(-1) - m.wide(x), ("sub",), "computed from sizes"),
    "resampling": (
        lambda m, x: m.whole(functional.interpolate(m.wide(x), scale_factor=2, mode="bilinear")),
        ("interpolate",),
        "resampling ends a run",
    ),
    "global average": (lambda m, x: m.wide(x).mean((2, 3)), ("mean",), "mean or sum ends a run"),
    "identity between": (
        lambda m, x: functional.dropout(m.wide(x), training=False).flatten(1),
        ("flatten",),
        "another shape",
    ),
    "both halves of the channels": (
        lambda m, x: (halves := m.wide(x).chunk(2, 1))[0] * torch.relu(halves[1]),
        ("chunk",),
        "only a part",
    ),
    "concatenation of other values": (
        lambda m, x: m.last(torch.cat([m.wide(x), torch.relu(x)], 1)),
        ("cat",),
        "concatenation ends a run",
    ),
}


@pytest.mark.parametrize("name", NOTED)
def test_linear_operation_that_ends_a_run_is_noted(name):
    forward, names, reason = NOTED[name]
    model = whole_numbers(Written(forward, last=nn.Conv2d(WIDE + 2, 2, 1)))
    _, report = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    (note,) = [note for note in report.notes if set(names) <= set(note.layers)] or [None]
    assert note is not None, report
    assert reason in note.reason


def test_scales_and_shifts_alone_become_no_convolution():
    """An image brought from one normalisation to another: a depthwise convolution takes 3 to 20 times as long."""
    mean = torch.tensor([1.0, 2.0]).double().view(2, 1, 1)
    model = Written(lambda m, x: torch.relu(x.mul(mean).add_(mean) * 4))
    _, report = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    (run,) = report.runs
    assert run.layers == ("mul", "add_", "mul_1")
    assert "a convolution would take longer" in run.left


def test_channels_taken_in_their_order_are_one_note():
    model = whole_numbers(Written(lambda m, x: m.last(m.wide(x)[:, :][:, :].detach()), last=nn.Conv2d(WIDE, 2, 1)))
    _, report = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    reasons = {note.reason for note in report.notes if set(note.layers) & {"getitem", "getitem_1", "detach"}}
    assert len(reasons) == 1, report


MODULES = {
    "nn.ConvTranspose2d": nn.ConvTranspose2d(WIDE, 2, 2, 2),
    "nn.Upsample": nn.Upsample(scale_factor=2),
    "nn.PixelShuffle": nn.PixelShuffle(2),
    "nn.PixelUnshuffle": nn.PixelUnshuffle(1),
    "nn.AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d(1),
    "nn.Flatten": nn.Flatten(),
    "nn.Linear": nn.Linear(4, 4),
    "nn.ReplicationPad2d": nn.ReplicationPad2d(1),
}


@pytest.mark.parametrize("name", MODULES)
def test_linear_module_that_ends_a_run_is_noted(name):
    model = whole_numbers(nn.Sequential(nn.Conv2d(2, WIDE, 2), MODULES[name]))
    _, report = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    (row,) = [row for row in OPERATIONS if type(model[1]) in row.modules]
    assert {note.layers: note.reason for note in report.notes} == {
        ("0",): "convolution is in no run: what is beside it is not linear, or has a note of its own",
        ("1",): f"{row.name} ends a run: {row.says}",
    }


def test_linear_operations_beside_no_run_are_noted_by_their_kind():
    """A classifier's head behind ReLU, and attention's shapes; a product of two images is not linear."""

    def forward(m, x):
        y = torch.relu(m.wide(x)).flatten(2) * 0.5
        return (y.transpose(1, 2) @ y).mean(1)

    _, report = assert_exact(whole_numbers(Written(forward)), integers((2, 2, 5, 5), 3, 1))
    assert {note.layers: note.reason.partition(":")[0] for note in report.notes} == {
        ("wide",): "convolution is in no run",
        ("flatten", "transpose"): "another shape or order of axes is in no run",
        ("mul",): "multiplication is in no run",
        ("mean",): "mean or sum is in no run",
    }


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrised_weights_are_computed_once(wrap):
    model = nn.Sequential(wrap(nn.Conv1d(2, 32, 3, padding=1)), nn.Conv1d(32, 2, 1)).double().eval()
    x = drawn(2, 2, 9)
    merged, report = merge_model(model, x)
    torch.testing.assert_close(merged(x), model(x), rtol=1e-12, atol=1e-14)
    assert [type(c) for c in computed(merged)] == [nn.Conv1d]
    assert report.notes == ()
    torch.testing.assert_close(merge(model)(x), model(x), rtol=1e-12, atol=1e-14)
    bordered = nn.Sequential(model[0], nn.Conv1d(32, 2, 3, padding=1)).double()
    torch.testing.assert_close(merge(bordered)(x), bordered(x), rtol=1e-12, atol=1e-14)


def test_hooks_on_an_identity_still_run():
    model = whole_numbers(Written(lambda m, x: m.narrow(m.nothing(m.wide(x))), nothing=nn.Identity()))
    model.nothing.register_forward_hook(lambda module, arguments, output: 2 * output)
    merged, _ = assert_exact(model, integers((2, 2, 5, 5), 3, 1))
    assert len(computed(merged)) == 2


def test_parametrised_weights_in_training_are_left():
    model = nn.Sequential(parametrizations.spectral_norm(nn.Conv1d(2, 32, 3)), nn.Conv1d(32, 2, 1)).double().train()
    with pytest.raises(ValueError, match=r"computed anew for every call in training mode; call \.eval\(\) on it$"):
        merge(model)


def test_merging_of_scales_is_for_one_number_of_channels_only():
    """Without anything that fixes their number, tokens are no channels: what any number fits stays."""
    model = Written(lambda m, x: (x * 0.5 + x) * 2 + functional.avg_pool2d(x, 1, 1) / 4)
    merged, report = merge_model(model.double().eval(), drawn(2, 3, 4, 4))
    assert [run.layers for run in report.runs] == [("avg_pool2d", "truediv")]
    assert not computed(merged)
    assert torch.equal(merged(drawn(2, 7, 4, 4)), model(drawn(2, 7, 4, 4)))


OVERWRITING = {
    "what the model is given": lambda m, x: m.inner(x.mul_(2)) + 1,
    "a view of it": lambda m, x: m.inner(x.flatten(2).view_as(x).neg_()) + 1,
    "what a run would read": lambda m, x: m.inner(torch.relu(x).mul_(2)),
}


@pytest.mark.parametrize("name", OVERWRITING)
def test_what_the_caller_sees_changed_is_still_changed(name):
    model = whole_numbers(Written(OVERWRITING[name]))
    merged, report = merge_model(model, integers((2, 2, 5, 5), 3, 1))
    ours, theirs = (integers((2, 2, 5, 5), 3, 1) for _ in range(2))
    with torch.no_grad():
        assert torch.equal(merged(ours), model(theirs))
    assert torch.equal(ours, theirs)
    reason = "it overwrites what a run would read" if "run" in name else "it overwrites a value that is used elsewhere"
    assert reason in str([note.reason for note in report.notes])


def test_other_dtypes_are_not_mixed():
    """A float32 scale makes float16 numbers float32; bytes become numbers."""
    model = whole_numbers(Written(lambda m, x: m.wide(x) * m.gamma)).float()
    model.gamma.data = model.gamma.data.double()
    merged, report = merge_model(model, integers((2, 2, 5, 5), 3, 1, torch.float32))
    assert merged(integers((2, 2, 5, 5), 3, 1, torch.float32)).dtype is torch.float64
    assert "multiplication ends a run: its values differ in shape or dtype" in [note.reason for note in report.notes]
    x = torch.randint(0, 255, (1, 2, 5, 5), dtype=torch.uint8)
    bytes_in = whole_numbers(Written(lambda m, x: m.inner((x / 128).double())))
    merged, report = merge_model(bytes_in, x)
    assert torch.equal(merged(x), bytes_in(x))


def test_gradients_flow_through_what_was_merged():
    model = whole_numbers(Written(lambda m, x: m.narrow(functional.avg_pool2d(m.wide(x) * m.gamma, 2) - m.beta)))
    merged, _ = merge_model(model, integers((2, 2, 6, 6), 3, 1))
    ours, theirs = (integers((2, 2, 6, 6), 3, 1).requires_grad_() for _ in range(2))
    merged(ours).square().sum().backward()
    model(theirs).square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert all(parameter.grad is not None for parameter in merged.parameters())


def test_table_is_whole():
    """Every row says in words what it is; nothing is spelled by two rows."""
    for part in ("modules", "functions", "methods"):
        spelled = [each for row in OPERATIONS for each in getattr(row, part)]
        assert len(set(spelled)) == len(spelled)
    assert len({row.name for row in OPERATIONS}) == len(OPERATIONS)
    assert all(row.says and (row.modules or row.functions or row.methods) for row in OPERATIONS)
