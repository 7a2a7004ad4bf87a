"""`merge` on PyTorch's modules: any padding, the stack's outputs and gradients, and all that a module can be put to."""

import copy
import itertools

import pytest
import torch
from exactly import assert_within, magnitudes
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, integer_numbers, integers, padded_problems
from torch import nn
from torch.nn.utils import prune

from linear_lasagna import SCHEDULES, Layer, Problem
from linear_lasagna.merging import merge
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.rounding import layer_bound
from linear_lasagna.validation import way_bound
from linear_lasagna.ways import Way

MODULES = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def modules_of(problem, kernels, dtype=torch.float64, padding=None):
    """The problem as an nn.Sequential; padding: a word in place of every layer's own."""
    modules = []
    for layer, kernel, channels in zip(problem.expanded, kernels, problem.channels, strict=False):
        pads = layer.padding if padding is None else padding
        module = MODULES[problem.rank](
            channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            pads,
            layer.dilation,
            layer.groups,
            layer.bias,
            dtype=dtype,
        )
        module.weight.data = kernel.weight.to(dtype)
        if kernel.bias is not None:
            module.bias.data = kernel.bias.to(dtype)
        modules.append(module)
    return nn.Sequential(*modules)


def in_regions(merged, size):
    """The module, made to compute border and interior apart even where the layers would be cheaper."""
    assert merged.settle(size)
    return merged


def in_regions_if_any(merged, size):
    """The same for what may be one convolution, or have no interior."""
    if isinstance(merged, BorderExact):
        merged.settle(size)
    return merged


@given(padded_problems(), SEEDS, st.booleans())
def test_merged_is_the_stack_on_integers(problem, seed, forced):
    x, kernels = integer_numbers(problem, seed)
    modules = modules_of(problem, kernels)
    merged = merge(modules)
    merged = in_regions_if_any(merged, problem.size) if forced else merged
    assert torch.equal(merged(x), modules(x)), f"{problem!r}, seed {seed}"
    assert torch.equal(merged(x[0]), modules(x)[0]), "without a batch"


@given(padded_problems(), SEEDS)
def test_merged_is_the_stack_within_the_bounds_of_both(problem, seed):
    x, kernels = problem.draw(torch.float64, seed=seed)
    modules = modules_of(problem, kernels)
    way = Way(SCHEDULES["border_exact"], "direct")  # its bound counts the stack's operations and the merged ones
    limit = 2 * way_bound(problem, way, torch.float64)[0] * magnitudes(x, kernels, problem.layers)
    merged = in_regions_if_any(merge(modules), problem.size)
    assert_within((merged(x) - modules(x)).detach(), limit + 2.0**-1000, f"{problem!r}, seed {seed}")


@given(padded_problems(), SEEDS)
def test_gradients_are_the_stacks(problem, seed):
    """Whole numbers: bitwise, to the input."""
    x, kernels = integer_numbers(problem, seed)
    modules = modules_of(problem, kernels)
    found = []
    for module in (modules, in_regions_if_any(merge(modules), problem.size)):
        start = x.clone().requires_grad_()
        y = module(start)
        y.backward(integers(y.shape, 3, seed))
        found.append(start.grad)
    assert torch.equal(*found), f"{problem!r}, seed {seed}"


@st.composite
def same_problems(draw):
    """Stacks of stride 1, to be padded by 'same', kernels of even size among them."""
    rank, depth = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    layers = [
        Layer(
            draw(st.sampled_from((2, 4))),
            tuple(draw(st.integers(1, 4 if rank < 3 else 2)) for _ in range(rank)),
            dilation=tuple(draw(st.integers(1, 3 if rank < 3 else 1)) for _ in range(rank)),
            groups=draw(st.sampled_from((1, 2))),
            bias=draw(st.booleans()),
        )
        for _ in range(depth)
    ]
    # Large enough to be a problem without padding too.
    reach = [sum(axis) for axis in zip(*(layer.expand(rank).effective_kernel_size for layer in layers), strict=True)]
    return Problem("same", 1, 2, tuple(n + draw(st.integers(0, 6)) for n in reach), tuple(layers))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(same_problems(), SEEDS)
def test_same_padding(problem, seed):
    """Uneven padding too: of an odd number of zeros PyTorch puts one more after."""
    x, kernels = integer_numbers(problem, seed)
    modules = modules_of(problem, kernels, padding="same")
    merged = in_regions_if_any(merge(modules), problem.size)
    assert merged(x).shape[2:] == x.shape[2:]
    assert torch.equal(merged(x), modules(x)), f"{problem!r}, seed {seed}"


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_what_one_convolution_can_do_is_one_convolution():
    cases = [
        ([nn.Conv2d(1, 2, 3, padding="valid"), nn.Conv2d(2, 1, 1, padding="same")], (0, 0)),
        ([nn.Conv2d(1, 2, 4, padding="same"), nn.Conv2d(2, 1, 1)], "same"),
        ([nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, stride=2)], (1, 1)),
        ([nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 3, padding=1)], (1, 1)),
        ([nn.Conv2d(1, 2, 3, padding=2, bias=False), nn.Conv2d(2, 1, 3, padding=1)], (3, 3)),
    ]
    for modules, padding in cases:
        merged = merge(modules)
        assert (type(merged), merged.padding) == (nn.Conv2d, padding)
    assert isinstance(merge([nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1)]), BorderExact)
    assert isinstance(merge([nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 3, padding=1)]), BorderExact)


def test_groups_strides_and_gaps_are_kept():
    """Depthwise stays depthwise; taps 4 apart and 2 x 6 apart share a gap of 4."""
    merged = merge([nn.Conv1d(8, 8, 3, stride=2, dilation=4, groups=8), nn.Conv1d(8, 16, 2, dilation=6, groups=8)])
    assert (merged.groups, merged.stride, merged.dilation) == (8, (2,), (4,))
    assert tuple(merged.weight.shape) == (16, 1, 6)
    mixed = merge([nn.Conv1d(12, 12, 3, groups=4), nn.Conv1d(12, 12, 3, groups=6)])
    assert (mixed.groups, tuple(mixed.weight.shape)) == (2, (12, 6, 5))


def test_summed_border():
    modules = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding=1) for _ in range(2)))
    summed, x = merge(modules, border="summed"), torch.randn(1, 2, 9, 9)
    assert (type(summed), summed.padding) == (nn.Conv2d, (2, 2))
    torch.testing.assert_close(summed(x)[..., 1:-1, 1:-1], modules(x)[..., 1:-1, 1:-1])
    assert not torch.allclose(summed(x), modules(x))
    with pytest.raises(ValueError, match=r"border must be one of exact, summed, not 'zeros'"):
        merge(modules, border="zeros")
    uneven = [nn.Conv2d(1, 2, 2, padding="same"), nn.Conv2d(2, 1, 3, stride=2, padding=1)]
    with pytest.raises(ValueError, match="as many zeros before as after"):
        merge(uneven, border="summed")


def pair(dtype=torch.float32, rank=2):
    """A wide layer between narrow ones, whose merge takes a fifth of the products."""
    torch.manual_seed(4)
    convolution = MODULES[rank]
    return nn.Sequential(
        convolution(2, 32, 3, padding=1, dtype=dtype), convolution(32, 2, 3, padding=1, bias=False, dtype=dtype)
    )


def test_the_layers_run_where_merging_saves_too_little(counting_machine):
    """The pair saves 9 of 10 products, and takes 8 small ones more: worth it on a large image, or on many."""
    merged = merge(pair())
    assert merged.plan((256, 256)) is not None
    assert merged.plan((32, 32)) is None
    assert merged.plan((32, 32), batch=512) is not None
    assert merged.plan((2, 2), batch=10**9) is None
    dearer = merge([nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)])
    assert dearer.plan((64, 64), batch=10**9) is None
    x = torch.randn(1, 8, 64, 64)
    assert torch.equal(dearer(x), nn.Sequential(*dearer.layers)(x))


def test_border_kernels_serve_every_size():
    """A stack of stride 2 in one axis and 3 in the other has six alignments, each with kernels of its own."""
    torch.manual_seed(1)
    strided = nn.Conv2d(2, 4, 3, stride=(2, 1), padding=1, bias=False, dtype=torch.float64)
    following = nn.Conv2d(4, 2, (3, 2), stride=(1, 3), padding=(1, 2), dtype=torch.float64)
    modules = nn.Sequential(strided, following)
    merged = merge(modules)
    for size in itertools.product(range(19, 23), range(17, 21)):
        x = torch.randn(1, 2, *size, dtype=torch.float64)
        assert (in_regions(merged, size)(x) - modules(x)).abs().max() <= limit_of(modules(x), torch.float64)


def test_where_strides_leave_too_many_alignments_the_layers_run():
    modules = nn.Sequential(nn.Conv2d(1, 64, 3, stride=5, padding=1), nn.Conv2d(64, 1, 3, padding=1))
    merged = merge(modules)
    assert len(merged.border) == 0
    assert not merged.settle((500, 500))
    x = torch.randn(1, 1, 500, 500)
    assert torch.equal(merged(x), modules(x))


def limit_of(y, dtype):
    """Two layers of 18 and 288 products and a bias, merged from 32 channels at most: for numbers of order 1."""
    return 100 * y.detach().abs().max().double() * layer_bound(18 + 288, 4, dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype):
    exact = pair(torch.float64)
    merged = in_regions(merge(exact).to(dtype), (24, 24))
    assert {p.dtype for p in merged.parameters()} == {dtype}
    x = torch.randn(1, 2, 24, 24, dtype=dtype)
    y = merged(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    assert (y.double() - exact(x.double())).abs().max() <= limit_of(y, dtype)


@pytest.mark.parametrize("rank", [2, 3])
def test_channels_last(rank):
    modules = pair(rank=rank)
    order = {2: torch.channels_last, 3: torch.channels_last_3d}[rank]
    merged = in_regions(merge(modules).to(memory_format=order), (12,) * rank)
    x = torch.randn(2, 2, *(12,) * rank)
    y = merged(x.contiguous(memory_format=order))
    assert y.is_contiguous(memory_format=order)
    assert (y - modules(x)).abs().max() <= limit_of(y, torch.float32)


def test_state_dict_round_trip():
    torch.manual_seed(0)
    modules = [nn.Conv2d(2, 16, 3, padding=1), nn.Conv2d(16, 2, 1), nn.Conv2d(2, 16, 3, padding=1)]
    merged, other = merge(modules), merge([copy.deepcopy(m) for m in modules])
    assert sorted({key.split(".")[0] for key in merged.state_dict()}) == ["border", "layers", "merged"]
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    assert other.load_state_dict(merged.state_dict()).missing_keys == []
    x = torch.randn(1, 2, 30, 30)
    merged, other = in_regions(merged, (30, 30)), in_regions(other, (30, 30))
    assert torch.equal(other(x), merged(x))
    assert torch.equal(copy.deepcopy(merged)(x), merged(x))


def test_parameters_receive_gradients_and_share_no_memory():
    modules = pair()
    merged = in_regions(merge(modules), (24, 24))
    merged(torch.randn(1, 2, 24, 24)).sum().backward()
    computing = [*merged.merged.parameters(), *merged.border.parameters()]
    assert all(p.grad is not None and bool(p.grad.any()) for p in computing)
    assert all(p.grad is None for p in merged.layers.parameters())
    given_memory = {p.data_ptr() for p in modules.parameters()}
    assert given_memory.isdisjoint(p.data_ptr() for p in merged.parameters())


def test_a_compiler_takes_the_decision_for_a_constant():
    """Marked as torch marks it, without importing the compiler."""
    marked = torch.compiler.assume_constant_result(lambda: None)
    assert vars(BorderExact._decide).items() >= vars(marked).items() > set()


def test_compiles_whole(counting_machine):
    """Without a graph break, for one size after another, those included for which the layers run."""
    torch._dynamo.reset()
    modules = pair()
    merged = merge(modules)
    compiled = torch.compile(merged, fullgraph=True, backend="aot_eager")
    for size in ((250, 254), (261, 254), (2, 3)):
        assert (merged.plan(size) is None) == (size == (2, 3))
        x = torch.randn(1, 2, *size, requires_grad=True)
        y = compiled(x)
        assert (y - modules(x)).abs().max() <= limit_of(y, torch.float32)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        (expected,) = torch.autograd.grad(modules(x).sum(), x)
        assert (gradient - expected).abs().max() <= limit_of(expected, torch.float32)


def test_a_compiled_module_heeds_what_is_settled_later():
    """And does not compute by the plan of another that looks the same to the compiler."""
    torch._dynamo.reset()
    modules, x = pair(torch.float64), torch.randn(1, 2, 24, 24, dtype=torch.float64)
    by_layers, merged = merge(modules), merge(modules)
    compiled = [torch.compile(module, fullgraph=True, backend="aot_eager") for module in (by_layers, merged)]
    # Zeros in what must not be read: these modules show by their numbers how they computed them.
    for parameter in (*by_layers.merged.parameters(), *by_layers.border.parameters(), *merged.layers.parameters()):
        nn.init.zeros_(parameter)
    assert not compiled[1](x).any()
    assert merged.settle((24, 24))
    for call in reversed(compiled):
        assert (call(x) - modules(x)).abs().max() <= limit_of(modules(x), torch.float64)


def test_what_is_settled_holds_for_more_images_too(counting_machine):
    merged = merge(pair())
    assert merged.settle((24, 24), batch=3)
    assert [merged.plan((24, 24), batch) is not None for batch in (2, 3, 4)] == [False, True, True]
    assert merged.plan((25, 24), 3) is None
    assert merged.settle((32, 32), batch=10**6)
    assert merged.plan((32, 32), 512) is not None  # by its costs, as before


def test_repr_says_what_it_is():
    text = repr(merge(pair()))
    assert text.startswith("BorderExact(\n  2, 2, kernel_size=(5, 5), stride=(1, 1)")


class Doubling(nn.Conv2d):
    def _conv_forward(self, *given):
        return 2 * super()._conv_forward(*given)


class Derived(nn.Conv2d):
    """Changes nothing that a call does."""


class ThenReLU(nn.Sequential):
    def forward(self, x):
        return super().forward(x).relu()


class Renamed(nn.Sequential):
    """Changes nothing that a call does."""


def doubled(model, register="register_forward_hook", at=None):
    (model if at is None else model[at]).__getattribute__(register)(lambda *seen: 2 * seen[-1])
    return model


def patched(model):
    forward = model[0].forward
    model[0].forward = lambda x: 2 * forward(x)
    return model


def with_layer(make):
    return nn.Sequential(make(), nn.Conv2d(32, 2, 1))


def stale():
    """Until it is called again, the layer's weight is what it was before the step."""
    model = with_layer(lambda: nn.utils.weight_norm(nn.Conv2d(2, 32, 1)))
    with torch.no_grad():
        model[0].weight_g.mul_(2)
    return model


def pruned():
    return with_layer(lambda: prune.l1_unstructured(nn.Conv2d(2, 32, 1), "weight", 3))


HOOKS = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
)
NOT_PLAIN = {
    **{
        f"{hook} of a layer": (lambda hook=hook: doubled(pair(), hook, 0), "layer 0, a Conv2d,.* hooks")
        for hook in HOOKS
    },
    **{f"{hook} of all": (lambda hook=hook: doubled(pair(), hook), "a Sequential .* hooks") for hook in HOOKS},
    "own forward": (lambda: ThenReLU(*pair()), "a ThenReLU cannot be merged: it has a forward of its own"),
    "forward replaced": (lambda: patched(pair()), "layer 0, a Conv2d, .* a forward of its own"),
    "own convolution": (lambda: with_layer(lambda: Doubling(2, 32, 1)), "layer 0, a Doubling, .* a forward of its own"),
    "stale weight_norm": (stale, "layer 0, a Conv2d, .* hooks run around it"),
    "pruned": (pruned, "layer 0, a Conv2d, .* hooks run around it"),
    "parametrization": (
        lambda: with_layer(lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 32, 1))),
        "layer 0, a ParametrizedConv2d, .* computed anew",
    ),
    "another module": (lambda: nn.Conv2d(2, 2, 1), "a Conv2d cannot be merged: it is no nn.Sequential"),
    "not there yet": (lambda: with_layer(lambda: nn.LazyConv2d(32, 1)), "layer 0, a LazyConv2d, .* hooks"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Lazy modules:UserWarning")
@pytest.mark.parametrize("case", NOT_PLAIN)
def test_what_does_more_than_its_numbers_say_is_refused(case):
    """Each would be merged into something else than a call of it computes, or into what its hooks do not see."""
    make, message = NOT_PLAIN[case]
    with pytest.raises(ValueError, match=message):
        merge(make())


def test_subclasses_that_change_nothing_are_merged():
    torch.manual_seed(0)
    modules = Renamed(Derived(2, 32, 3), nn.Conv2d(32, 2, 1)).double()
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    assert (merge(modules)(x) - modules(x)).abs().max() <= limit_of(modules(x), torch.float64)
    listed = merge(nn.ModuleList(modules))
    assert torch.equal(listed(x), merge(modules)(x))
