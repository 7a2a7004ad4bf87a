"""Presets select exactly the cells that they name, as asv itself matches them."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from asv_runner.discovery import disc_benchmarks

from analysis import study
from analysis.measure.presets import (
    ACCELERATOR,
    LATENCY,
    LATENCY_LAYERS,
    PRESETS,
    Key,
    bench_patterns,
    check_devices,
    preset_named,
    presets_of,
    trials,
)
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.factors import named
from linear_lasagna.sweeps import PLACES, SWEEPS, THREADS, name_of
from linear_lasagna.vocabulary import DTYPES

ROOT = Path(__file__).parent.parent


def selected(patterns: list[str], conditions: set[str]) -> set[Key]:
    """The trials of the cells that asv would run: it searches "name(param, param, …)", parameters as repr."""
    found, texts = set(), {repr(named(text)): text for text in conditions}
    for benchmark in disc_benchmarks(str(ROOT / "benchmarks")):
        if not benchmark.name.endswith("time_forward"):
            continue
        for params in itertools.product(*benchmark.params[:4], texts):
            if any(re.search(pattern, f"{benchmark.name}({', '.join(params)})") for pattern in patterns):
                found.add(
                    Key(benchmark.name.split(".")[1].lower(), *(p.strip("'") for p in params[:3]), texts[params[4]])
                )
    return found


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("devices", [("cpu",), ("cpu", "cuda")])
def test_the_patterns_select_exactly_the_presets_trials(name: str, devices: tuple[str, ...]) -> None:
    preset = preset_named(name)
    expected = trials(preset, devices)
    assert len(expected) == len(set(expected))
    conditions = {key.under for key in expected}
    assert selected(bench_patterns(preset, devices), conditions) == set(expected)


def test_presets_are_told_from_the_trials_that_were_timed() -> None:
    default, sweeps, smoke = (trials(PRESETS[name], ("cpu",)) for name in ("default", "sweeps", "smoke"))
    for timed, asked, found in (
        (default, (), ["default"]),
        (smoke, (), ["smoke"]),
        (default[10:] + sweeps, (), ["default", "sweeps"]),
        (default[10:] + sweeps, ("default",), ["default", "sweeps"]),
        (default[:3], ("default",), ["default"]),
        (default + sweeps[:9], ("default",), ["default"]),
        (default[:3], (), []),
        ((), (), []),
    ):
        assert [preset.name for preset in presets_of(timed, ("cpu",), [PRESETS[name] for name in asked])] == found


def test_a_study_s_presets_are_those_asked_for_and_those_that_its_records_tell() -> None:
    def run(keys: list[Key], devices: tuple[str, ...], conditions: tuple[str, ...] = ()) -> dict[str, int]:
        loaded = [SimpleNamespace(key=("m", *key), trial=SimpleNamespace(device=key.device)) for key in keys]
        found = study._run(PRESETS["smoke"], devices, loaded, conditions)  # type: ignore[arg-type]
        return {preset.name: len(trials) for preset, trials in found.items()}

    smoke, default = (trials(PRESETS[name], ("cpu",)) for name in ("smoke", "default"))
    assert run(default[:9], ()) == {"smoke": 0}, "nothing tells of which trials these are"
    assert run(default, ()) == {"default": len(default)}
    assert run(smoke[:2], ("cpu",)) == {"smoke": len(smoke)}
    assert run(default, ("cpu",)) == {"smoke": len(smoke), "default": len(default)}
    assert run(default, ("cpu",), ("cache=cold",)) == {"smoke": len(smoke)}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_presets_name_problems_of_the_catalogue(preset) -> None:
    assert {key.problem for key in trials(preset, ("cpu",))} <= set(CATALOG)


def test_a_larger_preset_runs_whatever_a_smaller_one_runs() -> None:
    smoke, default, full = (set(trials(PRESETS[name], ("cpu",))) for name in ("smoke", "default", "full"))
    assert smoke < default < full


@pytest.mark.parametrize(("name", "without"), [("default", {"runtimes"}), ("full", set())])
def test_every_group_is_run(name: str, without: set[str]) -> None:
    groups = {name for name, group in GROUPS.items() if "cpu" in group.devices}
    assert {selection.group for selection in preset_named(name).selections} == groups - without


LAUNCH_S = 10e-6
MACS_PER_S, BYTES_PER_S = 798e12 / 2, 3.0e12  # of bfloat16 products and of copies, both measured on an H100


@pytest.mark.parametrize("key", trials(ACCELERATOR, ("cuda",)), ids="/".join)
def test_an_accelerator_is_busy_or_its_latency_is_asked(key: Key) -> None:
    """The launches, one a layer, are a tenth of what the layers take at least; the others are one image each."""
    problem = CATALOG[key.problem]
    latency = {*LATENCY, *LATENCY_LAYERS}
    busy = problem.floor_s(MACS_PER_S, BYTES_PER_S, 2) >= 10 * problem.depth * LAUNCH_S
    assert busy == (key.problem not in latency)
    assert problem.batch > 1 or key.problem in latency


def test_what_is_for_accelerators_is_timed_on_no_cpu() -> None:
    groups = {key.group for key in trials(ACCELERATOR, ("cpu", "cuda")) if key.device == "cpu"}
    assert groups == {"networks", "stacks"}
    with pytest.raises(ValueError, match="the preset 'accelerator' needs cuda or mps, not cpu alone"):
        check_devices(ACCELERATOR, ("cpu",))
    check_devices(ACCELERATOR, ("cpu", "cuda:1"))


def test_no_draw_of_the_accelerator_s_presets_outgrows_a_host() -> None:
    """Inputs are drawn on the CPU in float64: 1 GiB each at most."""
    problems = {CATALOG[key.problem] for key in trials(ACCELERATOR, ("cuda",))}
    assert max(8 * math.prod(problem.shapes[0]) for problem in problems) <= 2**30


@pytest.mark.parametrize("name", PRESETS)
def test_stacks_are_timed_in_16_bits_too(name: str) -> None:
    dtypes = {key.dtype for key in trials(preset_named(name), ("cpu",)) if CATALOG[key.problem].depth > 1}
    assert dtypes >= {"bfloat16", "float32"} or name == "runtimes"  # which times single layers
    assert bool(dtypes) == (name != "runtimes")


def test_the_sweeps_take_all_values_in_float32_and_the_coarse_ones_in_every_dtype() -> None:
    """The default takes the coarse ones in float32; either on one thread, two, and all."""
    asked = {(key.group, key.problem, key.dtype) for key in trials(PRESETS["sweeps"], ("cpu",))}
    default = {(key.group, key.problem, key.dtype) for key in trials(PRESETS["default"], ("cpu",))}
    for axis, sweep in SWEEPS.items():
        all_values, coarse = ([name_of(axis, value) for value in each] for each in (sweep.values, sweep.coarse))
        assert asked >= {(sweep.group, name, "float32") for name in all_values}
        assert asked >= {(sweep.group, name, dtype) for name in coarse for dtype in DTYPES}
        assert {name for group, name, _ in default if group == sweep.group and PLACES[name][0] == axis} == {*coarse}
    for each in (asked, default):
        assert len({name for group, name, dtype in each if group == "threads"}) >= 1
        threaded = [{key[1:] for key in each if key[0] == group} for group in THREADS]
        assert threaded[0] == threaded[1] == threaded[2]
    assert asked >= {("mobilenet", problem.name, "float32") for problem in GROUPS["mobilenet"].problems}


def test_an_unknown_preset_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'tiny'; known: smoke, default, full, accelerator, sweeps"):
        preset_named("tiny")
