"""`python -m analysis VERB`: study, precision, report, recommend, compare, noise, decisions, zoo.

Each imports what it needs.
"""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from analysis import arguments, stopping

# Before torch is imported anywhere: idle OpenMP threads sleep instead of spinning (unless the user chose otherwise).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

INSTALL = "`make study` installs all that is needed, as does pip install -e '.[analysis]' in the checkout"

if __name__ == "__main__":
    stopping.install()

try:
    from cyclopts import App, Parameter
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed; {INSTALL}")

PresetName = Literal["smoke", "default", "full", "accelerator", "sweeps", "conditions", "runtimes"]
PrecisionPreset = Literal["smoke", "default", "full"]
Several = Parameter(consume_multiple=True)
Whole = Annotated[int, Parameter(converter=arguments.whole)]

app = App(
    name="python -m analysis",
    help="Which way of computing a linear convolution, or a stack of them, is fastest and most accurate here?",
    version_flags=[],
    suppress_keyboard_interrupt=False,  # main() says what is kept
)


@app.command
def study(
    preset: PresetName = "default",
    *,
    problems: Path | None = None,
    devices: Annotated[tuple[str, ...], Several] = (),
    time_limit: str = "",
    archive: Path | None = None,
    out: Path | None = None,
    commit: str = "",
    precision: bool | None = None,
    asv: bool = True,
    workers: Whole = 0,
    retry_failed: bool = False,
    condition: Annotated[tuple[str, ...], Several] = (),
) -> None:
    """Time the preset's trials, hand them to asv, measure rounding errors, render the report.

    Parameters
    ----------
    preset
        How much to run: minutes (smoke), half an hour (default), hours (full), what keeps an accelerator busy.
    problems
        A Python file with layers, methods and numbers of your own, which are timed alone, with the preset's dtypes and
        time. Named by LASAGNA_PROBLEMS instead, they are timed beside the preset's trials.
    devices
        cpu, cuda, mps, or several of them; all that are there, where none is given.
    time_limit
        Of the whole timing, such as 9m, 540s or 1h; rounding errors get what is left. Without it: the preset's.
    archive
        A file such as results.tar.gz for all that was measured; `report --records` renders it elsewhere.
    out
        The folder for the report, its data and the precision store: study, or study/own with --problems.
    commit
        The commit of this code, where git does not know it.
    precision
        Run the experiments on rounding error; with --problems only where it is asked for.
    asv
        Hand the samples to asv, which keeps a history of them.
    workers
        Processes for the precision experiments; 0 computes them in this process.
    retry_failed
        Run trials with failed cells, and units with failed rows, once more.
    condition
        Time under these conditions, such as cache=cold threads=1, in the place of the usual ones.
    """
    own = _own_problems(problems)

    from analysis.measure.presets import own_alone, preset_named
    from analysis.study import Request
    from analysis.study import study as run

    under = arguments.conditions(condition)
    limit_s = arguments.seconds("time-limit", time_limit) if time_limit else None
    home = None if archive is None else archive.resolve()
    named = arguments.commit(commit) if commit else ""
    chosen = own_alone(preset_named(preset), own) if own else preset_named(preset)
    measured = not own if precision is None else precision
    asked = (chosen, _out(out, own), devices, limit_s, named, home, workers, retry_failed, measured, asv, under)
    page = run(Request(*asked))
    if page is not None:
        print(page)


def _own_problems(file: Path | None) -> tuple[str, ...]:
    """The names of the file's problems, which is used in this process and all that it starts; none without a file."""
    if file is None:
        return ()
    from linear_lasagna.own import VARIABLE

    os.environ[VARIABLE] = str(file.resolve())
    from linear_lasagna.catalog import OWN

    return tuple(problem.name for problem in OWN.problems)


def _out(folder: Path | None, own: tuple[str, ...]) -> Path:
    """Where a report goes: one of the user's own problems alone hides no other."""
    return (folder or Path("study/own" if own else "study")).resolve()


@app.command
def precision(
    *experiments: str,
    preset: PrecisionPreset = "default",
    device: str = "cpu",
    out: Path = Path("study"),
    workers: Whole = 0,
    scheduler: str | None = None,
    instructions: str | None = None,
    retry_failed: bool = False,
) -> None:
    """Measure rounding errors against the exact reference; what is stored already is not computed again.

    Parameters
    ----------
    experiments
        Names of experiments; where none is given all but reproducibility and emulation, which are run by name alone.
    preset
        How many seeds and sizes.
    device
        cpu, cuda or mps.
    out
        The folder of the precision store.
    workers
        Processes of this machine; 0 computes in this process.
    scheduler
        The address of a Dask scheduler such as tcp://host:8786, whose workers compute instead.
    instructions
        Emulate a lesser processor, SSE4.1 or AVX2: its rows are those of another machine, beside the others.
    retry_failed
        Compute units with failed rows once more.
    """
    from analysis.instructions import hold
    from analysis.study import measure_precision

    if instructions is not None and scheduler is not None:
        raise ValueError("instructions are this machine's; with a scheduler its own workers compute")
    if instructions is not None:
        hold(instructions)
    address = "" if scheduler is None else arguments.scheduler(scheduler)
    measure_precision(experiments, preset, device, out.resolve(), workers, retry_failed, scheduler=address)


@app.command
def report(
    *,
    preset: PresetName = "default",
    problems: Path | None = None,
    out: Path | None = None,
    records: Annotated[tuple[Path, ...], Several] = (),
    commit: str = "",
    condition: Annotated[tuple[str, ...], Several] = (),
) -> None:
    """Render the report again from what has been measured, however little that is.

    Parameters
    ----------
    preset
        What should have been run; the report lists what is missing of it.
    problems
        The file that a study was given, for a report of its problems alone.
    out
        The folder for the report and its data, where the precision store lies: study, or study/own with --problems.
    records
        Studies' archives, editions, or folders with trial records or with asv's own result files, as many as there
        are machines to put on one page; this commit's trials, where none is given.
    commit
        The commit of this code, where git does not know it.
    condition
        Of the trials under these conditions, such as cache=cold threads=1; of the usual ones, where none is given.
    """
    own = _own_problems(problems)

    from analysis.study import render

    under, named = arguments.conditions(condition), arguments.commit(commit) if commit else ""
    print(render(preset, _out(out, own), records, named, problems=own, conditions=under))


@app.command
def edition(
    name: str = "",
    *,
    preset: PresetName = "default",
    records: Path | None = None,
    store: Path | None = None,
    out: Path = Path("study"),
    home: Path = Path("reports"),
    notes: Path | None = None,
    attach: Annotated[tuple[Path, ...], Several] = (),
    title: str = "",
    replace: bool = False,
    again: bool = False,
    index: bool = False,
) -> None:
    """Make reports/NAME of what has been measured: page, raw data, figures, tables, hashes, and how to cite it.

    Parameters
    ----------
    name
        Of the edition: letters, digits, dots and dashes.
    preset
        What should have been run; the page lists what is missing of it.
    records
        A study's archive, or a folder with trial records; this commit's trials, where none is given.
    store
        The file of the precision rows; that of `out`, where none is given.
    out
        The folder of the study.
    home
        The folder of all editions, with their index.html.
    notes
        A Markdown file about this edition, which its README has; with `again`, in the place of the one it had.
    attach
        Files that the edition keeps as they are, such as numbers that were measured beside it.
    title
        Of the page; the machine, where none is given.
    replace
        Write it in the place of one of the same name.
    again
        Render an edition again from its own data, because the code that renders has changed.
    index
        Write index.html alone.
    """
    from analysis.edition import index as listing
    from analysis.edition.making import again as render_again
    from analysis.edition.making import make

    given = (records, store, attach, title, replace, preset != "default", out != Path("study"))
    if index and any((name, notes, again, *given)):
        raise ValueError("--index writes index.html alone; of the others it takes --home alone")
    if again and any(given):
        raise ValueError("--again renders what the edition holds; of the others it takes --notes and --home alone")
    if index:
        print(listing.write(home.resolve()))
        return
    if not name:
        raise ValueError("an edition needs a name: python -m analysis edition NAME")
    for path in (records, store):
        if path is not None and not path.exists():
            raise ValueError(f"{path}: no such file or folder")
    text = None if notes is None else arguments.text_of(notes)
    if again:
        print(render_again(name, home.resolve(), text))
        return
    attached = arguments.by_name(attach)
    print(make(name, preset, out.resolve(), records, store, home.resolve(), text or "", attached, title, replace))


@app.command
def verify(name: str, *, home: Path = Path("reports")) -> None:
    """Check an edition: every file's hash, then that its data render to the same bytes. Code 1 where they do not.

    Parameters
    ----------
    name
        Of the edition.
    home
        The folder of all editions.
    """
    from analysis.edition import folder

    path = home.resolve() / folder.checked(name)
    count = len(folder.manifest(path)["files"])
    wrong = list(folder.faults(path))
    print("\n".join(wrong) or f"{path}: all {count} files are what they were, and are rendered again to the same bytes")
    if wrong:
        sys.exit(1)


@app.command
def reproduce(name: str, *, home: Path = Path("reports"), json: bool = False) -> None:
    """Measure an edition's headlines again here, some minutes, each told when it is known. Code 1 where one is
    contradicted.

    Parameters
    ----------
    name
        Of the edition.
    home
        The folder of all editions.
    json
        Print JSON instead of lines.
    """
    from dataclasses import asdict
    from json import dumps

    from analysis.edition import folder, reproducing

    tell = (lambda line: None) if json else partial(print, flush=True)
    found = reproducing.of_edition(home.resolve() / folder.checked(name), tell=tell)
    if json:
        print(dumps(asdict(found), indent=1))
    if any(each.said == "contradicted" for each in found.outcomes):
        sys.exit(1)


@app.command
def compare(
    before: Path,
    after: Path,
    *,
    page: Path = Path("study/compare.html"),
    tolerance: str = "2%",
    out: Path | None = None,
    fail_on_regression: bool = False,
    condition: Annotated[tuple[str, ...], Several] = (),
) -> None:
    """What became faster or slower, more or less accurate, from one folder of results to another: lines, and a page.

    Parameters
    ----------
    before
        A folder with trial records, or with asv's own result files; an edition's folder; or a study's archive.
    after
        The same, measured later, or elsewhere.
    page
        The HTML file.
    tolerance
        The page shows no change in speed that is smaller than this, such as 2% or 0.02.
    out
        A JSON file for the rows, one per cell.
    fail_on_regression
        End with code 1 where a way became slower or less accurate, no longer passes or is no longer timed.
    condition
        Compare the trials under these conditions, such as cache=cold; under the usual ones, where none is given.
    """
    from analysis import given
    from analysis.data.comparison import compared, regressions, summary
    from analysis.report import comparing
    from analysis.report.changes import print_changes

    under, *others = arguments.conditions(condition) or ("",)
    if others:
        raise ValueError("compare is about one of several conditions at a time: --condition cache=cold")
    share = arguments.share("tolerance", tolerance)
    _check_targets(page, out, (before, after))
    comparing.check_page(page)
    sides = [given.timed_under(given.source(path), under) for path in (before, after)]
    frame = compared(*sides)
    if out is not None:
        frame.to_json(out, orient="records", indent=1)
    print_changes(frame)
    print("\n".join(summary(frame)))
    names = given.names([path.resolve() for path in (before, after)])
    told = [comparing.side(name, records) for name, records in zip(names, sides, strict=True)]
    print(comparing.write(page.resolve(), frame, told[0], told[1], share))
    if fail_on_regression and len(regressions(frame)):
        sys.exit(1)


def _check_targets(page: Path, out: Path | None, sides: Sequence[Path]) -> None:
    """Raise ValueError where what `compare` writes would spoil what it reads, an edition, or each other."""
    from analysis.given import is_edition

    targets = [page, *(() if out is None else (out,))]
    for path in targets:
        if any(is_edition(folder) for folder in path.resolve().parents):
            raise ValueError(f"{path} would be no file of the edition that it lies in; it needs another place")
    if out is not None and page.resolve() == out.resolve():
        raise ValueError(f"the page and the rows cannot both be {out}; --page and --out need a file each")
    if out is not None and any(side.resolve() in (out.resolve(), *out.resolve().parents) for side in sides):
        raise ValueError(f"{out} lies in what is compared, whose records it would be among; --out needs another place")
    for path in targets:  # last, for it makes folders
        arguments.file(path.resolve())


@app.command
def noise(
    *,
    comparisons: Whole = 30,
    budget_s: float = 0.8,
    calls_s: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (1e-4, 1e-3, 1e-2),
    device: str = "cpu",
    processes: Whole | None = None,
    simulated: bool = False,
    trials: Whole = 500,
    out: Path | None = None,
) -> None:
    """How noisy is this machine: the same code timed twice, and a true difference of 5 %, by three timings; or whether
    intervals hold what they should, in fresh processes (--processes) or where the truth is known (--simulated).

    Parameters
    ----------
    comparisons
        How often each comparison is repeated.
    budget_s
        Seconds for one comparison.
    calls_s
        Lengths of the timed calls in seconds.
    device
        cpu, cuda or mps.
    processes
        Time problems of the catalogue in so many fresh processes instead, 5 to 10 s each.
    simulated
        Simulate trials of known ratios instead, under many kinds of noise; some 8 minutes.
    trials
        Simulated trials for each kind of noise and true ratio.
    out
        A CSV file for the rows.
    """
    from analysis.measure import characteristics, fresh
    from analysis.measure import noise as comparing

    if simulated and processes is not None:
        raise ValueError("--simulated times nothing, so it goes without --processes")
    given = (("comparisons", (comparisons,)), ("budget-s", (budget_s,)), ("calls-s", calls_s), ("trials", (trials,)))
    for name, values in given:
        arguments.positive(name, values)
    if out is not None:
        arguments.file(out.resolve())
    if simulated:
        frame = _ticking("simulating", characteristics.STEPS, lambda tick: characteristics.rows(trials, tick))
        show = characteristics.print_summary
    elif processes is not None:
        steps = processes * len(fresh.PROBLEMS)
        frame = _ticking("timing", steps, lambda tick: fresh.rows(processes, device, tick))
        show = fresh.print_summary
    else:
        steps, asked = comparisons * len(calls_s) * len(comparing.COMPARED), (comparisons, budget_s, calls_s)
        frame = _ticking("comparing", steps, lambda tick: comparing.rows(*asked, tick, device))
        show = comparing.print_summary
    if out is not None:
        frame.to_csv(out, index=False)
    show(frame)


def _ticking(title: str, steps: int, work: Callable[[Callable[[], None]], Any]) -> Any:
    """What the work gives; it counts its steps, on a progress bar."""
    from analysis.measure.progress import progress_bar

    done = 0
    with progress_bar(title, steps) as advance_to:

        def tick() -> None:
            nonlocal done
            done += 1
            advance_to(done)

        return work(tick)


@app.command
def decisions(*, processes: Whole = 4, out: Path | None = None) -> None:
    """How good are the decisions here: is a padded stack merged where that is faster, in fresh processes?

    Parameters
    ----------
    processes
        Fresh processes in which every case is timed, half a minute each or so.
    out
        A CSV file for the rows.
    """
    from analysis.measure.decisions import rows, summary

    arguments.positive("processes", (processes,))
    if out is not None:
        arguments.file(out.resolve())
    frame = _ticking("deciding", processes + 1, lambda tick: rows(processes, tick))
    if out is not None:
        frame.to_csv(out, index=False)
    print("\n".join(summary(frame)))


@app.command
def recommend(
    *,
    input: str = "",
    layer: tuple[str, ...] = (),
    model: Path | None = None,
    dtype: Literal["float16", "bfloat16", "float32", "float64"] = "float32",
    max_error: float = math.inf,
    ways: Annotated[tuple[str, ...], Several] = (),
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Which way should compute this convolution, this stack, or those of a model here? Times all, in fresh processes.

    Parameters
    ----------
    input
        The shape of the input: batch, channels and size, such as 8x64x56x56.
    layer
        Output channels and kernel size, such as 64,3; more where needed: 64,3x5,stride=2,padding=1,groups=4,bias.
        Several make a stack: --layer 256,3 --layer 16,1.
    model
        A model that torch.export.save wrote (.pt2), instead of input and layers.
    dtype
        In which it is computed.
    max_error
        The largest relative L2 error that may be made; any, where it is not given.
    ways
        What else to compare, such as merged/fft or im2col_numpy for a stack; methods of your own are compared anyway.
    device
        cpu, cuda or mps.
    json
        Print JSON instead of a table.
    """
    from analysis.measure.recommending import Asked, recommend, steps
    from analysis.report.recommendation import as_json, print_recommendation

    if not max_error > 0:
        raise ValueError(f"max-error must be positive, not {max_error:g}")
    (device,) = arguments.devices((device,))
    problems, ways = arguments.problems(input, layer, model), arguments.ways(ways)
    asked = [Asked(problem, dtype, device, max_error, ways) for problem in problems]
    found = _ticking("timing", steps(asked), lambda tick: list(recommend(asked, tick)))
    if json:
        print(as_json(found))
    else:
        print_recommendation(found)


@app.command
def zoo(
    *packages: str,
    out: Path = Path("study/zoo.csv"),
    time_limit: str = "3m",
    memory_gib: float = 16.0,
    retry_failed: bool = False,
) -> None:
    """Merge the smallest architecture of every family of several packages, without weights, against what its authors
    and torch.fx make of it; what is in the file already is not tried again.

    Parameters
    ----------
    packages
        designs (this suite's own), timm, torchvision, segmentation-models-pytorch, spandrel; all that are installed,
        where none is given.
    out
        The CSV file for the rows, one per architecture and way.
    time_limit
        Of one architecture, such as 90s or 3m.
    memory_gib
        Of one architecture.
    retry_failed
        Try architectures that were refused or failed once more.
    """
    limit_s = arguments.seconds("time-limit", time_limit)
    arguments.positive("memory-gib", (memory_gib,))
    arguments.file(out.resolve())

    from analysis.data.zoo import sentences
    from analysis.measure.zoo.running import Limits, run

    limits = Limits(limit_s, memory_gib)
    frame = run(packages, out.resolve(), limits, retry_failed, lambda line: print(line, flush=True))
    print("\n".join(sentences(frame)))


def main() -> int:
    """The exit code: 0, or 2 with one line on stderr for a user's mistake, or 1 for what the machine refused."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "×" is no reason to end
    try:
        app(sys.argv[1:], exit_on_error=True)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what reads has enough, as `head` does
        return 141  # as a process that SIGPIPE ends
    except ModuleNotFoundError as error:
        return _ended(1, f"error: {error.name} is not installed; {INSTALL}")
    except ValueError as error:
        return _ended(2, f"error: {error}")
    except (RuntimeError, OSError) as error:
        return _ended(1, f"error: {error}")
    except KeyboardInterrupt as stop:
        return _ended(stop.code if isinstance(stop, stopping.Stopped) else 130, stopping.sentence())
    return 0


def _ended(code: int, line: str) -> int:
    print(line, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
