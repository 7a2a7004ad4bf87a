"""Border-exact merging: the regions against NaN in the padding, every output against the exact result."""

import dataclasses
import itertools
import math

import pytest
import torch
from checks import check_bound, check_integers
from exactly import CONVOLUTIONS, assert_within, magnitudes
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, integer_numbers, padded_problems, problems
from torch.nn import functional

from linear_lasagna import METHODS, SCHEDULES, Kernel, Layer, Problem
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.exact import convolve
from linear_lasagna.merging import border_exact, border_macs, not_border_mergeable
from linear_lasagna.merging.border import assembly
from linear_lasagna.merging.border.plan import plan
from linear_lasagna.merging.border.regions import extents, interior
from linear_lasagna.merging.border.window_matmul import FEW, product
from linear_lasagna.merging.chain import as_few, chained
from linear_lasagna.methods import Method
from linear_lasagna.rounding import predict_error
from linear_lasagna.validation import TileReference, integer_case, way_bound
from linear_lasagna.ways import Way, way_named

PLAIN = Problem("plain", 1, 4, (16, 16), (Layer(4, 3, padding=1),) * 3)


def found_plan(problem):
    return plan(chained(problem.expanded), problem.in_channels, problem.size)


def untouched(problem):
    """Which outputs need no zeros between the layers, found by padding NaN there."""
    x = torch.ones((1, 1, *problem.size), dtype=torch.float64)
    for index, layer in enumerate(problem.expanded):
        pads = [p for p in reversed(layer.padding) for _ in range(2)]
        x = functional.pad(x, pads, value=math.nan if index else 1.0)
        weight = torch.ones((1, 1, *layer.kernel_size), dtype=torch.float64)
        x = CONVOLUTIONS[problem.rank](x, weight, None, layer.stride, 0, layer.dilation)
    return ~x[0, 0].isnan()


@given(padded_problems())
def test_interior_is_what_sees_no_padding_between_layers(problem):
    expected = untouched(problem)
    box = interior(chained(problem.expanded), problem.size)
    marked = torch.zeros_like(expected)
    if box is not None:
        marked[tuple(slice(*ends) for ends in box)] = True
    assert marked.equal(expected), f"{problem!r}: {box}"


@given(padded_problems())
def test_interior_and_faces_are_the_output(problem):
    found = found_plan(problem)
    if found is None:
        return
    inner = interior(as_few(chained(problem.expanded)), problem.size)
    times = torch.zeros(problem.sizes[-1], dtype=torch.int64)
    for box in (inner, *(block.box for block in found.blocks)):
        times[tuple(slice(*ends) for ends in box)] += 1
    assert times.eq(1).all()


@given(padded_problems(), SEEDS, st.sampled_from(["direct", "strided_matmul", "shifted_matmul"]))
def test_border_exact_is_exact_on_integers(problem, seed, method):
    x, kernels = integer_numbers(problem, seed)
    y = border_exact(kernels, problem.expanded, problem.size, method)(x)
    assert torch.equal(y, convolve(x, kernels, problem.layers).to(torch.float64)), f"{problem!r}, seed {seed}"


@given(padded_problems(), SEEDS, st.sampled_from([torch.float32, torch.float64]))
def test_border_exact_is_the_stack_within_its_bound(problem, seed, dtype):
    """Numbers of both signs; the bound counts the operations of the stack, its merged runs and the merged kernel."""
    x, kernels = problem.draw(dtype, seed=seed)
    exact = convolve(x, kernels, problem.layers)
    relative, absolute = way_bound(problem, Way(SCHEDULES["border_exact"], "direct"), dtype)
    limit = relative * magnitudes(x, kernels, problem.layers) + absolute
    y = border_exact(kernels, problem.expanded, problem.size)(x)
    assert_within(exact.error(y), limit, f"border_exact on {problem!r}, {dtype}, seed {seed}")


def test_faces_of_known_pairs():
    """The pair at 256 x 256: a rim of one, whose kernels see 3 of the merged 5 positions; a rim of two in the chain."""
    pair, sesr = (found_plan(CATALOG[f"borders/{name}"]) for name in ("wide_pair_256", "sesr_x3_256"))
    merged = pair.inner
    assert merged.kernel_size == (5, 5)
    assert sorted(extents(block, merged) for block in pair.blocks) == sorted([(3, 5)] * 2 + [(5, 3)] * 2 + [(3, 3)] * 4)
    corners = [block.box for block in pair.blocks if None not in block.shape.counts]
    assert sorted(corners) == [((a, a + 1), (b, b + 1)) for a in (0, 255) for b in (0, 255)]
    assert {block.shape.counts for block in sesr.blocks} == {(2, None), (None, 2), (2, 2)}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_without_an_interior_the_stack_runs(size):
    problem = dataclasses.replace(PLAIN, size=(size, 16))
    x, kernels = integer_numbers(problem, 1)
    assert found_plan(problem) is None
    y = border_exact(kernels, problem.expanded, problem.size)(x)
    assert torch.equal(y, convolve(x, kernels, problem.layers).to(torch.float64))
    assert border_macs(problem.expanded, 4, problem.size) == problem.macs


def test_where_the_border_has_too_many_kernels_the_stack_runs():
    """Corners of six padded layers in three dimensions: 8 · 8 · 5**3 outputs, each of 8 · 11**3 inputs or so."""
    problem = Problem("deep", 1, 8, (16, 16, 16), (Layer(8, 3, padding=1),) * 6)
    assert found_plan(problem) is None
    assert border_macs(problem.expanded, 8, problem.size) == problem.macs
    assert SCHEDULES["border_exact"].partitions(problem) == SCHEDULES["stacked"].partitions(problem)


@pytest.mark.parametrize("groups", [1, 2, FEW, 2 * FEW])
def test_few_groups_and_many(groups):
    """Their products are made one by one, or all at once."""
    layer = Layer(2 * groups, 3, padding=1, groups=groups, bias=True)
    problem = Problem("grouped", 2, 2 * groups, (9, 11), (layer, layer))
    x, kernels = integer_numbers(problem, 8)
    assert found_plan(problem) is not None
    y = border_exact(kernels, problem.expanded, problem.size)(x)
    assert torch.equal(y, convolve(x, kernels, problem.layers).to(torch.float64))


def test_a_need_wholly_in_padding():
    """The first output of the second layer sees only zeros that it pads itself: its bias is all there is."""
    problem = Problem("zeros", 1, 1, (6,), (Layer(1, 2, bias=True), Layer(1, 2, padding=4, bias=True)))
    x, kernels = integer_numbers(problem, 5)
    y = border_exact(kernels, problem.expanded, problem.size)(x)
    assert y[0, 0, 0] == kernels[1].bias[0]
    assert torch.equal(y, convolve(x, kernels, problem.layers).to(torch.float64))


@given(problem=padded_problems())
def test_operations_are_those_that_are_computed(problem):
    """Counted as the calls are made, one batch of one."""
    counted = []

    def count(y, kernel):
        counted.append(y.numel() * kernel.weight[0].numel())
        return y

    def prepare(kernel, layer):
        call = METHODS["direct"].prepare(kernel, layer)
        return lambda x: count(call(x), kernel)

    problem = dataclasses.replace(problem, batch=1)
    x, kernels = problem.draw()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "counting", Method("counting", prepare))
        patch.setattr(assembly, "product", lambda x, kernel, layout: count(product(x, kernel, layout), kernel))
        border_exact(kernels, problem.expanded, problem.size, "counting")(x)
    assert sum(counted) == border_macs(problem.expanded, problem.in_channels, problem.size), f"{problem!r}"


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([], "no layer"),
        ([Layer(2, 3, padding=1)], "single layer"),
        ([Layer(2, 3), Layer(2, 3)], "plain merged convolution"),
        ([Layer(2, 1), Layer(2, 3, padding=1)], "plain merged convolution"),
        ([Layer(2, 3, padding=1)] * 2, None),
        ([Layer(2, 1, bias=True), Layer(2, 3, padding=1)], None),
    ],
)
def test_not_border_mergeable(layers, reason):
    found = not_border_mergeable([layer.expand(2) for layer in layers])
    assert (found is None) if reason is None else (reason in found)


def test_layers_of_different_rank_are_refused():
    layers = [Layer(2, 3, padding=1).expand(rank) for rank in (1, 2)]
    with pytest.raises(ValueError, match="spatial axes"):
        border_exact([Kernel(torch.ones(2, 2, 3)), Kernel(torch.ones(2, 2, 3, 3))], layers, (8,))
    assert "spatial axes" in not_border_mergeable(layers)


# As ways of a trial


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["wide_pair_32", "plain_x3_32"])
def test_both_ways_pass_validation(name, dtype):
    problem = CATALOG[f"borders/{name}"]
    case, draw = integer_case(problem, dtype), problem.draw(dtype, signs="positive")
    reference = TileReference.of(problem, *draw)
    for way in ("border_exact/direct", "merged_summed/direct"):
        check_integers(problem, way_named(way), case)
        check_bound(problem, way_named(way), dtype, draw, reference)


def test_summed_padding_is_wrong_where_it_claims_nothing():
    """Claiming every output, it fails both checks; so does a way that claims nothing that is compared."""
    summed = SCHEDULES["merged_summed"]
    boastful = Way(dataclasses.replace(summed, valid_region=SCHEDULES["merged"].valid_region), "direct")
    case, draw = integer_case(PLAIN, torch.float32), PLAIN.draw(signs="positive")
    with pytest.raises(ArithmeticError, match="outputs are wrong"):
        check_integers(PLAIN, boastful, case)
    with pytest.raises(ArithmeticError, match="times the bound"):
        check_bound(PLAIN, boastful, torch.float32, draw, TileReference.of(PLAIN, *draw))
    check_integers(PLAIN, Way(summed, "direct"), case)
    nowhere = Way(dataclasses.replace(summed, valid_region=lambda problem: ((12, 13), (0, 1))), "direct")
    with pytest.raises(ArithmeticError, match="no output that it claims"):
        TileReference.of(PLAIN, *draw).claimed(PLAIN, nowhere)


def test_share_of_outputs_that_summed_padding_gets_wrong():
    """Three padded 3 x 3 layers of 16 channels at 32 x 32: 1 - (28 / 32)**2 = 23 % of the outputs, without bias too."""
    problem = Problem("plain", 1, 16, (32, 32), (Layer(16, 3, padding=1),) * 3)
    x, kernels = problem.draw(torch.float64, seed=3)
    stack, summed = (SCHEDULES[name](problem, kernels)(x) for name in ("stacked", "merged_summed"))
    bound, _ = way_bound(problem, way_named("merged_summed/direct"), torch.float64)
    bound += way_bound(problem, way_named("direct"), torch.float64)[0]
    wrong = (stack - summed).abs() > bound * magnitudes(x, kernels, problem.layers)
    assert wrong.double().mean().item() == pytest.approx(1 - (28 / 32) ** 2, abs=1e-3)
    assert not wrong[:, :, 2:30, 2:30].any()
    assert (stack - summed).abs().max() > 1


def test_reasons_of_the_schedules():
    for problem, reason in (
        (Problem("one", 1, 1, (8,), (Layer(2, 3, padding=1),)), "single layer"),
        (Problem("unpadded", 1, 1, (8,), (Layer(2, 3),) * 2), "plain merged"),
    ):
        for name in ("border_exact", "merged_summed"):
            assert reason in SCHEDULES[name].unsupported(problem, "direct", torch.float32, "cpu")
    tiny = dataclasses.replace(PLAIN, size=(2, 2))
    assert "none would be right" in SCHEDULES["merged_summed"].unsupported(tiny, "direct", torch.float32, "cpu")
    assert SCHEDULES["border_exact"].unsupported(tiny, "direct", torch.float32, "cpu") is None


@pytest.mark.parametrize("name", ["border_exact", "merged"])
def test_groupings_hold_every_layer_once(name):
    for problem in (*GROUPS["borders"].problems, *GROUPS["stacks"].problems):
        for partition in SCHEDULES[name].partitions(problem):
            assert tuple(itertools.chain(*partition)) == problem.expanded


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_error_is_predicted(dtype):
    x, kernels = PLAIN.draw(dtype, seed=2)
    exact = convolve(x, kernels, PLAIN.layers)
    error = exact.error(SCHEDULES["border_exact"](PLAIN, kernels)(x))
    measured = (error.norm() / exact.to(torch.float64).norm()).item()
    assert predict_error(x, kernels, PLAIN.layers, schedule="border_exact") == pytest.approx(measured, rel=0.15)
    with pytest.raises(ValueError, match="wrong at the border"):
        predict_error(x, kernels, PLAIN.layers, schedule="merged_summed")


@given(problems(depths=(2, 3)), SEEDS)
def test_small_inputs_too(problem, seed):
    """Down to the least size that has an output."""
    x, kernels = integer_numbers(problem, seed)
    y = border_exact(kernels, problem.expanded, problem.size)(x)
    assert torch.equal(y, convolve(x, kernels, problem.layers).to(torch.float64)), f"{problem!r}, seed {seed}"
