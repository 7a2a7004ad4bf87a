"""The planner: no cut is cheaper than its, and the rule for two layers is its special case."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import mergeable_problems, problems

from linear_lasagna import Layer, Problem
from linear_lasagna.catalog import CATALOG
from linear_lasagna.planning import Plan, plan
from linear_lasagna.planning.operations import operations
from linear_lasagna.planning.runs import all_runs, cheapest, part, separate, whole


def groupings(depth):
    """Every way to cut `depth` layers into runs: one for each choice of borders."""
    for borders in itertools.product((False, True), repeat=depth - 1):
        edges = [0, *(i for i, cut in enumerate(borders, 1) if cut), depth]
        yield tuple(itertools.pairwise(edges))


def total(costs, runs):
    """None where one of the runs is impossible."""
    prices = [costs[run] for run in runs]
    return None if None in prices else sum(prices)


@st.composite
def run_costs(draw):
    """A cost for every run of up to 8 layers; runs of several layers may be impossible. Small, so that many tie."""
    depth = draw(st.integers(1, 8))
    prices = st.integers(0, 12)
    return depth, {
        (start, stop): draw(prices if stop == start + 1 else st.none() | prices) for start, stop in all_runs(depth)
    }


@given(run_costs())
def test_no_grouping_is_cheaper(case):
    depth, costs = case
    possible = [runs for runs in groupings(depth) if total(costs, runs) is not None]
    found = cheapest(depth, costs.__getitem__)
    assert found in possible
    least = min(total(costs, runs) for runs in possible)
    assert total(costs, found) == least
    assert len(found) == max(len(runs) for runs in possible if total(costs, runs) == least)


def test_groupings_are_all_groupings():
    assert len(set(groupings(8))) == 2**7
    assert len(all_runs(8)) == 36


def test_single_layers_that_are_impossible_alone():
    costs = {(0, 1): None, (1, 2): 1, (0, 2): 9, (2, 3): 1, (1, 3): 5, (0, 3): None}
    assert cheapest(3, costs.__getitem__) == ((0, 2), (2, 3))
    with pytest.raises(ValueError, match="no way to cut 3 layers"):
        cheapest(3, (costs | {(0, 2): None}).__getitem__)


def merged_macs(problem, run):
    """From the definition: batch × outputs × (out × in / groups × taps), the kernel sizes adding up."""
    start, stop = run
    layers = problem.expanded[start:stop]
    groups = math.gcd(*(layer.groups for layer in layers))
    axes = zip(*(layer.kernel_size for layer in layers), strict=True)
    taps = math.prod(1 + sum(k - 1 for k in axis) for axis in axes)
    return math.prod(problem.shapes[stop]) * problem.channels[start] // groups * taps


@given(mergeable_problems(depths=(1, 4)))
def test_plan_by_operations_is_the_cheapest_of_all_groupings(problem):
    costs = {run: merged_macs(problem, run) for run in all_runs(problem.depth)}
    found = plan(problem)
    assert found.planned == min(total(costs, runs) for runs in groupings(problem.depth))
    assert found.planned == total(costs, found.runs)
    assert found.stacked == total(costs, separate(problem.depth)) == problem.macs
    assert found.merged == (costs[0, problem.depth] if problem.depth > 1 else None)


@given(problems(depths=(1, 4)))
def test_any_stack_has_a_plan_that_covers_it(problem):
    found = plan(problem)
    assert [index for start, stop in found.runs for index in range(start, stop)] == list(range(problem.depth))
    assert found.planned <= found.stacked == problem.macs
    assert found.merged is None or found.planned <= found.merged
    assert operations(problem, found.runs) == found.planned


@given(st.integers(1, 4), st.integers(1, 64), st.integers(1, 64), st.integers(1, 512))
def test_the_rule_for_two_layers(k, inputs, outputs, middle):
    """Merging saves operations only if C_mid > (2k-1)² Cin Cout / (k² (Cin + Cout)).

    That holds where all three sizes are equal: nearly so on a large unpadded image. Within what the wider middle
    makes of it the count itself decides, and the test above holds it to that.
    """
    size = 10**6
    problem = Problem("pair", 1, inputs, (size, size), (Layer(middle, k), Layer(outputs, k)))
    saved = middle * k**2 * (inputs + outputs) - (2 * k - 1) ** 2 * inputs * outputs
    # The first layer's output is k - 1 wider than the second's: its part of the saving is that much larger.
    border = middle * inputs * k**2 * ((size - k + 1) ** 2 / (size - 2 * k + 2) ** 2 - 1)
    if abs(saved) > border:
        assert plan(problem).runs == (whole(2) if saved > 0 else separate(2))


@pytest.mark.parametrize(("middle", "merges"), [(11, False), (12, True)])
def test_the_rule_for_two_layers_of_equal_width(middle, merges):
    """k = 3, Cin = Cout = C: from 25 / 18 C = 1.39 C on; for C = 8 that is 11.1."""
    problem = Problem("pair", 1, 8, (10**6, 10**6), (Layer(middle, 3), Layer(8, 3)))
    assert bool(plan(problem).merges) == merges


def test_sesr_is_merged_block_by_block():
    found = plan(CATALOG["stacks/sesr_x5"])
    assert found.runs == ((0, 2), (2, 4), (4, 6), (6, 8), (8, 10))
    assert found.merges == found.runs
    assert found.planned * 10 < found.stacked
    assert found.planned < found.merged


def test_text_names_the_merged_layers():
    text = str(plan(CATALOG["stacks/expandnet"]))
    assert text.startswith("stacks/expandnet: 0–2: ")
    assert "MAC" in text
    assert "\n" not in text
    padded = Problem("padded", 1, 8, (16, 16), (Layer(8, 3, stride=2, padding=1), Layer(8, 3, padding=1)))
    assert "0, 1: " in str(plan(padded)) or "0–1: " in str(plan(padded))


def test_a_plan_is_frozen_data():
    found = plan(CATALOG["stacks/plain_x2"])
    assert isinstance(found, Plan)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.runs = ()


def test_part_is_what_reaches_the_run():
    problem = CATALOG["stacks/sesr_x3"]
    here = part(problem, (2, 5))
    assert here.shapes == problem.shapes[2:6]
    assert here.expanded == problem.expanded[2:5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": "flops"}, "unknown cost 'flops'; known: operations"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"device": "cuda:99"}, "cannot plan for cuda:99: this machine has"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        plan(CATALOG["stacks/plain_x2"], **arguments)
    assert "\n" not in str(caught.value)
