"""The replay: asv is handed the samples that a trial took, through its documented `timer` attribute.

All ways of a trial are timed together, interleaved, because only so do they compare on a noisy machine; asv on its
own times one cell after the other. `benchmarks/README.md` explains the trick on one page.
"""

from __future__ import annotations

from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from linear_lasagna.catalog import GROUPS
from linear_lasagna.vocabulary import DEVICES, DTYPES

from ._records import fetch


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


class _Replay:
    """The trials of a group of the catalogue: problems × dtypes × devices × ways. Subclasses name the group.

    asv runs setup again before every sample, so it loads a cell only once.
    """

    param_names = ["problem", "dtype", "device", "way"]
    params: list[list[str]]
    group = ""
    number = 1
    rounds = 1
    warmup_time = 0
    timeout = 1800.0
    version = "1"
    cell: Any = None

    def __init_subclass__(cls) -> None:
        if cls.group:
            group = GROUPS[cls.group]
            names = [problem.name for problem in group.problems]
            cls.params = [names, list(DTYPES), list(DEVICES), list(group.ways)]

    def setup(self, problem: str, dtype: str, device: str, way: str) -> None:
        if self.cell is not None:
            return
        trial = fetch(self.group, problem, dtype, device)
        cell = trial.cells[way]
        if cell.status == "skipped":
            raise SkipNotImplemented(cell.reason)
        if cell.status == "failed":
            raise RuntimeError(cell.reason)
        self.cell, self.trial = cell, trial
        self.timer = ReplayClock()
        self.timer.load([sample for block in cell.samples for sample in block])
        self.repeat = len(self.timer.samples)

    def time_forward(self, problem: str, dtype: str, device: str, way: str) -> None:
        """Seconds per call; the clock replays the trial's samples."""

    def track_ratio(self, problem: str, dtype: str, device: str, way: str) -> float:
        from linear_lasagna.timing import compare

        baseline = self.trial.baseline
        timing = self.trial.timing()
        if way == baseline or baseline not in timing.samples:  # without its baseline a trial has times, and no ratios
            return 1.0 if way == baseline else float("nan")
        return compare(timing, baseline)[way].ratio

    track_ratio.unit = "time / baseline's"  # type: ignore[attr-defined]


class _Trials(_Replay):
    """Trials that compute the problem, and so have an error."""

    def track_error(self, problem: str, dtype: str, device: str, way: str) -> float:
        return self.cell.measures["error_u"]

    track_error.unit = "u (relative L2)"  # type: ignore[attr-defined]
