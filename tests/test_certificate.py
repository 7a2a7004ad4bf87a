"""Certificates against exact results: of random stacks, of sums in any order and format, and where nothing is left."""

import copy
import functools
import math

import numpy
import pytest
import torch
from blocks import drawn
from hypothesis import given
from hypothesis import strategies as st
from random_stacks import CLOSE, INDEPENDENT, tried
from strategies import SEEDS
from torch import nn

import linear_lasagna.rounding.certificate
from linear_lasagna.exact import convolve
from linear_lasagna.formats import unit_roundoff
from linear_lasagna.merging import certify, merge
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.fitting import Scaled
from linear_lasagna.modules import kernel_of, link_of
from linear_lasagna.problems import Kernel
from linear_lasagna.rounding.certificate import Numbers, Reach, reach, start

HALF, BRAIN = torch.float16, torch.bfloat16
BATCHES, EACH = 10, 20


case_of = functools.cache(tried)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_stacks_stay_finite_and_within_their_certificates(batch):
    """Also for the largest inputs, with the signs that the merged weights have."""
    for seed in range(batch * EACH, (batch + 1) * EACH):
        case = case_of(seed)
        if case is not None:
            assert case.finite is not False, f"seed {seed}: {case}"
            assert max(case.excess, case.wide_excess) <= 1, f"seed {seed}: {case}"


def test_errors_of_random_stacks_are_as_predicted():
    """Of those with 200 independent errors or more, in 16 bits, where the order of summation hardly matters."""
    cases = [case for case in map(case_of, range(BATCHES * EACH)) if case is not None and case.ratio is not None]
    asked = [case for case in cases if case.independent >= INDEPENDENT and case.dtype is not torch.float32]
    close = [case for case in asked if 1 / (1 + CLOSE) <= case.ratio <= 1 + CLOSE]
    assert len(asked) > 10
    assert len(close) >= 0.95 * len(asked)


def summed(x, weight, bias, dtype, seed):
    """The products, each rounded to the dtype, added in the dtype in a random tree: exact float64 numbers as floats."""
    rounded = {HALF: lambda v: float(numpy.float16(v)), torch.float32: lambda v: float(numpy.float32(v))}[dtype]
    terms = [rounded(float(a) * float(b)) for a, b in zip(x, weight, strict=True)] + [float(bias)]
    rng = numpy.random.default_rng(seed)
    while len(terms) > 1:
        first, second = (terms.pop(int(rng.integers(len(terms)))) for _ in range(2))
        terms.append(rounded(first + second))
    return terms[0]


@given(n=st.integers(1, 60), seed=SEEDS, signs=st.booleans(), dtype=st.sampled_from((HALF, torch.float32)))
def test_sums_in_the_narrow_format_in_any_order_are_covered(n, seed, signs, dtype):
    """Each product and each partial sum rounded to the format itself, as no processor here does in float16."""
    draw = torch.Generator().manual_seed(seed)
    stack = nn.Sequential(nn.Conv1d(n, 2, 1), nn.Conv1d(2, 1, 1)).double()
    for layer in stack:
        layer.weight.data = torch.randn(layer.weight.shape, generator=draw, dtype=torch.float64)
    stack = stack.to(dtype)
    x = torch.randn(1, n, 1, generator=draw).to(dtype)
    x = x if signs else x.abs()
    merged = merge(stack).requires_grad_(False)
    y = summed(x.flatten(), merged.weight.flatten(), merged.bias[0], dtype, seed)
    exact = convolve(x, [kernel_of(layer) for layer in stack], [link_of(layer).layer for layer in stack])
    certificate = certify(merged, stack, float(x.abs().max()))
    assert abs(y - float(exact.to(torch.float64))) <= certificate.bounds[0]


def test_a_long_sum_of_one_number_in_float16_needs_the_narrow_bound():
    """2048 + 1 is 2048 there: of 4096 ones half are lost, within the certificate for any accumulator only."""
    stack = nn.Sequential(nn.Conv1d(4096, 1, 1, bias=False), nn.Conv1d(1, 1, 1, bias=False)).to(HALF)
    for layer in stack:
        layer.weight.data.fill_(1.0)
    certificate = certify(merge(stack), stack, 1.0)
    assert certificate.wide_bounds[0] < 4096 * 2.51 * unit_roundoff(HALF)
    assert certificate.bounds[0] >= 2048
    assert certificate.reached[0] == pytest.approx(4096)


@pytest.mark.parametrize("dtype", [HALF, BRAIN], ids=str)
def test_the_kernels_rounding_is_no_worst_case(dtype):
    """One tap, u off or not at all: the bound is what that makes of the largest input, and 1 or 2 roundings."""
    u = unit_roundoff(dtype)
    for second, own in ((1.0, 0.0), (1 + 2 * u, 2 * u * u)):  # (1 + 2 u)**2 = 1 + 4 u + 4 u**2, rounded to 1 + 4 u
        stack = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.Conv1d(1, 1, 1, bias=False)).to(dtype)
        stack[0].weight.data.fill_(1 + 2 * u)
        stack[1].weight.data.fill_(second)
        certificate = certify(merge(stack), stack, 2.0)
        assert 2 * own <= certificate.bounds[0] <= 2 * (2 * own + 1.1 * u * (1 + 4 * u))


def test_underflow_is_covered():
    """All of 2**-24 * 2**-24 is lost in float16, and of float32's least numbers."""
    for dtype, least in ((HALF, 2.0**-24), (torch.float32, 2.0**-149)):
        stack = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.Conv1d(1, 1, 1, bias=False)).to(dtype)
        stack[0].weight.data.fill_(0.25)
        stack[1].weight.data.fill_(1.0)
        x = torch.full((1, 1, 1), least, dtype=dtype)
        merged = merge(stack).requires_grad_(False)
        assert float(merged(x)) == 0.0
        assert least / 4 <= certify(merged, stack, least).bounds[0] < 2.0**-14 * (1 if dtype is HALF else 2.0**-100)


@pytest.mark.parametrize(("largest", "finite"), [(60000.0, True), (65504.0, False)])
def test_that_nothing_overflows_is_proved_or_left_open(largest, finite):
    stack = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.Conv1d(1, 1, 1)).to(HALF)
    for layer in stack:
        layer.weight.data.fill_(1.0)
    stack[1].bias.data.fill_(100.0)
    certificate = certify(merge(stack), stack, largest)
    assert certificate.finite == finite
    assert str(certificate).endswith("nothing overflows" if finite else "overflow is not excluded")


def test_every_kind_of_module_is_certified():
    """Plain, bordered, rescaled, split; and what was changed afterwards has other bounds."""
    kinds = set()
    for padding, scale in ((0, 1.0), (1, 1.0), (0, 2.0**-8), (1, 2.0**-8)):
        torch.manual_seed(0)
        stack = nn.Sequential(nn.Conv2d(4, 32, 3, padding=padding), nn.Conv2d(32, 4, 3, padding=padding))
        for parameter in stack.parameters():
            parameter.data *= scale
        stack, x = stack.to(HALF), drawn(1, 4, 12, 12).half()
        exact = convolve(x, [kernel_of(layer) for layer in stack], [link_of(layer).layer for layer in stack])
        for split in (False, True):
            merged = merge(stack, split=split)
            if isinstance(merged, BorderExact):
                merged.settle((12, 12))
            kinds.add(type(merged))
            certificate = certify(merged, stack, float(x.abs().max()))
            results = [merged(x)] + [stack(x)] * isinstance(merged, BorderExact)  # small images run the layers
            for error in (exact.error(y).abs().transpose(0, 1).flatten(1).amax(1) for y in results):
                assert bool((error <= torch.tensor(certificate.wide_bounds)).all())
            changed = copy.deepcopy(merged)
            with torch.no_grad():
                next(p for p in changed.parameters() if p.ndim > 1).mul_(1.25)
            assert certify(changed, stack, 4.0).wide_relative > 0.2 > certify(merged, stack, 4.0).wide_relative
    assert {nn.Conv2d, BorderExact, Scaled} <= kinds


@pytest.mark.parametrize("part", ["merged", "border", "layers"])
def test_all_that_a_bordered_module_may_compute_with_is_looked_at(part):
    """Each of its three kinds of numbers decides some outputs: changed by a quarter, it shows."""
    stack = nn.Sequential(nn.Conv1d(2, 8, 3, padding=1), nn.Conv1d(8, 2, 3, padding=1))
    merged = merge(stack)
    assert isinstance(merged, BorderExact)
    with torch.no_grad():
        for parameter in merged.get_submodule(part).parameters():
            parameter.mul_(1.25)
    assert certify(merge(stack), stack, 1.0).relative < 1e-5 < 0.01 < certify(merged, stack, 1.0).relative


def test_a_certificate_is_plain_data_and_one_sentence():
    stack = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Conv1d(4, 2, 1))
    certificate = certify(merge(stack), stack, 3.0)
    assert certificate.bounds == certificate.wide_bounds
    assert 0 < certificate.relative < 2.0**-20
    assert set(certificate.to_dict()) == {"largest", "bounds", "wide_bounds", "reached", "finite", "rounding"}
    assert "\n" not in str(certificate)
    assert "16-bit sums" not in str(certificate)
    assert "16-bit sums" in str(certify(merge(stack.to(BRAIN)), stack, 3.0))


def test_only_what_merge_returns_is_certified():
    stack = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Conv1d(4, 2, 1))
    with pytest.raises(ValueError, match="only what merge returns can be certified, not a ReLU"):
        certify(nn.ReLU(), stack, 1.0)


def test_bounds_beyond_the_format_are_no_numbers_to_trust():
    """200,000 terms in bfloat16: (1 + u)**n is 10**339."""
    stack = nn.Sequential(nn.Conv1d(200_000, 1, 1, bias=False), nn.Conv1d(1, 1, 1, bias=False)).to(BRAIN)
    certificate = certify(merge(stack), stack, 1.0)
    assert math.isinf(certificate.bounds[0])
    assert not certificate.finite
    assert certificate.wide_relative < 0.1


def reached(weight: float, size: float, doubt: float | None, dtype: torch.dtype) -> Reach:
    """Of one product, whose kernel is exactly its own, or within a doubt."""
    number = lambda value: Kernel(torch.full((1, 1, 1), value, dtype=torch.float64))  # noqa: E731
    numbers = Numbers(number(weight), None if doubt is None else number(doubt), (number(weight),))
    return reach(start(size, 1), numbers, 1, 1, dtype, False)


def test_a_subnormal_weight_may_be_read_as_zero():
    assert float(reached(2.0**-130, 2.0**20, None, torch.float32).error) >= 2.0**-110
    assert float(reached(2.0**-20, 2.0**10, None, torch.float16).error) < 2.0**-20  # which none flushes


def test_numbers_that_are_not_quite_known_may_be_off():
    found = reached(1.0, 2.0, 0.25, torch.float64)
    assert 0.5 <= float(found.error) < 0.51
    assert 2.5 <= float(found.size) < 2.51


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_rows_are_looked_at_in_blocks_of_any_length(groups, monkeypatch):
    weight, doubt = drawn(8, 8 // groups, 3), drawn(8, 8 // groups, 3).abs() * 1e-6
    weight[3, 0] = 0  # fewer terms
    kernel, before = Kernel(weight, drawn(8)), Reach(drawn(8).abs(), drawn(8).abs() * 1e-3)
    numbers = Numbers(kernel, Kernel(doubt, drawn(8).abs() * 1e-6), (kernel.map(torch.Tensor.float),))
    found = []
    for block in (1, weight[0].numel() * 3, 2**17):
        monkeypatch.setattr(linear_lasagna.rounding.certificate, "BLOCK", block)
        found.append(reach(before, numbers, groups, 8, torch.float32, False))
    for each in found[:2]:
        torch.testing.assert_close(each[:2], found[2][:2], rtol=1e-14, atol=0)
    size = torch.nn.functional.conv1d(before.size.expand(1, -1).unsqueeze(2), weight.abs().sum(2, True), groups=groups)
    torch.testing.assert_close(found[0].size, (size.flatten() + kernel.bias.abs()), rtol=1e-5, atol=0)
