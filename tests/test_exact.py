"""The exact reference against brute force over fractions, an independent rounding, and python-flint."""

import itertools
import math
import random
from fractions import Fraction

import numpy
import pytest
import torch
from exactly import moved
from hypothesis import given, settings
from hypothesis import strategies as st

from linear_lasagna import Kernel, Layer, Problem
from linear_lasagna.exact import convolve, primes, products, residues, stack

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
# precision in bits, exponents of the least and of the largest normal binade
FORMATS = {
    torch.float16: (11, -14, 15),
    torch.bfloat16: (8, -126, 127),
    torch.float32: (24, -126, 127),
    torch.float64: (53, -1022, 1023),
}
VALUES = ("uniform", "bits", "subnormal", "largest", "sparse", "powers")


def fractions_of(tensor):
    """A numpy array of Fractions; every dtype converts to Python floats without loss."""
    numbers = [Fraction(value) for value in tensor.flatten().tolist()]
    return numpy.array(numbers, dtype=object).reshape(tensor.shape)


def brute(x, kernels, layers):
    """The stack over Fractions, from the definition."""
    values = fractions_of(x)
    for kernel, layer in zip(kernels, layers, strict=True):
        values = brute_layer(values, kernel, layer.expand(x.ndim - 2))
    return values


def brute_layer(values, kernel, layer):
    pads = [(0, 0), (0, 0), *((p, p) for p in layer.padding)]
    values = numpy.pad(values, pads, constant_values=Fraction(0))
    weights = numpy.split(fractions_of(kernel.weight), layer.groups)
    inputs = numpy.split(values, layer.groups, axis=1)
    size = [
        (n - r) // s + 1 for n, r, s in zip(values.shape[2:], layer.effective_kernel_size, layer.stride, strict=True)
    ]
    result = numpy.full((len(values), layer.out_channels, *size), Fraction(0), dtype=object)
    for position in itertools.product(*map(range, size)):
        axes = zip(position, layer.stride, layer.effective_kernel_size, layer.dilation, strict=True)
        window = tuple(slice(p * s, p * s + r, d) for p, s, r, d in axes)
        sums = [
            part[(slice(None), slice(None), *window)].reshape(len(part), -1).dot(w.reshape(len(w), -1).T)
            for part, w in zip(inputs, weights, strict=True)
        ]
        result[(slice(None), slice(None), *position)] = numpy.concatenate(sums, axis=1)
    if kernel.bias is not None:
        result += fractions_of(kernel.bias).reshape(-1, *(1 for _ in size))
    return result


def nearest(number, dtype):
    """The float that rounding to dtype gives: to nearest, ties to even, over Fractions."""
    precision, least, largest = FORMATS[dtype]
    if number == 0:
        return 0.0
    exponent = abs(number.numerator).bit_length() - number.denominator.bit_length()
    exponent -= abs(number) < Fraction(2) ** exponent
    quantum = Fraction(2) ** (max(exponent, least) - precision + 1)
    result = round(number / quantum) * quantum
    if abs(result) >= 2 * Fraction(2) ** largest:
        return math.inf if number > 0 else -math.inf
    return float(result)


def difference(y, number):
    """y - number, rounded to float64; Python's division of integers is correctly rounded."""
    exact = Fraction(y) - number
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def fill(shape, dtype, values, seed):
    """A finite tensor of one of VALUES' kinds."""
    generator = torch.Generator().manual_seed(seed)
    info, integer = torch.finfo(dtype), INTEGERS[dtype.itemsize]
    if values == "uniform":
        return (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype)
    if values == "largest":
        signs = torch.randint(-1, 2, shape, generator=generator).to(dtype)
        return torch.full(shape, info.max, dtype=dtype) * signs
    if values == "sparse":
        result = torch.zeros(shape, dtype=dtype)
        result.view(-1)[seed % result.numel()] = info.max if seed % 2 else info.smallest_normal * info.eps
        return result
    if values == "powers":
        exponents = torch.randint(-14, 15, shape, generator=generator)
        return torch.ldexp(torch.ones(shape), exponents).to(dtype)
    least = {"bits": torch.iinfo(integer).min, "subnormal": 0}[values]
    most = {"bits": torch.iinfo(integer).max, "subnormal": 2 ** (FORMATS[dtype][0] - 1)}[values]
    bits = torch.randint(least, most, shape, generator=generator, dtype=integer).view(dtype)
    return torch.where(bits.isfinite(), bits, torch.ones_like(bits))


def draw(problem, dtype, values, seed):
    """Input and kernels of a problem; values: one of VALUES for the input and one for the kernels."""
    x = fill(problem.shapes[0], dtype, values[0], seed)
    kernels = []
    for index, (layer, channels) in enumerate(zip(problem.expanded, problem.channels, strict=False)):
        weight = fill(layer.weight_shape(channels), dtype, values[1], seed + 2 * index + 1)
        bias = fill((layer.out_channels,), dtype, values[1], seed + 2 * index + 2) if layer.bias else None
        kernels.append(Kernel(weight, bias))
    return x, kernels


@st.composite
def problems(draw, channels=4, bias=None):
    """Small stacks of 1 to 3 layers with everything that a layer can have."""
    rank, depth = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    axes = lambda low, high: st.tuples(*[st.integers(low, high)] * rank)  # noqa: E731
    layers = tuple(
        Layer(
            channels,
            draw(axes(1, 3 if rank < 3 else 2)),
            stride=draw(axes(1, 2)),
            padding=draw(axes(0, 2)),
            dilation=draw(axes(1, 2)),
            groups=draw(st.sampled_from((1, 2, channels))),
            bias=draw(st.booleans()) if bias is None else bias,
        )
        for _ in range(depth)
    )
    size = (1,) * rank
    for layer in reversed(layers):
        size = layer.expand(rank).input_size(size)
    size = tuple(n + draw(st.integers(0, 2)) for n in size)
    return Problem("drawn", draw(st.integers(1, 2)), channels, size, layers)


def check(x, kernels, layers, y_dtype=None, device="cpu", **arguments):
    """Everything that the reference says, on the device, is what fractions say."""
    result, expected = convolve(*moved(device, x, kernels), layers, **arguments), brute(x, kernels, layers)
    assert result.shape == expected.shape
    expected = list(expected.flatten())
    assert result.fractions() == expected
    for dtype in DTYPES:
        assert result.to(dtype).flatten().tolist() == [nearest(number, dtype) for number in expected]
    y = result.to(y_dtype or x.dtype)
    y = torch.where(y.isfinite(), y, torch.ones_like(y))
    errors = [difference(a, b) for a, b in zip(y.flatten().tolist(), expected, strict=True)]
    assert result.error(y).flatten().tolist() == errors


@given(
    problems(),
    st.sampled_from(DTYPES),
    st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)),
    st.sampled_from(DTYPES),
    st.integers(0, 2**20),
)
@settings(max_examples=80, deadline=None)
def test_equals_fractions(device, problem, dtype, values, y_dtype, seed):
    x, kernels = draw(problem, dtype, values, seed)
    check(x, kernels, problem.layers, y_dtype, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", VALUES)
def test_every_kind_of_value(dtype, values, device):
    problem = Problem("two", 1, 3, (4, 5), (Layer(2, 2, padding=1, bias=True), Layer(3, (1, 2))))
    for seed in range(2):
        check(*draw(problem, dtype, (values, values), seed), problem.layers, device=device)


@pytest.mark.parametrize("size", [(12,), (6, 7), (4, 3, 4)])
@pytest.mark.parametrize("groups", [1, 2])
def test_shifted_views_equal_fractions(size, groups, device):
    """Enough channels for the path without a column buffer, several samples, and a dilation."""
    layers = (Layer(16, 2, groups=groups), Layer(8, 2, dilation=2 if len(size) < 3 else 1, bias=True))
    problem = Problem("flat", 2, 8 * groups, size, layers)
    check(*problem.draw(torch.float64, seed=3), layers, device=device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "LARGEST_WASTE", 100.0)
        check(*problem.draw(torch.float32, seed=3), layers, device=device)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cancellation_to_zero(dtype):
    layers = (Layer(4, 3), Layer(1, 1))
    x, (first, _) = Problem("zero", 1, 2, (6, 6), layers).draw(dtype)
    weight = torch.cat([first.weight, first.weight])[:4]
    last = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=dtype).view(1, 4, 1, 1)
    same = torch.cat([weight[:2], weight[:2]])
    result = convolve(x, [Kernel(same), Kernel(last)], layers)
    assert not any(result.fractions())
    assert not result.to(dtype).any()
    assert not result.error(torch.zeros(result.shape, dtype=dtype)).any()
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    y = torch.full(result.shape, least, dtype=dtype)
    assert torch.equal(result.error(y), y.to(torch.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_and_the_ends_of_the_range(dtype):
    """Ties above 1, at half of the least number, and half an ulp above the largest; and their neighbours."""
    precision, least, largest = FORMATS[dtype]
    tiny = Fraction(2) ** (least - precision + 1)
    top = Fraction(2) ** largest * (2 - Fraction(2) ** (1 - precision))
    ulp = Fraction(2) ** (1 - precision)
    cases = [(1 + n * ulp) + part * ulp for n in (0, 1) for part in (Fraction(1, 2), Fraction(1, 4))]
    for sign in (1, -1):
        for number in (*cases, tiny / 2, tiny * 3 / 2, tiny / 2 + tiny**3, top, top * (1 + ulp / 4), top * 2):
            assert nearest(sign * number, dtype) == as_sum(sign * number).to(dtype).item()


def as_sum(number):
    """An exact result that equals a sum of powers of two of 3 factors each: a 1 x 1 stack of depth 3."""
    numerator, power = abs(number.numerator), -(number.denominator.bit_length() - 1)
    sign = 1.0 if number > 0 else -1.0
    exponents = [power + bit for bit in range(numerator.bit_length()) if numerator >> bit & 1]
    thirds = [[(e + part) // 3 for part in range(3)] for e in exponents]
    columns = [[math.ldexp(1.0, e) for e in column] for column in zip(*thirds, strict=True)]
    first, second, third = (torch.tensor(column, dtype=torch.float64) for column in columns)
    count = len(exponents)
    layers = (Layer(count, 1, groups=count), Layer(1, 1))
    kernels = (Kernel(second.view(count, 1, 1)), Kernel(sign * third.view(1, count, 1)))
    result = convolve(first.view(1, count, 1), kernels, layers)
    assert result.fractions() == [number]
    return result


@given(problems(), st.data())
@settings(max_examples=50, deadline=None)
def test_tile_is_a_slice_of_the_whole(problem, data):
    x, kernels = draw(problem, torch.float32, ("uniform", "uniform"), data.draw(st.integers(0, 99)))
    tile = []
    for length in problem.sizes[-1]:
        start = data.draw(st.integers(0, length - 1))
        tile.append(slice(start, data.draw(st.integers(start + 1, length))))
    whole, part = convolve(x, kernels, problem.layers), convolve(x, kernels, problem.layers, tile=tuple(tile))
    y = whole.to(torch.float32)[(slice(None), slice(None), *tile)]
    assert part.shape == tuple(y.shape)
    assert torch.equal(part.to(torch.float32), y)
    assert torch.equal(part.error(y), whole.error(whole.to(torch.float32))[(slice(None), slice(None), *tile)])


def test_tile_that_only_sees_padding():
    layers = (Layer(2, 2, padding=1, bias=True), Layer(2, 1, padding=3, bias=True), Layer(2, 2, padding=2))
    x, kernels = Problem("rim", 1, 2, (4, 5), layers).draw(torch.float64)
    whole = convolve(x, kernels, layers).to(torch.float64)
    for tile in ((slice(0, 1), slice(0, 1)), (slice(0, 2), slice(14, None)), (slice(None), slice(0, 1))):
        part = convolve(x, kernels, layers, tile=tile).to(torch.float64)
        assert torch.equal(part, whole[:, :, tile[0], tile[1]])


@given(problems(), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_chunks_change_nothing(problem, seed):
    x, kernels = draw(problem, torch.float64, ("uniform", "uniform"), seed)
    whole = convolve(x, kernels, problem.layers).to(torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack, "CHUNK_BYTES", 2000)
        patch.setattr(stack, "GROUP_BYTES", 200)
        assert torch.equal(convolve(x, kernels, problem.layers).to(torch.float64), whole)


@pytest.mark.parametrize("depth", [1, 2])
def test_equals_flint(depth):
    """64 channels, whole images, uniform float64: every result's 140 to 230 bits."""
    layers = tuple(Layer(64, 3) for _ in range(depth))
    x, kernels = Problem("large", 1, 64, (9, 9), layers).draw(torch.float64)
    result = convolve(x, kernels, layers)
    assert result.fractions() == flint_stack(x, kernels)


def flint_stack(x, kernels):
    """One sample, unpadded, stride 1, through python-flint's integer matrices."""
    flint = pytest.importorskip("flint")
    (channels, height, width), shift = x.shape[1:], 0
    image = [int(Fraction(v) * 2**120) for v in x.flatten().tolist()]
    for kernel in kernels:
        out, _, rows, columns = kernel.weight.shape
        weight = [int(Fraction(v) * 2**120) for v in kernel.weight.flatten().tolist()]
        places = torch.arange(channels * height * width, dtype=torch.float64).view(1, channels, height, width)
        index = torch.nn.functional.unfold(places, (rows, columns))[0].long()
        patches = flint.fmpz_mat([[image[i] for i in row] for row in index.tolist()])
        product = flint.fmpz_mat(out, len(index), weight) * patches
        image = [int(entry) for entry in product.entries()]
        channels, height, width, shift = out, height - rows + 1, width - columns + 1, shift + 120
    return [Fraction(number, 2 ** (shift + 120)) for number in image]


@pytest.mark.parametrize("short", [0, 1])
def test_one_prime_too_few_is_wrong(short, monkeypatch):
    """Where the bound is attained, every prime is needed: in the last layer, and in one before it."""
    layers = (Layer(8, 3), Layer(8, 3))
    x = torch.full((1, 8, 6, 6), 2.0**24 - 1)
    kernels = [Kernel(torch.full((8, 8, 3, 3), 2.0**24 - 1)) for _ in layers]
    expected = [Fraction((2**24 - 1) ** 3 * 72**2)] * 32
    choose = primes.choose

    def fewer(bounds, fan_in):
        chosen, counts = choose(bounds, fan_in)
        counts = tuple(count - (index == short) for index, count in enumerate(counts))
        return chosen[: counts[-1]], counts

    assert convolve(x, kernels, layers).fractions() == expected
    monkeypatch.setattr(primes, "choose", fewer)
    assert convolve(x, kernels, layers).fractions() != expected


@pytest.mark.parametrize("fan_in", [2, 10, 577, 4609, 10**6])
def test_primes_are_prime_and_sums_exact(fan_in):
    bounds = [2**b for b in (60, 300, 5000)]
    chosen, counts = primes.choose(bounds, fan_in)
    assert all(p % 2 and all(p % d for d in range(3, math.isqrt(p) + 1, 2)) for p in chosen[:40])
    assert len(set(chosen)) == len(chosen) == counts[-1]
    for bound, count in zip(bounds, counts, strict=True):
        assert math.prod(chosen[: count - 1]) <= 2 * bound + (bound >> 19) < 2 * math.prod(chosen[:count])
        assert 2 * bound + (bound >> 20) < math.prod(chosen[:count])
    largest = primes.half(max(chosen))
    assert fan_in * largest**2 <= 2**53 - 2**25
    assert (len(chosen) + 2) * largest * 2**23 <= 2**52


def test_reduction_is_exact_up_to_the_bound():
    generator = random.Random(5)
    for prime in (5, 10007, 2**20 - 3, 16777213):
        numbers = [generator.randint(-primes.EXACT, primes.EXACT) for _ in range(5000)]
        numbers += [primes.EXACT, -primes.EXACT, *(prime * k + prime // 2 for k in range(99))]
        values = torch.tensor([numbers], dtype=torch.float64)
        residues.reduce(values, [prime], residues.Buffers(values.device))
        found = [int(v) for v in values[0].tolist()]
        assert all((a - b) % prime == 0 for a, b in zip(numbers, found, strict=True))
        assert max(map(abs, found)) <= primes.half(prime)


@pytest.mark.parametrize("dtype", DTYPES)
def test_error_where_y_is_not_finite(dtype):
    layers = (Layer(2, 2),)
    x, kernels = Problem("one", 1, 2, (3, 3), layers).draw(dtype)
    result = convolve(x, kernels, layers)
    y = result.to(dtype)
    finite = result.error(y)
    y.view(-1)[:3] = torch.tensor([math.inf, -math.inf, math.nan])
    error = result.error(y).flatten()
    assert error[:2].tolist() == [math.inf, -math.inf]
    assert error[2].isnan()
    assert torch.equal(error[3:], finite.flatten()[3:])


def test_flushing_subnormal_numbers_changes_nothing():
    problem = Problem("flush", 1, 2, (5,), (Layer(2, 2, bias=True), Layer(1, 1)))
    drawn = [draw(problem, dtype, ("subnormal", "subnormal"), 3) for dtype in DTYPES]
    references = [convolve(*numbers, problem.layers) for numbers in drawn]
    expected = [(r.fractions(), r.error(r.to(torch.float16)), r.to(torch.float64)) for r in references]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        references = [convolve(*numbers, problem.layers) for numbers in drawn]
        found = [(r.fractions(), r.error(r.to(torch.float16)), r.to(torch.float64)) for r in references]
    finally:
        torch.set_flush_denormal(False)
    for (numbers, *tensors), (others, *flushed) in zip(expected, found, strict=True):
        assert numbers == others
        for one, other in zip(tensors, flushed, strict=True):
            assert torch.equal(one.view(torch.int64), other.view(torch.int64))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", ["x", "weight", "bias"])
def test_refuses_what_is_not_finite(value, where):
    layers = (Layer(2, 2, bias=True),)
    x, (kernel,) = Problem("one", 1, 2, (3, 3), layers).draw()
    {"x": x, "weight": kernel.weight, "bias": kernel.bias}[where].view(-1)[1] = value
    with pytest.raises(ValueError, match=f"{where} has infinite or NaN"):
        convolve(x, (kernel,), layers)


def test_refuses_what_does_not_fit():
    layers = (Layer(2, 2, bias=True),)
    x, (kernel,) = Problem("one", 1, 2, (3, 3), layers).draw()
    refused = [
        (x.to(torch.float64), [kernel], layers, None, "weight is torch.float32"),
        (x.to(torch.int32), [kernel], layers, None, "torch.int32 has no exact reference"),
        (x[0, 0], [kernel], layers, None, "x must be"),
        (x, [], layers, None, "0 kernels"),
        (x, [], (), None, "at least one layer"),
        (x, [Kernel(kernel.weight)], layers, None, "no bias"),
        (x, [kernel], (Layer(2, 2),), None, "a bias"),
        (x, [kernel], (Layer(2, 1, bias=True),), None, "weight has shape"),
        (x, [Kernel(kernel.weight, kernel.bias[:1])], layers, None, "bias has shape"),
        (x[..., :1], [kernel], layers, None, "spans"),
        (x, [kernel], layers, (slice(0, 1),), "1 slices for 2"),
        (x, [kernel], layers, (slice(0, 3), slice(0, 1)), "no block"),
        (x, [kernel], layers, (slice(1, 1), slice(0, 1)), "no block"),
        (x, [kernel], layers, (slice(-1, 2), slice(0, 1)), "no block"),
        (x, [kernel], layers, (slice(0, 2, 2), slice(0, 1)), "no block"),
    ]
    for *arguments, tile, message in refused:
        with pytest.raises(ValueError, match=message):
            convolve(*arguments, tile=tile)
    result = convolve(x, [kernel], layers)
    with pytest.raises(ValueError, match=r"torch.int64 has no exact reference"):
        result.to(torch.int64)
    with pytest.raises(ValueError, match="y has shape"):
        result.error(result.to(torch.float32)[..., :1])
