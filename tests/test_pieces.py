"""Defects and linear pieces of functions whose own are known; points that no line separates."""

from __future__ import annotations

import numpy
import pytest
import torch

from analysis.precision.by_hand import by_hand, disk, exclusive_or
from analysis.precision.pieces import additivity, homogeneity, linear_pieces, pieces

A, B = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0)).double()
WEIGHT = torch.tensor([[1.0, -2.0, 0.5], [0.25, 1.0, 3.0]]).double()
AT = numpy.linspace(0, 1, 2000)


def affine(x):
    return x @ WEIGHT.T + 7


def test_an_affine_map_has_no_defects():
    assert additivity(affine, A, B) < 1e-14
    assert homogeneity(affine, A) < 1e-14


def test_defects_of_a_square():
    """((x + z)² − x² − z²) / 4 = xz / 2, of (x + z)² / 4; x² − 2 (x / 2)² = x² / 2."""
    assert homogeneity(torch.square, A) == pytest.approx(0.5)
    expected = (A * B / 2).norm() / ((A + B) / 2).square().norm()
    assert additivity(torch.square, A, B) == pytest.approx(float(expected))


def test_a_constant_has_none_to_speak_of():
    assert numpy.isnan(homogeneity(torch.ones_like, A))


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (numpy.round(10 * AT), 11),
        (numpy.round(3 * AT), 4),
        (numpy.abs(AT - 0.3), 2),
        (numpy.maximum(0, AT - 0.2) - 3 * numpy.maximum(0, AT - 0.5) + 5 * numpy.maximum(0, AT - 0.9), 4),
        (5 - 3 * AT, 1),
        (AT + 1e-3 * numpy.sin(1e4 * AT), 1),
        (0 * AT, 1),
        (numpy.round(5 * AT) + 2 * AT, 6),
    ],
)
def test_pieces_of_known_functions(y, expected):
    """Each counts from its first sample, so a kink may be passed by some samples, but is not counted twice."""
    assert linear_pieces(y, 0.01) == expected


def test_pieces_along_a_line():
    def steps(x):
        return torch.stack([0 * x[:, 0], (x[:, 0] * 4).round()], 1)

    assert pieces(steps, torch.tensor([[0.0]]), torch.tensor([[1.0]])) == 5
    assert pieces(affine, A[:1], B[:1]) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_exclusive_or_by_hand(dtype):
    """No mistake in 16 bits; in float64 half of the points, as the same numbers are one linear function there."""
    points, stack = exclusive_or(400, 0), by_hand(dtype)
    right = [(stack.to(each)(points.x.to(each)).flatten(1).argmax(1) == points.y) for each in (dtype, torch.float64)]
    assert right[0].all()
    assert 0.35 < right[1].double().mean() < 0.65
    assert [type(module).__name__ for module in stack] == ["Conv2d"] * 3


@pytest.mark.parametrize("task", [exclusive_or, disk])
def test_no_line_separates_the_classes(task):
    """A linear programme for w and b with yᵢ (w·xᵢ + b) ≥ 1 has no solution, and has one for two half planes."""
    from scipy.optimize import linprog

    points = task(300, 0)
    x = torch.cat([points.x.flatten(1), torch.ones(len(points.x), 1)], 1).double().numpy()

    def separable(classes):
        signs = 2.0 * classes.double().numpy()[:, None] - 1
        return linprog(numpy.zeros(3), -signs * x, -numpy.ones(len(x)), bounds=(None, None)).status == 0

    assert not separable(points.y)
    assert separable(points.x[:, 0, 0, 0] > 0.31)
    assert 0.25 < points.y.double().mean() < 0.75
