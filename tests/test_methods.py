"""Every method: exact on whole numbers, within its bound elsewhere, and honest about what it cannot do."""

import dataclasses
import functools

import pytest
import torch
from exactly import assert_equals, assert_within, error_limit, moved, stack
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, REDUCED, SEEDS, SUMMED, integer_numbers, patch_problems, problems

from linear_lasagna import METHODS, Kernel, Layer, Problem
from linear_lasagna.exact import convolve

# torch's own convolution is oneDNN's, except in float64. In torch 2.13, on AVX-512 and AMX, it reads outside its
# input on some unusual layers and may crash (float16: kernel 1, stride 2, padding 1, dilation 2, groups 2; float32 in
# channels_last order too), and gets others wrong (bfloat16: kernel (3, 4), stride (1, 3), padding (2, 0), dilation
# (1, 2)). So layers drawn at random are given to it in float64 only, and usual ones in every dtype.
LIBRARY_CONVOLUTIONS = ("direct", "direct_channels_last")


def is_trusted(name, dtype):
    """Whether the method may be given any layer in this dtype without crashing the tests."""
    return dtype is torch.float64 or name not in LIBRARY_CONVOLUTIONS


def apply(name, x, kernels, layers, device):
    """The method, layer after layer, on the device; None where it does not support one of them. What it gives comes
    back to the CPU.
    """
    method = METHODS[name]
    if any(method.unsupported(layer.expand(x.ndim - 2), x.dtype, device) is not None for layer in layers):
        return None
    x, kernels = moved(device, x, kernels)
    for kernel, layer in zip(kernels, layers, strict=True):
        x = method(x, kernel, layer)
        assert x.device.type == torch.device(device).type
    return x.cpu()


def roundings(name, problem):
    return [METHODS[name].roundings(layer) for layer in problem.expanded]


def reproducer(name, problem, dtype, draw):
    return f"METHODS[{name!r}] on {problem!r}, {dtype}, {draw}"


def is_supported(name, problem, dtype, device="cpu"):
    return all(METHODS[name].unsupported(layer, dtype, device) is None for layer in problem.expanded)


# What a method does not support is tested further down.
CASES = [
    pytest.param(problem, dtype, id=f"{name}-{str(dtype).removeprefix('torch.')}")
    for name, problem in REDUCED.items()
    for dtype in DTYPES
]


def some_outputs(problem, kernels):
    """(kernels, layers, index into y) for 32 or so of a wide layer's output channels; their fan-in stays whole."""
    (*_, layer), (*_, kernel) = problem.expanded, kernels
    step = layer.out_channels // 32
    if problem.depth > 1 or layer.groups > 1 or step < 2:
        return kernels, problem.expanded, (slice(None),)
    part = slice(None, None, step)
    fewer = Kernel(kernel.weight[part], None if kernel.bias is None else kernel.bias[part])
    return (fewer,), (dataclasses.replace(layer, out_channels=len(fewer.weight)),), (slice(None), part)


@pytest.mark.parametrize(("problem", "dtype"), CASES)
def test_catalogue_within_the_bound(problem, dtype, device):
    """Reduced to a few outputs with the full fan-in; against the exact result."""
    names = [name for name in SUMMED if is_supported(name, problem, dtype, device)]
    assert "direct" in names
    x, kernels = problem.draw(dtype, seed=1)
    some, layers, index = some_outputs(problem, kernels)
    exact = convolve(x, some, layers)
    limit_of = functools.cache(lambda roundings: error_limit(x, some, layers, roundings, dtype)[0])
    for name in names:
        limit = limit_of(tuple(roundings(name, problem)))
        y = apply(name, x, kernels, problem.layers, device)
        assert y.dtype is dtype
        assert tuple(y.shape) == problem.shapes[-1]
        assert_within(exact.error(y[index]), limit, reproducer(name, problem, dtype, "seed 1"))


def check_integers(problem, seed, names, device):
    """Every output is exact in every dtype: 108 products of 2 and 1 at most, and a bias, fit into 8 bits."""
    single = Problem("drawn", problem.batch, problem.in_channels, problem.size, problem.layers[:1])
    x, kernels = integer_numbers(single, seed)
    expected = stack(x, kernels, single.layers)
    for dtype in DTYPES:
        rounded = [Kernel(k.weight.to(dtype), None if k.bias is None else k.bias.to(dtype)) for k in kernels]
        for name in names:
            y = apply(name, x.to(dtype), rounded, single.layers, device) if is_trusted(name, dtype) else None
            if y is not None:
                assert y.dtype is dtype
                assert_equals(y, expected, reproducer(name, single, dtype, f"integer_numbers, seed {seed}"))


@given(problems(depths=(1, 1)), SEEDS)
def test_exact_on_integers(device, problem, seed):
    check_integers(problem, seed, SUMMED, device)


@given(patch_problems(), SEEDS)
def test_patches_exact_on_integers(device, problem, seed):
    """Windows that tile the input, the only ones that patch_matmul takes."""
    assert is_supported("patch_matmul", problem, torch.float64)
    check_integers(problem, seed, SUMMED, device)


USUAL = [
    Layer(8, 3, padding=1),
    Layer(8, 3, stride=2, padding=1, bias=True),
    Layer(16, 1),
    Layer(16, 1, stride=2, bias=True),
    Layer(8, 3, padding=1, groups=8),
    Layer(8, 3, padding=2, dilation=2, groups=2),
    Layer(4, (1, 5), padding=(0, 2), bias=True),
    Layer(4, 4, stride=4),
]


@pytest.mark.parametrize("layer", USUAL, ids=str)
def test_usual_layers_exact_on_integers(layer, device):
    """What networks are made of, in every dtype, the library's own convolutions included."""
    problem = Problem("usual", 1, 8, (6, 5), (layer,))
    x, kernels = integer_numbers(problem, seed=5, largest=1)
    expected = stack(x, kernels, [layer])
    for dtype in DTYPES:
        rounded = [Kernel(k.weight.to(dtype), None if k.bias is None else k.bias.to(dtype)) for k in kernels]
        for name in SUMMED:
            y = apply(name, x.to(dtype), rounded, [layer], device)
            if y is not None:
                assert_equals(y, expected, reproducer(name, problem, dtype, "integer_numbers, seed 5, largest 1"))


@given(problems(depths=(2, 3)), SEEDS)
def test_stacks_exact_on_integers(device, problem, seed):
    """One method's output is the next one's input, in whatever memory format it comes."""
    x, kernels = integer_numbers(problem, seed)
    expected = stack(x, kernels, problem.layers)
    for name in SUMMED:
        y = apply(name, x, kernels, problem.layers, device)
        if y is not None:
            assert_equals(y, expected, reproducer(name, problem, torch.float64, f"integer_numbers, seed {seed}"))


@given(problems(), SEEDS, st.sampled_from(DTYPES), st.sampled_from(("random", "positive")))
def test_within_the_bound(device, problem, seed, dtype, signs):
    x, kernels = problem.draw(dtype, seed=seed, signs=signs)
    exact = convolve(x, kernels, problem.layers)
    for name in SUMMED:
        y = apply(name, x, kernels, problem.layers, device) if is_trusted(name, dtype) else None
        if y is not None:
            limit, _ = error_limit(x, kernels, problem.expanded, roundings(name, problem), dtype)
            assert_within(exact.error(y), limit, reproducer(name, problem, dtype, f"seed {seed}, {signs}"))


LAYOUTS = {
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "strided": lambda x: torch.stack([x, x], dim=-1).flatten(-2)[..., ::2],
    "expanded": lambda x: x[:1].expand_as(x),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SUMMED)
def test_layout_of_the_input_is_free(name, layout):
    """Whatever its strides, an input is not changed, and gives what a contiguous copy gives."""
    layer = Layer(4, 2, stride=2, groups=2, bias=True)
    x, kernels = integer_numbers(Problem("layouts", 2, 4, (6, 4), (layer,)), seed=3)
    view = LAYOUTS[layout](x)
    copy = view.clone(memory_format=torch.contiguous_format)
    kept = [copy.clone(), kernels[0].weight.clone(), kernels[0].bias.clone()]
    y = METHODS[name](view, kernels[0], layer)
    assert_equals(y, stack(copy, kernels, [layer]), f"METHODS[{name!r}], {layout}")
    assert all(torch.equal(a, b) for a, b in zip(kept, (view, *kernels[0]), strict=True)), "the input was changed"


@pytest.mark.parametrize("shape", [(2, 1, 14, 7), (2, 3, 1, 1)])
def test_strides_of_what_is_one_long_change_no_bit(shape):
    """One channel lies the same in NCHW and in NHWC; which of them its strides tell must not matter."""
    layer = Layer(2, tuple(min(n, 2) for n in shape[2:]), bias=True)
    _, kernels = Problem("one", 2, shape[1], shape[2:], (layer,)).draw(torch.float32, seed=0)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    last = x.as_strided(shape, torch.empty(shape, memory_format=torch.channels_last).stride())
    assert torch.equal(x, last)
    y = [METHODS["direct_channels_last"](image, kernels[0], layer) for image in (x, last)]
    assert torch.equal(*y)


@pytest.mark.parametrize("name", SUMMED)
def test_a_prepared_call_serves_any_batch_and_size(name):
    layer = Layer(4, 2, stride=2, groups=2, bias=True)
    x, kernels = integer_numbers(Problem("sizes", 3, 4, (7, 6), (layer,)), seed=4)
    call = METHODS[name].prepare(kernels[0], layer)
    for part in (x, x[:1], x[..., :4, :], x):
        assert_equals(call(part), stack(part, kernels, [layer]), f"METHODS[{name!r}], x of {tuple(part.shape)}")


@pytest.mark.parametrize("name", SUMMED)
def test_gradients_are_not_needed(name):
    """A module's weight works as it is; NumPy alone would refuse a tensor that asks for a gradient."""
    module = torch.nn.Conv2d(2, 2, 2, stride=2)
    kernel = Kernel(module.weight, module.bias)
    y = METHODS[name](torch.ones(1, 2, 4, 4), kernel, Layer(2, 2, stride=2, bias=True))
    assert y.shape == (1, 2, 2, 2)


UNSUPPORTED = [
    ("direct_channels_last", Layer(2, (3,)), torch.float32, "cpu", "2 or 3 spatial axes"),
    ("unfold_matmul", Layer(2, (3, 3, 3)), torch.float32, "cpu", "third spatial axis"),
    ("im2col_numpy", Layer(2, (3,)), torch.float32, "cpu", "2 spatial axes"),
    ("im2col_numpy", Layer(2, (3, 3, 3)), torch.float32, "cpu", "2 spatial axes"),
    ("im2col_numpy", Layer(2, (3, 3)), torch.bfloat16, "cpu", "no bfloat16"),
    ("im2col_numpy", Layer(2, (3, 3)), torch.float16, "cpu", "float16"),
    ("im2col_numpy", Layer(2, (3, 3)), torch.float32, "cuda", "CPU only"),
    ("im2col_numpy", Layer(2, (3, 3)), torch.float64, "mps", "CPU only"),
    ("patch_matmul", Layer(2, (3, 3)), torch.float32, "cpu", "kernel size = stride"),
    ("patch_matmul", Layer(2, (3, 2), (2, 3)), torch.float32, "cpu", "kernel size = stride"),
    ("patch_matmul", Layer(2, (3, 3), 3, padding=(0, 1)), torch.float32, "cpu", "no padding"),
    ("patch_matmul", Layer(2, (3, 3), 3, dilation=2), torch.float32, "cpu", "no dilation"),
    ("patch_matmul", Layer(2, 3), torch.float32, "cpu", "kernel size = stride"),
]


@pytest.mark.parametrize(("name", "layer", "dtype", "device", "reason"), UNSUPPORTED, ids=str)
def test_unsupported_gives_a_reason(name, layer, dtype, device, reason):
    found = METHODS[name].unsupported(layer, dtype, device)
    assert reason in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("name", "layer", "dtype", "reason"),
    [(name, layer, dtype, reason) for name, layer, dtype, device, reason in UNSUPPORTED if device == "cpu"],
    ids=str,
)
def test_preparing_the_unsupported_raises_its_reason(name, layer, dtype, reason):
    rank = layer.rank or 2
    kernel = Kernel(torch.zeros(layer.expand(rank).weight_shape(2), dtype=dtype))
    with pytest.raises(NotImplementedError, match=reason) as refusal:
        METHODS[name].prepare(kernel, layer)
    assert str(refusal.value).startswith(f"{name}: ")


@given(problems(depths=(1, 1)), st.sampled_from(DTYPES), st.sampled_from(list(METHODS)))
def test_unsupported_is_what_prepare_does(problem, dtype, name):
    """A reason in advance exactly where preparing raises it."""
    _, kernels = integer_numbers(problem, 0, dtype)
    reason = METHODS[name].unsupported(problem.expanded[0], dtype, "cpu")
    if reason is None:
        METHODS[name].prepare(kernels[0], problem.layers[0])
    else:
        with pytest.raises(NotImplementedError, match=f"^{name}: "):
            METHODS[name].prepare(kernels[0], problem.layers[0])


def test_a_layer_of_another_rank_is_refused():
    with pytest.raises(ValueError, match="spatial axes"):
        METHODS["direct"].prepare(Kernel(torch.zeros(2, 2, 3)), Layer(2, (3, 3)))


def test_names():
    assert all(method.name == name for name, method in METHODS.items())
    assert next(iter(METHODS)) == "direct"
