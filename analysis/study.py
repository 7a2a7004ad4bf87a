"""The whole study: the preset's trials are timed, the precision experiments measure error, a report shows both.

Neither git nor asv is a condition of measuring: where they are missing, what needs them is left out, and said to be.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import arguments
from analysis.data import archive
from analysis.data.loading import load_records
from analysis.given import distinct, is_edition, merged, names, of_others, opened, rows_of, sources
from analysis.measure import asv_run, asv_site, trial_run
from analysis.measure.alone import alone
from analysis.measure.checkout import ROOT, UNKNOWN, Checkout, checkout_or
from analysis.measure.presets import (
    PRESETS,
    Key,
    Preset,
    bench_patterns,
    check_conditions,
    check_devices,
    own_alone,
    preset_named,
    presets_of,
    trials,
    under,
)
from analysis.measure.progress import progress_bar, timing_bar
from linear_lasagna import own
from linear_lasagna.catalog import OWN
from linear_lasagna.factors import VARIABLE, canonical, named
from linear_lasagna.plurals import plural
from linear_lasagna.trial import files

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


@dataclass(frozen=True)
class Request:
    """What a study is asked for. devices: none for all that are there; limit_s: of the timing, None for the preset's,
    whose rounding errors then take the time that they need; commit: where git does not know; archive: a file for all
    that was measured; precision, asv: whether rounding errors are measured, and asv is handed the samples; conditions:
    in the place of the preset's usual ones.
    """

    preset: Preset
    out: Path = OUT
    devices: tuple[str, ...] = ()
    limit_s: float | None = None
    commit: str = ""
    archive: Path | None = None
    workers: int = 0
    retry_failed: bool = False
    precision: bool = True
    asv: bool = True
    conditions: tuple[str, ...] = ()


def place(out: Path = OUT, commit: str = "") -> Place:
    """commit: where git does not know. Raises ValueError where git knows another."""
    from linear_lasagna.environment import machine_key

    return Place(checkout_or(commit), machine_key(), out)


def time_trials(request: Request, where: Place, keep: Sequence[int] = ()) -> float:
    """Time the preset's trials in several processes each, with a progress bar; returns the wall seconds. keep: as
    leash.run takes it.
    """
    keys, limit_s = trials(request.preset, request.devices), request.limit_s or request.preset.limit_s
    specification = trial_run.Specification(
        keys,
        request.preset.budget_s,
        None if math.isinf(limit_s) else limit_s,
        time.time() if request.retry_failed else 0.0,
        where.checkout.commit,
    )
    with timing_bar(len(keys)) as advance_to:
        return trial_run.time_all(specification, where.out / "trials.log", advance_to, keep)


def hand_to_asv(request: Request, where: Place, keep: Sequence[int] = ()) -> float:
    """Let asv have what was timed, in its own results; returns its wall seconds. One line where it cannot."""
    if reason := _without_asv(request, where.checkout):
        print(f"asv is not handed the samples: {reason}", file=sys.stderr)
        return 0.0
    asv_run.register_machine()
    expected = bench_patterns(request.preset, request.devices)
    budget_s, log = request.preset.budget_s, where.out / "asv.log"
    timed = tuple(dict.fromkeys(key.under for key in trials(request.preset, request.devices)))
    settings = asv_run.Settings(where.checkout.commit, where.machine, expected, budget_s, log, timed)
    results = RESULTS / where.machine
    asv_run.unscrub(results)
    try:
        with progress_bar("handing samples to asv", 1) as advance_to:
            return asv_run.run(settings, lambda: advance_to(0), keep)
    finally:
        asv_run.scrub(results)


def publish_asv(request: Request, where: Place, keep: Sequence[int] = ()) -> float:
    """Build asv's own site beside the report, which links to it; returns its wall seconds."""
    if _without_asv(request, where.checkout):
        return 0.0  # which was said when it was not handed the samples
    start = time.perf_counter()
    with progress_bar("building asv's site", 1) as advance_to:
        advance_to(0)
        asv_site.publish(where.out, where.out / "asv.log", keep)
    return time.perf_counter() - start


def _told_of(step: Callable[[Request, Place, Sequence[int]], float], *about: Any) -> float:
    """The seconds of a step without which there is a report all the same; one line where it fails."""
    try:
        return step(*about)
    except (RuntimeError, OSError) as error:
        print(f"the report goes without: {error}", file=sys.stderr)
        return 0.0


def _without_asv(request: Request, source: Checkout) -> str:
    """Why asv cannot be handed samples, or shall not; "" where it can."""
    if not request.asv:
        return "it was not asked for"
    if not source.git:
        return "it keeps them under commits, and this is no git checkout"
    missing = [name for name in ("asv", "asv_runner") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed; {INSTALL}" if missing else ""


def measure_precision(
    experiments: Sequence[str],
    preset: str,
    device: str,
    out: Path,
    workers: int,
    retry_failed: bool = False,
    until: float = math.inf,
    scheduler: str = "",
) -> None:
    """Probe the machine, run experiments (none named: all) into the store of `out`, and say what was done.

    until: when to begin nothing more, by the monotonic clock. scheduler: of Dask, whose workers are probed and compute.
    """
    from analysis.precision import run_study
    from analysis.precision.place import place_of
    from analysis.precision.probing import probe_machine
    from analysis.precision.study import checked

    names = experiments or None
    checked(names, preset, device, workers, scheduler)  # before anything is made
    machine = place_of(workers, scheduler, device).machine
    arguments.folder(out)
    probe_machine(out / STORE, device, machine, retry_failed, scheduler, workers)
    settings = {"workers": workers, "scheduler": scheduler, "device": device, "machine": machine}
    settings |= {"retry_failed": retry_failed, "until": until}
    print(run_study(names, preset, out / STORE, **settings), file=sys.stderr)


def render(
    preset_name: str,
    out: Path = OUT,
    records: Sequence[Path] = (),
    commit: str = "",
    devices: Sequence[str] = (),
    problems: Sequence[str] = (),
    conditions: Sequence[str] = (),
) -> Path:
    """The report of what has been measured; prints its headlines. Returns the page's path.

    records: folders of trial records or of asv's own results, editions, or studies' archives, of which a single one
    tells its preset and devices itself, and several are put on one page; this commit's trials on this machine and its
    devices, where none. commit: where git does not know. problems: the user's own, where it is to be of them alone.
    conditions: that were to be timed in the place of the preset's usual ones; the page is about the usual ones if they
    are among these, else about the first. Raises ValueError for an unknown preset, or where there are no results at
    all.
    """
    from analysis.report import page

    if len(records) > 1:
        several = results_of_several(preset_name, out, records, commit, problems, conditions)
    else:
        one = records[0] if records else None
        several = results_of(preset_name, out, one, commit, devices, problems, conditions)
    with several as found:
        report = page.render(found.records, found.rows, out, found.context)
    for headline in report.headlines:
        print(f"{headline.title}: {headline.text}".replace("`", ""))
    return report.page


@dataclass(frozen=True)
class Found:
    """What a page is rendered from. folder: of the trial records, for as long as it is there."""

    records: Records
    rows: pandas.DataFrame | None
    context: Context
    folder: Path


@contextmanager
def results_of(
    preset_name: str,
    out: Path = OUT,
    records: Path | None = None,
    commit: str = "",
    devices: Sequence[str] = (),
    problems: Sequence[str] = (),
    conditions: Sequence[str] = (),
    store: Path | None = None,
) -> Iterator[Found]:
    """What was measured, as `render` takes it. store: of the precision rows, where they lie elsewhere than in out, or
    than in the archive.
    """
    preset_named(preset_name)
    arguments.folder(out)
    if records is None:
        where = place(out, commit)
        told = {"preset": preset_name, "devices": list(devices or devices_here()), "problems": list(problems)}
        told["under"] = list(conditions)
        yield _found(archive.Results(where.records, store or where.store, told), where)
        return
    where = Place(checkout_or(commit), "", out)
    with opened(records) as found:
        preset = str(found.conditions.get("preset", preset_name))
        told = {"problems": list(problems), **found.conditions}
        told["under"] = list(conditions) or _known(told.get("under", ()))
        told["preset"] = preset if preset in PRESETS else preset_name
        apart = records.is_file() or is_edition(records)  # rows of this folder's study are not theirs
        own_store = store or found.store or (None if apart else where.store)
        yield _found(replace(found, store=own_store, conditions=told), where, records)


@contextmanager
def results_of_several(
    preset_name: str,
    out: Path,
    records: Sequence[Path],
    commit: str = "",
    problems: Sequence[str] = (),
    conditions: Sequence[str] = (),
) -> Iterator[Found]:
    """The same of several places, each with its own store: what should have run is not known of them."""
    preset_named(preset_name)
    arguments.folder(out)
    loaded, rows = merged(sources(records))
    if problems:
        loaded = loaded.of(own.GROUP, problems)
    about = conditions[0] if conditions and "" not in conditions else ""
    if len(loaded) and not len(loaded.timed_under(about)):
        raise ValueError(of_others(loaded, about))
    told = context(Place(checkout_or(commit), "", out), {}, loaded, conditions)
    commands = (f"python -m analysis report --records {' '.join(names(distinct(records)))}",)
    commits = {record.commit for record in loaded}
    told = replace(told, commands=(told.commands[0], *commands), commit="" if len(commits) > 1 else told.commit)
    yield Found(loaded, rows, replace(told, conditions=about), out)


def _known(conditions: Sequence[str]) -> list[str]:
    """Those of an archive, which another version may have written."""
    with suppress(ValueError):
        return [canonical(text) for text in conditions]
    return []


def _found(found: archive.Results, where: Place, given: Path | None = None) -> Found:
    problems = found.conditions["problems"]
    loaded, rows = load_records(found.records), rows_of(found.store)
    if problems:
        loaded = loaded.of(own.GROUP, problems)
    conditions = found.conditions["under"]
    about = conditions[0] if conditions and "" not in conditions else ""
    if len(loaded) and not len(loaded.timed_under(about)):
        raise ValueError(of_others(loaded, about))
    if not len(loaded) and rows is None:
        known = loaded.left_out or f"{given or found.records} holds no trial record"
        raise ValueError(f"no results yet: {known}; run `make study` first")
    preset, devices = preset_named(found.conditions["preset"]), found.conditions.get("devices", ())
    preset = under(own_alone(preset, problems) if problems else preset, conditions)
    run = _run(preset, devices, loaded, conditions)
    checkout = where.checkout if given is None else replace(where.checkout, git=bool(found.conditions.get("git", True)))
    told = context(replace(where, checkout=checkout), run, loaded, conditions)
    site = asv_site.link(where.out) if given is None else ""
    return Found(loaded, rows, replace(told, conditions=about, asv=site), found.records)


def _run(preset: Preset, devices: Sequence[str], loaded: Records, conditions: Sequence[str]) -> dict[Preset, list[Key]]:
    """The presets that were run, and their trials. preset: that was asked for, under conditions in the place of the
    usual ones where there are any; devices: none where nothing tells of which trials it was, and the records alone say
    what was run.
    """
    timed = [Key(*record.key[1:]) for record in loaded]
    if not devices and not conditions:
        devices = sorted({record.trial.device for record in loaded})
        return {each: trials(each, devices) for each in presets_of(timed, devices)} or {preset: []}
    found = [preset] if preset.own_problems or conditions else presets_of(timed, devices, [preset])
    return {each: trials(each, devices) for each in found}


def context(
    where: Place, run: Mapping[Preset, Sequence[Key]], loaded: Records, conditions: Sequence[str] = ()
) -> Context:
    """What the data cannot know: version, commit, date, what should have run, the licences. run: presets and their
    trials.
    """
    from analysis.report import wording
    from analysis.report.citing import CODE_LICENCE, DATA_LICENCE
    from analysis.report.page import Context

    started = max((record.trial.started for record in loaded), default="")
    commit, dirty = _measured(where.checkout, loaded)
    notes = _doubts(commit, where.checkout)
    commit = "" if commit == UNKNOWN else commit
    release, address = _version(), _address()
    return Context(
        version=release,
        commit=commit,
        dirty=dirty,
        date=started.partition("T")[0],
        selection=wording.listed([preset.name for preset in run]) if run else "",
        expected=tuple(dict.fromkeys(key for keys in run.values() for key in keys)),
        commands=(
            f"git clone {address} linear-lasagna && cd linear-lasagna",
            *((f"git checkout {commit}",) if commit else ()),
            *(_command(preset, conditions) for preset in run),
        ),
        licence=f"Code {CODE_LICENCE}, data {DATA_LICENCE}.",
        address=address,
        notes=notes,
    )


def _command(preset: Preset, conditions: Sequence[str]) -> str:
    """What measures the preset's trials again."""
    if not preset.own_problems and not conditions:
        return f"make study PRESET={preset.name}"
    study = f"python -m analysis study --preset {preset.name}" + " --problems FILE" * bool(preset.own_problems)
    return f'{VARIABLE}="{";".join(map(named, conditions))}" {study}' if conditions else study


def _doubts(commit: str, source: Checkout) -> tuple[str, ...]:
    """What a reader must know of a commit that git did not tell."""
    if commit == UNKNOWN:
        return ("The commit is unknown: what was measured was a copy of the code without git.",)
    return () if source.git else ("The commit is as it was given: git was not there to check it.",)


def _version() -> str:
    """The installed version; where nothing is installed, the checkout's own."""
    import tomllib
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("linear-lasagna")
    except PackageNotFoundError:
        return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def _address() -> str:
    """Of the repository, as the package's metadata have it; where nothing is installed, the checkout's."""
    import tomllib
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        told = metadata("linear-lasagna").get_all("Project-URL") or []
        urls = dict(text.split(", ", 1) for text in told)
    except PackageNotFoundError:
        urls = {}
    if "Repository" not in urls:
        urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    return str(urls["Repository"])


def _measured(source: Checkout, loaded: Records) -> tuple[str, bool]:
    """The commit that was measured, "" for several, and whether its tree was dirty: the records', where they tell."""
    commits = {record.commit for record in loaded if record.commit}
    commit = "" if len(commits) > 1 else commits.pop() if commits else source.commit
    return commit, any(record.dirty for record in loaded) or (source.dirty and commit == source.commit)


def study(request: Request) -> Path | None:
    """Everything, in order; returns the report's path, None where it could not be rendered here. What was finished
    before a kill is not done again, and is in the archive, where one was asked for, however the study ends.

    retry_failed: but for trials with failed cells, and units with failed rows. Raises ValueError for what cannot be
    done as it is asked for, before anything is; RuntimeError where another study is running in this checkout.
    """
    request = check(request)
    where, start = place(request.out, request.commit), time.perf_counter()
    until = math.inf if request.limit_s is None else time.monotonic() + request.limit_s
    with alone(LOCK) as keep, brought_home(request, where):
        timing_s = time_trials(request, where, keep)
        asv_s = _told_of(hand_to_asv, request, where, keep)
        bring_home(request, where, "unfinished")  # whatever becomes of the rest
        _measure_precision(request, until)
        asv_s += _told_of(publish_asv, request, where, keep)
    page = _rendered_here(request)
    loaded = load_records(where.records).latest()
    if request.preset.own_problems:
        loaded = loaded.of(own.GROUP, request.preset.own_problems)
    timed_s = sum(timing.timed_s for record in loaded for timing in record.trial.timings())
    print(
        f"{plural(len(loaded), 'trial')}, timed in {timing_s:.0f} s, {timed_s:.0f} s of it in timed calls; asv took "
        f"{asv_s:.0f} s"
    )
    print(f"the whole study took {time.perf_counter() - start:.0f} s")
    return page


def check(request: Request) -> Request:
    """Raise, before anything begins, what would end a study later: ValueError, or StoreError for the store of out.

    Returns the request with its devices.
    """
    from analysis.data.store import Store

    arguments.workers(request.workers)
    request = replace(request, devices=arguments.devices(request.devices) or devices_here())
    check_devices(request.preset, request.devices)
    request = replace(request, preset=under(request.preset, request.conditions))
    check_conditions(request.preset, request.devices, request.conditions)
    for problem in OWN.numbers:
        files.numbers_of(problem)
    if not _without_asv(request, checkout_or(request.commit)) and not asv_run.importable():
        raise ValueError(
            f"linear_lasagna is not installed in {sys.executable}, whose code asv would time; {INSTALL}; with --no-asv "
            "it need not be"
        )
    arguments.folder(request.out)
    if request.archive is not None:
        arguments.file(request.archive)
    with Store(request.out / STORE) as store:
        if store.notice:
            print(store.notice, file=sys.stderr)
    return request


def _measure_precision(request: Request, until: float) -> None:
    """The rounding errors, in what is left of the time."""
    if not (request.precision and request.preset.precision):
        return
    if time.monotonic() >= until:
        print("rounding errors are not measured: no time is left; `python -m analysis precision`", file=sys.stderr)
        return
    cards = [name for name in request.devices if name.startswith("cuda")]
    device = cards[0] if cards else "cpu" if "cpu" in request.devices else request.devices[0]
    preset, out = request.preset.precision, request.out
    measure_precision((), preset, device, out, request.workers, request.retry_failed, until)


def _rendered_here(request: Request) -> Path | None:
    """The report; one line where what draws it is not installed: it can be rendered elsewhere."""
    try:
        chosen = request.preset
        told = (request.commit, request.devices, chosen.own_problems, request.conditions)
        return render(chosen.name, request.out, (), *told)
    except ModuleNotFoundError as error:
        print(f"the report is not rendered: {error.name} is not installed; {INSTALL}", file=sys.stderr)
        return None


@contextmanager
def brought_home(request: Request, where: Place) -> Iterator[None]:
    """The archive holds what was finished inside, however that ended."""
    state = "stopped"
    try:
        yield
        state = "finished"
    finally:
        bring_home(request, where, state)


def bring_home(request: Request, where: Place, state: str) -> None:
    """Write the archive that was asked for, with what there is now."""
    if request.archive is None:
        return
    commit = where.records.relative_to(TRIALS)
    members = {f"{archive.TRIALS}/{commit}/{path.name}": path.read_bytes() for path in where.records.glob("*.json")}
    members |= {f"{archive.LOGS}/{path.name}": _without_paths(path.read_bytes()) for path in where.out.glob("*.log")}
    members |= _store_of(where)
    members[archive.CONDITIONS] = json.dumps(conditions(request, where, state), indent=1).encode()
    archive.pack(request.archive, members)


def _store_of(where: Place) -> dict[str, bytes]:
    from analysis.data.store import StoreError, closed

    try:
        return {archive.STORE: closed(where.store)}
    except StoreError as error:
        print(f"the archive is without the rounding errors: {error}", file=sys.stderr)
        return {}


def _without_paths(text: bytes) -> bytes:
    """Which would name the user."""
    for path in (ROOT, Path(sys.prefix), Path.home()):
        text = text.replace(str(path).encode(), b"~")
    return text


def conditions(request: Request, where: Place, state: str) -> dict[str, Any]:
    """What an archive tells of its study: what was asked for, under which commit and where."""
    from linear_lasagna.environment import environment

    source, limit_s = where.checkout, request.limit_s or request.preset.limit_s
    told: Mapping[str, Any] = {device: environment(device, start=False) for device in request.devices}
    return {
        "state": state,
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "preset": request.preset.name,
        "problems": list(request.preset.own_problems),
        "devices": list(request.devices),
        "under": list(request.conditions),
        "limit_s": None if math.isinf(limit_s) else limit_s,
        "commit": source.commit,
        "git": source.git,
        "dirty": source.dirty if source.git else None,
        "version": _version(),
        "environments": told,
    }
