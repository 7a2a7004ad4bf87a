"""Linear layers that evolve to use underflow: what is flushed, by which threads, and how networks are compared."""

import pytest
import torch
from torch import nn

from analysis.precision.compute import Stamp, Task, compute
from analysis.precision.digits import evolution
from analysis.precision.digits.data import split
from analysis.precision.digits.evolution import DOWN, UP, Evolution, Noise, Shape, evolve
from analysis.precision.evolved import CONTROL, CONVOLUTIONS, DENSE, EVOLVED, FLUSHED, KEPT, LINEAR, TINY, WAYS, WIDE
from linear_lasagna.switches import can_flush as can_flush_here
from linear_lasagna.switches import flushes, flushing


@pytest.fixture(autouse=True)
def can_flush():
    """Processors that cannot flush have skipped rows; that is a test of its own."""
    if not can_flush_here():
        pytest.skip("this processor cannot flush subnormal numbers")


@pytest.mark.parametrize("on", [True, False])
def test_flushing_is_of_all_threads_that_compute(on):
    """Those that exist before do not inherit it: without it, half of a large tensor would be kept."""
    x = torch.full((2**20,), 2.0**-130)  # before: the thread that flushes would fill it with zeros
    square = torch.full((512, 512), 2.0**-130)
    threads, more = torch.get_num_threads(), max(2, torch.get_num_threads())
    torch.set_num_threads(more)
    try:
        assert bool((x * 0.5 > 0).all())
        with flushing(on):
            assert flushes() == on
            assert bool(((x * 0.5 == 0) == on).all())
            assert not on or not bool((torch.eye(512) @ square).any())
        assert torch.get_num_threads() == more
        assert not flushes()
        assert bool((x * 0.5 > 0).all())
    finally:
        torch.set_num_threads(threads)


def test_flushing_ends_with_an_error_and_nests():
    with pytest.raises(ZeroDivisionError), flushing(True):
        1 / 0  # noqa: B018
    assert not flushes()
    with flushing(True):
        with flushing(False):
            assert not flushes()
        assert flushes()


def test_both_multiplications_are_nothing_or_zero_what_is_less_than_a_half():
    x = torch.linspace(-2, 2, 1025)
    with flushing(True):
        assert torch.equal(x * DOWN * UP, nn.functional.hardshrink(x, 0.4999))
    with flushing(False):
        assert torch.equal(x * DOWN * UP, x)


@pytest.mark.parametrize("problem", [DENSE, CONVOLUTIONS, TINY])
def test_networks_are_the_margins_that_evolution_sees(problem, monkeypatch):
    """The mean plus and minus noise, all at once, as one network after another would give."""
    shape, draws = Shape(problem), torch.Generator().manual_seed(0)
    mean, images = shape.drawn(draws), split(0).x[:20]
    rows, hidden, more = shape.rows[0], shape.hidden, shape.rows[1]
    noise = Noise(*(torch.randn(3, size, generator=draws) / 4 for size in (rows, hidden, more)))
    margins = shape.margins(mean, noise, shape.patches(images))
    assert margins.shape == (2, 3, 20)
    monkeypatch.setattr(evolution, "AT_ONCE", 1)  # network by network
    assert torch.equal(shape.margins(mean, noise, shape.patches(images)), margins)
    for sign, side in zip((1, -1), margins, strict=True):
        for left, right, second, own in zip(*noise, side, strict=True):
            numbers = mean + sign * torch.cat([torch.outer(left, right).flatten(), second])
            with torch.no_grad():
                classes = shape.network(numbers)(images).flatten(1)
            assert torch.allclose(classes[:, 1] - classes[:, 0], own, atol=1e-4)


def test_evolution_is_repeatable_and_depends_on_flushing_alone():
    given, how = split(0), Evolution(steps=5, pairs=8)
    with flushing(True):
        first, again = (evolve(TINY, given, how, 0) for _ in range(2))
    with flushing(False):
        kept = evolve(TINY, given, how, 0)
    for one, same, other in zip(first.parameters(), again.parameters(), kept.parameters(), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def rows_of(unit):
    return {row["way"]: row for row in compute(Task(EVOLVED, unit, Stamp.of(EVOLVED, "here")))}


def test_rows_tell_what_flushing_makes_of_the_same_network():
    (unit,) = EVOLVED.units("smoke", "cpu")
    found = rows_of(unit)
    assert list(found) == list(WAYS)
    assert {row["status"] for row in found.values()} == {"ok"}
    assert found[FLUSHED]["zeroed"] > 0.1
    assert found[FLUSHED]["relative_l2"] > 0.01 > 1e-5 > found[KEPT]["relative_l2"] > found[WIDE]["relative_l2"] == 0
    assert found[LINEAR]["error_u"] is None
    assert found[KEPT]["zeroed"] == found[WIDE]["zeroed"] == 0
    assert found[KEPT]["wrong"] == found[WIDE]["wrong"]  # linear, up to rounding
    assert (found[FLUSHED]["gained"], found[FLUSHED]["lost"], found[FLUSHED]["p_value"]) == (0, 0, 1)
    labels = len(split(unit.seed).test_y)
    for way in (KEPT, CONTROL, LINEAR):
        row = found[way]
        assert row["gained"] - row["lost"] == round((row["wrong"] - found[FLUSHED]["wrong"]) * labels)
        assert row["linear_wrong"] == found[LINEAR]["wrong"]
    assert found[KEPT]["changed"] > 0
    assert not flushes()


def test_where_the_processor_cannot_flush_it_is_said(monkeypatch):
    monkeypatch.setattr(torch, "set_flush_denormal", lambda on: False)
    (unit,) = EVOLVED.units("smoke", "cpu")
    found = rows_of(unit)
    assert {(row["status"], row["reason"]) for row in found.values()} == {
        ("skipped", "this processor cannot flush subnormal numbers to zero")
    }
