"""The catalogue against the published networks' figures."""

import pytest

from linear_lasagna import METHODS, SCHEDULES, vocabulary
from linear_lasagna.catalog import CATALOG, GROUPS, problem_named
from linear_lasagna.merging import not_border_mergeable
from linear_lasagna.metrics import METRICS
from linear_lasagna.schedules import inside
from linear_lasagna.trial.isolation import WORKS


def network(name, group="networks"):
    """(convolutions, parameters, multiply-accumulates) of a network, equal layers as often as they occur."""
    rows = [problem for problem in GROUPS[group].problems if problem.name.startswith(f"{name}/")]
    assert all(problem.batch == 1 and problem.depth == 1 for problem in rows)
    return tuple(
        sum(p.occurrences * count for p, count in zip(rows, counts, strict=True))
        for counts in ([1] * len(rows), [p.parameters for p in rows], [p.macs for p in rows])
    )


def test_resnet50():
    """torchvision's resnet50: 25,557,032 parameters less batch norm (53,120) and classifier (2,049,000)."""
    assert network("resnet50") == (53, 25_557_032 - 53_120 - 2_049_000, 4_087_136_256)
    assert network("resnet50")[1] == 23_454_912


def test_vgg16():
    """torchvision's vgg16: 138,357,544 parameters less the linear layers' 123,642,856; biases counted."""
    assert network("vgg16") == (13, 138_357_544 - 123_642_856, 15_346_630_656)
    assert network("vgg16")[1] == 14_714_688


def test_mobilenet():
    """Keras' MobileNet: 4,253,864 parameters less batch norm (4 × 10,944) and classifier (1,025,000); 568,740,352
    multiply-accumulates less the classifier's 1,024,000.
    """
    parameters, macs = 4_253_864 - 4 * 10_944 - 1_025_000, 568_740_352 - 1_024_000
    assert network("mobilenet", "mobilenet") == (27, parameters, macs)


@pytest.mark.parametrize("group", ["networks", "mobilenet"])
def test_network_layers_differ(group):
    """What is equal stands once, with its occurrences."""
    shapes = [(p.batch, p.in_channels, p.size, p.layers) for p in GROUPS[group].problems]
    assert len(set(shapes)) == len(shapes)


def test_names_are_unique_and_sorted_into_groups():
    groups = {group.problems: name for name, group in reversed(GROUPS.items())}  # some have the problems of another
    names = [problem.name for problems in groups for problem in problems]
    assert len(set(names)) == len(names) == len(CATALOG)
    assert all(CATALOG[name].name == name for name in names)
    for problems, group in groups.items():
        prefixes = {problem.name.split("/")[0] for problem in problems}
        assert prefixes == ({"resnet50", "vgg16"} if group in ("networks", "batches") else {group})


@pytest.mark.parametrize("group", GROUPS)
def test_every_way_of_a_group_is_known_to_its_work(group):
    ways = GROUPS[group].ways
    assert (*ways[:2], len(set(ways))) == ("direct", "control", len(ways))
    for way in ways:
        WORKS[GROUPS[group].work].way(way)


def test_whatever_has_a_sentence_has_code_and_the_reverse():
    assert list(METHODS) == list(vocabulary.METHODS)
    assert list(SCHEDULES) == list(vocabulary.SCHEDULES)
    assert list(METRICS) == list(vocabulary.METRICS)


def test_ways_are_ordered_by_schedule_and_method(monkeypatch):
    monkeypatch.setitem(vocabulary.METHODS, "a_new_one", "…")
    ways = ["direct", "patch_matmul", "a_new_one", "merged/direct", "merged/unfold_matmul", "merged_working/direct"]
    ways += ["planned/direct", "control", "merge_float64", "merged_per_call"]
    assert sorted(set(ways), key=vocabulary.way_order) == ways


def test_every_method_is_timed():
    """A method that is added is timed without being named anywhere else."""
    assert {way for group in GROUPS.values() for way in group.ways} >= set(METHODS)


@pytest.mark.parametrize("name", CATALOG)
def test_every_entry_has_a_source(name):
    assert len(CATALOG[name].source) > 20


@pytest.mark.parametrize("problem", GROUPS["stacks"].problems, ids=lambda problem: problem.name)
def test_stacks_can_be_merged(problem):
    """Unpadded, stride 1: the merged convolution equals the stack everywhere."""
    assert problem.depth > 1
    for layer in problem.expanded:
        assert not any(layer.padding)
        assert set(layer.stride) == set(layer.dilation) == {1}


def test_break_even_pairs():
    """C → C_mid → C, all of one output size, C_mid from C / 2 to 16 C but 512 at most."""
    pairs = GROUPS["breakeven"].problems
    for problem in pairs:
        outer, middle, last = problem.channels
        assert (outer, problem.sizes[-1]) == (last, (56, 56))
        assert outer / 2 <= middle <= min(16 * outer, 512)
    assert (
        len({(p.layers, p.in_channels) for p in GROUPS["breakeven"].problems})
        == len(GROUPS["breakeven"].problems)
        == 2 * 29
    )


@pytest.mark.parametrize("problem", GROUPS["batches"].problems, ids=lambda problem: problem.name)
def test_batches_are_layers_of_the_networks(problem):
    """The published layer on as many images as the name says, of ResNet-50 twice as large."""
    name, _, batch = problem.name.rpartition("_b")
    layer = CATALOG[name.removesuffix("_448")]
    scale = 2 if name.endswith("_448") else 1
    assert (problem.batch, problem.in_channels, problem.layers) == (int(batch), layer.in_channels, layer.layers)
    assert problem.size == tuple(scale * n for n in layer.size)
    assert ("448×448" in problem.source) == (scale == 2)


@pytest.mark.parametrize("problem", GROUPS["throughput"].problems, ids=lambda problem: problem.name)
def test_what_is_large_can_be_merged(problem):
    padded = any(any(layer.padding) for layer in problem.expanded)
    assert problem.depth > 1
    assert (not_border_mergeable(problem.expanded) is None) == padded
    assert problem.name.endswith(f"_padded_b{problem.batch}" if padded else f"_b{problem.batch}")


@pytest.mark.parametrize("problem", GROUPS["borders"].problems, ids=lambda problem: problem.name)
def test_borders_cannot_be_merged_whole(problem):
    """Padded between the layers, as large out as in: the merged convolution differs at the border and only there."""
    assert problem.sizes[0] == problem.sizes[-1]
    assert not_border_mergeable(problem.expanded) is None
    assert inside(problem) is not None


def test_known_name():
    assert problem_named("sources/merge") is CATALOG["sources/merge"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet50/conv2_3x4", "resnet50/conv2_3x3"),
        ("vgg/conv5", "vgg16/conv5"),
        ("plain_x8", "stacks/plain_x8"),
    ],
)
def test_unknown_name_gets_near_ones(name, near):
    with pytest.raises(ValueError, match="did you mean") as refusal:
        problem_named(name)
    assert repr(name) in str(refusal.value)
    assert near in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["", "日本", "x" * 500])
def test_unknown_name_far_from_all(name):
    with pytest.raises(ValueError, match="did you mean") as refusal:
        problem_named(name)
    assert any(known in str(refusal.value) for known in CATALOG)
