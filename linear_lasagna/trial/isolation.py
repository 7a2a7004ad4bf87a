"""Runs trials in child processes, so that a crash, a kill or a hang costs one trial, or one repeat, alone."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import torch

from linear_lasagna.ceilings import ceilings
from linear_lasagna.conditions import allocator, settle_allocator
from linear_lasagna.devices import dtype_name, dtype_named, macs_per_second, started
from linear_lasagna.environment import environment
from linear_lasagna.imposing import prepare
from linear_lasagna.installed import needed
from linear_lasagna.planning import fresh
from linear_lasagna.problems import Problem
from linear_lasagna.switches import full_precision
from linear_lasagna.timing import BLOCKS
from linear_lasagna.trial import footprint
from linear_lasagna.trial.forward import FORWARD
from linear_lasagna.trial.merge_cost import MERGE
from linear_lasagna.trial.numbers import Given, digests, load, read, saved
from linear_lasagna.trial.probed import PROBED
from linear_lasagna.trial.record import Cell, Repeat, Trial
from linear_lasagna.trial.training import TRAINING_STEP
from linear_lasagna.trial.workload import Workload, repeat, run

TIMEOUT_S = 30.0
JOIN_S = 5.0  # what has sent its trial gets this long to end
SHARED_STEPS = 6.0  # times as long may a step take that is about no single way: starting, exact results, timing
SLOWEST_RATE = 1e9  # multiply-accumulates per second of a device of which nothing is known
LOADING = 10.0  # times what the first call in a dtype took, may the first of a way take
SLOWEST = 10.0  # times what the library's own product would take: no right way is slower

CEILINGS_IN = 8  # so many of the processes that repeat a trial measure ceilings, which are the machine's

STARTING, WAITING = "starting", "waiting for its task"
LOADING_S = 120.0  # of processes that load torch at the same time

Send: TypeAlias = Callable[[str, Any], None]
Work: TypeAlias = Callable[..., None]
Begin: TypeAlias = "Callable[[Sequence[str], Work, tuple[Any, ...]], _Child]"

RUNTIME_S = 90.0  # may a step take with which another runtime is loaded and compiles

WORKS: dict[str, Workload] = {"forward": FORWARD, "probed": PROBED, "merge": MERGE, "training_step": TRAINING_STEP}


def run_isolated(
    problem: Problem,
    ways: Sequence[str],
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    budget_s: float = 1.0,
    blocks: int = BLOCKS,
    seed: int = 0,
    numbers: Any = None,
    timeout_s: float = TIMEOUT_S,
    start_method: str = "spawn",
    work: str = "forward",
    begin: Begin | None = None,
    threads: int = 0,
    under: Mapping[str, str] = MappingProxyType({}),
) -> Trial:
    """`run` in a child process; work: what a trial does, one of `WORKS`, of which "forward" alone takes numbers;
    threads: to compute with, 0 for as many as torch takes; no part of the environment, which tells the machine; under:
    the conditions, as `factors.parsed` gives them, whose work and threads come before these.

    A way with which the child dies, or spends over timeout_s on one step (checking it on integers, one visit while
    timed), fails with the reason, and the others are tried again without it; a child that finds the machine slow in the
    dtype asks for more. Steps for all ways together may take 6 times as long; where one of them ends badly, all fail.
    start_method is multiprocessing's; "fork" starts at once, but is right only where this process has not computed with
    torch yet. begin: of a `Lineup`, whose processes are taken instead. Raises ValueError for unknown names, and numbers
    that do not fit the problem, before anything starts.
    """
    work = under.get("work", work)
    if work not in WORKS:
        raise ValueError(f"unknown work {work!r}; known: {', '.join(WORKS)}")
    if numbers is not None and WORKS[work] is not FORWARD:
        raise ValueError(f"numbers are drawn for the work {work!r}; given ones are for forward trials")
    for name in ways:
        WORKS[work].way(name)
    kept = {"dtype": dtype_name(dtype_named(dtype)), "device": device, "budget_s": budget_s, "seed": seed}
    kept |= {"threads": int(under.get("threads", threads)), "under": dict(under)}
    given = {} if numbers is None else read(numbers, problem)
    begin = begin or _beginning(start_method)
    start = time.perf_counter()
    trial, failed = None, dict[str, Cell]()
    with saved({problem.name: given}) as paths:
        settings = {**kept, "blocks": blocks, "numbers": paths.get(problem.name)}
        while trial is None and (left := [name for name in ways if name not in failed]):
            child = begin(left, _run, (work, problem, tuple(left), settings))
            end = child.result(timeout_s)
            child.end()
            trial = end if isinstance(end, Trial) else None
            if isinstance(end, _Lost):
                failed |= {name: Cell("failed", end.reason) for name in ([end.way] if end.way else left)}
    if trial is None:
        with full_precision():
            described = environment(device, start=False)
            trial = Trial(problem, cells={}, environment=described, numbers=digests(given), **kept)
    trial.cells = {name: (trial.cells | failed)[name] for name in ways}
    if start_method == "fork" and footprint.measurable(trial):
        child = _beginning(start_method)((), _footprints, (trial.to_json(),))
        end = child.result(timeout_s)
        child.end()
        footprint.keep(trial, end if isinstance(end, dict) else {})
    trial.elapsed_s = time.perf_counter() - start
    return trial


def repeat_isolated(
    trials: Sequence[tuple[str, Trial]],
    *,
    seed: int,
    numbers: Mapping[str, Any] = MappingProxyType({}),
    timeout_s: float = TIMEOUT_S,
    start_method: str = "spawn",
    begin: Begin | None = None,
) -> Iterator[Repeat]:
    """Time trials that were validated once more, all in one fresh process: what was timed of each, as it ends.

    trials: what each does, one of `WORKS`, and its record; numbers: by problem, those that trials were validated on.
    One with which the process dies, or that takes too long, is a repeat with the reason and no samples; the rest go on
    in another process. begin: as `run_isolated` takes it. Raises RuntimeError where a process does not even start,
    ValueError where numbers lack, or are others than those that a trial was validated on.
    """
    begin = begin or _beginning(start_method)
    left = list(trials)
    given = {trial.problem.name: _same_numbers(trial, numbers) for _, trial in trials if trial.numbers}
    with saved(given) as paths:
        while left:
            ways = tuple(dict.fromkeys(way for _, trial in left for way in trial.cells))
            told = [
                (work, trial.to_json(), paths[trial.problem.name] if trial.numbers else None) for work, trial in left
            ]
            child = begin(ways, _repeat_all, (told, seed))
            for _ in range(len(left)):
                end = child.result(timeout_s)
                if isinstance(end, _Lost) and end.doing == STARTING:
                    child.end()
                    raise RuntimeError(f"a process that was to time trials again did not start: {end.reason}")
                left.pop(0)
                yield end if isinstance(end, Repeat) else Repeat(seed=seed, reason=_reason(end))
                if not isinstance(end, Repeat):
                    break
            child.end()


def _same_numbers(trial: Trial, numbers: Mapping[str, Any]) -> Given:
    """Those that the trial was validated on."""
    given = read(numbers.get(trial.problem.name, {}), trial.problem)
    if digests(given) != trial.numbers:
        state = "have changed" if given else "are not given"
        raise ValueError(f"{trial.problem.name}: the numbers that it was validated on {state}")
    return given


def rates(
    asked: Collection[tuple[str, str]], start_method: str = "spawn", timeout_s: float = TIMEOUT_S
) -> dict[tuple[str, str], float]:
    """`macs_per_second` of dtypes on devices, found in a child: this process does not compute, so that it can go on
    forking. SLOWEST_RATE where it cannot be found.
    """
    child = _beginning(start_method)((), _rates, (sorted(asked),))
    end = child.result(timeout_s)
    child.end()
    return dict.fromkeys(asked, SLOWEST_RATE) | (end if isinstance(end, dict) else {})


def _beginning(start_method: str) -> Begin:
    """Starts a process for every task."""
    return partial(_Child, multiprocessing.get_context(start_method))


class Lineup:
    """Fresh processes that have loaded torch and wait for a task each, so that none loads while another is timed.

    ways: all that will be asked of them. What is begun after the last of them is a new process. Raises RuntimeError
    where one does not start.
    """

    def __init__(self, ways: Sequence[str], processes: int) -> None:
        self._new = partial(_Child, multiprocessing.get_context("spawn"), ways)
        self._waiting = [self._new(None, ()) for _ in range(processes)]
        try:
            for child in self._waiting:
                child.loaded()
        except BaseException:
            self.__exit__()
            raise

    def begin(self, ways: Sequence[str], work: Work, task: tuple[Any, ...]) -> _Child:
        """One of them, which does work(send, watch, *task)."""
        if not self._waiting:
            return self._new(work, task)
        child = self._waiting.pop(0)
        child.give(work, task)
        return child

    def __enter__(self) -> Lineup:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._waiting:
            child.kill()


def _rates(send: Send, watch: _Watch, asked: Sequence[tuple[str, str]]) -> None:
    found = {}
    for each in asked:
        with suppress(RuntimeError, AssertionError):  # no such device, or it lacks the dtype
            found[each] = macs_per_second(*each)
    send("rates", found)


def _footprints(send: Send, watch: _Watch, text: str) -> None:
    send("footprints", footprint.footprints(Trial.from_json(text)))


def _reason(end: object) -> str:
    return end.reason if isinstance(end, _Lost) else "gave something else"


class _Lost(NamedTuple):
    """A child that gave no result. doing: what it told last; way: with which it was busy, "" where with none alone."""

    reason: str
    way: str
    doing: str = ""


class _Watch:
    """Whose turn it is to be timed: two numbers in memory that the child shares, cheap to write."""

    def __init__(self, context: Any, names: Sequence[str]) -> None:
        self._names, self._shared, self._seen = ("", *names), context.RawArray("q", 2), 0
        self._places = {name: place for place, name in enumerate(self._names)}

    def turn(self, name: str) -> None:
        """In the child, before every visit."""
        self._shared[0] = self._places[name]
        self._shared[1] += 1

    def way(self) -> str:
        """In the parent: which way the child is timing, "" where none."""
        return self._names[self._shared[0]]

    def moved(self) -> bool:
        """In the parent: whether another turn has begun since this was last asked."""
        seen, self._seen = self._seen, self._shared[1]
        return seen != self._seen


class _Child:
    """A process that calls work(send, watch, *task), or waits until it is given both; ways: whose turn it may be."""

    def __init__(self, context: Any, ways: Sequence[str], work: Work | None, task: tuple[Any, ...]) -> None:
        self._context = context
        self._pipe, its_end = context.Pipe()
        self._watch = _Watch(context, ways)
        target, more = (_wait, (self._watch,)) if work is None else (_tell, (work, self._watch, task))
        self._process = context.Process(target=target, args=(its_end, *more), daemon=True)
        self._process.start()
        self._doing: tuple[str, str] = (STARTING, "")
        its_end.close()

    def loaded(self) -> None:
        """Wait until it waits for its task."""
        reason = f"not in {LOADING_S:g} s"
        try:
            if self._pipe.poll(LOADING_S):
                _, self._doing = self._pipe.recv()
                return
        except (EOFError, OSError):
            self._process.join(JOIN_S)
            reason = f"it {_ending(self._process.exitcode)}"
        raise RuntimeError(f"a process that was to time did not start: {reason}")

    def give(self, work: Work, task: tuple[Any, ...]) -> None:
        """What it waits for."""
        self._pipe.send((work, task))

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def result(self, timeout_s: float) -> Trial | Repeat | dict[Any, Any] | _Lost:
        """What it sends next, or why it sends nothing more: it has died, or is stuck."""
        (doing, way), waited = self._doing, 0.0
        try:
            while True:
                if self._pipe.poll(timeout_s):
                    kind, content = self._pipe.recv()
                    if kind == "stage":
                        self._doing = (doing, way) = content
                        waited = 0.0
                    elif kind == "limit":
                        timeout_s = max(timeout_s, content)
                    elif kind == "fresh":
                        self._pipe.send(self._fresh(content))
                    else:
                        return (
                            RESULTS[kind](content)
                            if kind in RESULTS
                            else _Lost(f"{content} (while {doing})", "", doing)
                        )
                    continue
                timed = self._watch.way()
                waited = 0.0 if self._watch.moved() else waited + timeout_s
                limit = timeout_s if way or timed else SHARED_STEPS * timeout_s
                if waited >= limit:
                    busy = f"timing {timed}" if timed else doing
                    self._process.kill()
                    return _Lost(f"stopped after {limit:g} s while {busy}", timed or way, doing)
        except (EOFError, OSError):
            self._process.join(JOIN_S)
            timed = self._watch.way()
            busy = f"timing {timed}" if timed else doing
            return _Lost(f"the child process {_ending(self._process.exitcode)} while {busy}", timed or way, doing)

    def _fresh(self, task: fresh.Fields) -> fresh.Fields | str:
        """What another process answers to the task, or why it does not."""
        child = _Child(self._context, (), _answer, (task,))
        end = child.result(fresh.TIMEOUT_S / SHARED_STEPS)
        child.end()
        return end if isinstance(end, dict) else _reason(end)

    def end(self) -> None:
        """Wait for it, but not for long: a thread that never ends, or a driver that hangs at exit, would keep it."""
        self._process.join(JOIN_S)
        if self._process.is_alive():
            self.kill()


RESULTS: dict[str, Callable[[Any], Trial | Repeat | dict[Any, Any]]] = {
    "rates": dict,
    "answer": dict,
    "footprints": dict,
    "trial": Trial.from_json,
    "repeat": lambda fields: Repeat(**fields),
}


def _wait(pipe: Connection, watch: _Watch) -> None:
    """The child that is told later what to do."""
    pipe.send(("stage", (WAITING, "")))
    try:
        work, task = pipe.recv()
    except EOFError:  # its parent has gone
        return
    _tell(pipe, work, watch, task)


def _tell(pipe: Connection, work: Work, watch: _Watch, task: tuple[Any, ...]) -> None:
    """The child: tells what it does, sends its results, or why there are none."""

    def asked(task: fresh.Fields) -> fresh.Fields:
        pipe.send(("fresh", task))
        answer = pipe.recv()
        if not isinstance(answer, dict):
            raise RuntimeError(answer)
        return answer

    fresh.starter.set(asked)
    gc.freeze()  # before it times anything it collects garbage: 0.15 s with all that the libraries hold
    try:
        work(lambda kind, content: pipe.send((kind, content)), watch, *task)
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))


def _answer(send: Send, watch: _Watch, task: fresh.Fields) -> None:
    send("answer", fresh.answer(task))


def _run(send: Send, watch: _Watch, work: str, problem: Problem, ways: Sequence[str], settings: dict[str, Any]) -> None:
    stage = lambda *what: send("stage", what)  # noqa: E731
    stage("starting the device", "")
    dtype, device = settings["dtype"], settings["device"]
    prepare(settings["under"])
    starting_s = started(device, dtype)
    send("limit", max(_limit_s(problem, dtype, device), _loading_s(starting_s), _runtime_s(ways)))
    settings["numbers"] = load(settings["numbers"])
    trial = run(WORKS[work], problem, ways, **settings, stage=stage, turn=watch.turn)
    if starting_s:
        trial.conditions = {**trial.conditions, "starting_s": starting_s}
    send("trial", trial.to_json())


def _repeat_all(send: Send, watch: _Watch, trials: Sequence[tuple[str, str, str | None]], seed: int) -> None:
    stage = lambda *what: send("stage", what)  # noqa: E731
    known = set[tuple[str, str]]()
    for work, text, path in trials:
        trial = Trial.from_json(text)
        stage(f"preparing {trial.problem.name}", "")
        prepare(trial.under)
        samples = [seconds for cell in trial.cells.values() for block in cell.samples for seconds in block]
        loading_s = _loading_s(started(trial.device, trial.dtype))
        send("limit", max(SLOWEST * max(samples, default=0.0), loading_s, _runtime_s(trial.cells)))
        place, found = (trial.device, trial.dtype), {}
        # They are of the usual conditions; measuring them settles the allocator.
        if place not in known and seed <= CEILINGS_IN and allocator() == "keep" and not trial.under:
            stage(f"measuring what {trial.dtype} can attain on {trial.device}", "")
            known.add(place)
            settle_allocator()
            found = {"ceilings": ceilings(*place)}
        end = repeat(WORKS[work], trial, seed, stage, watch.turn, load(path))
        end.conditions = {**end.conditions, **found}
        send("repeat", vars(end))


def _limit_s(problem: Problem, dtype: str, device: str) -> float:
    """Seconds that no single step with one way should outlast here, by what the library's own product takes."""
    return SLOWEST * problem.macs / macs_per_second(dtype, device)


def _loading_s(starting_s: Mapping[str, float]) -> float:
    """Seconds that a way may need for what its library loads, by what the first product and convolution took."""
    return LOADING * max((starting_s[name] for name in ("product", "convolution") if name in starting_s), default=0.0)


def _runtime_s(ways: Iterable[str]) -> float:
    """Seconds that a step with one of the ways may need because another runtime computes it."""
    return RUNTIME_S if any(map(needed, ways)) else 0.0


def _ending(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"was killed by {name}" + (", perhaps for want of memory," if name == "SIGKILL" else "")
