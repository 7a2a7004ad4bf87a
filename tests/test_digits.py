"""Digits by rounding: outputs are rounded to integers bit for bit, and what else computes them does not round."""

import math
import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.precision import EXPERIMENTS
from analysis.precision.compute import Stamp, Task, compute
from analysis.precision.digits.baselines import best_linear, hindsight_linear, relu_net, trained_relu
from analysis.precision.digits.comparing import compare, exact_mcnemar, predicted
from analysis.precision.digits.construction import OFFSETS, Round, RoundedStack
from analysis.precision.digits.data import Split, split
from analysis.precision.digits.modules import Trained
from analysis.precision.digits.training import WEIGHT_DECAY, Schedule, pace, train
from linear_lasagna import Kernel, Layer, Problem
from linear_lasagna.exact import convolve
from linear_lasagna.merging import merge
from linear_lasagna.rounding.bounds import gamma

NET = Problem(
    "net", 1, 1, (8, 8), tuple(Layer(channels, size, bias=True) for channels, size in ((6, 3), (6, 3), (2, 4)))
)
DTYPES = tuple(OFFSETS)
IDS = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=IDS)


def exactly(x, module, dtype=None):
    """One layer's exact result, rounded once."""
    layer = Layer(module.out_channels, module.kernel_size, bias=True)
    return convolve(x, [Kernel(module.weight, module.bias)], [layer]).to(dtype or torch.float64)


def doubt(x, module):
    """How far float32 sums of a layer's products and its bias are from exact ones at most, in any order."""
    weight, bias = module.weight.double().abs(), module.bias.double().abs()
    magnitude = torch.nn.functional.conv2d(x.double().abs(), weight, bias)
    return gamma(weight[0].numel() + 1, torch.float32) * magnitude


def coarse_stack(dtype):
    """All sums of its products are exact in any order, and in dtype: multiples of 1 / 4 below 64."""
    stack = RoundedStack(NET, dtype, 0)
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight, bias in zip(stack.weights, stack.biases, strict=True):
            weight.copy_(torch.randint(-1, 2, weight.shape, generator=draws) / 2)
            bias.copy_(torch.randint(-2, 3, bias.shape, generator=draws))
            if weight is not stack.weights[0]:  # what has zero mean is left as it is
                half = weight.flatten(1).shape[1] // 2
                weight.flatten(1)[:, half:] = -weight.flatten(1)[:, :half].flip(1)
    return stack, torch.randint(0, 3, (40, 1, 8, 8), generator=draws) / 2


@each_dtype
def test_stored_outputs_are_the_exact_ones_rounded_to_integers(dtype):
    stack, x = coarse_stack(dtype)
    ties, value = 0, x
    for module in stack.deployed()[:-1]:
        offset = OFFSETS[dtype]
        exact = exactly(x.to(dtype), module) - offset
        value = module(x.to(dtype))
        assert (value.double() - offset).equal(exact.round())
        ties += int(((exact % 1) == 0.5).sum())
        x = value
    assert ties > 100


@each_dtype
def test_random_outputs_are_rounded_but_for_those_whose_sum_decides_a_tie(dtype):
    stack, x = RoundedStack(NET, dtype, 3).deployed(), split(0).x[:64].to(dtype)
    for module in stack[:-1]:
        exact, near = exactly(x, module), doubt(x, module)
        value = module(x)
        decided = (exact % 1 - 0.5).abs() > near
        assert value[decided].double().equal(exact[decided].round())
        assert ((value.double() - exact).abs() <= 0.5 + near).all()
        assert decided.double().mean() > 0.95
        x = value


@each_dtype
def test_what_is_trained_is_what_is_deployed(dtype):
    stack, x = coarse_stack(dtype)
    with torch.no_grad():
        assert stack(x).equal(stack.deployed()(x.to(dtype)).flatten(1).float())


@each_dtype
def test_offsets_cancel_exactly(dtype):
    """Deployed without rounding it computes what the stack does without offsets."""
    stack = RoundedStack(NET, dtype, 4)
    x = value = split(1).x[:16].double()
    for place, numbers in enumerate(stack.numbers()):
        value = torch.nn.functional.conv2d(value, numbers.weight.double(), numbers.effective.double())
        assert numbers.bias.detach().to(dtype).float().equal(numbers.bias.detach()), place
    torch.testing.assert_close(stack.deployed().double()(x), value, rtol=0, atol=1e-3)


@each_dtype
def test_the_twin_the_merged_kernel_and_the_exact_result_agree_and_the_stack_does_not(dtype):
    stack, x = RoundedStack(NET, dtype, 5).deployed(), split(2).x[:32].to(dtype)
    exact = convolve(x, [Kernel(module.weight, module.bias) for module in stack], NET.layers).to(torch.float64)
    merged = merge(stack, dtype=torch.float64)(x.double())
    computed, twin = stack(x).double(), stack.double()(x.double())
    spread = float(exact.std())
    torch.testing.assert_close(twin, exact, rtol=0, atol=1e-9 * spread)
    torch.testing.assert_close(merged, exact, rtol=0, atol=1e-9 * spread)
    assert float((computed - exact).std()) > 0.1 * spread


def test_round_is_to_even_and_its_derivative_that_of_a_smooth_staircase():
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5, 0.2, 0.75], dtype=torch.float64, requires_grad=True)
    y = Round.apply(x)
    assert y.tolist() == [-2.0, 0.0, 0.0, 2.0, 2.0, 0.0, 1.0]
    y.sum().backward()
    step = 1e-5

    def staircase(at):
        return at - math.sin(2 * math.pi * at) / (2 * math.pi)

    expected = [(staircase(at + step) - staircase(at - step)) / (2 * step) for at in x.tolist()]
    assert x.grad.tolist() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("steps", [1, 2, 10, 37])
def test_steps_are_those_of_torch_s_optimizer_and_cycle(steps):
    digits, schedule = split(0), Schedule(steps, 0.05, 64)
    own, theirs = relu_net(NET, 0), relu_net(NET, 0)
    train(own, digits.x, digits.y, schedule, 3)
    optimizer = torch.optim.AdamW(theirs.parameters(), schedule.rate, weight_decay=WEIGHT_DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.rate, total_steps=steps)
    draws = torch.Generator().manual_seed(3)
    for step in range(steps):
        chosen = torch.randperm(len(digits.y), generator=draws)[:64]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(theirs(digits.x[chosen]), digits.y[chosen]).backward()
        group = optimizer.param_groups[0]
        assert pace(step, schedule) == pytest.approx((group["lr"], group["betas"][0]), rel=1e-12)
        optimizer.step()
        cycle.step()
    for one, other in zip(own.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert one.grad is None


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride"),
    [(1, 8, 3, 1), (1, 8, 4, 2), (1, 7, (2, 3), (1, 2)), (3, 6, 3, 1), (3, 4, 4, 1), (1, 8, 8, 1), (5, 1, 1, 1)],
)
def test_what_is_trained_is_torch_s_convolution_and_its_derivatives(channels, size, kernel, stride):
    module = torch.nn.Conv2d(channels, 4, kernel, stride).double()
    x = torch.randn(6, channels, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for f in (lambda x: module(x).flatten(1), Trained(torch.nn.Sequential(module))):
        own = x.clone().requires_grad_()
        y = f(own)
        found.append([y, *torch.autograd.grad(y.square().sum(), [own, *module.parameters()])])
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def test_stacks_are_trained_to_the_same_numbers_by_products_of_matrices():
    digits, schedule = split(0), Schedule(5, 0.01, 64)
    problems = (NET, Problem("dense", 1, 1, (8, 8), (Layer(8, 8, bias=True), *[Layer(8, 1, bias=True)] * 6)))
    for problem in problems:
        own, theirs = relu_net(problem, 0).double(), relu_net(problem, 0).double()
        train(Trained(own), digits.x.double(), digits.y, schedule, 0)
        train(theirs, digits.x.double(), digits.y, schedule, 0)
        for one, other in zip(own.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def trained_briefly(digits):
    """Its weights, and the loss before and after 30 steps."""
    stack, losses = RoundedStack(NET, torch.float16, 0), []
    for steps in (0, 30):
        if steps:
            train(stack, digits.x, digits.y, Schedule(steps, batch=128), 0)
        losses.append(torch.nn.functional.cross_entropy(stack(digits.x), digits.y).item())
    return [*stack.weights], losses


def test_training_reduces_the_loss_and_is_repeatable():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (weights, losses), (again, _) = trained_briefly(split(0)), trained_briefly(split(0))
    finally:
        torch.set_num_threads(threads)
    assert losses[1] < 0.8 * losses[0]
    assert all(map(torch.equal, weights, again))


def test_a_split_is_stratified_and_its_own():
    first, again, other = split(3), split(3), split(4)
    images = torch.cat([first.x, first.test_x]).flatten(1)
    assert [len(part) for part in first] == [1078, 1078, 719, 719]
    assert images.unique(dim=0).shape[0] == 1797  # none in both
    assert ((images * 16) % 1 == 0).all()
    assert images.amin() == 0
    assert images.amax() == 1
    assert abs(first.y.double().mean() - first.test_y.double().mean()) < 1 / 719
    assert first.x.equal(again.x)
    assert not first.x.equal(other.x)


def test_linear_classifiers_find_what_is_linear():
    digits = split(0)
    direction = torch.randn(64, generator=torch.Generator().manual_seed(1))

    def labels(images):
        return (images.flatten(1) @ direction > 0).long()

    given_labels = Split(digits.x, labels(digits.x), digits.test_x, labels(digits.test_x))
    for found in (best_linear(given_labels), hindsight_linear(given_labels)):
        assert (found == given_labels.test_y).double().mean() > 0.97
    assert (hindsight_linear(digits) == digits.test_y).sum() > (best_linear(digits) == digits.test_y).sum()


def test_the_net_with_relu_has_the_problem_s_shape_and_learns_what_is_not_linear():
    digits = split(0)
    network = relu_net(NET, 0)
    assert [type(module).__name__ for module in network] == ["Conv2d", "ReLU", "Conv2d", "ReLU", "Conv2d", "Flatten"]
    assert network(digits.x[:3]).shape == (3, 2)
    found = trained_relu(NET, Schedule(steps=60), 0)
    assert (found(digits.test_x).argmax(1) == digits.test_y).double().mean() > 0.8
    plain = trained_relu(NET, Schedule(steps=2), 0, activation=False)
    assert [type(module).__name__ for module in plain] == ["Conv2d"] * 3 + ["Flatten"]


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_tail(gained, lost):
    n = gained + lost
    least = min(gained, lost)
    tail = Fraction(2 * sum(math.comb(n, k) for k in range(least + 1)), 2**n)
    assert exact_mcnemar(gained, lost) == pytest.approx(float(min(tail, 1)), rel=1e-9)


def test_predictions_are_compared_image_by_image():
    labels = torch.tensor([0, 1, 1, 0, 1])
    first, second = torch.tensor([0, 1, 0, 0, 1]), torch.tensor([1, 1, 1, 1, 1])
    found = compare(first, second, labels)
    assert found[:4] == (0.8, 2, 1, 3)
    assert found.p == 1.0
    assert compare(first, first, labels) == (0.8, 0, 0, 0, 1.0)


def test_a_prediction_is_the_first_largest_output():
    logits = torch.tensor([[[[1.0]], [[1.0]]], [[[0.0]], [[2.0]]]], dtype=torch.float16)
    assert predicted(logits).tolist() == [0, 1]


def test_xor_by_hand():
    """The worked example of docs/rounding-as-nonlinearity.md: two 1×1 convolutions that no kernel can replace."""
    pairs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).view(4, 2, 1, 1)
    for dtype, offset in OFFSETS.items():
        first, second = torch.nn.Conv2d(2, 2, 1), torch.nn.Conv2d(2, 1, 1)
        with torch.no_grad():
            first.weight.copy_(torch.tensor([[1.0, 1.0], [0.4, 0.4]]).view(2, 2, 1, 1))
            first.bias.fill_(offset)
            second.weight.copy_(torch.tensor([1.0, -2.0]).view(1, 2, 1, 1))
            second.bias.fill_(offset)
            stack = torch.nn.Sequential(first, second).to(dtype)
            assert stack(pairs.to(dtype)).flatten().tolist() == [0.0, 1.0, 1.0, 0.0]
            kernel = merge(stack, dtype=torch.float64)
            merged = kernel(pairs.double()).flatten()
        assert merged.tolist() == pytest.approx([0, 0.2, 0.2, 0.4], abs=2e-3)


def test_the_page_s_example_prints_what_it_says(capsys):
    page = (Path(__file__).parent.parent / "docs" / "rounding-as-nonlinearity.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    with pytest.warns(RuntimeWarning, match="merging changes what these layers, in float16, compute"):
        exec(block, {})
    said = [float(number) for line in re.findall(r"# (.*)", block) for number in line.split(", ")]
    printed = [float(number) for number in re.findall(r"-?\d+\.\d*", capsys.readouterr().out)]
    assert printed == pytest.approx(said, abs=1e-3)


@pytest.fixture(scope="module")
def smoke():
    """The rows of the smallest preset, in float16."""
    experiment = EXPERIMENTS["rounded"]
    unit = next(unit for unit in experiment.units("smoke", "cpu") if unit.dtype == "float16")
    return {row["way"]: row for row in compute(Task(experiment, unit, Stamp.of(experiment, "here")))}


def test_the_controls_agree_and_a_method_that_stores_parts_does_not(smoke):
    assert all(row["status"] == "ok" for row in smoke.values())
    assert smoke["float64"]["wrong"] == smoke["merged_float64"]["wrong"] == smoke["exact"]["wrong"]
    assert smoke["exact"]["relative_l2"] < 1e-15
    assert smoke["float64"]["relative_l2"] < 1e-9
    assert smoke["direct"]["relative_l2"] > 0.05
    assert (smoke["direct"]["changed"], smoke["direct"]["gained"]) == (0, 0)
    assert smoke["float64"]["changed"] > 0.01
    assert smoke["direct"]["rounded"] > 0.99
    assert smoke["shifted_matmul"]["rounded"] < 0.9
    assert smoke["shifted_matmul"]["changed"] > 10 * smoke["unfold_matmul"]["changed"]


def test_rows_tell_under_what_conditions_they_are(smoke):
    row = smoke["direct"]
    assert row["threads"] == 1
    assert row["flush_denormal"] is False
    assert row["onednn"] is True
    assert row["instructions"]
    assert smoke["linear"]["error_u"] is None
    assert row["linear_wrong"] == smoke["linear"]["wrong"]
    for other in smoke.values():
        assert row["wrong"] - other["wrong"] == pytest.approx((other["lost"] - other["gained"]) / 719, abs=1e-12)
