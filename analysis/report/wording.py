"""Sentences about numbers: how many seeds, what an interval is, what was lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from analysis.data.frames import Frame, dtypes_in_order
from analysis.data.records import Record
from analysis.report import formatting as show

FEW = 10  # seeds; with fewer the section says so
LEAST = 6  # seeds; fewer have no interval
TABLE = "In brackets: 95 % interval for the median over seeds; none for fewer than 6 seeds."
VERDICTS = "Bold: faster. Plain: slower. “=”: tie. “?”: undecided"
SIGNS = {"random": "random signs", "positive": "positive numbers"}
ENDS = ("ratio_lower", "speedup_lower")
BETWEEN, WITHIN = "between processes", "within one process"


def process_kind(processes: Iterable[int]) -> str:
    """What intervals of times, and the verdicts by them, are of: "between processes", "within one process", or which of
    the two for how many. processes: how many timed each cell; "" for none.
    """
    several = [count > 1 for count in processes]
    if len(set(several)) < 2:
        return "" if not several else BETWEEN if several[0] else WITHIN
    return f"{BETWEEN} ({several.count(False)} of {len(several)}: {WITHIN})"


def processes(records: Iterable[Record]) -> str:
    """How many timed each trial, as in "2 to 7 processes"."""
    return span([len(record.timings) or 1 for record in records], "process")


def by_intervals(rows: Frame) -> str:
    """What verdicts are by, as in "by intervals between processes"; where no row has an interval, that nothing is
    decided. rows: with the `processes` that timed each.
    """
    known = rows[rows[[name for name in ENDS if name in rows]].notna().all(axis=1)]
    return f"by intervals {process_kind(known['processes'])}" if len(known) else "by intervals (there are none)"


def medians(frame: Frame) -> str:
    """What a number over seeds is, and whether it has an interval. frame: with `lower`."""
    known = frame["lower"].notna().any()
    return "median over seeds with a 95 % interval" if known else "median over seeds, too few for an interval"


def signs(name: str) -> str:
    """As in "random signs" and "positive numbers"."""
    return SIGNS.get(name, f"{name} signs")


def listed(parts: Sequence[str]) -> str:
    """As in "a, b and c"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def main_dtypes(dtypes: Any, most: int = 2) -> list[str]:
    """float32 first, then the narrow ones."""
    order = ("float32", "bfloat16", "float16", "float64")
    return sorted(dtypes_in_order(dtypes), key=lambda dtype: (order.index(dtype) if dtype in order else 9, dtype))[
        :most
    ]


def by_dtype(frame: Frame, say: Any) -> str:
    """One part per row, from the narrowest dtype, as in "0.5 in float16 and 0.6 in float32"; say: of a namedtuple."""
    rows = {row.dtype: row for row in frame.itertuples(index=False)}
    return listed([f"{say(rows[dtype])} in {dtype}" for dtype in dtypes_in_order(rows)])


def median(row: Any) -> str:
    """As in "1.23 [1.21, 1.26]"."""
    return show.with_interval(row.median, row.lower, row.upper)


def seeds(frame: Frame) -> str:
    """As in "10 seeds", or "8 to 10 seeds" where summaries differ."""
    return span(frame["seeds"], "seed")


def seeds_of(row: Any) -> str:
    """The seeds behind one row of a summary."""
    return show.plural(int(row.seeds), "seed")


def counts(frame: Frame) -> str:
    """Seeds and cells behind a summary, as in "10 seeds, 240 cells"."""
    return f"{seeds(frame)}, {show.plural(int(frame['cells'].sum()), 'cell')}"


def span(values: Iterable[int], one: str, many: str = "") -> str:
    """As in "6 seeds" and "6 to 18 seeds"."""
    least, most = int(min(values)), int(max(values))
    counted = show.plural(most, one, many)
    return counted if least == most else f"{least} to {counted}"


def depths(fits: Frame) -> str:
    """Which depths slopes rest on, as in "depths 1 (or 2, where a series begins there) to 8, to 4 in float64"."""
    least, *later = sorted(set(fits["least_depth"]))
    most = fits.groupby("dtype")["most_depth"].max()
    text = f"depths {least}" + (f" (or {later[-1]}, where a series begins there)" if later else "")
    fewer = [f"to {most[dtype]} in {dtype}" for dtype in dtypes_in_order(most.index) if most[dtype] < most.max()]
    return f"{text} to {most.max()}" + (f", {listed(fewer)}" if fewer else "")


def band(frame: Frame, what: str = "Band") -> str:
    """What the band, or the line, in a figure is."""
    n = f"n = {seeds(frame)}"
    if int(frame["seeds"].max()) < LEAST:
        return f"Mark: median over seeds; {n}, too few for an interval."
    return f"Mark: median over seeds. {what}: 95 % interval for that median, distribution-free; {n}."


def few(rows: Frame) -> Iterator[str]:
    """A warning where some experiment has few seeds."""
    numbers = rows.groupby(["machine", "device", "experiment"], sort=True)["seed"].nunique()
    if int(numbers.min()) < FEW:
        yield f"Few seeds: {span(numbers, 'seed')}. Intervals are wide or absent; medians may change with more seeds."


THREADS = "Computed with {}: the order of a sum, and so its error, may depend on that."


def notes(rows: Frame, on_threads: str = THREADS) -> Iterator[str]:
    """What a reader must know of the rows of an experiment: few seeds, threads, failures."""
    yield from few(rows)
    threads = sorted({int(count) for count in rows["threads"].dropna()}) if "threads" in rows else []
    if threads:
        yield on_threads.format(span(threads, "thread"))
    failed = rows[rows["status"] == "failed"]
    if len(failed):
        first = failed.sort_values(["dtype", "way", "seed"]).iloc[0]
        yield f"{len(failed)} of {show.plural(len(rows), 'cell')} failed and left out; one reason: {first['reason']}."
