"""Convolutions of simulated machines: against rationals, exact integers, schedules; and the machines with a name."""

from dataclasses import replace
from fractions import Fraction

import numpy
import pytest
import torch
from exactly import CONVOLUTIONS, assert_equals, stack
from hypothesis import given
from hypothesis import strategies as st
from rounded_by_hand import Adder, by_hand
from strategies import DTYPES, SEEDS, problems

from linear_lasagna import METHODS, SCHEDULES, Kernel, Layer, Problem
from linear_lasagna.exact import convolve as exactly
from linear_lasagna.merging import merge_stack
from linear_lasagna.merging.split import doubled, two_parts
from linear_lasagna.methods.views import pad
from linear_lasagna.metrics import relative_l2
from linear_lasagna.rounding import accumulation
from linear_lasagna.simulated import FORMATS, MACHINES, Machine, cast, convolution, convolve, method
from linear_lasagna.simulated.machine import machine_like

FLOAT32, BFLOAT16 = FORMATS["float32"], FORMATS["bfloat16"]
STACK = Problem("stack", 2, 4, (5, 5), (Layer(8, 3, padding=1, bias=True), Layer(4, 3, bias=True), Layer(3, 1)))


def integers(problem, seed):
    """-3 to 3: no sum in such a stack is one that float32 does not hold."""
    x, kernels = problem.draw(torch.float64, seed=seed)

    def whole(numbers):
        return (numbers * 999).round() % 7 - 3

    return whole(x), [kernel.map(whole) for kernel in kernels]


@given(problems(), SEEDS, st.sampled_from(["float32", "float32 pairwise", "float32 compensated", "float64"]))
def test_integers_come_out_exactly(problem, seed, name):
    """Whatever the rank, strides, paddings, dilations, groups and biases are."""
    x, kernels = integers(problem, seed)
    y = convolve(x, kernels, problem.layers, MACHINES[name])
    assert_equals(y, stack(x, kernels, problem.layers), name)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_blocks_change_nothing_and_seeds_decide(name, monkeypatch):
    x, kernels = STACK.draw(torch.float32, seed=1)
    machine = MACHINES[name]
    first = convolve(x, kernels, STACK.layers, machine, seed=3)
    assert first.shape == STACK.shapes[-1]
    assert first.equal(convolve(x, kernels, STACK.layers, machine, seed=3))
    random = "stochastic" in (machine.rounding, machine.storing)
    assert first.equal(convolve(x, kernels, STACK.layers, machine, seed=4)) != random
    for block in (1, 150):
        monkeypatch.setattr(convolution, "BLOCK", block)
        assert random or first.equal(convolve(x, kernels, STACK.layers, machine))


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_results_are_of_the_storage_format_and_not_far_off(name):
    x, kernels = STACK.draw(torch.float32, seed=2)
    y, machine = convolve(x, kernels, STACK.layers, MACHINES[name]), MACHINES[name]
    assert y.equal(cast(y, machine.storage))
    exact = exactly(x, kernels, STACK.layers).to(torch.float64)
    u = max(machine.storage.unit_roundoff, machine.factors.unit_roundoff ** min(machine.parts))
    assert relative_l2(y - exact, exact) < 20 * u + 200 * machine.running.unit_roundoff
    if machine.storage.significand_bits < 24:
        assert relative_l2(y - exact, exact) > 0.2 * machine.storage.unit_roundoff


def gathered(x, layer, place):
    """The numbers that the output at an (image, channel, *position) is a sum of, channel by channel."""
    image, channel, *position = place
    per_group = x.shape[1] // layer.groups
    first = channel * layer.groups // layer.out_channels * per_group
    window = pad(x, layer.padding)[image, first : first + per_group]
    for axis, (at, s, d, k) in enumerate(
        zip(position, layer.stride, layer.dilation, layer.kernel_size, strict=True), start=1
    ):
        window = window.index_select(axis, torch.arange(k) * d + at * s)
    return window.flatten().tolist()


@given(problems(depths=(1, 1)), SEEDS, st.sampled_from(["fused", "unfused", "compensated", "toward zero", "parts"]))
def test_every_output_is_the_sum_of_its_terms(problem, seed, kind):
    """Numbered as weight[o].flatten() is, then the bias; of parts the products of the largest first."""
    x, (kernel,) = problem.draw(torch.float64, seed=seed)
    (layer,) = problem.expanded
    machine = Machine(BFLOAT16, FORMATS["float16"])
    changes = {
        "fused": {},
        "unfused": {"fused": False},
        "compensated": {"compensated": True},
        "toward zero": {"rounding": "toward zero"},
        "parts": {"parts": (1, 2)},
    }
    machine = replace(machine, **changes[kind])
    y = method(machine)(x, kernel, layer)
    high = cast(kernel.weight, BFLOAT16)
    weights = [high, *[cast(kernel.weight - high, BFLOAT16)] * (kind == "parts")]
    x = cast(x, BFLOAT16)
    how = machine.accumulation(layer.fan_in(x.shape[1]) * len(weights) + layer.bias, layer.bias)
    for place in {(0, 0, *[0] * (y.ndim - 2)), tuple(n - 1 for n in y.shape), tuple(n // 2 for n in y.shape)}:
        window, channel = gathered(x, layer, place), place[1]
        terms = [[a, b] for weight in weights for a, b in zip(window, weight[channel].flatten().tolist(), strict=True)]
        if kernel.bias is not None:
            terms.append([float(cast(kernel.bias, BFLOAT16)[channel])])
        assert float(y[place]) == by_hand(Adder(terms, how, machine).add(how.order), BFLOAT16)


def test_split_weights_are_a_convolution_of_the_input_beside_itself():
    problem = Problem("grouped", 1, 4, (6, 6), (Layer(6, 3, groups=2),))
    x, (kernel,) = problem.draw(torch.float64, seed=5)
    x = x.bfloat16().double()
    y = convolve(x, [kernel], problem.layers, MACHINES["bfloat16 split weights"])
    both = Kernel(two_parts(kernel.weight, torch.bfloat16))
    again = convolve(doubled(x, 2, 2), [both], [Layer(6, 3, groups=2)], MACHINES["bfloat16"])
    assert y.equal(again)


@pytest.mark.parametrize(("name", "bits"), [("bfloat16 x3", 16), ("bfloat16 x6", 24), ("tf32 x3", 22)])
def test_products_of_parts_are_as_good_as_their_bits(name, bits):
    x, kernels = Problem("one", 1, 4, (8, 8), (Layer(4, 3),)).draw(torch.float64, seed=6)
    machine = replace(MACHINES[name], storage=FORMATS["float64"], running=FORMATS["float64"])
    y = convolve(x, kernels, [Layer(4, 3)], machine)
    error = (y - exactly(x, kernels, [Layer(4, 3)]).to(torch.float64)).abs()
    size = CONVOLUTIONS[2](x.abs(), kernels[0].weight.abs())
    assert float((error / size).max()) < 4 * 2.0**-bits
    assert float((error / size).max()) > 0.01 * 2.0**-bits


def test_a_machine_is_a_method_of_all_schedules():
    """What is merged is merged in float64 and rounded once."""
    layers = (Layer(6, 3), Layer(5, 3))
    problem = Problem("merged", 1, 4, (9, 9), layers)
    x, kernels = problem.draw(torch.float64, seed=7)
    machine = MACHINES["bfloat16"]
    merged, layer = merge_stack(kernels, problem.expanded)
    expected = convolve(x, [merged], [layer], machine)
    assert SCHEDULES["merged"].build(problem, kernels, method(machine))(x).equal(expected)
    stacked = SCHEDULES["stacked"].build(problem, kernels, method(machine))(x)
    assert stacked.equal(convolve(x, kernels, layers, machine))
    assert not stacked.equal(expected)


def test_padding_between_layers_is_zeros_that_are_added():
    """Which changes no plain sum, and one with compensation only as Kahan's does."""
    layer = Layer(1, 3, padding=1)
    x, kernels = Problem("padded", 1, 2, (4, 4), (layer,)).draw(torch.float64, seed=8)
    y = convolve(x, kernels, [layer], MACHINES["float16 in float16"])
    inside = convolve(pad(x, (1, 1)), kernels, [Layer(1, 3)], MACHINES["float16 in float16"])
    assert y.equal(inside)


def test_fp8_that_overflows_is_nan_or_saturates():
    x, kernel = torch.full((1, 1, 2), 400.0), Kernel(torch.full((1, 1, 2), 2.0))
    machine = MACHINES["float8_e4m3fn"]
    assert convolve(x, [kernel], [Layer(1, 2)], machine).isnan().all()
    saturating = replace(machine, storage=replace(machine.storage, saturating=True))
    assert convolve(x, [kernel], [Layer(1, 2)], saturating).tolist() == [[[448.0]]]


def test_a_float64_s_products_may_not_underflow():
    x = torch.full((1, 1, 2), 1e-200, dtype=torch.float64)
    kernel = Kernel(x)
    with pytest.raises(ValueError, match="below 2\\*\\*-960"):
        convolve(x, [kernel], [Layer(1, 2)], MACHINES["float64"])
    assert convolve(x * 0, [kernel], [Layer(1, 2)], MACHINES["float64"]).tolist() == [[[0.0]]]


def test_a_kernel_without_bias_is_computed_without():
    x, (kernel, *_) = STACK.draw(torch.float32, seed=11)
    layer = STACK.layers[0]
    zero = Kernel(kernel.weight, torch.zeros(layer.out_channels))
    y = method(MACHINES["bfloat16"])(x, Kernel(kernel.weight), layer)
    assert y.equal(method(MACHINES["bfloat16"])(x, zero, layer))


def test_kernels_that_do_not_fit_are_told():
    x, kernels = STACK.draw(torch.float32)
    with pytest.raises(ValueError, match="2 kernels do not fit 3 layers"):
        convolve(x, kernels[:2], STACK.layers, MACHINES["float32"])


def test_stochastic_rounding_keeps_the_mean():
    """Of an image of one number: to nearest all outputs err alike, at random their mean is right."""
    problem = Problem("flat", 1, 4, (30, 30), (Layer(1, 3),))
    x, kernels = problem.draw(torch.float64, seed=9, signs="positive")
    x = torch.full_like(x, 0.7)
    kernels = [kernel.map(lambda t: cast(t, BFLOAT16)) for kernel in kernels]
    exact = float(
        sum(map(Fraction, kernels[0].weight.flatten().tolist())) * Fraction(float(cast(x, BFLOAT16)[0, 0, 0, 0]))
    )
    errors = {
        name: float(convolve(x, kernels, problem.layers, MACHINES[name]).mean()) - exact
        for name in ("bfloat16", "bfloat16 stochastic", "bfloat16 toward zero")
    }
    unit = 2.0 ** (numpy.frexp(exact)[1] - 8)
    assert abs(errors["bfloat16 stochastic"]) < 4 * unit / 2 / 28 < abs(errors["bfloat16"])
    assert errors["bfloat16 toward zero"] < 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["direct", "unfold_matmul", "strided_matmul", "shifted_matmul"])
def test_a_method_s_bits_are_those_of_the_machine_that_adds_likewise(name, dtype):
    """Of most outputs: libraries add the last few in other orders. Where no order is found nothing is simulated."""
    problem = Problem("likewise", 1, 16, (14, 14), (Layer(16, 3, bias=True),))
    x, (kernel,) = problem.draw(dtype, seed=10)
    (layer,) = problem.expanded
    how = accumulation(name, layer, tuple(x.shape), dtype)
    if how.order is None:
        with pytest.raises(ValueError, match="known order"):
            machine_like(how, dtype)
        return
    y = method(machine_like(how, dtype))(x, kernel, layer)
    assert float((METHODS[name](x, kernel, layer).double() == y).double().mean()) > 0.5
