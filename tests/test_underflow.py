"""Bounds on errors where numbers are so small that they underflow, against the exact reference."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from flushing import flushing
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import SEEDS, SUMMED, mergeable_problems, padded_problems

from linear_lasagna import SCHEDULES, Kernel, Layer, Problem
from linear_lasagna.exact import convolve
from linear_lasagna.formats import LEAST_EXPONENT, SIGNIFICAND_BITS
from linear_lasagna.metrics import relative_l2
from linear_lasagna.rounding.way_bounds import error_bound
from linear_lasagna.ways import Way, way_named

SMALL = (torch.float16, torch.bfloat16, torch.float32)
SURE = ("certain", "chain")


def tiny(problem, dtype, seed):
    """Input and kernels whose products leave the dtype's range below, some of them early, some late, some not."""
    generator = torch.Generator().manual_seed(seed)
    reach = SIGNIFICAND_BITS[dtype] - LEAST_EXPONENT[dtype]

    def numbers(shape):
        most = int(torch.randint(2 * reach // (problem.depth + 1) + 1, (), generator=generator))
        exponents = -torch.randint(most + 1, shape, generator=generator).double()
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * 2.0**exponents).to(dtype)

    kernels = []
    for layer, channels in zip(problem.expanded, problem.channels, strict=False):
        bias = numbers((layer.out_channels,)) if layer.bias else None
        kernels.append(Kernel(numbers(layer.weight_shape(channels)), bias))
    scale = 2.0 ** int(torch.randint(reach // 4, (), generator=generator))
    return numbers(problem.shapes[0]) * scale, kernels


def check(problem, dtype, seed, schedules, flushed):
    """No output of any way exceeds its bounds."""
    x, kernels = tiny(problem, dtype, seed)
    exact = convolve(x, kernels, problem.layers)
    for schedule, method in ((s, m) for s in schedules for m in SUMMED):
        way = Way(SCHEDULES[schedule], method)
        if way.unsupported(problem, dtype, "cpu") is None:
            error = exact.error(way.prepare(problem, kernels)(x)).abs()
            assume(bool(error.isfinite().all()))
            for name in SURE:
                limit = error_bound(name, problem, way, x, kernels, flushed)
                assert bool((error <= limit).all()), (schedule, method, name, float((error / limit).max()))


@pytest.mark.parametrize("flush", [False, True])
@given(problem=mergeable_problems(ranks=(1, 2), depths=(1, 4)), dtype=st.sampled_from(SMALL), seed=SEEDS)
def test_no_output_exceeds_a_bound(flush, problem, dtype, seed):
    # Matrix units for bfloat16 flush whatever they are told.
    with flushing() if flush else nullcontext():
        check(problem, dtype, seed, ("stacked", "merged", "merged_working"), flush or dtype is torch.bfloat16)


@pytest.mark.parametrize("flush", [False, True])
@given(problem=padded_problems(ranks=(1, 2), depths=(1, 3)), dtype=st.sampled_from(SMALL), seed=SEEDS)
def test_nor_at_the_border(flush, problem, dtype, seed):
    with flushing() if flush else nullcontext():
        check(problem, dtype, seed, ("stacked", "border_exact"), flush or dtype is torch.bfloat16)


@pytest.mark.parametrize("way", ["direct", "merged/direct"])
def test_all_of_a_result_may_be_lost(way):
    """Four layers of one weight, 2**-7, in float16: 0.75 * 2**-28 becomes 0."""
    problem = Problem("tiny", 1, 1, (1, 1), (Layer(1, 1),) * 4)
    x, kernels = torch.full((1, 1, 1, 1), 0.75).half(), [Kernel(torch.full((1, 1, 1, 1), 2.0**-7).half())] * 4
    y, exact = way_named(way).prepare(problem, kernels)(x), convolve(x, kernels, problem.layers)
    assert relative_l2(exact.error(y), exact.to(torch.float64)) == 1
    for name in SURE:
        limit = error_bound(name, problem, way_named(way), x, kernels)
        assert 1 <= relative_l2(limit, exact.to(torch.float64)) < 2**6


@pytest.mark.parametrize(
    ("way", "x", "weights", "flush"),
    [
        ("direct", 2.0**-130, (2.0**20,), True),  # what is read
        ("direct", 2.0**20, (2.0**-130,), True),
        ("direct", 2.0**-110, (2.0**-20, 2.0**20), True),  # what is computed
        ("direct", 2.0**-80, (2.0**-80, 2.0**90), False),
        ("merged/direct", 2.0**90, (2.0**-80, 2.0**-80), False),  # the merged kernel, 2**-160
        ("merged_working/direct", 2.0**30, (2.0**-80, 2.0**-80, 2.0**90), False),
        ("merged_working/direct", 2.0**30, (2.0**-70, 2.0**-70, 2.0**90), True),
    ],
)
def test_whatever_is_lost_is_in_the_bound(way, x, weights, flush):
    """All of the result in float32, at every place where numbers can be lost."""
    problem = Problem("lost", 1, 1, (1, 1), (Layer(1, 1),) * len(weights))
    image, *numbers = (torch.full((1, 1, 1, 1), value) for value in (x, *weights))
    kernels = [Kernel(number) for number in numbers]
    exact = convolve(image, kernels, problem.layers)
    with flushing() if flush else nullcontext():
        y = way_named(way).prepare(problem, kernels)(image)
        limits = [error_bound(name, problem, way_named(way), image, kernels, flush) for name in SURE]
    assert exact.error(y).item() == -exact.to(torch.float64).item()
    assert min(limit.item() for limit in limits) >= abs(exact.error(y).item())


def test_where_nothing_is_small_underflow_adds_next_to_nothing():
    problem = Problem("large", 1, 4, (6, 6), (Layer(4, 3), Layer(4, 3)))
    for dtype in SMALL:
        x, kernels = problem.draw(dtype)
        kept, flushed = (
            error_bound("chain", problem, way_named("merged/direct"), x, kernels, f) for f in (False, True)
        )
        assert bool((kept <= flushed).all())
        assert relative_l2(flushed - kept, kept) < (1e-6 if dtype is torch.float16 else 1e-30)
