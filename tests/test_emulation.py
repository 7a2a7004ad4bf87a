"""Outputs formed again from revealed orders: planted orders come out to the last bit, what is no order does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from analysis.precision import emulation
from analysis.precision.conditions import pinned
from analysis.precision.experiment import Row
from analysis.precision.unit import Unit
from linear_lasagna import METHODS, Layer, Problem
from linear_lasagna.methods import Method
from linear_lasagna.methods.views import windows
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.rounding.emulation import accumulations, which
from linear_lasagna.vocabulary import DTYPES
from tests.planted import TERM_BY_TERM, added

PADDED = Problem("padded", 1, 3, (9, 9), (Layer(5, 3, padding=1),))
BIASED = Problem("biased", 1, 3, (9, 9), (Layer(5, 3, bias=True),))
Call = Callable[[torch.Tensor], torch.Tensor]


def fused(kernel: Kernel, layer: ExpandedLayer, x: torch.Tensor) -> torch.Tensor:
    """`added` in float32, each product added before it is rounded, which float64 holds."""
    seen = windows(x, layer).flatten(4).double()
    y = x.new_zeros((len(x), len(kernel.weight), *seen.shape[2:4]))
    for channel in range(x.shape[1]):
        for tap in range(layer.taps):
            products = kernel.weight.flatten(2)[:, channel, tap].double().view(1, -1, 1, 1) * seen[:, channel, ..., tap]
            y = (y.double() + products).float()
    return y


def _by_place(kernel: Kernel, layer: ExpandedLayer) -> Call:
    """Every other position is added backwards."""

    def call(x: torch.Tensor) -> torch.Tensor:
        forward, backward = added(kernel, layer, x), added(kernel, layer, x, backwards=True)
        odd = (torch.arange(forward[0, 0].numel()) % 2 == 1).view(forward.shape[2:])
        return torch.where(odd, backward, forward)

    return call


def _by_data(kernel: Kernel, layer: ExpandedLayer) -> Call:
    """A position is added backwards where the input's number there is negative."""

    def call(x: torch.Tensor) -> torch.Tensor:
        forward, backward = added(kernel, layer, x), added(kernel, layer, x, backwards=True)
        shown = x[:, :1, : forward.shape[2], : forward.shape[3]]
        return torch.where(shown < 0, backward, forward)

    return call


def _last_rounded_first(kernel: Kernel, layer: ExpandedLayer) -> Call:
    """The last row of positions, which sees padding, rounds its products before it adds them; no other does."""
    return lambda x: torch.cat([fused(kernel, layer, x)[:, :, :-1], added(kernel, layer, x)[:, :, -1:]], 2)


def _by_call(kernel: Kernel, layer: ExpandedLayer) -> Call:
    """Backwards every other time."""
    return lambda x: added(kernel, layer, x, backwards=next(CALLS) % 2 == 1)


CALLS = itertools.count()
PLANTED = {
    "by place": Method("by place", _by_place),
    "by data": Method("by data", _by_data),
    "last rounded first": Method("last rounded first", _last_rounded_first),
    "by call": Method("by call", _by_call),
    "term by term": TERM_BY_TERM,
}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Row]:
    """The row of a planted method."""

    def found(name: str, dtype: str, problem: Problem = PADDED) -> Row:
        monkeypatch.setitem(METHODS, name, PLANTED[name])
        monkeypatch.setattr(emulation, "WAYS", (name,))
        with pinned():
            (row,) = emulation.rows(Unit(problem, dtype, "random", 0))
        return row

    return found


@pytest.mark.parametrize("problem", [PADDED, BIASED], ids=lambda problem: problem.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_known_order_comes_out_to_the_last_bit(rows, dtype, problem):
    row = rows("term by term", dtype, problem)
    assert (row["equal"], row["equal_one"], row["orders"]) == (1.0, 1.0, 1)
    assert row["emulated_u"] == row["error_u"] > 0


def test_an_order_that_depends_on_the_place_is_no_one_order(rows):
    row = rows("by place", "float32", BIASED)
    assert row["equal_one"] < 1
    assert (row["equal"], row["orders"]) == (1.0, 2)


def test_an_order_that_depends_on_the_numbers_is_found_unequal(rows):
    row = rows("by data", "float32")
    assert row["equal"] < 1
    assert row["emulated_u"] != row["error_u"]


def test_products_that_some_outputs_round_first_where_none_can_be_asked(rows):
    row = rows("last rounded first", "float32")
    assert row["equal_one"] < 1
    assert row["equal"] == 1
    assert 0 < row["products_rounded"] < 1


def test_what_has_no_order_is_left_open(rows):
    row = rows("by call", "float32")
    assert (row["status"], row["orders"], row["equal"], row["emulated_u"]) == ("ok", 0, None, None)
    assert row["error_u"] > 0


def test_equal_bits_have_the_measured_error():
    """Of this machine's methods, whatever they are."""
    with pinned():
        found = [
            row for dtype in ("float32", "float64") for row in emulation.rows(Unit(emulation.TINY, dtype, "random", 0))
        ]
    assert {row["way"] for row in found} == set(emulation.WAYS)
    assert all(row["status"] == "ok" for row in found)
    assert all(row["emulated_u"] == row["error_u"] for row in found if row["equal"] == 1)
    assert all(row["equal"] is None or row["equal_one"] <= 1 for row in found)


def test_which_order_is_decided_on_other_numbers(monkeypatch):
    """The draws that decide are none that an experiment has."""
    monkeypatch.setitem(METHODS, "by place", PLANTED["by place"])
    seeds: list[int] = []
    drawn = Problem.draw
    monkeypatch.setattr(
        Problem, "draw", lambda self, *a, seed, **k: (seeds.append(seed), drawn(self, *a, seed=seed, **k))[1]
    )
    layer, shape = BIASED.expanded[0], (1, 3, 9, 9)
    hows = accumulations("by place", layer, shape, torch.float32)
    numbers = which("by place", layer, shape, hows, torch.arange(49), torch.float32)
    assert seeds
    assert min(seeds) >= 10**6
    assert numbers.tolist() == [[numbers[place % 2, 0]] * 5 for place in range(49)]
    assert numbers[0, 0] != numbers[1, 0]


def test_the_tile_holds_both_ends_and_all_of_what_is_small():
    boxes = emulation.patches(Problem("large", 1, 3, (40, 40), (Layer(8, 3),)))
    assert [tuple((s.start, s.stop) for s in box) for box in boxes] == [((0, 4),) * 2, ((17, 21),) * 2, ((34, 38),) * 2]
    assert emulation.patches(emulation.TINY) == ((slice(0, 6), slice(0, 6)),)
    wide = emulation.patches(Problem("wide", 1, 3, (40, 40), (Layer(4096, 3),)))
    assert [box[0].stop - box[0].start for box in wide] == [1, 1, 1]


def test_the_catalogue_s_layers_stand_alone_and_once():
    layers = emulation.layers_of(3e7, 600)
    assert len({problem.name for problem in layers}) == len(layers) > 10
    assert all(problem.depth == 1 and problem.macs <= 3e7 and problem.fan_ins[0] <= 600 for problem in layers)
    assert "stacks/expandnet#3" in {problem.name for problem in layers}
