"""Ways in which weights are rounded last: what they compute with, and which of them is which other way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from analysis.precision.case import Case
from analysis.precision.casts import CASTS, last_cast
from analysis.precision.unit import Unit, plain
from linear_lasagna.devices import dtype_named
from linear_lasagna.formats import unit_roundoff
from linear_lasagna.merging import merge_stack
from linear_lasagna.merging.tap_sums import kept_sums
from linear_lasagna.metrics import magnitudes
from linear_lasagna.problems import Layer, Problem

STACK = plain(3, channels=4, output=4)
GROUPED = Problem("grouped", 2, 4, (9, 7), (Layer(6, 3, groups=2, bias=True), Layer(4, (3, 1), 2, groups=2, bias=True)))
PRODUCTS = Problem("products", 1, 1, (8, 8), (Layer(16, 1),))
NARROW = ("float16", "bfloat16", "float32")
WAYS = tuple(f"{schedule}+{cast}/direct" for schedule in ("stacked", "merged") for cast in CASTS)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("problem", [STACK, GROUPED], ids=lambda problem: problem.name)
def test_casting_rounded_weights_again_changes_nothing(problem, dtype):
    """Layer by layer every cast is plain, and split's low parts are zero; merged, nearest is what merging does."""
    case = Case.of(Unit(problem, dtype, "random", 2))
    for cast in CASTS:
        y, plain_y = case.compute(f"stacked+{cast}/direct"), case.compute("direct")
        if cast == "split":
            assert float((y - plain_y).double().norm() / plain_y.double().norm()) < 2 * unit_roundoff(y.dtype)
        else:
            assert torch.equal(y, plain_y)
    assert torch.equal(case.compute("merged+nearest/direct"), case.compute("merged/direct"))
    unrounded = Case.of(Unit(problem, dtype, "random", 2, truth="float64"))
    assert torch.equal(unrounded.compute("stacked+nearest/direct"), unrounded.compute("direct"))
    assert not torch.equal(unrounded.compute("merged+nearest/direct"), unrounded.compute("merged/direct"))


@pytest.mark.parametrize("dtype", NARROW)
def test_kernels_are_those_of_the_cast(dtype):
    """An impulse shows the kernel, tap by tap."""
    problem = Problem("impulse", 1, 1, (5, 5), (Layer(2, 2), Layer(1, 2)))
    case = Case.of(Unit(problem, dtype, "random", 1, truth="float64"))
    wide = merge_stack(case.truth, problem.expanded)[0].weight
    x = torch.zeros(1, 1, 5, 5, dtype=dtype_named(dtype))
    x[0, 0, 2, 2] = 1
    shown = replace(case, x=x).compute("merged+tap_sums/direct").flip((2, 3))
    assert torch.equal(shown.double(), kept_sums(wide, x.dtype))
    assert torch.equal(replace(case, x=x).compute("merged+nearest/direct").flip((2, 3)), wide.to(x.dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("problem", [PRODUCTS, GROUPED], ids=lambda problem: problem.name)
def test_split_kernels_lose_their_square_alone(problem, dtype):
    """One rounding of the output, u² of the weights, and a float32 sum: less than rounding the kernel would lose."""
    case = Case.of(Unit(problem, dtype, "positive", 1, truth="float64"))
    size = magnitudes(case.x[:1], case.truth, problem.layers)
    u, terms = unit_roundoff(dtype_named(dtype)), 200
    limit = u * case.values.abs() + (u * u + terms * 2.0**-24) * size

    def excess(way):
        return float((case.exact.error(case.compute(way)[:1]).abs() / limit).max())

    merged = "stacked" if problem.depth == 1 else "merged"
    assert excess(f"{merged}+split/direct") <= 1 + 2 * u + (merged == "merged") * u
    assert problem is GROUPED or excess("stacked+nearest/direct") > 1.05


def test_every_cast_is_a_row():
    case = Case.of(Unit(STACK, "bfloat16", "random", 0, inputs="relu", truth="float32"))
    rows = case.rows(WAYS)
    assert [row["way"] for row in rows] == list(WAYS)
    assert all(row["status"] == "ok" and row["error_u"] > 0 for row in rows)
    single = Case.of(Unit(plain(1, 4), "bfloat16", "random", 0))
    assert [row["way"] for row in single.rows(WAYS)] == [way for way in WAYS if way.startswith("stacked")]


def test_what_the_dtype_cannot_hold_overflows():
    case = Case.of(Unit(plain(2, channels=4, output=3), "float16", "random", 0, gain=2.0**12, truth="float64"))
    (row,) = case.rows(["merged+split/direct"])
    assert (row["status"], row["relative_l2"]) == ("overflow", None)
    assert "not finite in float16" in row["reason"]


def test_other_names_are_refused():
    assert last_cast("merged/direct") is None
    for name in ("planned+nearest/direct", "merged+rounded/direct", "merged+/direct"):
        with pytest.raises(ValueError, match="is no way: before \\+ stands stacked or merged"):
            last_cast(name)
    with pytest.raises(ValueError, match="unknown method 'none'"):
        last_cast("merged+nearest/none")
