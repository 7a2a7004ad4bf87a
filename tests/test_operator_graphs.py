"""Whole small graphs drawn from the operator table, merged, against the given model."""

import copy
import math
import operator

import torch
from equal_models import assert_told
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import integers
from torch import nn
from torch.nn import functional

from linear_lasagna.metrics import relative_l2
from linear_lasagna.models import merge_model

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
CHANNELS = 2
ARITHMETIC = {
    "scale": lambda y, g, b: y * g,
    "divide": lambda y, g, b: y / g,
    "shift": lambda y, g, b: y + b,
    "constant": lambda y, g, b: 1 - y / 2,
    "alpha": lambda y, g, b: torch.add(y, b, alpha=2),
    "negate": lambda y, g, b: -y,
    "double": lambda y, g, b: y + y,
    "relu": lambda y, g, b: torch.relu(y),
    "drop": lambda y, g, b: functional.dropout(y, 0.5, training=False),
}
SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}
LARGEST = 200  # positions of an image that is made larger
# What cuts, reorders or moves: of an image with the channels that are given first.
MOVED = {
    "front": (CHANNELS, lambda y: y[..., 1:]),
    "ends": (CHANNELS, lambda y: functional.pad(y, (-1, -1))),
    "swapped": (CHANNELS, lambda y: y[:, [1, 0]]),
    "first": (CHANNELS, lambda y: y[:, :1]),
    "inner": (2 * CHANNELS, lambda y: y[:, 1:3]),
    "mixed": (2 * CHANNELS, lambda y: functional.channel_shuffle(y, 2)),
    "last": (2 * CHANNELS, lambda y: y.chunk(2, 1)[1]),
}
TOGETHER = {"add": operator.add, "sub": operator.sub, "half": lambda a, b: torch.sub(a, b, alpha=0.5)}


class Graph(nn.Module):
    """lines: (what, places of the values that it takes), in order; what: a module's name or a function's."""

    def __init__(self, lines, modules, rank):
        super().__init__()
        self.lines, self.parts = lines, nn.ModuleDict(modules)
        self.gamma = nn.Parameter(torch.ones(CHANNELS, *(1,) * rank))
        self.register_buffer("beta", torch.zeros(1, CHANNELS, *(1,) * rank))

    def forward(self, x):
        return self.values(x)[-1]

    def values(self, x):
        """All of them, in order."""
        values = [x]
        for what, places in self.lines:
            values.append(self.value(what, [values[place] for place in places]))
        return values

    def value(self, what, taken):
        if what in self.parts:
            return self.parts[what](*taken)
        if what == "cat":
            return torch.cat(taken, 1)
        if what in MOVED:
            return MOVED[what][1](*taken)
        if what.startswith("pad"):
            return functional.pad(taken[0], tuple(map(int, what[3:])))
        return TOGETHER[what](*taken) if what in TOGETHER else ARITHMETIC[what](taken[0], self.gamma, self.beta)

    def fits(self, x):
        """Whether values that are put together are of one size for this input too; and whether not all gives 0."""
        try:
            values = self.values(x)
        except RuntimeError:
            return False
        pairs = [[values[place].shape for place in places] for _, places in self.lines if len(places) == 2]
        return all(a == b for a, b in pairs) and bool(values[-1].any())


@st.composite
def convolutions(draw, rank, channels, size):
    """Small ones that fit an image of this size."""
    kernel_size = tuple(draw(st.integers(1, min(3 if rank < 3 else 2, n))) for n in size)
    groups = draw(st.sampled_from((1, CHANNELS))) if channels == CHANNELS else 1
    padding, stride = draw(st.integers(0, 1)), draw(st.sampled_from((1, 1, 2)))
    return CONVOLUTIONS[rank](channels, CHANNELS, kernel_size, stride, padding, groups=groups, bias=draw(st.booleans()))


@st.composite
def graphs(draw):
    """(model, size): up to six operations, each on values that were computed before, the later the likelier."""
    rank = draw(st.integers(1, 3))
    size = tuple(draw(st.integers(2, 7 - rank)) for _ in range(rank))
    lines, modules, shapes = [], {}, [(CHANNELS, size)]
    for _ in range(draw(st.integers(2, 6))):
        place = draw(st.sampled_from([len(shapes) - 1] * 3 + list(range(len(shapes)))))
        channels, size = shapes[place]
        kinds = ["conv", "conv", "moved"]
        if channels == CHANNELS:
            kinds += ["conv"] + ["norm", "pool", "pad", "arithmetic", "together", "up", "shuffle"] * 2
        kind = draw(st.sampled_from(kinds))
        if kind == "conv":
            made = draw(convolutions(rank, channels, size))
        elif kind == "norm":
            made = NORMS[rank](CHANNELS, eps=0.0)
        elif kind == "pool" and min(size) >= 2:
            padding = draw(st.integers(0, 1))
            made = POOLS[rank](
                2, draw(st.integers(1, 2)), padding, count_include_pad=padding == 0 or draw(st.booleans())
            )
        elif kind == "up" and 2**rank * math.prod(size) <= LARGEST:
            made = nn.Upsample(scale_factor=2, mode=draw(st.sampled_from(("nearest", "nearest", SMOOTH[rank]))))
        elif kind == "shuffle" and rank == 2 and math.prod(size) <= LARGEST // 4:
            made = nn.Sequential(nn.Conv2d(CHANNELS, 4 * CHANNELS, 1), nn.PixelShuffle(2))
            if not any(n % 2 for n in size) and draw(st.booleans()):
                made = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * CHANNELS, CHANNELS, 1))
        else:
            made = None
        if made is not None:
            what, places = f"{kind}{len(lines)}", [place]
            modules[what] = made
        elif kind == "pad":
            pads = draw(st.sampled_from(["11", "22", "01"])) + draw(st.sampled_from(["", "11"] if rank > 1 else [""]))
            what, places = f"pad{pads}", [place]
        elif kind == "moved":
            fitting = [name for name, (taken, _) in MOVED.items() if taken == channels]
            cut = size[-1] > 2
            fitting = [name for name in fitting if cut or name not in ("front", "ends")]
            if not fitting:
                continue
            what, places = draw(st.sampled_from(fitting)), [place]
        elif kind == "together":
            others = [other for other, shape in enumerate(shapes) if shape == shapes[place]]
            what = draw(st.sampled_from([*TOGETHER, "cat"]))
            places = [place, draw(st.sampled_from(others))]
        else:
            what, places = draw(st.sampled_from(list(ARITHMETIC))), [place]
        lines.append((what, places))
        model = Graph(lines, modules, rank).double().eval()
        with torch.no_grad():
            shape = model(torch.zeros(1, *((CHANNELS, *shapes[0][1])), dtype=torch.float64)).shape
        shapes.append((shape[1], tuple(shape[2:])))
    return model, shapes[0][1]


def filled(model, numbers):
    """The model with its numbers drawn: numbers(shape, seed); variances and gamma stay powers of two."""
    for seed, (name, tensor) in enumerate([*model.named_parameters(), *model.named_buffers()]):
        if name.endswith(("var", "gamma")):
            tensor.data = 4.0 ** integers(tuple(tensor.shape), 1, seed)
        elif tensor.is_floating_point():
            tensor.data = numbers(tuple(tensor.shape), seed)
    return model


@given(graphs())
def test_graph_of_whole_numbers_is_merged_exactly(drawn):
    model, size = drawn
    filled(model, lambda shape, seed: integers(shape, 1, seed))
    x, other = integers((2, CHANNELS, *size), 2, 7), integers((1, CHANNELS, *(n + 1 for n in size)), 2, 8)
    with torch.no_grad():
        assume(model.fits(x))
        merged, report = merge_model(model, x)
        assert_told(merged, report)
        for each in (x, other) if model.fits(other) else (x,):
            assert torch.equal(merged(each), model(each)), (model.lines, model.parts, merged.code)


@settings(max_examples=20)
@given(graphs())
def test_graph_of_random_numbers_and_its_gradient(drawn):
    model, size = drawn

    def numbers(shape, seed):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    filled(model, numbers)
    x = numbers((2, CHANNELS, *size), 99)
    with torch.no_grad():
        assume(model.fits(x))
    merged, _ = merge_model(copy.deepcopy(model), x)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = merged(ours), model(theirs)
    assert relative_l2((found - expected).detach(), expected.detach()) <= 1e-12, (model.lines, merged.code)
    if expected.requires_grad:
        (expected * expected).sum().backward()
        (found * found).sum().backward()
        if bool(theirs.grad.any()):
            assert relative_l2(ours.grad - theirs.grad, theirs.grad) <= 1e-11
