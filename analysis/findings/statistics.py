"""What claims are about: numbers made of the rows of one experiment, of one place and one dtype.

A statistic is plain data, so that a claim's CSV can define it for whoever computes it again. Its class says how it is
shown: `kind`, its name; `plural`, at the beginning of a sentence; `label`, of an axis; `neutral`, the value that says
nothing; and whether its axis is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist, mean, median, stdev
from typing import Any, ClassVar, NamedTuple

from analysis.data.frames import Frame
from analysis.data.over_seeds import slopes
from linear_lasagna.intervals import median_interval

FEWEST = 3  # draws that have a scatter


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


@dataclass(frozen=True)
class Value(PerSeed):
    """A measure of a draw, as it is: here the exponent of a tail."""

    kind, plural, label, neutral, logarithmic = "value", "Exponents of the tail", "exponent of the tail", 1.0, False
    way: str
    measure: str
    cells: Mapping[str, Any]

    @property
    def ways(self) -> tuple[str, ...]:
        return (self.way,)

    def values(self, rows: Frame) -> list[float]:
        rows = chosen(rows, {**self.cells, "way": self.way})
        return rows.set_index("seed")[self.measure].dropna().sort_index().tolist()


@dataclass(frozen=True)
class Spread(Statistic):
    """The standard deviation, over draws, of the logarithm of an error, over that of another stack's.

    The interval is that of the logarithm of the ratio, taken to be normal; a standard deviation's logarithm has the
    variance (kurtosis - 1) / 4n. Source: Layard, J. Am. Stat. Assoc. 68 (1973), 195.
    """

    kind, plural, label, neutral, logarithmic = "spread", "Scatters", "ratio of standard deviations", 1.0, True
    way: str
    measure: str
    cells: Mapping[str, Any]
    over: Mapping[str, Any]
    under: Mapping[str, Any]

    @property
    def ways(self) -> tuple[str, ...]:
        return (self.way,)

    def measured(self, rows: Frame, confidence: float) -> Measured | None:
        rows = chosen(rows, {**self.cells, "way": self.way})
        sides = [chosen(rows, side)[self.measure] for side in (self.over, self.under)]
        logs = [[math.log(size) for size in side if size > 0] for side in sides]
        if min(map(len, logs)) < FEWEST or any(len(set(each)) == 1 for each in logs):
            return None
        (over, first), (under, second) = map(_spread, logs)
        reach = math.exp(NormalDist().inv_cdf((1 + confidence) / 2) * math.hypot(first, second))
        return Measured(over / under, over / under / reach, over / under * reach, min(map(len, logs)))


def _spread(values: list[float]) -> tuple[float, float]:
    """The standard deviation, and that of its logarithm."""
    middle, sd = mean(values), stdev(values)
    kurtosis = mean(((value - middle) / sd) ** 4 for value in values)
    return sd, math.sqrt(max(kurtosis - 1, 0.0) / (4 * len(values)))


STATISTICS: dict[str, type[Statistic]] = {each.kind: each for each in (Ratio, Slope, Value, Spread)}


def chosen(rows: Frame, cells: Mapping[str, Any]) -> Frame:
    """The rows of these cells."""
    for name, value in cells.items():
        rows = rows[rows[name] == value]
    return rows
