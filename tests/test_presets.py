"""Presets select exactly the cells that they name, as asv itself matches them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from asv_runner.discovery import disc_benchmarks

from analysis.measure.presets import PRESETS, Key, bench_patterns, preset_named, trials
from linear_lasagna.catalog import CATALOG, GROUPS

ROOT = Path(__file__).parent.parent


def selected(patterns: list[str]) -> set[Key]:
    """The trials of the cells that asv would run: it searches "name(param, param, …)", parameters as repr."""
    found = set()
    for benchmark in disc_benchmarks(str(ROOT / "benchmarks")):
        if not benchmark.name.endswith("time_forward"):
            continue
        for params in itertools.product(*benchmark.params):
            if any(re.search(pattern, f"{benchmark.name}({', '.join(params)})") for pattern in patterns):
                found.add(Key(benchmark.name.split(".")[1].lower(), *(p.strip("'") for p in params[:3])))
    return found


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("devices", [("cpu",), ("cpu", "cuda")])
def test_the_patterns_select_exactly_the_presets_trials(name: str, devices: tuple[str, ...]) -> None:
    preset = preset_named(name)
    expected = trials(preset, devices)
    assert len(expected) == len(set(expected))
    assert selected(bench_patterns(preset, devices)) == set(expected)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_presets_name_problems_of_the_catalogue(preset) -> None:
    assert {key.problem for key in trials(preset, ("cpu",))} <= set(CATALOG)


def test_a_larger_preset_runs_whatever_a_smaller_one_runs() -> None:
    smoke, default, full = (set(trials(PRESETS[name], ("cpu",))) for name in ("smoke", "default", "full"))
    assert smoke < default < full


@pytest.mark.parametrize("name", ["default", "full"])
def test_every_group_is_run(name: str) -> None:
    assert {selection.group for selection in preset_named(name).selections} == set(GROUPS)


@pytest.mark.parametrize("name", PRESETS)
def test_stacks_are_timed_in_16_bits_too(name: str) -> None:
    dtypes = {key.dtype for key in trials(preset_named(name), ("cpu",)) if key.group == "stacks"}
    assert dtypes >= {"bfloat16", "float32"}


def test_an_unknown_preset_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'tiny'; known: smoke, default, full"):
        preset_named("tiny")
