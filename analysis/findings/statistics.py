"""What claims are about: numbers made of the rows of one experiment, of one place and one dtype.

A statistic is plain data, so that a claim's CSV can define it for whoever computes it again. Its class says how it is
shown: `kind`, its name; `plural`, at the beginning of a sentence; `label`, of an axis; `neutral`, the value that says
nothing; and whether its axis is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar, NamedTuple

from analysis.data.frames import Frame
from analysis.data.over_seeds import slopes
from linear_lasagna.intervals import median_interval


class Measured(NamedTuple):
    """A median over seeds, or what stands for it, with its interval: NaN, NaN where there are too few seeds."""

    median: float
    lower: float
    upper: float
    seeds: int


@dataclass(frozen=True)
class Statistic:
    """Fields are plain data, with `cells` among them: which rows it is of, column to value. ways: those it needs."""

    kind: ClassVar[str]
    plural: ClassVar[str]
    label: ClassVar[str]
    neutral: ClassVar[float]
    logarithmic: ClassVar[bool]

    @property
    def ways(self) -> tuple[str, ...]:
        raise NotImplementedError

    def measured(self, rows: Frame, confidence: float) -> Measured | None:
        """Of usable rows; None where there are none of it."""
        raise NotImplementedError


@dataclass(frozen=True)
class PerSeed(Statistic):
    """A statistic that has a value for each seed: the median over seeds, with an interval from order statistics."""

    def values(self, rows: Frame) -> list[float]:
        """In order of the seed."""
        raise NotImplementedError

    def measured(self, rows: Frame, confidence: float) -> Measured | None:
        values = self.values(rows)
        ends = median_interval(values, confidence) or (math.nan, math.nan)
        return Measured(median(values), *ends, len(values)) if values else None


@dataclass(frozen=True)
class Ratio(PerSeed):
    """One error over another of the same draw, each (way, measure)."""

    kind, plural, label, neutral, logarithmic = "ratio", "Ratios", "ratio of errors", 1.0, True
    over: tuple[str, str]
    under: tuple[str, str]
    cells: Mapping[str, Any]

    @property
    def ways(self) -> tuple[str, ...]:
        return self.over[0], self.under[0]

    def values(self, rows: Frame) -> list[float]:
        rows = chosen(rows, self.cells)
        ends = (rows[rows["way"] == way].set_index("seed")[measure] for way, measure in (self.over, self.under))
        over, under = ends
        return (over / under).dropna().sort_index().tolist()


@dataclass(frozen=True)
class Slope(PerSeed):
    """The exponent e in error ∝ x^e: the least-squares slope of the logarithms, over at least 3 values of x."""

    kind, plural, label, neutral, logarithmic = "slope", "Exponents", "exponent", 0.0, False
    way: str
    measure: str
    cells: Mapping[str, Any]
    x: str = "depth"

    @property
    def ways(self) -> tuple[str, ...]:
        return (self.way,)

    def values(self, rows: Frame) -> list[float]:
        rows = chosen(rows, {**self.cells, "way": self.way})
        return slopes(rows, self.x, ["way"], self.measure)["slope"].tolist()


STATISTICS: dict[str, type[Statistic]] = {each.kind: each for each in (Ratio, Slope)}


def chosen(rows: Frame, cells: Mapping[str, Any]) -> Frame:
    """The rows of these cells."""
    for name, value in cells.items():
        rows = rows[rows[name] == value]
    return rows
