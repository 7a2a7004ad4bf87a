"""The whole study: asv times the preset's trials, the precision experiments measure error, a report shows both."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import arguments
from analysis.measure import asv_run, trial_run
from analysis.measure.alone import alone
from analysis.measure.checkout import ROOT, Checkout, checkout, checkout_if_any
from analysis.measure.presets import Key, Preset, bench_patterns, preset_named, trials
from analysis.measure.progress import progress_bar
from linear_lasagna.intervals import LEAST_PROCESSES
from linear_lasagna.plurals import plural

if TYPE_CHECKING:
    import pandas

    from analysis.data.records import Records
    from analysis.report.page import Context

TRIALS = ROOT / ".asv" / "trials"
RESULTS = ROOT / ".asv" / "results"
OUT = ROOT / "study"
INSTALL = "`make study` installs it, as does pip install -e '.[analysis]' in the checkout"
LOCK = ROOT / ".asv" / "study.lock"
STORE = "precision.sqlite"
BIBTEX = """@software{{linear_lasagna,
  author  = {{{{The Linear Lasagna developers}}}},
  title   = {{Linear Lasagna: cost, accuracy and meaning of stacked linear convolutions}},
  version = {{{version}{commit}}},
  year    = {{{year}}}
}}"""


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
        return self.out / STORE


def devices_here() -> tuple[str, ...]:
    """The devices of this machine, the CPU first."""
    from linear_lasagna.devices import unavailable
    from linear_lasagna.vocabulary import DEVICES

    return tuple(device for device in DEVICES if unavailable(device) is None)


def place(out: Path = OUT) -> Place:
    """Raises ValueError where this is no git checkout."""
    source = checkout()
    return Place(source, asv_run.register_machine(), out)


def time_trials(
    preset: Preset, devices: Sequence[str], where: Place, keep: Sequence[int] = (), retry_failed: bool = False
) -> float:
    """Time the preset's trials in several processes each, with a progress bar; returns the wall seconds. keep: as
    leash.run takes it.

    retry_failed: trials with failed cells too, once.
    """
    keys = trials(preset, devices)
    specification = trial_run.Specification(
        keys,
        preset.budget_s,
        None if math.isinf(preset.limit_s) else preset.limit_s,
        time.time() if retry_failed else 0.0,
        where.checkout.commit,
    )
    with progress_bar("timing trials", len(keys) * LEAST_PROCESSES) as advance_to:
        return trial_run.time_all(specification, where.out / "trials.log", advance_to, keep)


def hand_to_asv(preset: Preset, devices: Sequence[str], where: Place, keep: Sequence[int] = ()) -> float:
    """Let asv have what was timed, in its own results; returns its wall seconds."""
    expected = bench_patterns(preset, devices)
    settings = asv_run.Settings(where.checkout.commit, where.machine, expected, preset.budget_s, where.out / "asv.log")
    results = RESULTS / where.machine
    asv_run.unscrub(results)
    try:
        with progress_bar("handing samples to asv", 1) as advance_to:
            return asv_run.run(settings, lambda: advance_to(0), keep)
    finally:
        asv_run.scrub(results)


def measure_precision(
    experiments: Sequence[str], preset: str, device: str, out: Path, workers: int, retry_failed: bool = False
) -> None:
    """Probe the machine, run experiments (none named: all) into the store of `out`, and say what was done."""
    from analysis.precision import run_study
    from analysis.precision.probing import probe_machine
    from analysis.precision.study import checked
    from linear_lasagna.environment import machine_name

    names = experiments or None
    checked(names, preset, device, workers)  # before anything is made
    arguments.folder(out)
    machine = machine_name(device)
    probe_machine(out / STORE, device, machine, retry_failed)
    settings = {"workers": workers, "device": device, "machine": machine, "retry_failed": retry_failed}
    print(run_study(names, preset, out / STORE, **settings), file=sys.stderr)


def render(preset_name: str, out: Path = OUT, records: Path | None = None) -> Path:
    """The report of what has been measured; prints its headlines. Returns the page's path.

    records: a folder of trial records or of asv's own results; this commit's trials on this machine, where None.
    Raises ValueError for an unknown preset, or where there are no results at all.
    """
    from analysis.report import page

    preset = preset_named(preset_name)
    arguments.folder(out)
    where = place(out) if records is None else Place(checkout_if_any(), "", out)
    loaded = load_records(records or where.records)
    rows = load_rows(where.store)
    if not len(loaded) and rows is None:
        known = "; ".join(loaded.messages) or f"{records or where.records} holds no trial record"
        raise ValueError(f"no results yet: {known}; run `make study` first")
    expected = trials(preset, devices_here()) if records is None else ()
    report = page.render(loaded, rows, out, context(where, preset, loaded, expected))
    for headline in report.headlines:
        print(f"{headline.title}: {headline.text}".replace("`", ""))
    return report.page


def load_records(folder: Path) -> Records:
    """Trial records below the folder; where there is none, what asv's own result files hold."""
    from analysis.data import asv_results, records

    loaded = records.load(folder)
    if len(loaded) or not any(folder.glob("**/machine.json")):
        return loaded
    return asv_results.load(folder)


def load_rows(store: Path) -> pandas.DataFrame | None:
    """The precision rows, or None where nothing has been stored."""
    from analysis.data.store import read, spoilt

    if not store.exists():
        return None
    rows = read(store)
    if lost := spoilt(store):
        rows_of = plural(lost, "unit")
        print(f"{store}: the rows of {rows_of} cannot be read; the next study computes them again", file=sys.stderr)
    return rows if len(rows) else None


def context(where: Place, preset: Preset, loaded: Records, expected: Sequence[Key]) -> Context:
    """What the data cannot know: version, commit, date, what should have run, how to cite."""
    from analysis.report.page import Context

    started = max((record.trial.started for record in loaded), default="")
    commit, dirty = _measured(where.checkout, loaded)
    release = _version()
    named = f", commit {commit[:12]}" if commit else ""
    return Context(
        version=release,
        commit=commit,
        dirty=dirty,
        date=started.partition("T")[0],
        selection=preset.name,
        expected=expected,
        commands=(
            "git clone <repository> linear-lasagna && cd linear-lasagna",
            *((f"git checkout {commit}",) if commit else ()),
            f"make study PRESET={preset.name}",
        ),
        citation=f"The Linear Lasagna developers: Linear Lasagna {release}{named}.",
        bibtex=BIBTEX.format(version=release, commit=named, year=started[:4] or "n.d."),
        licence="Code BSD-3-Clause, data CC-BY-4.0.",
    )


def _version() -> str:
    """The installed version; where nothing is installed, the checkout's own."""
    import tomllib
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("linear-lasagna")
    except PackageNotFoundError:
        return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def _measured(source: Checkout, loaded: Records) -> tuple[str, bool]:
    """The commit that was measured and whether its tree was dirty: the records', which may be older than `here`."""
    commits = {record.commit for record in loaded if record.commit}
    commit = commits.pop() if len(commits) == 1 else source.commit
    return commit, any(record.dirty for record in loaded) or (source.dirty and commit == source.commit)


def study(preset_name: str, out: Path = OUT, workers: int = 0, retry_failed: bool = False) -> Path:
    """Everything, in order; returns the report's path. What was finished before a kill is not done again.

    retry_failed: but for trials with failed cells, and units with failed rows. Raises ValueError for what cannot be
    done as it is asked for, outside of a git checkout for instance, before anything is; RuntimeError where another
    study is running in this checkout.
    """
    preset = preset_named(preset_name)
    check(out, workers)
    where, devices = place(out), devices_here()
    start = time.perf_counter()
    with alone(LOCK) as keep:
        timing_s = time_trials(preset, devices, where, keep, retry_failed)
        asv_s = hand_to_asv(preset, devices, where, keep)
        device = devices[-1] if "cuda" in devices else "cpu"
        measure_precision((), preset.name, device, out, workers, retry_failed)
        page = render(preset.name, out)
    loaded = load_records(where.records).latest()
    timed_s = sum(timing.timed_s for record in loaded for timing in record.trial.timings())
    print(
        f"{plural(len(loaded), 'trial')}, timed in {timing_s:.0f} s, {timed_s:.0f} s of it in timed calls; asv took "
        f"{asv_s:.0f} s"
    )
    print(f"the whole study took {time.perf_counter() - start:.0f} s")
    return page


def check(out: Path, workers: int) -> None:
    """Raise, before anything begins, what would end a study later: ValueError, or StoreError for the store of out."""
    from analysis.data.store import Store

    arguments.workers(workers)
    if not asv_run.importable():
        raise ValueError(f"linear_lasagna is not installed in {sys.executable}, whose code asv would time; {INSTALL}")
    arguments.folder(out)
    with Store(out / STORE) as store:
        if store.notice:
            print(store.notice, file=sys.stderr)
