"""What a trial leaves behind: plain data, to and from JSON text. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal, TypeAlias

from linear_lasagna.problems import Layer, Problem
from linear_lasagna.timing import Timing
from linear_lasagna.vocabulary import BASELINE, CONTROL, SIGNIFICAND_BITS

Status: TypeAlias = Literal["ok", "skipped", "failed"]

Bound: TypeAlias = Literal["host", "device", ""]

SCHEMA = 4
HOST_BOUND = 1.2
HOPELESS_RATIO = 10.0  # times what the fastest way takes,
HOPELESS_S = 1.5  # and so many seconds a call


@dataclass
class Cell:
    """One way of one trial. reason: why it was skipped or failed, in one line.

    samples: seconds per call, per block and round, in the process that validated it; calls_per_sample calls are
    averaged in each, and the way joined every `every`-th round. first_call_s: seconds. faults: pages per timed call
    that the system had to provide anew, None where it does not tell. measures: of the error on the tile, random signs,
    by the names of `COMMON_METRICS`. peak_bytes: memory allocated at once during a call, its result included. runs:
    what a way that plans chose, half-open [start, stop] pairs of layers. finding: what is odd about a way that passed,
    in one line. graphed_s: seconds per call where the device alone repeats it, None where it cannot; ungraphed: why
    not. counted: what `counting.counted` gives of one call; computed_in: the dtype of its operations. resident_bytes:
    by which a fresh process grew during its first call, the result not counted; None where that was not measured.
    accumulation: how it adds up, as `probes.told` has it, where it was asked.
    """

    status: Status = "ok"
    reason: str = ""
    samples: list[list[float]] = field(default_factory=list)
    first_call_s: float | None = None
    calls_per_sample: int | None = None
    every: int | None = None
    faults: float | None = None
    measures: dict[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    runs: list[list[int]] | None = None
    finding: str = ""
    graphed_s: float | None = None
    ungraphed: str = ""
    counted: dict[str, float] = field(default_factory=dict)
    computed_in: str = ""
    resident_bytes: int | None = None
    accumulation: dict[str, str] = field(default_factory=dict)

    def fail(self, reason: str) -> None:
        """Mark the cell failed. What was measured of a wrong way is dropped: it is never a fast one."""
        self.status, self.reason = "failed", reason
        self.samples, self.measures, self.peak_bytes, self.finding, self.faults = [], {}, None, "", None
        self.graphed_s, self.ungraphed, self.counted, self.computed_in = None, "", {}, ""
        self.resident_bytes, self.accumulation = None, {}


@dataclass
class Repeat:
    """What one more process timed of a trial: samples and faults by way, as in `Cell`; the rest as in `Trial`.

    reason: why it ended without samples, in one line.
    """

    samples: dict[str, list[list[float]]] = field(default_factory=dict)
    first_call_s: dict[str, float] = field(default_factory=dict)
    faults: dict[str, float] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    started: str = ""
    elapsed_s: float = 0.0
    timed_s: float = 0.0
    reason: str = ""


@dataclass
class Trial:
    """All cells of one problem, dtype and device. budget_s: seconds in timed calls of each process, all ways together;
    seed fixes the inputs and the order of the visits; conditions: of the first process, as `conditions` gives them;
    started: UTC; elapsed_s: wall time of the first process; timed_s: the part of it inside timed calls. repeats: what
    further processes timed, in the order of their time. numbers: those that were given, not drawn, by name, with
    digests that tell them from others (`trial.numbers`). threads: that were asked for in all of them, 0 where it was
    those that the environment tells. under: the conditions that were chosen, as `factors` has them; usual ones are left
    out.
    """

    problem: Problem
    dtype: str
    device: str
    budget_s: float
    seed: int
    cells: dict[str, Cell]
    environment: dict[str, Any]
    conditions: dict[str, Any] = field(default_factory=dict)
    repeats: list[Repeat] = field(default_factory=list)
    baseline: str = BASELINE
    control: str = CONTROL
    started: str = ""
    elapsed_s: float = 0.0
    timed_s: float = 0.0
    numbers: dict[str, str] = field(default_factory=dict)
    threads: int = 0
    under: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def named(self, status: Status) -> list[str]:
        """The ways with this status, in the order in which they were given."""
        return [name for name, cell in self.cells.items() if cell.status == status]

    def timing(self) -> Timing:
        """The cells that were timed in the first process."""
        timed = {name: cell for name, cell in self.cells.items() if cell.samples}
        return Timing(
            samples={name: cell.samples for name, cell in timed.items()},
            first_call_s={name: cell.first_call_s or math.nan for name, cell in timed.items()},
            calls_per_sample={name: cell.calls_per_sample or 1 for name, cell in timed.items()},
            every={name: cell.every or 1 for name, cell in timed.items()},
            elapsed_s=self.elapsed_s,
            timed_s=self.timed_s,
            faults={name: cell.faults for name, cell in timed.items() if cell.faults is not None},
        )

    def timings(self) -> list[Timing]:
        """Those of every process in which something was timed, as `timing.compare` takes them."""
        first = self.timing()
        repeated = [
            Timing(
                samples={name: samples for name in first.samples if (samples := repeat.samples.get(name))},
                first_call_s=repeat.first_call_s,
                calls_per_sample=first.calls_per_sample,
                every=first.every,
                elapsed_s=repeat.elapsed_s,
                timed_s=repeat.timed_s,
                faults=repeat.faults,
            )
            for repeat in self.repeats
        ]
        return [timing for timing in (first, *repeated) if timing.samples]

    def hopeless(self, name: str) -> bool:
        """Whether a way is so slow that what it takes in one process is all that anybody wants to know: slower by far
        than the fastest, and long. The baseline never is.
        """
        timing = self.timing()
        if name == self.baseline or name not in timing.samples:
            return False
        seconds, fastest = timing.seconds(name), min(map(timing.seconds, timing.samples))
        return seconds > HOPELESS_S and seconds > HOPELESS_RATIO * fastest

    def visit_s(self) -> float:
        """Seconds that one more process will spend in timed calls, if it takes as long as the first."""
        timed = self.timing()
        return sum(
            timed.calls_per_sample[name] * sum(map(sum, blocks))
            for name, blocks in timed.samples.items()
            if not self.hopeless(name)
        )

    def seconds(self, name: str) -> float:
        """Seconds per call of a way that was timed: the median over processes."""
        return median(timing.seconds(name) for timing in self.timings() if name in timing.samples)

    def bound(self, name: str) -> Bound:
        """What a way's time is bound by, in the process that validated it: the host, where a call takes over HOST_BOUND
        times what the device alone takes for it; "" where that is not known.
        """
        alone_s = self.cells[name].graphed_s
        if alone_s is None or name not in (timing := self.timing()).samples:
            return ""
        return "host" if timing.seconds(name) > HOST_BOUND * alone_s else "device"

    def to_json(self) -> str:
        """One strict JSON object: no NaN, no infinity."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Raises ValueError, in one line, for anything that `to_json` did not write, now or at an older schema."""
        try:
            return cls.from_dict(json.loads(text))
        except RecursionError as error:
            raise ValueError(f"not a trial record: {error}") from error

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trial:
        """The same for what the JSON text holds."""
        try:
            if data["schema"] not in range(1, SCHEMA + 1):
                raise ValueError(f"trial record of schema {data['schema']!r}; this version reads 1 to {SCHEMA}")
            data = upgraded(data) if data["schema"] == 1 else dict(data)
            data["schema"] = SCHEMA  # 2 had one process and no faults, 3 no conditions: what lacks is the default
            problem = problem_of(data.pop("problem"))
            cells = {name: Cell(**cell) for name, cell in data.pop("cells").items()}
            repeats = [Repeat(**repeat) for repeat in data.pop("repeats", [])]
            return cls(problem=problem, cells=cells, repeats=repeats, **data)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a trial record: {error!r}") from error
        except (RecursionError, OverflowError) as error:
            raise ValueError(f"not a trial record: {error}") from error


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1, whose cells had one measure, `error_u`, as one of schema 2. Nothing is rounded."""
    u = 2.0 ** -SIGNIFICAND_BITS[data["dtype"]]

    def cell(old: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in old.items() if name != "error_u"}
        error = old.get("error_u")
        return kept | {"measures": {} if error is None else {"relative_l2": error * u, "error_u": error}}

    return data | {"cells": {name: cell(old) for name, old in data["cells"].items()}}


def problem_of(data: dict[str, Any]) -> Problem:
    """The problem that `dataclasses.asdict` took apart, its tuples lists perhaps."""
    layers = tuple(Layer(**{name: _tupled(value) for name, value in layer.items()}) for layer in data["layers"])
    return Problem(**{**data, "size": tuple(data["size"]), "layers": layers})


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
