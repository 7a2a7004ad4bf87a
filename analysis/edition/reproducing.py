"""Measure an edition's headlines again, here: by the code that times all trials, and the same experiment on errors."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from analysis.data import machines, records
from analysis.data.frames import Frame
from analysis.data.records import Records
from analysis.edition import raw
from analysis.edition.folder import manifest
from analysis.edition.headlines import KINDS, Headline, read, stack_of
from analysis.gaps import Gaps
from analysis.measure import trial_run
from analysis.measure.alone import alone
from analysis.measure.checkout import checkout_if_any
from analysis.measure.presets import DEFAULT, PRESETS, Preset
from analysis.measure.progress import timing_bar
from analysis.precision.unit import Unit
from analysis.report import page
from analysis.report.section import within
from analysis.report.sections.merged_error import SPOKEN_OF
from linear_lasagna.catalog import GROUPS
from linear_lasagna.trial.files import Key

Said: TypeAlias = Literal["reproduced", "contradicted", "undecided"]
OPPOSITE = ({"faster", "slower"}, {"smaller", "larger"})
EXPERIMENT = "merging"


@dataclass(frozen=True)
class Outcome:
    """here: what was found on this machine, None where nothing was."""

    headline: Headline
    here: Headline | None
    said: Said


@dataclass(frozen=True)
class Reproduction:
    """there: the machines of the edition; here: this one, by each of the devices that its headlines are of."""

    there: tuple[str, ...]
    here: tuple[str, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def counts(self) -> str:
        """How many of each."""
        counts = Counter(each.said for each in self.outcomes)
        return ", ".join(f"{counts[said]} {said}" for said in get_args(Said))


Timing: TypeAlias = Callable[[Sequence[Key], Preset], Records]
Computing: TypeAlias = "Callable[[Sequence[Headline], str, Preset], Frame | None]"


def of_edition(
    folder: Path,
    time: Timing | None = None,
    compute: Computing | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Reproduction:
    """What becomes of the headlines of the edition in the folder. tell: is given each line for a reader as soon as it
    is known. Raises ValueError for what is no edition, and as `reproduce` does.
    """
    told = manifest(folder)
    lines = read(told.get("headlines"))
    if not lines:
        raise ValueError(f"{folder} has no headlines: its data support none of the answers that name a number")
    with raw.unpacked(folder / raw.TRIALS) as trials:
        loaded = records.load(trials)
    selection = told["context"].get("selection", "")
    here = tuple(dict.fromkeys(this_machine(each.device) for each in lines))  # before one thread computes errors
    there, outcomes = tuple(told["machines"]), list[Outcome]()
    if not set(here) <= set(there):
        tell(f"measured on {' and '.join(there)}; this is another machine: {' and '.join(here)}")
    for outcome in reproduce(lines, loaded, selection, time or timed, compute or computed):
        outcomes.append(outcome)
        tell(line(outcome))
    reproduction = Reproduction(there, here, tuple(outcomes))
    tell(reproduction.counts)
    return reproduction


def reproduce(
    headlines: Sequence[Headline], loaded: Records, selection: str, time: Timing, compute: Computing
) -> Iterator[Outcome]:
    """What becomes of each when its trials are timed, and its errors are computed, again: first those that rest on
    trials. loaded: the edition's own; selection: the names of its presets, of which the first gives budget and seeds;
    time: trials; compute: errors on a device.

    Raises ValueError, at once, where this version, or this machine, has not what is to be measured.
    """
    preset = PRESETS.get(selection.partition(" ")[0].rstrip(","), DEFAULT)
    keys = checked(list(dict.fromkeys(key for each in headlines for key in needed(each, loaded))))
    of_trials = [each for each in headlines if each.kind != "error"]
    of_errors: dict[str, list[Headline]] = {}
    for each in headlines:
        if each.kind == "error":
            of_errors.setdefault(each.device, []).append(each)

    def outcomes() -> Iterator[Outcome]:
        yield from judged(of_trials, time(keys, preset) if keys else Records(), None)
        for device, those in of_errors.items():
            yield from judged(those, Records(), compute(those, device, preset))

    return outcomes()


def judged(headlines: Sequence[Headline], again: Records, rows: Frame | None) -> Iterator[Outcome]:
    """Each beside what was measured again."""
    for headline, here in zip(headlines, found(headlines, again, rows), strict=True):
        yield Outcome(headline, here, compared(headline, here))


def needed(headline: Headline, loaded: Records) -> Iterable[Key]:
    """The trials on which it rests."""
    for record in loaded:
        trial, name = record.trial, record.trial.problem.name
        if (trial.dtype, trial.device, record.under) != (headline.dtype, headline.device, headline.under):
            continue
        whole = headline.kind == "network" and name.partition("/")[0] == headline.problem
        alone = headline.kind == "speedup" and name == headline.problem
        if record.group == headline.group and (whole or alone):
            yield Key(record.group, name, trial.dtype, trial.device, record.under)


def checked(keys: Sequence[Key]) -> Sequence[Key]:
    """The keys. Raises ValueError for what this version does not know, and devices that are not here."""
    from linear_lasagna.devices import unavailable

    for key in keys:
        if key.group not in GROUPS or key.problem not in {problem.name for problem in GROUPS[key.group].problems}:
            raise ValueError(f"this version has no {key.problem} in the group {key.group}; the edition's commit has")
        if reason := unavailable(key.device):
            raise ValueError(f"a headline is of {key.device}, which is not here: {reason}")
    return keys


def found(headlines: Sequence[Headline], again: Records, rows: Frame | None) -> list[Headline | None]:
    """The same numbers in what was measured again."""
    if not len(again) and rows is None:
        return [None] * len(headlines)
    data, results = page.derive(again, rows, gaps=Gaps())
    frames = page.all_frames(results)
    scopes = [(data.within(scope), within(scope, frames)) for scope in data.scopes]

    def one(headline: Headline) -> Headline | None:
        every = (KINDS[headline.kind].of(headline, *scope) for scope in scopes)
        return next((each for each in every if each is not None), None)

    return [one(headline) for headline in headlines]


def compared(headline: Headline, here: Headline | None) -> Said:
    """By their verdicts alone: two machines differ in their numbers."""
    if here is None:
        return "undecided"
    if here.verdict == headline.verdict:
        return "reproduced"
    return "contradicted" if {here.verdict, headline.verdict} in OPPOSITE else "undecided"


def timed(keys: Sequence[Key], preset: Preset) -> Records:
    """The trials, timed here in several processes each. Raises RuntimeError where a study runs beside it."""
    from analysis.study import LOCK

    commit = checkout_if_any().commit
    with alone(LOCK) as keep, tempfile.TemporaryDirectory() as name:
        specification = trial_run.Specification(keys, preset.budget_s, commit=commit)
        with timing_bar(len(keys)) as advance_to:
            trial_run.time_all(specification, Path(name) / "trials.log", advance_to, keep, Path(name))
        return records.load(Path(name) / ".asv" / "trials")


def computed(headlines: Sequence[Headline], device: str, preset: Preset) -> Frame | None:
    """The rows of the experiment on merging that the headlines rest on, computed here. Raises ValueError for a device
    that is not here.
    """
    from analysis.data import store
    from analysis.precision import run_study

    places = {(each.problem, each.dtype) for each in headlines}

    def wanted(unit: Unit) -> bool:
        return (stack_of(unit.depth), unit.dtype) in places and unit.signs == SPOKEN_OF

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "precision.sqlite"
        run_study([EXPERIMENT], preset.precision or "default", path, device=device, wanted=wanted)
        rows = store.read(path)
    return rows if len(rows) else None


def this_machine(device: str) -> str:
    """This machine, as a record of it would tell it."""
    from linear_lasagna.environment import environment, machine_key

    return machines.told(machine_key(), environment(device, start=False))


def line(outcome: Outcome) -> str:
    """For a reader."""
    before, now = _number(outcome.headline), "not measured" if outcome.here is None else _number(outcome.here)
    return f"{outcome.said:<12}  {outcome.headline.claim}: {before}; here {now}"


def _number(each: Headline) -> str:
    return f"{each.value:.3g} [{each.lower:.3g}, {each.upper:.3g}] {each.verdict}"
