"""The whole study: asv times the preset's trials, the precision experiments measure error, a report shows both."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import asv_run
from analysis.checkout import ROOT, Checkout, checkout
from analysis.presets import Preset, bench_patterns, preset_named, trials
from analysis.progress import progress_bar

TRIALS = ROOT / ".asv" / "trials"
RESULTS = ROOT / ".asv" / "results"
OUT = ROOT / "study"


@dataclass(frozen=True)
class Place:
    """Where a study's parts lie: the commit's trial records, the precision store, the report's folder."""

    checkout: Checkout
    machine: str
    out: Path

    @property
    def records(self) -> Path:
        return TRIALS / self.machine / self.checkout.commit

    @property
    def store(self) -> Path:
        return self.out / "precision.sqlite"


def devices_here() -> tuple[str, ...]:
    """The devices of this machine, the CPU first."""
    from linear_lasagna.devices import DEVICES, unavailable

    return tuple(device for device in DEVICES if unavailable(device) is None)


def place(out: Path = OUT) -> Place:
    """Raises ValueError where this is no git checkout."""
    here = checkout()
    return Place(here, asv_run.register_machine(), out)


def time_trials(preset: Preset, devices: Sequence[str], where: Place) -> float:
    """Run the preset's trials through asv, with a progress bar; returns asv's wall seconds."""
    expected = len(trials(preset, devices))
    settings = asv_run.Run(
        where.checkout.commit, where.machine, bench_patterns(preset, devices), preset.budget_s, where.out / "asv.log"
    )
    before = set(where.records.glob("*.json"))
    results = RESULTS / where.machine
    asv_run.unscrub(results)
    try:
        with progress_bar("timing trials", expected) as advance_to:

            def progress() -> None:
                done = len(set(where.records.glob("*.json")) - before)
                advance_to(done, "handing samples to asv" if done >= expected else None)

            return asv_run.run(settings, progress)
    finally:
        asv_run.scrub(results)


def study(preset_name: str, out: Path = OUT, workers: int = 0) -> Path:
    """Everything, in order; returns the report's path. What was finished before a kill is not done again.

    Raises ValueError for an unknown preset, or outside of a git checkout.
    """
    from analysis import precision, report_run

    preset = preset_named(preset_name)
    where, devices = place(out), devices_here()
    start = time.perf_counter()
    asv_s = time_trials(preset, devices, where)
    precision.run_study(None, preset.name, where.store, workers=workers, device=devices[-1], machine=where.machine)
    page = report_run.render(where, preset, devices)
    report_run.headlines(where, asv_s, time.perf_counter() - start)
    return page
