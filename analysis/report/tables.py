"""A table as the page shows it: text with few digits for readers; the numbers themselves are in the CSV beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from analysis.data.frames import Frame, dtypes_in_order, problems_in_order, ways_in_order
from analysis.report import formatting as show
from linear_lasagna.factors import one_at_a_time
from linear_lasagna.vocabulary import PERTURBATIONS

MOST_COLUMNS = 7  # with details beside the numbers
MOST_BESIDE, GAP = 130, 3  # characters of a row on a laptop, and of the space between its cells
WRAPPED, SMALL = 24, 0.8  # characters to which running text may wrap; the size of a detail
MOST_OF_A_NAME, MOST_OF_A_SLUG = 80, 200  # characters; a file's name may have 255 bytes
SHORT = 6  # characters of a detail that always goes beside its number
MARKS = {"tie": " =", "undecided": " ?"}


@dataclass(frozen=True)
class Text:
    """One shown cell. detail: smaller text, an interval mostly; kind: how it is set, a verdict or a status."""

    main: str
    detail: str = ""
    kind: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.main} {self.detail}".strip() + MARKS.get(self.kind, "")


@dataclass(frozen=True)
class Table:
    """name: the stem of its .tex file; data: the stem of the CSV with its numbers.

    wide: the columns that hold running text and are set left; the others hold numerals and are set right. apart: the
    words of the link to it, where the page has its numbers elsewhere and leaves it to papers; "" for one on the page.
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    data: str
    wide: frozenset[int] = frozenset({0})
    number: int = 0
    apart: str = ""

    @property
    def anchor(self) -> str:
        return f"table-{self.name}"

    @cached_property
    def crowded(self) -> bool:
        """Whether details go below their numbers, because there are many columns and long details."""
        longest = max((len(text.detail) for row in self.rows for text in row), default=0)
        return len(self.head) > MOST_COLUMNS and longest > SHORT

    @cached_property
    def tight(self) -> bool:
        """Whether the page sets it smaller, with details below their numbers, so that it fits a laptop's width."""
        return sum(GAP + self._width(column) for column in range(len(self.head))) > MOST_BESIDE

    def _width(self, column: int) -> float:
        """In characters."""
        longest = max(len(part) for part in re.split(r"[_/ ]", self.head[column]))
        texts = max((len(row[column].main) + SMALL * len(row[column].detail) for row in self.rows), default=0)
        return max(longest, min(texts, WRAPPED) if column in self.wide else texts)

    def numbered(self, number: int) -> Table:
        return replace(self, number=number)

    def repeats(self, row: int, column: int) -> bool:
        """Whether a label says the same as the one above it, as do all labels to its left."""
        if not row or column not in self.wide:
            return False
        labels = [c for c in sorted(self.wide) if c <= column]
        return labels == list(range(column + 1)) and all(self.rows[row][c] == self.rows[row - 1][c] for c in labels)


def table(
    name: str,
    caption: str,
    frame: Frame,
    columns: Mapping[str, Callable[[Any], str | Text]],
    data: str,
    wide: Sequence[int] = (0,),
) -> Table:
    """One shown row per row of the frame; columns: heading -> what to show of a row (a namedtuple)."""
    rows = tuple(tuple(_text(show(row)) for show in columns.values()) for row in frame.itertuples(index=False))
    return Table(name, caption, tuple(columns), rows, data, frozenset(wide))


def _text(value: str | Text) -> Text:
    return value if isinstance(value, Text) else Text(value)


EXACT = ("f(-x) = -f(x)", "f(4x) = 4f(x)")  # identities that rounding to nearest keeps, within the range
Shown = Callable[[Any], Text]
ORDERS: dict[str, Callable[[Any], list[Any]]] = {
    "dtype": dtypes_in_order,
    "way": ways_in_order,
    "problem": problems_in_order,
    "signs": lambda signs: sorted(set(signs), reverse=True),
    "identity": lambda kinds: sorted(set(kinds), key=lambda kind: (kind not in EXACT, kind)),
    "perturbation": lambda names: sorted(set(names), key=lambda name: (place_in(PERTURBATIONS, name), name)),
    "inputs": lambda inputs: list(dict.fromkeys(inputs)),
    "conditions": lambda texts: sorted(set(texts), key=lambda text: (place_in(one_at_a_time(), text), text)),
    "order": lambda orders: sorted(set(orders), key=lambda order: (order != "left_to_right", order)),
}


def place_in(names: Sequence[str] | Mapping[str, Any], name: str) -> int:
    """Its place, after all of them where it is none."""
    known = list(names)
    return known.index(name) if name in known else len(known)


def in_order(column: str, values: Any) -> list[Any]:
    """The distinct values in the suite's order, or sorted."""
    return ORDERS.get(column, lambda names: sorted(set(names)))(values)


def arranged(frame: Frame, columns: list[str]) -> Frame:
    """The rows sorted by the columns, each in the suite's order."""
    places = {name: {v: i for i, v in enumerate(in_order(name, frame[name]))} for name in columns}
    keys = frame.assign(**{f"_{name}": frame[name].map(places[name]) for name in columns})
    names = [f"_{name}" for name in columns]
    return keys.sort_values(names, kind="stable").drop(columns=names)


def wide_table(
    name: str,
    caption: str,
    frame: Frame,
    labels: Mapping[str, str],
    across: str,
    cell: Shown,
    data: str,
    heading: Callable[[Any], str] = str,
) -> Table:
    """One row per combination of the label columns (column -> heading), one column per value of `across`.

    heading: of such a column. cell: shows a row of the frame, a namedtuple; a combination without a row is a dash.
    """
    keys = list(labels)
    shown = {(*_key(row, keys), getattr(row, across)): cell(row) for row in frame.itertuples(index=False)}
    columns: dict[str, Any] = {heading: lambda row, key=key: str(getattr(row, key)) for key, heading in labels.items()}
    for value in in_order(across, frame[across]):
        columns[heading(value)] = lambda row, value=value: shown.get((*_key(row, keys), value), Text(show.DASH))
    distinct = arranged(frame[keys].drop_duplicates(), keys)
    return table(name, caption, distinct, columns, data, range(len(keys)))


def with_interval(row: Any) -> Text:
    """A median with its interval."""
    ends = (row.lower, row.upper)
    return Text(show.number(row.median, *ends), show.interval(row.median, *ends))


def _key(row: Any, names: list[str]) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in names)


def slug(*parts: str) -> str:
    """An anchor and the stem of a file from names: lower-case ASCII letters, digits and single dashes, not too long.

    Different names may share one: `sections.distinct` numbers those of a page.
    """
    plain = [re.sub(r"[^a-z0-9]+", "-", part.lower())[:MOST_OF_A_NAME].strip("-") for part in parts]
    return "-".join(part for part in plain if part)[:MOST_OF_A_SLUG].strip("-")


def count_of(column: str) -> Any:
    """Shows a whole number; zero in grey."""
    return lambda row: Text(str(getattr(row, column)), kind="" if getattr(row, column) else "zero")
