"""What a trial leaves behind: plain data, to and from JSON text. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from linear_lasagna.problems import Layer, Problem
from linear_lasagna.timing import Timing
from linear_lasagna.vocabulary import BASELINE, CONTROL, SIGNIFICAND_BITS

Status: TypeAlias = Literal["ok", "skipped", "failed"]

SCHEMA = 2


@dataclass
class Cell:
    """One way of one trial. reason: why it was skipped or failed, in one line.

    samples: seconds per call, per block and round; calls_per_sample calls are averaged in each, and the way joined
    every `every`-th round. first_call_s: seconds. measures: of the error on the tile, random signs, by the names of
    `METRICS`. peak_bytes: memory allocated at once during a call, its result included. runs: what a way that plans
    chose, half-open [start, stop] pairs of layers. finding: what is odd about a way that passed, in one line.
    """

    status: Status = "ok"
    reason: str = ""
    samples: list[list[float]] = field(default_factory=list)
    first_call_s: float | None = None
    calls_per_sample: int | None = None
    every: int | None = None
    measures: dict[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    runs: list[list[int]] | None = None
    finding: str = ""

    def fail(self, reason: str) -> None:
        """Mark the cell failed. What was measured of a wrong way is dropped: it is never a fast one."""
        self.status, self.reason = "failed", reason
        self.samples, self.measures, self.peak_bytes, self.finding = [], {}, None, ""


@dataclass
class Trial:
    """All cells of one problem, dtype and device. started: UTC; elapsed_s: wall time of the whole trial; timed_s:
    the part of it inside timed calls; seed fixes the inputs and the order of the visits.
    """

    problem: Problem
    dtype: str
    device: str
    budget_s: float
    seed: int
    cells: dict[str, Cell]
    environment: dict[str, Any]
    baseline: str = BASELINE
    control: str = CONTROL
    started: str = ""
    elapsed_s: float = 0.0
    timed_s: float = 0.0
    schema: int = SCHEMA

    def named(self, status: Status) -> list[str]:
        """The ways with this status, in the order in which they were given."""
        return [name for name, cell in self.cells.items() if cell.status == status]

    def timing(self) -> Timing:
        """The cells that were timed, as `timing.compare` takes them."""
        timed = {name: cell for name, cell in self.cells.items() if cell.samples}
        return Timing(
            samples={name: cell.samples for name, cell in timed.items()},
            first_call_s={name: cell.first_call_s or math.nan for name, cell in timed.items()},
            calls_per_sample={name: cell.calls_per_sample or 1 for name, cell in timed.items()},
            every={name: cell.every or 1 for name, cell in timed.items()},
            elapsed_s=self.elapsed_s,
            timed_s=self.timed_s,
        )

    def to_json(self) -> str:
        """One strict JSON object: no NaN, no infinity."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Raises ValueError, in one line, for anything that `to_json` did not write, now or at schema 1."""
        try:
            return cls.from_dict(json.loads(text))
        except RecursionError as error:
            raise ValueError(f"not a trial record: {error}") from error

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trial:
        """The same for what the JSON text holds."""
        try:
            if data["schema"] not in (1, SCHEMA):
                raise ValueError(f"trial record of schema {data['schema']!r}; this version reads 1 and {SCHEMA}")
            data = upgraded(data) if data["schema"] == 1 else dict(data)
            problem = problem_of(data.pop("problem"))
            cells = {name: Cell(**cell) for name, cell in data.pop("cells").items()}
            return cls(problem=problem, cells=cells, **data)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a trial record: {error!r}") from error
        except (RecursionError, OverflowError) as error:
            raise ValueError(f"not a trial record: {error}") from error


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1, whose cells had one measure, `error_u`, as one of this schema. Nothing is rounded."""
    u = 2.0 ** -SIGNIFICAND_BITS[data["dtype"]]

    def cell(old: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in old.items() if name != "error_u"}
        error = old.get("error_u")
        return kept | {"measures": {} if error is None else {"relative_l2": error * u, "error_u": error}}

    return data | {"schema": SCHEMA, "cells": {name: cell(old) for name, old in data["cells"].items()}}


def problem_of(data: dict[str, Any]) -> Problem:
    """The problem that `dataclasses.asdict` took apart, its tuples lists perhaps."""
    layers = tuple(Layer(**{name: _tupled(value) for name, value in layer.items()}) for layer in data["layers"])
    return Problem(**{**data, "size": tuple(data["size"]), "layers": layers})


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
