"""Which way to use for one convolution or stack, or for those of a model: timed here, now, within a budget of error.

All ways of a problem are validated and timed together, in as many fresh processes as an interval needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from linear_lasagna.catalog import OWN
from linear_lasagna.intervals import LEAST_PROCESSES, Verdict, process_interval
from linear_lasagna.problems import Problem
from linear_lasagna.vocabulary import BASELINE, CONTROL, LAYER_WAYS, MERGED, TRANSFORMS

if TYPE_CHECKING:
    from linear_lasagna.trial import Trial

BUDGET_S, BLOCKS = 0.3, 4  # seconds in timed calls of each process, in so many blocks
STACK_WAYS = (
    *(BASELINE, CONTROL, "direct_channels_last", "unfold_matmul"),
    *(MERGED, "merged/direct_channels_last", "merged/unfold_matmul", "border_exact/direct", "planned/direct"),
)
FAR = 2.0  # times what the fastest way takes in the first process: slower ones are timed in no other
MOST_PREDICTED = 10**8  # multiply-accumulates of a problem whose error is predicted as it is, not on a smaller image


@dataclass(frozen=True)
class Asked:
    """What is to be computed, and how well: max_error is a relative L2 error, inf where any will do; more: ways that
    are compared beside the usual ones.
    """

    problem: Problem
    dtype: str
    device: str
    max_error: float = math.inf
    more: tuple[str, ...] = ()

    @property
    def ways(self) -> tuple[str, ...]:
        """Those that are compared, the user's own methods among them."""
        usual = STACK_WAYS if self.problem.depth > 1 else (*LAYER_WAYS, *TRANSFORMS)
        return tuple(dict.fromkeys((*usual, *OWN.methods, *self.more)))


@dataclass(frozen=True)
class Choice:
    """One way of one problem.

    seconds: of a call, the median over processes, and its interval between them, NaN where a way is so slow that one
    timed it. ratio: time to the baseline's, likewise; verdict: faster or slower than the baseline, or neither.
    relative_l2: the measured error, on a tile; predicted: that which is to be expected, with its interval of 95 %, None
    for what is not predicted, and what one process timed. peak_bytes: memory during a call, its result included, None
    where that is not known. share: of what the machine could attain by its operations or by the least bytes, which is
    the limit, None where that is not known. allowed: whether it is right, and its error within the budget. reason: why
    it is skipped or failed.
    """

    way: str
    status: str
    reason: str
    allowed: bool = False
    seconds: float = math.nan
    seconds_interval: tuple[float, float] = (math.nan, math.nan)
    ratio: float = math.nan
    ratio_interval: tuple[float, float] = (math.nan, math.nan)
    verdict: Verdict = "undecided"
    relative_l2: float = math.nan
    predicted: float | None = None
    predicted_interval: tuple[float, float] | None = None
    peak_bytes: int | None = None
    share: float | None = None
    limit: str = ""


@dataclass(frozen=True)
class Recommendation:
    """The ways of a problem, the fastest first that are allowed, then the others; the one to use, None for none, and
    why."""

    asked: Asked
    choices: tuple[Choice, ...]
    use: str | None
    why: str
    processes: int


def recommend(asked: Sequence[Asked], tick: Callable[[], None] = lambda: None) -> Iterator[Recommendation]:
    """In their order, when all have been timed. tick: called after each of `steps(asked)` steps."""
    trials = _trials(asked, tick)
    for each, trial, limited in zip(asked, trials, shares(trials), strict=True):
        several = [way for way in each.ways if any(way in repeat.samples for repeat in trial.repeats)]
        yield judged(each, trial, predictions(each, several), limited)


def steps(asked: Sequence[Asked]) -> int:
    """Visits of a process to a problem."""
    return LEAST_PROCESSES * len(asked)


def _trials(asked: Sequence[Asked], tick: Callable[[], None]) -> list[Trial]:
    """All processes load before one of them times; where there are several problems, the first of each loads anew."""
    from linear_lasagna.trial.isolation import Lineup, repeat_isolated, run_isolated

    every = tuple(dict.fromkeys(way for each in asked for way in each.ways))
    with Lineup(every, LEAST_PROCESSES) as lineup:
        begin = lineup.begin if len(asked) == 1 else None
        trials = []
        for each in asked:
            settings: Any = {"dtype": each.dtype, "device": each.device, "budget_s": BUDGET_S, "blocks": BLOCKS}
            trials.append(run_isolated(each.problem, each.ways, **settings, begin=begin))
            tick()
        limits = [each.max_error for each in asked]
        known = [each for each in zip(trials, limits, strict=True) if BASELINE in each[0].timing().samples]
        timed, works = [trial for trial, _ in known], [("forward", contenders(*each)) for each in known]
        for process in range(1, LEAST_PROCESSES):
            for trial, end in zip(timed, repeat_isolated(works, seed=process, begin=lineup.begin), strict=True):
                trial.repeats.append(end)
                tick()
    return trials


def contenders(trial: Trial, max_error: float) -> Trial:
    """The trial without the ways that err too much, and those that one process showed to be far from the fastest of the
    others; the baseline and control stay.
    """
    timing = trial.timing()
    right = [way for way in timing.samples if trial.cells[way].measures.get("relative_l2", 0.0) <= max_error]
    seconds = {way: timing.seconds(way) for way in right}
    near = {way for way in right if seconds[way] <= FAR * min(seconds.values())} | {BASELINE, CONTROL}
    return replace(trial, cells={way: trial.cells[way] for way in timing.samples if way in near})


def judged(
    asked: Asked, trial: Trial, predicted: Mapping[str, Any], limited: Mapping[str, Mapping[str, Any]]
) -> Recommendation:
    """What the trial says of every way, and which to use. predicted: `predict_error`s by way, where there are any;
    limited: its `shares`.
    """
    from linear_lasagna.timing import compare

    timings = trial.timings()
    compared = compare(timings, trial.baseline) if trial.baseline in trial.timing().samples else {}
    ways = [way for way in trial.cells if way != CONTROL]
    choices = [_choice(way, trial, compared.get(way), predicted.get(way), asked.max_error) for way in ways]
    choices = [replace(each, **limited.get(each.way, {})) for each in choices]
    choices.sort(key=lambda each: (not each.allowed, each.ratio if not math.isnan(each.ratio) else math.inf))
    return Recommendation(asked, tuple(choices), *chosen(choices, asked.max_error), len(timings))


def shares(trials: Sequence[Trial]) -> list[dict[str, dict[str, Any]]]:
    """`Choice.share` and `limit` by way, of every trial, by the ceilings that were measured in the processes of all."""
    from analysis.data.limits import ceilings, limits, of_spots
    from analysis.data.records import Record, Records

    records = [Record(trial, "", "") for trial in trials]
    known = of_spots(ceilings(Records(tuple(records))))
    frames = [limits(Records((record,)), known) for record in records]
    return [
        {row.way: {"share": float(row.share), "limit": row.limit} for row in frame.itertuples(index=False)}
        for frame in frames
    ]


def _choice(way: str, trial: Trial, compared: Any, predicted: Any, max_error: float) -> Choice:
    cell = trial.cells[way]
    if cell.status != "ok":
        return Choice(way, cell.status, cell.reason)
    seconds = [timing.seconds(way) for timing in trial.timings() if way in timing.samples]
    error = cell.measures["relative_l2"]
    known = predicted is not None
    return Choice(
        way,
        cell.status,
        cell.finding,
        allowed=error <= max_error,
        seconds=trial.seconds(way),
        seconds_interval=process_interval(seconds) or (math.nan, math.nan),
        ratio=1.0 if compared is None else compared.ratio,
        ratio_interval=(1.0, 1.0) if compared is None else (compared.lower, compared.upper),
        verdict="undecided" if compared is None else compared.verdict,
        relative_l2=error,
        predicted=float(predicted) if known else None,
        predicted_interval=predicted.interval if known else None,
        peak_bytes=cell.peak_bytes,
    )


def chosen(choices: Sequence[Choice], max_error: float) -> tuple[str | None, str]:
    """The way to use, and why: the baseline, unless it errs too much or another was found to be faster."""
    right = [each for each in choices if each.status == "ok"]
    allowed = [each for each in right if each.allowed]
    if not right:
        return None, "no way computes this right here"
    if not allowed:
        best = min(right, key=lambda each: each.relative_l2)
        return None, f"no way errs by {max_error:g} or less; {best.way} errs least, by {best.relative_l2:.2g}"
    budget = f" of those that err by {max_error:g} or less" if len(allowed) < len(right) else ""
    fastest, baseline = allowed[0], next((each for each in allowed if each.way == BASELINE), None)
    if baseline is None:
        return fastest.way, f"the fastest{budget}, of which {BASELINE} is none"
    if fastest is baseline:
        return BASELINE, f"the fastest{budget}"
    if fastest.verdict != "faster":
        return BASELINE, f"none{budget} was found to be faster: {fastest.way} takes {_ratio(fastest)} of its time"
    return fastest.way, f"the fastest{budget}: it takes {_ratio(fastest)} of the time of {BASELINE}"


def _ratio(choice: Choice) -> str:
    return "{:.3g} [{:.3g}, {:.3g}]".format(choice.ratio, *choice.ratio_interval)


def predictions(asked: Asked, ways: Sequence[str]) -> dict[str, Any]:
    """`predict_error` of those ways that add up products, by name; of a large problem, on a smaller image."""
    from linear_lasagna.devices import dtype_named
    from linear_lasagna.rounding import predict_error
    from linear_lasagna.trial.workload import smaller
    from linear_lasagna.ways import way_named

    problem, predicted = smaller(asked.problem, MOST_PREDICTED), {}
    x, kernels = problem.draw(dtype_named(asked.dtype), asked.device)
    for name in ways:
        way = way_named(name)
        if name != CONTROL and way.schedule.plans is None:
            try:
                predicted[name] = predict_error(x, kernels, problem.layers, way.method, way.schedule.name)
            except (ValueError, NotImplementedError):  # transforms, and what a switch of torch rounds first
                continue
    return predicted
