"""The replay: asv is handed the samples that a trial took, through its documented `timer` attribute.

All ways of a trial are timed together, interleaved, because only so do they compare on a noisy machine; asv on its
own times one cell after the other. `benchmarks/README.md` explains the trick on one page.
"""

from __future__ import annotations

from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from linear_lasagna.catalog import GROUPS
from linear_lasagna.factors import USUAL, canonical, from_environment, named
from linear_lasagna.trial import Trial
from linear_lasagna.trial.files import Key
from linear_lasagna.vocabulary import DTYPES

from ._rounds import Round, complete, fetch


class ReplayClock:
    """Returns 0.0, then a sample, for each sample in turn: the difference is the sample bit for bit."""

    def __init__(self) -> None:
        self.samples: list[float] = [0.0]
        self.ticks = 0

    def load(self, samples: list[float]) -> None:
        self.samples, self.ticks = samples, 0

    def __call__(self) -> float:
        sample, stopping = divmod(self.ticks, 2)
        self.ticks += 1
        return self.samples[sample % len(self.samples)] if stopping else 0.0


def share(trial: Trial, way: str, which: Round) -> list[float]:
    """The samples that a round of asv is to have. The last one of the first process comes in the second round, because
    asv keeps no cell that has none in its last round, and perhaps no other process times the way.
    """
    first, *others = (
        [sample for block in timing.samples.get(way, []) for sample in block] for timing in trial.timings()
    )
    further = [sample for process in others for sample in process]
    if which is Round.FIRST and len(first) == 1:
        raise SkipNotImplemented("its only sample comes in the second round")
    return {Round.FIRST: first[:-1], Round.SECOND: first[-1:] + further, Round.ALL: first + further}[which]


class _Replay:
    """The trials of a group of the catalogue: problems × dtypes × devices × ways, under the conditions that
    LASAGNA_CONDITIONS chooses. Subclasses name the group.

    asv runs setup again before every sample, so it loads a cell only once.
    """

    param_names = ["problem", "dtype", "device", "way", "conditions"]
    params: list[list[str]]
    group = ""
    number = 1
    rounds = 2
    warmup_time = 0
    timeout = 6 * 3600.0  # the first cell of the second round times all that was asked for
    version = "1"
    cell: Any = None

    def __init_subclass__(cls) -> None:
        if cls.group:
            group = GROUPS[cls.group]
            names = [problem.name for problem in group.problems]
            conditions = [named(text) for text in from_environment() or ("",)]
            cls.params = [names, list(DTYPES), list(group.devices), list(group.ways), conditions]

    def setup(self, problem: str, dtype: str, device: str, way: str, conditions: str = USUAL) -> None:
        if self.cell is not None:
            return
        self.key = Key(self.group, problem, dtype, device, canonical(conditions))
        trial, which = fetch(self.key, way)
        cell = trial.cells[way]
        if cell.status == "skipped":
            raise SkipNotImplemented(cell.reason)
        if cell.status == "failed":
            raise RuntimeError(cell.reason)
        self.cell, self.timer = cell, ReplayClock()
        self.timer.load(share(trial, way, which))
        self.repeat = len(self.timer.samples)

    def time_forward(self, problem: str, dtype: str, device: str, way: str, conditions: str = USUAL) -> None:
        """Seconds per call; the clock replays the trial's samples."""

    def track_ratio(self, problem: str, dtype: str, device: str, way: str, conditions: str = USUAL) -> float:
        from linear_lasagna.timing import compare

        trial = complete(self.key)
        if way == trial.baseline:
            return 1.0
        if trial.baseline not in trial.timing().samples:  # without its baseline a trial has times, and no ratios
            return float("nan")
        return compare(trial.timings(), trial.baseline)[way].ratio

    track_ratio.unit = "time / baseline's"  # type: ignore[attr-defined]


class _Trials(_Replay):
    """Trials that compute the problem, and so have an error."""

    def track_error(self, problem: str, dtype: str, device: str, way: str, conditions: str = USUAL) -> float:
        return self.cell.measures.get("error_u", float("nan"))  # a training step has none

    track_error.unit = "u (relative L2)"  # type: ignore[attr-defined]
