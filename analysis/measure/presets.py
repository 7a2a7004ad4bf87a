"""What a study runs, as data: which problems in which dtypes, and how long each trial is timed."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from linear_lasagna import sweeps
from linear_lasagna.catalog import GROUPS
from linear_lasagna.catalog import OWN as OWN_GIVEN
from linear_lasagna.factors import inapplicable, named, one_at_a_time, parsed
from linear_lasagna.own import GROUP as OWN
from linear_lasagna.trial.files import Key
from linear_lasagna.vocabulary import DEVICES, DTYPES

BENCHMARKS = {group: f"trials.{group.capitalize()}" for group in GROUPS}

FEW_STACKS = ("stacks/sesr_x1", "stacks/sesr_x3", "stacks/expandnet", "stacks/plain_x4")
FEW_PAIRS = ("breakeven/k3_16_8", "breakeven/k3_16_128", "breakeven/k5_16_16", "breakeven/k5_16_128")


@dataclass(frozen=True)
class Selection:
    """Problems of one benchmark group, the dtypes that they are timed in, and under which conditions, as text."""

    group: str
    problems: tuple[str, ...]
    dtypes: tuple[str, ...]
    under: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Preset:
    """budget_s: seconds in timed calls per trial and process, all ways together; limit_s: of the timing of all trials,
    after which no further process begins; precision: the preset of the experiments on rounding error, "" for none; own:
    the dtypes of problems that the user gives.
    """

    name: str
    budget_s: float
    limit_s: float
    selections: tuple[Selection, ...]
    precision: str = "default"
    own: tuple[str, ...] = ("bfloat16", "float32")

    @property
    def own_problems(self) -> tuple[str, ...]:
        """The problems, where the user's own are all that is timed."""
        alone = {selection.group for selection in self.selections} == {OWN}
        return self.selections[0].problems if alone else ()


def _all(group: str) -> tuple[str, ...]:
    return tuple(problem.name for problem in GROUPS[group].problems)


def _complete(
    named: tuple[Selection, ...], dtypes: tuple[str, ...], without: tuple[str, ...] = ()
) -> tuple[Selection, ...]:
    """And all problems of the groups for any device that are not named, but some, in the catalogue's order."""
    others = [group for group in GROUPS if "cpu" in GROUPS[group].devices and group not in (OWN, *without)]
    usual = {selection.group for selection in named if "" in selection.under}
    rest = [Selection(group, _all(group), dtypes) for group in others if group not in usual]
    return tuple(sorted((*named, *rest), key=lambda selection: list(GROUPS).index(selection.group)))


FEW_MOBILE = tuple(
    f"mobilenet/{kind}_{place}"
    for kind in ("depthwise", "pointwise")
    for place in ("32_112", "128_56_stride", "512_14")
)
COARSE = (  # what a short study takes of the sweeps
    Selection("mobilenet", FEW_MOBILE, ("float32",)),
    *(Selection(group, sweeps.coarse(group), ("float32",)) for group in ("sweeps", "depths")),
    *(Selection(group, sweeps.FEW_THREADED, ("float32",)) for group in sweeps.THREADS),
)

FEW_CONDITIONS = Selection(  # beside the usual ones, which are there anyhow
    "networks", ("resnet50/conv4_reduce",), ("float32",), ("cache=cold", "turns=isolated", "threads=1")
)

SMOKE = Preset(
    "smoke",
    0.3,
    100.0,
    (
        Selection("sources", ("sources/merge", "sources/unfold"), ("float32",)),
        Selection("networks", ("resnet50/conv2_3x3", "resnet50/conv4_reduce"), ("float32",)),
        Selection("stacks", ("stacks/sesr_x1", "stacks/plain_x2", "stacks/plain_x8"), ("float32",)),
        # One small stack in 16 bits: without hardware for them a larger one takes as long as all the rest.
        Selection("stacks", ("stacks/plain_x2",), ("bfloat16",)),
        Selection("borders", ("borders/wide_pair_256",), ("float32",)),
        Selection("merging", ("stacks/sesr_x1",), ("float32",)),
        Selection("training", ("stacks/sesr_x1",), ("float32",)),
        Selection("breakeven", FEW_PAIRS, ("float32",)),
    ),
    "smoke",
    ("float32",),
)
DEFAULT = Preset(
    "default",
    0.3,
    27.5 * 60,
    _complete(
        (
            Selection("sources", _all("sources"), DTYPES),
            Selection("networks", _all("networks"), ("bfloat16", "float32")),
            Selection("stacks", _all("stacks"), ("bfloat16", "float32")),
            Selection("stacks", FEW_STACKS, ("float16", "float64")),
            Selection("training", FEW_STACKS, ("float32",)),
            *COARSE,
            FEW_CONDITIONS,
        ),
        ("float32",),
        without=("runtimes",),  # each process loads them and compiles: minutes for a single layer
    ),
)
FULL = Preset(
    "full",
    1.0,
    math.inf,
    _complete(
        (
            Selection("training", _all("stacks"), ("bfloat16", "float32")),
            # Compensated sums of float64 take seconds.
            Selection("transforms", _all("transforms"), ("float16", "bfloat16", "float32")),
            FEW_CONDITIONS,
        ),
        DTYPES,
    ),
    "full",
    DTYPES,
)

LATENCY = ("stacks/sesr_x1", "stacks/expandnet", "stacks/plain_x4")  # of one image: how long launches take
LATENCY_LAYERS = ("resnet50/conv2_3x3", "resnet50/conv4_3x3", "vgg16/conv4_2")
FEW_BATCHES = ("vgg16/conv4_2_b32", "resnet50/conv2_expand_448_b64")
FEW_LARGE = ("throughput/plain_x4_b32", "throughput/k3_64_128_b32", "throughput/sesr_x1_b2")
ACCELERATOR = Preset(
    "accelerator",
    0.3,
    22 * 60.0,
    (
        Selection("networks", LATENCY_LAYERS, ("bfloat16", "float32")),
        Selection("stacks", LATENCY, ("bfloat16", "float32")),
        Selection("batches", _all("batches"), ("float16", "bfloat16", "float32")),
        Selection("batches", FEW_BATCHES, ("float64",)),
        Selection("throughput", _all("throughput"), ("bfloat16", "float32")),
        Selection("throughput", FEW_LARGE, ("float16", "float64")),
    ),
)

CONDITIONS = Preset(
    "conditions",
    0.3,
    6 * 60.0,
    (
        Selection("networks", ("resnet50/conv2_3x3", "resnet50/conv4_reduce"), ("float32",), one_at_a_time()),
        Selection("borders", ("borders/wide_pair_32",), ("bfloat16", "float32"), one_at_a_time()),
        Selection("mobilenet", ("mobilenet/depthwise_512_14",), ("float32",), one_at_a_time()),
    ),
    "",
)

NARROW = ("float16", "bfloat16")  # slow where no hardware computes in them
SWEEPS = Preset(
    "sweeps",
    0.3,
    10 * 60.0,
    (
        Selection("mobilenet", _all("mobilenet"), ("float32",)),
        Selection("mobilenet", FEW_MOBILE, (*NARROW, "float64")),
        *(Selection(group, _all(group), ("float32",)) for group in ("sweeps", "depths")),
        *(Selection(group, sweeps.coarse(group), (*NARROW, "float64")) for group in ("sweeps", "depths")),
        *(Selection(group, _all(group), ("float32",)) for group in sweeps.THREADS),
        *(Selection(group, sweeps.FEW_THREADED, (*NARROW, "float64")) for group in sweeps.THREADS),
    ),
    "",
)


FEW_LAYERS = ("runtimes/unfold", "runtimes/pointwise")
RUNTIMES = Preset(
    "runtimes",
    0.3,
    20 * 60.0,
    (
        Selection("runtimes", _all("runtimes"), ("float32",)),
        Selection("runtimes", FEW_LAYERS, (*NARROW, "float64")),
    ),
    "",
)


def own_alone(preset: Preset, problems: Sequence[str]) -> Preset:
    """The preset with the user's own problems in the place of all others."""
    return replace(preset, selections=(Selection(OWN, tuple(problems), preset.own),))


def _with_own(preset: Preset) -> Preset:
    """And with the user's own problems, where there are any."""
    given = own_alone(preset, _all(OWN)).selections if OWN in GROUPS else ()
    return replace(preset, selections=(*preset.selections, *given))


ALL = (SMOKE, DEFAULT, FULL, ACCELERATOR, SWEEPS, CONDITIONS, RUNTIMES)
PRESETS: dict[str, Preset] = {preset.name: _with_own(preset) for preset in ALL}


def preset_named(name: str) -> Preset:
    """Raises ValueError, naming the known ones, for an unknown preset."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def trials(preset: Preset, devices: Sequence[str]) -> list[Key]:
    """Every trial of the preset on the devices, of those that its groups are for."""
    return [
        key
        for selection in preset.selections
        for combination in itertools.product(
            selection.problems, selection.dtypes, _for(selection, devices), selection.under
        )
        if without(key := Key(selection.group, *combination)) is None
    ]


def presets_of(timed: Collection[Key], devices: Sequence[str], asked: Sequence[Preset] = ()) -> list[Preset]:
    """The presets that timed trials belong to: those asked for; then, while some trials are in none of these, the one
    with the most of them among those of which at least half was timed.
    """
    found, rest = list(asked), set(timed) - {key for preset in asked for key in trials(preset, devices)}
    every = {preset.name: set(trials(preset, devices)) for preset in PRESETS.values()}
    run = {name: own for name, own in every.items() if 2 * len(own.intersection(timed)) >= len(own)}
    while most := max(run, key=lambda name: (len(run[name] & rest), -len(run[name])), default=""):
        if not run[most] & rest:
            break
        found.append(PRESETS[most])
        rest -= run.pop(most)
    return found


def without(key: Key) -> str | None:
    """Why there is no such trial, for its conditions, or None."""
    under, group = parsed(key.under), GROUPS.get(key.group)
    if group is not None and group.threads and "threads" in under:
        return f"the group {key.group} has its own number of threads"
    if key.problem in OWN_GIVEN.numbers and "work" in under:
        return f"the numbers of {key.problem} are given, and for forward trials"
    return inapplicable(under, key.device, key.dtype, "forward" if group is None else group.work)


def under(preset: Preset, conditions: Sequence[str]) -> Preset:
    """The preset's usual trials under these conditions instead; none: as it is."""
    usual = [selection for selection in preset.selections if "" in selection.under]
    moved = tuple(replace(selection, under=tuple(conditions)) for selection in usual)
    return replace(preset, selections=moved) if conditions else preset


def check_conditions(preset: Preset, devices: Sequence[str], conditions: Sequence[str]) -> None:
    """Raise ValueError, in one line, where the preset has no trial of one of these conditions on the devices."""
    timed = {key.under for key in trials(preset, devices)}
    for text in conditions:
        if text not in timed:
            chosen = [(each.group, each.problems[0], dtype) for each in preset.selections for dtype in each.dtypes]
            keys = (Key(*first, device, text) for first in chosen for device in devices)
            raise ValueError(next(reason for key in keys if (reason := without(key))))


def _for(selection: Selection, devices: Sequence[str]) -> list[str]:
    return [device for device in devices if device.partition(":")[0] in _kinds(selection.group)]


def _kinds(group: str) -> tuple[str, ...]:
    """The kinds of devices that a group is for; one that is not there, for there was a problems file, is for all."""
    return GROUPS[group].devices if group in GROUPS else DEVICES


def check_devices(preset: Preset, devices: Sequence[str]) -> None:
    """Raise ValueError, in one line, where a group of the preset is for none of the devices."""
    for selection in preset.selections:
        if not _for(selection, devices):
            needed = " or ".join(_kinds(selection.group))
            raise ValueError(f"the preset {preset.name!r} needs {needed}, not {' and '.join(devices)} alone")


def bench_patterns(preset: Preset, devices: Sequence[str]) -> list[str]:
    """Regular expressions for `asv run --bench` that select exactly the preset's cells.

    asv matches them against "module.Class.name('problem', 'dtype', 'device', 'way', 'conditions')".
    """

    def any_of(names: Sequence[str]) -> str:
        return "'(" + "|".join(map(re.escape, names)) + ")'"

    chosen: dict[tuple[Any, ...], list[str]] = {}
    for selection in preset.selections:
        for text in selection.under:
            alone = replace(preset, selections=(replace(selection, under=(text,)),))
            if keys := trials(alone, devices):
                names = (dict.fromkeys(values) for values in zip(*(key[1:4] for key in keys), strict=True))
                chosen.setdefault((selection.group, *map(tuple, names)), []).append(named(text))
    return [
        rf"^{re.escape(BENCHMARKS[group])}\.\w+\({any_of(problems)}, {any_of(dtypes)}, {any_of(there)}, '[^']*', "
        rf"{any_of(conditions)}\)"
        for (group, problems, dtypes, there), conditions in chosen.items()
    ]
