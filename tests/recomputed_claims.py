"""Every claim of a rendered report, recomputed from the stored rows: `python tests/recomputed_claims.py study`.

It needs Python alone and nothing of this suite: the CSVs of the rows, and those of the claims, which define statistics
and ranges. It compares the claims' CSVs, the tables' printed digits, and what is said of instruction sets.
"""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, str]
Interval: TypeAlias = tuple[float, float, float, int]  # the number, its interval's ends, and how many seeds

CLOSE = 1e-9  # relative: what another order of additions may change
DIGITS = 1e-11  # absolute: what the 12 digits of the rows leave of a difference of logarithms, as a slope near 0 is one


def ratio(rows: list[Row], over: list[str], under: list[str]) -> list[float]:
    """Per seed one way's measure over another's."""
    sizes = [{int(r["seed"]): float(r[measure]) for r in rows if r["way"] == way} for way, measure in (over, under)]
    return [sizes[0][seed] / sizes[1][seed] for seed in sorted(set(sizes[0]) & set(sizes[1]))]


def slope(rows: list[Row], way: str, measure: str, x: str) -> list[float]:
    """Per seed the least-squares slope of log measure by log x."""
    points: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        if row["way"] == way and float(row[measure]) > 0:
            points[int(row["seed"])].append((math.log(float(row[x])), math.log(float(row[measure]))))
    enough = [points[seed] for seed in sorted(points) if len({x for x, _ in points[seed]}) > 2]
    return [statistics.linear_regression(*zip(*each, strict=True)).slope for each in enough]


def value(rows: list[Row], way: str, measure: str) -> list[float]:
    """Per seed the measure."""
    return [float(row[measure]) for row in rows if row["way"] == way and row[measure] != ""]


def spread(
    rows: list[Row], confidence: float, way: str, measure: str, over: dict[str, Any], under: dict[str, Any]
) -> Interval | None:
    """The ratio of two standard deviations of log measure over seeds; its logarithm is taken to be normal."""
    sds, variance, least = [], 0.0, 0
    for cells in (over, under):
        own = [r for r in rows if r["way"] == way and all(same(r[name], value) for name, value in cells.items())]
        logs = [math.log(float(row[measure])) for row in own if float(row[measure]) > 0]
        if len(logs) < 3 or len(set(logs)) == 1:
            return None
        sds.append(statistics.stdev(logs))
        fourth = statistics.fmean((each - statistics.fmean(logs)) ** 4 for each in logs)
        variance += max(fourth / sds[-1] ** 4 - 1, 0) / (4 * len(logs))
        least = min(least or len(logs), len(logs))
    reach = math.exp(statistics.NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance))
    ratio = sds[0] / sds[1]
    return ratio, ratio / reach, ratio * reach, least


def over_seeds(values: Callable[..., list[float]]) -> Callable[..., Interval | None]:
    """A statistic with a value for each seed: the median, and an interval from order statistics."""

    def measured(rows: list[Row], confidence: float, **definition: Any) -> Interval | None:
        numbers = sorted(values(rows, **definition))
        n, k = len(numbers), 0
        while 2 * sum(math.comb(n, i) for i in range(k + 1)) <= (1 - confidence) * 2**n:
            k += 1
        ends = (numbers[k - 1], numbers[n - k]) if k else (math.nan, math.nan)
        return (statistics.median(numbers), *ends, n) if numbers else None

    return measured


STATISTICS: dict[str, Callable[..., Interval | None]] = {
    "ratio": over_seeds(ratio),
    "slope": over_seeds(slope),
    "value": over_seeds(value),
    "spread": spread,
}


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same(cell: str, value: Any) -> bool:
    """Whether a cell of a CSV has the value: as text, or as a number."""
    return cell == str(value) or (isinstance(value, int | float) and cell != "" and float(cell) == value)


def recomputed(claim: Row, rows: list[Row]) -> Interval | None:
    definition = json.loads(claim["definition"])
    cells = {**definition.pop("cells"), **{name: claim[name] for name in ("machine", "device", "dtype")}}
    own = [row for row in rows if row["status"] == "ok" and row["error_u"] != "" and float(row["error_u"]) >= 0]
    own = [row for row in own if all(same(row[name], value) for name, value in cells.items())]
    return STATISTICS[claim["statistic"]](own, float(claim["confidence"]), **definition)


def judged(found: Interval, claim: Row) -> str:
    _, lower, upper, _ = found
    low, high = float(claim["low"]), float(claim["high"])
    if low <= lower and upper <= high:
        return "confirmed"
    return "refuted" if upper < low or lower > high else "undecided"


def equal(text: str, value: float) -> bool:
    return math.isclose(float(text), value, rel_tol=CLOSE, abs_tol=DIGITS) if text else math.isnan(value)


def printed(text: str, value: float) -> bool:
    """Whether the value rounds to the text, whose last digit says how far."""
    places = len(text.partition(".")[2])
    return abs(float(text.replace("−", "-")) - value) <= 0.5 * 10.0**-places * (1 + 1e-6)


class Tables(HTMLParser):
    """The page's tables: the CSV that each names, and its rows of cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[list[str]]]] = []
        self.name, self.inside = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        link = dict(attrs).get("href") or ""
        if tag == "a" and link.endswith(".csv"):
            self.name = link.removeprefix("data/").removesuffix(".csv")
        if tag == "tbody":
            self.found.append((self.name, []))
            self.inside = True
        if self.inside and tag == "tr":
            self.found[-1][1].append([])
        if self.inside and tag in ("td", "th"):
            self.found[-1][1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("tbody", "table")

    def handle_data(self, data: str) -> None:
        if self.inside and self.found[-1][1] and self.found[-1][1][-1]:
            self.found[-1][1][-1][-1] += data


NUMBER = r"−?\d+(?:\.\d+)?"


def of_table(row: list[str], claim: Row, found: Interval) -> Iterator[str]:
    """What a shown row has wrong."""
    median, lower, upper, _ = found
    numbers = re.findall(NUMBER, row[4])
    wanted = [median] if math.isnan(lower) else [median, lower, upper]
    if len(numbers) != len(wanted) or not all(map(printed, numbers, wanted)):
        yield f"the page prints {row[4].split()}"
    if row[0].strip() != claim["finding"] or claim["outcome"] not in row[6]:
        yield f"the page says {row[0]}, {row[6]}"


def of_claim(claim: Row, found: Interval | None) -> Iterator[str]:
    """What a claim's row of the CSV has wrong."""
    if found is None:
        yield "there are no such rows"
        return
    *numbers, seeds = found
    wrong = [n for n, v in zip(("median", "lower", "upper"), numbers, strict=True) if not equal(claim[n], v)]
    wrong += ["seeds"] if int(claim["seeds"]) != seeds else []
    wrong += ["outcome"] if claim["outcome"] != judged(found, claim) else []
    yield from (f"its {name} is {claim[name]}" for name in wrong)


def of_instructions(claims: list[Row], rows: list[Row], told: list[Row]) -> Iterator[str]:
    """What is wrong about instruction sets: the outcomes of each, and whether they agree."""
    sets = {(row["machine"], row["device"]): row.get("instructions") or "unknown" for row in rows}
    found: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for claim in claims:
        if claim["device"] == "cpu":
            outcome = sets[claim["machine"], claim["device"]], claim["outcome"]
            found[claim["finding"], claim["claim"], claim["dtype"]].append(outcome)
    wanted = []
    for name, each in found.items():
        of_sets, outcomes = ({pair[place] for pair in each} for place in (0, 1))
        agreement = "differs" if {"confirmed", "refuted"} <= outcomes else "undecided"
        if len(outcomes) == 1:
            agreement = "same" if len(of_sets) > 1 else "one set"
        wanted += [(*name, *pair, agreement) for pair in each]
    names = ("finding", "claim", "dtype", "instructions", "outcome", "agreement")
    if sorted(wanted) != sorted(tuple(row[name] for name in names) for row in told):
        yield "the outcomes by instruction set are others"


def check(folder: Path) -> tuple[int, list[str]]:
    """How many claims there are, and a line for everything that is not as the rows have it."""
    tables = defaultdict(list)
    for name, rows in Tables((folder / "report.html").read_text(encoding="utf-8")).found:
        tables[name] += rows  # one table per machine and device, in the CSV's order
    count, lines = 0, []
    for path in sorted((folder / "data").glob("*_claims.csv")):
        experiment, claims = path.stem.removesuffix("_claims"), read(path)
        rows = read(path.with_name(f"{experiment}_rows.csv"))
        shown = tables[path.stem]
        if len(shown) != len(claims):
            lines.append(f"{path.stem}: the page shows {len(shown)} of {len(claims)} claims")
        for claim, row in zip(claims, shown, strict=False):
            count += 1
            found = recomputed(claim, rows)
            wrong = [*of_claim(claim, found), *(of_table(row, claim, found) if found else ())]
            name = f"{claim['machine']}: finding {claim['finding']}, {claim['claim']} ({claim['dtype']})"
            lines += [f"{name}: {each}; recomputed: {found}" for each in wrong]
        told = read(path.with_name(f"{experiment}_instructions.csv"))
        lines += [f"{experiment}: {each}" for each in of_instructions(claims, rows, told)]
    return count, lines


def main() -> int:
    count, lines = check(Path(sys.argv[1] if len(sys.argv) > 1 else "study"))
    print(*lines, f"{count} claims recomputed, {len(lines)} differences", sep="\n")
    return 1 if lines or not count else 0


if __name__ == "__main__":
    sys.exit(main())
