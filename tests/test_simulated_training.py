"""Stacks trained through simulated rounding: the rounding, the machine, the derivative that stands for rounding's."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from analysis.precision.coarse import EIGHT_BITS, NARROWLY, TINY, biased, forms, stack, wide
from analysis.precision.digits.training import Schedule, train
from analysis.precision.simulated_training import Formats, SimulatedStacks
from linear_lasagna.simulated import FORMATS, Format, Machine, cast, convolve

WIDE = tuple(wide(bits) for bits in (2, 3, 5, 11))
E4M3FN, E5M2 = (forms(TINY)[name] for name in EIGHT_BITS)
ALL = Formats((*WIDE, E4M3FN, E5M2))


def numbers(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Of all sizes from 2**-12 to 2**9, of both signs; ties, and zeros."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(4000, generator=draws) * 2.0 ** torch.randint(-12, 7, (4000,), generator=draws)
    ties = torch.arange(-64, 65) / 64 * torch.tensor([[0.25], [1.0], [16.0]])
    return torch.cat([x, ties.flatten(), torch.zeros(2)]).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_rounded_as_on_the_simulated_machine(dtype):
    x = numbers(dtype)
    found = ALL.round(x.expand(len(ALL.forms), -1))
    for form, own in zip(ALL.forms, found, strict=True):
        assert torch.equal(own.double(), cast(x.double(), form))


@pytest.mark.parametrize(
    ("form", "dtype"),
    [(wide(8), torch.bfloat16), (E4M3FN, torch.float8_e4m3fn), (E5M2, torch.float8_e5m2), (wide(11), torch.float16)],
)
def test_numbers_are_rounded_as_torch_casts_them(form, dtype):
    x = numbers()
    x = x[x.abs() > 2.0**-13] if dtype == torch.float16 else x  # whose subnormal numbers begin at 2**-14
    assert torch.equal(Formats((form,)).round(x[None])[0], x.to(dtype).float())


def test_numbers_are_rounded_to_the_nearest_fraction():
    """By exact arithmetic: no number of 3 bits is nearer, and of two the one with an even significand is taken."""
    x = numbers()[:500]
    for number, found in zip(x.tolist(), Formats((wide(3),)).round(x[None])[0].tolist(), strict=True):
        exact = Fraction(number)
        ulp = Fraction(2)
        while abs(exact) < 4 * ulp:
            ulp /= 2
        while abs(exact) >= 8 * ulp:
            ulp *= 2
        below = exact // ulp * ulp
        nearest = min((below, below + ulp), key=lambda each: (abs(each - exact), each / ulp % 2))
        assert found == nearest


def test_formats_that_cannot_be_trained_through_are_refused():
    for form in (FORMATS["float8_e4m3fn"], FORMATS["float8_e5m2"], replace(wide(4), subnormals=False)):
        with pytest.raises(ValueError, match="subnormal numbers, and saturate"):
            Formats((form,))


@pytest.mark.parametrize("narrow", [False, True])
def test_a_stack_is_what_the_simulated_machine_computes(narrow):
    """To the bit, for random weights, in all formats; and hardly ever another number where sums are float32's."""
    problem = stack("p", 8)
    stacks = SimulatedStacks(problem, ALL, 3, 2.0, narrow)
    x = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        single = stacks.outputs(stacks.inputs(x)).double()
        y = stacks.double().outputs(stacks.inputs(x.double()))
    assert (single == y).double().mean() > 0.98
    for place, form in enumerate(ALL.forms):
        machine = Machine(form, form if narrow else FORMATS["float64"])
        found = convolve(x.double(), stacks.kernels(place), problem.layers, machine)
        assert torch.equal(found.flatten(1), y[place])


@pytest.mark.parametrize("rounding", [False, True])
def test_a_network_alone_is_the_one_beside_others(rounding):
    stacks = SimulatedStacks(stack("p", 8), ALL, 3, 2.0).double()
    with torch.no_grad():
        stacks.trained *= 1 + torch.arange(len(ALL.forms)).unsqueeze(1) / 8  # else all have the same numbers
    x = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    inputs = stacks.inputs(x) if rounding else x.flatten(1).unsqueeze(1).expand(-1, len(ALL.forms), -1)
    with torch.no_grad():
        y = stacks.outputs(inputs, rounding)
    for place, own in enumerate(y):
        torch.testing.assert_close(stacks.function(place, rounding)(x), own, rtol=1e-12, atol=1e-12)


def test_running_sums_are_rounded_at_every_step():
    """64 times 1 in 5 bits: sums stay at 32, where adding 1 is a tie; in a wide sum they do not."""
    problem = stack("p", 1)
    formats = Formats((wide(5),))
    for narrow, expected in ((True, 32.0), (False, 64.0)):
        stacks = SimulatedStacks(problem, formats, 0, 0.0, narrow)
        with torch.no_grad():
            for layer in stacks.parted(stacks.trained):
                layer.weight.fill_(1.0)
            assert stacks.outputs(stacks.inputs(torch.ones(1, 1, 8, 8))).flatten().tolist() == [expected, expected]


def test_the_derivative_averages_to_one_over_an_ulp():
    """Where numbers are, it is 0; halfway between 2."""
    stacks = SimulatedStacks(stack("p", 1), Formats((Format(8, 3),)), 0, 0.0)
    with torch.enable_grad():
        x = (4 + torch.arange(8) / 8)[None].requires_grad_()  # ulp 1
        stacks.stored(x, slope=1.0).sum().backward()
    assert x.grad is not None
    assert x.grad[0, [0, 4]].tolist() == pytest.approx([0, 2], abs=1e-6)
    assert float(x.grad.mean()) == pytest.approx(1)


def test_formats_do_not_disturb_each_other():
    """Beside others a format's network is trained to the same weights, but for the order of products' sums."""
    x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = (x.mean((1, 2, 3)) > 0.5).long()
    found = []
    for chosen in ((wide(3),), (wide(3), wide(6))):
        stacks = SimulatedStacks(stack("p", 4), Formats(chosen), 0, 1.0)
        train(stacks, stacks.inputs(x), y[:, None].expand(-1, len(chosen)), Schedule(3, 0.01, 64), 0)
        found.append(stacks.parted(stacks.trained)[0].weight[0].detach())
    torch.testing.assert_close(found[0], found[1], atol=2e-3, rtol=0)


def test_more_significand_bits_bring_a_stack_nearer_to_its_twin():
    """Rounding of relative size 2**-bits: a bit halves the distance."""
    stacks = SimulatedStacks(biased(4), Formats(tuple(wide(bits) for bits in (4, 6, 8, 10))), 0, 4.0).double()
    x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        x = stacks.inputs(x)
        distance = (stacks.outputs(x) - stacks.outputs(x, rounding=False)).norm(dim=(1, 2))
    assert ((distance[:-1] / distance[1:] > 2.5) & (distance[:-1] / distance[1:] < 6.5)).all()


def test_the_settings_are_told_apart():
    assert [biased(4).layers, biased(4).name] == [biased(16).layers, "biases_4"]
    assert NARROWLY.fan_ins == (64, 32, 32)
    assert TINY.fan_ins == (64, 8, 8)
