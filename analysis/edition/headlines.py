"""The headlines of an edition: the measured numbers on which its first screen rests, each with what it was timed of.

Counts over many pairs are no headline: every pair would have to be timed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.data.study_data import StudyData
from analysis.report import answers, wording
from analysis.report.section import Frames, within
from analysis.report.sections import merged_error
from linear_lasagna.vocabulary import MERGED

if TYPE_CHECKING:
    from analysis.report.page import Rendering

FIELDS = ("claim", "kind", "group", "problem", "dtype", "device", "way", "under", "value", "lower", "upper", "verdict")
DIGITS = "{:.12g}"  # the last ones of a float64 depend on the processor


@dataclass(frozen=True)
class Headline:
    """claim: in words. kind: a key of `KINDS`. value: a speedup over the baseline, or a ratio of errors, with its
    interval; verdict: faster, slower, tie or undecided; of errors smaller, larger or undecided. under: conditions.
    """

    claim: str
    kind: str
    group: str
    problem: str
    dtype: str
    device: str
    way: str
    under: str
    value: float
    lower: float
    upper: float
    verdict: str


@dataclass(frozen=True)
class Kind:
    """choose: the headlines of one scope; of: the same number in other data of one scope, None where that lacks it."""

    choose: Callable[[StudyData, Frames], Iterator[Headline]]
    of: Callable[[Headline, StudyData, Frames], Headline | None]


def chosen(made: Rendering) -> list[Headline]:
    """Those of all scopes that have answers."""
    found = []
    for scope, _ in made.answered:
        data, frames = made.data.within(scope), within(scope, made.files)
        found += [headline for kind in KINDS.values() for headline in kind.choose(data, frames)]
    return found


def read(entries: Any) -> list[Headline]:
    """Those of edition.json. Raises ValueError for anything else."""
    if not isinstance(entries, list):
        raise ValueError("the edition tells no headlines")
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != set(FIELDS) or entry["kind"] not in KINDS:
            raise ValueError(f"a headline has {', '.join(FIELDS)}; it is not {entry!r}")
    return [Headline(**entry) for entry in entries]


def _speedups(data: StudyData, frames: Frames) -> Iterator[Headline]:
    for row in answers.named_stacks(data, frames):
        yield _speedup(row, data)


def _speedup(row: Any, data: StudyData) -> Headline:
    claim = f"speedup of {row.way} on {row.problem}, {row.dtype}, {row.device}"
    under = next((record.under for record in data.records), "")
    place = (row.group, row.problem, row.dtype, row.device, row.way, under)
    return Headline(claim, "speedup", *place, *_numbers(row.speedup, row.speedup_lower, row.speedup_upper), row.verdict)


def _speedup_in(headline: Headline, data: StudyData, frames: Frames) -> Headline | None:
    row = _only(
        data.speedups, {name: getattr(headline, name) for name in ("group", "problem", "dtype", "device", "way")}
    )
    return None if row is None or row.speedup_lower != row.speedup_lower else _speedup(row, data)


def _networks(data: StudyData, frames: Frames) -> Iterator[Headline]:
    """The best way of each dtype."""
    network, rows = answers.of_network(frames)
    for dtype in wording.main_dtypes(rows["dtype"]) if network else ():
        yield _network(answers.best_of(rows[rows["dtype"] == dtype]), data)


def _network(row: Any, data: StudyData) -> Headline:
    claim = f"speedup of {row.way} on {row.layers} layers of {row.network}, {row.dtype}, {row.device}"
    group = next(each.group for each in data.records if each.trial.problem.name.startswith(f"{row.network}/"))
    under = next((record.under for record in data.records), "")
    place = (group, row.network, row.dtype, row.device, row.way, under)
    return Headline(claim, "network", *place, *_numbers(row.speedup, row.speedup_lower, row.speedup_upper), row.verdict)


def _network_in(headline: Headline, data: StudyData, frames: Frames) -> Headline | None:
    names = {"network": headline.problem, "dtype": headline.dtype, "device": headline.device, "way": headline.way}
    row = _only(frames.get("totals", ()), names)
    return None if row is None or row.speedup_lower != row.speedup_lower else _network(row, data)


def _errors(data: StudyData, frames: Frames) -> Iterator[Headline]:
    parts = frames.get("merging_parts", ())
    for row in merged_error.spoken_of(parts, "ratio").itertuples(index=False) if len(parts) else ():
        yield _error(row)


def stack_of(depth: int) -> str:
    """How headlines call the plain stack of the experiment on merging."""
    return f"plain_x{depth}"


def _error(row: Any) -> Headline:
    problem = stack_of(int(row.depth))
    claim = f"error merged / stacked of {problem}, random signs, {row.dtype}, {row.device}"
    verdict = "smaller" if row.upper < 1 else "larger" if row.lower > 1 else "undecided"
    place = ("merging", problem, row.dtype, row.device, MERGED, "")
    return Headline(claim, "error", *place, *_numbers(row.median, row.lower, row.upper), verdict)


def _error_in(headline: Headline, data: StudyData, frames: Frames) -> Headline | None:
    found = {(each.problem, each.dtype, each.device): each for each in _errors(data, frames)}
    return found.get((headline.problem, headline.dtype, headline.device))


def _only(frame: Any, values: Mapping[str, str]) -> Any:
    """The one row with these values, None where there is none."""
    if not len(frame):
        return None
    rows = frame[[all(row[name] == value for name, value in values.items()) for row in frame.to_dict("records")]]
    return next(rows.itertuples(index=False), None)


def _numbers(value: float, lower: float, upper: float) -> tuple[float, float, float]:
    return float(DIGITS.format(value)), float(DIGITS.format(lower)), float(DIGITS.format(upper))


KINDS = {
    "speedup": Kind(_speedups, _speedup_in),
    "network": Kind(_networks, _network_in),
    "error": Kind(_errors, _error_in),
}
