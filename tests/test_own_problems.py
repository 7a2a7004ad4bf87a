"""Problems taken from modules and from whole models, against what these compute and how much."""

import re

import pytest
import torch
from blocks import RepVGG, drawn, trained
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from linear_lasagna import METHODS, Problem
from linear_lasagna.models import problems_from_model
from linear_lasagna.modules import kernel_of

MODULES = [
    (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 11)),
    (nn.Conv2d(3, 8, (3, 5), padding=(2, 0), dilation=(2, 1), bias=False), (1, 3, 9, 12)),
    (nn.Conv2d(4, 4, 3, padding="same"), (1, 4, 7, 7)),
    (nn.Conv3d(2, 4, 3, stride=(1, 2, 1)), (1, 2, 5, 7, 6)),
]


@pytest.mark.parametrize(("module", "shape"), MODULES, ids=[str(type(m).__name__) for m, _ in MODULES])
def test_a_module_as_a_problem_computes_the_same(module, shape):
    problem, x = Problem.from_conv2d(module.requires_grad_(False), shape), drawn(*shape, dtype=torch.float32)
    assert problem.shapes == (shape, tuple(module(x).shape))
    torch.testing.assert_close(METHODS["direct"](x, kernel_of(module), problem.expanded[0]), module(x))


@pytest.mark.parametrize(
    ("module", "shape", "said"),
    [
        (nn.Linear(3, 4), (1, 3), "not a convolution (nn.Conv1d, nn.Conv2d or nn.Conv3d) but Linear"),
        (nn.ConvTranspose2d(3, 4, 3), (1, 3, 8, 8), "but ConvTranspose2d"),
        (nn.Conv2d(3, 4, 3), (1, 4, 8, 8), "takes 3 channels, not 4"),
        (nn.Conv2d(3, 4, 3), (3, 8, 8), "takes batch, channels and 2 sizes, not (3, 8, 8)"),
        (nn.Conv2d(3, 4, 2, padding="same"), (1, 3, 8, 8), "does not pad with zeros, as many on both sides"),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (1, 3, 8, 8), "does not pad with zeros"),
        (nn.Conv2d(3, 4, 9), (1, 3, 8, 8), "layer 0 spans (9, 9) positions"),
    ],
)
def test_modules_that_are_no_problem(module, shape, said):
    with pytest.raises(ValueError, match=f"^mine: .*{re.escape(said)}"):
        Problem.from_conv2d(module, shape, "mine")


class Model(nn.Module):
    """Equal blocks, a convolution by a function, a stack, a grouped and a strided one, and a head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU()) for _ in range(3))
        )
        self.weight = nn.Parameter(drawn(4, 8, 1, 1, dtype=torch.float32))
        self.stack = nn.Sequential(nn.Conv2d(4, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 4, 3, bias=False))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(nn.functional.conv2d(self.blocks(torch.relu(self.first(x))), self.weight))
        return self.head(torch.relu(self.stack(x)).mean((2, 3)))


def test_the_problems_of_a_model():
    model, x = trained(Model(), dtype=torch.float32), drawn(2, 3, 32, 32, dtype=torch.float32)
    found = problems_from_model(model, x)
    assert {name: (problem.depth, problem.occurrences) for name, problem in found.items()} == {
        "first": (1, 1),
        "blocks.0.0": (1, 3),
        "conv": (1, 1),
        "stack.0": (1, 1),
        "stack.2": (1, 1),
        "stack.0…stack.2": (2, 1),
    }
    stack = found["stack.0…stack.2"]
    assert [layer.bias for layer in stack.layers] == [True, False]
    assert stack.shapes == ((2, 4, 16, 16), (2, 16, 14, 14), (2, 4, 12, 12))
    with FlopCounterMode(display=False) as flops:
        model(x)
    macs = sum(problem.occurrences * problem.macs for problem in found.values() if problem.depth == 1)
    assert macs == flops.get_total_flops() // 2 - 2 * 4 * 2, "all but the linear layer's"


class Residual(nn.Module):
    """x + project(norm(wide(expand(x)))), as SESR trains its blocks."""

    def __init__(self):
        super().__init__()
        self.expand, self.wide = nn.Conv2d(4, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.norm, self.project = nn.BatchNorm2d(16), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return x + self.project(self.norm(self.wide(self.expand(x))))


def test_the_stack_of_a_branch_is_one():
    model = trained(nn.Sequential(Residual(), nn.ReLU(), Residual(), nn.Conv2d(4, 2, 1)), dtype=torch.float32)
    found = problems_from_model(model, drawn(1, 4, 8, 8, dtype=torch.float32))
    stacks = {name: problem.occurrences for name, problem in found.items() if problem.depth > 1}
    assert stacks == {"2.expand…3": 1, "0.expand…0.project": 2}
    assert [layer.kernel_size for layer in found["0.expand…0.project"].layers] == [(3, 3), (1, 1), (1, 1)]


def test_branches_that_meet_are_no_stack():
    found = problems_from_model(trained(RepVGG(4, 4), dtype=torch.float32), drawn(1, 4, 8, 8, dtype=torch.float32))
    assert {problem.depth for problem in found.values()} == {1}
    assert sorted(problem.layers[0].kernel_size for problem in found.values()) == [(1, 1), (3, 3)]


def test_models_without_convolutions_are_refused():
    with pytest.raises(ValueError, match="the model has no convolution that is seen"):
        problems_from_model(nn.Linear(3, 3).eval(), torch.rand(2, 3))
