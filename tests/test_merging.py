"""Two kernels into one, a stack into one: against Fractions, and every refusal in one sentence."""

import itertools
import math

import pytest
import torch
from exactly import assert_equals, assert_within, error_limit, full_convolution, stack
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, divisors, integer_numbers, integers, mergeable_problems
from torch import nn

from linear_lasagna import Kernel, Layer
from linear_lasagna.exact import convolve
from linear_lasagna.merging import merge, merge_kernels, merge_stack, merged_layer, not_mergeable, order, pairs, regroup
from linear_lasagna.merging.order import merge_macs, merge_order
from linear_lasagna.merging.pairs import pair
from linear_lasagna.rounding import layer_bound

MODULES = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@st.composite
def weight_pairs(draw):
    """(first, second, groups) of whole numbers, of any rank and kernel sizes."""
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels = [groups * draw(st.integers(1, 2)) for _ in range(3)]
    taps = [tuple(draw(st.integers(1, 4 - rank // 2)) for _ in range(rank)) for _ in range(2)]
    seed = draw(SEEDS)
    first = integers((channels[1], channels[0] // groups, *taps[0]), 9, seed)
    second = integers((channels[2], channels[1] // groups, *taps[1]), 9, seed + 1)
    return first, second, groups


@given(weight_pairs())
def test_merge_kernels_is_the_full_convolution(pair):
    first, second, groups = pair
    expected = full_convolution(first, second, groups)
    shapes = f"merge_kernels of {tuple(first.shape)}, {tuple(second.shape)}, groups={groups}"
    merged = merge_kernels(first, second, groups)
    assert_equals(merged, expected, shapes)
    assert merged.is_contiguous()


@pytest.mark.parametrize("dtype", DTYPES)
def test_merge_kernels_keeps_the_dtype(dtype):
    merged = merge_kernels(torch.ones(2, 1, 2, 2, dtype=dtype), torch.ones(1, 2, 3, 3, dtype=dtype))
    assert merged.dtype is dtype
    assert merged[0, 0].tolist() == [[2, 4, 4, 2], [4, 8, 8, 4], [4, 8, 8, 4], [2, 4, 4, 2]]


@given(mergeable_problems(), SEEDS)
def test_merge_kernels_is_associative(problem, seed):
    """On whole numbers bitwise: a (b c) = (a b) c."""
    _, kernels = integer_numbers(problem, seed)
    dense = [regroup(kernel.weight, layer.groups, 1) for kernel, layer in zip(kernels, problem.layers, strict=True)]
    from_first = dense[0]
    for weight in dense[1:]:
        from_first = merge_kernels(from_first, weight)
    from_last = dense[-1]
    for weight in reversed(dense[:-1]):
        from_last = merge_kernels(weight, from_last)
    assert torch.equal(from_first, from_last)


@pytest.mark.parametrize(
    ("first", "second", "groups", "message"),
    [
        ((4, 2, 3, 3), (4, 4, 3), 1, "one rank"),
        ((4, 2), (4, 4), 1, "one rank"),
        ((4, 2, 1, 1, 1, 1), (4, 4, 1, 1, 1, 1), 1, "one rank"),
        ((4, 2, 3), (4, 3, 3), 1, "gives 4 channels, the second takes 3"),
        ((4, 2, 3), (4, 4, 3), 2, "gives 4 channels, the second takes 8"),
        ((4, 2, 3), (4, 4, 3), 0, "gives 4 channels, the second takes 0"),
        ((4, 2, 3), (3, 2, 3), 2, "3 channels.* 2 groups"),
    ],
)
def test_merge_kernels_refuses(first, second, groups, message):
    assert_refused(lambda: merge_kernels(torch.zeros(first), torch.zeros(second), groups), message)


@st.composite
def spread_pairs(draw):
    """Two layers that follow each other, with own groups, strides and dilations, and their whole-numbered weights."""
    rank = draw(st.integers(1, 3))
    widths = [12, 12, 12] if draw(st.booleans()) else [draw(st.sampled_from((1, 2, 4))) for _ in range(3)]
    layers = []
    for before, after in itertools.pairwise(widths):
        groups = draw(st.sampled_from(divisors(math.gcd(before, after))))
        sizes, strides, dilations = (
            tuple(draw(st.integers(1, most)) for _ in range(rank)) for most in (4 - rank // 2, 3, 4)
        )
        layers.append(Layer(after, sizes, strides, 0, dilations, groups).expand(rank))
    seed = draw(SEEDS)
    weights = [integers(layer.weight_shape(c), 4, seed + c) for layer, c in zip(layers, widths, strict=False)]
    return layers, weights, seed


@given(spread_pairs())
def test_merge_kernels_with_strides_dilations_and_groups(drawn):
    """On whole numbers: the merged weight is what the two layers make of an impulse, and zero between."""
    (first, second), (early, late), seed = drawn
    merged = merge_kernels(early, late, (first.groups, second.groups), first.stride, (first.dilation, second.dilation))
    layer = pair(first, second).merged
    channels = early.shape[1] * first.groups
    assert tuple(merged.shape) == layer.weight_shape(channels)
    x = integers((1, channels, *(reach + 3 for reach in layer.effective_kernel_size)), 4, seed)
    expected = stack_tensor(stack_tensor(x, Kernel(early), first), Kernel(late), second)
    assert torch.equal(stack_tensor(x, Kernel(merged), layer), expected), f"{first}, {second}, seed {seed}"


@given(spread_pairs())
def test_cost_of_a_merge_is_what_is_multiplied(drawn):
    """As many products as the grouped convolution that merges has taps and channels; no dense zeros among them."""
    (first, second), (early, _), _ = drawn
    both = pair(first, second)
    channels = early.shape[1] * first.groups
    batch, per_output = early.shape[1], both.layer.fan_in(early.shape[0])
    expected = batch * both.layer.out_channels * per_output * first.taps
    assert merge_macs(both, channels) == expected
    dense = first.out_channels * second.out_channels * channels * first.taps * second.taps
    assert merge_macs(both, channels) * min(first.groups, second.groups) <= dense


def every_order(start, stop):
    if stop - start == 1:
        yield start
        return
    for middle in range(start + 1, stop):
        yield from itertools.product(every_order(start, middle), every_order(middle, stop))


def cost_of(order, layers, channels):
    """(multiply-adds, layer, first layer's index) of merging in this order."""
    if isinstance(order, int):
        return 0, layers[order], order
    (early, first, start), (late, second, _) = (cost_of(part, layers, channels) for part in order)
    both = pair(first, second)
    return early + late + merge_macs(both, channels[start]), both.merged, start


@given(mergeable_problems(depths=(1, 6)))
def test_no_order_of_merging_is_cheaper(problem):
    found = merge_order(problem.expanded, problem.in_channels)
    costs = [cost_of(order, problem.expanded, problem.channels)[0] for order in every_order(0, problem.depth)]
    assert cost_of(found, problem.expanded, problem.channels)[0] == min(costs)


def test_order_of_numbers_beyond_64_bits():
    layers = [Layer(8 * size, 1).expand(1) for size in (2**40, 1, 2**40, 1)]
    small = [Layer(8 * size, 1).expand(1) for size in (2**4, 1, 2**4, 1)]
    assert merge_order(tuple(layers), 8) == merge_order(tuple(small), 8) == ((0, 1), (2, 3))


def test_a_deep_stack_is_merged_with_as_few_steps_as_it_has_runs(monkeypatch):
    """Finding an order merges layers, which is the slow part, once per run: depth squared / 2 times, not cubed."""
    steps = []
    monkeypatch.setattr(order, "pair", lambda first, second: steps.append(1) or pair(first, second))
    for depth in (10, 20, 40):
        steps.clear()
        merge_order.__wrapped__(tuple([Layer(8, 3).expand(2)] * depth), 8)
        assert len(steps) == depth * (depth - 1) / 2


def test_orders_of_known_stacks():
    """Plain stacks from the first layer on; SESR's blocks each on their own first."""
    plain = [Layer(8, 3).expand(2)] * 4
    assert merge_order(tuple(plain), 8) == (((0, 1), 2), 3)
    sesr = [Layer(256, 3).expand(2), Layer(16, 1).expand(2)] * 3
    assert merge_order(tuple(sesr), 16) == (((0, 1), (2, 3)), (4, 5))


@given(mergeable_problems(depths=(1, 4)), SEEDS)
def test_merged_stack_is_the_stack(problem, seed):
    """Whole numbers: the merged kernel gives the stack's very numbers, biases and groups included."""
    x, kernels = integer_numbers(problem, seed)
    kernel, layer = merge_stack(kernels, problem.expanded)
    expected = stack(x, kernels, problem.layers)
    assert_equals_shape(kernel, layer, problem.in_channels)
    assert_equals(stack_tensor(x, kernel, layer), expected, f"merge_stack of {problem!r}, seed {seed}")


def stack_tensor(x, kernel, layer):
    """One layer through torch in float64; exact on these whole numbers."""
    convolution = getattr(nn.functional, f"conv{x.ndim - 2}d")
    return convolution(x, kernel.weight, kernel.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def assert_equals_shape(kernel, layer, in_channels):
    assert tuple(kernel.weight.shape) == layer.weight_shape(in_channels)
    assert layer.bias == (kernel.bias is not None)
    assert kernel.bias is None or tuple(kernel.bias.shape) == (layer.out_channels,)


@given(mergeable_problems())
def test_merged_layer_keeps_the_size(problem):
    layer = merged_layer(problem.expanded)
    assert layer.output_size(problem.size) == problem.sizes[-1]
    assert layer.groups == math.gcd(*(each.groups for each in problem.layers))
    assert layer.bias == any(each.bias for each in problem.layers)


@pytest.mark.parametrize("merge_dtype", [None, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_merge_stack_rounds_as_stated(dtype, merge_dtype):
    """Against the exact kernel: in float64 and rounded once, or every layer's sums in the working dtype.

    The kernel of a pair is one convolution of their kernels, so the limit is a layer's of as many products.
    """
    layers = [Layer(8, 3).expand(2), Layer(4, 3).expand(2)]
    generator = torch.Generator().manual_seed(7)
    weights = [torch.randn(s, generator=generator).to(dtype) for s in ((8, 2, 3, 3), (4, 8, 3, 3))]
    kernel, _ = merge_stack([Kernel(w) for w in weights], layers, merge_dtype)
    assert kernel.weight.dtype is dtype
    x, flipped = weights[0].transpose(0, 1), weights[1].flip(2, 3)
    full = Layer(4, 3, padding=2).expand(2)
    exact = convolve(x, [Kernel(flipped)], [full])
    merged = kernel.weight.transpose(0, 1).contiguous()
    limit, magnitude = error_limit(x, [Kernel(flipped)], [full], [1], merge_dtype or dtype)
    if merge_dtype is not None:
        limit = limit + magnitude * layer_bound(0, 1, dtype) * (1 + 2**-40)
    assert_within(exact.error(merged), limit, f"merge_stack in {merge_dtype}, {dtype}")


@pytest.mark.parametrize(("groups", "fewer"), [(1, 1), (2, 1), (4, 1), (4, 2), (6, 3), (4, 4)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_regroup_is_the_same_convolution(groups, fewer, rank):
    size = (2,) * rank
    x, weight = integers((1, 2 * groups, *(3,) * rank), 3, 1), integers((3 * groups, 2, *size), 3, 2)
    wide = regroup(weight, groups, fewer)
    expected = stack(x, [Kernel(weight)], [Layer(3 * groups, 2, groups=groups)])
    found = stack(x, [Kernel(wide)], [Layer(3 * groups, 2, groups=fewer)])
    assert found == expected
    assert tuple(wide.shape[:2]) == (3 * groups, 2 * groups // fewer)


def module_of(layer, kernel, channels, dtype=torch.float64):
    module = MODULES[kernel.weight.ndim - 2](
        channels,
        layer.out_channels,
        layer.kernel_size,
        padding=layer.padding,
        groups=layer.groups,
        bias=layer.bias,
        dtype=dtype,
    )
    module.weight.data = kernel.weight.to(dtype)
    if kernel.bias is not None:
        module.bias.data = kernel.bias.to(dtype)
    return module


def modules_of(problem, kernels, dtype=torch.float64):
    rows = zip(problem.layers, kernels, problem.channels, strict=False)
    return [module_of(*row, dtype) for row in rows]


@given(mergeable_problems(depths=(1, 3)), SEEDS, st.booleans())
def test_merge_of_modules_is_the_stack(problem, seed, sequential):
    x, kernels = integer_numbers(problem, seed)
    modules = modules_of(problem, kernels)
    merged = merge(nn.Sequential(*modules) if sequential else modules)
    assert type(merged) is MODULES[problem.rank]
    expected = stack(x, kernels, problem.layers)
    assert_equals(merged(x).detach(), expected, f"merge of {problem!r}, seed {seed}")


@given(mergeable_problems(depths=(2, 2), ranks=(2,)), SEEDS, st.sampled_from(DTYPES))
def test_merge_returns_the_inputs_dtype(problem, seed, dtype):
    """Exact on these small numbers in every dtype, because the merge itself runs in float64."""
    _, kernels = integer_numbers(problem, seed)
    merged = merge(modules_of(problem, kernels, dtype))
    assert {p.dtype for p in merged.parameters()} == {dtype}
    exact = merge(modules_of(problem, kernels))
    for found, expected in zip(merged.parameters(), exact.parameters(), strict=True):
        assert torch.equal(found, expected.to(dtype))


def test_merge_is_exact_where_the_working_dtype_is_not():
    """2049 = 2048 + 1 is no float16, and -2048 cancels it: float64 keeps the 1 that float16 would lose."""
    first = nn.Conv1d(1, 3, 1, bias=False, dtype=torch.float16)
    second = nn.Conv1d(3, 1, 1, bias=False, dtype=torch.float16)
    first.weight.data = torch.tensor([[[2048.0]], [[2.0**-3]], [[-2048.0]]], dtype=torch.float16)
    second.weight.data = torch.tensor([[[8192.0], [8.0], [8192.0]]], dtype=torch.float16)
    assert merge([first, second]).weight.item() == 1.0


def test_merge_leaves_its_input_alone():
    modules = [nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 1)]
    kept = [p.clone() for module in modules for p in module.parameters()]
    merged = merge(modules)
    merged.weight.data.zero_()
    merged.bias.data.zero_()
    assert all(
        torch.equal(a, b) for a, b in zip(kept, itertools.chain(*(m.parameters() for m in modules)), strict=True)
    )
    assert all(p.requires_grad and p.is_leaf for p in merged.parameters())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("biases", [(True,), (False,), (False, True), (True, False)], ids=str)
def test_merge_shares_no_memory(dtype, biases):
    """Training the merged convolution must not change the given ones, even where nothing was merged."""
    modules = [nn.Conv2d(2, 2, 3, bias=bias, dtype=dtype) for bias in biases]
    given_memory = {p.data_ptr() for module in modules for p in module.parameters()}
    assert given_memory.isdisjoint(p.data_ptr() for p in merge(modules).parameters())


def test_merged_module_can_be_saved_and_loaded():
    merged = merge([nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3)])
    other = nn.Conv2d(2, 2, 5)
    other.load_state_dict(merged.state_dict())
    x = torch.ones(1, 2, 7, 7)
    assert torch.equal(other(x), merged(x))


def conv(*arguments, **keywords):
    return nn.Conv2d(*arguments, **keywords)


def filled(module, name, value):
    getattr(module, name).data.view(-1)[-1] = value
    return module


REFUSED = {
    "empty": (list, "no layer to merge"),
    "empty Sequential": (lambda: nn.Sequential(), "no layer to merge"),
    "channels": (lambda: [conv(1, 2, 3), conv(3, 1, 3)], "layer 0 gives 2 channels, layer 1 takes 3"),
    "padding_mode": (
        lambda: [conv(1, 2, 3, padding=2, padding_mode="circular"), conv(2, 1, 3)],
        "padding_mode",
    ),
    "activation": (lambda: nn.Sequential(conv(1, 2, 3), nn.ReLU(), conv(2, 1, 3)), "layer 1 is a ReLU"),
    "transposed": (lambda: [nn.ConvTranspose2d(1, 2, 3)], "layer 0 is a ConvTranspose2d"),
    "linear": (lambda: [nn.Linear(2, 2)], "layer 0 is a Linear"),
    "no module": (lambda: [conv(1, 2, 3), "conv"], "layer 1 is a str"),
    "complex": (lambda: [conv(1, 2, 3), conv(2, 1, 3, dtype=torch.complex64)], "layer 1 is torch.complex64"),
    "ranks": (lambda: [nn.Conv1d(1, 2, 3), conv(2, 1, 3)], "layer 0 and layer 1 differ .* spatial axes"),
    "dtypes": (lambda: [conv(1, 2, 3), conv(2, 1, 3).half()], "layer 0 and layer 1 differ in dtype"),
    "infinite weight": (lambda: [conv(1, 2, 3), filled(conv(2, 1, 3), "weight", math.inf)], "layer 1 has a weight"),
    "NaN bias": (lambda: [filled(conv(1, 2, 3), "bias", math.nan)], "layer 0 has a bias with .* not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_merge_refuses_in_one_sentence(case):
    make, message = REFUSED[case]
    assert_refused(lambda: merge(make()), message)


def assert_refused(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    text = str(refusal.value)
    assert "\n" not in text
    assert "zip()" not in text


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([], "no layer"),
        ([Layer(2, 3, padding=1)] * 2, "layer 1: zero padding"),
        ([Layer(2, 3, padding=2, bias=True)] * 2, "layer 1: a bias"),
        ([Layer(2, 3, padding=2), Layer(2, 3), Layer(2, 1, padding=1)], "layer 2: zero padding"),
        ([Layer(2, 3, padding=2, dilation=2), Layer(2, 1, padding=1)], "layer 1: zero padding"),
        ([Layer(2, 3, stride=2)] * 2, None),
        ([Layer(2, 3, dilation=2), Layer(2, 3, dilation=3)], None),
        ([Layer(2, 3, padding=1, bias=True), Layer(2, 3, bias=True)], None),
        ([Layer(2, 1), Layer(2, 3, padding=1)], None),
        ([Layer(2, 3, padding=4, dilation=2), Layer(2, 1, padding=1)], None),
        ([Layer(2, 3, padding=4), Layer(2, 3), Layer(2, 1, padding=1)], None),
        ([Layer(2, 3)] * 2, None),
        ([Layer(2, 3, padding=2), Layer(2, 1)], None),
        ([Layer(2, 3, padding=2)] * 2, None),
    ],
)
def test_not_mergeable(layers, reason):
    expanded = [layer.expand(2) for layer in layers]
    found = not_mergeable(expanded)
    assert (found is None) if reason is None else (reason in found)
    if reason is not None:
        assert_refused(lambda: merged_layer(expanded), reason)


@pytest.mark.parametrize(
    "taps", [((1, 1), (3, 2)), ((3, 2), (1, 1)), ((1, 1), (1, 1))], ids=["first", "second", "both"]
)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 3)])
def test_a_kernel_of_one_tap_merges_by_a_matrix_product(monkeypatch, taps, stride, dilation):
    """In float64, without a convolution; on small integers all orders of summation give the same."""
    layers = [Layer(5, taps[0], stride, 0, dilation).expand(2), Layer(4, taps[1], 1, 0, dilation).expand(2)]
    draw = torch.Generator().manual_seed(0)
    first, second = (
        torch.randint(-8, 9, shape, generator=draw) for shape in (layers[0].weight_shape(3), layers[1].weight_shape(5))
    )
    both = pair(*layers)
    expected = both.merge(first.float(), second.float()).double()
    monkeypatch.setattr(pairs, "CONVOLUTIONS", {})
    found = both.merge(first.double(), second.double())
    assert torch.equal(found, expected)
    assert found.is_contiguous()
    assert found.shape == both.merged.weight_shape(3)
